"""Columns of raw ids, values and times, chunk by chunk, to the arrays of an ``Interactions``.

Order of work: entries with something missing go (or stop the reading), then ids outside of given maps go, then what
is left gets dense ids, values are imputed, duplicates merged. Every step is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.data.columns import RawColumn
from recsys_fast.data.id_encoder import IdEncoder
from recsys_fast.data.id_map import IdMap
from recsys_fast.data.report import CleaningReport, Step
from recsys_fast.errors import message

if TYPE_CHECKING:
    from recsys_fast.data.interactions import Interactions

DUPLICATES = ("sum", "max", "last", "error")
IMPUTATIONS = ("zero", "one", "mean", "median", "user_mean", "item_mean")
MISSING = ("error", "drop", *IMPUTATIONS)


_T = TypeVar("_T", bound=np.generic)


class Cleaning(TypedDict, total=False):
    """Options of every constructor that reads raw ids.

    Attributes:
        duplicates: what to do with a (user, item) pair that occurs again: "sum" (the default; without a value column
            the pair's count becomes its value), "max", "last" (by time where there are timestamps, ties by input
            order) or "error". Ratings want "last" or "error".
        missing: what to do with missing values: "error" (the default), "drop", or a named imputation, made before
            duplicates merge: "zero", "one", "mean", "median", "user_mean", "item_mean" (the global mean where a user
            or item has no known value). A missing id or timestamp cannot be imputed: every choice but "error" drops it.
        user_ids: a map to use as it is, such as the training set's; None makes one.
        item_ids: likewise for items.
        unknown: what to do with ids that are not in a given map: "error" (the default) or "drop".
    """

    duplicates: str
    missing: str
    user_ids: IdMap | None
    item_ids: IdMap | None
    unknown: str


class Chunk(NamedTuple):
    """Some entries as they were read. ``values`` is ``(n,) float32`` with NaN where missing."""

    users: RawColumn
    items: RawColumn
    values: NDArray[np.float32] | None = None
    timestamps: NDArray[np.int64] | None = None
    timestamps_missing: NDArray[np.bool_] | None = None


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(message(name, repr(value), "one of " + ", ".join(choices)))


class Collector:
    """Takes chunks, gives an ``Interactions``; keeps 8 to 20 bytes per entry (two codes, value, time), not the text.

    Args:
        source: what error messages and the report call the input.
        text: ids come from a text file (see ``IdEncoder``).
        duplicates, missing, user_ids, item_ids, unknown: see ``Cleaning``.
        build: what makes an object of the columns, in place of this module's ``build``; ``finish`` returns its result.
    """

    def __init__(
        self,
        source: str,
        *,
        text: bool = False,
        duplicates: str = "sum",
        missing: str = "error",
        user_ids: IdMap | None = None,
        item_ids: IdMap | None = None,
        unknown: str = "error",
        build: Callable[..., Any] | None = None,
    ) -> None:
        check_choice("duplicates", duplicates, DUPLICATES)
        check_choice("missing", missing, MISSING)
        check_choice("unknown", unknown, ("error", "drop"))
        for name, given in (("user_ids", user_ids), ("item_ids", item_ids)):
            if given is not None and not isinstance(given, IdMap):
                raise TypeError(message(name, type(given).__name__, "an IdMap or None", "wrap it: rf.IdMap(ids)"))
        self._source, self._duplicates, self._missing, self._unknown = source, duplicates, missing, unknown
        self._text, self._build = text, build
        self._encoders = (IdEncoder("user", user_ids, text=text), IdEncoder("item", item_ids, text=text))
        self._columns: tuple[list[NDArray[np.int32]], ...] = ([], [])
        self._values: list[NDArray[np.float32]] = []
        self._timestamps: list[NDArray[np.int64]] = []
        self._n_read = self._n_missing = self._n_unknown = 0

    def add(self, chunk: Chunk) -> None:
        """Take the entries of one chunk.

        Raises:
            ValueError: columns differ in length, or something is missing and ``missing="error"``.
            IndexError: an id is outside of a given map and ``unknown="error"``.
        """
        lengths = [len(column) for column in chunk[:4] if column is not None]
        if len(set(lengths)) > 1:
            what = f"columns of {self._source} differ in length"
            raise ValueError(message(what, lengths, "one entry per row in each"))
        n = lengths[0]
        chunk = self._without_missing(chunk)
        chunk = self._without_unknown(chunk)
        self._n_read += n
        for encoder, column, out in zip(self._encoders, chunk[:2], self._columns, strict=True):
            out.append(encoder.add(column))
        if chunk.values is not None:
            self._values.append(chunk.values)
        if chunk.timestamps is not None:
            self._timestamps.append(chunk.timestamps)

    def _without_missing(self, chunk: Chunk) -> Chunk:
        parts = [(chunk.users.missing, "user id"), (chunk.items.missing, "item id"), (chunk.timestamps_missing, "time")]
        if chunk.values is not None and self._missing in ("error", "drop"):
            nan = np.isnan(chunk.values)
            parts.append((nan if nan.any() else None, "value"))
        gone: NDArray[np.bool_] | None = None
        for mask, what in parts:
            if mask is None:
                continue
            if self._missing == "error":
                at = self._n_read + int(np.flatnonzero(mask)[0])
                mend = f'choose missing="drop" or an imputation of values: {", ".join(IMPUTATIONS)}'
                raise ValueError(message(f"missing {what} in row {at} of {self._source}", mend=mend))
            gone = mask if gone is None else gone | mask
        if gone is None:
            return chunk
        self._n_missing += int(gone.sum())
        return _keep(chunk, ~gone)

    def _without_unknown(self, chunk: Chunk) -> Chunk:
        known: NDArray[np.bool_] | None = None
        for encoder, column, what in zip(self._encoders, chunk[:2], ("user", "item"), strict=True):
            if encoder.grows:
                continue
            found = encoder.add(column) >= 0
            if not found.all() and self._unknown == "error":
                at = int(np.flatnonzero(~found)[0])
                raw = column.values[at if column.codes is None else column.codes[at]]
                raw = str(raw) if self._text and isinstance(raw, np.integer) else raw
                mend = 'choose unknown="drop" to leave such entries out'
                got = f"{raw.item() if isinstance(raw, np.generic) else raw!r}"
                raise IndexError(message(f"unknown {what} id in {self._source}", got, f"an id of {what}_ids", mend))
            known = found if known is None else known & found
        if known is None or known.all():
            return chunk
        self._n_unknown += int((~known).sum())
        return _keep(chunk, known)

    def finish(self) -> Interactions:
        """Return what was collected; the collector is empty afterwards."""
        steps = [Step("read", note=f"{self._n_read:,} rows of {self._source}")]
        if self._n_missing:
            steps.append(Step("missing", self._n_missing, note="an id, a time or a value was missing"))
        if self._n_unknown:
            steps.append(Step("unknown", self._n_unknown, note="the user or item is not in the given map"))
        dense, maps = [], []
        for encoder, parts in zip(self._encoders, self._columns, strict=True):
            id_map, final = encoder.finish()
            if final is not None:
                for place, codes in enumerate(parts):  # part by part: the whole column never exists twice
                    parts[place] = final[codes]
            dense.append(_joined(parts, np.int32))
            maps.append(id_map)
        values = _joined(self._values, np.float32) if self._values else None
        timestamps = _joined(self._timestamps, np.int64) if self._timestamps else None
        shape = (len(maps[0]), len(maps[1]))
        if values is not None and self._missing in IMPUTATIONS:
            values, n_imputed = impute(values, dense[0], dense[1], shape, self._missing)
            if n_imputed:
                steps.append(Step("imputed", note=f"{n_imputed:,} missing values set to {self._missing}"))
        columns: list[Any] = [*dense, values, timestamps]
        del dense, values, timestamps
        make = self._build or build
        made: Interactions = make(  # the columns are handed over, so that sorting them need not keep the old ones
            columns.pop(0), columns.pop(0), columns.pop(0), columns.pop(0), shape, self._duplicates,
            user_ids=maps[0], item_ids=maps[1], report=CleaningReport(tuple(steps)),
        )  # fmt: skip
        return made


def _keep(chunk: Chunk, mask: NDArray[np.bool_]) -> Chunk:
    """Return the entries where ``mask`` is True; times that stay are not missing."""
    values = None if chunk.values is None else chunk.values[mask]
    timestamps = None if chunk.timestamps is None else chunk.timestamps[mask]
    users, items = chunk.users.keep(mask), chunk.items.keep(mask)
    return Chunk(
        RawColumn(users.values, None, users.codes), RawColumn(items.values, None, items.codes), values, timestamps
    )


def _joined(parts: list[NDArray[_T]], dtype: type[_T]) -> NDArray[_T]:
    """Concatenate and empty the list: one column at a time exists twice, never all of them."""
    joined = np.concatenate(parts) if len(parts) > 1 else (parts[0] if parts else np.empty(0, dtype))
    parts.clear()
    return joined


def place_type(places: NDArray[np.int64], n: int) -> NDArray[np.integer]:
    """Return places in an input of ``n`` entries in the smaller type that holds them."""
    return places.astype(np.int32) if n < 2**31 else places


def impute(
    values: NDArray[np.float32],
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    shape: tuple[int, int],
    how: str,
) -> tuple[NDArray[np.float32], int]:
    """Return ``values`` with NaN replaced, and how many were; statistics are of the known values, in float64.

    Raises:
        ValueError: a mean or median is asked for and no value at all is known.
    """
    gone = np.isnan(values)
    n_gone = int(gone.sum())
    if not n_gone:
        return values, 0
    known, filled = ~gone, values.copy()
    if how in ("zero", "one"):
        filled[gone] = float(how == "one")
        return filled, n_gone
    if n_gone == len(values):
        raise ValueError(message(f'missing="{how}" with every value missing', mend='choose "zero", "one" or "drop"'))
    if how == "median":
        filled[gone] = np.median(values[known])
        return filled, n_gone
    mean = values[known].mean(dtype=np.float64)
    if how == "mean":
        filled[gone] = mean
        return filled, n_gone
    owner, n = (users, shape[0]) if how == "user_mean" else (items, shape[1])
    counts = np.bincount(owner[known], minlength=n)
    sums = np.bincount(owner[known], weights=values[known], minlength=n)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), mean)
    filled[gone] = means[owner[gone]]
    return filled, n_gone


def build(
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    values: NDArray[np.float32] | None,
    timestamps: NDArray[np.int64] | None,
    shape: tuple[int, int],
    duplicates: str,
    *,
    user_ids: IdMap | None = None,
    item_ids: IdMap | None = None,
    report: CleaningReport | None = None,
    order: NDArray[np.integer] | None = None,
) -> Interactions:
    """Return an ``Interactions`` of dense coordinates; duplicates merge and are counted.

    The time of a merged entry is the latest one for "sum" and "last", that of the kept value for "max".

    Args:
        order: ``(n,)`` place in the input of each entry, kept beside timestamps; None for 0 .. n - 1.
    """
    from recsys_fast.data.interactions import Interactions

    options: dict[str, Any] = {"shape": shape, "duplicates": duplicates, "name": "the interactions"}
    csr, source = ops.csr_from_coo(rows, cols, values, **options)
    n_merged = len(rows) - csr.nnz
    if n_merged and timestamps is not None and (timestamps[1:] < timestamps[:-1]).any():
        # The op merges in the order of its input, so hand the entries over in time order; rare enough to do it twice.
        del csr, source
        by_time = np.argsort(timestamps, kind="stable")
        rows, cols, values = rows[by_time], cols[by_time], None if values is None else values[by_time]
        csr, source = ops.csr_from_coo(rows, cols, values, **options)
        source = by_time[source]
        del by_time
    merged = csr.values if values is not None or (n_merged and duplicates == "sum") else None
    steps = report or CleaningReport()
    if n_merged:
        counted = ", which became counts" if values is None and duplicates == "sum" else ""
        steps = steps.plus(Step("duplicates", n_merged, note=f"merged by {duplicates}{counted}"))
    place: NDArray[np.integer] | None = None
    if timestamps is not None:
        place = place_type(source, len(rows)) if order is None else order[source]
        timestamps = timestamps[source]
    return Interactions._trusted(
        csr.row_ptr, csr.col_idx, merged, timestamps, shape,
        order=place, user_ids=user_ids, item_ids=item_ids, report=steps,
    )  # fmt: skip
