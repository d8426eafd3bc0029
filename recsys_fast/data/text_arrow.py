"""Delimited text through Arrow's streaming reader: the fast path of ``text``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.arrow import arrow_ids, arrow_times, arrow_values
from recsys_fast.data.assemble import Chunk
from recsys_fast.errors import message

if TYPE_CHECKING:
    from recsys_fast.data.text import Layout, TextFormat
    from recsys_fast.data.text_fields import Dates


def chunks(path: Path, form: TextFormat, layout: Layout, dates: Dates) -> Iterator[Chunk]:
    """Yield the lines of one file.

    Ids and times are read as strings: a type guessed from the first chunk may be wrong for a later one.
    """
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    from recsys_fast.data.text_fields import NULLS

    names = [f"column {place}" for place in range(layout.n_fields)]
    user, item, value, timestamp = (None if place is None else names[place] for place in layout[:4])
    types = {name: pa.string() for name in (user, item, timestamp) if name is not None}
    if value is not None and value not in types:
        types[value] = pa.float64()
    read = pa_csv.ReadOptions(
        block_size=form.chunk_bytes,
        skip_rows=form.skip_rows + layout.n_above,
        column_names=names,
        encoding=form.encoding,
    )
    parse = pa_csv.ParseOptions(delimiter=form.separator)
    convert = pa_csv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=sorted(NULLS), strings_can_be_null=True
    )
    try:
        with pa_csv.open_csv(str(path), read_options=read, parse_options=parse, convert_options=convert) as reader:
            for batch in reader:
                values = None if value is None else _values(batch.column(value), path.name)
                times, gone = (None, None) if timestamp is None else _times(batch.column(timestamp), dates, path.name)
                users, items = arrow_ids(batch.column(user), "users"), arrow_ids(batch.column(item), "items")
                yield Chunk(users, items, values, times, gone)
    except (pa.ArrowInvalid, OSError) as error:
        if getattr(error, "errno", None):  # the system's, not Arrow's for a truncated file
            raise
        mend = "check the separator and the columns"
        raise ValueError(message(f"{path.name} cannot be read ({error})", mend=mend)) from error


def _values(array: Any, source: str) -> NDArray[np.float32]:
    import pyarrow as pa

    return arrow_values(array.cast(pa.float64()), f"values of {source}")


def _times(array: Any, dates: Dates, source: str) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """Return times as int64: whole numbers by Arrow, what it cannot read by the parser both engines share."""
    import pyarrow as pa

    if array.null_count < len(array):
        try:
            numbers = array.cast(pa.int64())
        except pa.ArrowInvalid:
            return dates.parse(array.fill_null("").to_pylist(), source)
        dates.agree("numbers", source)
        array = numbers
    return arrow_times(array if pa.types.is_integer(array.type) else array.cast(pa.int64()), f"times of {source}")
