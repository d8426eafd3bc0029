"""Lines of plain decimal numbers to arrays, a column at a time: what makes the Python engine fast on ids and ratings.

Whatever is not plain (quotes, missing fields, other ids than integers, exponents, dates) is left to the general way, so
the results and the errors are those of the general way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.assemble import Chunk
from recsys_fast.data.columns import RawColumn, as_values

if TYPE_CHECKING:
    from recsys_fast.data.text import Layout
    from recsys_fast.data.text_fields import Dates

I64 = NDArray[np.int64]

_MAX_DIGITS = 18  # all of them fit in int64
_MAX_EXACT = 15  # digits of a fraction whose integer a float64 holds exactly: one correctly rounded division is left
_MAX_FIELD = 131_072  # the csv module refuses longer ones
_ZERO, _MINUS, _DOT, _NEWLINE = b"0-.\n"


def separable(separator: str) -> bool:
    """Return whether the lines between such separators can be plain."""
    return len(separator) == 1 and separator.isascii() and separator not in "0123456789.-"


def plain_chunk(block: str, separator: str, layout: Layout, dates: Dates, source: str) -> Chunk | None:
    """Return the entries of whole lines, None where one of the wanted fields is not a plain number.

    Args:
        block: the lines; the last one may lack its end.
        separator: one character.
        layout: where the wanted columns are.
        dates: told that times are numbers.
        source: the file in error messages.

    Raises:
        ValueError: a value beyond float32, or numbers after dates.
    """
    if '"' in block:
        return None
    block = block.replace("\r\n", "\n")
    if "\r" in block:
        return None
    data = np.frombuffer((block if block.endswith("\n") else block + "\n").encode("utf-8", "surrogatepass"), np.uint8)
    ends = np.flatnonzero((data == ord(separator)) | (data == _NEWLINE))
    width = layout.n_fields
    lines = np.count_nonzero(data == _NEWLINE)
    if len(ends) != lines * width or (data[ends[width - 1 :: width]] != _NEWLINE).any():
        return None
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    if int((ends - starts).max()) > _MAX_FIELD:
        return None

    def field(column: int) -> tuple[I64, I64]:
        return starts[column::width], ends[column::width] - starts[column::width]

    users = _integers(data, *field(layout.user), canonical=True)
    items = None if users is None else _integers(data, *field(layout.item), canonical=True)
    if users is None or items is None:
        return None
    values = times = None
    if layout.timestamp is not None:
        times = _integers(data, *field(layout.timestamp), canonical=False)
        if times is None:
            return None
    if layout.value is not None:
        parsed = _decimals(data, *field(layout.value))
        if parsed is None:
            return None
        values = as_values(parsed, f"values of {source}")
    if times is not None:
        dates.agree("numbers", source)
    return Chunk(RawColumn(users), RawColumn(items), values, times)


def _signed(data: NDArray[np.uint8], starts: I64, lengths: I64) -> tuple[NDArray[np.bool_], I64, I64] | None:
    """Return which fields have a minus, and the rest of each; None where a field is empty."""
    if not lengths.all():
        return None
    minus = data[starts] == _MINUS
    if not minus.any():
        return minus, starts, lengths
    return (minus, starts + minus, lengths - minus) if (lengths > minus).all() else None


def _integers(data: NDArray[np.uint8], starts: I64, lengths: I64, *, canonical: bool) -> I64 | None:
    """Return fields of at most 18 digits as integers, None where one is not; canonical: as ``str`` prints them."""
    signed = _signed(data, starts, lengths)
    if signed is None or int(signed[2].max()) > _MAX_DIGITS:
        return None
    minus, starts, lengths = signed
    if canonical and ((data[starts] == _ZERO) & ((lengths > 1) | minus)).any():
        return None
    number = np.zeros(len(starts), np.int64)
    shortest = int(lengths.min())
    for place in range(int(lengths.max())):
        rows = slice(None) if place < shortest else np.flatnonzero(lengths > place)
        digit = data[starts[rows] + place] - np.uint8(_ZERO)
        if (digit > 9).any():
            return None
        number[rows] = number[rows] * 10 + digit
    return np.where(minus, -number, number) if minus.any() else number


def _decimals(data: NDArray[np.uint8], starts: I64, lengths: I64) -> NDArray[np.float64] | None:
    """Return fields such as 4, -4.5 or 0.25 as floats, rounded as ``float`` does; None where one is of another form."""
    signed = _signed(data, starts, lengths)
    if signed is None or int(signed[2].max()) > _MAX_EXACT + 1:
        return None
    minus, starts, lengths = signed
    number, n_after, dots = (np.zeros(len(starts), np.int64) for _ in range(3))
    shortest = int(lengths.min())
    for place in range(int(lengths.max())):
        rows = slice(None) if place < shortest else np.flatnonzero(lengths > place)
        char = data[starts[rows] + place]
        digit = char - np.uint8(_ZERO)
        is_dot = char == _DOT
        if ((digit > 9) & ~is_dot).any():
            return None
        n_after[rows] += (dots[rows] > 0) & ~is_dot
        dots[rows] += is_dot
        number[rows] = np.where(is_dot, number[rows], number[rows] * 10 + digit)
    digits = lengths - dots
    if int(dots.max()) > 1 or int(digits.min()) < 1 or int(digits.max()) > _MAX_EXACT:
        return None
    parsed = number / 10.0**n_after
    return np.where(minus, -parsed, parsed)
