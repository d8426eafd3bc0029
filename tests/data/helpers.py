"""What the tests of this room share: entries as plain tuples, and small random interactions."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from recsys_fast.data import Interactions


def entries(data: Interactions) -> list[tuple[Any, ...]]:
    """Return (user, item, value, time, place in the input) of every entry, as plain numbers, in stored order."""
    columns = [data.rows(), data.col_idx]
    for column, default in ((data.values, 1.0), (data.timestamps, None), (data.order, None)):
        columns.append(np.array([default] * data.nnz, object) if column is None else column)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def raw_entries(data: Interactions) -> list[tuple[Any, ...]]:
    """Return (raw user, raw item, value, time) of every entry, sorted by their text."""
    assert data.user_ids is not None
    assert data.item_ids is not None
    users, items = data.user_ids.decode(data.rows()).tolist(), data.item_ids.decode(data.col_idx).tolist()
    rest = [(value, time) for _, _, value, time, _ in entries(data)]
    return sorted(((u, i, *r) for u, i, r in zip(users, items, rest, strict=True)), key=repr)


def check(data: Interactions) -> None:
    """Assert what every ``Interactions`` promises about its arrays."""
    assert data.row_ptr.dtype == np.int64
    assert data.col_idx.dtype == np.int32
    assert data.row_ptr.shape == (data.n_users + 1,)
    assert data.row_ptr[0] == 0
    assert data.row_ptr[-1] == len(data.col_idx) == len(data) == data.nnz
    for user in range(data.n_users):
        row = data.col_idx[data.row_ptr[user] : data.row_ptr[user + 1]].tolist()
        assert row == sorted(set(row))
        assert not row or (row[0] >= 0 and row[-1] < data.n_items)
    for array, dtype in ((data.values, np.float32), (data.timestamps, np.int64)):
        assert array is None or (array.dtype == dtype and array.shape == (data.nnz,))
    for array in (data.row_ptr, data.col_idx, data.values, data.timestamps, data.order):
        assert array is None or not array.flags.writeable
    assert (data.order is None) == (data.timestamps is None)
    assert data.user_ids is None or len(data.user_ids) == data.n_users
    assert data.item_ids is None or len(data.item_ids) == data.n_items


@st.composite
def interactions(draw: st.DrawFn, *, times: bool | None = None) -> Interactions:
    """Small interactions of any shape, empty ones too, with or without values and times (with many equal ones)."""
    n_users, n_items = draw(st.integers(0, 8)), draw(st.integers(0, 8))
    cells = [(u, i) for u in range(n_users) for i in range(n_items)]
    chosen = draw(st.lists(st.sampled_from(cells), unique=True, max_size=40)) if cells else []
    n = len(chosen)
    values = draw(st.none() | st.lists(st.integers(-3, 5), min_size=n, max_size=n))
    timed = draw(st.booleans()) if times is None else times
    stamps = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n)) if timed else None
    return Interactions.from_coo(
        [u for u, _ in chosen], [i for _, i in chosen], values, stamps, shape=(n_users, n_items)
    )
