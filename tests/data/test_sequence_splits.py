"""Splits of sequences: exact, in time, short histories kept for training."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_fast.data import Interactions, Sequences, splits
from tests.data.test_sequences import LISTS, check, lists


@settings(max_examples=60, deadline=None)
@given(LISTS, st.integers(1, 2), st.integers(0, 2))
def test_leave_k_out(rows: list[list[int]], k: int, min_train: int) -> None:
    data = Sequences(rows, n_items=7)
    parts = splits.leave_k_out(data, k, min_train=min_train)
    train, valid, test = parts
    for part in parts:
        check(part)
        assert part.shape == data.shape
    for user, row in enumerate(rows):
        enough = len(row) >= 2 * k + min_train
        n = len(row) - 2 * k if enough else len(row)
        assert train[user].tolist() == row[:n]
        assert valid[user].tolist() == (row[n : n + k] if enough else [])
        assert test[user].tolist() == (row[n + k :] if enough else [])
    joined = splits.join(splits.join(train, valid), test)
    check(joined)
    assert lists(joined) == rows


def test_leave_one_out_counts_short_histories() -> None:
    data = Sequences([[1, 2, 3, 1], [1, 2], [], [3], [1, 1, 1]], user_ids=list("abcde"))
    parts = splits.leave_one_out(data)
    assert lists(parts.train) == [[1, 2], [1, 2], [], [3], [1]]
    assert lists(parts.valid) == [[3], [], [], [], [1]]
    assert lists(parts.test) == [[1], [], [], [], [1]]
    assert parts.n_short == 2
    assert "2 of 5 users have fewer than 3 events" in str(parts.train.report)
    assert parts.test.user_ids is data.user_ids
    with pytest.raises(ValueError, match="by of Sequences"):
        splits.leave_one_out(data, by="random")


def test_temporal() -> None:
    data = Sequences([[1, 2, 3], [4], []], timestamps=[[1, 5, 5], [3], []])
    train, test = splits.temporal(data, at=5)
    assert (lists(train), lists(test)) == ([[1], [4], []], [[2, 3], [], []])
    train, test = splits.temporal(data, quantile=0.75)
    assert (lists(train), lists(test)) == ([[1, 2], [4], []], [[3], [], []])
    check(splits.join(train, test))
    with pytest.raises(ValueError, match="no timestamps"):
        splits.temporal(Sequences([[1, 2]]), at=1)


def test_random_users_are_whole_and_repeatable() -> None:
    rows = [[k] * (k % 4) for k in range(40)]
    data = Sequences(rows, n_items=40)
    train, test = splits.random_users(data, 0.25, random_state=3)
    assert test.n_users == 5  # a quarter of the 20 rows with two events or more
    assert sorted(lists(train) + lists(test)) == sorted(rows)
    assert (test.lengths >= 2).all()
    assert lists(splits.random_users(data, 0.25, random_state=3).test) == lists(test)
    assert lists(splits.random_users(data, 0.25, random_state=4).test) != lists(test)
    with pytest.raises(TypeError, match="held_out_users"):
        splits.random_users(data.to_interactions())  # type: ignore[arg-type]


def test_join_orders_by_time_where_there_is_one() -> None:
    a = Sequences([[1, 2], []], timestamps=[[1, 9], []], n_items=5)
    b = Sequences([[3, 4], [0]], timestamps=[[0, 9], [7]], n_items=5)
    both = splits.join(a, b)
    check(both)
    assert lists(both) == [[3, 1, 2, 4], [0]]
    assert both.timestamps is not None
    assert both.timestamps.tolist() == [0, 1, 9, 9, 7]
    for other, text in (
        (Sequences([[1]], n_items=5), "shapes"),
        (Sequences([[1], [2]], n_items=5), "timestamps"),
        (Sequences([[1], [2]], n_items=5, user_ids=["a", "b"]), "user_ids"),
    ):
        with pytest.raises(ValueError, match=text):
            splits.join(a, other)
    with pytest.raises(TypeError, match="same kind"):
        splits.join(a, Interactions.from_coo([0], [1], shape=(2, 5)))  # type: ignore[call-overload]


def test_splits_of_matrices_refuse_sequences() -> None:
    data = Sequences([[1, 2, 3]])
    for split in (splits.random, splits.held_out_users):
        with pytest.raises(TypeError, match="random_users"):
            split(data)  # type: ignore[operator]


def test_a_split_of_sequences_is_that_of_their_matrix() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.permutation(20)[: rng.integers(3, 12)].tolist() for _ in range(30)]
    data = Sequences(rows, n_items=20)
    _, _, test = splits.leave_one_out(data)
    of_matrix = splits.leave_one_out(data.to_interactions()).test
    assert np.array_equal(test.items, of_matrix.col_idx)
