"""TwoTower: vectors, the gradient of its loss, cold users and items, training, files, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.blocks.base import Runtime
from recsys_fast.errors import DivergedError, ModelFormatError
from recsys_fast.models.sgd_features import Side
from recsys_fast.models.two_tower_history import HistoryInputs
from recsys_fast.models.two_tower_training import Inputs, PairBatch
from recsys_fast.serialization import write
from tests.models.cases import ratings
from tests.models.test_files import contents
from tests.models.test_sgd_features import features

_SMALL: dict[str, Any] = {"batch_size": 32, "learning_rate": 0.02, "n_epochs": 3, "random_state": 0}


def model_of(**params: Any) -> Any:
    return rf.TwoTower(4, **{**_SMALL, **params})


def both(**options: Any) -> dict[str, Any]:
    return {"user_features": features(30, 7), "item_features": features(20, 6, 1), **options}


def tastes(seed: int = 0, n_users: int = 120, n_items: int = 60) -> tuple[sp.csr_array, sp.csr_array]:
    """Users of three kinds who like items of their kind; items say theirs by two of nine words."""
    rng = np.random.default_rng(seed)
    kind_of_user, kind_of_item = rng.integers(0, 3, n_users), np.arange(n_items) % 3
    chance = np.where(kind_of_user[:, None] == kind_of_item, 0.4, 0.02)
    words = np.zeros((n_items, 9), np.float32)
    for item, kind in enumerate(kind_of_item):
        words[item, 3 * kind + rng.choice(3, 2, replace=False)] = 1.0
    return sp.csr_array((rng.random(chance.shape) < chance).astype(np.float32)), sp.csr_array(words)


@pytest.mark.parametrize("pooling", ["mean", "sum"])
@pytest.mark.parametrize(("normalize", "identity"), [(True, True), (False, True), (True, False)])
def test_vectors_are_the_formula(pooling: str, normalize: bool, identity: bool, device: str) -> None:
    how = {"hidden": (5,), "normalize": normalize, "identity": identity, "pooling": pooling, "device": device}
    model = model_of(**how).fit(ratings(), **both())
    network = model._net()
    for side, given, found in (
        (0, features(30, 7), model.user_factors_),
        (1, features(20, 6, 1), model.item_factors_),
    ):
        table = network.towers[side].table.values.astype(np.float64)
        dense = given.toarray().astype(np.float64)
        if pooling == "mean":
            dense /= np.maximum(1, (dense != 0).sum(1))[:, None]
        x = dense @ table[-dense.shape[1] :]
        if identity:
            x += table[: len(dense)]
        name = ("user_mlp", "item_mlp")[side]
        keys = ("dense0.w", "dense0.b", "dense1.w", "dense1.b")
        w = {key: network.parameters.view(f"{name}.{key}").astype(np.float64) for key in keys}
        x = np.maximum(x @ w["dense0.w"] + w["dense0.b"], 0) @ w["dense1.w"] + w["dense1.b"]
        if normalize:
            x /= np.linalg.norm(x, axis=1)[:, None]
        np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.score(3), model.item_factors_ @ model.user_factors_[3], rtol=1e-4, atol=1e-5)


def test_histories_and_biases_are_the_formula(device: str) -> None:
    matrix = ratings()
    model = model_of(device=device, item_bias=True, history=3, id_dropout=0.3).fit(matrix, **both())
    users, items = (tower.table.values.astype(np.float64) for tower in model._net().towers)
    rows, described = matrix.toarray() > 0, []
    for given in both().values():
        dense = given.toarray().astype(np.float64)
        described.append(dense / np.maximum(1, (dense != 0).sum(1))[:, None])
    means = rows @ items[:20, :4] / np.maximum(1, rows.sum(1))[:, None]
    own = users[:30] + described[0] @ users[30:]
    for found, x in ((model.user_factors_, own + means), (model.fold_in(matrix), means)):
        lengths = np.linalg.norm(x, axis=1)
        x /= np.where(lengths > 0, lengths, 1)[:, None]
        np.testing.assert_allclose(found, np.c_[x, np.ones(30)], rtol=1e-4, atol=1e-5)
    both_rows = items[:20] + described[1] @ items[20:]
    both_rows[:, :4] /= np.linalg.norm(both_rows[:, :4], axis=1)[:, None]
    np.testing.assert_allclose(model.item_factors_, both_rows, rtol=1e-4, atol=1e-5)
    assert np.abs(both_rows[:, 4]).min() > 0
    np.testing.assert_allclose(model.score(3), both_rows @ model.user_factors_[3], rtol=1e-4, atol=1e-5)
    nearest = both_rows[:, :4] @ both_rows[0, :4]
    assert model.similar_items(0, n=1).ids[0] == np.argmax(np.where(np.arange(20) == 0, -2, nearest))


def test_an_interaction_is_told_from_the_users_others() -> None:
    matrix = rf.TwoTower(2, n_epochs=1).fit(ratings()).training_matrix_
    users = np.repeat(np.arange(30, dtype=np.int32), np.diff(matrix.row_ptr))
    given = HistoryInputs(Inputs(Side(30, True, ()), True), matrix, 5)
    drawn = np.zeros(matrix.nnz)
    for seed in range(40):
        random = np.random.default_rng(seed).random(matrix.nnz)
        others = given.others(users, matrix.col_idx, 3, random)
        for k, user in enumerate(users):
            ids = others.col_idx[others.row_ptr[k] : others.row_ptr[k + 1]]
            weights = others.values[others.row_ptr[k] : others.row_ptr[k + 1]]
            history = matrix.col_idx[matrix.row_ptr[user] : matrix.row_ptr[user + 1]]
            assert len(set(ids)) == len(ids) >= min(3, len(history) - 1)
            assert len(ids) <= 4
            assert set(ids) <= set(history) - {matrix.col_idx[k]}
            assert weights.sum() == pytest.approx(1.0 if len(ids) else 0.0)
            drawn[matrix.row_ptr[user] : matrix.row_ptr[user + 1]] += np.isin(history, ids)
    assert drawn[np.diff(matrix.row_ptr)[users] > 1].all(), "every item is in a window some time"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"n_negatives": 5, "item_bias": True, "history": 3},
        {"n_negatives": 5, "negative": "popularity", "log_q": 0.5},
    ],
)
def test_gradients_are_those_of_finite_differences(params: dict[str, Any]) -> None:
    """A step of gradient descent in float64 is the difference quotient of the loss it reports."""
    matrix = ratings()
    how = {"hidden": (3,), "activation": "tanh", "id_dropout": 0.3, "optimizer": "sgd", **params}
    model = model_of(n_epochs=1, device="numba", **how).fit(matrix, **both())
    network = model._make_network(Runtime("numba", 2, np.float64))
    network.initialise(np.random.default_rng(0))
    network.optimizer.learning_rate = 1.0
    csr = model.training_matrix_
    users = np.repeat(np.arange(30, dtype=np.int32), np.diff(csr.row_ptr))[::7]
    batch = PairBatch(users, csr.col_idx[::7])
    arrays = {name: array.copy() for name, array in network.arrays().items()}

    def loss() -> float:
        total, n = network.step(batch)
        moved.update({name: array.copy() for name, array in network.arrays().items()})
        network.restore(arrays, 0)
        return total / n

    moved: dict[str, Any] = {}
    loss()
    gradients = {name: array - moved[name] for name, array in arrays.items()}
    rng = np.random.default_rng(1)
    for name, values in arrays.items():
        largest = np.argsort(-np.abs(gradients[name]).ravel())[:6]
        for i in [*largest, *rng.integers(0, values.size, 4)]:
            kept, sides = values.flat[i], []
            for other in (kept + 1e-6, kept - 1e-6):
                values.flat[i] = other
                network.restore(arrays, 0)
                sides.append(loss())
            values.flat[i] = kept
            assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(gradients[name].flat[i], rel=1e-4, abs=1e-6), name


def test_learns(device: str) -> None:
    matrix, words = tastes()
    train, test = rf.splits.random(rf.Interactions(matrix), 0.3, random_state=0)
    by_chance = rf.evaluation.evaluate(rf.Random(random_state=0).fit(train), train, test, ("recall",))["recall@10"]
    for params in ({}, {"hidden": (16,), "n_negatives": 20}, {"history": 10, "item_bias": True, "id_dropout": 0.5}):
        model = model_of(n_epochs=10, device=device, **params).fit(train, item_features=words, eval_set=(train, test))
        assert model.history_["loss"][-1] < model.history_["loss"][0] - 0.3
        assert rf.evaluation.evaluate(model, train, test, ("recall",))["recall@10"] > 1.5 * by_chance


def test_cold_items_are_found_by_their_features(device: str) -> None:
    matrix, words = tastes()
    known = matrix.toarray()
    known[:, ::5] = 0
    model = model_of(n_epochs=12, id_dropout=0.5, device=device).fit(sp.csr_array(known), item_features=words)
    assert not model._net().towers[1].table.values[:60:5].any(), "what has no interactions has no embedding of its own"
    cold = np.arange(0, 60, 5)
    ids = model.recommend(n=3, include=cold).ids
    hits = np.mean([matrix.toarray()[user][own].mean() for user, own in enumerate(ids)])
    assert hits > 1.5 * matrix.toarray()[:, cold].mean()


def test_new_users_are_known_by_their_histories(device: str) -> None:
    matrix, _ = tastes()
    model = model_of(n_epochs=12, history=10, id_dropout=0.5, device=device).fit(matrix[:80])
    rows = matrix[80:].toarray()
    shown = rows * (np.random.default_rng(0).random(rows.shape) < 0.5)
    hits = [rows[k][ids].mean() for k, ids in enumerate(model.recommend(user_items=sp.csr_array(shown), n=5).ids)]
    assert np.mean(hits) > 1.5 * (rows - shown).mean() / (1 - shown.mean())


@pytest.mark.parametrize("params", [{}, {"history": 4, "item_bias": True}])
def test_users_and_items_of_features_alone(params: dict[str, Any], device: str, tmp_path: Path) -> None:
    matrix = ratings()
    model = model_of(device=device, hidden=(5,), **params).fit(matrix, **both())
    model.save(tmp_path / "model")
    loaded = rf.load(tmp_path / "model", device=device)
    new_users, new_items = features(4, 7, 5), features(3, 6, 6)
    users, items = model.encode_users(new_users), model.encode_items(new_items)
    before = model.user_factors_.copy(), model.item_factors_.copy()
    model.extend(user_features=new_users, item_features=new_items)
    loaded.extend(user_features=new_users, item_features=new_items)
    assert np.array_equal(loaded.item_factors_, model.item_factors_), "a model from a file grows like any other"
    assert model.training_matrix_.shape == (34, 23)
    for found, old, new in ((model.user_factors_, before[0], users), (model.item_factors_, before[1], items)):
        assert np.array_equal(found[: len(old)], old)
        np.testing.assert_allclose(found[len(old) :], new, atol=1e-6)
    model.recommend([30, 33], n=5)
    model.partial_fit(sp.csr_array(np.pad(matrix.toarray(), ((0, 4), (0, 3)), constant_values=1.0)))
    assert model._net().towers[0].table.values[30:34].any()
    plain = model_of(device=device).fit(matrix)
    with pytest.raises(ValueError, match="trained without"):
        plain.encode_items(new_items)
    with pytest.raises(ValueError, match="trained without"):
        plain.extend(user_features=new_users)
    with pytest.raises(ValueError, match="shape"):
        model.encode_items(new_users)


def test_histories_fold_in_as_means_of_items(device: str) -> None:
    matrix = ratings()
    model = model_of(device=device).fit(matrix)
    rows = matrix.toarray()
    mean = np.array([model.item_factors_[row > 0].mean(axis=0) if row.any() else np.zeros(4) for row in rows])
    lengths = np.linalg.norm(mean, axis=1)
    wanted = mean / np.where(lengths > 0, lengths, 1)[:, None]
    np.testing.assert_allclose(model.fold_in(matrix), wanted, atol=1e-5)
    ids, _ = model.recommend(user_items=matrix, n=4)
    assert not matrix.toarray()[np.arange(30)[:, None], ids][ids >= 0].any()


@pytest.mark.parametrize(
    "params",
    [
        {"hidden": (6,), "n_negatives": 7, "dropout": 0.2, "id_dropout": 0.3},
        {},
        {"item_bias": True, "history": 2, "id_dropout": 0.3},
    ],
)
def test_same_bits_and_files(params: dict[str, Any], device: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    how = {"device": device, **params}
    whole = model_of(n_epochs=4, n_threads=1, **how).fit(ratings(), **both())
    half = model_of(n_epochs=2, n_threads=3, **how).fit(ratings(), **both()).set_params(n_epochs=4)
    half.save(path)
    loaded = rf.load(path, device=device)
    assert np.array_equal(loaded.item_factors_, half.item_factors_)
    resumed = rf.TwoTower.resume(path, device=device)
    assert resumed.n_epochs_ == 4
    for name, array in whole._held()[0].items():
        assert np.array_equal(array, resumed._held()[0][name]), name
    other = model_of(n_epochs=4, **how).set_params(random_state=1).fit(ratings(), **both())
    assert not np.array_equal(other.item_factors_, whole.item_factors_)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "model"
    model_of(n_epochs=1).fit(ratings(), **both()).save(path)
    arrays, metadata = contents(path)
    changes = {
        "network.items": lambda a: a[:-1],
        "item_features.col_idx": lambda a: a + 5,
        "network.users": lambda a: a * np.nan,
    }
    for name, change in changes.items():
        write(path, {**arrays, name: change(arrays[name]).astype(arrays[name].dtype)}, metadata)
        with pytest.raises(ModelFormatError):
            rf.load(path)


def test_divergence_leaves_the_last_epoch(device: str) -> None:
    model = model_of(device=device, optimizer="sgd", normalize=False, n_epochs=1).fit(ratings())
    before = model.item_factors_.copy()
    model.set_params(learning_rate=1e6, temperature=1e-6)
    with pytest.raises(DivergedError, match="learning_rate"):
        model.partial_fit(ratings(), n_epochs=30)
    assert np.isfinite(model.item_factors_).all()
    assert model.n_epochs_ >= 1
    assert np.isfinite(before).all()


def test_what_is_refused(device: str) -> None:
    matrix = ratings()
    for given, text in [
        ({"item_features": features(19, 6)}, "one per item"),
        ({"user_features": features(7, 30)}, "transposed"),
        ({"item_features": sp.csr_array(np.full((20, 2), np.nan))}, "item_features"),
    ]:
        with pytest.raises(ValueError, match=text):
            model_of(device=device).fit(matrix, **given)
    with pytest.raises(ValueError, match="users have no features"):
        model_of(identity=False, device=device).fit(matrix, item_features=features(20, 6))
    with pytest.raises(ValueError, match="TwoTower takes for liked"):
        model_of(device=device).fit(-matrix)
    empty = model_of(device=device).fit(sp.csr_array((4, 5), dtype=np.float32))
    assert not empty.item_factors_.any()
    for params in ({"n_factors": 5}, {"history": 3}, {"item_bias": True}):
        with pytest.raises(ValueError, match=f"{next(iter(params))} of a fitted"):
            model_of(device=device).fit(matrix).set_params(**params).recommend(0)
    assert model_of(device=device, history=2).fit(matrix).set_params(history=3).recommend(0).ids.shape == (10,)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"hidden": 8}, TypeError),
        ({"hidden": (0,)}, ValueError),
        ({"temperature": 0.0}, ValueError),
        ({"pooling": "max"}, ValueError),
        ({"negative": "hard"}, ValueError),
        ({"id_dropout": 1.0}, ValueError),
        ({"log_q": 2.0}, ValueError),
        ({"identity": 1}, TypeError),
        ({"item_bias": 1}, TypeError),
        ({"history": -1}, ValueError),
        ({"history": 3, "identity": False}, ValueError),
    ],
)
def test_parameters(params: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(params))):
        model_of(**params).fit(ratings())


def test_memory_is_estimated() -> None:
    given = both()
    plain, described = (model_of().estimate_memory(ratings(), **some) for some in ({}, given))
    assert described["features"] > plain["features"] == 0
    assert described["total"] == sum(size for name, size in described.items() if name != "total")
    assert model_of(history=3).estimate_memory(ratings())["total"] > plain["total"]
