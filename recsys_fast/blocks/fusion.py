"""Several vectors of a row, one per modality, to a single one; any of them may be missing."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter, Runtime
from recsys_fast.blocks.columns import added, sum_lists
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

    def _split(self, x: Array, present: Mask | None) -> Array:
        """Return the vectors as rows ``(n n_parts, d)``, and remember where each of them is, -1 if it is missing."""
        self._places = np.arange(len(x) * self.n_parts, dtype=np.int32)
        if present is not None:
            self._places[~present.reshape(-1)] = -1
        return x.reshape(len(self._places), self.d)


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
        rows, n = self._split(x, present), len(x) * self.n_parts
        behind = self._take("behind", n + self.n_parts, self.d)
        self.runtime.join(behind, [rows, self.values["missing"]])
        instead = n + np.arange(n, dtype=np.int32) % self.n_parts
        y = self._take("y", n, self.d)
        self.runtime.gather(y, behind, np.where(self._places < 0, instead, self._places))
        return y.reshape(x.shape)

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the vectors."""
        n, rows = len(self._places), dy.reshape(len(self._places), self.d)
        gone = self._places.reshape(-1, self.n_parts).T < 0
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(gone.sum(1))])
        part, place = np.nonzero(gone)
        lost = (place * self.n_parts + part).astype(np.int32)
        sum_lists(self.runtime, self.gradients["missing"], rows, ends, lost)
        dx = self._take("dx", n, self.d)
        self.runtime.gather(dx, rows, self._places)
        return dx.reshape(dy.shape)


class _Weighted(Fusion):
    """y = sum over what is there of w_m v_m, with w the softmax over what is there of numbers a_m; 0 for nothing."""

    _scores: Dense

    @abstractmethod
    def _forward_scores(self, v: Array, batch: PackedBatch) -> tuple[Array, Array]:
        """Return numbers ``(n, n_parts)`` for vectors ``(n n_parts, d)``, those that are missing being 0, and what is
        added to every row of them to make a: ``(n_parts,)``, of length 0 for nothing."""

    @abstractmethod
    def _backward_scores(self, da: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the vectors by way of a, ``(n n_parts, d)``."""

    def connect(self, runtime: Runtime, values: dict[str, Array], gradients: dict[str, Array], site: int) -> None:
        """Take over memory for itself and what makes the numbers."""
        super().connect(runtime, values, gradients, site)
        own = [p.name for p in self._scores.parameters()]
        self._scores.connect(runtime, {p: values[p] for p in own}, {p: gradients[p] for p in own}, site)

    def forward(self, x: Array, batch: PackedBatch, present: Mask | None = None) -> Array:
        """Return ``(n, d)``."""
        rows = self._split(x, present)
        self._v = self._take("v", *rows.shape)
        self.runtime.gather(self._v, rows, self._places)
        scores = self._forward_scores(self._v, batch)
        y, self._w = self._take("y", len(x), self.d), self._take("w", len(x), self.n_parts)
        there = (self._places >= 0).view(np.uint8)
        self.runtime.run("mixture_forward", y, self._w, self._v, *scores, there)
        return y

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the vectors."""
        dv, da = self._take("dv", *self._v.shape), self._take("da", *self._w.shape)
        self.runtime.run("mixture_backward", dv, da, dy, self._v, self._w)
        through = self._backward_scores(da, batch)
        # what is missing has the weight 0, hence no gradient in dv, and none by way of a
        dx = added(self.runtime, self, "dx", through, dv, self._places)
        return dx.reshape(len(dy), self.n_parts * self.d)


class Gated(_Weighted):
    """a = (v_1, ..., v_n) W + b: every gate looks at all vectors of the row (Arevalo et al. 2017, for two of them)."""

    def __init__(self, n_parts: int, d: int) -> None:
        super().__init__(n_parts, d)
        self._scores = Dense(n_parts * d, n_parts, "identity")

    def parameters(self) -> list[Parameter]:
        """Return w ``(n_parts d, n_parts)`` and b ``(n_parts,)``."""
        return self._scores.parameters()

    def _forward_scores(self, v: Array, batch: PackedBatch) -> tuple[Array, Array]:
        together = v.reshape(len(v) // self.n_parts, self.n_parts * self.d)
        return self._scores.forward(together, batch), self.runtime.empty(0)

    def _backward_scores(self, da: Array, batch: PackedBatch) -> Array:
        return self._scores.backward(da, batch).reshape(len(da) * self.n_parts, self.d)


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

    def _forward_scores(self, v: Array, batch: PackedBatch) -> tuple[Array, Array]:
        return self._scores.forward(v, batch).reshape(len(v) // self.n_parts, self.n_parts), self.values["bias"]

    def _backward_scores(self, da: Array, batch: PackedBatch) -> Array:
        bias, n = self.gradients["bias"].reshape(1, self.n_parts), len(da)
        sum_lists(self.runtime, bias, da, np.array([0, n]), np.arange(n, dtype=np.int32))
        return self._scores.backward(da.reshape(n * self.n_parts, 1), batch)


FUSIONS: dict[str, type[Fusion]] = {"concat": Concat, "gated": Gated, "attention": Attention}
