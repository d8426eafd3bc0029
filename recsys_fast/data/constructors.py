"""From files and tables to an ``Interactions``: its constructors beside the one from sparse matrices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from recsys_fast.data.assemble import Cleaning

if TYPE_CHECKING:
    from recsys_fast.data.interactions import Interactions


class Constructors:
    """The constructors that ``Interactions`` inherits; each imports its reader when called."""

    @classmethod
    def from_coo(
        cls,
        users: Any,
        items: Any,
        values: Any = None,
        timestamps: Any = None,
        *,
        shape: tuple[int, int] | None = None,
        raw_ids: bool = False,
        **options: Unpack[Cleaning],
    ) -> Interactions:
        """Make one from parallel arrays, one entry each.

        Args:
            users: ``(n,)`` user of each entry: row numbers, or ids of any hashable kind with ``raw_ids=True``.
            items: ``(n,)`` item of each entry, likewise.
            values: ``(n,)`` numbers; NaN or None where missing. None counts every entry 1.
            timestamps: ``(n,)`` integers of any unit, or dates.
            shape: (n_users, n_items); None takes the largest number + 1. Not with raw ids.
            raw_ids: ``users`` and ``items`` are raw ids, to be numbered.
            **options: see ``Cleaning``; row numbers may get ``user_ids`` and ``item_ids`` of the length of ``shape``.

        Raises:
            TypeError: row numbers that are not integers, values that are not numbers.
            ValueError: lengths differ, a number is negative or outside ``shape``, a value is infinite, or missing
                with ``missing="error"``.
            IndexError: a raw id is outside of a given map.
        """
        from recsys_fast.data import arrays

        if raw_ids:
            return arrays.from_raw(users, items, values, timestamps, shape, options)
        return arrays.from_numbers(users, items, values, timestamps, shape, options)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str = "user",
        item: str = "item",
        value: str | None = None,
        timestamp: str | None = None,
        **options: Unpack[Cleaning],
    ) -> Interactions:
        """Make one from a pandas, polars or Arrow table of raw ids (needs narwhals: ``recsys_fast[data]``).

        Args:
            frame: a table in memory.
            user, item, value, timestamp: column names; no value column counts every row 1.
            **options: see ``Cleaning``.

        Raises:
            ImportError: narwhals is not installed.
            TypeError: not a table in memory.
            ValueError: a column is not there, or see ``from_coo``.
        """
        from recsys_fast.data.frames import read_frame

        return read_frame(frame, user, item, value, timestamp, options)

    @classmethod
    def from_csv(
        cls,
        path: str | Path | list[str | Path],
        *,
        user: str | int = 0,
        item: str | int = 1,
        value: str | int | None = None,
        timestamp: str | int | None = None,
        separator: str = ",",
        header: bool = True,
        encoding: str = "utf-8",
        skip_rows: int = 0,
        chunk_bytes: int = 1 << 24,
        engine: str = "auto",
        progress: bool | None = None,
        **options: Unpack[Cleaning],
    ) -> Interactions:
        """Read text files of one entry a line in chunks: about 60 bytes an entry at the peak, however long the text.

        Ids that all read as plain integers become integers, else all of them stay strings ("007" is not "7").

        Args:
            path: a file, or files that are read as one; ``.gz`` and ``.bz2`` are decompressed.
            user, item, value, timestamp: column names (with a header) or 0-based positions.
            separator: one character or several, such as ``"::"``.
            header: whether the first line (after ``skip_rows``) names the columns.
            encoding: of the text.
            skip_rows: lines to skip at the top of each file.
            chunk_bytes: bytes of text read at a time.
            engine: "pyarrow", "python", or "auto" for pyarrow where it is installed and knows the separator. Without
                it lines of plain numbers are read as fast; others take several microseconds each.
            progress: show a bar once reading takes more than a second; None where standard error is a terminal.
            **options: see ``Cleaning``; missing means an empty field, NA, NaN, null, None or N/A.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a column is not there, a line has too few fields, a field is not a number; see ``from_coo``.
            ImportError: ``engine="pyarrow"`` without pyarrow.
        """
        from recsys_fast.data.text import TextFormat, read_text

        columns = (user, item, value, timestamp)
        form = TextFormat(columns, separator, header, encoding, skip_rows, chunk_bytes, engine)
        return read_text(path, form, options, progress)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path | list[str | Path],
        *,
        user: str = "user",
        item: str = "item",
        value: str | None = None,
        timestamp: str | None = None,
        chunk_rows: int = 1 << 20,
        progress: bool | None = None,
        **options: Unpack[Cleaning],
    ) -> Interactions:
        """Read Parquet files in chunks (needs pyarrow: ``recsys_fast[data]``); only the named columns are read.

        Args:
            path: a file, or files that are read as one.
            user, item, value, timestamp: column names.
            chunk_rows: rows read at a time.
            progress: show a bar once reading takes more than a second; None where standard error is a terminal.
            **options: see ``Cleaning``.

        Raises:
            ImportError: pyarrow is not installed.
            FileNotFoundError: no such file.
            ValueError: not a Parquet file, a column is not there; see ``from_coo``.
        """
        from recsys_fast.data.parquet import read_parquet

        return read_parquet(path, user, item, value, timestamp, chunk_rows, options, progress)

    @classmethod
    def from_npz(cls, path: str | Path, *, duplicates: str = "sum") -> Interactions:
        """Read what ``to_npz`` wrote, what ``scipy.sparse.save_npz`` wrote (CSR), or ``indptr, indices`` arrays.

        Nothing is unpickled; sizes are checked against each other before anything is allocated.

        Args:
            path: the file. Other layouts than ours hold ``indptr``, ``indices``, optionally ``data`` or ``values``,
                and ``shape`` or ``n_items`` (else the largest index + 1).
            duplicates: policy for layouts that may hold an entry twice.

        Raises:
            FileNotFoundError: no such file.
            ValueError: damaged, truncated, of another layout, or holding objects.
        """
        from recsys_fast.data.npz import read_npz

        return read_npz(path, duplicates)
