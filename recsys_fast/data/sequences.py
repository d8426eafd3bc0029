"""What users did in which order: ragged lists of items, the object that sequence models take."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data import selection
from recsys_fast.data.id_map import IdMap
from recsys_fast.data.report import CleaningReport
from recsys_fast.data.sequence_constructors import SequenceConstructors
from recsys_fast.errors import message

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from recsys_fast.data.interactions import Interactions
    from recsys_fast.ops import Csr


class Sequences(SequenceConstructors):
    """Each user's (or session's) items in time order, repeats included; immutable.

    Rows lie one behind the other, never padded. The arrays are read-only; every method returns a new object.

    Args:
        lists: one list or array of item numbers per user, oldest first. See ``from_interactions``, ``from_coo``,
            ``from_frame``, ``from_csv``, ``from_parquet``, ``from_arrays`` and ``from_npz`` for other forms.
        n_items: number of items there are; None for the largest + 1.
        timestamps: times of the same ragged form. A user's events are put in time order, equal times in the order
            given. None keeps the order given.
        user_ids: raw ids of the users: ``IdMap`` or a collection; None where row numbers are the ids.
        item_ids: likewise for items.

    Attributes:
        row_ptr: ``(n_users + 1,) int64``; user ``u`` has events ``row_ptr[u]:row_ptr[u + 1]``.
        items: ``(n_events,) int32`` item of each event, oldest first within a user.
        timestamps: ``(n_events,) int64`` or None; never decreasing within a user.
        user_ids, item_ids: ``IdMap`` or None.
        report: ``CleaningReport``: what reading and splitting dropped or left aside.

    Raises:
        TypeError: not lists of integers.
        ValueError: an item is negative or not below ``n_items``, a time is missing, lengths differ.

    Examples:
        >>> data = Sequences([[2, 0, 2], [], [1]], n_items=4)
        >>> data
        Sequences(3 users x 4 items, 4 events, lengths 0 to 3, mean 1.3)
        >>> data[0]
        array([2, 0, 2], dtype=int32)
    """

    row_ptr: NDArray[np.int64]
    items: NDArray[np.int32]
    timestamps: NDArray[np.int64] | None
    user_ids: IdMap | None
    item_ids: IdMap | None
    report: CleaningReport
    _n_items: int
    _seen: Csr | None

    def __init__(
        self,
        lists: Any,
        *,
        n_items: int | None = None,
        timestamps: Any = None,
        user_ids: Any = None,
        item_ids: Any = None,
    ) -> None:
        from recsys_fast.data.sequence_input import from_lists

        self.__dict__.update(from_lists(lists, n_items, timestamps, user_ids, item_ids).__dict__)

    @classmethod
    def _trusted(
        cls,
        row_ptr: NDArray[np.int64],
        items: NDArray[np.int32],
        timestamps: NDArray[np.int64] | None,
        n_items: int,
        *,
        user_ids: IdMap | None = None,
        item_ids: IdMap | None = None,
        report: CleaningReport | None = None,
    ) -> Sequences:
        """Wrap arrays that are valid and that nobody else holds (or that are read-only already)."""
        made = cls.__new__(cls)
        made.__setstate__(
            {
                "row_ptr": row_ptr, "items": items, "timestamps": timestamps, "_n_items": int(n_items),
                "user_ids": user_ids, "item_ids": item_ids, "report": report or CleaningReport(), "_seen": None,
            }
        )  # fmt: skip
        return made

    # ---- sizes

    @property
    def n_users(self) -> int:
        """Number of rows, also ``len(data)``."""
        return len(self.row_ptr) - 1

    @property
    def n_items(self) -> int:
        """Number of items there are, whether or not they occur."""
        return self._n_items

    @property
    def n_events(self) -> int:
        """Number of events of all users."""
        return len(self.items)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_users, n_items)."""
        return self.n_users, self._n_items

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events of each user, ``(n_users,) int64``."""
        return np.diff(self.row_ptr)

    @property
    def item_counts(self) -> NDArray[np.int64]:
        """Events of each item, ``(n_items,) int64``."""
        return np.bincount(self.items, minlength=self._n_items)

    def rows(self) -> NDArray[np.int32]:
        """Return the user of each event, ``(n_events,) int32``."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.lengths)

    def __len__(self) -> int:
        return len(self.row_ptr) - 1

    # ---- parts

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        bounds = self.row_ptr.tolist()
        for begin, end in pairwise(bounds):
            yield self.items[begin:end]

    def __getitem__(self, users: Any) -> Any:
        """Return a user's items, ``(length,) int32``, for an int; else the ``Sequences`` of the chosen users.

        Args:
            users: an int (negative ones count from the end), a slice, distinct row numbers, or a mask of ``n_users``.
        """
        if not isinstance(users, (slice, tuple, list, np.ndarray)) and hasattr(users, "__index__"):
            user = operator.index(users)
            if not -self.n_users <= user < self.n_users:
                raise IndexError(message("user", user, f"-{self.n_users} <= user < {self.n_users}"))
            user %= self.n_users
            return self.items[self.row_ptr[user] : self.row_ptr[user + 1]]
        rows = selection.positions(users, self.n_users, "users")
        return self._take(rows, selection._ids(self.user_ids, rows, self.n_users))

    def take(self, users: NDArray[np.integer[Any]]) -> Sequences:
        """Return the rows of ``users`` in that order, without raw ids; the same user may occur often.

        Raises:
            IndexError: a number is not below ``n_users``, or negative.
        """
        rows = np.asarray(users, np.int64).reshape(-1)
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < self.n_users:
            bad = int(rows[(rows < 0) | (rows >= self.n_users)][0])
            raise IndexError(message("users hold", bad, f"0 <= user < {self.n_users}"))
        return self._take(rows, None)

    def _take(self, rows: NDArray[np.int64], user_ids: IdMap | None) -> Sequences:
        begin, end = self.row_ptr[rows], self.row_ptr[rows + 1]
        if len(rows) and bool((np.diff(rows) == 1).all()):  # neighbours: views, no copy
            row_ptr = np.append(begin, end[-1]) - begin[0]
            taken = slice(int(begin[0]), int(end[-1]))
            times = None if self.timestamps is None else self.timestamps[taken]
            return self._like(row_ptr, self.items[taken], times, user_ids)
        return self._parts(begin, end, user_ids)

    def _parts(self, begin: NDArray[np.int64], end: NDArray[np.int64], user_ids: IdMap | None) -> Sequences:
        """Return rows of the events ``begin[k]`` to ``end[k]`` of all events."""
        row_ptr, events = spread(begin, end - begin)
        times = None if self.timestamps is None else self.timestamps[events]
        return self._like(row_ptr, self.items[events], times, user_ids)

    def _like(
        self,
        row_ptr: NDArray[np.int64],
        items: NDArray[np.int32],
        timestamps: NDArray[np.int64] | None,
        user_ids: IdMap | None,
        report: CleaningReport | None = None,
    ) -> Sequences:
        return Sequences._trusted(
            row_ptr, items, timestamps, self._n_items,
            user_ids=user_ids, item_ids=self.item_ids, report=report or self.report,
        )  # fmt: skip

    def last(self, n: int) -> Sequences:
        """Return the most recent ``n`` events of each user; itself where nobody has more."""
        if n < 0:
            raise ValueError(message("n", n, "at least 0"))
        if not (self.lengths > n).any():
            return self
        return self._parts(np.maximum(self.row_ptr[1:] - n, self.row_ptr[:-1]), self.row_ptr[1:], self.user_ids)

    def prefixes(self, *, max_history: int | None = None) -> tuple[Sequences, Sequences]:
        """Return every prefix of every sequence, and the item that follows it: how session models are evaluated.

        A sequence of n events gives n - 1 samples: ``histories[k]`` are the first events, ``targets[k]`` the one next.
        Rows of both are samples, in order, so that ``evaluate(model, histories, targets, filter_seen=False)`` ranks the
        next item at every place of every session.

        Args:
            max_history: keep only the most recent events of a history, None for all of them.
        """
        if max_history is not None and max_history < 1:
            raise ValueError(message("max_history", max_history, "at least 1, or None"))
        row_ptr, target = spread(self.row_ptr[:-1] + 1, np.maximum(self.lengths - 1, 0))
        begin = np.repeat(self.row_ptr[:-1], np.diff(row_ptr))
        if max_history is not None:
            begin = np.maximum(begin, target - max_history)
        return self._parts(begin, target, None), self._parts(target, target + 1, None)

    # ---- other forms

    @property
    def seen(self) -> Csr:
        """The distinct items of each user, sorted, as ``ops.Csr`` without values; what ``ops.as_csr(data)`` gives."""
        if self._seen is None:
            from recsys_fast.data.sequence_input import distinct

            self._seen = distinct(self)
        return self._seen

    @property
    def csr(self) -> csr_array:
        """The distinct items of each user as ``scipy.sparse.csr_array`` of ones, float32."""
        from scipy.sparse import csr_array

        seen = self.seen
        matrix = csr_array((np.ones(seen.nnz, np.float32), seen.col_idx, seen.row_ptr), shape=self.shape, copy=False)
        matrix.has_canonical_format = True
        return matrix

    def to_interactions(self) -> Interactions:
        """Return a matrix that holds an item once per user: with its last time, and the number of visits as value.

        Where there are no times the place in the sequence takes their part. Values are None without repeats.
        """
        from recsys_fast.data.assemble import build

        times = self.timestamps
        if times is None:
            times = np.arange(self.n_events, dtype=np.int64) - np.repeat(self.row_ptr[:-1], self.lengths)
        return build(
            self.rows(), self.items, None, times, self.shape, "sum",
            user_ids=self.user_ids, item_ids=self.item_ids, report=self.report,
        )  # fmt: skip

    def to_npz(self, path: str | Path, *, compress: bool = True) -> None:
        """Write everything but the report to one file; it appears whole or not at all.

        Raises:
            TypeError: ids that are neither all integers nor all strings.
        """
        from recsys_fast.data.sequence_files import write

        write(self, path, compress)

    def __repr__(self) -> str:
        parts = [f"{self.n_users} users x {self.n_items} items", f"{self.n_events} events"]
        if self.n_users:
            lengths = self.lengths
            parts.append(f"lengths {lengths.min()} to {lengths.max()}, mean {lengths.mean():.1f}")
        if self.timestamps is not None:
            times = f"times {self.timestamps.min()} to {self.timestamps.max()}" if self.n_events else "times"
            parts.append(times)
        maps = [f"{n} ids" for n, given in (("user", self.user_ids), ("item", self.item_ids)) if given is not None]
        return f"Sequences({', '.join(parts + maps)})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for array in (self.row_ptr, self.items, self.timestamps):
            if array is not None:
                array.flags.writeable = False


def spread(begin: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row pointers of rows of ``lengths``, and the positions ``begin[k] ..`` of their elements."""
    row_ptr = np.zeros(len(begin) + 1, np.int64)
    np.cumsum(lengths, out=row_ptr[1:])
    positions = np.repeat(begin - row_ptr[:-1], lengths)
    positions += np.arange(row_ptr[-1])
    return row_ptr, positions
