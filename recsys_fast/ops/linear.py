"""What linear item models are made of: the items' Gram matrix, its inverse, and regressions of single items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_indices, as_number
from recsys_fast.ops.csr import Csr, as_csr, csr_transpose
from recsys_fast.ops.gram import all_finite, as_writable
from recsys_fast.ops.topk import F32, I32, as_count, as_out

_CHUNK = 1 << 22  # weights that a call of the backend has room for: 32 MB
DEVICE_CHUNK = 1 << 25  # the same on a device, which solves for many items at once: 256 MB there and here
_MOST_GRAM = 1 << 30  # entries of a Gram matrix that slim_solve makes: 4 GB
_GRAM_SHARE = 4  # its entries per multiply-add of making it, at most


def csr_gram(
    matrix: Any,
    *,
    regularization: float = 0.0,
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Return x^T x + regularization I of a sparse matrix as a dense one; x^T x is summed in float64, rounded once.

    Args:
        matrix: sparse ``(m, n)``: scipy, ``Csr`` or ``Interactions``; without values every entry counts 1.
        regularization: added to the diagonal; at least 0.
        out: ``(n, n) float32``, C-contiguous, to write into, on the device or not; None for a new NumPy array.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Returns:
        ``(n, n) float32``, exactly symmetric; ``out`` where it was given.

    Raises:
        TypeError: a dense ``matrix``, or ``out`` is not float32.
        ValueError: a damaged ``matrix``, ``out`` of another shape, not contiguous, read-only or sharing memory with
            ``matrix``, a regularization below 0, or sums beyond float32.
    """
    device = backend.place(device, out=out)
    penalty = as_number(regularization, "regularization")
    csr = as_csr(matrix, "matrix", device=device, n_threads=n_threads)
    result: F32 = as_out(out, "out", (csr.n_cols, csr.n_cols), np.float32, _entries(csr))
    transposed = csr_transpose(csr, device=device, n_threads=n_threads)
    threads = backend.resolve_threads(n_threads)
    backend.get(device).csr_gram(result, *_entries(transposed), *_entries(csr), penalty, threads)
    if not all_finite(result if on_device(result) else result.diagonal()):  # which holds the largest entry
        raise ValueError(message("x^T x exceeds float32", mend="scale the values down"))
    return result


def spd_invert(a: F32, *, device: str = "auto", n_threads: int | None = None) -> F32:
    """Invert a symmetric positive definite matrix in place: a <- a^-1, ``n^3`` operations.

    The bits do not depend on ``n_threads`` on "cpu". "numba" calls LAPACK, whose threads are set as for NumPy.

    Args:
        a: ``(n, n) float32``, C-contiguous, writable, on the device or not; its lower triangle is read, all of it
            is written.
        device: backend.
        n_threads: number of threads; None for every CPU granted.

    Returns:
        ``a``, exactly symmetric.

    Raises:
        TypeError: ``a`` is no array of float32.
        ValueError: ``a`` is not square, not contiguous or read-only; or it is not positive definite (singular up to
            rounding, or not finite), and is then destroyed.
    """
    device = backend.place(device, a=a)
    as_writable(a, "a")
    if a.shape[0] != a.shape[1]:
        raise ValueError(message("shape of a", a.shape, "(n, n)"))
    where = int(backend.get(device).spd_invert(a, backend.resolve_threads(n_threads)))
    if where >= 0:
        mend = "add to its diagonal (raise the regularization)"
        raise ValueError(message(f"the matrix is not positive definite in float32 from row {where} on", mend=mend))
    return a


def slim_solve(
    matrix: Any,
    items: ArrayLike | None = None,
    *,
    l1: float,
    l2: float,
    nonnegative: bool = True,
    tolerance: float = 1e-4,
    n_passes: int = 1000,
    k: int | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[Csr, int]:
    """Return sparse weights that predict each item from the others: the elastic net of SLIM (Ning & Karypis 2011).

    For every item j: minimise ``1/2 |x_j - x w|^2 + l1 |w|_1 + l2/2 |w|^2`` with ``w_j = 0``, by coordinate descent.

    Args:
        matrix: sparse ``(m, n)`` x: scipy, ``Csr`` or ``Interactions``; without values every entry counts 1.
        items: the items to predict; None for all.
        l1: weight of the absolute values, at least 0; larger is sparser.
        l2: weight of the squares, at least 0.
        nonnegative: whether w >= 0 is asked for.
        tolerance: an item is done when a pass over all its candidates changes no weight by more.
        n_passes: most passes per item.
        k: keep the k weights of largest magnitude; None for all.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Returns:
        ``(len(items), n)`` with float32 values, row r predicting ``items[r]`` (so its transpose is what histories are
        multiplied by), and the number of items that ``n_passes`` were not enough for.

    Raises:
        TypeError: a dense ``matrix``, or items that are not integers.
        ValueError: a damaged matrix, or a number out of its range.
        IndexError: an item outside 0 .. n - 1.
    """
    for name, value in (("l1", l1), ("l2", l2), ("tolerance", tolerance)):
        if not 0 <= value < np.inf:
            raise ValueError(message(name, value, f"0 <= {name}, finite"))
    as_count(n_passes, "n_passes", 1)
    options = (float(l1), float(l2), bool(nonnegative), float(tolerance), int(n_passes))
    threads = backend.resolve_threads(n_threads)
    csr = as_csr(matrix, "matrix", device=device, n_threads=n_threads)
    n = csr.n_cols if slim_needs_gram(csr) else 0
    gram: F32 = backend.arrays(backend.place(device)).empty((n, n), np.float32)
    if n:
        csr_gram(csr, out=gram, device=device, n_threads=n_threads)
    solve = backend.get(device).slim_solve
    return _in_chunks(csr, items, k, device, n_threads, lambda *arrays: solve(*arrays, gram, *options, threads))


def slim_needs_gram(csr: Csr) -> bool:
    """Return whether ``slim_solve`` makes the dense Gram matrix first.

    Its rows are cheaper to read than to count from the users' lists once an average pair of items shares a fraction of
    a user; on a sparser set most of it would be zeros.
    """
    work = float(np.square(np.diff(csr.row_ptr).astype(np.float64)).sum())
    return csr.n_cols**2 <= min(_MOST_GRAM, _GRAM_SHARE * work)


def ridge_solve(
    matrix: Any,
    items: ArrayLike | None = None,
    *,
    regularization: float,
    k: int,
    device: str = "auto",
    n_threads: int | None = None,
) -> Csr:
    """Return weights that predict each item from the k items it has most in common with, by exact ridge regression.

    For every item j: minimise ``|x_j - x w|^2 + regularization |w|^2`` over the k items i of largest
    ``x_i . x_j / sqrt(|x_i|^2 + regularization)``. With ``k >= n - 1`` all items take part, also those that share no
    row with j, and the weights are those of EASE (Steck 2019).

    Args:
        matrix: sparse ``(m, n)`` x: scipy, ``Csr`` or ``Interactions``; without values every entry counts 1.
        items: the items to predict; None for all.
        regularization: at least 0.
        k: most weights per item, at least 1.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Returns:
        ``(len(items), n)`` with float32 values, row r predicting ``items[r]``.

    Raises:
        TypeError: a dense ``matrix``, or items that are not integers.
        ValueError: a damaged matrix, a number out of its range, or a regression that has no unique solution.
        IndexError: an item outside 0 .. n - 1.
    """
    if not 0 <= regularization < np.inf:
        raise ValueError(message("regularization", regularization, "0 <= regularization, finite"))
    threads = backend.resolve_threads(n_threads)
    solve, penalty = backend.get(device).ridge_solve, float(regularization)
    weights, failed = _in_chunks(matrix, items, k, device, n_threads, lambda *arrays: solve(*arrays, penalty, threads))
    if failed:
        got = f"{failed} items whose system is not positive definite in float32"
        raise ValueError(message("ridge regressions", got, mend="raise the regularization"))
    return weights


def _entries(csr: Csr) -> tuple[NDArray[np.int64], I32, F32]:
    return csr.row_ptr, csr.col_idx, np.empty(0, np.float32) if csr.values is None else csr.values


def _in_chunks(
    matrix: Any, items: ArrayLike | None, k: int | None, device: str, n_threads: int | None, solve: Callable[..., int]
) -> tuple[Csr, int]:
    """Solve for few items at a time, so that only weights that are kept need memory; returns them and the failures."""
    csr = as_csr(matrix, "matrix", device=device, n_threads=n_threads)
    n = csr.n_cols
    there = backend.arrays(backend.place(device))
    wanted = np.arange(n, dtype=np.int32) if items is None else _as_items(items, n)
    width = max(1, n - 1) if k is None else min(as_count(k, "k", 1), max(1, n - 1))
    transposed = csr_transpose(csr, device=device, n_threads=n_threads)
    entries = tuple(there.asarray(array) for array in (*_entries(transposed), *_entries(csr)))
    size = max(1, (DEVICE_CHUNK if on_device(entries[0]) else _CHUNK) // width)
    shape = min(size, len(wanted)), width
    ids, values = there.empty(shape, np.int32), there.empty(shape, np.float32)
    kept_ids, kept_values = [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    row_ptr, failed = np.zeros(len(wanted) + 1, np.int64), 0
    for start in range(0, len(wanted), size):
        part = wanted[start : start + size]
        found = ids[: len(part)], values[: len(part)], there.zeros(len(part), np.int32)
        failed += solve(*found, there.asarray(part), *entries)
        found_ids, found_values, counts = map(there.to_host, found)
        row_ptr[start + 1 : start + 1 + len(part)] = counts
        rows = list(enumerate(counts.tolist()))
        kept_ids.append(np.concatenate([found_ids[row, :count] for row, count in rows]))
        kept_values.append(np.concatenate([found_values[row, :count] for row, count in rows]))
    np.cumsum(row_ptr, out=row_ptr)
    return Csr(row_ptr, np.concatenate(kept_ids), np.concatenate(kept_values), len(wanted), n), failed


def _as_items(items: ArrayLike, n: int) -> I32:
    """Return ``items`` as ``(m,) int32``, in their order."""
    array = np.asarray(items)
    if array.ndim != 1:
        raise ValueError(message("items", f"shape {array.shape}", "a 1-D array of item ids"))
    return as_indices(array, "items", 0, n)
