"""Data under the row numbers of other id maps, such as those of a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_fast.data import assemble, sequence_input
from recsys_fast.data.id_map import IdMap
from recsys_fast.data.report import Step
from recsys_fast.data.sequences import Sequences
from recsys_fast.errors import message


def renumber(
    data: Any, user_ids: IdMap | None, item_ids: IdMap | None, *, unknown: str = "error", source: str = "the data"
) -> Any:
    """Return the same entries with users and items numbered by other maps; their order and times stay.

    Args:
        data: ``Interactions`` or ``Sequences``.
        user_ids: the map to number users by; None, or where ``data`` has no raw ids of users, keeps their numbers.
        item_ids: likewise of items.
        unknown: what to do with entries whose ids are not in the maps: "error" or "drop".
        source: what error messages call the data.

    Raises:
        IndexError: an entry's id is not in the map and ``unknown="error"``.
    """
    ordered = isinstance(data, Sequences)
    numbers: list[Any] = [data.rows(), data.items if ordered else data.col_idx]
    maps, sizes, known = [data.user_ids, data.item_ids], list(data.shape), np.ones(len(numbers[0]), bool)
    for side, (what, wanted) in enumerate((("user", user_ids), ("item", item_ids))):
        own = maps[side]
        if wanted is None or own is None or own == wanted:
            continue
        found = wanted.find(own.ids)[numbers[side]]
        missing = np.flatnonzero(found < 0)
        if len(missing) and unknown == "error":
            got = repr(own.decode(int(numbers[side][missing[0]])))
            mend = 'choose unknown="drop" to leave such entries out'
            raise IndexError(message(f"unknown {what} id in {source}", got, f"an id of {what}_ids", mend))
        known[missing] = False
        numbers[side], maps[side], sizes[side] = found, wanted, len(wanted)
    if maps == [data.user_ids, data.item_ids]:
        return data
    n_unknown = len(known) - int(known.sum())
    report = data.report
    if n_unknown:
        report = report.plus(Step("unknown", n_unknown, note="the user or item is not in the given map"))
    rows, cols = (column[known] for column in numbers)
    times = None if data.timestamps is None else data.timestamps[known]
    shape, named = (sizes[0], sizes[1]), {"user_ids": maps[0], "item_ids": maps[1], "report": report}
    if ordered:
        return sequence_input.build(rows, cols, None, times, shape, "", **named)
    values = None if data.values is None else data.values[known]
    order = None if data.order is None else data.order[known]
    return assemble.build(rows, cols, values, times, shape, "error", order=order, **named)
