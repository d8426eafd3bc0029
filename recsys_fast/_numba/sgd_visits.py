"""SGD epochs: what a visit of an entry does, for each of the four losses."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import borrowed, inlined, serial
from recsys_fast._numba.rng import Int, draw, to_range
from recsys_fast._numba.sgd_rows import SGD, Side, bias_of, gather, move, settle, sum_of_squares, value_at
from recsys_fast._numba.sgd_schedule import (
    VISIT_WORDS,
    Blocks,
    Pool,
    count_visits,
    draw_uniform,
    draw_weighted,
    member,
)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

BPR, WARP, LOGISTIC, RATING = 0, 1, 2, 3
FROZEN_ITEMS, FROZEN_USERS = 1, 2
_SQUARED, _SMOOTH_L1 = 0, 1

_USER, _ALONG, _CHANGE, _SPARE, _ITEMS = 0, 1, 2, 3, 4  # rows of the scratch vectors
_BIAS, _BIAS_CHANGE = 0, 1


class Entries(NamedTuple):
    """The matrix: values and rates may be empty."""

    row_ptr: I64
    col_idx: I32
    values: F32
    rates: F32


class Options(NamedTuple):
    """The scalars of an epoch.

    n_draws: candidates of BPR, trials of WARP, negatives of the logistic loss.
    """

    objective: int
    n_items: int
    n_draws: int
    k_os: int
    n_os: int
    mean: float
    loss_kind: int
    optimizer: int
    learning_rate: float
    regularization: float
    frozen: int
    seed: np.uint64
    epoch: int


class Scratch(NamedTuple):
    """One thread's room.

    vectors ``(4 + n, d)``: the user's, what it moves along, its change that waits, a candidate, those of n items.
    ids, scores, gradients ``(n,)``: the items of a sample, the positive first; derivatives of the gain by the scores.
    biases ``(2, 1)``: the user's, and its change that waits. one ``(1, 1)``: the vector that a bias is the factor of.
    ranks, places: the entries of a user that a cell visits, as ranks in the item block and as places in the matrix.
    """

    vectors: F32
    ids: I64
    scores: F32
    gradients: F32
    biases: F32
    one: F32
    ranks: I32
    places: I64


def make_scratch(d: int, n: int, longest: int) -> Scratch:
    """Return room for samples of n items and rows of ``longest`` entries."""
    return Scratch(
        np.zeros((_ITEMS + n, d), np.float32), np.zeros(n, np.int64), np.zeros(n, np.float32), np.zeros(n, np.float32),
        np.zeros((2, 1), np.float32), np.ones((1, 1), np.float32), np.zeros(longest, np.int32),
        np.zeros(longest, np.int64),
    )  # fmt: skip


@serial
def _log_one_plus_exp(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@serial
def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0.0 else math.exp(x) / (1.0 + math.exp(x))


@inlined
def _score(
    vectors: F32, at: int, table: F32, bias: F32, row_ptr: I64, col_idx: I32, values: F32, user_bias: Any, item: Int
) -> Any:
    """Return the item's score; vectors[at] becomes its vector."""
    gather(vectors, at, table, row_ptr, col_idx, values, item)
    return np.float32(np.dot(vectors[_USER], vectors[at]) + user_bias + bias_of(bias, row_ptr, col_idx, values, item))


@serial
def _pick_positive(vectors: F32, items: Side, entries: Entries, user: Int, sample: Int, word: int, o: Options) -> int:
    """Return the entry of the k_os-th best scored of n_os positives of the user (Weston et al. 2013)."""
    start = entries.row_ptr[user]
    length = entries.row_ptr[user + 1] - start
    drawn, scores = np.empty(o.n_os, np.int64), np.empty(o.n_os, np.float32)
    for t in range(o.n_os):
        drawn[t] = start + to_range(draw(o.seed, o.epoch, sample, word + t), length)
        scores[t] = _score(
            vectors, _SPARE, items.table, items.bias, items.row_ptr, items.col_idx, items.values, np.float32(0.0),
            np.int64(entries.col_idx[drawn[t]]),
        )  # fmt: skip
    best = 0
    for _ in range(o.k_os):
        best = int(np.argmax(scores))  # ties: the first drawn
        scores[best] = -np.inf
    return int(drawn[best])


@serial
def _gradients(gradients: F32, scores: F32, n: int, weight: float, trials: int, o: Options) -> float:
    """Fill the derivatives of a sample's gain by the scores of its n items; return its loss."""
    if o.objective == BPR:
        x = float(scores[0] - scores[1])
        g = weight * _sigmoid(-x)
        gradients[0], gradients[1] = g, -g
        return weight * _log_one_plus_exp(-x)
    if o.objective == WARP:
        g = weight * max(1.0, math.log(max(1.0, (o.n_items - 1) // max(1, trials))))
        gradients[0], gradients[1] = g, -g
        return g * (1.0 - float(scores[0]) + float(scores[1]))
    if o.objective == LOGISTIC:
        gradients[0] = weight * _sigmoid(-float(scores[0]))
        loss = weight * _log_one_plus_exp(-float(scores[0]))
        for at in range(1, n):
            gradients[at] = -_sigmoid(float(scores[at]))
            loss += _log_one_plus_exp(float(scores[at]))
        return loss
    s = o.mean + float(scores[0])
    e = weight - s
    if o.loss_kind == _SQUARED or (o.loss_kind == _SMOOTH_L1 and abs(e) < 1.0):
        gradients[0] = e
        return 0.5 * e * e
    if o.loss_kind == _SMOOTH_L1:
        gradients[0] = math.copysign(1.0, e)
        return abs(e) - 0.5
    gradients[0] = weight - _sigmoid(s)
    return _log_one_plus_exp(s) - weight * s


@inlined
def _keeps(objective: int, scores: F32, n: int, score: Any) -> bool:
    """Whether a drawn item joins the sample: BPR's best so far, WARP's violation, every one of the logistic loss."""
    if objective == BPR:
        return n == 1 or score > scores[1]
    return objective == LOGISTIC or score > scores[0] - np.float32(1.0)


@inlined
def _choose(
    vectors: F32, ids: I64, scores: F32, table: F32, bias: F32, row_ptr: I64, col_idx: I32, values: F32, members: I32,
    running: F64, cdf: F64, n_members: int, taken: I32, user_bias: Any, positive: Int, sample: Int, word: int,
    o: Options,
) -> tuple[int, int]:  # fmt: skip
    """Fill the items of a sample and their scores; return their number (0: no negative exists), and that of draws."""
    ids[0] = positive
    scores[0] = _score(vectors, _ITEMS, table, bias, row_ptr, col_idx, values, user_bias, positive)
    rank: Int
    n, trials, rank = 1, 0, np.int64(0)
    if o.n_draws and len(taken) == n_members:
        return 0, 0
    while trials < o.n_draws:
        if len(cdf):
            rank, word = draw_weighted(members, running, cdf, n_members, taken, o.seed, o.epoch, sample, word)
            if rank < 0:
                return 0, 0
        else:
            rank, word = draw_uniform(n_members, taken, o.seed, o.epoch, sample, word)
        trials += 1
        item = member(members, rank)
        score = _score(vectors, _SPARE, table, bias, row_ptr, col_idx, values, user_bias, item)
        if _keeps(o.objective, scores, n, score):
            at = n if o.objective == LOGISTIC else 1
            ids[at], scores[at], n = item, score, at + 1
            for k in range(table.shape[1]):
                vectors[_ITEMS + at, k] = vectors[_SPARE, k]
            if o.objective == WARP:
                break
    return n, trials


@inlined
def _collect(ranks: I32, places: I64, row_ptr: I64, col_idx: I32, block: I32, rank: I32, user: Int, b: int) -> int:
    """Fill in the user's entries in item block b; return their number."""
    n = 0
    for place in range(row_ptr[user], row_ptr[user + 1]):
        item = col_idx[place]
        if len(block) == 0 or block[item] == b:
            ranks[n] = rank[item] if len(block) else item
            places[n] = place
            n += 1
    return n


@inlined
def _load_user(
    vectors: F32, biases: F32, table: F32, bias: F32, row_ptr: I64, col_idx: I32, values: F32, user: Int
) -> None:
    gather(vectors, _USER, table, row_ptr, col_idx, values, user)
    biases[_BIAS, 0] = bias_of(bias, row_ptr, col_idx, values, user)


@inlined
def _sum_up(vectors: F32, gradients: F32, n: int) -> Any:
    """vectors[_ALONG] = what the user moves along, the gradients times the vectors of n items; return their sum."""
    total = np.float32(0.0)
    for k in range(vectors.shape[1]):
        vectors[_ALONG, k] = 0.0
    for at in range(n):
        g = gradients[at]
        total += g
        for k in range(vectors.shape[1]):
            vectors[_ALONG, k] += g * vectors[_ITEMS + at, k]
    return total


@inlined
def _step_later(vectors: F32, biases: F32, squares: Any, g_bias: Any, lr: Any, keep: Any) -> None:
    """Move the user's vector and bias, and note the change for the rows of its features: see ``visit_cell``."""
    reach = lr * squares
    for k in range(vectors.shape[1]):
        vectors[_CHANGE, k] = keep * vectors[_CHANGE, k] + lr * vectors[_ALONG, k]
        vectors[_USER, k] = keep * vectors[_USER, k] + reach * vectors[_ALONG, k]
    biases[_BIAS_CHANGE, 0] = keep * biases[_BIAS_CHANGE, 0] + lr * g_bias
    biases[_BIAS, 0] = keep * biases[_BIAS, 0] + reach * g_bias


@serial
def visit_cell(
    first: int, last: int, b: int, totals: F64, users: Side, items: Side, entries: Entries, user_order: I32,
    item_blocks: Blocks, pool: Pool, scratch: Scratch, o: Options,
) -> None:  # fmt: skip
    """Visit the entries of users first..last (of ``user_order``) that fall into item block b, in order.

    totals ``(3,)``: += loss, samples (labels of the logistic loss) trained, visits skipped.
    With user features and plain SGD the features' rows wait until the user's run of samples ends, when each becomes
    decay * row + value * change: exactly where single steps would have led, at a cost of d for each.
    """
    # Taken apart, and without owners, once: the loops would spend most of their time on counting references.
    users, items, entries = borrowed(users), borrowed(items), borrowed(entries)
    vectors, ids, scores, gradients, biases, one, ranks, places = borrowed(scratch)
    u_table, u_bias, u_state, u_bias_state, u_steps, u_row_ptr, u_col_idx, u_values = users
    i_table, i_bias, i_state, i_bias_state, i_steps, i_row_ptr, i_col_idx, i_values = items
    e_row_ptr, e_col_idx, e_values, rates = entries
    _, _, block, rank = borrowed(item_blocks)
    members, running, cdf, n_members = borrowed(pool)
    lr, reg, zero = np.float32(o.learning_rate), np.float32(o.regularization), np.float32(0.0)
    keep, waits = np.float32(1.0) - lr * reg, len(u_row_ptr) > 0 and o.optimizer == SGD
    for position in range(first, last):
        user = np.int64(user_order[position]) if len(user_order) else np.int64(position)
        n_entries = _collect(ranks, places, e_row_ptr, e_col_idx, block, rank, user, b)
        if n_entries == 0:
            continue
        _load_user(vectors, biases, u_table, u_bias, u_row_ptr, u_col_idx, u_values, user)
        taken = ranks[:n_entries]
        decay, squares = np.float32(1.0), sum_of_squares(u_row_ptr, u_values, user)
        vectors[_CHANGE] = 0.0
        biases[_BIAS_CHANGE] = 0.0
        for t in range(n_entries):
            sample = places[t] - (e_row_ptr[user] if o.frozen == FROZEN_ITEMS else 0)
            for visit in range(count_visits(rates, places[t], sample, o.seed, o.epoch)):
                place, word = places[t], visit * VISIT_WORDS
                if o.n_os:
                    place = _pick_positive(vectors, items, entries, user, sample, word, o)
                    word += o.n_os
                n, trials = _choose(
                    vectors, ids, scores, i_table, i_bias, i_row_ptr, i_col_idx, i_values,
                    members, running, cdf, n_members, taken, biases[_BIAS, 0],
                    np.int64(e_col_idx[place]), sample, word, o,
                )  # fmt: skip
                if n == 0:
                    totals[2] += 1
                    continue
                if o.objective == LOGISTIC and o.frozen == FROZEN_USERS:
                    n = 1
                totals[1] += n if o.objective == LOGISTIC else 1
                if o.objective == WARP and n == 1:
                    continue
                totals[0] += _gradients(gradients, scores, n, float(value_at(e_values, place)), trials, o)
                g_user = _sum_up(vectors, gradients, n)
                for at in range(n):
                    if o.frozen != FROZEN_ITEMS and (at == 0 or o.frozen != FROZEN_USERS):
                        move(
                            i_table, i_bias, i_state, i_bias_state, i_steps, i_row_ptr,
                            i_col_idx, i_values, ids[at], gradients[at], vectors, _USER, gradients[at], one,
                            o.optimizer, lr, reg,
                        )  # fmt: skip
                if o.frozen == FROZEN_USERS:
                    continue
                if waits:
                    _step_later(vectors, biases, squares, g_user if len(u_bias) else zero, lr, keep)
                    decay *= keep
                else:
                    move(
                        u_table, u_bias, u_state, u_bias_state, u_steps, u_row_ptr,
                        u_col_idx, u_values, user, np.float32(1.0), vectors, _ALONG, g_user, one, o.optimizer,
                        lr, reg,
                    )  # fmt: skip
                    _load_user(vectors, biases, u_table, u_bias, u_row_ptr, u_col_idx, u_values, user)
        if waits and o.frozen != FROZEN_USERS:
            settle(u_table, u_row_ptr, u_col_idx, u_values, user, decay, vectors, _CHANGE)
            if len(u_bias):
                settle(u_bias, u_row_ptr, u_col_idx, u_values, user, decay, biases, _BIAS_CHANGE)
