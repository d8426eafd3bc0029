"""Raw columns to arrays of known dtypes: ids, values and timestamps, with a mask of what is missing.

Nothing here merges, drops or imputes; a missing entry stays in its place and is marked.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import message

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_INT64_LIMIT = 2.0**63
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_NULL_TYPES = ("NoneType", "NAType", "NaTType")  # None, pandas.NA, pandas.NaT, told by name: pandas stays unimported


@dataclasses.dataclass(frozen=True, slots=True)
class RawColumn:
    """A column of raw ids.

    Attributes:
        values: ``(n,) int64`` or ``(n,) object``; with ``codes`` the distinct ids, ``(n_distinct,)``.
        missing: ``(n,) bool``, None where nothing is missing. ``values`` holds a filler there.
        codes: ``(n,) int32`` place in ``values`` of each entry, None where ``values`` is the column itself.
    """

    values: NDArray[Any]
    missing: NDArray[np.bool_] | None = None
    codes: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.values if self.codes is None else self.codes)

    def keep(self, mask: NDArray[np.bool_]) -> RawColumn:
        """Return the column without the entries where ``mask`` is False, nor distinct ids that no entry has."""
        missing = None if self.missing is None else self.missing[mask]
        if self.codes is None:
            return RawColumn(self.values[mask], missing)
        codes = self.codes[mask]
        used = np.zeros(len(self.values), bool)
        used[codes] = True
        if used.all():
            return RawColumn(self.values, missing, codes)
        renumber = (np.cumsum(used) - 1).astype(np.int32)
        return RawColumn(self.values[used], missing, renumber[codes])


def _array(raw: Any, name: str) -> NDArray[Any]:
    """Return ``raw`` as a 1-D array; lists stay lists of objects, so that [1, "a"] does not become strings."""
    if isinstance(raw, (str, bytes)) or not (hasattr(raw, "__array__") or hasattr(raw, "__len__")):
        raise TypeError(message(name, type(raw).__name__, "a list, an array or a column"))
    array = np.asarray(raw) if hasattr(raw, "__array__") else objects(list(raw))
    if array.ndim != 1:
        raise ValueError(message(name, f"{array.ndim} dimensions", "1"))
    return array


def objects(values: list[Any]) -> NDArray[Any]:
    """Return a 1-D object array of ``values``, also where they are tuples."""
    return np.fromiter(values, object, len(values))


def is_missing(value: Any) -> bool:
    """Return whether a value stands for nothing: None, NaN, NaT, pandas.NA."""
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    return type(value).__name__ in _NULL_TYPES


def _mask(values: list[Any], types: set[type]) -> NDArray[np.bool_] | None:
    """Return which of the objects are missing, None where none is."""
    suspects = (float, np.floating, np.datetime64, np.timedelta64)
    if not any(issubclass(kind, suspects) or kind.__name__ in _NULL_TYPES for kind in types):
        return None
    mask = np.fromiter(map(is_missing, values), bool, len(values))
    return mask if mask.any() else None


def _whole(array: NDArray[Any]) -> bool:
    """Whether floats are all whole numbers that int64 holds exactly enough to be ids or times."""
    return bool((np.abs(array) < _INT64_LIMIT).all() and (array == np.floor(array)).all())


def raw_ids(raw: Any, name: str) -> RawColumn:
    """Return a column of raw ids; whole numbers of any dtype, floats too, become int64, everything else objects.

    Raises:
        TypeError: not a column, or an id is not hashable.
        ValueError: not 1-D.
    """
    array = _array(raw, name)
    if array.dtype.kind == "i":
        return RawColumn(array.astype(np.int64, copy=False))
    if array.dtype.kind == "u" and (not array.size or int(array.max()) < 2**63):
        return RawColumn(array.astype(np.int64))
    if array.dtype.kind == "f":
        mask = np.isnan(array)
        filled = np.where(mask, 0, array)
        if _whole(filled):
            return RawColumn(filled.astype(np.int64), mask if mask.any() else None)
    values = array.tolist()
    types = set(map(type, values))
    for kind in types:
        if kind.__hash__ is None:
            raise TypeError(message(f"{name} holds a {kind.__name__}", expected="hashable ids", mend="pass tuples"))
    missing = _mask(values, types)
    if missing is not None:
        values = [None if gone else value for value, gone in zip(values, missing.tolist(), strict=True)]
        types = {type(value) for value in values if value is not None}
    numeric = (int, float, np.integer, np.floating)
    if types and all(issubclass(kind, numeric) and kind is not bool for kind in types):
        numbers = [0 if value is None else value for value in values]
        if all(value == value // 1 and -(2**63) <= value < 2**63 for value in numbers):
            return RawColumn(np.array([int(value) for value in numbers], np.int64), missing)
    return RawColumn(objects(values), missing)


def _numbers(raw: Any, name: str) -> NDArray[Any]:
    """Return a column of numbers in a numeric dtype; objects become float64 with NaN where missing."""
    array = _array(raw, name)
    if array.dtype.kind == "O":
        values = array.tolist()
        missing = _mask(values, set(map(type, values)))
        if missing is not None:
            values = [np.nan if gone else value for value, gone in zip(values, missing.tolist(), strict=True)]
        for place, value in enumerate(values):
            if not isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
                raise TypeError(message(f"{name}[{place}]", repr(value), "a number", "convert the column to numbers"))
        array = np.array(values, np.float64)
    if array.dtype.kind not in "biuf":
        raise TypeError(message(name, f"dtype {array.dtype}", "numbers", "convert the column to numbers"))
    return array


def as_values(raw: Any, name: str = "values") -> NDArray[np.float32]:
    """Return ``(n,) float32`` with NaN where a value is missing.

    Raises:
        TypeError: not numbers.
        ValueError: not 1-D, infinite, or beyond the range of float32.
    """
    array = _numbers(raw, name)
    if array.dtype.kind == "f" and array.size:
        with np.errstate(invalid="ignore"):
            bad = np.abs(array) > _FLOAT32_MAX  # False for NaN
        if bad.any():
            place = int(np.flatnonzero(bad)[0])
            raise ValueError(message(f"{name}[{place}]", array[place], "a finite float32", "drop or clip it first"))
    return array.astype(np.float32)


def as_numbers(raw: Any, name: str) -> NDArray[np.float64]:
    """Return ``(n,) float64`` with NaN where a number is missing.

    Raises:
        TypeError: not numbers.
        ValueError: not 1-D, or infinite.
    """
    array = _numbers(raw, name).astype(np.float64)
    if np.isinf(array).any():
        place = int(np.flatnonzero(np.isinf(array))[0])
        raise ValueError(message(f"{name}[{place}]", array[place], "a finite number", "drop or clip it first"))
    return array


def as_timestamps(raw: Any, name: str = "timestamps") -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """Return ``(n,) int64`` and which are missing; dates and datetimes become microseconds since 1970 in UTC.

    Integers, and floats that hold whole numbers, stay as they are in whatever unit they have.

    Raises:
        TypeError: neither integers nor dates.
        ValueError: not 1-D, a fraction, or beyond int64.
    """
    array = _array(raw, name)
    kind, missing = array.dtype.kind, None
    if kind == "O":
        values = array.tolist()
        missing = _mask(values, set(map(type, values)))
        gone = [False] * len(values) if missing is None else missing.tolist()
        return np.array([0 if g else _time(v, name) for v, g in zip(values, gone, strict=True)], np.int64), missing
    if kind == "M":
        missing = np.isnat(array)
        array = np.where(missing, np.datetime64(0, "us"), array.astype("datetime64[us]")).astype(np.int64)
    elif kind == "f":
        missing = np.isnan(array)
        array = np.where(missing, 0, array)
        if not _whole(array):
            raise ValueError(message(name, "floats with fractions", "whole numbers", "multiply by the unit and round"))
    elif kind == "u" and array.size and int(array.max()) >= 2**63:
        raise ValueError(message(name, int(array.max()), "at most 2**63 - 1"))
    elif kind not in "iu":
        raise TypeError(message(name, f"dtype {array.dtype}", "integers or dates", "parse the column into datetimes"))
    return array.astype(np.int64), missing if missing is not None and missing.any() else None


def _time(value: Any, name: str) -> int:
    """Return one time as an integer; datetimes without a zone are in UTC."""
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[us]").astype(np.int64))
    if isinstance(value, datetime.datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
        return (aware - _EPOCH) // _MICROSECOND
    if isinstance(value, datetime.date):
        return (value - _EPOCH.date()).days * 86_400_000_000
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return int(value)
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(float(value)) < _INT64_LIMIT:
        return int(value)
    raise TypeError(message(name, repr(value), "whole numbers or dates", "parse the column into datetimes"))
