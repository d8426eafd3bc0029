"""Networks of neural collaborative filtering, pair by pair; any floating dtype."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.block_rows import cut_slots, sum_slots
from recsys_fast._numba.dense import slope
from recsys_fast._numba.dropout import dropout_at, dropout_key
from recsys_fast._numba.feed_forward import activate
from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import cut_pieces, run_pieces
from recsys_fast._numba.rng import Int

Array = NDArray[Any]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@serial
def _forward(
    z: Array, p: Array, q: Array, params: Array, widths: I64, d_product: int, activation: int, mask: Array
) -> float:
    """Return the score of one pair; z (n_layers + 1, widest) becomes what each layer returns."""
    tower, at = widths[0] // 2, 0
    for k in range(tower):
        z[0, k], z[0, tower + k] = p[d_product + k], q[d_product + k]
    for layer in range(1, len(widths)):
        d_in, d_out = widths[layer - 1], widths[layer]
        bias = at + d_in * d_out
        for j in range(d_out):
            z[layer, j] = params[bias + j]
        for k in range(d_in):
            for j in range(d_out):
                z[layer, j] += z[layer - 1, k] * params[at + k * d_out + j]
        for j in range(d_out):
            z[layer, j] = activate(activation, z[layer, j]) * mask[layer, j]
        at = bias + d_out
    last = widths[-1] if len(widths) > 1 else 0
    score = params[at + d_product + last]
    for k in range(d_product):
        score += params[at + k] * p[k] * q[k]
    for k in range(last):
        score += params[at + d_product + k] * z[-1, k]
    return float(score)


@serial
def _backward(
    dp: Array, dq: Array, dparams: Array, dz: Array, g: float, z: Array, p: Array, q: Array, params: Array,
    widths: I64, d_product: int, activation: int, mask: Array,
) -> None:  # fmt: skip
    """Gradients of g times the score: dq is overwritten, dp and dparams are added to."""
    n_layers, tower = len(widths) - 1, widths[0] // 2
    last = widths[-1] if n_layers else 0
    head = len(params) - 1 - last - d_product
    dparams[-1] += g
    for k in range(d_product):
        h = params[head + k]
        dparams[head + k] += g * p[k] * q[k]
        dp[k] += g * h * q[k]
        dq[k] = g * h * p[k]
    for k in range(last):
        dparams[head + d_product + k] += g * z[-1, k]
        dz[-1, k] = g * params[head + d_product + k]
    at = head
    for layer in range(n_layers, 0, -1):
        d_in, d_out = widths[layer - 1], widths[layer]
        at -= (d_in + 1) * d_out
        for j in range(d_out):
            m = mask[layer, j]
            y = z[layer, j] / m if m > 0.0 else 0.0
            dz[layer, j] *= m * slope(activation, y, y)
            dparams[at + d_in * d_out + j] += dz[layer, j]
        for k in range(d_in):
            total = dz[layer, 0] * params[at + k * d_out]
            for j in range(1, d_out):
                total += dz[layer, j] * params[at + k * d_out + j]
            for j in range(d_out):
                dparams[at + k * d_out + j] += z[layer - 1, k] * dz[layer, j]
            dz[layer - 1, k] = total
    for k in range(tower):
        dp[d_product + k] += dz[0, k]
        dq[d_product + k] = dz[0, tower + k]


@serial
def _losses(
    dusers: Array, ditems: Array, dparams: Array, losses: NDArray[np.float64], users: Array, items: Array,
    user_ids: I32, item_ids: I32, params: Array, widths: I64, d_product: int, activation: int, dropout: float,
    seed: Int, step: int, site: int, scale: float, bounds: I64, begin: int, end: int,
) -> None:  # fmt: skip
    """Slots begin to end."""
    width = item_ids.shape[1]
    z = np.zeros((len(widths), widths.max()), params.dtype)
    dz, mask = np.zeros_like(z), np.ones_like(z)
    for slot in range(begin, end):
        for i in range(bounds[slot], bounds[slot + 1]):
            p = users[user_ids[i]]
            dusers[i] = 0.0
            for j in range(width):
                row = i * width + j
                ditems[row] = 0.0
                if item_ids[i, j] < 0:
                    continue
                q = items[item_ids[i, j]]
                for layer in range(1, len(widths)):
                    drop = dropout_key(dropout, seed, step, site + layer - 1)
                    for k in range(widths[layer]):
                        mask[layer, k] = dropout_at(drop, row, k, widths[layer]) if drop[2] > 0 else 1.0
                score = _forward(z, p, q, params, widths, d_product, activation, mask)
                signed = -score if j == 0 else score  # log(1 + e^signed)
                e = math.exp(-abs(signed))
                losses[slot] += max(signed, 0.0) + math.log1p(e)
                g = (1.0 if signed >= 0.0 else e) / (1.0 + e)
                g = scale * (-g if j == 0 else g)
                _backward(
                    dusers[i], ditems[row], dparams[slot], dz, g, z, p, q, params, widths, d_product, activation, mask
                )


def ncf_loss(
    dusers: Array, ditems: Array, dparams: Array, users: Array, items: Array, user_ids: I32, item_ids: I32,
    params: Array, widths: I64, d_product: int, activation: int, dropout: float, seed: int, step: int, site: int,
    scale: float, n_threads: int,
) -> float:  # fmt: skip
    """Binary cross-entropy of pairs and its gradients; see ``recsys_fast.ops.ncf_loss``."""
    users, items, user_ids, item_ids, params, widths = inputs(users, items, user_ids, item_ids, params, widths)
    bounds = cut_slots(len(item_ids), 16)
    slots = len(bounds) - 1
    parts, losses = np.zeros((slots, len(params)), params.dtype), np.zeros(slots)
    mode = (d_product, activation, float(dropout), np.uint64(seed), step, site, float(scale), bounds)
    given = (dusers, ditems, parts, losses, users, items, user_ids, item_ids, params, widths, *mode)
    run_pieces(range(slots + 1), n_threads, lambda: partial(_losses, *given))
    sum_slots(dparams, parts)
    return float(losses.sum())


@serial
def _scores(
    out: Array, users: Array, items: Array, params: Array, widths: I64, d_product: int, activation: int, begin: int,
    end: int,
) -> None:  # fmt: skip
    """Rows begin to end."""
    z = np.zeros((len(widths), widths.max()), params.dtype)
    mask = np.ones_like(z)
    for i in range(begin, end):
        for j in range(len(items)):
            out[i, j] = _forward(z, users[i], items[j], params, widths, d_product, activation, mask)


def ncf_scores(
    out: Array, users: Array, items: Array, params: Array, widths: I64, d_product: int, activation: int, n_threads: int
) -> None:
    """out[i, j] = score of the pair; see ``recsys_fast.ops.ncf_scores``."""
    users, items, params, widths = inputs(users, items, params, widths)
    given = (out, users, items, params, widths, d_product, activation)
    run_pieces(cut_pieces(len(users)), n_threads, lambda: partial(_scores, *given))
