"""What sequence models do with what callers pass: histories of many forms, one history, and packed rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data import Interactions, Sequences
from recsys_fast.data.sequences import spread
from recsys_fast.errors import message
from recsys_fast.models.parameters import check_int

_ORDER = "rf.Sequences(lists), or an rf.Interactions with timestamps"


class Packed(NamedTuple):
    """Rows that go into a network: ``items (n_rows,) int32`` and ``row_ptr (n_sequences + 1,) int64``."""

    row_ptr: NDArray[np.int64]
    items: NDArray[np.int32]


def as_sequences(data: Any, name: str, n_users: int | None = None, n_items: int | None = None) -> Sequences:
    """Return training data in time order.

    Args:
        data: ``Sequences``, or ``Interactions`` with timestamps.
        name: what error messages call it.
        n_users: expected number of users, None for any.
        n_items: expected number of items, None for any.

    Raises:
        TypeError: anything else; a matrix knows no order.
        ValueError: no timestamps, or another shape.
    """
    if isinstance(data, Interactions):
        if data.timestamps is None:
            mend = "read them with timestamps, or pass rf.Sequences(lists)"
            raise ValueError(message(f"{name} without timestamps", mend=mend))
        data = Sequences.from_interactions(data)
    if not isinstance(data, Sequences):
        raise TypeError(message(name, type(data).__name__, "items in time order", f"pass {_ORDER}"))
    wanted = (data.n_users if n_users is None else n_users, data.n_items if n_items is None else n_items)
    if data.shape != wanted:
        raise ValueError(message(f"shape of {name}", data.shape, f"{wanted} (users, items)"))
    return data


def replaced(old: Sequences, users: NDArray[np.int32], new: Sequences) -> Sequences:
    """Return ``old`` with the sequences of ``users`` (distinct) replaced by those of ``new``, in this order.

    Raw ids are dropped; times stay where both have them.
    """
    begin, lengths = old.row_ptr[:-1].copy(), old.lengths
    begin[users], lengths[users] = old.n_events + new.row_ptr[:-1], new.lengths
    row_ptr, events = spread(begin, lengths)
    times = None
    if old.timestamps is not None and new.timestamps is not None:
        times = np.concatenate([old.timestamps, new.timestamps])[events]
    items = np.concatenate([old.items, new.items])[events]
    return Sequences.from_arrays(row_ptr, items, n_items=old.n_items, timestamps=times)


def is_ragged(users: Any) -> bool:
    """Return whether ``users`` are histories rather than numbers of users: something whose elements are lists."""
    if isinstance(users, Sequences | Interactions):
        return True
    if isinstance(users, np.ndarray):
        return users.ndim == 2 or (users.ndim == 1 and users.dtype == object)
    return isinstance(users, list | tuple) and len(users) > 0 and isinstance(users[0], list | tuple | np.ndarray)


def as_histories(histories: Any, n_items: int) -> Sequences:
    """Return histories that a model can be asked about.

    Args:
        histories: ``Sequences``, ``Interactions`` with timestamps, or one list or array of items per history, oldest
            first; they may be empty.
        n_items: the model's.

    Raises:
        TypeError: not lists of integers.
        ValueError: an item the model does not have, or another number of items.
    """
    if isinstance(histories, Sequences | Interactions):
        return as_sequences(histories, "histories", None, n_items)
    if hasattr(histories, "tocsr"):
        return as_sequences(histories, "histories")  # says why not
    if isinstance(histories, np.ndarray) and histories.ndim == 2:
        histories = list(histories)
    return Sequences(histories, n_items=n_items)


def check_item(item: Any, n_items: int) -> int:
    """Return an item as int.

    Raises:
        TypeError: not an integer.
        IndexError: not among the model's items.
    """
    number = check_int("item", item, -(2**31))
    if not 0 <= number < n_items:
        raise IndexError(message("item", number, f"0 <= item < {n_items}"))
    return number


def most_recent(histories: Sequences, n: int) -> Packed:
    """Return the last n items of each history."""
    last = histories.last(n)
    return Packed(last.row_ptr, last.items)


def chunks(packed: Packed, n_rows: int) -> list[tuple[int, int]]:
    """Return ranges of sequences that have about ``n_rows`` rows together, at least one each."""
    out, begin, n = [], 0, len(packed.row_ptr) - 1
    while begin < n:
        end = int(np.searchsorted(packed.row_ptr, packed.row_ptr[begin] + n_rows, side="right")) - 1
        end = min(n, max(begin + 1, end))
        out.append((begin, end))
        begin = end
    return out


def part_of(packed: Packed, begin: int, end: int) -> Packed:
    """Return the sequences ``begin`` to ``end``; items are a view."""
    row_ptr = packed.row_ptr[begin : end + 1]
    return Packed(row_ptr - row_ptr[0], packed.items[row_ptr[0] : row_ptr[-1]])
