"""From arrays, tables and files to a ``Sequences``: its constructors beside the one from ragged lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from recsys_fast.data.id_map import IdMap

if TYPE_CHECKING:
    from recsys_fast.data.interactions import Interactions
    from recsys_fast.data.sequences import Sequences


class SequenceCleaning(TypedDict, total=False):
    """Options of the constructors that read raw ids.

    Attributes:
        missing: what to do with a missing id or time: "error" (the default) or "drop".
        user_ids: a map to use as it is, such as the training set's; None makes one.
        item_ids: likewise for items.
        unknown: what to do with ids that are not in a given map: "error" (the default) or "drop".
    """

    missing: str
    user_ids: IdMap | None
    item_ids: IdMap | None
    unknown: str


class SequenceConstructors:
    """The constructors that ``Sequences`` inherits; each imports its reader when called."""

    @classmethod
    def from_arrays(
        cls,
        row_ptr: Any,
        items: Any,
        *,
        n_items: int | None = None,
        timestamps: Any = None,
        user_ids: Any = None,
        item_ids: Any = None,
    ) -> Sequences:
        """Make one from packed arrays; they are copied.

        Args:
            row_ptr: ``(n_users + 1,)`` integers, from 0 to the number of events.
            items: ``(n_events,)`` integers.
            n_items: number of items there are; None for the largest + 1.
            timestamps: ``(n_events,)`` integers or dates, or None.
            user_ids, item_ids: raw ids, or None.

        Raises:
            TypeError: not integers.
            ValueError: row pointers that decrease or end elsewhere, items out of range, a time that is missing.
        """
        from recsys_fast.data.sequence_input import from_packed

        return from_packed(row_ptr, items, n_items, timestamps, user_ids, item_ids)

    @classmethod
    def from_interactions(cls, data: Interactions) -> Sequences:
        """Make one from interactions with timestamps; equal times in input order.

        ``Interactions`` hold an item once per user: where users come back to items, read them with ``from_coo``,
        ``from_frame`` or ``from_csv`` of this class instead.

        Raises:
            TypeError: not an ``Interactions``.
            ValueError: it has no timestamps.
        """
        from recsys_fast.data.sequence_input import from_interactions

        return from_interactions(data)

    @classmethod
    def from_coo(
        cls,
        users: Any,
        items: Any,
        timestamps: Any = None,
        *,
        shape: tuple[int, int] | None = None,
        raw_ids: bool = False,
        **options: Unpack[SequenceCleaning],
    ) -> Sequences:
        """Make one from parallel arrays, one event each, in any order.

        Args:
            users: ``(n,)`` user of each event: row numbers, or ids of any hashable kind with ``raw_ids=True``.
            items: ``(n,)`` item of each event, likewise.
            timestamps: ``(n,)`` integers of any unit, or dates; equal ones keep the order given. None takes the order
                given as the order in time.
            shape: (n_users, n_items); None takes the largest number + 1. Not with raw ids.
            raw_ids: ``users`` and ``items`` are raw ids, to be numbered.
            **options: see ``SequenceCleaning``; row numbers may get ``user_ids`` and ``item_ids``.

        Raises:
            TypeError: row numbers that are not integers.
            ValueError: lengths differ, a number is negative or outside ``shape``, something is missing.
            IndexError: a raw id is outside of a given map.
        """
        from recsys_fast.data.sequence_input import from_events

        return from_events(users, items, timestamps, shape, raw_ids, options)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str = "user",
        item: str = "item",
        timestamp: str | None = "timestamp",
        **options: Unpack[SequenceCleaning],
    ) -> Sequences:
        """Make one from a pandas, polars or Arrow table of raw ids (needs narwhals: ``recsys_fast[data]``).

        Args:
            frame: a table in memory, one event a row.
            user, item, timestamp: column names; ``timestamp=None`` takes the order of the rows.
            **options: see ``SequenceCleaning``.

        Raises:
            ImportError: narwhals is not installed.
            TypeError: not a table in memory.
            ValueError: a column is not there, or see ``from_coo``.
        """
        from recsys_fast.data.frames import read_frame
        from recsys_fast.data.sequence_input import reading

        made: Any = read_frame(frame, user, item, None, timestamp, reading(options))
        return made  # type: ignore[no-any-return]

    @classmethod
    def from_csv(cls, path: str | Path | list[str | Path], **columns: Any) -> Sequences:
        """Read text files of one event a line; takes what ``Interactions.from_csv`` takes, except values.

        Args:
            path: a file, or files that are read as one.
            **columns: ``user=0``, ``item=1``, ``timestamp=None``, ``separator=","``, ``header=True``, ...; without a
                timestamp column the order of the lines counts. Options as in ``SequenceCleaning``.
        """
        from recsys_fast.data.interactions import Interactions
        from recsys_fast.data.sequence_input import reading

        made: Any = Interactions.from_csv(path, **reading(columns))
        return made  # type: ignore[no-any-return]

    @classmethod
    def from_parquet(cls, path: str | Path | list[str | Path], **columns: Any) -> Sequences:
        """Read Parquet files of one event a row; takes what ``Interactions.from_parquet`` takes, except values."""
        from recsys_fast.data.interactions import Interactions
        from recsys_fast.data.sequence_input import reading

        made: Any = Interactions.from_parquet(path, **reading(columns))
        return made  # type: ignore[no-any-return]

    @classmethod
    def from_npz(cls, path: str | Path) -> Sequences:
        """Read what ``to_npz`` wrote, or ``indptr, indices[, n_items]`` arrays; nothing is unpickled.

        Raises:
            FileNotFoundError: no such file.
            ValueError: damaged, truncated, of another layout, or holding objects.
        """
        from recsys_fast.data.sequence_files import read

        return read(path)
