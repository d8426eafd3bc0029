"""Cases of the operations on embedding tables and of the optimizers, for their tests and benchmarks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Case(NamedTuple):
    """A step of training by its sizes: rows that go in, pairs of a loss, candidates that a batch shares.

    Attributes:
        lengths: of the sequences; their sum is T.
        n: rows of the table.
        d: width.
        k: items per row of the loss.
        n_candidates: rows shared by the batch.
        none: share of ids that are -1.
    """

    name: str
    lengths: tuple[int, ...]
    n: int
    d: int
    k: int = 2
    n_candidates: int = 0
    none: float = 0.0

    def make(self, seed: int = 0) -> Step:
        """Return the arrays; the same for the same seed. Ids are skewed as popularity is."""
        rng = np.random.default_rng([seed, self.n, self.d, len(self.lengths)])
        rows = sum(self.lengths)

        def ids(*shape: int) -> NDArray[np.int32]:
            drawn = (self.n * rng.random(shape) ** 2).astype(np.int32)
            drawn[rng.random(shape) < self.none] = -1
            return drawn

        def numbers(*shape: int) -> Array:
            return rng.standard_normal(shape, np.float32)

        return Step(
            row_ptr=np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64),
            table=numbers(self.n, self.d),
            positions=numbers(max(self.lengths, default=0) + 1, self.d),
            ids=ids(rows),
            dx=numbers(rows, self.d),
            cand_ids=ids(self.n_candidates),
            dcand=numbers(self.n_candidates, self.d),
            dcand_bias=numbers(self.n_candidates),
            pair_ids=ids(rows, self.k),
            coef=numbers(rows, self.k),
            h=numbers(rows, self.d),
        )


class Step(NamedTuple):
    """The arrays of a case."""

    row_ptr: NDArray[np.int64]
    table: Array
    positions: Array
    ids: NDArray[np.int32]
    dx: Array
    cand_ids: NDArray[np.int32]
    dcand: Array
    dcand_bias: Array
    pair_ids: NDArray[np.int32]
    coef: Array
    h: Array

    @property
    def every_id(self) -> NDArray[np.int32]:
        """The ids of all entries: what goes in, candidates, pairs."""
        return np.concatenate([self.ids, self.cand_ids, self.pair_ids.reshape(-1)])

    def sources(self) -> dict[str, Array]:
        """Return the gradients of all entries, by the names of ``ops.table_gradient``."""
        return {name: getattr(self, name) for name in ("dx", "dcand", "dcand_bias", "coef", "h")}

    def gradient(self, dtype: type[np.floating[Any]] = np.float64) -> tuple[Array, Array]:
        """Return the gradients of the table and of its biases, entry after entry."""
        total, bias = np.zeros(self.table.shape, dtype), np.zeros(len(self.table), dtype)
        pairs = (self.coef[:, :, None].astype(dtype) * self.h[:, None, :]).reshape(-1, self.table.shape[1])
        rows = np.concatenate([self.dx.astype(dtype), self.dcand, pairs])
        biases = np.concatenate([np.zeros(len(self.dx), dtype), self.dcand_bias, self.coef.reshape(-1)])
        for row, gradient, of_bias in zip(self.every_id, rows, biases, strict=True):
            if row >= 0:
                total[row] += gradient
                bias[row] += of_bias
        return total, bias


_LENGTHS = tuple(np.random.default_rng(3).geometric(1 / 7, 100).tolist())

CASES = [
    Case("nothing", (), 5, 4),
    Case("empty sequences", (0, 3, 0, 0, 1, 0), 7, 3, none=0.3),
    Case("one row", (1,), 1, 1),
    Case("one column", _LENGTHS[:20], 30, 1, n_candidates=5),
    Case("width 50", _LENGTHS, 3000, 50, none=0.1),
    Case("width 64, candidates", _LENGTHS, 500, 64, k=0, n_candidates=300),
    Case("width 100, small table", (300, 1, 500), 4, 100, k=3),
    Case("width 17, large table", _LENGTHS[:30], 200_000, 17, k=5, n_candidates=64),
]
by_name = {case.name: case for case in CASES}


def adapt(
    param: Array, grad: Array, m: Array, v: Array, kind: str, step: int, *, lr: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, decoupled: bool, grad_scale: float,
) -> None:  # fmt: skip
    """One step as it is written in the papers, in the dtype of ``param``, in place; any shape."""
    g = grad_scale * grad
    if decoupled:
        param *= 1 - lr * weight_decay
    else:
        g = g + weight_decay * param
    if kind == "adam":
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        param -= lr * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + eps)
        return
    if kind.startswith("adagrad"):
        v += g * g
        g = g / (np.sqrt(v) + eps) if kind == "adagrad" else g / np.sqrt(v + eps)
    m[...] = beta1 * m + g
    param -= lr * m
