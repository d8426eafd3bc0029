"""Cases of the loss operations, and their formulas over whole score matrices."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

KINDS = ("softmax", "bce", "bpr", "bpr_max", "top1", "top1_max")
OPTIONS: dict[str, Any] = {"beta": 0.7, "regularization": 0.3, "scale": 0.5}


class Case(NamedTuple):
    """Rows, items or candidates, width, and how large scores are."""

    name: str
    n_rows: int
    n: int
    d: int
    size: float = 1.0
    bias: bool = True
    k: int = 5

    def make(self, dtype: Any = np.float32) -> dict[str, Any]:
        """Return the arrays; the same numbers for every dtype."""
        rng = np.random.default_rng([self.n_rows, self.n, self.d])

        def draw(*shape: int) -> Array:
            return rng.standard_normal(shape).astype(np.float32).astype(dtype)

        h, table, bias = draw(self.n_rows, self.d) * dtype(self.size / self.d**0.5), draw(self.n, self.d), draw(self.n)
        ids = np.int32
        return {
            "h": h,
            "table": table,
            "bias": bias if self.bias else np.empty(0, dtype),
            "log_q": draw(self.n),
            "weights": np.abs(draw(self.n_rows)) + dtype(0.5),
            "targets": rng.integers(-1, self.n, self.n_rows).astype(ids),
            "negatives": rng.integers(-1, self.n, (self.n_rows, self.k)).astype(ids),
            "ids": rng.integers(0, max(1, self.n // 2), self.n).astype(ids),
        }


CASES = [
    Case("one of one", 1, 1, 1),
    Case("no rows", 0, 5, 3),
    Case("no negatives", 4, 9, 2, k=0),
    Case("width 1", 9, 40, 1),
    Case("width 17", 65, 49, 17, bias=False),
    Case("width 50", 150, 333, 50, size=4.0, k=1),
    Case("width 64", 300, 500, 64, bias=False, k=33),
    Case("width 100", 70, 200, 100, size=12.0, k=9),
]
EXTREME = [Case("large", 40, 70, 8, size=60.0), Case("huge", 70, 130, 16, size=2000.0)]


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e^-x), in x's dtype."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def softplus(x: Array) -> Array:
    """Return log(1 + e^x), in x's dtype."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def score_losses(kind: str, s: Array, target: int, out: NDArray[np.bool_]) -> tuple[Any, Array]:
    """Return the loss of a row of scores and its derivative, plainly in s's dtype; ``out`` are left out."""
    one = s.dtype.type(1)
    reg, beta = s.dtype.type(OPTIONS["regularization"]), s.dtype.type(OPTIONS["beta"])
    g, keep = np.zeros_like(s), ~out
    keep[target] = True
    others = keep.copy()
    others[target] = False
    x, p = s[others], s[target]
    if kind == "softmax":
        e = np.where(keep, np.exp(np.minimum(s - s[keep].max(), 0)), 0)
        g = e / e.sum()
        g[target] -= one
        return np.log(e.sum()) + s[keep].max() - p, g
    if kind == "bce":
        g[others], g[target] = sigmoid(x), -beta * sigmoid(-p)
        return beta * softplus(-p) + softplus(x).sum(), g
    n = s.dtype.type(max(1, len(x)))
    worse, large = sigmoid(x - p), sigmoid(x * x)
    if kind == "bpr":
        g[others], g[target] = worse / n, -(worse / n).sum()
        return (softplus(x - p) / n).sum(), g
    steep, rise = worse * sigmoid(p - x), 2 * x * large * sigmoid(-x * x)
    if kind == "top1":
        g[others], g[target] = (steep + rise) / n, -(steep / n).sum()
        return ((worse + large) / n).sum(), g
    if not len(x):
        return s.dtype.type(0), g
    e = np.exp(x - x.max())
    w = e / e.sum()
    if kind == "top1_max":
        inside = worse + large
        g[others], g[target] = w * (inside - (w * inside).sum() + steep + rise), -(w * steep).sum()
        return (w * inside).sum(), g
    log_parts = x - x.max() - softplus(x - p)  # log of w_j sigmoid(s_p - s_j), but for the sum of e
    parts = np.exp(log_parts - log_parts.max())
    q = parts / parts.sum()
    loss = np.log(e.sum()) - log_parts.max() - np.log(parts.sum()) + reg * (w * x * x).sum()
    g[others] = w - q * sigmoid(p - x) + reg * w * (x * x - (w * x * x).sum() + 2 * x)
    g[target] = -(q * worse).sum()
    return loss, g
