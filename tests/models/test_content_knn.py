"""ContentKNN against dense float64 formulas; items without interactions, without features; features that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.errors import NotFittedError
from tests.cases.product_topk import to_dense
from tests.models import neighbour_reference as reference
from tests.models.cases import ratings, same_state, snapshot
from tests.models.test_neighbours import KINDS, same_neighbours


def features(n_items: int = 20, n_features: int = 12, seed: int = 1) -> sp.csr_array:
    """Values 1 to 3; item 4 has none."""
    rng = np.random.default_rng(seed)
    dense = rng.integers(1, 4, (n_items, n_features)) * (rng.random((n_items, n_features)) < 0.4)
    dense[4 % n_items] = 0
    return sp.csr_array(dense.astype(np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_features(kind: str, device: str) -> None:
    given = features()
    before = snapshot(given)
    model = rf.ContentKNN(5, kind, device=device).fit(ratings(), item_features=given)
    found = to_dense(model.neighbours_)
    same_neighbours(found, reference.similarities(given.toarray(), kind), 5)
    np.testing.assert_allclose(model.score(np.arange(30)), ratings().toarray() @ found.T, rtol=1e-4, atol=1e-5)
    assert snapshot(given) == before
    for form in (given.tocsc(), given.tocoo(), given.astype(np.float64)):
        assert same_state(model, rf.ContentKNN(5, kind, device=device).fit(ratings(), item_features=form))


@pytest.mark.parametrize("kind", ["cosine", "pearson"])
@pytest.mark.parametrize("k", [5, 100])
def test_dense_features(kind: str, k: int, device: str) -> None:
    dense = np.random.default_rng(2).standard_normal((20, 6))
    dense[4] = 0
    model = rf.ContentKNN(k, kind, device=device).fit(ratings(), item_features=dense)
    same_neighbours(to_dense(model.neighbours_), reference.similarities(dense, kind), k)


def test_items_without_interactions_and_without_features(device: str) -> None:
    model = rf.ContentKNN(30, device=device).fit(ratings(), item_features=features())
    scores = model.score(np.arange(30))
    assert (scores[:, 10] > 0).any()  # nobody has item 10
    assert (scores[:, 4] == 0).all()  # item 4 has no features
    assert model.similar_items(4, n=2).ids.tolist() == [-1, -1]
    assert 4 not in model.similar_items(0, n=20).ids


def test_interactions_may_change_and_features_stay(device: str) -> None:
    model = rf.ContentKNN(5, device=device).fit(ratings(), item_features=features())
    before = model.copy_state()
    new = ratings(seed=7)
    model.partial_fit(new)
    model.partial_fit(ratings(1, 20, seed=8), users=[3])
    for name, value in before.items():
        if name != "n_epochs_":
            np.testing.assert_array_equal(getattr(model, name), value)
    dense = new.toarray()
    dense[3] = ratings(1, 20, seed=8).toarray()
    np.testing.assert_allclose(model.score(np.arange(30)), dense @ to_dense(model.weights_), rtol=1e-4, atol=1e-5)
    model.resize(31, 22)
    assert (model.score(2)[20:] == 0).all()


def test_saving_and_new_users(tmp_path: Path, device: str) -> None:
    model = rf.ContentKNN(5, device=device).fit(ratings(), item_features=features())
    model.save(tmp_path / "x")
    loaded = rf.load(tmp_path / "x", device=device)
    assert type(loaded) is rf.ContentKNN
    assert same_state(loaded, model)
    found = model.recommend(user_items=ratings()[:3], n=6)
    np.testing.assert_array_equal(found.ids, model.recommend([0, 1, 2], n=6).ids)
    parts = model.estimate_memory(ratings())
    assert parts["total"] == sum(size for name, size in parts.items() if name != "total")


def test_features_that_do_not_fit_are_refused_and_the_model_stays(device: str) -> None:
    model = rf.ContentKNN(5, device=device).fit(ratings(), item_features=features())
    before = model.score(1).copy()
    calls: list[tuple[Any, type[Exception], str]] = [
        (None, TypeError, r"item_features: expected \(n_items, n_features\)"),
        (features(19), ValueError, "item_features: got shape"),
        (np.ones((19, 3)), ValueError, "a row for each of 20 items"),
        (np.full((20, 3), np.nan), ValueError, "item_features"),
        (np.ones(20), ValueError, "item_features"),
        (np.full((20, 2), "a"), TypeError, "item_features"),
    ]
    for given, error, text in calls:
        with pytest.raises(error, match=text):
            model.fit(ratings(), item_features=given)
    np.testing.assert_array_equal(model.score(1), before)
    for params in ({"similarity": "tfidf"}, {"shrinkage": 1.0}):
        with pytest.raises(ValueError, match=r"dense item_features.*csr_array"):
            rf.ContentKNN(5, **params).fit(ratings(), item_features=np.ones((20, 3)))
    with pytest.raises(ValueError, match=r"no features.*Call fit with item_features"):
        rf.ContentKNN().partial_fit(ratings())
    with pytest.raises(NotFittedError):
        rf.ContentKNN().recommend(0)
