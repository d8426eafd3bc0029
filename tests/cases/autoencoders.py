"""Cases of the operations of autoencoders: sparse rows of all lengths, and plain formulas in any precision."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.ops import Csr

Array = NDArray[Any]


class Case(NamedTuple):
    """Rows, columns, width, and how many entries a row has at most."""

    name: str
    n: int
    n_cols: int
    d: int
    most: int = 5
    bias: bool = True
    valued: bool = True

    def make(self, dtype: Any = np.float32) -> dict[str, Any]:
        """Return the arrays; the same numbers for every dtype. Every third row is empty, some entries are 0."""
        rng = np.random.default_rng([self.n, self.n_cols, self.d])

        def draw(*shape: int) -> Array:
            return rng.standard_normal(shape).astype(np.float32).astype(dtype)

        lengths = rng.integers(1, self.most + 1, self.n) * (np.arange(self.n) % 3 != 2)
        row_ptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        nnz = int(row_ptr[-1])
        values = np.abs(draw(nnz)) * (rng.random(nnz) > 0.1).astype(dtype)
        return {
            "row_ptr": row_ptr,
            "col_idx": rng.integers(0, self.n_cols, nnz).astype(np.int32),
            "values": values if self.valued else np.empty(0, dtype),
            "table": draw(self.n_cols, self.d),
            "b": draw(self.d) if self.bias else np.empty(0, dtype),
            "bias": draw(self.n_cols) if self.bias else np.empty(0, dtype),
            "h": draw(self.n, self.d) / dtype(self.d**0.5),
            "dy": draw(self.n, self.d),
        }

    def csr(self) -> Csr:
        """Return the sparse rows."""
        p = self.make()
        return Csr(p["row_ptr"], p["col_idx"], p["values"] if self.valued else None, self.n, self.n_cols)


CASES = [
    Case("one of one", 1, 1, 1),
    Case("no rows", 0, 4, 3),
    Case("width 1", 9, 40, 1, valued=False),
    Case("width 17", 65, 49, 17, bias=False),
    Case("width 70", 150, 333, 70, most=30),
    Case("long rows", 7, 1200, 33, most=400, valued=False),
    Case("wide", 70, 90, 300, most=12),
    Case("many wide columns", 200, 2000, 270, most=12),
]


def entries(p: dict[str, Any]) -> tuple[Array, Array, Array]:
    """Return row, column and value of every entry."""
    rows = np.repeat(np.arange(len(p["row_ptr"]) - 1), np.diff(p["row_ptr"]))
    values = p["values"] if len(p["values"]) else np.ones(len(rows), p["table"].dtype)
    return rows, p["col_idx"], values


def activate(kind: str, x: Array) -> Array:
    """Return the activation in x's dtype."""
    forms = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}
    return forms.get(kind, lambda x: x)(x)


def slope(kind: str, y: Array) -> Array:
    """Return the derivative by the result."""
    forms = {"relu": lambda y: (y > 0).astype(y.dtype), "tanh": lambda y: 1 - y * y, "sigmoid": lambda y: y * (1 - y)}
    return forms.get(kind, np.ones_like)(y)


def forward(p: dict[str, Any], kind: str) -> Array:
    """Return activation(x table + b), entry by entry."""
    dtype = p["table"].dtype
    y = np.zeros((len(p["row_ptr"]) - 1, p["table"].shape[1]), dtype)
    if len(p["b"]):
        y += p["b"]
    for row, column, value in zip(*entries(p), strict=True):
        y[row] += value * p["table"][column]
    return activate(kind, y)


def backward(p: dict[str, Any], kind: str) -> tuple[Array, Array]:
    """Return the table's gradient and that of b."""
    g = p["dy"] * slope(kind, forward(p, kind))
    dtable = np.zeros_like(p["table"])
    for row, column, value in zip(*entries(p), strict=True):
        dtable[column] += value * g[row]
    return dtable, g.sum(axis=0, dtype=g.dtype)


def multinomial(p: dict[str, Any], scale: float) -> tuple[Any, Array, Array, Array]:
    """Return the loss and the gradients of h, table and bias by the whole score matrix."""
    h, table, dtype = p["h"], p["table"], p["h"].dtype.type
    s = (h[:, None, :] * table[None]).sum(axis=2, dtype=dtype) + (p["bias"] if len(p["bias"]) else dtype(0))
    e = np.exp(s - s.max(axis=1, keepdims=True, initial=-1e30))
    total = e.sum(axis=1, keepdims=True)
    x = np.zeros_like(s)
    np.add.at(x, entries(p)[:2], entries(p)[2])
    weight = x.sum(axis=1, keepdims=True)
    loss = (weight * np.log(total)).sum() - (x * (s - s.max(axis=1, keepdims=True, initial=-1e30))).sum()
    g = dtype(scale) * (weight * e / total - x)
    return loss, g @ table, g.T @ h, g.sum(axis=0) if len(p["bias"]) else p["bias"]
