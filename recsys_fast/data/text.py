"""Delimited text to an ``Interactions``, a chunk of lines at a time."""

from __future__ import annotations

import bz2
import csv
import gzip
import importlib.util
import io
import itertools
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from recsys_fast.data.assemble import Chunk, Cleaning, Collector, check_choice
from recsys_fast.data.columns import RawColumn
from recsys_fast.data.frames import missing_extra
from recsys_fast.data.interactions import Interactions
from recsys_fast.data.parquet import file_list, source_name
from recsys_fast.data.progress import reading
from recsys_fast.data.text_fields import Dates, ids, numbers
from recsys_fast.data.text_plain import plain_chunk, separable
from recsys_fast.errors import message

Reached = Callable[[int], None]

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
_LINE_BYTES = 32  # a usual line; decides how many lines make a chunk in Python
_BLOCK = 1 << 20  # characters of plain lines that are parsed at a time
_MAX_LINES = 1 << 15  # more objects at a time leave the cache and feed the garbage collector


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


def read_text(
    path: str | Path | list[str | Path], form: TextFormat, options: Cleaning, progress: bool | None
) -> Interactions:
    """Return the lines of text files as an ``Interactions``; see ``Interactions.from_csv``."""
    form = form.checked()
    paths = file_list(path)
    collector = Collector(source_name(paths), text=True, **options)
    dates = Dates()
    for one in paths:
        try:
            layout = _layout(one, form)
            if layout is not None:
                total = None if form.engine == "pyarrow" and one.suffix in _OPENERS else one.stat().st_size
                with reading(one.name, total, "B", progress) as reached:
                    for chunk in _chunks(one, form, layout, dates, reached):
                        collector.add(chunk)
        except (UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
            if getattr(error, "errno", None):  # the system's, not one of a damaged file
                raise
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
    opener: Any = _OPENERS.get(path.suffix) or open
    file: IO[str] = opener(path, "rt", encoding=encoding, newline="")
    for _ in range(form.skip_rows):
        file.readline()
    return file


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
        user, item, value, timestamp: 0-based positions; None for those not wanted.
        n_fields: fields a line has.
        n_above: lines above the first line of data, after those to skip.
    """

    user: int
    item: int
    value: int | None
    timestamp: int | None
    n_fields: int
    n_above: int


def _layout(path: Path, form: TextFormat) -> Layout | None:
    """Return where the wanted columns are, None in a file without data."""
    n_blank = 0
    with _open(path, form) as file:
        while (line := file.readline()) and not line.strip("\r\n"):
            n_blank += 1
        has_data = bool(line) and (not form.header or any(more.strip("\r\n") for more in file))
    if not line:
        return None
    first = next(_rows([line], form))
    user, item, value, timestamp = form.columns
    layout = Layout(
        _position(user, first, path.name, form),
        _position(item, first, path.name, form),
        None if value is None else _position(value, first, path.name, form),
        None if timestamp is None else _position(timestamp, first, path.name, form),
        len(first),
        n_blank + form.header,
    )
    return layout if has_data else None


def _position(column: str | int, first: list[str], source: str, form: TextFormat) -> int:
    """Return where a column is in a line such as ``first``, which is the header if there is one."""
    mend = None if len(first) > 1 else f"is the separator {form.separator!r} right?"
    if isinstance(column, str):
        if first.count(column) != 1:
            what = f"column {column!r} is {'twice' if column in first else 'not'} in the header of {source}"
            raise ValueError(message(what, expected="one of " + ", ".join(map(repr, first[:20])), mend=mend))
        return first.index(column)
    if not 0 <= column < len(first):
        raise ValueError(message(f"column position in {source}", column, f"0 <= position < {len(first)}", mend))
    return int(column)


def _chunks(path: Path, form: TextFormat, layout: Layout, dates: Dates, reached: Reached) -> Iterator[Chunk]:
    """Yield the lines of one file with the chosen engine."""
    if form.engine == "pyarrow":
        from recsys_fast.data import text_arrow

        for n_blocks, chunk in enumerate(text_arrow.chunks(path, form, layout, dates), 1):
            yield chunk
            reached(n_blocks * form.chunk_bytes)
        return
    with _open(path, form) as file:
        for chunk in _python_chunks(file, path.name, form, layout, dates):
            yield chunk
            reached(os.lseek(file.fileno(), 0, os.SEEK_CUR))  # of the file itself, also where it is packed


def _python_chunks(file: IO[str], source: str, form: TextFormat, layout: Layout, dates: Dates) -> Iterator[Chunk]:
    """Yield the lines of one file: plain numbers column by column, and from the first block that is not so, in general.

    Blocks end with lines. A block without quotes holds whole entries, so the general way may begin with any of them.
    """
    above, n_before = [file.readline() for _ in range(layout.n_above)], 0
    lines: Iterable[str] = file
    if separable(form.separator) and not any('"' in line for line in above):
        while block := file.read(min(form.chunk_bytes, _BLOCK)):
            block += file.readline()
            chunk = plain_chunk(block, form.separator, layout, dates, source)
            if chunk is None:
                lines = itertools.chain(io.StringIO(block, newline=""), file)
                break
            n_before += len(chunk.users)
            yield chunk
        else:
            return
        rows = _rows(lines, form)
    else:
        rows = _rows(itertools.chain(above, file), form)
        if form.header:
            next(rows)
    yield from _general_chunks(rows, n_before, source, form, layout, dates)


def _general_chunks(
    rows: Iterator[list[str]], n_before: int, source: str, form: TextFormat, layout: Layout, dates: Dates
) -> Iterator[Chunk]:
    """Yield entries from the fields of lines; ``n_before`` lines of data came before them."""
    user, item, value, timestamp = layout[:4]
    n_lines = min(max(1, form.chunk_bytes // _LINE_BYTES), _MAX_LINES)
    while taken := list(itertools.islice(rows, n_lines)):
        if set(map(len, taken)) != {layout.n_fields}:
            place = next(place for place, row in enumerate(taken) if len(row) != layout.n_fields)
            what = f"fields in data line {n_before + place} of {source}"
            mend = "check the separator and quoting"
            raise ValueError(message(what, len(taken[place]), str(layout.n_fields), mend))
        n_before += len(taken)
        fields = list(zip(*taken, strict=True))
        values = None if value is None else numbers(fields[value], source)
        times, gone = (None, None) if timestamp is None else dates.parse(fields[timestamp], source)
        yield Chunk(ids(fields[user]), ids(fields[item]), values, times, gone)
