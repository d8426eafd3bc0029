"""Parsers of the text forms in which data sets are published; every error names the file and the line."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from recsys_fast.datasets.locate import Place
from recsys_fast.datasets.npz import Ragged
from recsys_fast.errors import message

_INT32_MAX = 2**31 - 1
_MEND = "the file is damaged or of another form: download it anew"


def fail(place: Place, file: str, line: int, what: str, expected: str) -> NoReturn:
    """Raise the error for one bad line (counted from 1)."""
    raise ValueError(message(f"line {line} of {file} in {place}", what, expected, _MEND))


def numbers(place: Place, file: str, columns: Sequence[int], separator: str | None = None, skip: int = 0) -> list[Any]:
    """Return the chosen columns of a table of numbers, each ``(n,) float64``.

    Args:
        place: where the file is.
        file: its name.
        columns: which columns, from 0.
        separator: between columns; None is any white space.
        skip: header lines.
    """
    text = place.text(file)
    if separator is not None and len(separator) > 1:
        text = type(text)(text.read().replace(separator, "\t"))
        separator = "\t"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*input contained no data.*")
            table = np.loadtxt(text, delimiter=separator, skiprows=skip, usecols=columns, ndmin=2, comments=None)
    except ValueError as error:
        raise ValueError(message(f"{file} in {place} cannot be read as numbers ({error})", mend=_MEND)) from error
    if table.size == 0:
        raise ValueError(message(f"{file} in {place} is empty", mend=_MEND))
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        fail(place, file, row + 1 + skip, "NaN or infinity", "numbers")
    return [np.ascontiguousarray(column) for column in table.T]


def whole(place: Place, file: str, column: NDArray[Any], first: int = 0, skip: int = 0) -> NDArray[np.int64]:
    """Return a column of ids or times as int64, checking that all are whole numbers >= ``first``."""
    bad = (column < first) | (column != np.floor(column)) | (column > 2.0**53)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        fail(place, file, row + 1 + skip, f"{column[row]:g}", f"a whole number of {first} or more")
    return column.astype(np.int64)


def _tokens(place: Place, file: str, data: bytes, lines: list[bytes]) -> NDArray[np.int64]:
    """Return all whole numbers of a text in order."""
    try:
        tokens = np.array(data.split(), dtype=bytes).astype(np.int64)
    except (ValueError, OverflowError):
        for number, line in enumerate(lines, 1):
            for token in line.split():
                if not token.isdigit() or len(token) > 18:
                    shown = token[:20].decode(errors="replace")
                    fail(place, file, number, repr(shown), "whole numbers only")
        raise
    if tokens.size and int(tokens.min()) < 0:
        negative = tokens.min()
        number = next(n for n, line in enumerate(lines, 1) if str(negative).encode() in line.split())
        fail(place, file, number, str(negative), "ids of 0 or more")
    return tokens


def keyed_lists(place: Place, file: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Read lines "key item item ...": keys ``(n_lines,)``, row_ptr ``(n_lines + 1,)`` and items, all int64.

    Empty lines are skipped; a line may hold a key and no item.
    """
    data = place.read(file)
    lines = data.split(b"\n")
    tokens = _tokens(place, file, data, lines)
    counts = np.array([len(line.split()) for line in lines], np.int64)
    counts = counts[counts > 0]
    if not len(counts):
        raise ValueError(message(f"{file} in {place} is empty", mend=_MEND))
    starts = np.cumsum(counts) - counts
    is_key = np.zeros(len(tokens), bool)
    is_key[starts] = True
    row_ptr = np.concatenate([[0], np.cumsum(counts - 1)]).astype(np.int64)
    return tokens[is_key], row_ptr, tokens[~is_key]


def by_key(keys: NDArray[np.int64], row_ptr: NDArray[np.int64], items: NDArray[np.int64], n_keys: int) -> Ragged:
    """Return lists in the order of their keys, one (possibly empty) per key 0 .. n_keys - 1; equal keys are joined."""
    lengths = np.diff(row_ptr)
    owner = np.repeat(keys, lengths)
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=n_keys)
    n_items = int(items.max()) + 1 if len(items) else 0
    if n_items > _INT32_MAX:
        raise ValueError(message("largest item id", n_items - 1, "less than 2**31 - 1", _MEND))
    return Ragged(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), items[order].astype(np.int32), n_items)


def counted_lists(place: Place, file: str, *, pairs: bool = False) -> Ragged:
    """Read lines "n id id ..." (or, with ``pairs``, "n id:count ..." where counts follow ids in the result)."""
    data = place.read(file)
    if pairs:
        data = data.replace(b":", b" ")
    lines = [line for line in data.split(b"\n") if line.strip()]
    tokens = _tokens(place, file, data, lines)
    width = 2 if pairs else 1
    row_ptr, firsts = [0], []
    start = 0
    for number, line in enumerate(lines, 1):
        count = len(line.split()) - 1
        if count != width * int(tokens[start]):
            fail(place, file, number, f"{count // width} ids", f"{int(tokens[start])}, as its first number says")
        firsts.append(start)
        start += count + 1
        row_ptr.append(row_ptr[-1] + count)
    ids = np.delete(tokens, firsts) if firsts else tokens
    if ids.size and int(ids.max()) >= _INT32_MAX:
        raise ValueError(message(f"{file} in {place}: largest id", int(ids.max()), "less than 2**31 - 1", _MEND))
    return Ragged(np.array(row_ptr, np.int64), ids.astype(np.int32), int(ids.max()) + 1 if ids.size else 0)


def libfm(place: Place, file: str) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Read lines "label id:1 id:1 ...": ids ``(n, n_fields) int32`` and labels ``(n,) int8``.

    All lines have equally many features. Labels above 0 become 1, others -1.
    """
    lines = [line.split() for line in place.read(file).splitlines() if line.strip()]
    if not lines:
        raise ValueError(message(f"{file} in {place} is empty", mend=_MEND))
    width = len(lines[0])
    ids, labels = np.empty((len(lines), width - 1), np.int32), np.empty(len(lines), np.int8)
    for row, tokens in enumerate(lines):
        if len(tokens) != width:
            fail(place, file, row + 1, f"{len(tokens) - 1} features", f"{width - 1} as in the first line")
        try:
            labels[row] = 1 if float(tokens[0]) > 0 else -1
            pairs = [token.split(b":") for token in tokens[1:]]
            if any(float(value) != 1 for _, value in pairs):
                fail(place, file, row + 1, "a feature value other than 1", "id:1 pairs")
            ids[row] = [int(feature) for feature, _ in pairs]
        except (ValueError, OverflowError) as error:
            if isinstance(error, ValueError) and str(error).startswith("line "):
                raise
            fail(place, file, row + 1, repr(b" ".join(tokens)[:60].decode(errors="replace")), "label id:1 id:1 ...")
    negative = (ids < 0).any(axis=1)
    if negative.any():
        fail(place, file, int(np.flatnonzero(negative)[0]) + 1, "a negative feature id", "ids of 0 or more")
    return ids, labels


def lines(place: Place, file: str) -> NDArray[Any]:
    """Return the lines of a text (some "words" of a vocabulary hold spaces), ``(n,)`` str."""
    return np.array([line.strip() for line in place.text(file).read().rstrip("\n").split("\n")])


def table(
    place: Place,
    file: str,
    *,
    separator: str = ",",
    names: Sequence[str] = (),
    encoding: str = "utf-8",
    data: bytes = b"",
) -> dict[str, NDArray[Any]]:
    """Read a delimited text table into a dict of column name to ``(n,)`` array of str.

    Args:
        place: where the file is.
        file: its name.
        separator: between columns.
        names: column names; empty takes them from the first line.
        encoding: of the file.
        data: its content where that has been read (and unpacked) already.
    """
    text = (data or place.read(file)).decode(encoding, errors="replace")
    if len(separator) > 1:
        rows = [line.split(separator) for line in text.splitlines() if line]
    else:
        stream = io.StringIO(text, newline="")
        if separator == ",":
            reader = csv.reader(stream)
        else:
            reader = csv.reader(stream, delimiter=separator, quoting=csv.QUOTE_NONE)
        rows = [row for row in reader if row]
    header = list(names) if names else (rows.pop(0) if rows else [])
    for number, row in enumerate(rows, 1 if names else 2):
        if len(row) < len(header):
            fail(place, file, number, f"{len(row)} columns", f"{len(header)}")
    return {name: np.array([row[place] for row in rows], dtype=str) for place, name in enumerate(header)}


def spread(
    place: Place, file: str, columns: dict[str, NDArray[Any]], key: str, n: int, first: int = 0
) -> dict[str, NDArray[Any]]:
    """Return a table in the order of the ids in its column ``key`` (counted from ``first``), ``n`` rows or more.

    Ids without a row get empty strings; the key column is left out.
    """
    try:
        ids = columns[key].astype(np.int64) - first
    except ValueError as error:
        raise ValueError(message(f"column {key!r} of {file} in {place}: {error}", mend=_MEND)) from error
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < max(1_000_000, 10 * n):
        what, got = (
            f"ids in column {key!r} of {file} in {place}",
            f"{int(ids.min()) + first} to {int(ids.max()) + first}",
        )
        raise ValueError(message(what, got, f"about {n} ids from {first}", _MEND))
    rows = max(n, int(ids.max(initial=-1)) + 1)
    table = {}
    for name, column in columns.items():
        if name != key:
            table[name] = np.zeros(rows, column.dtype)
            table[name][ids] = column
    return table
