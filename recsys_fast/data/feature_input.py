"""Tables of features, as frames or as dicts of columns, to the cells that the encoders take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.columns import RawColumn, as_numbers, is_missing, objects, raw_ids
from recsys_fast.data.frames import as_frame, check_columns, filled, frame_ids
from recsys_fast.errors import message

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Cells(NamedTuple):
    """The categories in a column: each row has one, several or none.

    Attributes:
        rows: ``(m,) int64`` row of each value, ascending.
        codes: ``(m,) int64`` place of each value in ``distinct``.
        distinct: the values that occur: str, int or float.
        missing: ``(n,) bool`` rows whose cell is missing (not: an empty list).
    """

    rows: I64
    codes: I64
    distinct: list[Any]
    missing: NDArray[np.bool_]


class Table:
    """Columns by name, from a pandas, polars or Arrow table, or a dict of lists and arrays.

    Args:
        data: the table.

    Raises:
        TypeError: neither a table nor a dict of columns.
        ValueError: columns of different lengths, or no column.
        ImportError: a table without narwhals installed.
    """

    def __init__(self, data: Any) -> None:
        self._frame: Any = None
        if isinstance(data, Mapping):
            self._columns: dict[str, Any] = {str(name): column for name, column in data.items()}
            for name, column in self._columns.items():
                if isinstance(column, (str, bytes)) or not hasattr(column, "__len__"):
                    raise TypeError(message(f"column {name!r}", type(column).__name__, "a list or an array"))
            lengths = {name: len(column) for name, column in self._columns.items()}
            if len(set(lengths.values())) != 1:
                got = ", ".join(f"{name!r} {n}" for name, n in lengths.items()) or "no column"
                raise ValueError(message("lengths of the columns", got, "one length"))
            self.n_rows = next(iter(lengths.values()))
            return
        self._frame = as_frame(data, "a table of features", "or pass a dict of arrays")[1]
        self.n_rows = len(self._frame)

    def check(self, names: list[str]) -> None:
        """Raise ValueError, naming what there is, unless every column is there once."""
        there = list(self._columns) if self._frame is None else [str(name) for name in self._frame.columns]
        check_columns(list(names), there, "the table")

    def ids(self, name: str) -> RawColumn:
        """Return a column of ids or categories."""
        if self._frame is not None:
            return frame_ids(self._frame[name], name)
        return raw_ids(self._columns[name], name)

    def numbers(self, name: str) -> F64:
        """Return a column of numbers, NaN where missing."""
        if self._frame is None:
            return as_numbers(self._columns[name], name)
        there, null = filled(self._frame[name])
        values = as_numbers(there, name)
        if null is None:
            return values
        out = np.full(len(null), np.nan)
        out[~null] = values
        return out

    def categories(self, name: str) -> Cells:
        """Return a column with one category in each cell.

        Raises:
            TypeError: a value that is neither text nor a number.
        """
        try:
            column = self.ids(name)
        except TypeError as error:
            if "hashable" not in str(error):
                raise
            mend = "declare the column MultiValued"
            raise TypeError(message(f"a cell of {name}", "a collection", "one category", mend)) from error
        missing = np.zeros(len(column), bool) if column.missing is None else column.missing
        rows = np.flatnonzero(~missing)
        values = column.values if column.missing is None else column.values[rows]
        return Cells(rows, *_distinct(values, name), missing)

    def lists(self, name: str, separator: str | None) -> Cells:
        """Return a column with several categories in each cell: lists, or text that is split.

        Raises:
            TypeError: a cell that is no list (or no text, with a separator), or holds another kind of value.
        """
        cells = self._columns[name] if self._frame is None else self._frame[name].to_list()
        missing = np.zeros(self.n_rows, bool)
        lengths, flat = np.zeros(self.n_rows, np.int64), []
        for row, cell in enumerate(cells):
            if is_missing(cell):
                missing[row] = True
                continue
            values = _split(cell, separator, f"{name}[{row}]")
            lengths[row] = len(values)
            flat.extend(values)
        return Cells(np.repeat(np.arange(self.n_rows), lengths), *_distinct(objects(flat), name), missing)


def _split(cell: Any, separator: str | None, where: str) -> list[Any]:
    """Return the values of one cell, without those that are missing or blank."""
    if isinstance(cell, str):
        if separator is None:
            raise TypeError(message(where, repr(cell), "a list", "name the separator, such as separator='|'"))
        return [part for piece in cell.split(separator) if (part := piece.strip())]
    if not isinstance(cell, (list, tuple, set, frozenset, np.ndarray)):
        raise TypeError(message(where, repr(cell)[:80], "a list" if separator is None else "text or a list"))
    return [value for value in (cell.tolist() if isinstance(cell, np.ndarray) else cell) if not is_missing(value)]


def _distinct(values: NDArray[Any], name: str) -> tuple[I64, list[Any]]:
    """Return the code of each value, and the distinct values as str, int or float."""
    if values.dtype.kind == "i":
        unique, codes = np.unique(values, return_inverse=True)
        return codes.astype(np.int64), unique.tolist()
    index: dict[Any, int] = {}
    keys = [str(bool(value)) if isinstance(value, (bool, np.bool_)) else value for value in values.tolist()]
    try:
        raw = np.fromiter((index.setdefault(key, len(index)) for key in keys), np.int64, len(keys))
    except TypeError as error:
        raise TypeError(message(f"a value of {name}: {error}", expected="text or a number")) from error
    plain = [_plain(key, name) for key in index]
    merged: dict[Any, int] = {}  # numpy's numbers and Python's are one category
    codes = np.array([merged.setdefault(value, len(merged)) for value in plain], np.int64)
    return codes[raw] if len(codes) else raw, list(merged)


def _plain(value: Any, name: str) -> str | int | float:
    """Return a category as text or a number, which a file can hold."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return int(value) if float(value).is_integer() else float(value)
    mend = "convert the column to text or numbers"
    raise TypeError(message(f"a value of {name}", repr(value)[:80], "text or a number", mend))
