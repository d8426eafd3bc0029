"""SLIM by coordinate descent on the residual of one item after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import run_pieces

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


def slim_solve(
    ids: I32, values: F32, counts: I32, items: I32, t_row_ptr: I64, t_col_idx: I32, t_values: F32, row_ptr: I64,
    col_idx: I32, x_values: F32, gram: F32, l1: float, l2: float, nonnegative: bool, tolerance: float, n_passes: int,
    n_threads: int,
) -> int:  # fmt: skip
    """ids[r], values[r] = the counts[r] weights of largest magnitude that predict items[r], by ascending id.

    They minimise 1/2 |x_j - x w|^2 + l1 |w|_1 + l2/2 |w|^2 with w_j = 0. ids, values ``(m, width)``; x ``(n_users,
    n_items)`` sparse, t its transpose. gram is not needed here. Returns the number of items that
    n_passes were not enough for.
    """
    n_users, n_items = len(row_ptr) - 1, len(t_row_ptr) - 1
    arrays: Any = inputs(items, t_row_ptr, t_col_idx, t_values, row_ptr, col_idx, x_values)
    norms = np.empty(n_items, np.float32)
    squared_norms(norms, arrays[1], arrays[3])
    screened = nonnegative and not (x_values < 0).any()
    unfinished = np.zeros(len(items), np.uint8)
    penalties = np.float32(l1), np.float32(l2), np.float32(tolerance)

    def worker() -> Callable[[int, int], object]:
        residual, touched, users = (
            np.zeros(n_users, np.float32),
            np.zeros(n_users, np.uint8),
            np.empty(n_users, np.int32),
        )
        sums, weights = np.zeros(n_items, np.float32), np.zeros(n_items, np.float32)
        found, listed = np.empty(n_items, np.int32), np.empty(n_items, np.int32)
        marks, members = np.full(n_items, -1, np.int32), np.zeros(n_items, np.uint8)

        def run(begin: int, end: int) -> None:
            given: tuple[Any, ...] = (
                ids, values, counts, unfinished, *arrays, norms, *penalties, nonnegative, screened, n_passes, residual,
                touched, users, sums, weights, found, listed, marks, members, begin, end,
            )  # fmt: skip
            _solve_items(*given)

        return run

    if len(items):
        run_pieces(range(len(items) + 1), n_threads, worker)
    return int(unfinished.sum())


@serial
def squared_norms(norms: F32, t_row_ptr: I64, t_values: F32) -> None:
    """norms[i] = |x_i|^2."""
    for i in range(len(norms)):
        total = 0.0
        for e in range(t_row_ptr[i], t_row_ptr[i + 1]):
            total += np.float64(t_values[e]) ** 2 if len(t_values) else 1.0
        norms[i] = total


@serial
def gather(
    sums: F32, found: I32, marks: I32, mark: np.int32, users: I32, factors: F32, row_ptr: I64, col_idx: I32,
    x_values: F32,
) -> int:  # fmt: skip
    """sums[i] = sum_k factors[k] x[users[k], i] (factors empty: 1); returns how many items it lists in found."""
    n_found = 0
    for k in range(len(users)):
        factor = factors[k] if len(factors) else np.float32(1.0)
        for p in range(row_ptr[users[k]], row_ptr[users[k] + 1]):
            i = col_idx[p]
            if marks[i] != mark:
                marks[i] = mark
                sums[i] = 0.0
                found[n_found] = i
                n_found += 1
            sums[i] += factor * x_values[p] if len(x_values) else factor
    return n_found


@serial
def _admit(
    listed: I32, n_listed: int, members: U8, found: I32, n_found: int, sums: F32, item: int, l1: np.float32,
    nonnegative: bool,
) -> int:  # fmt: skip
    """List the items whose gradient calls for a weight; returns the number listed."""
    for k in range(n_found):
        i = found[k]
        gradient = sums[i] if nonnegative else abs(sums[i])
        if i != item and not members[i] and gradient > l1:
            members[i] = 1
            listed[n_listed] = i
            n_listed += 1
    return n_listed


@serial
def _add(
    residual: F32, touched: U8, users: I32, n_users: int, columns: I32, factors: F32, change: np.float32
) -> int:  # fmt: skip
    """residual -= change * x_i; lists the users it is not 0 for, and returns their number."""
    for e in range(len(columns)):
        u = columns[e]
        residual[u] -= change * factors[e] if len(factors) else change
        if not touched[u]:
            touched[u] = 1
            users[n_users] = u
            n_users += 1
    return n_users


@serial
def _solve_items(
    ids: I32, values: F32, counts: I32, unfinished: U8, items: I32, t_row_ptr: I64, t_col_idx: I32, t_values: F32,
    row_ptr: I64, col_idx: I32, x_values: F32, norms: F32, l1: np.float32, l2: np.float32, tolerance: np.float32,
    nonnegative: bool, screened: bool, n_passes: int, residual: F32, touched: U8, users: I32, sums: F32, weights: F32,
    found: I32, listed: I32, marks: I32, members: U8, begin: int, end: int,
) -> None:  # fmt: skip
    """Serve items[begin .. end - 1]. All scratch but marks is as at the start when it returns."""
    mark = np.int32(marks.max()) if len(marks) else np.int32(-1)
    none = sums[:0]
    for row in range(begin, end):
        item = items[row]
        own = slice(t_row_ptr[item], t_row_ptr[item + 1])
        own_values = t_values[own] if len(t_values) else none
        mark += np.int32(1)
        n_found = gather(sums, found, marks, mark, t_col_idx[own], own_values, row_ptr, col_idx, x_values)
        n_listed = _admit(listed, 0, members, found, n_found, sums, item, l1, nonnegative)
        n_users = _add(residual, touched, users, 0, t_col_idx[own], own_values, np.float32(-1.0))
        passes, everything, done = 0, True, False
        while passes < n_passes and not done:
            passes += 1
            largest = np.float32(0.0)
            for k in range(n_listed):
                i = listed[k]
                if not everything and weights[i] == 0:
                    continue
                part = slice(t_row_ptr[i], t_row_ptr[i + 1])
                pull = norms[i] * weights[i]
                for e in range(t_row_ptr[i], t_row_ptr[i + 1]):
                    pull += t_values[e] * residual[t_col_idx[e]] if len(t_values) else residual[t_col_idx[e]]
                weight = np.float32(0.0)
                if pull > l1:
                    weight = (pull - l1) / (norms[i] + l2)
                if pull < -l1 and not nonnegative:
                    weight = (pull + l1) / (norms[i] + l2)
                change = weight - weights[i]
                if change != 0:
                    weights[i] = weight
                    part_values = t_values[part] if len(t_values) else none
                    n_users = _add(residual, touched, users, n_users, t_col_idx[part], part_values, change)
                    largest = max(largest, abs(change))
            if largest > tolerance:
                everything = False
            elif not everything:
                everything = True
            elif screened:
                done = True
            else:  # all gradients, now that the candidates rest
                mark += np.int32(1)
                active = users[:n_users]
                n_found = gather(sums, found, marks, mark, active, residual[active], row_ptr, col_idx, x_values)
                before = n_listed
                n_listed = _admit(listed, n_listed, members, found, n_found, sums, item, l1, nonnegative)
                done = n_listed == before
        unfinished[row] = not done
        counts[row] = _write(ids[row], values[row], listed[:n_listed], weights)
        for k in range(n_listed):
            members[listed[k]], weights[listed[k]] = 0, 0.0
        for k in range(n_users):
            residual[users[k]], touched[users[k]] = 0.0, 0


@serial
def _write(ids: I32, values: F32, listed: I32, weights: F32) -> int:
    """Write the weights of largest magnitude that fit, by ascending id; returns their number."""
    kept = listed[weights[listed] != 0]
    if len(kept) > len(ids):
        kept = np.sort(kept)
        order = np.argsort(-np.abs(weights[kept]), kind="mergesort")
        kept = kept[order[: len(ids)]]
    kept = np.sort(kept)
    ids[: len(kept)] = kept
    values[: len(kept)] = weights[kept]
    return len(kept)
