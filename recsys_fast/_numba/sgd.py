"""SGD epochs: BPR, WARP, logistic and rating losses on one engine; the shapes are in ``recsys_fast.ops``.

The files: ``sgd_rows`` (vectors, optimizers), ``sgd_schedule`` (blocks, negatives), ``sgd_visits`` (the losses).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs
from recsys_fast._numba.pieces import run_pieces
from recsys_fast._numba.sgd_rows import Side
from recsys_fast._numba.sgd_schedule import count_blocks, make_blocks, make_item_blocks, make_pool
from recsys_fast._numba.sgd_visits import (
    BPR,
    FROZEN_ITEMS,
    LOGISTIC,
    RATING,
    WARP,
    Entries,
    Options,
    make_scratch,
    visit_cell,
)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Result = tuple[float, int, int]

# The fewest users, or items, that a block has on average. WARP estimates ranks, for which a small block is too coarse.
_BLOCK_ROWS = {BPR: 64, WARP: 1024, LOGISTIC: 64, RATING: 64}
_PIECE = 1 << 13  # entries between two looks at Ctrl-C, and at what else there is to do: a few ms
_NO_WEIGHTS = np.empty(0, np.float64)


def bpr_epoch(
    users: F32, items: F32, user_bias: F32, item_bias: F32, user_state: F32, item_state: F32, user_bias_state: F32,
    item_bias_state: F32, user_steps: I32, item_steps: I32, row_ptr: I64, col_idx: I32, values: F32, rates: F32,
    uf_row_ptr: I64, uf_col_idx: I32, uf_values: F32, if_row_ptr: I64, if_col_idx: I32, if_values: F32,
    cdf: F64, n_candidates: int, optimizer: int, learning_rate: float, regularization: float,
    frozen: int, seed: int, epoch: int, deterministic: bool, n_threads: int,
) -> Result:  # fmt: skip
    """Ascend w log sigmoid(u.(i - j) + b_i - b_j) for every entry and a negative j; user biases are not used."""
    return _epoch(
        BPR, (users, np.empty(0, np.float32), user_state, user_bias_state, user_steps),
        (items, item_bias, item_state, item_bias_state, item_steps), (row_ptr, col_idx, values, rates),
        (uf_row_ptr, uf_col_idx, uf_values), (if_row_ptr, if_col_idx, if_values), cdf, n_candidates, 0, 0, 0.0, 0,
        optimizer, learning_rate, regularization, frozen, seed, epoch, deterministic, n_threads,
    )  # fmt: skip


def warp_epoch(
    users: F32, items: F32, user_bias: F32, item_bias: F32, user_state: F32, item_state: F32, user_bias_state: F32,
    item_bias_state: F32, user_steps: I32, item_steps: I32, row_ptr: I64, col_idx: I32, values: F32, rates: F32,
    uf_row_ptr: I64, uf_col_idx: I32, uf_values: F32, if_row_ptr: I64, if_col_idx: I32, if_values: F32,
    cdf: F64, max_trials: int, k_os: int, n_os: int, optimizer: int, learning_rate: float,
    regularization: float, frozen: int, seed: int, epoch: int, deterministic: bool, n_threads: int,
) -> Result:  # fmt: skip
    """Descend the hinge of the first violating negative, weighted by the rank it tells; user biases are not used."""
    return _epoch(
        WARP, (users, np.empty(0, np.float32), user_state, user_bias_state, user_steps),
        (items, item_bias, item_state, item_bias_state, item_steps), (row_ptr, col_idx, values, rates),
        (uf_row_ptr, uf_col_idx, uf_values), (if_row_ptr, if_col_idx, if_values), cdf, max_trials, k_os, n_os, 0.0, 0,
        optimizer, learning_rate, regularization, frozen, seed, epoch, deterministic, n_threads,
    )  # fmt: skip


def logistic_epoch(
    users: F32, items: F32, user_bias: F32, item_bias: F32, user_state: F32, item_state: F32, user_bias_state: F32,
    item_bias_state: F32, user_steps: I32, item_steps: I32, row_ptr: I64, col_idx: I32, values: F32, rates: F32,
    uf_row_ptr: I64, uf_col_idx: I32, uf_values: F32, if_row_ptr: I64, if_col_idx: I32, if_values: F32,
    cdf: F64, n_negatives: int, optimizer: int, learning_rate: float, regularization: float,
    frozen: int, seed: int, epoch: int, deterministic: bool, n_threads: int,
) -> Result:  # fmt: skip
    """Ascend w log sigmoid(s) of every entry together with log sigmoid(-s) of its negatives, one step per visit."""
    return _epoch(
        LOGISTIC, (users, user_bias, user_state, user_bias_state, user_steps),
        (items, item_bias, item_state, item_bias_state, item_steps), (row_ptr, col_idx, values, rates),
        (uf_row_ptr, uf_col_idx, uf_values), (if_row_ptr, if_col_idx, if_values), cdf, n_negatives, 0, 0, 0.0, 0,
        optimizer, learning_rate, regularization, frozen, seed, epoch, deterministic, n_threads,
    )  # fmt: skip


def rating_epoch(
    users: F32, items: F32, user_bias: F32, item_bias: F32, user_state: F32, item_state: F32, user_bias_state: F32,
    item_bias_state: F32, user_steps: I32, item_steps: I32, row_ptr: I64, col_idx: I32, values: F32, rates: F32,
    uf_row_ptr: I64, uf_col_idx: I32, uf_values: F32, if_row_ptr: I64, if_col_idx: I32, if_values: F32,
    mean: float, loss_kind: int, optimizer: int, learning_rate: float, regularization: float,
    frozen: int, seed: int, epoch: int, deterministic: bool, n_threads: int,
) -> Result:  # fmt: skip
    """Descend the loss of every value against mean + b_u + b_i + u.i."""
    return _epoch(
        RATING, (users, user_bias, user_state, user_bias_state, user_steps),
        (items, item_bias, item_state, item_bias_state, item_steps), (row_ptr, col_idx, values, rates),
        (uf_row_ptr, uf_col_idx, uf_values), (if_row_ptr, if_col_idx, if_values), _NO_WEIGHTS, 0, 0, 0, mean, loss_kind,
        optimizer, learning_rate, regularization, frozen, seed, epoch, deterministic, n_threads,
    )  # fmt: skip


def _side(tables: tuple[NDArray[Any], ...], features: tuple[NDArray[Any], ...]) -> Side:
    """Return one side; an absent state becomes one of no numbers per parameter."""
    table, bias, state, bias_state, steps = tables
    n, d = table.shape
    state = state.reshape(n, -1, d) if state.size else np.empty((n, 0, d), np.float32)
    bias_state = bias_state.reshape(n, -1, 1) if bias_state.size else np.empty((n, 0, 1), np.float32)
    return Side(*inputs(table, bias.reshape(-1, 1), state, bias_state, steps, *features))


def _epoch(
    objective: int, user_tables: tuple[NDArray[Any], ...], item_tables: tuple[NDArray[Any], ...],
    matrix: tuple[NDArray[Any], ...], user_features: tuple[NDArray[Any], ...], item_features: tuple[NDArray[Any], ...],
    cdf: F64, n_draws: int, k_os: int, n_os: int, mean: float, loss_kind: int, optimizer: int, learning_rate: float,
    regularization: float, frozen: int, seed: int, epoch: int, deterministic: bool, n_threads: int,
) -> Result:  # fmt: skip
    """Visit every entry; the schedule, and hence the bits, do not depend on the threads (unless lock-free)."""
    users, items = _side(user_tables, user_features), _side(item_tables, item_features)
    entries = Entries(*inputs(*matrix))
    (cdf,) = inputs(cdf)
    n_users = len(entries.row_ptr) - 1
    n_items = len(items.row_ptr) - 1 if len(items.row_ptr) else len(items.table)
    key, alone = np.uint64(seed), not deterministic or frozen == FROZEN_ITEMS
    has_features = len(users.row_ptr) > 0 or len(items.row_ptr) > 0
    n_blocks = 1 if alone or has_features or n_os else count_blocks(n_users, n_items, _BLOCK_ROWS[objective])
    user_blocks = make_blocks(n_users, n_blocks, 0, key, epoch)
    item_blocks = make_item_blocks(n_items, n_blocks, key, epoch)
    pools = [make_pool(item_blocks, n_items, b, cdf) for b in range(n_blocks)]
    options = Options(
        objective, n_items, int(n_draws), int(k_os), int(n_os), float(mean), int(loss_kind), int(optimizer),
        float(learning_rate), float(regularization), int(frozen), key, int(epoch),
    )  # fmt: skip
    longest = int(np.diff(entries.row_ptr).max(initial=0))

    sample = 1 + options.n_draws if objective == LOGISTIC else 2

    def cells(item_block: dict[int, int], n_threads: int) -> list[F64]:
        """Visit the cells at once: each from its key to the next in the order of users; return their totals."""
        bounds = [*item_block, n_users]
        totals = {first: np.zeros(3) for first in bounds}

        def worker() -> Callable[[int, int], object]:
            scratch = make_scratch(items.table.shape[1], sample, longest)
            return lambda first, last: visit_cell(
                first, last, item_block[first], totals[first], users, items, entries, user_blocks.order, item_blocks,
                pools[item_block[first]], scratch, options,
            )  # fmt: skip

        run_pieces(bounds, n_threads, worker)
        return [totals[first] for first in bounds]

    if n_blocks == 1:
        apart = not deterministic or (frozen == FROZEN_ITEMS and not len(users.row_ptr))
        starts = np.searchsorted(entries.row_ptr, np.arange(0, len(entries.col_idx), _PIECE), side="right") - 1
        done = cells(dict.fromkeys(np.unique(starts).tolist(), 0), n_threads if apart else 1)
    else:
        done, start = [], user_blocks.start.tolist()
        for r in range(n_blocks):  # a user block without members has no cell
            done += cells({start[b]: (b + r) % n_blocks for b in range(n_blocks) if start[b] < start[b + 1]}, n_threads)
    loss, n_trained, n_skipped = np.sum(done, axis=0)
    return float(loss), int(n_trained), int(n_skipped)
