"""Exact top-k by inner product, and the checks of factors, candidates and masks that the ranking operations share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import message
from recsys_fast.ops.csr import Csr, as_csr

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
_NO_ROWS = np.empty(0, np.int64)
_NO_IDS = np.empty(0, np.int32)


def as_factors(array: ArrayLike, name: str, check_finite: bool = True) -> F32:
    """Return ``array`` as ``(n, d) float32``, contiguous; a copy only where it is not that already.

    Raises:
        TypeError: sparse, or of a dtype that holds no real numbers.
        ValueError: not 2-D, or (with ``check_finite``) NaN, infinite or beyond float32.
    """
    if on_device(array):
        there: F32 = device_factors(array, name, check_finite)
        return there
    if hasattr(array, "tocsr"):
        mend = f"pass {name}.toarray(), or use a model that takes sparse input"
        raise TypeError(message(name, type(array).__name__, "a dense 2-D array of factors", mend))
    given = np.asarray(array)
    if given.dtype.kind not in "biuf":
        raise TypeError(message(name, f"dtype {given.dtype}", "bool, integer or floating point"))
    if given.ndim != 2:
        raise ValueError(message(name, f"shape {given.shape}", "2 dimensions, (n, d)"))
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, which is named below
        factors = np.ascontiguousarray(given, dtype=np.float32)
    if check_finite and not _is_finite(factors):
        row, col = np.argwhere(~np.isfinite(factors))[0]
        raise ValueError(message(f"{name}[{row}, {col}]", given[row, col], "a finite float32"))
    return factors


def device_factors(array: Any, name: str, check_finite: bool = True) -> Any:
    """Return an array on the device as ``(n, d) float32``, contiguous; the same errors as ``as_factors``."""
    given = backend.arrays("cuda").asarray(array)
    if given.dtype.kind not in "biuf":
        raise TypeError(message(name, f"dtype {given.dtype}", "bool, integer or floating point"))
    if given.ndim != 2:
        raise ValueError(message(name, f"shape {given.shape}", "2 dimensions, (n, d)"))
    factors = backend.arrays("cuda").asarray(given, np.float32)
    if check_finite and given.dtype.kind == "f":
        where = backend.get("cuda").find_not_finite(factors)
        if where >= 0:
            row, col = divmod(where, given.shape[1])
            got = backend.arrays("cuda").to_host(given[row : row + 1])[0, col]
            raise ValueError(message(f"{name}[{row}, {col}]", got, "a finite float32"))
    return factors


def _is_finite(factors: F32) -> bool:
    """Say whether every element is finite, in one pass and without a temporary array.

    A finite sum of squares says so; one that is not may only have overflowed, and then the extremes decide.
    """
    flat = factors.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.dot(flat, flat)):
            return True
    return bool(np.isfinite(flat.min()) and np.isfinite(flat.max()))


def as_pair(items: ArrayLike, queries: ArrayLike, check_finite: bool = True) -> tuple[F32, F32]:
    """Return items ``(n_items, d)`` and queries ``(m, d)`` as float32 after checking that their widths agree."""
    left, right = as_factors(items, "items", check_finite), as_factors(queries, "queries", check_finite)
    if left.shape[1] != right.shape[1]:
        got = f"items of {left.shape[1]} factors, queries of {right.shape[1]}"
        raise ValueError(message("width of items and queries", got, "one width", "items come first, then queries"))
    return left, right


def as_ids(ids: ArrayLike, name: str, n_items: int) -> I32:
    """Return ``ids`` as sorted unique int32.

    Raises:
        TypeError: not integers.
        ValueError: not 1-D.
        IndexError: an id that is negative or not below ``n_items``; the message holds it.
    """
    array = np.asarray(ids)
    if array.ndim != 1:
        raise ValueError(message(name, f"shape {array.shape}", "a 1-D array of item ids"))
    if not array.size:
        return _NO_IDS
    if array.dtype.kind not in "iu":
        mend = f"for a mask pass np.flatnonzero({name})" if array.dtype.kind == "b" else None
        raise TypeError(message(name, f"dtype {array.dtype}", "an integer dtype", mend))
    outside = (array < 0) | (array >= n_items)
    if outside.any():
        raise IndexError(message(f"{name} holds item {array[outside][0]}", expected=f"0 <= item < {n_items}"))
    return np.unique(array).astype(np.int32)


def as_candidates(include: ArrayLike | None, exclude: ArrayLike | None, n_items: int) -> I32 | None:
    """Return the sorted ids of ``include`` (all items if None) without those of ``exclude``; None for all items."""
    kept = None if include is None else as_ids(include, "include", n_items)
    if exclude is None:
        return kept
    dropped = as_ids(exclude, "exclude", n_items)
    if kept is None:
        keep = np.ones(n_items, np.bool_)
        keep[dropped] = False
        return np.flatnonzero(keep).astype(np.int32)
    return np.setdiff1d(kept, dropped, assume_unique=True)


def as_rows(matrix: Any, name: str, shape: tuple[int, int], device: str, n_threads: int | None) -> Csr:
    """Return ``matrix`` as a canonical Csr after checking that it has ``shape``."""
    csr = as_csr(matrix, name, device=device, n_threads=n_threads)
    if csr.shape != shape:
        mend = "it has a row per query and a column per item"
        if csr.shape == shape[::-1]:
            mend = f"it looks transposed: pass {name}.T"
        raise ValueError(message(f"shape of {name}", csr.shape, f"{shape}", mend))
    return csr


def as_mask(seen: Any, shape: tuple[int, int], device: str, n_threads: int | None) -> tuple[NDArray[np.int64], I32]:
    """Return row pointers and sorted columns of ``seen``; arrays of length 0 where there is none."""
    if seen is None:
        return _NO_ROWS, _NO_IDS
    csr = as_rows(seen, "seen", shape, device, n_threads)
    return csr.row_ptr, csr.col_idx


def as_count(value: Any, name: str, lowest: int) -> int:
    """Return ``value`` as an int of at least ``lowest``."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(message(name, type(value).__name__, "an int"))
    count = int(value.__index__())
    if not lowest <= count < 2**31:
        raise ValueError(message(name, count, f"{lowest} to 2**31 - 1"))
    return count


def as_out(array: Any, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Return ``array`` after checking that results can be written into it, or a new array for None."""
    if array is None:
        return np.empty(shape, dtype)
    if on_device(array):
        there: NDArray[Any] = device_out(array, name, shape, dtype)
        return there
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        got = getattr(array, "dtype", type(array).__name__)
        raise TypeError(message(name, got, f"an array of {np.dtype(dtype)}"))
    if array.shape != shape:
        raise ValueError(message(f"shape of {name}", array.shape, f"{shape}"))
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise ValueError(message(f"{name} is read-only or not contiguous", mend="pass a plain np.empty(shape, dtype)"))
    return array


def device_out(array: Any, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Any:
    """Return an array on the device, without a copy, after the checks of ``as_out``."""
    interface = array.__cuda_array_interface__
    if np.dtype(interface["typestr"]) != dtype:
        raise TypeError(message(name, np.dtype(interface["typestr"]), f"an array of {np.dtype(dtype)}"))
    if tuple(interface["shape"]) != shape:
        raise ValueError(message(f"shape of {name}", tuple(interface["shape"]), f"{shape}"))
    strides = interface.get("strides")
    contiguous = tuple(np.dtype(dtype).itemsize * int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    if interface["data"][1] or (strides is not None and tuple(strides) != contiguous and 0 not in shape):
        raise ValueError(
            message(f"{name} is read-only or not contiguous", mend="pass a plain cupy.empty(shape, dtype)")
        )
    return backend.arrays("cuda").asarray(array)


def topk(
    items: ArrayLike,
    queries: ArrayLike,
    n: int,
    *,
    seen: Any = None,
    include: ArrayLike | None = None,
    exclude: ArrayLike | None = None,
    out: tuple[I32, F32] | None = None,
    check_finite: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[I32, F32]:
    """Return the ``n`` items with the largest inner product for every query; exact, and never a dense score matrix.

    Args:
        items: ``(n_items, d)``; any real dtype, converted to contiguous float32 where it is not.
        queries: ``(m, d)``, or ``(d,)`` for one query and 1-D results.
        n: length of the lists; may exceed ``n_items``.
        seen: sparse ``(m, n_items)`` (scipy, ``Csr``, ``Interactions``): row q holds the items not to return for
            query q; its values do not matter. For one 1-D query: one row.
        include: ids to choose from, in any order, duplicates allowed; None for all items.
        exclude: ids never to return.
        out: (ids, scores) to write into: contiguous int32 and float32 of the result's shape, apart from the inputs.
        check_finite: look for NaN and infinity first. Without it they are not found and their scores never returned.
        device: "auto", "cpu", "numba" or "cuda". Items and queries that lie on a GPU stay there, as do the results.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ids ``(m, n) int32`` and scores ``(m, n) float32``: score descending, then id ascending. Rows with fewer than
        ``n`` eligible items end in -1 and -inf.

    Raises:
        TypeError: sparse factors, a dtype without real numbers, ids that are not integers, ``out`` of another dtype;
            items, queries and ``out`` that are not all on the device or all in host memory.
        ValueError: shapes that disagree, values that are not finite, ``n`` < 0, a damaged ``seen``.
        IndexError: an id in ``include`` or ``exclude`` outside 0 .. n_items - 1.
    """
    if out is not None and (not isinstance(out, tuple) or len(out) != 2):
        raise TypeError(message("out", type(out).__name__, "a tuple (ids, scores)"))
    given = out if out is not None else (None, None)
    device = backend.place(device, items=items, queries=queries, **{"out[0]": given[0], "out[1]": given[1]})
    arrays = backend.arrays("cuda" if on_device(queries) else "numba")
    single = np.ndim(queries) == 1 if not hasattr(queries, "tocsr") else False
    factors, query = as_pair(items, arrays.asarray(queries).reshape(1, -1) if single else queries, check_finite)
    n = as_count(n, "n", 0)
    m, n_items = len(query), len(factors)
    candidates = as_candidates(include, exclude, n_items)
    seen_row_ptr, seen_col_idx = as_mask(seen, (m, n_items), device, n_threads)
    shape = (n,) if single else (m, n)
    ids = arrays.empty(shape, np.int32) if out is None else as_out(out[0], "out[0]", shape, np.int32)
    scores = arrays.empty(shape, np.float32) if out is None else as_out(out[1], "out[1]", shape, np.float32)
    if candidates is not None and not len(candidates):  # to the backend an empty array means every item
        ids[...] = arrays.asarray(np.full(shape, -1, np.int32))
        scores[...] = arrays.asarray(np.full(shape, -np.inf, np.float32))
        return ids, scores
    backend.get(device).topk(
        ids.reshape(m, n), scores.reshape(m, n), query, factors, _NO_IDS if candidates is None else candidates,
        seen_row_ptr, seen_col_idx, backend.resolve_threads(n_threads),
    )  # fmt: skip
    return ids, scores
