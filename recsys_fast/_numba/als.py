"""ALS: one half-epoch over the rows of a sparse matrix, and the loss of a whole model."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.als_solvers import solve_cg, solve_dual, solve_primal
from recsys_fast._numba.als_subspace import solve_subspace
from recsys_fast._numba.als_tile import Work, features, gather, predict
from recsys_fast._numba.cholesky import PANEL
from recsys_fast._numba.parallel import parallel, serial, threads

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_RESIDENT = 1 << 17  # floats of a row's features that are gathered once and stay in L2
_PIECES = 8  # pieces of equal work per thread, so that one heavy row does not leave the others waiting
# Products below these sizes run on the calling thread in OpenBLAS, which is what a parallel loop wants.
_VECTOR_FLOATS = 9216
_MATRIX_WORK = 1 << 18


def als_sweep(
    x: F32, y: F32, spectrum: F32, row_ptr: I64, col_idx: I32, weights: F32, targets: F32,
    target_offset: float, regularization: float, nu: float, unobserved_weight: float,
    biased: bool, solver: int, n_steps: int, block_size: int, n_threads: int,
) -> float:  # fmt: skip
    """x_u = argmin sum_j [-2 t s + c s^2] + w0 sum_k spectrum_k x_k^2 + reg_u |x|^2 for every row u; returns the loss.

    x ``(n, d)`` overwritten (and the start of the iterative solvers), y ``(m, d)`` in the basis of its Gram matrix.
    Rows are independent and the losses are added in row order: the same bits for any number of threads.
    Hu, Koren, Volinsky 2008; Takacs, Pilaszy, Tikk 2011; Rendle et al. 2021.
    """
    losses = np.zeros(len(x))
    longest = int(np.diff(row_ptr).max(initial=0))
    width = y.shape[1] if solver == 0 else min(block_size, y.shape[1])
    with threads(n_threads):
        _sweep(
            _pieces(row_ptr, y.shape[1], _PIECES * n_threads), longest, losses,
            x, y, spectrum, row_ptr, col_idx, weights, targets, float(target_offset), float(regularization), float(nu),
            float(unobserved_weight), bool(biased), solver, n_steps, width,
        )  # fmt: skip
    return _total(losses)


def als_loss(
    x: F32, y: F32, gram_x: F32, gram_y: F32, row_ptr: I64, col_idx: I32, weights: F32, targets: F32, col_counts: I64,
    target_offset: float, regularization: float, nu: float, unobserved_weight: float, biased: bool, n_threads: int,
) -> float:  # fmt: skip
    """sum_j [t_const - 2 t s + c s^2] + w0 <gram_x, gram_y> + sum_u reg_u |x_u|^2 + sum_i reg_i |y_i|^2, any basis."""
    losses, penalties = np.zeros(len(x)), np.zeros(len(y))
    longest = int(np.diff(row_ptr).max(initial=0))
    offset, reg, nu, w0 = float(target_offset), float(regularization), float(nu), float(unobserved_weight)
    with threads(n_threads):
        pieces = _pieces(row_ptr, y.shape[1], _PIECES * n_threads)
        _losses(pieces, longest, losses, x, y, row_ptr, col_idx, weights, targets, offset, reg, nu, w0, bool(biased))
        _penalties(penalties, y, col_counts, reg, nu, w0 * len(x))
    unobserved = w0 * float(np.vdot(gram_x.astype(np.float64), gram_y)) if w0 else 0.0
    return _total(losses) + unobserved + _total(penalties)


@serial
def _total(values: F64) -> float:
    """Sum in order."""
    total = 0.0
    for i in range(len(values)):
        total += values[i]
    return total


@serial
def _pieces(row_ptr: I64, d: int, n_pieces: int) -> I64:
    """Return (n_pieces + 1,) row numbers that cut the rows into runs of about equal work."""
    n = len(row_ptr) - 1
    bounds = np.zeros(n_pieces + 1, np.int64)
    total = row_ptr[n] + n * (1 + d // 4)
    row = 0
    for piece in range(1, n_pieces + 1):
        while row < n and (row_ptr[row] + row * (1 + d // 4)) * n_pieces < total * piece:
            row += 1
        bounds[piece] = row
    bounds[n_pieces] = n
    return bounds


@serial
def _work(d: int, longest: int, widest: int) -> Work:
    """Allocate one thread's scratch space for systems of ``widest`` unknowns at most."""
    step = max(16, _VECTOR_FLOATS // d, _matrix_step(d))
    resident = max(step * d, min(longest * d, max(_RESIDENT, widest * widest)))
    return Work(
        np.empty(resident, np.float32), np.empty(max(step, PANEL) * d, np.float32),
        np.empty(widest * widest, np.float32), np.empty(widest * widest, np.float32),
        np.empty(longest, np.float32), np.empty(longest, np.float32),
        np.empty(longest, np.float32), np.empty(longest, np.float32),
        np.empty(d, np.float32), np.empty((6, d), np.float32),
    )  # fmt: skip


@serial
def _matrix_step(d: int) -> int:
    """Entries per product of d x d systems."""
    return max(16, min(64, _MATRIX_WORK // (d * d)))


@serial
def _load_row(
    work: Work, y: F32, ids: I32, weights: F32, targets: F32, offset: float, start: int, biased: bool,
) -> None:  # fmt: skip
    """Fill the row's confidences and linear terms: a weight that is not positive is confidence |c| in target 0."""
    last = y.shape[1] - 1
    for j in range(len(ids)):
        c = weights[start + j] if len(weights) > 0 else np.float32(1.0)
        work.confidences[j] = abs(c)
        if len(targets) == 0:
            work.linear[j] = np.float32(c + offset) if c > 0.0 else np.float32(0.0)
        elif biased:
            work.linear[j] = targets[start + j] - y[ids[j], last]
        else:
            work.linear[j] = targets[start + j]


@serial
def _has_dual(work: Work, n: int) -> bool:
    """Whether D and the confidences can be divided by."""
    smallest = np.float32(1.0)
    for k in range(len(work.diagonal)):
        smallest = min(smallest, work.diagonal[k])
    for j in range(n):
        smallest = min(smallest, work.confidences[j])
    return bool(smallest > 1e-20)


@serial
def _row_loss(x: F32, work: Work, n: int, spectrum: F32, penalty: float, w0: float, squared: bool) -> float:
    """Return the row's loss from its scores, in float64."""
    total = 0.0
    for j in range(n):
        c, t, s = np.float64(work.confidences[j]), np.float64(work.linear[j]), np.float64(work.scores[j])
        total += (t * t if squared else t) - 2.0 * t * s + c * s * s
    for k in range(len(x)):
        value = np.float64(x[k])
        total += (penalty + w0 * (spectrum[k] if len(spectrum) > 0 else 0.0)) * value * value
    return total


@serial
def _sweep_rows(
    first: int, last: int, losses: F64, x: F32, y: F32, spectrum: F32, row_ptr: I64, col_idx: I32, weights: F32,
    targets: F32, offset: float, reg: float, nu: float, w0: float, biased: bool, solver: int, n_steps: int,
    block_size: int, work: Work,
) -> None:  # fmt: skip
    """Solve rows first..last."""
    m, d = y.shape
    step = max(16, _VECTOR_FLOATS // d)
    for u in range(first, last):
        start, n = row_ptr[u], row_ptr[u + 1] - row_ptr[u]
        row, ids = x[u], col_idx[start : start + n]
        if n == 0:
            row[:] = 0.0
            continue
        penalty = reg * (n + w0 * m) ** nu
        for k in range(d):
            work.diagonal[k] = w0 * spectrum[k] + penalty
        _load_row(work, y, ids, weights, targets, offset, start, biased)
        dual = solver != 1 and n < block_size and _has_dual(work, n)
        if n * d <= len(work.tile) and solver != 2:
            gather(work, y, ids, 0, n, biased)
        if solver == 0 and dual:
            solve_dual(row, work.scores[:n], features(work, y, ids, 0, n, biased), work.linear[:n], work.diagonal, work)
        elif solver == 0:
            solve_primal(row, y, ids, work, biased, _matrix_step(d))
        elif solver == 1:
            solve_cg(row, y, ids, work, biased, n_steps, step)
        else:
            solve_subspace(row, y, ids, work, biased, n_steps, block_size, dual, _matrix_step(block_size))
        losses[u] = _row_loss(row, work, n, spectrum, penalty, w0, len(targets) > 0)


@parallel
def _sweep(
    pieces: I64, longest: int, losses: F64, x: F32, y: F32, spectrum: F32, row_ptr: I64, col_idx: I32, weights: F32,
    targets: F32, offset: float, reg: float, nu: float, w0: float, biased: bool, solver: int, n_steps: int,
    block_size: int,
) -> None:  # fmt: skip
    """Every piece of rows with scratch space of its own."""
    for piece in prange(len(pieces) - 1):
        _sweep_rows(
            pieces[piece], pieces[piece + 1], losses, x, y, spectrum, row_ptr, col_idx, weights, targets, offset, reg,
            nu, w0, biased, solver, n_steps, block_size, _work(y.shape[1], longest, 1 if solver == 1 else block_size),
        )  # fmt: skip


@serial
def _losses_rows(
    first: int, last: int, losses: F64, x: F32, y: F32, row_ptr: I64, col_idx: I32, weights: F32, targets: F32,
    offset: float, reg: float, nu: float, w0: float, biased: bool, work: Work,
) -> None:  # fmt: skip
    """losses[u] = observed part + reg_u |x_u|^2 for rows first..last."""
    m, d = y.shape
    step = max(16, _VECTOR_FLOATS // d)
    nothing = np.empty(0, np.float32)
    for u in range(first, last):
        start, n = row_ptr[u], row_ptr[u + 1] - row_ptr[u]
        ids = col_idx[start : start + n]
        _load_row(work, y, ids, weights, targets, offset, start, biased)
        if n * d <= len(work.tile):
            gather(work, y, ids, 0, n, biased)
        predict(work, y, ids, x[u], biased, step)
        losses[u] = _row_loss(x[u], work, n, nothing, reg * (n + w0 * m) ** nu, 0.0, len(targets) > 0)


@parallel
def _losses(
    pieces: I64, longest: int, losses: F64, x: F32, y: F32, row_ptr: I64, col_idx: I32, weights: F32, targets: F32,
    offset: float, reg: float, nu: float, w0: float, biased: bool,
) -> None:  # fmt: skip
    """Every piece of rows with scratch space of its own."""
    for piece in prange(len(pieces) - 1):
        _losses_rows(
            pieces[piece], pieces[piece + 1], losses, x, y, row_ptr, col_idx, weights, targets, offset, reg, nu, w0,
            biased, _work(y.shape[1], longest, 1),
        )  # fmt: skip


@parallel
def _penalties(penalties: F64, y: F32, counts: I64, reg: float, nu: float, base: float) -> None:
    """penalties[i] = reg_i |y_i|^2."""
    for i in prange(len(y)):
        total = 0.0
        for k in range(y.shape[1]):
            total += np.float64(y[i, k]) * np.float64(y[i, k])
        penalties[i] = reg * (counts[i] + base) ** nu * total
