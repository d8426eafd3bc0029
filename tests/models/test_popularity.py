"""Popularity that fades: weights by age, their unit, and what happens without times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.errors import ModelFormatError
from recsys_fast.evaluation import evaluate
from tests.models.cases import ratings, same_state


def timed(seed: int = 0, values: bool = True) -> rf.Interactions:
    rng = np.random.default_rng(seed)
    matrix = ratings(seed=seed)
    times = rng.integers(0, 1000, matrix.nnz)
    data = rf.Interactions(matrix, timestamps=times)
    return data if values else data.normalize("binary")


@pytest.mark.parametrize("by", ["count", "sum"])
@pytest.mark.parametrize("values", [True, False])
def test_weights_halve_with_every_half_life(device: str, by: str, values: bool) -> None:
    data = timed(values=values)
    model = rf.Popularity(by, half_life=100.0, device=device).fit(data)
    assert data.timestamps is not None
    expected = np.zeros(20)
    for entry, item in enumerate(data.col_idx):
        worth = 0.5 ** ((data.timestamps.max() - data.timestamps[entry]) / 100.0)
        expected[item] += worth * (data.values[entry] if by == "sum" and data.values is not None else 1.0)
    np.testing.assert_allclose(model.item_scores_, expected, rtol=1e-5)
    assert model.newest_ == data.timestamps.max()
    np.testing.assert_array_equal(data.csr.data, timed(values=values).csr.data)


def test_the_unit_is_that_of_the_timestamps(device: str) -> None:
    days = np.array(["2024-01-01", "2024-01-11", "2024-01-21"], "datetime64[D]")
    data = rf.Interactions.from_coo([0, 1, 2], [0, 1, 2], timestamps=days)
    model = rf.Popularity(half_life=10 * 86_400_000_000, device=device).fit(data)
    np.testing.assert_allclose(model.item_scores_, [0.25, 0.5, 1.0])


def test_a_long_half_life_counts_and_a_short_one_forgets_nobody(device: str) -> None:
    data = timed()
    plain = rf.Popularity(device=device).fit(data)
    np.testing.assert_allclose(
        rf.Popularity(half_life=1e12, device=device).fit(data).item_scores_, plain.item_scores_, rtol=1e-5
    )
    short = rf.Popularity(half_life=1e-3, device=device).fit(data)
    assert short.training_matrix_.nnz == data.nnz
    np.testing.assert_array_equal(short.training_matrix_.col_idx, data.col_idx)
    assert not set(short.recommend(3, n=20).ids) & set(data[3].col_idx)


def test_stored_zeros_are_no_interactions(device: str) -> None:
    data = timed()
    changed = np.where(np.arange(len(data)) % 3 == 0, 0, data.values)
    model = rf.Popularity(half_life=100, device=device).fit(data.with_values(changed))
    kept = rf.Popularity(half_life=100, device=device).fit(data.keep(changed > 0))
    if kept.newest_ == model.newest_:
        np.testing.assert_allclose(model.item_scores_, kept.item_scores_, rtol=1e-6)
    assert model.training_matrix_.nnz == (changed > 0).sum()


@pytest.mark.parametrize(
    "data", [ratings(), rf.Interactions(ratings())], ids=["a matrix", "interactions without times"]
)
def test_times_are_needed(device: str, data: Any) -> None:
    model = rf.Popularity(half_life=10, device=device).fit(timed())
    before = model.item_scores_
    for call in (
        lambda: rf.Popularity(half_life=10, device=device).fit(data),
        lambda: model.fit(data),
        lambda: model.partial_fit(data),
        lambda: model.partial_fit(data[:2], users=[0, 1]),
    ):
        with pytest.raises(ValueError, match=r"half_life needs interactions with timestamps.*half_life=None"):
            call()
    assert model.item_scores_ is before
    assert rf.Popularity(device=device).fit(data).newest_ is None


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-1, ValueError), ("1d", TypeError), (np.nan, ValueError)]
)
def test_bad_half_lives(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="half_life"):
        rf.Popularity(half_life=value).fit(timed())


def test_updates_use_times_too(device: str) -> None:
    data, new = timed(), timed(seed=3)
    model = rf.Popularity(half_life=100, device=device).fit(data)
    replaced = model.partial_fit(new[:2], users=[0, 1]).item_scores_
    assert data.timestamps is not None
    assert new.timestamps is not None
    expected = np.zeros(20)
    for source, rows in ((data, range(2, 30)), (new, range(2))):
        assert source.timestamps is not None
        for user in rows:
            for entry in range(source.row_ptr[user], source.row_ptr[user + 1]):
                age = data.timestamps.max() - source.timestamps[entry]
                expected[source.col_idx[entry]] += 0.5 ** (age / 100)
    np.testing.assert_allclose(replaced, expected, rtol=1e-5)
    model.partial_fit(new)
    assert model.newest_ == new.timestamps.max()
    np.testing.assert_array_equal(model.item_scores_, rf.Popularity(half_life=100, device=device).fit(new).item_scores_)
    fresh = rf.Popularity(half_life=100, device=device).partial_fit(new)
    np.testing.assert_array_equal(fresh.item_scores_, model.item_scores_)


def test_files(tmp_path: Path, device: str) -> None:
    model = rf.Popularity("sum", half_life=50, device=device).fit(timed())
    model.save(tmp_path / "x")
    loaded = rf.load(tmp_path / "x", device=device)
    assert same_state(model, loaded)
    assert loaded.get_params() == model.get_params()
    np.testing.assert_array_equal(loaded.recommend(n=5).ids, model.recommend(n=5).ids)
    model.newest_ = None
    model.save(tmp_path / "x")
    with pytest.raises(ModelFormatError, match="newest"):
        rf.load(tmp_path / "x")


def test_no_interactions_at_all(device: str) -> None:
    data = rf.Interactions.from_coo([], [], timestamps=np.empty(0, np.int64), shape=(2, 3))
    model = rf.Popularity(half_life=1, device=device).fit(data)
    assert model.item_scores_.tolist() == [0, 0, 0]
    assert model.newest_ == 0


def test_fading_helps_where_tastes_drift(data_dir: Path) -> None:
    if rf.datasets.describe("ml-100k").found is None:
        pytest.skip("no ml-100k")
    data = rf.datasets.load("ml-100k").interactions
    assert data is not None
    train, test = rf.splits.temporal(data, quantile=0.8)
    plain = evaluate(rf.Popularity().fit(train), train, test, "ndcg@20")["ndcg@20"]
    fading = evaluate(rf.Popularity(half_life=30 * 86_400).fit(train), train, test, "ndcg@20")["ndcg@20"]
    assert fading > plain
