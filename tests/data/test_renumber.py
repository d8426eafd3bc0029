"""Data under the numbers of other id maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_fast.data import IdMap, Interactions, Sequences
from recsys_fast.data.renumber import renumber
from tests.data.helpers import check, interactions, raw_entries

USERS, ITEMS = ["a", "b", "c"], [10, 20, 30, 40]
MATRIX = Interactions.from_coo(
    [0, 0, 1, 2], [0, 3, 1, 2], [1, 2, 3, 4], [5, 5, 6, 7], shape=(3, 4), user_ids=USERS, item_ids=ITEMS
)
EVENTS = Sequences([[3, 0, 3], [1], []], n_items=4, user_ids=USERS, item_ids=ITEMS)


def raw_lists(data: Sequences) -> dict[Any, list[Any]]:
    assert data.user_ids is not None
    assert data.item_ids is not None
    return {user: data.item_ids.decode(row).tolist() for user, row in zip(data.user_ids, data, strict=True) if len(row)}


@settings(max_examples=40, deadline=None)
@given(interactions(), st.randoms(use_true_random=False))
def test_raw_entries_stay(data: Interactions, random: Any) -> None:
    maps = []
    for n in data.shape:
        ids = list(range(100, 100 + n))
        more = [*ids, 7, 8]
        random.shuffle(more)
        maps.append((IdMap(ids), IdMap(more)))
    named = Interactions._trusted(
        data.row_ptr, data.col_idx, data.values, data.timestamps, data.shape,
        order=data.order, user_ids=maps[0][0], item_ids=maps[1][0],
    )  # fmt: skip
    made = renumber(named, maps[0][1], maps[1][1])
    check(made)
    assert made.shape == (data.n_users + 2, data.n_items + 2)
    assert raw_entries(made) == raw_entries(named)
    again = renumber(made, maps[0][0], maps[1][0])
    for name in ("row_ptr", "col_idx", "values", "timestamps", "order"):
        before, after = getattr(data, name), getattr(again, name)
        assert (before is None and after is None) or np.array_equal(before, after)


def test_sequences_keep_their_order() -> None:
    made = renumber(EVENTS, IdMap(["c", "b", "d", "a"]), IdMap([40, 30, 20, 10]))
    assert made.shape == (4, 4)
    assert [row.tolist() for row in made] == [[], [2], [], [0, 3, 0]]
    assert raw_lists(made) == raw_lists(EVENTS)


@pytest.mark.parametrize("data", [MATRIX, EVENTS], ids=["matrix", "events"])
def test_unknown_ids(data: Any) -> None:
    for maps, text in (((IdMap(["b"]), None), "user id in f: got 'a'"), ((None, IdMap([20])), "item id in f: got")):
        with pytest.raises(IndexError, match=text):
            renumber(data, *maps, source="f")
        made = renumber(data, *maps, unknown="drop")
        assert made.shape == tuple(n if one is None else 1 for one, n in zip(maps, data.shape, strict=True))
        assert len(made.rows()) == 1
        assert made.item_ids.decode(made.items if data is EVENTS else made.col_idx).tolist() == [20]
        assert "not in the given map" in str(made.report)
    # Ids that nothing refers to need not be known.
    assert renumber(EVENTS, IdMap(["a", "b"]), None).n_users == 2


def test_without_maps_numbers_stay() -> None:
    plain = Sequences([[0, 1]], n_items=2)
    assert renumber(plain, IdMap(["x", "y"]), IdMap([1])) is plain
    for data in (MATRIX, EVENTS):
        assert renumber(data, None, None) is data
        assert renumber(data, IdMap(USERS), IdMap(ITEMS)) is data
