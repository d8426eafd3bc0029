"""Fields of text files to ids, numbers and times."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.columns import RawColumn, as_timestamps, as_values, objects
from recsys_fast.errors import message

NULLS = frozenset(["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"])


def ids(texts: Sequence[str]) -> RawColumn:
    """Return ids as they are written, and which are missing."""
    column = objects(list(texts))
    if NULLS.isdisjoint(texts):
        return RawColumn(column)
    return RawColumn(column, np.fromiter((text in NULLS for text in texts), bool, len(texts)))


def numbers(texts: Sequence[str], source: str) -> NDArray[np.float32]:
    """Return values as float32, NaN where missing.

    Raises:
        ValueError: a field is not a number, or not a finite float32.
    """
    try:
        parsed = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:  # the slow way: some are missing, or one is no number
        parsed = np.empty(len(texts))
        for place, text in enumerate(texts):
            try:
                parsed[place] = np.nan if text in NULLS else float(text)
            except ValueError:
                raise ValueError(message(f"value in {source}", repr(text), "a number")) from None
    return as_values(parsed, f"values of {source}")


class Dates:
    """Parses times; remembers whether they are numbers or dates, because a file that mixes both has no one unit."""

    def __init__(self) -> None:
        self._kind: str | None = None

    def agree(self, kind: str, source: str) -> None:
        """Raise ValueError where numbers follow dates or the other way round."""
        if self._kind not in (None, kind):
            raise ValueError(message(f"times in {source}", f"{kind} after {self._kind}", "one of the two"))
        self._kind = kind

    def parse(self, texts: Sequence[str], source: str) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Return times as int64 (dates as microseconds since 1970 in UTC), and which are missing.

        Raises:
            ValueError: a field is neither a whole number nor an ISO date, or both kinds occur.
        """
        try:
            times = np.fromiter(map(int, texts), np.int64, len(texts))
        except (ValueError, OverflowError):
            return self._parse_any(texts, source)
        if len(texts):
            self.agree("numbers", source)
        return times, None

    def _parse_any(self, texts: Sequence[str], source: str) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
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
        try:
            return as_timestamps(values, f"times of {source}")
        except TypeError as error:  # a fraction, or a number beyond int64
            raise ValueError(str(error)) from error


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
