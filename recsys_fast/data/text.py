"""Delimited text to an ``Interactions``, a chunk of lines at a time."""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import importlib.util
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.assemble import Chunk, Cleaning, Collector, check_choice
from recsys_fast.data.columns import RawColumn, as_timestamps, as_values, objects
from recsys_fast.data.frames import missing_extra
from recsys_fast.data.interactions import Interactions
from recsys_fast.data.parquet import file_list, source_name
from recsys_fast.errors import message

NULLS = frozenset(["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"])
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open}
_LINE_BYTES = 32  # a usual line; decides how many lines make a chunk


class TextFormat(NamedTuple):
    """How a text file is laid out and read; the fields are arguments of ``Interactions.from_csv``."""

    columns: tuple[str | int, str | int, str | int | None, str | int | None]
    separator: str
    header: bool
    encoding: str
    skip_rows: int
    chunk_bytes: int
    engine: str

    def checked(self) -> TextFormat:
        """Return the format with the engine chosen.

        Raises:
            ValueError: a field that makes no sense.
            ImportError: pyarrow was asked for and is not there.
        """
        if not self.separator or any(c in self.separator for c in '\r\n"'):
            raise ValueError(message("separator", repr(self.separator), "characters other than line ends and quotes"))
        if self.skip_rows < 0:
            raise ValueError(message("skip_rows", self.skip_rows, "at least 0"))
        if self.chunk_bytes < 1:
            raise ValueError(message("chunk_bytes", self.chunk_bytes, "at least 1"))
        for column in self.columns[:2]:
            if column is None:
                raise ValueError(message("user and item", "None", "a column name or position"))
        if not self.header and any(isinstance(column, str) for column in self.columns):
            raise ValueError(message("a column name with header=False", mend="give columns as 0-based positions"))
        check_choice("engine", self.engine, ("auto", "pyarrow", "python"))
        there = importlib.util.find_spec("pyarrow") is not None
        if self.engine == "pyarrow" and not there:
            raise missing_extra("pyarrow", 'engine="pyarrow"')
        if self.engine == "pyarrow" and len(self.separator) > 1:
            raise ValueError(message("separator of the pyarrow engine", repr(self.separator), "one character"))
        if self.engine != "auto":
            return self
        return self._replace(engine="pyarrow" if there and len(self.separator) == 1 else "python")


def read_text(path: str | Path | list[str | Path], form: TextFormat, options: Cleaning) -> Interactions:
    """Return the lines of text files as an ``Interactions``; see ``Interactions.from_csv``."""
    from recsys_fast.data import text_arrow

    form = form.checked()
    paths = file_list(path)
    collector = Collector(source_name(paths), text=True, **options)
    dates = Dates()
    for one in paths:
        try:
            layout = _layout(one, form)
            if layout is not None:
                read = text_arrow.chunks if form.engine == "pyarrow" else _chunks
                for chunk in read(one, form, layout, dates):
                    collector.add(chunk)
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            mend = 'name its encoding, such as encoding="latin-1"' if isinstance(error, UnicodeDecodeError) else None
            raise ValueError(message(f"{one.name} cannot be read ({error})", mend=mend)) from error
        collector.add(_empty(form))  # so that columns which were named exist even where no line does
    return collector.finish()


def _empty(form: TextFormat) -> Chunk:
    none = RawColumn(np.empty(0, object))
    values = None if form.columns[2] is None else np.empty(0, np.float32)
    return Chunk(none, none, values, None if form.columns[3] is None else np.empty(0, np.int64))


def _open(path: Path, form: TextFormat) -> IO[str]:
    """Open a file as text, past the lines to skip; a byte order mark is no part of the first field."""
    encoding = "utf-8-sig" if form.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else form.encoding
    file: Any = _OPENERS.get(path.suffix, open)(path, "rt", encoding=encoding, newline="")
    for _ in range(form.skip_rows):
        file.readline()
    return file  # type: ignore[no-any-return]


def _rows(file: Iterable[str], form: TextFormat) -> Iterator[list[str]]:
    """Yield the fields of each line that is not empty."""
    if len(form.separator) == 1:
        yield from (row for row in csv.reader(file, delimiter=form.separator) if row)
    else:
        lines = (line.rstrip("\r\n") for line in file)
        yield from (line.split(form.separator) for line in lines if line)


class Layout(NamedTuple):
    """Where the wanted columns of a file are.

    Attributes:
        positions: of user, item, value, timestamp; None for those not wanted.
        n_fields: fields a line has.
        n_above: lines above the first line of data, after those to skip.
    """

    positions: list[int | None]
    n_fields: int
    n_above: int


def _layout(path: Path, form: TextFormat) -> Layout | None:
    """Return where the wanted columns are, None in an empty file."""
    n_blank = 0
    with _open(path, form) as file:
        while (line := file.readline()) and not line.strip("\r\n"):
            n_blank += 1
    if not line:
        return None
    first = next(_rows([line], form))
    positions: list[int | None] = []
    for column in form.columns:
        if isinstance(column, str):
            if first.count(column) != 1:
                what = f"column {column!r} is {'twice' if column in first else 'not'} in the header of {path.name}"
                raise ValueError(message(what, expected="one of " + ", ".join(map(repr, first[:20]))))
            positions.append(first.index(column))
        elif column is None:
            positions.append(None)
        elif not 0 <= column < len(first):
            mend = None if len(first) > 1 else f"is the separator {form.separator!r} right?"
            raise ValueError(message(f"column position in {path.name}", column, f"0 <= position < {len(first)}", mend))
        else:
            positions.append(int(column))
    return Layout(positions, len(first), n_blank + form.header)


def _chunks(path: Path, form: TextFormat, layout: Layout, dates: Dates) -> Iterator[Chunk]:
    """Yield the lines of one file, split in Python."""
    user, item, value, timestamp = layout.positions
    with _open(path, form) as file:
        rows = _rows(file, form)
        if form.header:
            next(rows)
        n_before = 0
        while taken := list(itertools.islice(rows, max(1, form.chunk_bytes // _LINE_BYTES))):
            for place, row in enumerate(taken):
                if len(row) != layout.n_fields:
                    what = f"fields in data line {n_before + place} of {path.name}"
                    raise ValueError(message(what, len(row), str(layout.n_fields), "check the separator and quoting"))
            n_before += len(taken)
            assert user is not None and item is not None
            values = None if value is None else _numbers([row[value] for row in taken], path.name)
            times, gone = (None, None) if timestamp is None else dates.parse([row[timestamp] for row in taken], path.name)
            yield Chunk(_ids([row[user] for row in taken]), _ids([row[item] for row in taken]), values, times, gone)


def _ids(texts: list[str]) -> RawColumn:
    missing = np.fromiter((text in NULLS for text in texts), bool, len(texts))
    return RawColumn(objects(texts), missing if missing.any() else None)


def _numbers(texts: list[str], source: str) -> NDArray[np.float32]:
    numbers = np.empty(len(texts))
    for place, text in enumerate(texts):
        try:
            numbers[place] = np.nan if text in NULLS else float(text)
        except ValueError:
            raise ValueError(message(f"value in {source}", repr(text), "a number")) from None
    return as_values(numbers, f"values of {source}")


class Dates:
    """Parses times; remembers whether they are numbers or dates, because a file that mixes both has no one unit."""

    def __init__(self) -> None:
        self._kind: str | None = None

    def agree(self, kind: str, source: str) -> None:
        """Raise ValueError where numbers follow dates or the other way round."""
        if self._kind not in (None, kind):
            raise ValueError(message(f"times in {source}", f"{kind} after {self._kind}", "one of the two"))
        self._kind = kind

    def parse(self, texts: list[str], source: str) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Return times as int64 (dates as microseconds since 1970 in UTC), and which are missing."""
        values: list[Any] = [None if text in NULLS else text for text in texts]
        there = [text for text in values if text is not None]
        if there:
            try:
                parsed: list[Any] = [_number(text) for text in there]
                self.agree("numbers", source)
            except _NotANumber:
                parsed = [_date(text, source) for text in there]
                self.agree("dates", source)
            rest = iter(parsed)
            values = [None if text is None else next(rest) for text in values]
        return as_timestamps(values, f"times of {source}")


class _NotANumber(Exception):
    """A time is not written as a number."""


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise _NotANumber from None


def _date(text: str, source: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        expected = "a whole number or an ISO date such as 2024-05-01 12:30:00"
        raise ValueError(message(f"time in {source}", repr(text), expected)) from None
