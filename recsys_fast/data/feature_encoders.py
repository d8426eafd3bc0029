"""Columns of a table to features: what ``fit`` learned about each, and the entries that its cells become."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.feature_columns import Categorical, Column, MultiValued, Numeric
from recsys_fast.data.feature_input import Cells, Table
from recsys_fast.errors import message

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Entries(NamedTuple):
    """Features of some rows: ``rows``, ``features`` (counted from the column's first) and ``values``, one each."""

    rows: I64
    features: I64
    values: F64


class Encoder(ABC):
    """A fitted column."""

    column: Column

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of the features."""

    @abstractmethod
    def encode(self, table: Table) -> Entries:
        """Return the features of the column in a table."""

    @abstractmethod
    def encode_missing(self) -> Entries:
        """Return the features of one row whose cell is missing."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return what was learned, as JSON holds it."""


def fit_column(column: Column, table: Table) -> Encoder:
    """Return the encoder of a column, learned from a table."""
    if isinstance(column, Numeric):
        return NumberEncoder(column, *_fit_numbers(column, table.numbers(column.name)))
    cells = _cells(column, table)
    fill = _fit_fill(column, cells)
    return CategoryEncoder(column, None if column.n_buckets else _vocabulary(column, cells, fill), fill)


def restore_column(column: Column, state: dict[str, Any]) -> Encoder:
    """Return the encoder that ``state`` described.

    Raises:
        ValueError: not such a state.
    """
    return (NumberEncoder if isinstance(column, Numeric) else CategoryEncoder).restored(column, state)  # type: ignore[arg-type]


def _cells(column: Categorical | MultiValued, table: Table) -> Cells:
    if isinstance(column, MultiValued):
        return table.lists(column.name, column.separator)
    return table.categories(column.name)


def _missing_error(name: str, row: int | None) -> ValueError:
    where = f"row {row} has no {name!r}" if row is not None else f"a row without features has no {name!r}"
    return ValueError(message(where, mend=f"choose another missing= for {name!r} than 'error'"))


def _order(value: str | int | float) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _fit_fill(column: Categorical | MultiValued, cells: Cells) -> Any:
    """Return the category that stands for missing ones, None where none does."""
    if isinstance(column, MultiValued) or column.missing not in ("most_frequent", "constant"):
        return None
    if column.missing == "constant":
        return column.fill
    if not cells.distinct:
        raise ValueError(message(f"every {column.name!r} is missing", mend='choose missing="category" or "constant"'))
    counts = np.bincount(cells.codes, minlength=len(cells.distinct))
    return min(zip(-counts, map(_order, cells.distinct), cells.distinct, strict=True))[2]


def _vocabulary(column: Categorical | MultiValued, cells: Cells, fill: Any) -> list[Any]:
    """Return the categories that become features: numbers ascending, then text."""
    rows = np.unique(cells.rows * max(1, len(cells.distinct)) + cells.codes) if len(cells.rows) else cells.rows
    counts = np.bincount(rows % max(1, len(cells.distinct)), minlength=len(cells.distinct))  # in how many cells
    kept = {value for value, count in zip(cells.distinct, counts, strict=True) if count >= column.min_count}
    if fill is not None:
        kept.add(fill)
    return sorted(kept, key=_order)


class CategoryEncoder(Encoder):
    """Categories to features of their own, in order: the vocabulary (or the buckets), unknown, missing.

    Args:
        column: what was declared.
        vocabulary: the categories that are features; None where they are hashed.
        fill: the category that stands for missing ones; None for none.
    """

    def __init__(self, column: Categorical | MultiValued, vocabulary: list[Any] | None, fill: Any) -> None:
        self.column: Categorical | MultiValued = column
        self.vocabulary, self.fill = vocabulary, fill
        n = len(vocabulary) if vocabulary is not None else int(column.n_buckets or 0)
        self._index = {value: place for place, value in enumerate(vocabulary or [])}
        self._unknown = n if column.unknown == "category" else -1
        n += column.unknown == "category"
        self._missing = n if column.missing == "category" else -1
        self._n_values = len(vocabulary) if vocabulary is not None else int(column.n_buckets or 0)

    def names(self) -> list[str]:
        """Return "name=category" or "name#bucket", "name:unknown", "name:missing"."""
        name = self.column.name
        if self.vocabulary is None:
            names = [f"{name}#{place}" for place in range(self._n_values)]
        else:
            names = [f"{name}={value}" for value in self.vocabulary]
        if self._unknown >= 0:
            names.append(f"{name}:unknown")
        return [*names, f"{name}:missing"] if self._missing >= 0 else names

    def _find(self, value: Any) -> int:
        """Return the feature of a category, -1 where it has none."""
        if self.vocabulary is None:
            return zlib.crc32(str(value).encode("utf-8", "surrogatepass")) % self._n_values
        return self._index.get(value, self._unknown)

    def encode(self, table: Table) -> Entries:
        """Return the features of the column in a table.

        Raises:
            ValueError: something is missing or unknown that may not be.
        """
        cells, name = _cells(self.column, table), self.column.name
        if self.column.missing == "error" and cells.missing.any():
            raise _missing_error(name, int(np.flatnonzero(cells.missing)[0]))
        of_distinct = np.array([self._find(value) for value in cells.distinct], np.int64)
        features = of_distinct[cells.codes] if len(of_distinct) else cells.codes
        if self.column.unknown == "error" and len(features) and features.min() < 0:
            at = int(np.flatnonzero(features < 0)[0])
            known = ", ".join(map(repr, (self.vocabulary or [])[:3])) or "(none)"
            what = f"unknown {name!r} in row {int(cells.rows[at])}"
            expected = f"one of {len(self.vocabulary or [])} categories such as {known}"
            mend = "choose unknown='ignore' or 'category'"
            raise ValueError(message(what, repr(cells.distinct[cells.codes[at]]), expected, mend))
        rows, features = cells.rows[features >= 0], features[features >= 0]
        gone = np.flatnonzero(cells.missing)
        alone = self.encode_missing() if len(gone) else None
        if alone is not None and len(alone.features):
            rows, features = np.append(rows, gone), np.append(features, np.full(len(gone), alone.features[0]))
        if isinstance(self.column, MultiValued):  # a cell has a feature once, also where two values share a bucket
            width = max(1, len(self.names()))
            pairs = np.unique(rows * width + features)
            rows, features = pairs // width, pairs % width
        return Entries(rows, features, self._weights(rows, table.n_rows))

    def _weights(self, rows: I64, n_rows: int) -> F64:
        how = self.column.normalize if isinstance(self.column, MultiValued) else "none"
        if how == "none":
            return np.ones(len(rows))
        n = np.bincount(rows, minlength=n_rows)[rows].astype(np.float64)
        return 1.0 / (n if how == "l1" else np.sqrt(n))

    def encode_missing(self) -> Entries:
        """Return the feature of a missing cell, or none.

        Raises:
            ValueError: cells must not be missing.
        """
        if self.column.missing == "error":
            raise _missing_error(self.column.name, None)
        feature = self._missing if self.fill is None else self._find(self.fill)
        n = int(feature >= 0)
        return Entries(np.zeros(n, np.int64), np.full(n, feature), np.ones(n))

    def state(self) -> dict[str, Any]:
        """Return vocabulary and fill."""
        return {"vocabulary": self.vocabulary, "fill": self.fill}

    @classmethod
    def restored(cls, column: Categorical | MultiValued, state: dict[str, Any]) -> CategoryEncoder:
        """Return the encoder of a ``state``.

        Raises:
            ValueError: not such a state.
        """
        if set(state) != {"vocabulary", "fill"}:
            raise ValueError(message("state", ", ".join(sorted(state))[:80], "vocabulary, fill"))
        vocabulary, fill = state["vocabulary"], state["fill"]
        wanted = column.missing in ("most_frequent", "constant")
        if (fill is not None) != wanted or (wanted and type(fill) not in (str, int, float)):
            raise ValueError(message("fill", repr(fill)[:80], "a category" if wanted else "none"))
        if column.n_buckets is not None:
            if vocabulary is not None:
                raise ValueError(message("vocabulary", repr(vocabulary)[:80], "none, as categories are hashed"))
            return cls(column, None, fill)
        plain = isinstance(vocabulary, list) and all(type(value) in (str, int, float) for value in vocabulary)
        if not plain or sorted(set(vocabulary), key=_order) != vocabulary or (wanted and fill not in vocabulary):
            raise ValueError(message("vocabulary", repr(vocabulary)[:80], "distinct categories in ascending order"))
        return cls(column, vocabulary, fill)


def _fit_numbers(column: Numeric, numbers: F64) -> tuple[F64, F64 | None, float | None]:
    """Return (shift, scale), inner edges (None unless there are bins), and what stands for missing numbers."""
    known = numbers[~np.isnan(numbers)]
    scale = np.array([0.0, 1.0])
    needs = column.scale in ("standard", "minmax") or (column.scale == "bins" and column.edges is None)
    if not len(known) and (needs or column.missing in ("mean", "median", "most_frequent")):
        mend = 'choose scale="none" and missing="category" or "constant", or leave the column out'
        raise ValueError(message(f"every {column.name!r} is missing", mend=mend))
    if column.scale == "standard":
        deviation = float(known.std())
        level = float(np.abs(known).max())
        scale = np.array([known.mean(), deviation if deviation > 1e-12 * level else 0.0])
    elif column.scale == "minmax":
        scale = np.array([known.min(), known.max() - known.min()])
    edges = None
    if column.scale == "bins":
        if column.edges is not None:
            edges = np.array(column.edges, np.float64)
        else:
            inner = np.unique(np.quantile(known, np.linspace(0, 1, column.n_bins + 1)[1:-1]))
            edges = inner[inner > known.min()]
    fill: float | None = None
    if column.missing == "constant":
        fill = float(column.fill or 0.0)
    elif column.missing in ("mean", "median"):
        fill = float(known.mean() if column.missing == "mean" else np.median(known))
    elif column.missing == "most_frequent":
        values, counts = np.unique(known, return_counts=True)
        fill = float(values[np.argmax(counts)])
    return scale, edges, fill


class NumberEncoder(Encoder):
    """Numbers to one scaled feature, or to bins; then a feature for missing ones.

    Args:
        column: what was declared.
        scale: (shift, divisor); a divisor of 0 makes every number 0.
        edges: inner edges of the bins, None for one feature.
        fill: what stands for missing numbers, None where they have a feature of their own or are errors.
    """

    def __init__(self, column: Numeric, scale: F64, edges: F64 | None, fill: float | None) -> None:
        self.column: Numeric = column
        self.scale, self.edges, self.fill = scale, edges, fill
        self._n_values = 1 if edges is None else len(edges) + 1

    def names(self) -> list[str]:
        """Return "name" or "name=[low, high)" for each bin, and "name:missing"."""
        name, names = self.column.name, [self.column.name]
        if self.edges is not None:
            ends = ["-inf", *(f"{edge:.12g}" for edge in self.edges), "inf"]
            names = [f"{name}=[{low}, {high})" for low, high in pairwise(ends)]
        return [*names, f"{name}:missing"] if self.column.missing == "category" else names

    def encode(self, table: Table) -> Entries:
        """Return the features of the column in a table.

        Raises:
            ValueError: a number is missing that may not be.
        """
        return self._encode(table.numbers(self.column.name))

    def encode_missing(self) -> Entries:
        """Return the features of a missing number.

        Raises:
            ValueError: numbers must not be missing.
        """
        if self.column.missing == "error":
            raise _missing_error(self.column.name, None)
        return self._encode(np.array([np.nan]))

    def _encode(self, numbers: F64) -> Entries:
        gone = np.isnan(numbers)
        if self.column.missing == "error" and gone.any():
            raise _missing_error(self.column.name, int(np.flatnonzero(gone)[0]))
        if self.fill is not None:
            numbers, gone = np.where(gone, self.fill, numbers), np.zeros(len(numbers), bool)
        rows = np.flatnonzero(~gone)
        known = numbers[rows]
        if self.edges is None:
            divisor = float(self.scale[1])
            values = (known - self.scale[0]) / divisor if divisor else np.zeros(len(known))
            features = np.zeros(len(rows), np.int64)
        else:
            features, values = np.searchsorted(self.edges, known, side="right"), np.ones(len(rows))
        lost = np.flatnonzero(gone)
        rows, features = np.append(rows, lost), np.append(features, np.full(len(lost), self._n_values))
        return Entries(rows, features, np.append(values, np.ones(len(lost))))

    def state(self) -> dict[str, Any]:
        """Return scale, edges and fill."""
        edges = None if self.edges is None else self.edges.tolist()
        return {"scale": self.scale.tolist(), "edges": edges, "fill": self.fill}

    @classmethod
    def restored(cls, column: Numeric, state: dict[str, Any]) -> NumberEncoder:
        """Return the encoder of a ``state``.

        Raises:
            ValueError: not such a state.
        """
        if set(state) != {"scale", "edges", "fill"}:
            raise ValueError(message("state", ", ".join(sorted(state))[:80], "scale, edges, fill"))
        scale, edges, fill = state["scale"], state["edges"], state["fill"]
        if not _floats(scale) or len(scale) != 2 or scale[1] < 0:
            raise ValueError(message("scale", repr(scale)[:80], "a shift and a divisor"))
        binned = column.scale == "bins"
        if (edges is not None) != binned or (binned and (not _floats(edges) or sorted(set(edges)) != edges)):
            raise ValueError(message("edges", repr(edges)[:80], "ascending numbers" if binned else "none"))
        wanted = column.missing not in ("category", "error")
        if (fill is not None) != wanted or (wanted and not _floats([fill])):
            raise ValueError(message("fill", repr(fill)[:80], "a number" if wanted else "none"))
        return cls(column, np.array(scale, np.float64), None if edges is None else np.array(edges, np.float64), fill)


def _floats(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) in (int, float) and abs(value) < 1e300 for value in values)
