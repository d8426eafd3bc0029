"""What a column of a table means: one category, a number, or several categories."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from recsys_fast.errors import message

_MISSING = {
    "categorical": ("category", "most_frequent", "constant", "ignore", "error"),
    "numeric": ("category", "mean", "median", "most_frequent", "constant", "error"),
    "multi_valued": ("category", "ignore", "error"),
}
_UNKNOWN = ("ignore", "category", "error")
_SCALES = ("standard", "minmax", "bins", "none")
_NORMS = ("none", "l1", "l2")


@dataclasses.dataclass(frozen=True, slots=True)
class Categorical:
    """A column with one category in each cell: text, integers or other numbers; True and False are text.

    A category becomes a feature of its own with value 1.

    Args:
        name: of the column.
        missing: "category" (a feature of its own), "most_frequent", "constant" (``fill``), "ignore" (no feature) or
            "error".
        fill: the category that stands for missing ones with ``missing="constant"``.
        unknown: of a category that ``fit`` did not see, or saw fewer than ``min_count`` times: "ignore" (no feature),
            "category" (a feature of its own) or "error".
        min_count: how often a category must occur in ``fit`` to become a feature.
        n_buckets: a number: categories are not collected but hashed to so many features (CRC-32 of their text), for
            huge or growing vocabularies. No category is unknown then.
    """

    name: str
    missing: str = "category"
    fill: str | int | float | None = None
    unknown: str = "ignore"
    min_count: int = 1
    n_buckets: int | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_choice(self.name, "missing", self.missing, _MISSING["categorical"])
        if (self.fill is not None) != (self.missing == "constant"):
            raise ValueError(message(f"fill of {self.name!r}", repr(self.fill), 'a category with missing="constant"'))
        if isinstance(self.fill, bool) or not isinstance(self.fill, (str, int, float, type(None))):
            raise TypeError(message(f"fill of {self.name!r}", repr(self.fill), "text or a number"))
        if self.n_buckets is not None and self.missing == "most_frequent":
            raise ValueError(
                message(f'missing="most_frequent" of {self.name!r} needs categories', mend="use n_buckets=None")
            )
        _check_vocabulary(self.name, self.unknown, self.min_count, self.n_buckets)


@dataclasses.dataclass(frozen=True, slots=True)
class Numeric:
    """A column of numbers.

    Args:
        name: of the column.
        scale: "standard" (x - mean) / deviation, "minmax" (x - min) / (max - min), both of the known values in ``fit``
            and not clipped later (a column of equal values becomes 0), "none" x itself: one feature; or "bins": a
            feature per interval, with value 1.
        n_bins: at most so many bins, of about equally many values.
        edges: inner edges of the bins, ascending, instead of ``n_bins``; bin i holds edges[i - 1] <= x < edges[i], the
            outer bins whatever is below or above.
        missing: "category" (a feature of its own, and 0 for the number), "mean", "median", "most_frequent" (of the
            known values in ``fit``), "constant" (``fill``) or "error".
        fill: the number that stands for missing ones with ``missing="constant"``.
    """

    name: str
    scale: str = "standard"
    n_bins: int = 10
    edges: Sequence[float] | None = None
    missing: str = "category"
    fill: float | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_choice(self.name, "scale", self.scale, _SCALES)
        _check_choice(self.name, "missing", self.missing, _MISSING["numeric"])
        _check_count(self.name, "n_bins", self.n_bins, 2)
        if (self.fill is not None) != (self.missing == "constant"):
            raise ValueError(message(f"fill of {self.name!r}", repr(self.fill), 'a number with missing="constant"'))
        if self.fill is not None and not _is_number(self.fill):
            raise ValueError(message(f"fill of {self.name!r}", repr(self.fill), "a finite number"))
        if self.edges is None:
            return
        edges = tuple(self.edges)
        if self.scale != "bins":
            raise ValueError(message(f"edges of {self.name!r}", repr(edges), 'none unless scale="bins"'))
        if not edges or not all(map(_is_number, edges)) or any(a >= b for a, b in pairwise(edges)):
            raise ValueError(message(f"edges of {self.name!r}", repr(edges), "ascending finite numbers, at least one"))
        object.__setattr__(self, "edges", tuple(map(float, edges)))


@dataclasses.dataclass(frozen=True, slots=True)
class MultiValued:
    """A column with any number of categories in each cell: lists, or text such as "Comedy|Drama".

    Each category becomes a feature; one that a cell names twice counts once, and the order says nothing.

    Args:
        name: of the column.
        separator: what splits text, blanks around values are dropped; None for lists.
        normalize: value of the features: "none" 1, "l1" 1 / n, "l2" 1 / sqrt(n) for a cell of n features.
        missing: of a cell that is null (an empty list or text is not, it has no features): "category", "ignore" or
            "error".
        unknown: as in ``Categorical``.
        min_count: as in ``Categorical``, in cells.
        n_buckets: as in ``Categorical``.
    """

    name: str
    separator: str | None = None
    normalize: str = "none"
    missing: str = "category"
    unknown: str = "ignore"
    min_count: int = 1
    n_buckets: int | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.separator is not None and (not isinstance(self.separator, str) or not self.separator):
            raise ValueError(message(f"separator of {self.name!r}", repr(self.separator), "text, or None for lists"))
        _check_choice(self.name, "normalize", self.normalize, _NORMS)
        _check_choice(self.name, "missing", self.missing, _MISSING["multi_valued"])
        _check_vocabulary(self.name, self.unknown, self.min_count, self.n_buckets)


Column = Categorical | Numeric | MultiValued
KINDS: dict[str, type[Column]] = {"categorical": Categorical, "numeric": Numeric, "multi_valued": MultiValued}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(message("name of a column", repr(name), "text"))


def _check_choice(name: str, what: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(message(f"{what} of {name!r}", repr(value), "one of " + ", ".join(choices)))


def _check_count(name: str, what: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(message(f"{what} of {name!r}", repr(value), "an int"))
    if not least <= value < 2**31:
        raise ValueError(message(f"{what} of {name!r}", value, f"{least} to 2**31 - 1"))


def _check_vocabulary(name: str, unknown: str, min_count: int, n_buckets: int | None) -> None:
    _check_choice(name, "unknown", unknown, _UNKNOWN)
    _check_count(name, "min_count", min_count, 1)
    if min_count > 1 and unknown == "error":
        mend = 'use unknown="ignore" or "category"'
        raise ValueError(message(f"min_count of {name!r} would make rare categories errors", mend=mend))
    if n_buckets is not None:
        _check_count(name, "n_buckets", n_buckets, 1)
        if min_count > 1 or unknown != "ignore":
            mend = "leave min_count and unknown as they are, or use n_buckets=None"
            raise ValueError(
                message(f"n_buckets of {name!r}: hashed categories are neither rare nor unknown", mend=mend)
            )
