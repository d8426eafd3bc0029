"""ALS: one half-epoch over the rows of a sparse matrix, and the loss of a whole model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.als_solvers import solve_cg, solve_dual, solve_primal
from recsys_fast._numba.als_subspace import solve_subspace
from recsys_fast._numba.als_tile import Work, features, gather, predict
from recsys_fast._numba.blas import BLOCK, VECTOR_FLOATS
from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import run_pieces

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_CHOLESKY, _CG, _SUBSPACE = 0, 1, 2
_SCORES = 3  # solves nothing: it is how the loss of given rows is had
_DUAL = 4  # only chosen for a row, never asked for
_RESIDENT = 1 << 17  # floats of a row's features that are gathered once and stay in L2
_NARROW = 160  # the largest width at which a system costs less than fetching a long row in every step
_PIECE_WORK = 5e7  # floating-point operations between two looks at what else there is to do: some 10 ms


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
    d = y.shape[1]
    losses = np.zeros(len(x))
    y, spectrum, row_ptr, col_idx, weights, targets = inputs(y, spectrum, row_ptr, col_idx, weights, targets)
    longest = int(np.diff(row_ptr).max(initial=0))
    width = min(block_size, d) if solver == _SUBSPACE else d
    widest = width if solver in (_CHOLESKY, _SUBSPACE) or (solver == _CG and _is_long(longest, d)) else 1

    def worker() -> Callable[[int, int], object]:
        work = _work(d, longest, widest)
        return lambda first, last: _sweep_rows(
            first, last, losses, x, y, spectrum, row_ptr, col_idx, weights, targets, float(target_offset),
            float(regularization), float(nu), float(unobserved_weight), bool(biased), solver, n_steps, width, work,
        )  # fmt: skip

    run_pieces(_pieces(row_ptr, d, width, solver, n_steps).tolist(), n_threads, worker)
    return float(_total(losses))


def als_loss(
    x: F32, y: F32, gram_x: F32, gram_y: F32, row_ptr: I64, col_idx: I32, weights: F32, targets: F32, col_counts: I64,
    target_offset: float, regularization: float, nu: float, unobserved_weight: float, biased: bool, n_threads: int,
) -> float:  # fmt: skip
    """sum_j [t_const - 2 t s + c s^2] + w0 <gram_x, gram_y> + sum_u reg_u |x_u|^2 + sum_i reg_i |y_i|^2, any basis."""
    rows = als_sweep(
        x if x.flags.writeable else x.copy(), y, np.zeros(y.shape[1], np.float32), row_ptr, col_idx, weights, targets,
        target_offset, regularization, nu, unobserved_weight, biased, _SCORES, 0, 1, n_threads,
    )  # fmt: skip
    squares: F64 = np.einsum("ij,ij->i", y, y, dtype=np.float64)
    penalties = squares * regularization * (col_counts + unobserved_weight * len(x)) ** nu
    pairs = unobserved_weight * float(np.einsum("ij,ij->", gram_x, gram_y, dtype=np.float64))
    return rows + pairs + float(_total(penalties))


def _work(d: int, longest: int, widest: int) -> Work:
    """Allocate one thread's scratch space for systems of ``widest`` unknowns at most."""
    packed, system = BLOCK * max(widest, min(d, BLOCK)), widest * widest
    # The tile holds at least what is multiplied at once, and all of a row that is shorter than its system.
    resident = max(VECTOR_FLOATS, BLOCK * d, min(longest * d, max(_RESIDENT, widest * d)))
    sizes = (resident, max(packed, VECTOR_FLOATS), packed, BLOCK * BLOCK, system, system, *[longest] * 4, d)
    return Work._make([*(np.empty(size, np.float32) for size in sizes), np.empty((6, d), np.float32)])


@serial
def _total(values: F64) -> float:
    """Sum in order."""
    total = 0.0
    for i in range(len(values)):
        total += values[i]
    return total


@serial
def _pieces(row_ptr: I64, d: int, width: int, solver: int, n_steps: int) -> I64:
    """Return row numbers that cut the rows into runs of about equal work."""
    n_rows = len(row_ptr) - 1
    bounds = np.zeros(n_rows + 1, np.int64)
    count, work = 0, 0.0
    for u in range(n_rows):
        n = row_ptr[u + 1] - row_ptr[u]
        if solver in (_CHOLESKY, _SUBSPACE):
            size = min(n, width)
            block = 2.0 * n * size * width + size**3 / 3.0
            work += 4.0 * n * d + block * (d / width) * (n_steps if solver == _SUBSPACE else 1)
        else:
            work += (4.0 * n + 20.0) * d * (n_steps + 1)
        if work >= _PIECE_WORK or u == n_rows - 1:
            count += 1
            bounds[count] = u + 1
            work = 0.0
    return bounds[: count + 1]


@serial
def _load_row(
    confidences: F32, linear: F32, y: F32, ids: I32, weights: F32, targets: F32, offset: float, start: int, biased: bool
) -> None:
    """Fill the row's confidences and linear terms: a weight that is not positive is confidence |c| in target 0."""
    last = y.shape[1] - 1
    for j in range(len(ids)):
        c = weights[start + j] if len(weights) > 0 else np.float32(1.0)
        confidences[j] = abs(c)
        if len(targets) == 0:
            linear[j] = np.float32(c + offset) if c > 0.0 else np.float32(0.0)
        elif biased:
            linear[j] = targets[start + j] - y[ids[j], last]
        else:
            linear[j] = targets[start + j]


@serial
def _has_dual(diagonal: F32, confidences: F32, n: int) -> bool:
    """Whether D and the confidences can be divided by."""
    smallest = np.float32(1.0)
    for k in range(len(diagonal)):
        smallest = min(smallest, diagonal[k])
    for j in range(n):
        smallest = min(smallest, confidences[j])
    return bool(smallest > 1e-20)


@serial
def _row_loss(
    x: F32, confidences: F32, linear: F32, scores: F32, n: int, spectrum: F32, penalty: float, w0: float, squared: bool
) -> float:
    """Return the row's loss from its scores, in float64."""
    total = 0.0
    for j in range(n):
        c, t, s = np.float64(confidences[j]), np.float64(linear[j]), np.float64(scores[j])
        total += (t * t if squared else t) - 2.0 * t * s + c * s * s
    for k in range(len(x)):
        value = np.float64(x[k])
        total += (penalty + w0 * spectrum[k]) * value * value
    return total


@serial
def _form(n: int, d: int, width: int, solver: int, dual: bool) -> int:
    """Return how a row is solved: exactly where that costs less than what was asked for."""
    if solver == _CHOLESKY or (solver == _SUBSPACE and width >= d):
        return _DUAL if dual and n < d else _CHOLESKY
    if solver == _SUBSPACE and dual and n <= width:
        return _DUAL
    if solver == _CG and _is_long(n, d):
        return _CHOLESKY
    return solver


@serial
def _is_long(n: int, d: int) -> bool:
    """Whether conjugate gradients would gather the row anew in every step, which costs more than its d x d system."""
    return n * d > _RESIDENT and d <= _NARROW


@serial
def _sweep_rows(
    first: int, last: int, losses: F64, x: F32, y: F32, spectrum: F32, row_ptr: I64, col_idx: I32, weights: F32,
    targets: F32, offset: float, reg: float, nu: float, w0: float, biased: bool, solver: int, n_steps: int,
    width: int, work: Work,
) -> None:  # fmt: skip
    """Solve rows first..last."""
    m, d = y.shape
    c, t, s, tile, diagonal = work.confidences, work.linear, work.scores, work.tile, work.diagonal
    for u in range(first, last):
        start, n = row_ptr[u], row_ptr[u + 1] - row_ptr[u]
        row, ids = x[u], col_idx[start : start + n]
        if n == 0 and solver != _SCORES:
            row[:] = 0.0
            continue
        penalty = reg * (n + w0 * m) ** nu
        for k in range(d):
            diagonal[k] = w0 * spectrum[k] + penalty
        _load_row(c, t, y, ids, weights, targets, offset, start, biased)
        form = _form(n, d, width, solver, _has_dual(diagonal, c, n))
        if n * d <= len(tile) and form != _SUBSPACE:
            gather(tile, y, ids, 0, n, biased)
        if form == _DUAL:
            solve_dual(row, s[:n], features(tile, y, ids, 0, n, biased), t[:n], diagonal, work)
        elif form == _CHOLESKY:
            solve_primal(row, y, ids, work, biased)
        elif form == _CG:
            solve_cg(row, y, ids, work, biased, n_steps)
        elif form == _SUBSPACE:
            solve_subspace(row, y, ids, work, biased, n_steps, width)
        else:
            predict(s, tile, y, ids, row, biased)
        losses[u] = _row_loss(row, c, t, s, n, spectrum, penalty, w0, len(targets) > 0)
