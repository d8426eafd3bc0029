"""Losses over sampled or shared candidates with their gradients, and losses of predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.blas import BLOCK, BLOCK_WORK
from recsys_fast._numba.block_rows import add_columns
from recsys_fast._numba.loss_rows import score_losses, sigmoid, softplus
from recsys_fast._numba.parallel import inputs, parallel, serial, threads
from recsys_fast._numba.softmax_loss import add_product, check_compute, scores_of

Array = NDArray[Any]
I32 = NDArray[np.int32]

_SLOTS = 8  # copies of the candidates' gradient; their number must not depend on the threads


def shared_loss(
    dh: Array,
    dcand: Array,
    dcand_bias: Array,
    h: Array,
    cand: Array,
    cand_bias: Array,
    positive: I32,
    ids: I32,
    log_q: Array,
    kind: int,
    beta: float,
    mask_equal: int,
    regularization: float,
    weights: Array,
    scale: float,
    compute: int,
    n_threads: int,
) -> float:
    """Losses over candidates that all rows share; the rows are cut into slots with candidate gradients of their own."""
    check_compute(compute)
    h, cand, cand_bias, log_q, weights = inputs(h, cand, cand_bias, log_q, weights)
    constant = np.zeros(len(cand), h.dtype)
    if len(cand_bias):
        constant += cand_bias
    if len(log_q):
        constant -= log_q
    n_slots = max(1, min(_SLOTS, len(h) // 128))
    parts, dconstant = np.zeros((n_slots, *cand.shape), h.dtype), np.zeros((n_slots, len(cand)), h.dtype)
    losses = np.zeros(len(h))
    options = kind, beta, mask_equal, regularization, scale
    with threads(n_threads):
        _shared_slots(dh, parts, dconstant, losses, h, cand, constant, positive, ids, weights, *options)
    dcand[...] = parts.sum(axis=0)
    if len(dcand_bias):
        dcand_bias[...] = dconstant.sum(axis=0)
    return float(losses.sum())


@parallel
def _shared_slots(
    dh: Array,
    parts: Array,
    dconstant: Array,
    losses: NDArray[np.float64],
    h: Array,
    cand: Array,
    constant: Array,
    positive: I32,
    ids: I32,
    weights: Array,
    kind: int,
    beta: float,
    mask_equal: int,
    regularization: float,
    scale: float,
) -> None:
    per_slot = -(-len(h) // len(parts))
    for slot in prange(len(parts)):
        scores = np.empty((BLOCK, len(cand)), h.dtype)
        end = min(len(h), (slot + 1) * per_slot)
        for first in range(slot * per_slot, end, BLOCK):
            stop = min(first + BLOCK, end)
            own = dh[first:stop], parts[slot], dconstant[slot], losses[first:stop], scores[: stop - first]
            given = h[first:stop], cand, constant, positive[first:stop], ids, weights[first:stop]
            _shared_tile(*own, *given, kind, beta, mask_equal, regularization, scale)


@serial
def _shared_tile(
    dh: Array,
    dcand: Array,
    dconstant: Array,
    losses: NDArray[np.float64],
    s: Array,
    h: Array,
    cand: Array,
    constant: Array,
    positive: I32,
    ids: I32,
    weights: Array,
    kind: int,
    beta: float,
    mask_equal: int,
    regularization: float,
    scale: float,
) -> None:
    """A tile of rows; adds to dcand and dconstant, overwrites the rest."""
    n, tile = len(cand), max(1, BLOCK_WORK // (BLOCK * h.shape[1]))
    for j in range(0, n, tile):
        part = scores_of(h, cand[j : j + tile], constant[j : j + tile])
        for r in range(part.shape[0]):
            for i in range(part.shape[1]):
                s[r, j + i] = part[r, i]
    for r in range(len(h)):
        at = positive[r]
        if at < 0:
            s[r] = 0.0
            continue
        for j in range(n):
            if mask_equal and ids[j] == ids[at] and j != at:
                s[r, j] = -np.inf
        weight = weights[r] if len(weights) > 0 else 1.0
        losses[r] = weight * score_losses(s[r], at, kind, beta, regularization)
        for j in range(n):
            s[r, j] *= weight * scale
    dh[:] = 0.0
    for j in range(0, n, tile):
        p = s[:, j : j + tile].copy()
        add_product(dh, p, cand[j : j + tile])
        add_product(dcand[j : j + tile], p.T, h)
        add_columns(dconstant[j : j + tile], p)


def row_loss(
    dh: Array,
    coef: Array,
    h: Array,
    table: Array,
    bias: Array,
    targets: I32,
    negatives: I32,
    log_q: Array,
    kind: int,
    beta: float,
    regularization: float,
    weights: Array,
    scale: float,
    n_threads: int,
) -> float:
    """Losses over negatives of each row's own; rows are independent."""
    h, table, bias, log_q, weights = inputs(h, table, bias, log_q, weights)
    losses = np.zeros(len(h))
    options = kind, beta, regularization, scale
    with threads(n_threads):
        _rows(dh, coef, losses, h, table, bias, targets, negatives, log_q, weights, *options)
    return float(losses.sum())


@parallel
def _rows(
    dh: Array,
    coef: Array,
    losses: NDArray[np.float64],
    h: Array,
    table: Array,
    bias: Array,
    targets: I32,
    negatives: I32,
    log_q: Array,
    weights: Array,
    kind: int,
    beta: float,
    regularization: float,
    scale: float,
) -> None:
    for t in prange(len(h)):
        if targets[t] < 0:
            dh[t] = 0.0
            coef[t] = 0.0
            continue
        weight = weights[t] if len(weights) > 0 else 1.0
        own = h[t], table, bias, targets[t], negatives[t], log_q, kind, beta, regularization
        losses[t] = weight * _row(dh[t], coef[t], *own, weight * scale)


@serial
def _row(
    dh: Array,
    s: Array,
    h: Array,
    table: Array,
    bias: Array,
    target: int,
    negatives: I32,
    log_q: Array,
    kind: int,
    beta: float,
    regularization: float,
    scale: float,
) -> float:
    """One row: scores into s, their derivatives in their place, and their sum over the items' rows."""
    for c in range(len(s)):
        item = target if c == 0 else negatives[c - 1]
        score = -np.inf
        if item >= 0:
            score = 0.0
            for k in range(len(h)):
                score += h[k] * table[item, k]
            if len(bias) > 0:
                score += bias[item]
            if len(log_q) > 0:
                score -= log_q[item]
        s[c] = score
    loss = score_losses(s, 0, kind, beta, regularization)
    dh[:] = 0.0
    for c in range(len(s)):
        s[c] *= scale
        item = target if c == 0 else negatives[c - 1]
        if item >= 0:
            for k in range(len(h)):
                dh[k] += s[c] * table[item, k]
    return loss


def regression_loss(
    dprediction: Array, prediction: Array, target: Array, weights: Array, kind: int, scale: float, n_threads: int
) -> float:
    """Squared (kind 0), smooth absolute (1) or logistic (2) errors; serial, a step has few predictions."""
    prediction, target, weights = inputs(prediction, target, weights)
    return float(_regression(dprediction, prediction, target, weights, kind, scale))


@serial
def _regression(dprediction: Array, prediction: Array, target: Array, weights: Array, kind: int, scale: float) -> float:
    loss = 0.0
    for t in range(len(prediction)):
        error = prediction[t] - target[t]
        weight = weights[t] if len(weights) > 0 else 1.0
        if kind == 2:
            loss += weight * (softplus(prediction[t]) - target[t] * prediction[t])
            slope = sigmoid(prediction[t]) - target[t]
        elif kind == 0:
            loss += weight * error * error
            slope = 2.0 * error
        elif abs(error) < 1.0:
            loss += weight * 0.5 * error * error
            slope = error
        else:
            loss += weight * (abs(error) - 0.5)
            slope = np.sign(error)
        dprediction[t] = weight * scale * slope
    return loss
