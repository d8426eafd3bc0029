"""DeepFM, WideDeep and FeatureMLP: what they compute, training, files, bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import recsys_fast as rf
from recsys_fast.errors import DivergedError, ModelFormatError, NotFittedError
from recsys_fast.models import evaluate_rows
from recsys_fast.serialization import write
from tests.models.test_files import contents

Make = Callable[..., Any]
FIELDS = np.repeat([0, 1, 2], [8, 6, 6])
_SMALL: dict[str, Any] = {"hidden": (8, 5), "batch_size": 32, "learning_rate": 0.02, "n_epochs": 3, "random_state": 0}
MODELS: dict[str, Make] = {
    "deep-fm": lambda **k: rf.DeepFM(3, **{**_SMALL, **k}),
    "wide-deep": lambda **k: rf.WideDeep(3, **{**_SMALL, "dropout": 0.2, "optimizer": "adagrad", **k}),
    "mlp": lambda **k: rf.FeatureMLP(3, **{**_SMALL, "layer_norm": True, "activation": "tanh", **k}),
}


@pytest.fixture(params=MODELS)
def make(request: pytest.FixtureRequest, device: str) -> Make:
    return lambda **k: MODELS[request.param](**{"device": device, **k})


def rows(n: int = 200, seed: int = 0) -> tuple[sparse.csr_array, np.ndarray]:
    """One feature of each of the first two fields, any number of the third; targets follow a product of two vectors."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((n, 20), np.float32)
    first, second = rng.integers(0, 8, n), rng.integers(0, 6, n)
    dense[np.arange(n), first] = 1
    dense[np.arange(n), 8 + second] = 1
    dense[:, 14:] = (rng.random((n, 6)) < 0.3) * rng.random((n, 6))
    dense[n // 2] = 0  # an empty row
    taste = np.random.default_rng(7).standard_normal((14, 2))
    score = (taste[first] * taste[8 + second]).sum(1) + dense[:, 14] - dense[:, 15]
    return sparse.csr_array(dense), (score > 0).astype(np.int64)


def layers(model: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    parameters = model._net().parameters
    named = {name: parameters.view(name).astype(np.float64) for name in parameters.names}
    return [(named[f"mlp.dense{k}.w"], named[f"mlp.dense{k}.b"]) for k in range(len(model.hidden) + 1)]


def test_scores_are_the_formula(device: str) -> None:
    x, y = rows()
    for kind in (rf.DeepFM, rf.WideDeep, rf.FeatureMLP):
        for fields in (FIELDS, None):
            model = kind(3, **_SMALL, device=device).fit(x, y, fields=fields)
            dense, v = x.toarray().astype(np.float64), model.factors_.astype(np.float64)
            groups = [f == FIELDS for f in range(3)] if fields is not None else [np.ones(20, bool)]
            h = np.hstack([dense[:, own] @ v[own] for own in groups])
            for w, b in layers(model)[:-1]:
                h = np.maximum(h @ w + b, 0)
            w, b = layers(model)[-1]
            score = (h @ w + b)[:, 0]
            if kind is not rf.FeatureMLP:
                score += dense @ model._held()[0]["features"][:, -1].astype(np.float64)
            if kind is rf.DeepFM:
                score += 0.5 * ((dense @ v) ** 2 - (dense**2) @ (v**2)).sum(1)
            np.testing.assert_allclose(model.score_rows(x), score, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(model.predict(x), 1 / (1 + np.exp(-score)), rtol=1e-4, atol=1e-6)


def test_learns(make: Make) -> None:
    x, y = rows(600)
    model = make(n_epochs=40, dropout=0.0, batch_size=50)
    model.fit(x[:500], y[:500], fields=FIELDS, eval_set=(x[500:], y[500:]))
    assert model.history_["loss"][-1] < 0.6 * model.history_["loss"][0]
    assert evaluate_rows(model, x[500:], y[500:], ["auc"])["auc"] > 0.9
    assert len(model.history_["auc"]) == 40


def test_learns_numbers(make: Make) -> None:
    x, y = rows(400)
    numbers = 10 + 3.0 * y
    model = make(loss="squared", n_epochs=30, dropout=0.0).fit(x, numbers, fields=FIELDS)
    found = model.predict(x)
    assert np.sqrt(np.mean((found - numbers) ** 2)) < 1.2
    assert 10 <= found.min() <= found.max() <= 13


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
def test_only_rows_of_the_batch_step(optimizer: str, device: str) -> None:
    x, y = rows()
    model = rf.DeepFM(3, **{**_SMALL, "optimizer": optimizer, "n_epochs": 1, "regularization": 0.1}, device=device)
    model.fit(x, y, fields=FIELDS)
    before = model._held()[0]["features"].copy()
    some = x.toarray()
    some[:, [0, 9, 15]] = 0
    model.partial_fit(sparse.csr_array(some), y)
    after = model._held()[0]["features"]
    moved = (before != after).any(axis=1)
    assert not moved[[0, 9, 15]].any()
    assert moved[np.flatnonzero(some.any(axis=0))].all()


def test_class_weights(make: Make) -> None:
    x, y = rows()
    y = y.copy()
    y[np.flatnonzero(y)[10:]] = 0  # ten positive rows are left
    weights = np.where(y > 0, len(y) / 20, len(y) / (2 * (len(y) - 10)))
    balanced = make(class_weight="balanced").fit(x, y, fields=FIELDS).predict(x)
    plain = make().fit(x, y, fields=FIELDS).predict(x)
    assert balanced.mean() > plain.mean() + 0.1
    assert np.array_equal(balanced, make().fit(x, y, fields=FIELDS, sample_weight=weights).predict(x))
    pair = make(class_weight=(1.0, 3.0)).fit(x, y, fields=FIELDS).predict(x)
    weights = np.where(y > 0, 3.0, 1.0)
    assert np.array_equal(pair, make().fit(x, y, fields=FIELDS, sample_weight=weights).predict(x))


def test_same_bits(make: Make) -> None:
    x, y = rows()
    first = make(n_threads=1).fit(x, y, fields=FIELDS)
    for n_threads in (2, 5):
        other = make(n_threads=n_threads).fit(x, y, fields=FIELDS)
        for name, array in first._held()[0].items():
            assert np.array_equal(array, other._held()[0][name]), name
    assert not np.array_equal(first.predict(x), make(random_state=1).fit(x, y, fields=FIELDS).predict(x))


def test_unseen_features_say_nothing(make: Make) -> None:
    x, y = rows()
    wide = sparse.csr_array(sparse.hstack([x, sparse.csr_array((x.shape[0], 1), dtype=np.float32)]))
    model = make().fit(wide, y, fields=[*FIELDS, 2])
    more = wide.tolil()
    more[:, 20] = 1.0
    more = sparse.csr_array(more)
    assert np.array_equal(model.predict(wide), model.predict(more))
    model.partial_fit(more, y)
    assert model.factors_[20].any()


def test_files_and_resume(make: Make, tmp_path: Path) -> None:
    x, y = rows()
    path = tmp_path / "model"
    whole = make(n_epochs=4).fit(x, y, fields=FIELDS)
    half = make(n_epochs=2).fit(x, y, fields=FIELDS)
    half.set_params(n_epochs=4)
    half.save(path)
    loaded = rf.load(path, device=whole.device)
    assert type(loaded) is type(whole)
    assert np.array_equal(loaded.predict(x), half.predict(x))
    assert np.array_equal(loaded.fields_, FIELDS)
    resumed = type(whole).resume(path, x, y, device=whole.device)
    assert resumed.n_epochs_ == 4
    for name, array in whole._held()[0].items():
        assert np.array_equal(array, resumed._held()[0][name]), name
    assert np.array_equal(half.partial_fit(x, y, n_epochs=2).predict(x), whole.predict(x))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("fields", lambda a: a + 9),
        ("network.features", lambda a: a[:-1]),
        ("network.parameters", lambda a: a * np.float32(np.nan)),
        ("network.optimizer.features.v", lambda a: a - 1),
    ],
)
def test_damaged_files(name: str, change: Any, tmp_path: Path) -> None:
    x, y = rows()
    path = tmp_path / "model"
    MODELS["deep-fm"](n_epochs=1).fit(x, y, fields=FIELDS).save(path)
    arrays, metadata = contents(path)
    write(path, {**arrays, name: change(arrays[name])}, metadata)
    with pytest.raises(ModelFormatError):
        rf.load(path)


def test_early_stopping_keeps_the_best_epoch(make: Make) -> None:
    x, y = rows(300)
    valid = x[200:], y[200:]
    stopping = rf.EarlyStopping("log_loss", patience=2)
    model = make(n_epochs=60, learning_rate=0.2).fit(
        x[:200], y[:200], fields=FIELDS, eval_set=valid, callbacks=[stopping]
    )
    best = min(model.history_["log_loss"])
    assert evaluate_rows(model, *valid, ["log_loss"])["log_loss"] == pytest.approx(best)


def test_divergence_leaves_the_last_epoch(device: str) -> None:
    x, y = rows()
    model = rf.DeepFM(3, **{**_SMALL, "n_epochs": 1}, device=device).fit(x, y, fields=FIELDS)
    before = model.predict(x)
    model.set_params(learning_rate=1e6, optimizer="adam")
    with pytest.raises(DivergedError, match="learning_rate"):
        model.partial_fit(x * np.float32(1e30), y)
    assert np.isfinite(model.predict(x)).all()
    fresh = rf.DeepFM(3, **{**_SMALL, "learning_rate": 1e6, "optimizer": "sgd", "loss": "squared"}, device=device)
    with pytest.raises(DivergedError):
        fresh.fit(x * np.float32(1e15), y * 1e15, fields=FIELDS)
    assert not fresh.is_fitted
    assert np.isfinite(before).all()


def test_what_is_refused(make: Make) -> None:
    x, y = rows()
    for labels, text in [(y + 1, "y"), (y * 0.5, "y"), (np.zeros(200), "one class"), (y[:-1], "y")]:
        with pytest.raises(ValueError, match=text):
            make().fit(x, labels)
    with pytest.raises(ValueError, match="no rows"):
        make().fit(x[:0], y[:0])
    with pytest.raises(ValueError, match="shape of fields"):
        make().fit(x, y, fields=FIELDS[:-1])
    with pytest.raises(IndexError, match="fields"):
        make().fit(x, y, fields=FIELDS - 1)
    with pytest.raises(ValueError, match="below 65536"):
        make().fit(x, y, fields=FIELDS * 40000)
    with pytest.raises(ValueError, match="class 1 has no sample"):
        make(class_weight="balanced").fit(x, y, sample_weight=1.0 - y)
    model = make().fit(x, y, fields=FIELDS)
    with pytest.raises(ValueError, match="shape"):
        model.predict(x[:, :-1])
    with pytest.raises(ValueError, match="fields of a fitted"):
        model.partial_fit(x, y, fields=FIELDS)
    with pytest.raises(ValueError, match="n_factors of a fitted"):
        model.set_params(n_factors=4).predict(x)
    with pytest.raises(NotFittedError):
        make().predict(x)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"hidden": 8}, TypeError),
        ({"hidden": (8, 0)}, ValueError),
        ({"activation": "swish"}, ValueError),
        ({"dropout": 1.0}, ValueError),
        ({"loss": "bpr"}, ValueError),
        ({"optimizer": "adamw"}, ValueError),
        ({"class_weight": "even"}, ValueError),
        ({"class_weight": (1.0, -1.0)}, ValueError),
        ({"class_weight": {0: 1.0}}, TypeError),
        ({"class_weight": "balanced", "loss": "squared"}, ValueError),
        ({"init_scale": -1.0}, ValueError),
    ],
)
def test_parameters(params: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(params))):
        MODELS["deep-fm"](**params).fit(*rows())


def test_features_of_a_builder(device: str) -> None:
    """Categories and words of a table, in the fields of their columns; without hidden layers."""
    from recsys_fast.data.feature_columns import MultiValued
    from recsys_fast.data.features import FeatureBuilder

    rng = np.random.default_rng(0)
    names, n = np.array(["a", "b", "c"]), 90
    tags = [" ".join(rng.choice(names, 2, replace=False)) for _ in range(n)]
    table = {"place": names[rng.integers(0, 3, n)].tolist(), "tags": [text.split() for text in tags]}
    builder = FeatureBuilder(["place", MultiValued("tags")])
    x = builder.fit_transform(table)
    y = np.array([place in own for place, own in zip(table["place"], table["tags"], strict=True)]).astype(int)
    model = rf.DeepFM(4, hidden=(), n_epochs=60, learning_rate=0.1, batch_size=30, random_state=0, device=device)
    model.fit(x, y, fields=builder.fields_)
    assert model.n_fields_ == 2
    assert evaluate_rows(model, x, y, ["auc"])["auc"] > 0.95


def test_memory_is_estimated() -> None:
    x, _ = rows()
    small, large = MODELS["mlp"]().estimate_memory(x, FIELDS), MODELS["mlp"](hidden=(500,)).estimate_memory(x, FIELDS)
    assert small["total"] == sum(size for name, size in small.items() if name != "total")
    assert large["layers"] > 10 * small["layers"]
