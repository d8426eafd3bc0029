"""Checks of what a ``Sequences`` is made of, and the sort by user and time."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.data.columns import as_timestamps
from recsys_fast.data.id_map import IdMap
from recsys_fast.data.report import CleaningReport, Step
from recsys_fast.data.sequences import Sequences
from recsys_fast.errors import message

if TYPE_CHECKING:
    from recsys_fast.data.interactions import Interactions
    from recsys_fast.ops import Csr

_MAX_ITEMS = 2**31 - 2  # the number after the last item stands for "masked"


def _flatten(lists: Any, name: str) -> tuple[NDArray[np.int64], Any]:
    """Return row pointers and the elements of lists in one array or list."""
    if isinstance(lists, np.ndarray) and lists.ndim == 2:
        mend = "pass lists of their true lengths, or Sequences.from_coo"
        raise TypeError(message(name, "a 2-D array, which cannot be ragged", "one list per user", mend))
    if isinstance(lists, (str, bytes, dict)) or not hasattr(lists, "__iter__") or hasattr(lists, "indptr"):
        raise TypeError(message(name, type(lists).__name__, "one list or array per user, oldest first"))
    rows = list(lists)
    try:
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    except TypeError:
        flat = next(one for one in rows if not hasattr(one, "__len__") or getattr(one, "ndim", 1) == 0)
        mend = "wrap a single list: [[...]]"
        raise TypeError(message(f"{name} holds", repr(flat), "one list or array per user", mend)) from None
    row_ptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=row_ptr[1:])
    if rows and all(isinstance(row, np.ndarray) for row in rows):
        flat_rows = [row for row in rows if len(row)]
        if any(row.ndim != 1 for row in flat_rows):
            raise ValueError(message(f"{name} hold an array of several dimensions", expected="1-D arrays"))
        flat_rows = [row.astype(np.int64) if row.dtype.kind == "u" else row for row in flat_rows]
        return row_ptr, np.concatenate(flat_rows) if flat_rows else np.empty(0, np.int32)
    plain = (row.tolist() if isinstance(row, np.ndarray) and row.dtype.kind == "u" else row for row in rows)
    return row_ptr, list(chain.from_iterable(plain))  # unsigned numbers beside signed ones would become floats


def _items(raw: Any, row_ptr: NDArray[np.int64], n_items: int | None, name: str) -> tuple[NDArray[np.int32], int]:
    """Return the items as int32 after a check of their range, and how many items there are."""
    array = np.asarray(raw)
    if array.ndim != 1:
        raise ValueError(message(f"dimensions of {name}", array.ndim, "1"))
    if array.dtype.kind not in "iu":
        if array.size:
            mend = "number raw ids with rf.IdMap, or read them with Sequences.from_coo(..., raw_ids=True)"
            odd = next((one for one in array.tolist() if isinstance(one, bool) or not isinstance(one, int)), array[0])
            raise TypeError(message(f"{name} hold", repr(odd), "item numbers (integers)", mend))
        array = np.empty(0, np.int32)
    if n_items is not None and (isinstance(n_items, bool) or not hasattr(n_items, "__index__")):
        raise TypeError(message("n_items", type(n_items).__name__, "an int or None"))
    limit = _MAX_ITEMS if n_items is None else int(n_items)
    if not 0 <= limit <= _MAX_ITEMS:
        raise ValueError(message("n_items", n_items, f"0 to {_MAX_ITEMS}"))
    top = int(array.max()) if array.size else -1
    if array.size and (int(array.min()) < 0 or top >= limit):
        at = int(np.flatnonzero((array < 0) | (array >= limit))[0])
        row = int(np.searchsorted(row_ptr, at, side="right")) - 1
        what = f"item at place {at - int(row_ptr[row])} of row {row} of {name}"
        raise ValueError(message(what, int(array[at]), f"0 <= item < {limit}"))
    return array.astype(np.int32), top + 1 if n_items is None else limit


def _times(raw: Any, n: int) -> NDArray[np.int64] | None:
    """Return complete timestamps of ``n`` events."""
    if raw is None:
        return None
    times, gone = as_timestamps(raw)
    if len(times) != n:
        raise ValueError(message("number of timestamps", len(times), f"{n}, one per event"))
    if gone is not None:
        raise ValueError(message(f"timestamp {int(np.flatnonzero(gone)[0])} is missing", mend="drop the event first"))
    return times


def _map(ids: Any, n: int, name: str) -> IdMap | None:
    from recsys_fast.data.arrays import _map as checked

    return checked(ids, n, name)


def from_lists(lists: Any, n_items: int | None, timestamps: Any, user_ids: Any, item_ids: Any) -> Sequences:
    """Return sequences of ragged lists; see ``Sequences``."""
    if isinstance(lists, Sequences):
        raise TypeError(message("lists is a Sequences already", mend="use it as it is: it never changes"))
    row_ptr, raw = _flatten(lists, "lists")
    items, n_items = _items(raw, row_ptr, n_items, "lists")
    times = None
    if timestamps is not None:
        time_ptr, raw_times = _flatten(timestamps, "timestamps")
        if not np.array_equal(time_ptr, row_ptr):
            raise ValueError(message("lengths of timestamps differ from those of the lists", expected="one per item"))
        times = _times(raw_times, len(items))
    return _made(row_ptr, items, times, n_items, user_ids, item_ids)


def from_packed(
    row_ptr: Any, items: Any, n_items: int | None, timestamps: Any, user_ids: Any, item_ids: Any
) -> Sequences:
    """Return sequences of packed arrays; see ``Sequences.from_arrays``."""
    given = np.asarray(row_ptr)
    if given.ndim != 1 or not len(given) or given.dtype.kind not in "iu":
        raise TypeError(message("row_ptr", f"{given.dtype} of shape {given.shape}", "integers, (n_users + 1,)"))
    pointers, n = given.astype(np.int64), len(np.asarray(items))
    if pointers[0] != 0 or pointers[-1] != n:
        raise ValueError(message("row_ptr", f"{pointers[0]} to {pointers[-1]}", f"0 to the number of events, {n}"))
    falls = np.flatnonzero(np.diff(pointers) < 0)
    if len(falls):
        raise ValueError(message(f"row_ptr decreases at row {falls[0]}", expected="a non-decreasing sequence"))
    flat, n_items = _items(items, pointers, n_items, "items")
    return _made(pointers, flat, _times(timestamps, n), n_items, user_ids, item_ids)


def _made(
    row_ptr: NDArray[np.int64],
    items: NDArray[np.int32],
    times: NDArray[np.int64] | None,
    n_items: int,
    user_ids: Any,
    item_ids: Any,
) -> Sequences:
    """Return sequences of arrays in range, in time order."""
    n_users = len(row_ptr) - 1
    if times is not None and len(times) > 1:
        falls = times[1:] < times[:-1]
        starts = row_ptr[1:-1]
        falls[starts[(starts > 0) & (starts < len(times))] - 1] = False  # from one user to the next
        if falls.any():
            rows = np.repeat(np.arange(n_users, dtype=np.int32), np.diff(row_ptr))
            order = by_user_and_time(rows, times, n_users)
            items, times = items[order], times[order]
    maps = [_map(ids, n, name) for ids, n, name in ((user_ids, n_users, "user_ids"), (item_ids, n_items, "item_ids"))]
    return Sequences._trusted(row_ptr, items, times, n_items, user_ids=maps[0], item_ids=maps[1])


def by_user_and_time(
    rows: NDArray[np.int32], times: NDArray[np.int64] | None, n_users: int
) -> NDArray[np.int64] | slice:
    """Return the stable order by user, then time; a slice of everything where it is that already."""
    if times is None:
        return slice(None) if not (rows[1:] < rows[:-1]).any() else np.argsort(rows, kind="stable")
    low, high = (int(times.min()), int(times.max())) if len(times) else (0, 0)
    if n_users * (high - low + 1) < 2**63:  # one sort of (user, time) in one number
        key = rows * np.int64(high - low + 1) + (times - low)
        return slice(None) if not (key[1:] < key[:-1]).any() else np.argsort(key, kind="stable")
    return np.lexsort((times, rows))


def build(
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    values: NDArray[np.float32] | None,
    timestamps: NDArray[np.int64] | None,
    shape: tuple[int, int],
    duplicates: str,
    *,
    user_ids: IdMap | None = None,
    item_ids: IdMap | None = None,
    report: CleaningReport | None = None,
) -> Sequences:
    """Return sequences of dense coordinates; takes what ``assemble.build`` takes, and keeps repeats."""
    order = by_user_and_time(rows, timestamps, shape[0])
    row_ptr = np.zeros(shape[0] + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=shape[0]), out=row_ptr[1:])
    times = None if timestamps is None else timestamps[order].copy()
    return Sequences._trusted(
        row_ptr, cols[order].copy(), times, shape[1], user_ids=user_ids, item_ids=item_ids, report=report
    )


def reading(options: Any) -> Any:
    """Return options of a reader that makes sequences; imputing values and merging repeats are not among them."""
    for name in ("duplicates", "value"):
        if options.get(name) is not None:
            mend = "sequences keep every event, and have no values"
            raise TypeError(message("option of a Sequences", repr(name), mend=mend))
    missing = options.get("missing", "error")
    if missing not in ("error", "drop"):
        raise ValueError(message("missing", repr(missing), '"error" or "drop"'))
    return {**options, "build": build}


def from_events(users: Any, items: Any, timestamps: Any, shape: Any, raw: bool, options: Any) -> Sequences:
    """Return sequences of parallel arrays; see ``Sequences.from_coo``."""
    from recsys_fast.data import arrays

    options = reading(options)
    if raw:
        made: Any = arrays.from_raw(users, items, None, timestamps, shape, options)
        return made  # type: ignore[no-any-return]
    for name in options:
        if name not in ("missing", "user_ids", "item_ids", "build"):
            raise TypeError(message("from_coo has no option", repr(name), "missing, user_ids or item_ids"))
    bounds = arrays._bounds(shape)
    rows, cols = arrays._numbers(users, "users", bounds[0]), arrays._numbers(items, "items", bounds[1])
    times, gone = (None, None) if timestamps is None else as_timestamps(timestamps)
    lengths = [len(part) for part in (rows, cols, times) if part is not None]
    if len(set(lengths)) > 1:
        raise ValueError(message("users, items and timestamps differ in length", lengths, "one of each per event"))
    size, steps = arrays._shape(shape, rows, cols), []
    if gone is not None and gone.any():
        if options.get("missing", "error") == "error":
            mend = 'choose missing="drop"'
            raise ValueError(message(f"time of event {int(np.flatnonzero(gone)[0])} is missing", mend=mend))
        rows, cols = rows[~gone], cols[~gone]
        times = None if times is None else times[~gone]
        steps.append(Step("missing", int(gone.sum()), note="a time was missing"))
    return build(
        rows, cols, None, times, size, "",
        user_ids=_map(options.get("user_ids"), size[0], "user_ids"),
        item_ids=_map(options.get("item_ids"), size[1], "item_ids"), report=CleaningReport(tuple(steps)),
    )  # fmt: skip


def from_interactions(data: Interactions) -> Sequences:
    """Return interactions in time order; see ``Sequences.from_interactions``."""
    from recsys_fast.data.interactions import Interactions

    if not isinstance(data, Interactions):
        raise TypeError(message("data", type(data).__name__, "an Interactions with timestamps"))
    order = data.time_order()
    assert data.timestamps is not None
    return Sequences._trusted(
        data.row_ptr, data.col_idx[order], data.timestamps[order], data.n_items,
        user_ids=data.user_ids, item_ids=data.item_ids, report=data.report,
    )  # fmt: skip


def distinct(data: Sequences) -> Csr:
    """Return the distinct items of each user, sorted, without values."""
    if data.n_users and data.n_users * max(data.n_items, 1) < 2**62:
        key = np.repeat(np.arange(data.n_users, dtype=np.int64) * data.n_items, data.lengths)
        key += data.items
        key.sort()
        new = np.ones(len(key), bool)
        np.not_equal(key[1:], key[:-1], out=new[1:])
        key = key[new]
        starts = np.arange(data.n_users + 1, dtype=np.int64) * data.n_items
        row_ptr = np.searchsorted(key, starts)
        counts = np.diff(row_ptr)
        cols = (key - np.repeat(starts[:-1], counts)).astype(np.int32)
        return ops.Csr(row_ptr.astype(np.int64), cols, None, *data.shape)
    made = ops.csr_from_coo(data.rows(), data.items, shape=data.shape, duplicates="last")[0]
    return made._replace(values=None)
