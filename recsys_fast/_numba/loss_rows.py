"""What a row's scores cost under each loss, and the derivatives of that; formulas in ``recsys_fast.ops.losses``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import serial

SOFTMAX, BCE, BPR, BPR_MAX, TOP1, TOP1_MAX = range(6)


@serial
def softplus(x: float) -> float:
    """Return log(1 + e^x)."""
    out: float = max(x, 0.0) + np.log1p(np.exp(-abs(x)))
    return out


@serial
def sigmoid(x: float) -> float:
    """Return 1 / (1 + e^-x)."""
    out: float = 1.0 / (1.0 + np.exp(-x)) if x >= 0.0 else np.exp(x) / (1.0 + np.exp(x))
    return out


@serial
def score_losses(s: NDArray[Any], positive: int, kind: int, beta: float, regularization: float) -> float:
    """Return the loss of a row's scores, all but ``s[positive]`` negatives; s becomes d loss / d s.

    A score of minus infinity is that of a candidate left out: its derivative is 0.
    """
    if kind == SOFTMAX:
        return _softmax(s, positive)
    if kind == BCE:
        return _bce(s, positive, beta)
    if kind in (BPR, TOP1):
        return _mean_pairs(s, positive, kind)
    return _weighted_pairs(s, positive, kind, regularization)


@serial
def _softmax(s: NDArray[Any], positive: int) -> float:
    top = -np.inf
    for j in range(len(s)):
        top = max(top, s[j])
    total, target = 0.0, s[positive] - top
    for j in range(len(s)):
        s[j] = np.exp(s[j] - top)
        total += s[j]
    for j in range(len(s)):
        s[j] /= total
    s[positive] -= 1.0
    loss: float = np.log(total) - target
    return loss


@serial
def _bce(s: NDArray[Any], positive: int, beta: float) -> float:
    loss = beta * softplus(-s[positive])
    slope = -beta * sigmoid(-s[positive])
    for j in range(len(s)):
        if j != positive and s[j] > -np.inf:
            loss += softplus(s[j])
        s[j] = sigmoid(s[j])
    s[positive] = slope
    return loss


@serial
def _mean_pairs(s: NDArray[Any], positive: int, kind: int) -> float:
    """BPR and TOP1: the mean over the negatives."""
    n, loss, slope, target = 0, 0.0, 0.0, s[positive]
    for j in range(len(s)):
        n += j != positive and s[j] > -np.inf
    for j in range(len(s)):
        if j == positive or s[j] == -np.inf:
            s[j] = 0.0
            continue
        worse, square = sigmoid(s[j] - target), s[j] * s[j]
        if kind == BPR:
            loss += softplus(s[j] - target) / n
            slope -= worse / n
            s[j] = worse / n
        else:
            loss += (worse + sigmoid(square)) / n
            slope -= worse * (1.0 - worse) / n
            s[j] = (worse * (1.0 - worse) + 2.0 * s[j] * sigmoid(square) * sigmoid(-square)) / n
    s[positive] = slope
    return loss


@serial
def _weighted_pairs(s: NDArray[Any], positive: int, kind: int, regularization: float) -> float:
    """BPR-max and TOP1-max: negatives weighted by w = softmax of their scores.

    BPR-max: w_j sigmoid(s_p - s_j) = (e^s_p / sum of e^s) sigmoid(s_j - s_p), so the weighted sum A is one of
    sigmoids, none of which underflows where another counts; q_j is the share of j in it.
    """
    target, top = s[positive], -np.inf
    for j in range(len(s)):
        if j != positive:
            top = max(top, s[j])
    if top == -np.inf:
        s[:] = 0.0
        return 0.0
    total, shares, squares, inner = 0.0, 0.0, 0.0, 0.0
    for j in range(len(s)):
        if j != positive and s[j] > -np.inf:
            e = np.exp(s[j] - top)
            total += e
            squares += e * s[j] * s[j]
            shares += _share(s[j], target, top)
            inner += e * (sigmoid(s[j] - target) + sigmoid(s[j] * s[j]))
    squares /= total
    inner /= total
    slope = 0.0
    for j in range(len(s)):
        x = s[j]
        if j == positive or x == -np.inf:
            s[j] = 0.0
            continue
        w, worse, square = np.exp(x - top) / total, sigmoid(x - target), x * x
        if kind == BPR_MAX:
            q = _share(x, target, top) / shares
            s[j] = w - q * (1.0 - worse) + regularization * w * (square - squares + 2.0 * x)
            slope -= q * worse
        else:
            inside = worse + sigmoid(square)
            steep = worse * (1.0 - worse)
            s[j] = w * (inside - inner + steep + 2.0 * x * sigmoid(square) * sigmoid(-square))
            slope -= w * steep
    s[positive] = slope
    if kind == BPR_MAX:
        inner = np.log(total) - np.log(shares) + max(top - target, 0.0) + regularization * squares
    return inner


@serial
def _share(x: float, target: float, top: float) -> float:
    """Return sigmoid(x - target), times e^(target - top) where that is above 1."""
    return sigmoid(x - target) if target <= top else np.exp(x - top) * sigmoid(target - x)
