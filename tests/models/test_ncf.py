"""GMF, MLPRec and NeuMF: what they promise like every model, pre-training, and what they refuse."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.errors import DivergedError, ModelFormatError, NotFittedError, NotSupportedError
from tests.models.cases import ratings, same_state

_SMALL: dict[str, Any] = {"n_epochs": 2, "batch_size": 40, "n_negatives": 3, "random_state": 0}
LAYERS = (8, 6, 3)
MAKERS: dict[str, Callable[..., Any]] = {
    "gmf": lambda **k: rf.GMF(4, **{**_SMALL, **k}),
    "mlp": lambda **k: rf.MLPRec(LAYERS, **{**_SMALL, "dropout": 0.2, "lazy_moments": False, **k}),
    "neumf": lambda **k: rf.NeuMF(4, LAYERS, **{**_SMALL, "activation": "tanh", "negative": "popularity", **k}),
}


@pytest.fixture(params=MAKERS)
def new(request: pytest.FixtureRequest, device: str) -> Callable[..., Any]:
    return lambda **k: MAKERS[request.param](**{"device": device, **k})


def test_recommendations_are_the_best_unseen_items(new: Any) -> None:
    matrix = ratings()
    model = new().fit(matrix)
    scores = model.score(np.arange(30))
    assert scores.shape == (30, 20)
    for users in ([0, 7, 7, 29], np.arange(30)):
        ids, best = model.recommend(users, n=20)
        for row, user in enumerate(users):
            unseen = np.setdiff1d(np.arange(20), matrix[[user]].indices)
            found = ids[row][ids[row] >= 0]
            assert set(found) == set(unseen)
            assert (np.diff(best[row][: len(found)]) <= 0).all()
            np.testing.assert_allclose(best[row][: len(found)], scores[user, found], rtol=1e-4, atol=1e-6)
    assert model.recommend(3, n=4, include=[1, 2], filter_seen=False).ids[2:].tolist() == [-1, -1]
    assert model.recommend([], n=4).ids.shape == (0, 4)
    pairs = model.predict([1, 2, 3], [5, 6, 7])
    np.testing.assert_allclose(pairs, scores[[1, 2, 3], [5, 6, 7]], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.score(2, [4, 4]), scores[2, [4, 4]], rtol=1e-4, atol=1e-6)
    assert isinstance(model.predict(0, 1), float)
    similar = model.similar_items([3, 4], n=5)
    assert similar.ids.shape == (2, 5)
    assert 3 not in similar.ids[0]


def test_training_goes_down_and_is_a_function_of_the_seed(new: Any, device: str) -> None:
    matrix = ratings(60, 20)
    model = new(n_epochs=6, learning_rate=0.02, n_threads=1).fit(matrix)
    assert model.history_["loss"][-1] < model.history_["loss"][0]
    assert same_state(model, new(n_epochs=6, learning_rate=0.02, n_threads=2).fit(matrix))
    assert not same_state(model, new(n_epochs=6, learning_rate=0.02, random_state=1).fit(matrix))
    before = model.copy_state()
    model.partial_fit(matrix)
    model.restore_state(before)
    again = new(n_epochs=6, learning_rate=0.02, n_threads=1).fit(matrix)
    assert same_state(model, again)


def test_files_pickles_and_resumed_training(new: Any, tmp_path: Path) -> None:
    matrix = ratings()
    path, checkpoint = tmp_path / "model", tmp_path / "checkpoint"
    model = new(n_epochs=3).fit(matrix)
    model.save(path)
    loaded = rf.load(path, device=model.device)
    assert same_state(model, loaded)
    assert same_state(model, pickle.loads(pickle.dumps(model)))
    np.testing.assert_array_equal(model.recommend(n=6).ids, loaded.recommend(n=6).ids)
    new(n_epochs=2).fit(matrix, callbacks=[rf.Checkpoint(checkpoint)])
    assert same_state(model, type(model).resume(checkpoint, n_epochs=3, device=model.device))
    with pytest.raises(ModelFormatError):
        rf.ALS.load(path)


def test_evaluation_and_callbacks(new: Any) -> None:
    train, test = ratings(), ratings(seed=5)
    seen: list[int] = []

    class Watch:
        metrics = ("recall@5",)

        def on_epoch_end(self, state: Any) -> bool:
            seen.append(len(state.model.recommend(0, n=3).ids))
            return state.epoch == 2

    model = new(n_epochs=9).fit(train, eval_set=test, callbacks=[Watch()])
    assert (model.n_epochs_, seen, len(model.history_["recall@5"])) == (2, [3, 3], 2)
    report = rf.evaluation.evaluate(model, train, test, ("recall", "auc"), (5,))
    assert report["recall@5"] == model.history_["recall@5"][-1]


def test_onwards_and_larger(new: Any) -> None:
    model = new().fit(ratings())
    before = model.score(np.arange(30))
    model.partial_fit(ratings(seed=3), n_epochs=2)
    assert model.n_epochs_ == 4
    assert not np.array_equal(model.score(np.arange(30)), before)
    before = model.score(np.arange(30))
    model.resize(33, 24)
    np.testing.assert_allclose(model.score(np.arange(30))[:, :20], before, rtol=1e-5, atol=1e-7)
    assert model.recommend(32, n=30).ids.max() == 23
    model.partial_fit(ratings(33, 24), n_epochs=1)
    assert np.isfinite(model.score(32)).all()
    with pytest.raises(NotSupportedError, match="single users"):
        model.partial_fit(ratings(2, 24), users=[3, 4])
    with pytest.raises(NotSupportedError, match="single items"):
        model.partial_fit(ratings(33, 2), items=[3, 4])
    for call in (lambda: model.fold_in(ratings(2, 24)), lambda: model.recommend(user_items=ratings(2, 24))):
        with pytest.raises(NotSupportedError, match="by their id only"):
            call()
    parts = model.estimate_memory(ratings())
    assert parts["total"] == sum(size for name, size in parts.items() if name != "total")


def test_odd_matrices(new: Any) -> None:
    everything = sp.csr_array(np.ones((3, 4), np.float32))
    model = new().fit(everything)  # no negatives anywhere: positives alone are trained on
    assert model.recommend(0, n=3).ids.tolist() == [-1, -1, -1]
    assert new().fit(sp.csr_array((3, 4), dtype=np.float32)).history_["loss"] == [0.0, 0.0]
    dislike = ratings()
    dislike.data[3] = -1.0
    with pytest.raises(ValueError, match=r"[Dd]rop what users dislike"):
        new().fit(dislike)
    with pytest.raises(NotFittedError):
        new().score(0)
    with pytest.raises(DivergedError, match="learning_rate"):
        new(optimizer="sgd", learning_rate=1e6, init_scale=1e5, n_epochs=5).fit(ratings())


def test_pretrained_networks_start_as_the_blend(device: str) -> None:
    matrix = ratings()
    where: dict[str, Any] = {**_SMALL, "device": device}
    gmf, mlp = rf.GMF(4, **where).fit(matrix), rf.MLPRec(LAYERS, **where).fit(matrix)
    tiny: dict[str, Any] = {**where, "optimizer": "sgd", "learning_rate": 1e-12, "n_epochs": 1}
    for alpha in (0.5, 0.2):
        model = rf.NeuMF(4, LAYERS, alpha=alpha, **tiny).fit(matrix, pretrained=(gmf, mlp))
        expected = alpha * gmf.score(np.arange(30)) + (1 - alpha) * mlp.score(np.arange(30))
        np.testing.assert_allclose(model.score(np.arange(30)), expected, rtol=1e-4, atol=1e-6)
        assert "_given" not in vars(model)
    wrong: list[tuple[Any, type[Exception], str]] = [
        ((mlp, gmf), TypeError, "pair"),
        (gmf, TypeError, "pair"),
        ((rf.GMF(3, **where).fit(matrix), mlp), ValueError, "d of pretrained"),
        ((gmf, rf.MLPRec((8, 3), **where).fit(matrix)), ValueError, "layers of pretrained"),
        ((gmf, rf.MLPRec(LAYERS, activation="tanh", **where).fit(matrix)), ValueError, "activation of pretrained"),
        ((rf.GMF(4, **where).fit(ratings(29)), mlp), ValueError, "users and items of GMF"),
        ((rf.GMF(4, **where), mlp), NotFittedError, "GMF"),
    ]
    before = model.copy_state()["_stored"][0]
    for pair, error, text in wrong:
        with pytest.raises(error, match=text):
            model.fit(matrix, pretrained=pair)
    after = model.copy_state()["_stored"][0]
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"layers": (7, 3)}, ValueError, "even number"),
        ({"layers": (8,)}, ValueError, "layers"),
        ({"layers": 8}, ValueError, "layers"),
        ({"layers": (8, 2.5)}, TypeError, "width of layers"),
        ({"layers": (8, 0)}, ValueError, "width of layers"),
        ({"d": 0}, ValueError, "d"),
        ({"alpha": 1.5}, ValueError, "alpha"),
        ({"activation": "gelu"}, ValueError, "activation"),
        ({"dropout": 1.0}, ValueError, "dropout"),
        ({"n_negatives": 0}, ValueError, "n_negatives"),
        ({"negative": "in_batch"}, ValueError, "negative"),
        ({"optimizer": "lbfgs"}, ValueError, "optimizer"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate"),
        ({"lazy_moments": 1}, TypeError, "lazy_moments"),
    ],
)
def test_bad_parameters(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        rf.NeuMF(**options).fit(ratings())


def test_parameters_that_made_the_network_may_not_change(new: Any) -> None:
    model = new().fit(ratings())
    model.set_params(learning_rate=0.1, n_negatives=2)
    model.partial_fit(ratings())
    name = "d" if isinstance(model, rf.GMF) else "layers"
    model.set_params(**{name: 5 if name == "d" else (8, 5)})
    with pytest.raises(ValueError, match=f"{name} of a fitted"):
        model.recommend(0)
    matrix = model.training_matrix_
    with pytest.raises(ValueError, match="changed since fit"):
        model.partial_fit(ratings(seed=2))
    assert model.training_matrix_ is matrix


def test_films_are_ranked_better_than_by_popularity(data_dir: Path) -> None:
    if rf.datasets.describe("ml-100k").found is None:
        pytest.skip("no ml-100k here")
    movies = rf.datasets.load("ml-100k").interactions
    coo = movies.csr.tocoo()
    test = np.random.default_rng(0).permutation(coo.nnz) % 5 == 0
    parts = [sp.csr_array((coo.data[p], (coo.row[p], coo.col[p])), shape=coo.shape) for p in (~test, test)]

    def ndcg(model: Any) -> float:
        return float(rf.evaluation.evaluate(model, *parts, ("ndcg",), (10,))["ndcg@10"])

    popular = ndcg(rf.Popularity().fit(parts[0]))
    model = rf.NeuMF(8, (32, 16, 8), learning_rate=0.005, n_epochs=12, random_state=0).fit(parts[0])
    assert ndcg(model) > 1.15 * popular
