"""The best columns of every row of a product with a sparse left side; the product itself is never held."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_number
from recsys_fast.ops.csr import Csr, as_csr
from recsys_fast.ops.topk import F32, I32, as_candidates, as_count, as_factors, as_mask, as_out

_NO_IDS = np.empty(0, np.int32)
_NO_NORMS = np.empty(0, np.float32)
_MODES = {"none": 0, "product": 1, "union": 2}


def product_topk(
    a: Any,
    b: Any,
    n: int,
    *,
    seen: Any = None,
    include: ArrayLike | None = None,
    exclude: ArrayLike | None = None,
    normalize: str = "none",
    row_norms: ArrayLike | None = None,
    col_norms: ArrayLike | None = None,
    shrinkage: float = 0.0,
    zeros: bool = True,
    out: tuple[I32, F32] | None = None,
    check: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[I32, F32]:
    """Return the ``n`` largest entries of every row of ``a @ b``; exact, and never more than a row at a time.

    With ``s = (a @ b)[r, c]``, ``x = row_norms[r]`` and ``y = col_norms[c]`` the score is

    - ``normalize="none"``: ``s``, as recommendation needs it;
    - ``normalize="product"``: ``s / (x y + shrinkage)``, as cosine does;
    - ``normalize="union"``: ``s / (x + y - s + shrinkage)``, as Jaccard does;

    and 0 where the denominator is not positive. ``s`` is summed in float32 in the order of the row's entries, so that
    the bits of a row depend neither on the other rows nor on the number of threads.

    Args:
        a: sparse ``(m, k)`` (scipy, ``Csr``, ``Interactions``).
        b: sparse ``(k, n_cols)``, or dense ``(k, n_cols)`` (then only ``normalize="none"`` and ``zeros=True``).
        n: length of the lists; may exceed ``n_cols``.
        seen: sparse ``(m, n_cols)``: row r holds the columns not to return for row r; its values do not matter.
        include: columns to choose from, in any order, duplicates allowed; None for all.
        exclude: columns never to return.
        normalize: "none", "product" or "union".
        row_norms: ``(m,)``, finite, at least 0; needed unless "none".
        col_norms: ``(n_cols,)``, likewise.
        shrinkage: at least 0.
        zeros: whether columns of score 0 may be returned (recommendation) or not (neighbours).
        out: (ids, scores) to write into: contiguous int32 and float32 ``(m, n)``, apart from the inputs. On a GPU if a
            dense ``b`` is there; the results are where ``out`` or a dense ``b`` lies.
        check: validate ``a`` and ``b`` first. Without it they have to be what ``as_csr`` (or a finite float32 table)
            returns: a damaged ``Csr`` is then not found, and crashes.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ids ``(m, n) int32`` and scores ``(m, n) float32``: score descending, then column ascending. Rows with fewer
        than ``n`` eligible columns end in -1 and -inf.

    Raises:
        TypeError: a dense ``a``, ids that are not integers, ``out`` of another dtype.
        ValueError: shapes that disagree, values that are not finite, norms below 0, ``n`` < 0, a damaged matrix,
            ``out`` shares memory with an input.
        IndexError: an id in ``include`` or ``exclude`` outside 0 .. n_cols - 1.
    """
    if out is not None and (not isinstance(out, tuple) or len(out) != 2):
        raise TypeError(message("out", type(out).__name__, "a tuple (ids, scores)"))
    given, dense = out if out is not None else (None, None), not _is_sparse(b)
    device = backend.place(device, b=b if dense else None, **{"out[0]": given[0], "out[1]": given[1]})
    left = _sparse(a, "a", check, device, n_threads)
    right = as_factors(b, "b", check) if dense else _sparse(b, "b", check, device, n_threads)
    (m, k), (k_right, n_cols) = left.shape, right.shape
    if k != k_right:
        got = f"a of {left.shape}, b of {right.shape}"
        raise ValueError(message("shapes of a and b", got, "as many rows of b as columns of a"))
    n = as_count(n, "n", 0)
    candidates = as_candidates(include, exclude, n_cols)
    seen_row_ptr, seen_col_idx = as_mask(seen, (m, n_cols), device, n_threads)
    if normalize not in _MODES:
        raise ValueError(message("normalize", repr(normalize), "one of " + ", ".join(map(repr, _MODES))))
    mode = _MODES[normalize]
    rows, cols = _norms(row_norms, "row_norms", mode, m), _norms(col_norms, "col_norms", mode, n_cols)
    penalty = as_number(shrinkage, "shrinkage")
    entries = left.row_ptr, left.col_idx, left.or_empty()
    others = (right.row_ptr, right.col_idx, right.or_empty()) if isinstance(right, Csr) else (right,)
    inputs = (*entries, *others, seen_row_ptr, seen_col_idx, rows, cols)
    arrays = backend.arrays("cuda" if on_device(right) or on_device(given[0]) else "numba")
    if out is None:
        ids, scores = arrays.empty((m, n), np.int32), arrays.empty((m, n), np.float32)
    else:
        ids = as_out(out[0], "out[0]", (m, n), np.int32, inputs)
        scores = as_out(out[1], "out[1]", (m, n), np.float32, (*inputs, ids))
    if candidates is not None and not len(candidates):  # to the backend an empty array means every column
        ids[...] = arrays.asarray(np.full((m, n), -1, np.int32))
        scores[...] = arrays.asarray(np.full((m, n), -np.inf, np.float32))
        return ids, scores
    chosen = _NO_IDS if candidates is None else candidates
    threads = backend.resolve_threads(n_threads)
    if not isinstance(right, Csr):
        if mode or not zeros:
            got = f"normalize={normalize!r}, zeros={zeros}"
            raise ValueError(message("product with a dense b", got, "normalize='none', zeros=True"))
        backend.get(device).product_topk_dense(
            ids, scores, *entries, right, chosen, seen_row_ptr, seen_col_idx, threads
        )
        return ids, scores
    backend.get(device).product_topk(
        ids, scores, *entries, *others, n_cols, chosen, seen_row_ptr, seen_col_idx, rows, cols, mode, penalty,
        not zeros, threads,
    )  # fmt: skip
    return ids, scores


def _is_sparse(matrix: Any) -> bool:
    return isinstance(matrix, Csr) or hasattr(matrix, "tocsr") or hasattr(matrix, "csr")


def _sparse(matrix: Any, name: str, check: bool, device: str, n_threads: int | None) -> Csr:
    if isinstance(matrix, Csr) and not check:
        return matrix
    return as_csr(matrix, name, device=device, n_threads=n_threads)


def _norms(norms: ArrayLike | None, name: str, mode: int, size: int) -> NDArray[np.float32]:
    """Return norms as ``(size,) float32``; an empty array where the mode needs none."""
    if mode == 0:
        if norms is not None:
            raise ValueError(message(name, "an array", "None with normalize='none'"))
        return _NO_NORMS
    if norms is None:
        raise ValueError(message(name, None, f"({size},) numbers"))
    given = np.asarray(norms)
    if given.dtype.kind not in "biuf":
        raise TypeError(message(name, f"dtype {given.dtype}", "bool, integer or floating point"))
    if given.shape != (size,):
        raise ValueError(message(f"shape of {name}", given.shape, f"({size},)"))
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(given, np.float32)
    if size and not (array.min() >= 0 and array.max() < np.inf):
        at = int(np.flatnonzero(~((array >= 0) & (array < np.inf)))[0])
        raise ValueError(message(f"{name}[{at}]", given[at], "a finite float32 of at least 0"))
    return array
