"""Raw ids to codes while the ids are still arriving, chunk by chunk; the result does not depend on the chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.columns import RawColumn, objects
from recsys_fast.data.id_map import IdMap
from recsys_fast.errors import message

_INT32_MAX = 2**31 - 1


def _distinct(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct ids in ascending order, and the place of each entry among them."""
    low, high = int(ids.min()), int(ids.max())
    if high - low >= 8 * len(ids) + (1 << 20):
        return np.unique(ids, return_inverse=True)
    shifted = ids - low  # ids that lie close together need no sort, only a table
    present = np.zeros(high - low + 1, bool)
    present[shifted] = True
    table = np.cumsum(present) - 1
    return np.flatnonzero(present) + low, table[shifted]


def _canonical(text: str) -> bool:
    """Whether ``text`` is what ``str`` of an int64 prints, so that "007" and "7" stay two ids."""
    digits = text[1:] if text.startswith("-") else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        return False
    return digits[0] != "0" or text == "0"


class IdEncoder:
    """Collects raw ids and numbers them.

    While chunks arrive, codes follow first appearance; ``finish`` tells the final order: ascending for integers and
    for strings, first appearance for ids of other kinds.

    Args:
        name: "user" or "item", for error messages.
        known: a map that is complete already: ids outside of it get -1 and none is added.
        text: ids come from a text file: where all of them read as plain integers, they become integers.
    """

    def __init__(self, name: str, known: IdMap | None = None, *, text: bool = False) -> None:
        self._name, self._known, self._text = name, known, text
        self._ids = np.empty(0, np.int64)  # integers seen so far, ascending
        self._codes = np.empty(0, np.int32)  # and the code of each
        self._index: dict[Any, int] | None = None  # takes over from the two with the first id that is no integer

    @property
    def grows(self) -> bool:
        """Whether new ids are added (no complete map was given)."""
        return self._known is None

    def add(self, column: RawColumn) -> NDArray[np.int32]:
        """Return the code of each entry, ``(n,) int32``, -1 where unknown; the column has nothing missing."""
        values = column.values
        if not len(values):
            return np.empty(0, np.int32)
        if self._known is not None:
            codes = self._known.find(self._as_known(values))
        elif values.dtype.kind == "i" and self._index is None:
            codes = self._add_ints(values)
        else:
            plain = values.tolist()
            codes = self._add_objects([str(one) for one in plain] if self._is_text(values) else plain)
        return codes if column.codes is None else codes[column.codes]

    def _as_known(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return ids of a text file as the kind that the given map holds."""
        assert self._known is not None
        if self._text and values.dtype.kind == "i":  # read as plain integers already
            return values if self._known.kind == "int" else objects([str(one) for one in values.tolist()])
        if not self._text or self._known.kind != "int":
            return values
        return objects([int(one) if _canonical(one) else one for one in values.tolist()])

    def _is_text(self, values: NDArray[Any]) -> bool:
        """Return whether integers are fields of a text file, some of which are ids of another kind."""
        return self._text and values.dtype.kind == "i"

    def _add_ints(self, values: NDArray[np.int64]) -> NDArray[np.int32]:
        distinct, place = _distinct(values)
        at = np.searchsorted(self._ids, distinct)
        codes = np.full(len(distinct), -1, np.int32)
        inside = at < len(self._ids)
        hit = np.flatnonzero(inside)[self._ids[at[inside]] == distinct[inside]]
        codes[hit] = self._codes[at[hit]]
        new = codes < 0
        self._check(len(self._ids) + int(new.sum()))
        codes[new] = np.arange(len(self._ids), len(self._ids) + int(new.sum()), dtype=np.int32)
        self._ids = np.insert(self._ids, at[new], distinct[new])
        self._codes = np.insert(self._codes, at[new], codes[new])
        return codes[place]

    def _add_objects(self, values: list[Any]) -> NDArray[np.int32]:
        if self._index is None:
            by_code = np.empty(len(self._ids), np.int64)
            by_code[self._codes] = self._ids
            plain = by_code.tolist()
            known = [str(one) for one in plain] if self._text else plain
            self._index = {one: code for code, one in enumerate(known)}
        index = self._index
        codes = np.fromiter((index.setdefault(one, len(index)) for one in values), np.int64, len(values))
        self._check(len(index))
        return codes.astype(np.int32)

    def _check(self, n_ids: int) -> None:
        if n_ids > _INT32_MAX:
            raise ValueError(message(f"number of distinct {self._name} ids", n_ids, "at most 2**31 - 1"))

    def finish(self) -> tuple[IdMap, NDArray[np.int32] | None]:
        """Return the map, and the final dense id of each code (None where codes are final already)."""
        if self._known is not None:
            return self._known, None
        if self._index is None:
            dense = np.empty(len(self._codes), np.int32)
            dense[self._codes] = np.arange(len(self._codes), dtype=np.int32)
            return IdMap._trusted(self._ids), dense
        ids = list(self._index)
        if self._text and all(map(_canonical, ids)):
            ids = [int(one) for one in ids]
        kinds = set(map(type, ids))
        if not kinds <= {int} and not kinds <= {str}:
            return IdMap._trusted(objects(ids)), None
        order = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)
        dense = np.empty(len(ids), np.int32)
        dense[order] = np.arange(len(ids), dtype=np.int32)
        if kinds == {int} and ids[order[0]] >= -(2**63) and ids[order[-1]] < 2**63:
            return IdMap._trusted(np.array(ids, np.int64)[order]), dense
        return IdMap._trusted(objects(ids)[order]), dense
