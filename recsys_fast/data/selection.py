"""Parts of an ``Interactions``: by user, by item, by entry, in time order."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.id_map import IdMap
from recsys_fast.errors import message

if TYPE_CHECKING:
    from recsys_fast.data.interactions import Interactions


def positions(chosen: Any, n: int, name: str) -> NDArray[np.int64]:
    """Return row or column numbers, ``(m,) int64`` and distinct, of an int, a slice, numbers or a mask.

    Raises:
        TypeError: none of these.
        IndexError: a number is negative or not below ``n``.
        ValueError: a number occurs twice, or a mask is not of length ``n``.
    """
    if isinstance(chosen, slice):
        return np.arange(n, dtype=np.int64)[chosen]
    if isinstance(chosen, tuple):
        mend = "use data.select(users=..., items=...) to choose both, or a list for several users"
        raise TypeError(message(f"{name}", "a tuple", "an int, a slice, a list or an array", mend))
    array = np.asarray(chosen)
    if array.ndim == 0 and array.dtype.kind != "b":
        try:
            array = np.array([operator.index(chosen)])
        except TypeError as error:
            expected = "an int, a slice, a list or an array"
            raise TypeError(message(name, type(chosen).__name__, expected, "encode raw ids with rf.IdMap")) from error
    if array.ndim != 1:
        raise TypeError(message(name, f"{array.ndim} dimensions", "1"))
    if array.dtype.kind == "b":
        if len(array) != n:
            raise ValueError(message(f"length of the mask of {name}", len(array), str(n)))
        return np.flatnonzero(array)
    if array.dtype.kind not in "iu":
        if array.size:
            raise TypeError(message(name, f"dtype {array.dtype}", "integers", "encode raw ids with rf.IdMap"))
        return np.empty(0, np.int64)
    if array.size and (int(array.min()) < 0 or int(array.max()) >= n):
        at = int(np.flatnonzero((array < 0) | (array >= n))[0])
        raise IndexError(message(f"{name}[{at}]", int(array[at]), f"0 <= number < {n}"))
    numbers = array.astype(np.int64)
    seen = np.zeros(n, bool)
    seen[numbers] = True
    if int(seen.sum()) != len(numbers):
        repeated = int(np.flatnonzero(np.bincount(numbers) > 1)[0])
        mend = "pass each number once, or index data.csr to repeat rows"
        raise ValueError(message(f"{name} holds {repeated} more than once", mend=mend))
    return numbers


def _ids(id_map: IdMap | None, chosen: NDArray[np.int64], n: int) -> IdMap | None:
    """Return the ids of what was chosen; numbers become ids where there were none and numbering changes."""
    if len(chosen) == n and bool((chosen == np.arange(n)).all()):
        return id_map
    return id_map.subset(chosen) if id_map is not None else IdMap._trusted(chosen.copy())


def select(data: Interactions, rows: NDArray[np.int64] | None, cols: NDArray[np.int64] | None) -> Interactions:
    """Return the chosen users and items, in that order; see ``Interactions.select``."""
    if rows is not None:
        data = _select_rows(data, rows)
    return data if cols is None else _select_cols(data, cols)


def _select_rows(data: Interactions, rows: NDArray[np.int64]) -> Interactions:
    starts, counts = data.row_ptr[rows], data.row_ptr[rows + 1] - data.row_ptr[rows]
    row_ptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=row_ptr[1:])
    if len(rows) and bool((np.diff(rows) == 1).all()):
        taken: Any = slice(int(starts[0]), int(starts[0]) + int(row_ptr[-1]))  # neighbours: views, no copy
    else:
        taken = np.repeat(starts - row_ptr[:-1], counts) + np.arange(row_ptr[-1])
    return type(data)._trusted(
        row_ptr, data.col_idx[taken], *_taken(data, taken), (len(rows), data.n_items),
        order=None if data.order is None else data.order[taken],
        user_ids=_ids(data.user_ids, rows, data.n_users), item_ids=data.item_ids, report=data.report,
    )  # fmt: skip


def _select_cols(data: Interactions, cols: NDArray[np.int64]) -> Interactions:
    from recsys_fast.data.assemble import build

    renumber = np.full(data.n_items, -1, np.int32)
    renumber[cols] = np.arange(len(cols), dtype=np.int32)
    col_idx = renumber[data.col_idx]
    kept = col_idx >= 0
    shape, item_ids = (data.n_users, len(cols)), _ids(data.item_ids, cols, data.n_items)
    order = None if data.order is None else data.order[kept]
    if bool((cols[1:] > cols[:-1]).all()):  # rows stay sorted
        row_ptr = kept_row_ptr(data, kept)
        return type(data)._trusted(
            row_ptr, col_idx[kept], *_taken(data, kept), shape,
            order=order, user_ids=data.user_ids, item_ids=item_ids, report=data.report,
        )  # fmt: skip
    return build(
        data.rows()[kept], col_idx[kept], *_taken(data, kept), shape, "error",
        order=order, user_ids=data.user_ids, item_ids=item_ids, report=data.report,
    )  # fmt: skip


def _taken(data: Interactions, taken: Any) -> tuple[NDArray[np.float32] | None, NDArray[np.int64] | None]:
    values = None if data.values is None else data.values[taken]
    return values, None if data.timestamps is None else data.timestamps[taken]


def kept_row_ptr(data: Interactions, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the row pointers of the entries where ``mask`` is True."""
    before = np.zeros(data.nnz + 1, np.int64)
    np.cumsum(mask, out=before[1:])
    return before[data.row_ptr]


def keep(data: Interactions, mask: Any) -> Interactions:
    """Return the entries where ``mask`` is True; see ``Interactions.keep``."""
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.shape != (data.nnz,):
        raise ValueError(message("mask", f"{mask.dtype} of shape {mask.shape}", f"bool of shape ({data.nnz},)"))
    return type(data)._trusted(
        kept_row_ptr(data, mask), data.col_idx[mask], *_taken(data, mask), data.shape,
        order=None if data.order is None else data.order[mask],
        user_ids=data.user_ids, item_ids=data.item_ids, report=data.report,
    )  # fmt: skip


def input_order(data: Interactions) -> NDArray[np.int64]:
    """Return the positions of the entries in the order of the input, ``(nnz,) int64``."""
    assert data.order is not None
    n_input = int(data.order.max()) + 1 if data.nnz else 0
    if n_input > 4 * data.nnz:
        return np.argsort(data.order)
    place = np.full(n_input, -1, np.int64)
    place[data.order] = np.arange(data.nnz)
    return place[place >= 0]


def time_order(data: Interactions) -> NDArray[np.int64]:
    """Return entries user by user, each in time order; see ``Interactions.time_order``."""
    if data.timestamps is None:
        mend = "name a timestamp column when reading, or split at random"
        raise ValueError(message("the interactions have no timestamps", mend=mend))
    if not data.nnz:
        return np.empty(0, np.int64)
    by_input = input_order(data)  # sorts are stable, so starting from here breaks ties in the order of the input
    rows, times = data.rows()[by_input], data.timestamps[by_input]
    low, high = int(times.min()), int(times.max())
    if data.n_users * (high - low + 1) < 2**63:  # one sort of (user, time) in one number
        key = rows * np.int64(high - low + 1) + (times - low)
        return by_input[np.argsort(key, kind="stable")]
    return by_input[np.lexsort((times, rows))]
