"""Neighbour models straight from their formulas: dense, float64."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def divide(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)


def similarities(
    things: Array, kind: str, shrinkage: float = 0.0, k1: float = 1.2, b: float = 0.75, unit: bool = False
) -> Array:
    """Return the similarity of all pairs of rows; zeros are absent."""
    present = things != 0
    n, n_t = len(things), present.sum(0)
    if kind == "jaccard":
        both = present.astype(float) @ present.T
        return divide(both, present.sum(1)[:, None] + present.sum(1) - both + shrinkage)
    if kind == "bm25":
        lengths = things.sum(1)
        base = k1 * (1 - b + b * lengths / lengths.mean())
        values = divide(things * (k1 + 1), things + base[:, None]) * np.log(1 + (n - n_t + 0.5) / (n_t + 0.5))
        return values @ values.T
    values = things.astype(float)
    if kind == "pearson":
        means = divide(things.sum(1), present.sum(1).astype(float))
        values = np.where(present, things - means[:, None], 0.0)
    elif kind == "tfidf":
        values = things * np.log(1 + n / np.maximum(n_t, 1))
    if unit:
        values = divide(values, np.sqrt((things.astype(float) ** 2).sum(0))[None, :] * np.ones((n, 1)))
    lengths = np.sqrt((values**2).sum(1))
    return divide(values @ values.T, lengths[:, None] * lengths + shrinkage)


def walks(dense: Array, alpha: float, beta: float) -> Array:
    """Return the weights of walks from item over user to item."""
    to_user = divide(dense.T, dense.T.sum(1, keepdims=True)) ** alpha
    to_item = divide(dense, dense.sum(1, keepdims=True)) ** alpha
    return (to_user * (dense.T != 0)) @ (to_item * (dense != 0)) / np.maximum((dense != 0).sum(0), 1) ** beta


def nearest(weights: Array, k: int) -> Array:
    """Return the k largest entries above 0 of every row, the diagonal left out; equal ones by column."""
    out = np.zeros_like(weights)
    for row in range(len(weights)):
        order = [c for c in np.lexsort((np.arange(len(weights)), -weights[row])) if c != row and weights[row, c] > 0]
        out[row, order[:k]] = weights[row, order[:k]]
    return out
