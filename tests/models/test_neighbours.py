"""Neighbour models against dense float64 formulas, and where there is little or nothing to compare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.errors import NotSupportedError
from recsys_fast.models import similarity
from tests.cases.product_topk import to_dense
from tests.models import neighbour_reference as reference
from tests.models.cases import ratings, same_state

KINDS = list(similarity.KINDS)


def data(ones: bool, seed: int = 0) -> sp.csr_array:
    matrix = ratings(60, 40, 0.2, seed)
    if ones:
        matrix.data[:] = 1.0
    return matrix


def same_neighbours(found: Any, weights: np.ndarray[Any, Any], k: int) -> None:
    """The kept entries are right, and none that was left out is larger."""
    # a sum that cancels is 0 but for rounding, and then not worth comparing
    found, weights = np.where(found > 1e-6, found, 0), np.where(np.abs(weights) > 1e-6, weights, 0)
    expected = reference.nearest(weights, k)
    assert ((found > 0).sum(1) == (expected > 0).sum(1)).all()
    kept = found > 0
    np.testing.assert_allclose(found[kept], weights[kept], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(np.sort(found, axis=1), np.sort(expected, axis=1), rtol=2e-5, atol=1e-6)
    assert not found.diagonal().any()


@pytest.mark.parametrize("ones", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
def test_similarities_of_items_and_users(kind: str, shrinkage: float, ones: bool, device: str) -> None:
    if kind == "bm25" and shrinkage:
        pytest.skip("BM25 is no quotient")
    matrix = data(ones)
    dense = matrix.toarray().astype(np.float64)
    for k in (6, 500):
        items = rf.ItemKNN(k, kind, shrinkage=shrinkage, device=device).fit(matrix)
        found = to_dense(items.neighbours_)
        same_neighbours(found, reference.similarities(dense.T, kind, shrinkage), k)
        np.testing.assert_array_equal(to_dense(items.weights_), found.T)
        np.testing.assert_allclose(items.score(np.arange(60)), dense @ found.T, rtol=1e-4, atol=1e-5)
        users = rf.UserKNN(k, kind, shrinkage=shrinkage, device=device).fit(matrix)
        found = to_dense(users.neighbours_)
        same_neighbours(found, reference.similarities(dense, kind, shrinkage), k)
        np.testing.assert_allclose(users.score(np.arange(60)), found @ dense, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ones", [True, False])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.7, 0.4), (1.8, 1.0)])
def test_walks(alpha: float, beta: float, ones: bool, device: str) -> None:
    matrix = data(ones)
    weights = reference.walks(matrix.toarray().astype(np.float64), alpha, beta)
    for k in (6, 500):
        model = rf.RP3beta(k, alpha, beta, device=device).fit(matrix)
        same_neighbours(to_dense(model.weights_), weights, k)
        if beta == 0:
            assert same_state(model, rf.P3alpha(k, alpha, device=device).fit(matrix))


@pytest.mark.parametrize("ones", [True, False])
@pytest.mark.parametrize("kind", ["cosine", "pearson", "tfidf"])
def test_users_of_length_one(kind: str, ones: bool, device: str) -> None:
    matrix = data(ones)
    model = rf.ItemKNN(6, kind, shrinkage=0.5, normalize_users=True, device=device).fit(matrix)
    expected = reference.similarities(matrix.toarray().T, kind, 0.5, unit=True)
    same_neighbours(to_dense(model.neighbours_), expected, 6)


def test_bm25_parameters(device: str) -> None:
    matrix = data(False)
    dense = matrix.toarray().astype(np.float64)
    for k1, b in ((0.0, 0.5), (3.0, 0.0), (100.0, 1.0)):
        model = rf.ItemKNN(7, "bm25", bm25_k1=k1, bm25_b=b, device=device).fit(matrix)
        same_neighbours(to_dense(model.neighbours_), reference.similarities(dense.T, "bm25", k1=k1, b=b), 7)


def test_ties_go_to_the_smaller_id(device: str) -> None:
    matrix = sp.csr_array(np.ones((6, 9), np.float32))
    model = rf.ItemKNN(3, device=device).fit(matrix)
    assert model.neighbours_.col_idx.reshape(9, 3).tolist() == [
        [c for c in range(9) if c != row][:3] for row in range(9)
    ]
    assert model.similar_items(4, n=5).ids.tolist() == [0, 1, 2, -1, -1]


@pytest.mark.parametrize("kind", ["cosine", "pearson", "tfidf", "jaccard"])
def test_negative_values(kind: str, device: str) -> None:
    rng = np.random.default_rng(0)
    dense = rng.integers(-2, 3, (40, 25)) * (rng.random((40, 25)) < 0.4)
    model = rf.ItemKNN(5, kind, device=device).fit(sp.csr_array(dense.astype(np.float32)))
    same_neighbours(to_dense(model.neighbours_), reference.similarities(dense.T, kind), 5)
    users = rf.UserKNN(5, kind, device=device).fit(sp.csr_array(dense.astype(np.float32)))
    np.testing.assert_allclose(users.score(3), to_dense(users.neighbours_)[3] @ dense, rtol=1e-4, atol=1e-5)


def test_values_that_a_formula_cannot_take_are_refused(device: str) -> None:
    negative = sp.csr_array(np.array([[1.0, -2.0], [3.0, 4.0]], np.float32))
    for make in (rf.RP3beta(), rf.P3alpha(), rf.ItemKNN(similarity="bm25"), rf.UserKNN(similarity="bm25")):
        make.set_params(device=device)
        with pytest.raises(ValueError, match=r"user_items: got -2\.0, expected values above 0"):
            make.fit(negative)
    with pytest.raises(ValueError, match="features: got -2"):
        rf.ContentKNN(similarity="bm25").fit(negative, item_features=negative)


@pytest.mark.parametrize("make", [rf.ItemKNN, rf.UserKNN, rf.P3alpha, rf.RP3beta])
def test_nothing_to_compare(make: Any, device: str) -> None:
    empty = make(device=device).fit(sp.csr_array((4, 5), dtype=np.float32))
    assert empty.recommend(0, n=7).ids.tolist() == [0, 1, 2, 3, 4, -1, -1]
    assert (empty.recommend(0, n=5).scores == 0).all()
    one = make(device=device).fit(sp.csr_array(np.ones((3, 1), np.float32)))
    assert one.recommend(0, n=2).ids.tolist() == [-1, -1]
    assert one.recommend(0, n=2, filter_seen=False).ids.tolist() == [0, -1]
    # an item and a user without interactions are nobody's neighbours
    fitted = make(device=device).fit(ratings())
    assert (fitted.score(np.arange(30))[:, 10] == 0).all()
    assert (fitted.score(15) == 0).all()
    if make is not rf.UserKNN:
        assert fitted.similar_items(10, n=3).ids.tolist() == [-1, -1, -1]


def test_new_users_count_like_known_ones(device: str) -> None:
    matrix = data(False)
    for kind in KINDS:
        model = rf.UserKNN(5, kind, device=device).fit(matrix)
        dense = matrix.toarray().astype(np.float64)
        new = matrix[:4]
        weights = reference.similarities(dense, kind)[:4]
        for row in range(4):  # the same history is there: the user is a neighbour of itself
            order = np.argsort(-weights[row], kind="stable")[:5]
            order = order[weights[row, order] > 0]
            expected = np.sort(weights[row, order] @ dense[order])[::-1]
            found = model.recommend(user_items=new[[row]], n=40, filter_seen=False)
            np.testing.assert_allclose(found.scores[0], expected, rtol=1e-4, atol=1e-5)
    items = rf.ItemKNN(5, device=device).fit(matrix)
    np.testing.assert_array_equal(items.recommend(user_items=matrix[:4], n=9).ids, items.recommend(range(4), n=9).ids)


def test_similar_users_and_items(device: str) -> None:
    users = rf.UserKNN(4, device=device).fit(data(True))
    ids, scores = users.similar_users([3, 5], n=6)
    dense = to_dense(users.neighbours_)
    for row, user in enumerate((3, 5)):
        np.testing.assert_allclose(scores[row, :4], np.sort(dense[user])[::-1][:4])
        np.testing.assert_allclose(dense[user, ids[row, :4]], scores[row, :4])
        assert ids[row, 4:].tolist() == [-1, -1]
    assert users.similar_users(3, n=6, exclude=[int(ids[0, 0])]).ids.tolist() == [*ids[0, 1:4].tolist(), -1, -1, -1]
    with pytest.raises(NotSupportedError, match="similar_items"):
        users.similar_items(0)
    items = rf.RP3beta(4, device=device).fit(data(True))
    best = items.similar_items(2, n=3, include=range(20))
    row = to_dense(items.weights_)[2, :20]
    expected = np.sort(row)[::-1][:3]
    np.testing.assert_allclose(best.scores, np.where(expected > 0, expected, -np.inf))
    for call in (lambda: items.similar_users(0), lambda: items.fold_in(data(True))):
        with pytest.raises(NotSupportedError, match="RP3beta"):
            call()
    with pytest.raises(IndexError, match="items holds id 40"):
        items.similar_items(40)


@pytest.mark.parametrize(
    ("params", "error", "text"),
    [
        ({"k": 0}, ValueError, "k: got 0"),
        ({"k": 2.5}, TypeError, "k: got 2.5"),
        ({"similarity": "euclid"}, ValueError, "similarity: got 'euclid'"),
        ({"shrinkage": -1}, ValueError, "shrinkage"),
        ({"similarity": "bm25", "shrinkage": 1.0}, ValueError, "shrinkage"),
        ({"bm25_k1": -1}, ValueError, "bm25_k1"),
        ({"bm25_b": 1.5}, ValueError, "bm25_b"),
    ],
)
@pytest.mark.parametrize("make", [rf.ItemKNN, rf.UserKNN])
def test_parameters_are_checked(make: Any, params: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make(**params).fit(ratings())


def test_parameters_of_walks_are_checked() -> None:
    with pytest.raises(ValueError, match="normalize_users: got similarity='jaccard'"):
        rf.ItemKNN(similarity="jaccard", normalize_users=True).fit(ratings())
    with pytest.raises(TypeError, match="normalize_users"):
        rf.ItemKNN(normalize_users=1).fit(ratings())
    for params, text in (({"alpha": 0}, "alpha"), ({"k": -1}, "k"), ({"beta": -0.5}, "beta")):
        with pytest.raises(ValueError, match=text):
            rf.RP3beta(**params).fit(ratings())
    with pytest.raises(TypeError, match="alpha"):
        rf.P3alpha(alpha="1").fit(ratings())


def test_saved_files_are_checked(tmp_path: Path) -> None:
    from recsys_fast.serialization import write
    from tests.models.test_files import contents

    for model, name in ((rf.ItemKNN(3), "weights"), (rf.UserKNN(3), "neighbours")):
        model.fit(ratings()).save(tmp_path / "good")
        for part, value in (("col_idx", 99), ("values", np.nan), ("row_ptr", 5)):
            arrays, metadata = contents(tmp_path / "good")
            arrays[f"{name}.{part}"][0] = value
            write(tmp_path / "bad", arrays, metadata)
            with pytest.raises(rf.errors.ModelFormatError, match="bad"):
                rf.load(tmp_path / "bad")
        arrays, metadata = contents(tmp_path / "good")
        del arrays[f"{name}.values"]
        write(tmp_path / "bad", arrays, metadata)
        with pytest.raises(rf.errors.ModelFormatError, match="values"):
            rf.load(tmp_path / "bad")


def test_neighbours_beat_popularity_on_movielens(data_dir: Path, device: str) -> None:
    if not os.path.exists(data_dir / "ml100k_ratings.npz"):
        pytest.skip("no MovieLens 100K in RECSYS_FAST_DATA")
    loaded = rf.datasets.load("ml-100k").interactions
    train, test = rf.splits.random(loaded, 0.2, random_state=0)

    def ndcg(model: Any) -> float:
        return rf.evaluation.evaluate(model.fit(train), train, test, metrics=("ndcg",), ks=(20,))["ndcg@20"]

    base = ndcg(rf.Popularity(device=device))
    for model in (rf.ItemKNN(50, shrinkage=10.0), rf.UserKNN(50), rf.P3alpha(), rf.RP3beta()):
        assert ndcg(model.set_params(device=device)) > 1.2 * base
