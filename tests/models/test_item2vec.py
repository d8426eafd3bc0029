"""Item2Vec: vectors of items that stand together are alike, users are means, order counts where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.data import Vectors
from recsys_fast.errors import DivergedError, NotSupportedError
from recsys_fast.models.skipgram_training import keep_probability, round_sizes
from tests.models.cases import ratings, same_state


def groups(n_users: int = 120, seed: int = 0) -> sp.csr_array:
    """Users of two kinds, each with six of the ten items of theirs."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((n_users, 20), np.float32)
    for user in range(n_users):
        dense[user, 10 * (user % 2) + rng.choice(10, 6, replace=False)] = 1
    return sp.csr_array(dense)


def small(**changed: Any) -> rf.Item2Vec:
    return rf.Item2Vec(8, **{"n_epochs": 15, "learning_rate": 0.1, "sample": 0.0, "random_state": 0, **changed})


@pytest.mark.parametrize("window", [5, None])
@pytest.mark.parametrize("scoring", ["cosine", "context"])
def test_items_of_one_kind_are_found(window: int | None, scoring: str, device: str) -> None:
    data = groups()
    model = small(window=window, scoring=scoring, device=device).fit(data)
    assert ((model.similar_items(np.arange(20), 5).ids // 10) == np.arange(20)[:, None] // 10).mean() > 0.9
    assert ((model.recommend(n=3).ids // 10) == np.arange(120)[:, None] % 2).mean() > 0.95
    assert model.history_["loss"][-1] < model.history_["loss"][0]


def test_a_user_is_the_weighted_mean_of_the_history(device: str) -> None:
    data = ratings()
    for weight in ("equal", "values"):
        model = small(history_weight=weight, scoring="cosine", n_epochs=2, device=device).fit(data)
        unit = model.item_factors_ / np.maximum(np.linalg.norm(model.item_factors_, axis=1, keepdims=True), 1e-30)
        dense = data.toarray() if weight == "values" else (data.toarray() != 0) * 1.0
        expected = dense @ unit / np.maximum(dense.sum(axis=1, keepdims=True), 1e-30)
        np.testing.assert_allclose(model.user_factors_, expected, atol=1e-6)
        np.testing.assert_allclose(model.fold_in(data), model.user_factors_, atol=1e-7)
        np.testing.assert_allclose(model.score(3), expected[3] @ unit.T, atol=1e-6)
        assert not model.user_factors_[15].any()  # without a history
        assert not model.item_factors_[10].any()


def test_order_counts_for_sequences_only(device: str) -> None:
    rng = np.random.default_rng(0)
    walks = [(start + np.arange(12)) % 30 for start in rng.integers(0, 30, 200)]  # each item beside its neighbours
    model = small(window=1, n_epochs=10, scoring="context", device=device).fit(rf.Sequences(walks, n_items=30))
    near = model.context_factors_ @ model.item_factors_.T
    beside = np.mean([near[(i + 1) % 30, i] + near[(i - 1) % 30, i] for i in range(30)]) / 2
    assert beside > near.mean() + 1.0
    basket = small(window=1, n_epochs=10, device=device).fit(rf.Sequences(walks, n_items=30).csr)
    assert not np.array_equal(basket.item_factors_, model.item_factors_)


def test_bits_do_not_depend_on_threads(device: str) -> None:
    for data in (ratings(), rf.Sequences([[1, 2, 1, 0, 3]] * 9, n_items=5)):
        one, two = (small(device=device, n_epochs=2, n_threads=n).fit(data) for n in (1, 2))
        assert same_state(one, two)


def test_sequences_survive_a_file_and_train_on(tmp_path: Path, device: str) -> None:
    data = rf.Sequences([[0, 1, 2, 1], [], [3, 2]], n_items=5)
    model = small(n_epochs=2, device=device).fit(data)
    model.save(tmp_path / "m.rf")
    loaded = rf.Item2Vec.load(tmp_path / "m.rf", device=device)
    assert same_state(model, loaded)
    for one in (model, loaded):
        one.resize(4, 6)
        one.partial_fit(rf.Sequences([[5, 0, 5]], n_items=6), users=[3])
    assert same_state(model, loaded)
    assert model.training_matrix_.col_idx[-2:].tolist() == [0, 5]
    whole = rf.Sequences([*map(list, data), [5, 0, 5]], n_items=6)
    model.partial_fit(whole)
    loaded.partial_fit(whole)
    assert same_state(model, loaded)
    assert model.n_epochs_ == 3


def test_new_items_are_trained_alone(device: str) -> None:
    data = groups()
    model = small(device=device).fit(data[:, :19])
    old = model.item_factors_.copy()
    model.resize(n_items=20)
    model.partial_fit(data[:, [19]], items=[19])
    np.testing.assert_array_equal(model.item_factors_[:19], old)
    assert (model.similar_items(19, 5).ids >= 10).all()


def test_training_starts_from_given_vectors(device: str) -> None:
    data = groups()
    start = np.random.default_rng(3).normal(0, 0.1, (20, 8))
    given = Vectors(range(20), start).align(range(20), d=8)
    model = small(n_epochs=1, learning_rate=1e-6, device=device).fit(data, init=given.values)
    np.testing.assert_allclose(model.item_factors_, start, atol=1e-4)


def test_frequent_tokens_go_by_word2vecs_formula() -> None:
    keep = keep_probability(np.array([900, 90, 10]), 0.1)
    np.testing.assert_allclose(keep, [np.sqrt(0.1 / 0.9) + 0.1 / 0.9, 1, 1], rtol=1e-6)
    assert not len(keep_probability(np.array([1, 1]), 0.9))
    assert not len(keep_probability(np.array([5]), 0.0))


def test_rounds_are_small_where_a_row_moves_much() -> None:
    assert round_sizes((1e-5, 1e-5), 0.025, 6.0, 5, 32) == (40, 25)  # as large as they come
    assert round_sizes((1e-5, 1e-5), 0.25, 6.0, 5, 32)[0] == 4
    tile, n_tiles = round_sizes((0.002, 0.001), 0.1, 6.0, 5, 32)
    assert 0.5 / (0.6 * 0.009) < tile * n_tiles <= 1 / (0.6 * 0.009)
    assert round_sizes((1.0, 1.0), 0.1, 6.0, 5, 32) == (1, 1)


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "window": ({"window": 0}, ValueError, "window"),
    "negatives": ({"n_negatives": -1}, ValueError, "n_negatives"),
    "sample": ({"sample": -0.1}, ValueError, "sample"),
    "scoring": ({"scoring": "dot"}, ValueError, "scoring"),
    "weight": ({"history_weight": "idf"}, ValueError, "history_weight"),
    "reduced": ({"reduced": 1}, TypeError, "reduced"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_parameters_are_named(name: str) -> None:
    changed, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        small(**changed).fit(ratings())


def test_bad_input_leaves_the_model(device: str) -> None:
    model = small(n_epochs=1, device=device).fit(rf.Sequences([[0, 1, 2]], n_items=3))
    old = model.item_factors_.copy()
    with pytest.raises(ValueError, match=r"init: got float64 \(3, 2\), expected numbers \(3, 8\)"):
        model.fit(rf.Sequences([[0, 1, 2]], n_items=3), init=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="init holds NaN"):
        model.fit(rf.Sequences([[0, 1, 2]], n_items=3), init=np.full((3, 8), np.nan))
    with pytest.raises(TypeError, match="user_items: got csr_array, expected Sequences"):
        model.partial_fit(sp.csr_array(np.eye(1, 3, dtype=np.float32)), users=[0])
    with pytest.raises(NotSupportedError, match="items of a model of sequences"):
        model.partial_fit(rf.Sequences([[0]], n_items=1), items=[0])
    with pytest.raises(ValueError, match="shape"):
        model.partial_fit(rf.Sequences([[0]], n_items=4), users=[0])
    np.testing.assert_array_equal(model.item_factors_, old)
    model.partial_fit(rf.Sequences([[2, 1, 0]], n_items=3))
    negative = sp.csr_array(np.array([[1, -1, 2]], np.float32))
    with pytest.raises(ValueError, match=r"least value as a weight: got -1\.0"):
        small(history_weight="values", device=device).fit(negative)


def test_a_rate_far_too_high_is_an_error(device: str) -> None:
    with pytest.raises(DivergedError, match="Item2Vec diverged") as error, np.errstate(all="ignore"):
        small(learning_rate=1e6, n_epochs=30, device=device).fit(groups())
    assert "lower learning_rate (now 1e+06)" in str(error.value)
    assert "regularization" not in str(error.value), "which it does not have"
