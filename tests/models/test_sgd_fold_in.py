"""New users and items of models that gradient descent trains: folded in, replaced, and as good as trained ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from tests.models.cases import ratings

MODELS: dict[str, Any] = {"bpr": rf.BPR, "warp": rf.WARP, "logistic": rf.LogisticMF, "mf": rf.MF}


def make(name: str, device: str, **options: Any) -> Any:
    return MODELS[name](4, **{"n_epochs": 5, "learning_rate": 0.05, "random_state": 0, "device": device, **options})


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, {"balance": "users"}], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_user_does_not_depend_on_the_company(device: str, name: str, options: dict[str, Any]) -> None:
    model, new = make(name, device, **options).fit(ratings()), ratings(6, 20, seed=9)
    before = model.copy_state()
    vectors = model.fold_in(new)
    assert vectors.shape == (6, 5 if name in ("mf", "logistic") else 4)
    assert (vectors[3] == 0).all()
    for row in (0, 4):
        np.testing.assert_array_equal(model.fold_in(new[[row]])[0], vectors[row])
    np.testing.assert_array_equal(model.fold_in(new[[5, 1]]), vectors[[5, 1]])
    for key, value in before.items():
        np.testing.assert_array_equal(getattr(model, key), value)
    one = MODELS[name](**{**model.get_params(), "n_threads": 1})
    vars(one).update({**vars(model), "n_threads": 1})
    np.testing.assert_array_equal(one.fold_in(new), vectors)


@pytest.mark.parametrize("name", MODELS)
def test_replaced_users_are_folded_in(device: str, name: str) -> None:
    model, new = make(name, device, optimizer="adagrad").fit(ratings()), ratings(2, 20, seed=9)
    vectors, others = model.fold_in(new), model.user_factors_[[0, 1]].copy()
    items = model.item_factors_.copy()
    model.partial_fit(new, users=[7, 3])
    np.testing.assert_array_equal(model.user_factors_[[7, 3]], vectors[:, :4])
    if name in ("mf", "logistic"):
        np.testing.assert_array_equal(model.user_biases_[[7, 3]], vectors[:, 4])
    np.testing.assert_array_equal(model.user_factors_[[0, 1]], others)
    np.testing.assert_array_equal(model.item_factors_, items)
    assert (model._user_state[[7, 3]] == model._fill("_state")).all()
    assert model.training_matrix_.row_ptr[8] - model.training_matrix_.row_ptr[7] == new[[0]].nnz


@pytest.mark.parametrize("name", MODELS)
def test_replaced_items_move_and_nothing_else(device: str, name: str) -> None:
    model, new = make(name, device).fit(ratings()), ratings(30, 2, seed=9)
    users, items = model.user_factors_.copy(), model.item_factors_.copy()
    model.partial_fit(new, items=[6, 10])
    np.testing.assert_array_equal(model.user_factors_, users)
    rest = np.setdiff1d(np.arange(20), [6, 10])
    np.testing.assert_array_equal(model.item_factors_[rest], items[rest])
    assert (model.item_factors_[6] != items[6]).all()
    scores = model.score(np.arange(30))[:, 6].mean()
    model.partial_fit(sp.csr_array((30, 1), dtype=np.float32), items=[6])
    if name == "mf":
        assert (model.item_factors_[6] == 0).all()
    else:  # it is a negative now, as in a fit
        assert model.score(np.arange(30))[:, 6].mean() < scores


@pytest.mark.parametrize("name", ["bpr", "warp", "logistic"])
def test_folded_users_and_items_do_about_as_well_as_trained_ones(device: str, name: str) -> None:
    data = rf.datasets.synthetic(n_users=400, n_items=150, n_interactions=12_000, random_state=0)
    rate = 0.01 if name == "warp" else 0.1
    model = MODELS[name](8, n_epochs=30, learning_rate=rate, regularization=0.01, random_state=0, device=device)
    model.fit(data.train)

    def recall(users: Any) -> float:
        report = rf.evaluation.evaluate(model, data.train, data.test, ("recall",), (20,), users=users)
        return float(report["recall@20"])

    users, everybody = np.arange(0, 400, 4), np.arange(400)
    trained, all_trained = recall(users), recall(everybody)
    popular = rf.Popularity().fit(data.train)
    baseline = rf.evaluation.evaluate(popular, data.train, data.test, ("recall",), (20,))["recall@20"]
    model.partial_fit(data.train.csr[users], users=users)
    assert recall(users) > 0.85 * trained
    items = np.arange(0, 150, 10)
    model.partial_fit(data.train.csr[:, items], items=items)
    assert recall(everybody) > 0.8 * all_trained > baseline


def test_described_users_start_from_their_features(device: str) -> None:
    rng = np.random.default_rng(0)
    features = sp.csr_array((rng.random((30, 5)) < 0.4).astype(np.float32))
    model = make("bpr", device).fit(ratings(), user_features=features)
    nothing = sp.csr_array((2, 20), dtype=np.float32)
    np.testing.assert_array_equal(model.fold_in(nothing), np.zeros((2, 4)))
    described = model.fold_in(nothing, user_features=features[:2])
    np.testing.assert_allclose(described, features[:2] @ model._users[-5:], atol=1e-6)
    own = model._users[:30].copy()
    model.partial_fit(ratings(1, 20, seed=3), users=[4])
    assert (model._users[4] != own[4]).any()
    np.testing.assert_array_equal(model._users[:4], own[:4])
    bare = make("bpr", device, identity=False).fit(ratings(), user_features=features)
    before = bare.user_factors_.copy()
    bare.partial_fit(ratings(1, 20, seed=3), users=[4])
    np.testing.assert_array_equal(bare.user_factors_, before)
