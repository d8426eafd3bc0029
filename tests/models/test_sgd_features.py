"""Features of users and items: sums of embeddings, cold ones, files; and SVD++, whose features are a user's items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.errors import ModelFormatError
from recsys_fast.models.sgd_features import grown
from recsys_fast.serialization import write
from tests.models.cases import ratings, same_state
from tests.models.test_files import contents

MODELS: dict[str, Any] = {"bpr": rf.BPR, "warp": rf.WARP, "logistic": rf.LogisticMF, "mf": rf.MF}


def features(n: int, n_features: int, seed: int = 0) -> sp.csr_array:
    """Three features a row, one row of none."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((n, n_features), np.float32)
    for row in dense[1:]:
        row[rng.choice(n_features, 3, replace=False)] = rng.random(3) + 0.5
    return sp.csr_array(dense)


def both(**options: Any) -> dict[str, Any]:
    return {"user_features": features(30, 7), "item_features": features(20, 6, 1), **options}


@pytest.mark.parametrize("identity", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_vectors_are_the_sums_of_what_describes_them(device: str, name: str, identity: bool) -> None:
    model = MODELS[name](4, identity=identity, n_epochs=3, random_state=0, device=device).fit(ratings(), **both())
    for side, given, n in (("user", features(30, 7), 30), ("item", features(20, 6, 1), 20)):
        table = getattr(model, f"_{side}s").astype(np.float64)
        assert table.shape == (given.shape[1] + (n if identity else 0), 4)
        expected = given.toarray() @ table[-given.shape[1] :]
        if identity:
            expected += table[:n]
        np.testing.assert_allclose(getattr(model, f"{side}_factors_"), expected, atol=1e-6)
    queries, items = model._scoring()
    expected = model.user_factors_ @ model.item_factors_.T
    if name != "mf":
        expected = expected + model.item_biases_
    if name in ("mf", "logistic"):
        expected = expected + model.user_biases_[:, None]
    if name == "mf":
        expected = expected + model.item_biases_ + model.global_mean_
    np.testing.assert_allclose(queries @ items.T, expected, atol=1e-5)
    if name != "warp":
        assert model.history_["loss"][-1] < model.history_["loss"][0]


@pytest.mark.parametrize("name", MODELS)
def test_rows_without_interactions_have_no_vector_of_their_own(device: str, name: str) -> None:
    model = MODELS[name](4, n_epochs=3, random_state=0, device=device).fit(ratings(), **both())
    assert (model._users[15] == 0).all()
    assert (model._items[10] == 0).all()
    assert (model._item_bias[10] == 0).all()
    assert (model.item_factors_[10] != 0).any()


@pytest.mark.parametrize("side", ["user", "item"])
def test_one_side_alone(device: str, side: str) -> None:
    given = {f"{side}_features": both()[f"{side}_features"]}
    model = rf.BPR(4, n_epochs=2, random_state=0, device=device).fit(ratings(), **given)
    assert model.recommend(n=3).ids.shape == (30, 3)
    other = rf.BPR(4, n_epochs=2, random_state=0, device=device).fit(ratings())
    assert not np.array_equal(model.user_factors_, other.user_factors_)
    assert same_state(model.fit(ratings()), other)


@pytest.fixture(scope="module")
def planted() -> Any:
    return rf.datasets.synthetic(n_users=400, n_items=200, n_interactions=12_000, rank=6, random_state=0)


@pytest.mark.parametrize("name", ["bpr", "warp", "logistic"])
def test_cold_items_and_users_are_ranked_by_their_features(device: str, name: str, planted: Any) -> None:
    whole = (planted.train.csr + planted.test.csr).tolil()
    cold_items, cold_users = np.arange(0, 200, 5), np.arange(0, 400, 8)
    warm = whole.copy()
    warm[:, cold_items] = 0
    warm[cold_users, :] = 0
    given = {}
    for side in ("user", "item"):
        factors = np.asarray(planted.extras[f"{side}_factors"])
        shares = factors / factors.sum(1, keepdims=True)
        given[f"{side}_features"] = sp.csr_array(np.where(shares > 0.2, shares, 0).astype(np.float32))
    rate = 0.01 if name == "warp" else 0.05
    model = MODELS[name](8, n_epochs=20, learning_rate=rate, random_state=0, device=device).fit(warm.tocsr(), **given)
    truth = whole.toarray() > 0
    warm_users = np.setdiff1d(np.arange(400), cold_users)
    scores = model.score(np.arange(400))
    for rows, columns in ((warm_users, cold_items), (cold_users, np.setdiff1d(np.arange(200), cold_items))):
        assert auc(scores[np.ix_(rows, columns)], truth[np.ix_(rows, columns)]) > 0.65


def auc(scores: np.ndarray[Any, Any], liked: np.ndarray[Any, Any]) -> float:
    """Mean over rows of the share of (liked, not liked) pairs in the right order."""
    found = []
    for s, t in zip(scores, liked, strict=True):
        if t.any() and not t.all():
            found.append((s[t][:, None] > s[~t][None, :]).mean())
    return float(np.mean(found))


def test_new_users_and_items_are_appended(device: str) -> None:
    model = rf.BPR(4, n_epochs=3, random_state=0, device=device).fit(ratings(), **both())
    before = model.score(np.arange(30))
    more_users, more_items = features(3, 7, 5), features(2, 6, 6)
    assert model.extend(user_features=more_users, item_features=more_items) is model
    assert model.training_matrix_.shape == (33, 22)
    np.testing.assert_array_equal(model.score(np.arange(30))[:, :20], before)
    np.testing.assert_allclose(model.user_factors_[30:], more_users @ model._users[-7:], atol=1e-6)
    np.testing.assert_allclose(model.item_factors_[20:], more_items @ model._items[-6:], atol=1e-6)
    assert set(model.recommend(31, n=22).ids) == set(range(22))
    model.partial_fit(ratings(33, 22, seed=2), n_epochs=1)
    assert np.isfinite(model.score(np.arange(33))).all()
    assert model.extend() is model
    plain = rf.BPR(4, n_epochs=1, device=device).fit(ratings())
    with pytest.raises(ValueError, match="trained without"):
        plain.extend(user_features=more_users)
    with pytest.raises(ValueError, match="columns of item_features: got 7, expected the features of fit, 6"):
        model.extend(item_features=features(2, 7))
    assert model.training_matrix_.shape == (33, 22)


def test_features_that_do_not_fit_are_refused(device: str) -> None:
    model = rf.BPR(4, n_epochs=1, device=device)
    with pytest.raises(ValueError, match="rows of user_features: got 29, expected one per user, 30"):
        model.fit(ratings(), user_features=features(29, 7))
    with pytest.raises(ValueError, match=r"rows of item_features.*looks transposed"):
        model.fit(ratings(), item_features=features(20, 6).T.tocsr())
    with pytest.raises(TypeError, match="item_features"):
        model.fit(ratings(), item_features=np.ones((20, 3), np.float32))
    bad = features(20, 6)
    bad.data[3] = np.nan
    with pytest.raises(ValueError, match=r"item_features.*finite"):
        model.fit(ratings(), item_features=bad)
    assert not model.is_fitted
    fitted = rf.BPR(4, n_epochs=1, device=device).fit(ratings())
    with pytest.raises(ValueError, match="trained without"):
        fitted.fold_in(ratings(3), user_features=features(3, 7))


@pytest.mark.parametrize("name", MODELS)
def test_files_hold_features(device: str, name: str, tmp_path: Path) -> None:
    model = MODELS[name](4, n_epochs=2, optimizer="adam", random_state=0, device=device).fit(ratings(), **both())
    model.save(tmp_path / "x")
    loaded = rf.load(tmp_path / "x", device=device)
    assert same_state(loaded, model)
    np.testing.assert_array_equal(loaded.recommend(n=5).ids, model.recommend(n=5).ids)
    loaded.partial_fit(ratings())
    assert same_state(loaded, model.partial_fit(ratings()))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("user_features.row_ptr", lambda a: a[:-1]),
        ("user_features.col_idx", lambda a: a + 5),
        ("item_features.values", lambda a: a * np.float32(np.nan)),
        ("user_steps", lambda a: -a - 1),
        ("user_state", lambda a: a[:, :-1]),
        ("item_bias", lambda a: a[:-1]),
    ],
)
def test_forged_tables_are_refused(name: str, change: Any, tmp_path: Path) -> None:
    rf.BPR(4, n_epochs=1, optimizer="adam", random_state=0).fit(ratings(), **both()).save(tmp_path / "good")
    arrays, metadata = contents(tmp_path / "good")
    arrays[name] = change(arrays[name])
    write(tmp_path / "forged", arrays, metadata)
    with pytest.raises(ModelFormatError, match="forged"):
        rf.load(tmp_path / "forged")


def test_tables_grow_block_by_block() -> None:
    table = np.arange(10).reshape(5, 2)
    np.testing.assert_array_equal(
        grown(table, (3, 2), (4, 3), 7), [[0, 1], [2, 3], [4, 5], [7, 7], [6, 7], [8, 9], [7, 7]]
    )
    assert grown(table, (3, 2), (3, 2), 7) is table


# ---- SVD++


class Reference:
    """SVD++ straight from its formulas: float64, one rating at a time, all gradients from before the step."""

    def __init__(self, model: Any, matrix: sp.csr_array) -> None:
        n_users, n_items = matrix.shape
        self.model, self.matrix, self.mean = model, matrix, matrix.data.mean(dtype=np.float64)
        start = type(model)(**{**model.get_params(), "learning_rate": 1e-30, "n_epochs": 1}).fit(matrix)
        users, bias = start._users.astype(np.float64), start._user_bias.astype(np.float64)
        self.x, self.z = users[:n_users].copy(), users[n_users:].copy()
        self.bx, self.bz = bias[:n_users].copy(), bias[n_users:].copy()
        self.y, self.by = start._items.astype(np.float64), np.zeros(n_items)

    def epoch(self) -> float:
        lr, reg, total = self.model.learning_rate, self.model.regularization, 0.0
        for u in range(len(self.x)):
            items = self.matrix.indices[self.matrix.indptr[u] : self.matrix.indptr[u + 1]]
            values = self.matrix.data[self.matrix.indptr[u] : self.matrix.indptr[u + 1]]
            scale = len(items) ** -0.5 if len(items) else 0.0
            for i, r in zip(items, values, strict=True):
                vector = self.x[u] + scale * self.z[items].sum(0)
                bias = self.bx[u] + scale * self.bz[items].sum()
                e = r - (self.mean + bias + self.by[i] + vector @ self.y[i])
                total += e * e / 2
                item = self.y[i].copy()
                self.y[i] += lr * (e * vector - reg * self.y[i])
                self.by[i] += lr * (e - reg * self.by[i])
                self.x[u] += lr * (e * item - reg * self.x[u])
                self.bx[u] += lr * (e - reg * self.bx[u])
                self.z[items] += lr * (e * scale * item - reg * self.z[items])
                self.bz[items] += lr * (e * scale - reg * self.bz[items])
        return total / self.matrix.nnz


def test_svdpp_is_what_its_formulas_say(device: str) -> None:
    matrix = ratings()
    options: dict[str, Any] = {"learning_rate": 0.02, "regularization": 0.03, "init_scale": 0.5, "random_state": 0}
    model = rf.MF(4, implicit_feedback=True, n_epochs=3, schedule="constant", device=device, **options).fit(matrix)
    reference = Reference(model, matrix)
    losses = [reference.epoch() for _ in range(3)]
    np.testing.assert_allclose(model.history_["loss"], losses, rtol=1e-4)
    np.testing.assert_allclose(model._users[:30], reference.x, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model._users[30:], reference.z, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model._items, reference.y, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model._item_bias, reference.by, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model._user_bias[30:], reference.bz, rtol=1e-3, atol=1e-5)


def test_svdpp_describes_new_users_by_their_items(device: str) -> None:
    model = rf.MF(4, implicit_feedback=True, n_epochs=3, random_state=0, device=device).fit(ratings())
    grown_up = model.resize(32, 22)
    assert grown_up._users.shape == (32 + 22, 4)
    vectors = model.fold_in(ratings(5, 22, seed=9))
    assert vectors.shape == (5, 5)
    assert np.isfinite(vectors).all()
    empty = model.fold_in(sp.csr_array((1, 22), dtype=np.float32))
    np.testing.assert_array_equal(empty, np.zeros((1, 5)))
    with_both = rf.MF(4, implicit_feedback=True, n_epochs=2, random_state=0, device=device).fit(ratings(), **both())
    assert with_both._users.shape == (30 + 20 + 7, 4)
