from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_fast.data import IdMap, Interactions
from tests.data.helpers import check, entries, interactions, raw_entries


def sample() -> Interactions:
    return Interactions.from_coo(
        [0, 0, 1, 3, 3], [2, 0, 1, 0, 2], [1, 2, 3, 4, 5], [10, 20, 30, 40, 50],
        shape=(4, 3), user_ids=list("abcd"), item_ids=["x", "y", "z"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("users", "ids"),
    [
        (slice(None), "abcd"),
        (slice(3), "abc"),
        (slice(-2, None), "cd"),
        (slice(None, None, -1), "dcba"),
        (slice(5, 9), ""),
        ([1, 3], "bd"),
        ([3, 0], "da"),
        (np.array([2], np.uint8), "c"),
        (np.array([True, False, False, True]), "ad"),
        ([], ""),
        (3, "d"),
        (np.int64(0), "a"),
    ],
    ids=repr,
)
def test_getitem_selects_users(users: Any, ids: str) -> None:
    data = sample()
    part = data[users]
    check(part)
    assert part.shape == (len(ids), 3)
    assert part.user_ids == IdMap(list(ids)) or ids == ""
    assert part.item_ids is data.item_ids
    assert raw_entries(part) == [entry for entry in raw_entries(data) if entry[0] in ids]


@pytest.mark.parametrize(
    ("users", "error", "text"),
    [
        (-1, IndexError, r"users\[0\]: got -1, expected 0 <= number < 4"),
        ([0, 4], IndexError, r"users\[1\]: got 4, expected 0 <= number < 4"),
        ([1, 1], ValueError, "holds 1 more than once"),
        ((0, 1), TypeError, r"data.select\(users"),
        ("a", TypeError, "users: got str"),
        (["a"], TypeError, "Encode raw ids"),
        (1.5, TypeError, "users: got float"),
        ([0.0], TypeError, "dtype float64"),
        ([[0]], TypeError, "2 dimensions"),
        ([True], ValueError, "length of the mask of users: got 1, expected 4"),
        (None, TypeError, "users: got NoneType"),
        (True, TypeError, "users"),
    ],
    ids=repr,
)
def test_getitem_refuses(users: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        sample()[users]


def test_row_numbers_become_ids_where_there_were_none() -> None:
    data = Interactions.from_coo([0, 2], [1, 0])
    assert data[:].user_ids is None
    assert data[[2, 0]].user_ids == IdMap([2, 0])
    assert data[[2, 0]][1:].user_ids == IdMap([0])
    assert data.select(items=[1]).item_ids == IdMap([1])
    assert data.select(items=[1]).user_ids is None


@settings(max_examples=100, deadline=None)
@given(interactions(), st.data())
def test_select_agrees_with_numpy(data: Interactions, draw: st.DataObject) -> None:
    users = draw.draw(st.permutations(range(data.n_users)))[: draw.draw(st.integers(0, data.n_users))]
    items = draw.draw(st.permutations(range(data.n_items)))[: draw.draw(st.integers(0, data.n_items))]
    part = data.select(users=users, items=items)
    check(part)
    place_u, place_i = {u: p for p, u in enumerate(users)}, {i: p for p, i in enumerate(items)}
    expected = [(place_u[u], place_i[i], *rest) for u, i, *rest in entries(data) if u in place_u and i in place_i]
    assert entries(part) == sorted(expected)
    assert (part.values is None) == (data.values is None)


def test_selections_do_not_reach_back() -> None:
    data = sample()
    before = entries(data)
    part = data[1:3]
    with pytest.raises(ValueError, match="read-only"):
        part.col_idx[0] = 2
    assert entries(data) == before


def test_keep() -> None:
    data = sample()
    part = data.keep(data.values > 2)
    check(part)
    assert part.shape == data.shape
    assert part.user_ids is data.user_ids
    assert entries(part) == [entry for entry in entries(data) if entry[2] > 2]
    for bad in ([True], np.ones(5), np.ones((5, 1), bool)):
        with pytest.raises(ValueError, match=r"expected bool of shape \(5,\)"):
            data.keep(bad)


@pytest.mark.parametrize("spread", [1, 10**18], ids=["one key", "two keys"])
@settings(max_examples=60, deadline=None)
@given(data=interactions(times=True))
def test_time_order_breaks_ties_by_input_order(data: Interactions, spread: int) -> None:
    times = data.timestamps * spread
    data = Interactions._trusted(
        data.row_ptr, data.col_idx, data.values, times, data.shape, order=data.order
    )  # a long span of time does not fit one sorting key beside the user
    listed = [(u, t, place, at) for at, (u, _, _, t, place) in enumerate(entries(data))]
    assert data.time_order().tolist() == [entry[3] for entry in sorted(listed)]


def test_time_order_after_dropping_most_entries() -> None:
    n = 50
    data = Interactions.from_coo([0] * n, list(range(n))[::-1], None, [7] * n)
    few = data.select(items=[3, 40])
    assert few.col_idx[few.time_order()].tolist() == [1, 0]
    with pytest.raises(ValueError, match="no timestamps"):
        Interactions.from_coo([0], [0]).time_order()
