"""Arrow columns to raw columns without a Python object per row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.columns import RawColumn, as_timestamps, as_values, objects, raw_ids
from recsys_fast.errors import message


def _null(array: Any) -> NDArray[np.bool_] | None:
    """Return which entries are null, None where none is."""
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=bool) if array.null_count else None


def arrow_ids(array: Any, name: str) -> RawColumn:
    """Return an Arrow array of ids; strings become distinct strings and codes."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        coded = array.dictionary_encode()
        codes = coded.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
        return RawColumn(objects(coded.dictionary.to_pylist()), _null(array), codes)
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return RawColumn(array.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64), _null(array))
    return raw_ids(array.to_pylist(), name)


def arrow_values(array: Any, name: str) -> NDArray[np.float32]:
    """Return an Arrow array of numbers as float32, NaN where null."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_null(kind):
        return np.full(len(array), np.nan, np.float32)
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    if not any(test(kind) for test in numeric):
        raise TypeError(message(f"type of column {name!r}", kind, "numbers", "convert the column first"))
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    return as_values(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), name)


def arrow_times(array: Any, name: str) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """Return an Arrow array of integers, whole floats or dates as int64, and which are null."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.int64), np.ones(len(array), bool)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        array = array.cast(pa.timestamp("us"), safe=False) if pa.types.is_date(kind) else array
        array = array.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise TypeError(message(f"type of column {name!r}", kind, "integers or dates", "convert the column first"))
    times, gone = as_timestamps(array.fill_null(0).to_numpy(zero_copy_only=False), name)
    null = _null(array)
    return times, null if gone is None else (gone if null is None else gone | null)
