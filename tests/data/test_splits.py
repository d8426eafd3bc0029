from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_fast.data import Interactions, splits
from tests.data.helpers import check, entries, interactions

SEEDS = st.integers(0, 2**32)


def exact(data: Interactions, *parts: Interactions) -> None:
    """Assert that the parts together are ``data``: every entry with its value and time, exactly once."""
    for part in parts:
        check(part)
        assert part.shape == data.shape
        assert part.user_ids is data.user_ids
        assert part.item_ids is data.item_ids
        assert (part.values is None) == (data.values is None)
    assert sorted(entry for part in parts for entry in entries(part)) == entries(data)
    whole = parts[0]
    for part in parts[1:]:
        whole = splits.join(whole, part)
    check(whole)
    assert entries(whole) == entries(data)
    assert (whole.values is None) == (data.values is None)


@settings(max_examples=80, deadline=None)
@given(interactions(), st.floats(0.01, 0.99), SEEDS)
def test_random_is_exact_and_repeatable(data: Interactions, fraction: float, seed: int) -> None:
    split = splits.random(data, fraction, random_state=seed)
    exact(data, *split)
    n = data.user_counts
    assert split.test.user_counts.tolist() == [
        min(int(np.floor(fraction * count + 0.5)), max(count - 1, 0)) for count in n.tolist()
    ]
    again = splits.random(data, fraction, random_state=seed)
    assert entries(again.test) == entries(split.test)


@settings(max_examples=80, deadline=None)
@given(interactions(), st.integers(1, 4), st.integers(0, 3), SEEDS)
def test_leave_k_out_at_random(data: Interactions, k: int, min_train: int, seed: int) -> None:
    split = splits.leave_k_out(data, k, by="random", min_train=min_train, random_state=seed)
    exact(data, *split)
    assert split.test.user_counts.tolist() == [k if n >= k + min_train else 0 for n in data.user_counts.tolist()]


@settings(max_examples=80, deadline=None)
@given(interactions(times=True), st.integers(1, 4), st.integers(0, 3))
def test_leave_k_out_by_time(data: Interactions, k: int, min_train: int) -> None:
    split = splits.leave_k_out(data, k, min_train=min_train)
    exact(data, *split)
    expected = []
    for user in range(data.n_users):
        mine = sorted((entry for entry in entries(data) if entry[0] == user), key=lambda entry: entry[3:])
        expected += sorted(mine[-k:]) if len(mine) >= k + min_train else []
    assert entries(split.test) == expected
    if k == 1:
        assert entries(splits.leave_one_out(data, min_train=min_train).test) == expected


@settings(max_examples=80, deadline=None)
@given(interactions(times=True), st.integers(-5, 5), st.floats(0.01, 0.99))
def test_temporal(data: Interactions, at: int, quantile: float) -> None:
    split = splits.temporal(data, at=at)
    exact(data, *split)
    assert all(entry[3] < at for entry in entries(split.train))
    assert all(entry[3] >= at for entry in entries(split.test))
    split = splits.temporal(data, quantile=quantile)
    exact(data, *split)
    in_time = sorted(entries(data), key=lambda entry: entry[3:])
    assert entries(split.train) == sorted(in_time[: int(quantile * data.nnz)])


@settings(max_examples=80, deadline=None)
@given(
    interactions(times=True), st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.sampled_from(["time", "random"]), SEEDS
)
def test_held_out_users(data: Interactions, users: float, fraction: float, by: str, seed: int) -> None:
    split = splits.held_out_users(data, users, target_fraction=fraction, by=by, random_state=seed)
    exact(data, split.train, split.fold_in, split.target)
    eligible = np.flatnonzero(data.user_counts >= 2)
    assert len(split.users) == int(users * len(eligible) + 0.5)
    assert set(split.users.tolist()) <= set(eligible.tolist())
    assert split.users.tolist() == sorted(set(split.users.tolist()))
    for user in range(data.n_users):
        n, n_in, n_target = (int(part.user_counts[user]) for part in (data, split.fold_in, split.target))
        if user in split.users:
            assert n_target == min(max(int(np.floor(fraction * n + 0.5)), 1), n - 1)
            assert n_in == n - n_target
            assert split.train.user_counts[user] == 0
        else:
            assert n_in == n_target == 0
    if by == "time":
        for user in split.users.tolist():
            last_seen = max(entry[3:] for entry in entries(split.fold_in) if entry[0] == user)
            assert all(entry[3:] > last_seen for entry in entries(split.target) if entry[0] == user)


def test_held_out_users_by_number_and_for_validation() -> None:
    data = Interactions.from_coo(np.repeat(np.arange(10), 3), np.tile([0, 1, 2], 10))
    first = splits.held_out_users(data, 3, random_state=0)
    second = splits.held_out_users(first.train, 3, random_state=1)
    assert len(first.users) == len(second.users) == 3
    assert not set(first.users.tolist()) & set(second.users.tolist())
    assert second.train.user_counts.tolist().count(0) == 6
    with pytest.raises(ValueError, match="users: got 11, expected at most 10"):
        splits.held_out_users(data, 11)
    with pytest.raises(ValueError, match="at most 0, those with 4 entries"):
        splits.held_out_users(data, 1, min_entries=4)


def big(n: int = 20_000) -> Interactions:
    rng = np.random.default_rng(0)
    return Interactions.from_coo(rng.integers(0, 300, n), rng.integers(0, 400, n), None, rng.integers(0, 9, n))


def test_seeds() -> None:
    data = big()

    def test_of(state: Any) -> list[Any]:
        return entries(splits.random(data, random_state=state).test)

    assert test_of(5) == test_of(np.int64(5))
    assert test_of(5) != test_of(6)
    assert test_of(np.random.default_rng(1)) == test_of(np.random.default_rng(1))
    assert test_of(np.random.RandomState(1)) == test_of(np.random.RandomState(1))
    assert test_of(None) != test_of(None)
    for bad, error in ((-1, ValueError), ("a", TypeError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="random_state"):
            test_of(bad)


def test_a_seed_keeps_its_meaning() -> None:
    data = Interactions.from_coo([0] * 8 + [1] * 4, [*range(8), *range(4)])
    split = splits.random(data, 0.25, random_state=0)
    draws = np.random.Philox(0).random_raw(12)  # one draw an entry; the largest ones of each user are the test set
    expected = [(0, int(item)) for item in sorted(np.argsort(draws[:8])[-2:])] + [(1, int(np.argmax(draws[8:])))]
    assert [entry[:2] for entry in entries(split.test)] == expected == [(0, 4), (0, 6), (1, 2)]


def test_every_entry_is_equally_likely() -> None:
    n_items, n_users = 10, 20_000
    data = Interactions.from_coo(np.repeat(np.arange(n_users), n_items), np.tile(np.arange(n_items), n_users))
    for split in (
        splits.leave_k_out(data, 3, by="random", random_state=0),
        splits.random(data, 0.3, random_state=1),
    ):
        share = split.test.item_counts / n_users
        assert np.abs(share - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / n_users)
        pairs = (split.test.csr.T @ split.test.csr).toarray()[np.triu_indices(n_items, 1)] / n_users
        assert np.abs(pairs - 0.3 * 2 / 9).max() < 6 * np.sqrt(0.07 * 0.93 / n_users)


def test_the_slow_shuffle_of_huge_shapes_is_fair_and_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "_MIN_RANDOM_BITS", 65)
    n_items, n_users = 10, 20_000
    data = Interactions.from_coo(np.repeat(np.arange(n_users), n_items), np.tile(np.arange(n_items), n_users))
    split = splits.leave_k_out(data, 3, by="random", random_state=0)
    assert (split.test.user_counts == 3).all()
    assert np.abs(split.test.item_counts / n_users - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / n_users)
    small = big(500)
    exact(small, *splits.leave_k_out(small, 2, by="random", random_state=0))


def test_results_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    data = big()
    seen = []
    for n_threads in ("1", "2"):
        monkeypatch.setenv("RECSYS_FAST_NUM_THREADS", n_threads)
        split = splits.leave_one_out(big())
        seen.append(
            (entries(split.test), entries(splits.join(*split)), entries(splits.random(data, random_state=3).test))
        )
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda d: splits.random(d, 0), ValueError, "test_fraction: got 0"),
        (lambda d: splits.random(d, 1.0), ValueError, "test_fraction: got 1.0"),
        (lambda d: splits.random(d, True), ValueError, "test_fraction: got True"),
        (lambda d: splits.leave_k_out(d, 0), ValueError, "k: got 0, expected at least 1"),
        (lambda d: splits.leave_k_out(d, 1.0), TypeError, "k: got float"),
        (lambda d: splits.leave_k_out(d, 1, min_train=-1), ValueError, "min_train: got -1"),
        (lambda d: splits.leave_one_out(d, by="latest"), ValueError, "by: got 'latest', expected one of time, random"),
        (lambda d: splits.leave_one_out(d), ValueError, "no timestamps"),
        (lambda d: splits.temporal(d, at=3), ValueError, "no timestamps"),
        (lambda d: splits.temporal(d), ValueError, "at and quantile: got neither"),
        (lambda d: splits.temporal(d, at=3, quantile=0.5), ValueError, "at and quantile: got both"),
        (lambda d: splits.held_out_users(d, by="time"), ValueError, "no timestamps"),
        (lambda d: splits.held_out_users(d, 1.5), ValueError, "users: got 1.5"),
        (lambda d: splits.held_out_users(d, 0), ValueError, "users: got 0"),
        (lambda d: splits.held_out_users(d, 1, min_entries=1), ValueError, "min_entries: got 1, expected at least 2"),
        (lambda d: splits.held_out_users(d, 1, target_fraction=0), ValueError, "target_fraction: got 0"),
    ],
)
def test_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(Interactions.from_coo([0, 0, 1], [0, 1, 0]))


def test_temporal_refuses_dates_and_bad_quantiles() -> None:
    data = Interactions.from_coo([0], [0], None, [1])
    with pytest.raises(TypeError, match=r"at: got datetime64.*microseconds"):
        splits.temporal(data, at=np.datetime64("2024-01-01"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="quantile: got 1"):
        splits.temporal(data, quantile=1)


def test_join_refuses_what_does_not_fit() -> None:
    a = Interactions.from_coo([0], [0], [1.0], shape=(2, 2))
    b = Interactions.from_coo([1], [1], [2.0], shape=(2, 2))
    assert splits.join(a, b).csr.toarray().tolist() == [[1, 0], [0, 2]]
    for other, text in (
        (Interactions.from_coo([1], [1], [2.0], shape=(2, 3)), "shapes differ"),
        (b.normalize("binary"), "only one of the two has values"),
        (Interactions.from_coo([1], [1], [2.0], [3], shape=(2, 2)), "only one of the two has timestamps"),
        (Interactions.from_coo([1], [1], [2.0], shape=(2, 2), user_ids=["a", "b"]), "user_ids of the two differ"),
        (a, r"repeats the pair \(0, 0\)"),
    ):
        with pytest.raises(ValueError, match=text):
            splits.join(a, other)


def test_join_of_strangers_puts_the_first_first() -> None:
    a = Interactions.from_coo([0, 0], [3, 2], None, [7, 7], shape=(1, 4))
    b = Interactions.from_coo([0, 0], [1, 0], None, [7, 7], shape=(1, 4))
    joined = splits.join(a, b)
    assert joined.col_idx[joined.time_order()].tolist() == [3, 2, 1, 0]


def test_real_data(data_dir: Any) -> None:
    file = np.load(data_dir / "ml100k_ratings.npz", allow_pickle=False)
    data = Interactions.from_coo(file["user"], file["item"], file["rating"], file["timestamp"])
    split = splits.leave_one_out(data)
    assert len(split.test) == (data.user_counts > 1).sum()
    assert len(splits.join(*split)) == len(data)


def test_random_rows() -> None:
    in_test = splits.random_rows(10, 0.25, random_state=1)
    assert (in_test.dtype, in_test.shape, in_test.sum()) == (np.bool_, (10,), 3)
    assert np.array_equal(splits.random_rows(10, 0.25, random_state=1), in_test)
    assert not np.array_equal(splits.random_rows(10, 0.25, random_state=2), in_test)
    assert splits.random_rows(0, 0.25).shape == (0,)
    for wrong in (0, 1, -0.5, True, "half"):
        with pytest.raises(ValueError, match="test_fraction"):
            splits.random_rows(10, wrong)  # type: ignore[arg-type]
