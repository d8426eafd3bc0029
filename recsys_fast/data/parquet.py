"""Parquet files to an ``Interactions``, a chunk of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recsys_fast.data.arrow import arrow_ids, arrow_times, arrow_values
from recsys_fast.data.assemble import Chunk, Cleaning, Collector
from recsys_fast.data.frames import check_columns, missing_extra
from recsys_fast.data.interactions import Interactions
from recsys_fast.data.progress import reading
from recsys_fast.errors import message


def file_list(path: str | Path | list[str | Path]) -> list[Path]:
    """Return the files as paths.

    Raises:
        FileNotFoundError: one of them is not there.
        ValueError: no file at all, or a folder.
    """
    paths = [Path(one) for one in (path if isinstance(path, (list, tuple)) else [path])]
    if not paths:
        raise ValueError(message("path", "an empty list", "at least one file"))
    for one in paths:
        if not one.exists():
            raise FileNotFoundError(message("no such file", str(one)))
        if not one.is_file():
            raise ValueError(message("path", f"{one}, which is not a file", "a file", "list the files of a folder"))
    return paths


def source_name(paths: list[Path]) -> str:
    """Return what messages call the files."""
    return paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more files"


def read_parquet(
    path: str | Path | list[str | Path],
    user: str,
    item: str,
    value: str | None,
    timestamp: str | None,
    chunk_rows: int,
    options: Cleaning,
    progress: bool | None,
) -> Interactions:
    """Return the rows of Parquet files as an ``Interactions``; see ``Interactions.from_parquet``."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise missing_extra("pyarrow", "from_parquet") from error
    if chunk_rows < 1:
        raise ValueError(message("chunk_rows", chunk_rows, "at least 1"))
    paths = file_list(path)
    collector = Collector(source_name(paths), **options)
    for one in paths:
        for chunk in _chunks(one, (user, item, value, timestamp), chunk_rows, progress):
            collector.add(chunk)
    return collector.finish()


def _chunks(
    path: Path, columns: tuple[str, str, str | None, str | None], chunk_rows: int, progress: bool | None
) -> Iterator[Chunk]:
    """Yield the rows of one file, at least one chunk even where there are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            check_columns(list(columns), file.schema_arrow.names, path.name)
            names = [name for name in columns if name is not None]
            n_read = 0
            with reading(path.name, file.metadata.num_rows, " rows", progress) as reached:
                for batch in file.iter_batches(chunk_rows, columns=list(dict.fromkeys(names))):
                    yield _chunk(batch, columns)
                    n_read += len(batch)
                    reached(n_read)
            empty = pa.RecordBatch.from_pylist([], schema=file.schema_arrow)
            yield _chunk(empty, columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(message(f"{path.name} cannot be read as Parquet ({error})")) from error


def _chunk(batch: Any, columns: tuple[str, str, str | None, str | None]) -> Chunk:
    user, item, value, timestamp = columns
    values = None if value is None else arrow_values(batch.column(value), value)
    times, gone = (None, None) if timestamp is None else arrow_times(batch.column(timestamp), timestamp)
    return Chunk(arrow_ids(batch.column(user), user), arrow_ids(batch.column(item), item), values, times, gone)
