"""Several vectors of a row, one per modality, to a single one; any of them may be missing."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter, Runtime
from recsys_fast.blocks.dense import Dense
from recsys_fast.errors import message

Mask = NDArray[np.bool_]


class Fusion(Block):
    """Rows ``(n, n_parts d)`` go in: ``n_parts`` vectors of length d behind each other.

    What lies in the place of a missing vector plays no part, and gets the gradient 0.

    Args:
        n_parts: vectors of a row.
        d: length of each of them.

    Attributes:
        d_out: width of the outputs.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, n_parts: int, d: int) -> None:
        for name, size in (("parts of a fusion", n_parts), ("length of its vectors", d)):
            if size < 1:
                raise ValueError(message(name, size, "at least 1"))
        self.n_parts, self.d, self.d_out = n_parts, d, d

    @abstractmethod
    def forward(self, x: Array, batch: PackedBatch, present: Mask | None = None) -> Array:
        """Return ``(n, d_out)`` for ``(n, n_parts d)``; vectors count where ``present (n, n_parts)``, None for all."""

    def _kept(self, x: Array, present: Mask | None) -> Array:
        """Return the vectors ``(n, n_parts, d)`` in memory of its own, and remember which are missing."""
        kept = self._take("v", len(x), self.n_parts, self.d)
        kept[...] = x.reshape(kept.shape)
        self._missing = np.zeros(kept.shape[:2], bool) if present is None else ~present
        return kept


class Concat(Fusion):
    """y = the vectors behind each other; a learned vector of its modality, zeros at first, stands for a missing one."""

    def __init__(self, n_parts: int, d: int) -> None:
        super().__init__(n_parts, d)
        self.d_out = n_parts * d

    def parameters(self) -> list[Parameter]:
        """Return what stands for missing vectors, ``(n_parts, d)``."""
        return [Parameter("missing", (self.n_parts, self.d))]

    def forward(self, x: Array, batch: PackedBatch, present: Mask | None = None) -> Array:
        """Return ``(n, n_parts d)``."""
        y = self._kept(x, present)
        for part in range(self.n_parts):
            y[self._missing[:, part], part] = self.values["missing"][part]
        return y.reshape(x.shape)

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the vectors."""
        dx = self._take("dx", len(dy), self.n_parts, self.d)
        dx[...] = dy.reshape(dx.shape)
        for part in range(self.n_parts):
            none = self._missing[:, part]
            self.gradients["missing"][part] = dx[none, part].sum(0)
            dx[none, part] = 0.0
        return dx.reshape(dy.shape)


class _Weighted(Fusion):
    """y = sum over what is there of w_m v_m, with w the softmax over what is there of numbers a_m; 0 for nothing."""

    _scores: Dense

    @abstractmethod
    def _forward_scores(self, v: Array, batch: PackedBatch) -> Array:
        """Return a ``(n, n_parts)`` for vectors ``(n, n_parts, d)``, those that are missing being 0."""

    @abstractmethod
    def _backward_scores(self, da: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the vectors by way of a, ``(n, n_parts, d)``, in memory that may be added into."""

    def connect(self, runtime: Runtime, values: dict[str, Array], gradients: dict[str, Array], site: int) -> None:
        """Take over memory for itself and what makes the numbers."""
        super().connect(runtime, values, gradients, site)
        own = [p.name for p in self._scores.parameters()]
        self._scores.connect(runtime, {p: values[p] for p in own}, {p: gradients[p] for p in own}, site)

    def forward(self, x: Array, batch: PackedBatch, present: Mask | None = None) -> Array:
        """Return ``(n, d)``."""
        v = self._v = self._kept(x, present)
        v[self._missing] = 0.0
        a = np.where(self._missing, -np.inf, self._forward_scores(v, batch)).astype(v.dtype)
        largest = a.max(1, keepdims=True)
        a -= np.where(np.isfinite(largest), largest, 0.0).astype(v.dtype)
        np.exp(a, out=a)
        total = a.sum(1, keepdims=True)
        self._w = np.divide(a, total, out=a, where=total > 0)
        y = self._take("y", len(x), self.d)
        np.multiply(self._w[:, :1], v[:, 0], out=y)
        for part in range(1, self.n_parts):
            y += self._w[:, part, None] * v[:, part]
        return y

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the vectors."""
        v, w = self._v, self._w
        dw = np.empty_like(w)
        for part in range(self.n_parts):
            np.einsum("ij,ij->i", dy, v[:, part], out=dw[:, part])
        dx = self._backward_scores(w * (dw - (w * dw).sum(1, keepdims=True)), batch)
        for part in range(self.n_parts):
            dx[:, part] += w[:, part, None] * dy
        dx[self._missing] = 0.0
        return dx.reshape(len(dy), self.n_parts * self.d)


class Gated(_Weighted):
    """a = (v_1, ..., v_n) W + b: every gate looks at all vectors of the row (Arevalo et al. 2017, for two of them)."""

    def __init__(self, n_parts: int, d: int) -> None:
        super().__init__(n_parts, d)
        self._scores = Dense(n_parts * d, n_parts, "identity")

    def parameters(self) -> list[Parameter]:
        """Return w ``(n_parts d, n_parts)`` and b ``(n_parts,)``."""
        return self._scores.parameters()

    def _forward_scores(self, v: Array, batch: PackedBatch) -> Array:
        return self._scores.forward(v.reshape(len(v), -1), batch)

    def _backward_scores(self, da: Array, batch: PackedBatch) -> Array:
        return self._scores.backward(da, batch).reshape(len(da), self.n_parts, self.d)


class Attention(_Weighted):
    """a_m = q . v_m + b_m: a learned query looks at each vector for itself, b says what a modality counts in general.

    A matrix between query and vectors would be one with the query.
    """

    def __init__(self, n_parts: int, d: int) -> None:
        super().__init__(n_parts, d)
        self._scores = Dense(d, 1, "identity", bias=False)

    def parameters(self) -> list[Parameter]:
        """Return the query, w ``(d, 1)``, and bias ``(n_parts,)``."""
        return [*self._scores.parameters(), Parameter("bias", (self.n_parts,))]

    def _forward_scores(self, v: Array, batch: PackedBatch) -> Array:
        a: Array = self._scores.forward(v.reshape(-1, self.d), batch).reshape(len(v), self.n_parts)
        a += self.values["bias"]
        return a

    def _backward_scores(self, da: Array, batch: PackedBatch) -> Array:
        self.gradients["bias"][...] = da.sum(0)
        return self._scores.backward(np.ascontiguousarray(da).reshape(-1, 1), batch).reshape(-1, self.n_parts, self.d)


FUSIONS: dict[str, type[Fusion]] = {"concat": Concat, "gated": Gated, "attention": Attention}
