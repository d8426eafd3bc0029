"""Raw ids of any hashable kind to dense int32 ids and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.columns import raw_ids
from recsys_fast.errors import message

_INT32_MAX = 2**31 - 1
_MANY = (list, np.ndarray)


def _is_many(raw: Any) -> bool:
    """Whether ``raw`` is a collection of ids; a string, and a tuple too, is one id."""
    return isinstance(raw, _MANY) or (hasattr(raw, "__array__") and not np.isscalar(raw))


class IdMap:
    """A one-to-one map between raw ids and the dense ids ``0 .. len - 1``.

    Integer ids are looked up with vectorised binary search; strings and other hashables through a dict (faster than
    a binary search over strings). Immutable; lookups build their index on first use.

    Args:
        ids: the raw ids in the order of their dense ids: a list, a 1-D array, or a pandas/polars/Arrow column.

    Raises:
        ValueError: an id occurs twice or is missing (None or NaN), or there are more than 2**31 - 1.
        TypeError: ``ids`` is not a collection, or an id is not hashable.

    Examples:
        >>> id_map = IdMap(["ann", "bob", "eve"])
        >>> id_map.encode(["eve", "ann"])
        array([2, 0], dtype=int32)
        >>> id_map.decode(1)
        'bob'
    """

    __slots__ = ("_index", "_sorted", "_sorter", "ids")

    def __init__(self, ids: Any) -> None:
        if not _is_many(ids):
            mend = "pass a list, an array or a column"
            raise TypeError(message("ids", type(ids).__name__, "a collection of ids", mend))
        column = raw_ids(ids, "ids")
        if column.missing is not None:
            at = int(np.flatnonzero(column.missing)[0])
            raise ValueError(message(f"id {at} is missing", mend="give every user and item an id"))
        self._setup(column.values.copy())
        self._check_unique()

    def _setup(self, ids: NDArray[Any]) -> None:
        if len(ids) > _INT32_MAX:
            raise ValueError(message("number of ids", len(ids), "at most 2**31 - 1"))
        ids.flags.writeable = False
        #: ``(n,) int64`` or ``(n,) object``: raw id of each dense id, read-only
        self.ids: NDArray[Any] = ids
        self._sorted: NDArray[np.int64] | None = None
        self._sorter: NDArray[np.int64] | None = None
        self._index: dict[Any, int] | None = None

    def _check_unique(self) -> None:
        if self.kind == "int":
            ordered = self._binary()[0]
            repeated = np.flatnonzero(ordered[1:] == ordered[:-1])
            if len(repeated):
                raise ValueError(message(f"id {ordered[repeated[0]]} occurs more than once", mend="pass each id once"))
        elif len(self._dict()) < len(self.ids):
            for position, raw in enumerate(self.ids.tolist()):
                if self._dict()[raw] != position:
                    raise ValueError(message(f"id {raw!r} occurs more than once", mend="pass each id once"))

    @classmethod
    def _trusted(cls, ids: NDArray[Any]) -> IdMap:
        """Wrap an array of distinct ids (int64 or object) that nobody else holds."""
        made = cls.__new__(cls)
        made._setup(ids)
        return made

    @property
    def kind(self) -> str:
        """Either "int" for ids looked up by binary search, else "object"."""
        return "int" if self.ids.dtype.kind == "i" else "object"

    def _binary(self) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return the ids in ascending order, and the dense id of each (None where the ids ascend already)."""
        if self._sorted is None:
            ascending = bool((self.ids[1:] >= self.ids[:-1]).all())
            sorter = None if ascending else np.argsort(self.ids, kind="stable")
            self._sorter = sorter
            self._sorted = self.ids if sorter is None else self.ids[sorter]
        return self._sorted, self._sorter

    def _dict(self) -> dict[Any, int]:
        if self._index is None:
            self._index = {raw: position for position, raw in enumerate(self.ids.tolist())}
        return self._index

    def find(self, raw: NDArray[Any]) -> NDArray[np.int32]:
        """Return the dense id of each raw id, ``(n,) int32``, -1 where unknown.

        Args:
            raw: ``(n,) int64`` or ``(n,) object``.
        """
        if self.kind == "int" and raw.dtype.kind == "i":
            if not len(self.ids):
                return np.full(len(raw), -1, np.int32)
            ordered, sorter = self._binary()
            place = np.searchsorted(ordered, raw)
            np.minimum(place, len(ordered) - 1, out=place)
            dense = place if sorter is None else sorter[place]
            return np.where(ordered[place] == raw, dense, -1).astype(np.int32)
        index = self._dict()
        return np.fromiter((index.get(one, -1) for one in raw.tolist()), np.int32, len(raw))

    def encode(self, raw: Any, *, unknown: str = "error") -> Any:
        """Return dense ids of raw ids.

        Args:
            raw: one id, or a list, array or column of ids. A tuple is one id.
            unknown: "error", or "mark" to return -1 for an id that is not in the map.

        Returns:
            int for one id, ``(n,) int32`` for a collection.

        Raises:
            IndexError: an id is unknown (with ``unknown="error"``).
            ValueError: ``unknown`` is not one of the two.
            TypeError: an id is not hashable.
        """
        if unknown not in ("error", "mark"):
            raise ValueError(message("unknown", repr(unknown), '"error" or "mark"'))
        many = _is_many(raw)
        column = raw_ids(raw if many else [raw], "ids").values
        dense = self.find(column)
        if unknown == "error" and len(dense) and dense.min() < 0:
            at = int(np.flatnonzero(dense < 0)[0])
            known = ", ".join(repr(one) for one in self.ids[:3].tolist()) or "(none)"
            what = f"unknown id {column.tolist()[at]!r}" + (f" at position {at}" if many else "")
            mend = 'pass unknown="mark" to get -1 for unknown ids'
            raise IndexError(message(what, expected=f"one of the {len(self)} ids such as {known}", mend=mend))
        return dense if many else int(dense[0])

    def decode(self, dense: Any, *, fill: Any = None) -> Any:
        """Return raw ids of dense ids; -1 (the padding of recommendations) gives ``fill``.

        Args:
            dense: an int, or integers of any shape, -1 <= id < len.
            fill: what stands for -1.

        Returns:
            One raw id for an int; else an array of the shape of ``dense``, of dtype int64 or object (object also
            where integer ids meet padding).

        Raises:
            IndexError: an id below -1 or not below ``len``.
            TypeError: ``dense`` is not of an integer dtype.
        """
        index = np.asarray(dense)
        if index.dtype.kind not in "iu" and index.size:
            raise TypeError(message("dense ids", f"dtype {index.dtype}", "integers", "use encode() for raw ids"))
        if index.size and (int(index.min()) < -1 or int(index.max()) >= len(self)):
            bad = index[(index < -1) | (index >= len(self))].flat[0]
            raise IndexError(message("dense id", int(bad), f"0 <= id < {len(self)}, or -1 for padding"))
        padded = index < 0
        if not padded.any():
            found = self.ids[index.astype(np.int64)]
            return (found.item() if isinstance(found, np.generic) else found) if index.ndim == 0 else found
        out = np.empty(index.shape, object)
        out[~padded] = self.ids[index[~padded]]
        for place in np.argwhere(padded):  # one by one: a fill that is itself a sequence must not be spread
            out[tuple(place)] = fill
        return fill if index.ndim == 0 else out

    def subset(self, dense: NDArray[Any]) -> IdMap:
        """Return the map of the dense ids ``dense`` (distinct, in range), renumbered in that order."""
        made = IdMap._trusted(self.ids[dense].copy())
        return made

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.ids.tolist())

    def __contains__(self, raw: object) -> bool:
        try:
            return bool(self.encode(raw, unknown="mark") >= 0)
        except (TypeError, ValueError):
            return False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IdMap):
            return NotImplemented
        return self is other or (self.kind == other.kind and self.ids.tolist() == other.ids.tolist())

    def __hash__(self) -> int:
        return hash((len(self.ids), self.kind))

    def __getstate__(self) -> NDArray[Any]:
        return self.ids

    def __setstate__(self, ids: NDArray[Any]) -> None:
        self._setup(ids.copy())

    def __repr__(self) -> str:
        shown = ", ".join(repr(one) for one in self.ids[:3].tolist())
        return f"IdMap({len(self)} ids: {shown}{', ...' if len(self) > 3 else ''})"
