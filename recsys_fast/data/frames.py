"""pandas, polars and Arrow tables to an ``Interactions``, through narwhals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.assemble import Chunk, Cleaning, Collector
from recsys_fast.data.columns import RawColumn, as_timestamps, as_values, raw_ids
from recsys_fast.data.interactions import Interactions
from recsys_fast.errors import message


def missing_extra(package: str, purpose: str) -> ImportError:
    """Return the error for an optional package that is not installed."""
    mend = 'install it with: pip install "recsys_fast[data]"'
    return ImportError(message(f"{purpose} needs {package}, which is not installed", mend=mend))


def as_frame(frame: Any, purpose: str, other: str) -> tuple[Any, Any]:
    """Return narwhals and its view of a table in memory.

    Args:
        frame: a pandas, polars or Arrow table.
        purpose: what needs narwhals, for messages.
        other: what to do without a table, for messages.

    Raises:
        ImportError: narwhals is not installed.
        TypeError: not a table in memory.
    """
    try:
        import narwhals.stable.v1 as nw
    except ImportError as error:
        raise missing_extra("narwhals", purpose) from error
    try:
        return nw, nw.from_native(frame, eager_only=True)
    except TypeError as error:
        mend = f"collect a lazy frame first; {other}"
        raise TypeError(message("frame", type(frame).__name__, "a pandas, polars or Arrow table", mend)) from error


def check_columns(wanted: list[str | None], there: list[str], source: str) -> None:
    """Raise ValueError, naming what there is, unless every wanted column is there once."""
    for name in wanted:
        if name is not None and there.count(name) != 1:
            what = f"column {name!r} is {'not in' if name not in there else 'twice in'} {source}"
            raise ValueError(message(what, expected="one of " + ", ".join(map(repr, there[:20]))))


def read_frame(
    frame: Any, user: str, item: str, value: str | None, timestamp: str | None, options: Cleaning
) -> Interactions:
    """Return the rows of a table as an ``Interactions``; see ``Interactions.from_frame``."""
    nw, table = as_frame(frame, "from_frame", "pass arrays to Interactions.from_coo")
    collector = Collector("the table", **options)
    check_columns([user, item, value, timestamp], [str(name) for name in table.columns], "the table")
    users, items = frame_ids(table[user], user), frame_ids(table[item], item)
    values = None if value is None else _values(table[value], value)
    times, gone = (None, None) if timestamp is None else _times(table[timestamp], timestamp, nw)
    collector.add(Chunk(users, items, values, times, gone))
    return collector.finish()


def filled(series: Any) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return the entries that are not null, and which are null (None if none).

    Nulls go before the conversion to numpy, because some libraries turn integers with nulls into floats.
    """
    null = np.asarray(series.is_null().to_numpy(), dtype=bool)
    if not null.any():
        return np.asarray(series.to_numpy()), None
    return np.asarray(series.drop_nulls().to_numpy()), null


def frame_ids(series: Any, name: str) -> RawColumn:
    """Return a column of raw ids."""
    there, null = filled(series)
    column = raw_ids(there, name)
    if null is None:
        return column
    values = np.zeros(len(null), column.values.dtype)
    values[~null] = column.values
    missing = null.copy()
    if column.missing is not None:
        missing[~null] = column.missing
    return RawColumn(values, missing)


def _values(series: Any, name: str) -> NDArray[np.float32]:
    there, null = filled(series)
    values = as_values(there, name)
    if null is None:
        return values
    out = np.full(len(null), np.nan, np.float32)
    out[~null] = values
    return out


def _times(series: Any, name: str, nw: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    if isinstance(series.dtype, (nw.Datetime, nw.Date)):
        series = series.cast(nw.Datetime("us")) if isinstance(series.dtype, nw.Date) else series
        series = series.dt.timestamp("us")  # zones become UTC
    there, null = filled(series)
    times, gone = as_timestamps(there, name)
    if null is None:
        return times, gone
    out = np.zeros(len(null), np.int64)
    out[~null] = times
    missing = null.copy()
    if gone is not None:
        missing[~null] = gone
    return out, missing
