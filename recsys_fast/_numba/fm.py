"""Factorization machines, plain and field-aware: an epoch of gradient descent over batches, and scores.

A plain machine is a field-aware one of a single field, so one set of loops serves both.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.fm_batches import fill_order, fill_pairs, group_entries, order_keys
from recsys_fast._numba.parallel import inputs, parallel, serial, threads

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_LOGISTIC, _BPR = 1, 2
_ADAGRAD, _ADAM = 1, 2
_EPSILON = np.float32(1e-8)
_NO_FIELDS = np.empty(0, np.int32)
_WINDOW = 1 << 16
_PREDICTED = 4096  # rows that are scored at a time


def fm_epoch(
    table: F32, state: F32, steps: I32, bias: F64, row_ptr: I64, col_idx: I32, values: F32, targets: F32, weights: F32,
    positives: I32, groups: I32, negative_ptr: I64, negatives: I32, loss: int, optimizer: int, learning_rate: float,
    weight_regularization: float, factor_regularization: float, batch_size: int, seed: int, epoch: int, n_threads: int,
) -> float:  # fmt: skip
    """One pass over the rows in batches; each feature of a batch steps once along the mean gradient of its rows.

    table ``(n_features, d + 1)`` factors and weight, state ``(n_features, s (d + 1))``, bias ``(4,)``: in place.
    Deterministic: a feature's rows are added in their order. Rendle 2010.
    """
    return ffm_epoch(
        table, state, steps, bias, row_ptr, col_idx, values, _NO_FIELDS, 1, targets, weights, positives, groups,
        negative_ptr, negatives, loss, optimizer, learning_rate, weight_regularization, factor_regularization,
        batch_size, seed, epoch, n_threads,
    )  # fmt: skip


def ffm_epoch(
    table: F32, state: F32, steps: I32, bias: F64, row_ptr: I64, col_idx: I32, values: F32, fields: I32, n_fields: int,
    targets: F32, weights: F32, positives: I32, groups: I32, negative_ptr: I64, negatives: I32, loss: int,
    optimizer: int, learning_rate: float, weight_regularization: float, factor_regularization: float, batch_size: int,
    seed: int, epoch: int, n_threads: int,
) -> float:  # fmt: skip
    """The same with one vector per field of the partner: table ``(n_features, n_fields d + 1)``. Juan et al. 2016."""
    row_ptr, col_idx, values, fields, targets, weights = inputs(row_ptr, col_idx, values, fields, targets, weights)
    positives, groups, negative_ptr, negatives = inputs(positives, groups, negative_ptr, negatives)
    paired, total = loss == _BPR, 0.0
    n = len(positives) if paired else len(row_ptr) - 1
    batch = max(1, min(batch_size, n))
    window = max(batch, _WINDOW // batch * batch)
    most = 2 * batch if paired else batch
    keys, key = order_keys(seed, epoch), np.uint64(seed)
    counts, order = np.zeros(len(table), np.int32), np.empty(min(window, n), np.int64)
    rows, scores, losses = np.empty(most, np.int32), np.empty(most, np.float32), np.empty(most)
    slots = np.empty((most, n_fields, table.shape[1]), np.float32)
    rates = tuple(np.float32(one) for one in (learning_rate, weight_regularization, factor_regularization))
    with threads(n_threads):
        for first in range(0, n, batch):
            if first % window == 0:
                fill_order(order[: n - first], first, n, keys)
            place = order[first % window :][: min(batch, n - first)]
            used = rows[: 2 * len(place) if paired else len(place)]
            if paired:
                fill_pairs(used, place, positives, groups, negative_ptr, negatives, key, epoch)
            else:
                used[:] = place
            _forward(scores, slots, used, table, bias[0], row_ptr, col_idx, values, fields)
            total += _slopes(scores, losses, used, targets, weights, loss)
            if not paired:
                _step_bias(bias, float(scores[: len(used)].sum(dtype=np.float64)) / len(used), optimizer, learning_rate)
            grouped = group_entries(used, row_ptr, col_idx, values, counts)
            _backward(table, state, steps, fields, slots, scores, *grouped, optimizer, *rates)
    return total


def fm_predict(
    out: F32, table: F32, bias: float, row_ptr: I64, col_idx: I32, values: F32, n_threads: int
) -> None:  # fmt: skip
    """out = bias + sum_j w_j x_j + 1/2 sum_k [(sum_j v_jk x_j)^2 - sum_j v_jk^2 x_j^2] for each row; overwrites."""
    ffm_predict(out, table, bias, row_ptr, col_idx, values, _NO_FIELDS, 1, n_threads)


def ffm_predict(
    out: F32, table: F32, bias: float, row_ptr: I64, col_idx: I32, values: F32, fields: I32, n_fields: int,
    n_threads: int,
) -> None:  # fmt: skip
    """out = bias + sum_j w_j x_j + sum_{j < i} v_{j, f(i)} . v_{i, f(j)} x_j x_i for each row; overwrites."""
    table, row_ptr, col_idx, values, fields = inputs(table, row_ptr, col_idx, values, fields)
    slots = np.empty((min(_PREDICTED, len(out)), n_fields, table.shape[1]), np.float32)
    with threads(n_threads):
        for first in range(0, len(out), _PREDICTED):
            part = out[first : first + _PREDICTED]
            rows = np.arange(first, first + len(part), dtype=np.int32)
            _forward(part, slots, rows, table, float(bias), row_ptr, col_idx, values, fields)


@parallel
def _forward(
    scores: F32, slots: F32, rows: I32, table: F32, bias: float, row_ptr: I64, col_idx: I32, values: F32, fields: I32
) -> None:
    """Scores of rows; slots[b, f, h d + k] = sum of x v_{., f, k} over features of field h, and a 1 behind."""
    for b in prange(len(rows)):
        row = slice(row_ptr[rows[b]], row_ptr[rows[b] + 1])
        x = values[row] if len(values) > 0 else np.ones(row.stop - row.start, np.float32)
        scores[b] = np.float32(bias) + _score(slots[b], table, col_idx[row], x, fields)


@serial
def _score(slot: F32, table: F32, ids: I32, x: F32, fields: I32) -> np.float32:
    n_fields, n = slot.shape[0], table.shape[1] - 1
    d = n // n_fields
    slot[:] = np.float32(0.0)
    for e in range(len(ids)):
        h = fields[ids[e]] if len(fields) > 0 else 0
        for f in range(n_fields):
            for k in range(d):
                slot[f, h * d + k] += x[e] * table[ids[e], f * d + k]
    score = np.float32(0.0)
    for e in range(len(ids)):
        h, row = fields[ids[e]] if len(fields) > 0 else 0, table[ids[e]]
        pairs = np.float32(0.0)
        for k in range(n):
            pairs += row[k] * slot[h, k]
        for k in range(h * d, h * d + d):
            pairs -= x[e] * row[k] * row[k]
        score += x[e] * (np.float32(0.5) * pairs + row[n])
    slot[:, n] = np.float32(1.0)
    return score


@serial
def _softplus(z: float) -> float:
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


@serial
def _sigmoid(z: float) -> float:
    e = math.exp(-abs(z))
    return (1.0 if z >= 0.0 else e) / (1.0 + e)


@serial
def _slopes(scores: F32, losses: F64, rows: I32, targets: F32, weights: F32, loss: int) -> float:
    """Turn scores into the derivatives of their losses; return the sum of the losses."""
    total, step = 0.0, 2 if loss == _BPR else 1
    for b in range(0, len(rows), step):
        weight = weights[rows[b]] if len(weights) > 0 else np.float32(1.0)
        if loss == _BPR:
            z = float(scores[b + 1]) - float(scores[b])
            total += float(weight) * _softplus(z)
            scores[b + 1] = weight * _sigmoid(z)
            scores[b] = -scores[b + 1]
        elif loss == _LOGISTIC:
            sign = 1.0 if targets[rows[b]] > 0.5 else -1.0
            z = -sign * float(scores[b])
            total += float(weight) * _softplus(z)
            scores[b] = -sign * weight * _sigmoid(z)
        else:
            error = scores[b] - targets[rows[b]]
            total += 0.5 * float(weight) * float(error) * float(error)
            scores[b] = weight * error
    return float(total)


def _step_bias(bias: F64, gradient: float, optimizer: int, learning_rate: float) -> None:
    """bias ``(4,)``: value, two states, number of updates."""
    step = gradient
    if optimizer == _ADAGRAD:
        bias[1] += gradient * gradient
        step /= np.sqrt(bias[1]) + 1e-8
    elif optimizer == _ADAM:
        bias[3] += 1
        bias[1] += 0.1 * (gradient - bias[1])
        bias[2] += 0.001 * (gradient * gradient - bias[2])
        step = _adam_rate(1.0, bias[3]) * bias[1] / (np.sqrt(bias[2]) + 1e-8)
    bias[0] -= learning_rate * step


@serial
def _adam_rate(rate: float, t: float) -> float:
    return float(rate * math.sqrt(1.0 - 0.999**t) / (1.0 - 0.9**t))


@parallel
def _backward(
    table: F32, state: F32, steps: I32, fields: I32, slots: F32, slopes: F32, features: I32, starts: I32,
    entry_rows: I32, entry_values: F32, optimizer: int, rate: np.float32, weight_penalty: np.float32,
    factor_penalty: np.float32,
) -> None:  # fmt: skip
    """One step of every feature along mean(slope x (slot - own part)) + penalty times value."""
    width = table.shape[1]
    d = (width - 1) // slots.shape[1]
    for t in prange(len(features)):
        j = features[t]
        h = fields[j] if len(fields) > 0 else 0
        gradient, squares = np.zeros(width, np.float32), np.float32(0.0)
        for p in range(starts[t], starts[t + 1]):
            c = slopes[entry_rows[p]] * entry_values[p]
            squares += c * entry_values[p]
            for k in range(width):
                gradient[k] += c * slots[entry_rows[p], h, k]
        for k in range(h * d, h * d + d):
            gradient[k] -= squares * table[j, k]
        for k in range(width):
            penalty = factor_penalty if k < width - 1 else weight_penalty
            gradient[k] = gradient[k] / np.float32(starts[t + 1] - starts[t]) + penalty * table[j, k]
        _step(table[j], state[j], steps, j, gradient, optimizer, rate)


@serial
def _step(row: F32, state: F32, steps: I32, j: int, gradient: F32, optimizer: int, rate: np.float32) -> None:
    """The optimizer's step of one row. Duchi, Hazan, Singer 2011 (Adagrad); Kingma, Ba 2015 (Adam)."""
    n = len(row)
    if optimizer == _ADAM:
        steps[j] = min(steps[j] + 1, 20000)
        rate = np.float32(_adam_rate(float(rate), steps[j]))
    for k in range(n):
        g = gradient[k]
        if optimizer == _ADAGRAD:
            state[k] += g * g
            g = g / (np.sqrt(state[k]) + _EPSILON)
        elif optimizer == _ADAM:
            state[k] += np.float32(0.1) * (g - state[k])
            state[n + k] += np.float32(0.001) * (g * g - state[n + k])
            g = state[k] / (np.sqrt(state[n + k]) + _EPSILON)
        row[k] -= rate * g
