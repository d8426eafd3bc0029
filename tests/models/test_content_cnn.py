"""ContentCNN: what it learns, its promises around training and files, item vectors, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.errors import DivergedError, ModelFormatError, NotFittedError, NotSupportedError
from recsys_fast.models import ExtendedCatalogue
from recsys_fast.training import Checkpoint

LAYERS = [("conv", 6, 3), ("pool", 2), ("dense", 16)]


def stripes(n: int = 90, seed: int = 0) -> tuple[Any, Any]:
    """Images of 8 x 9 x 2 with stripes down, across, or none, and which."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.integers(0, 120, (n, 8, 9, 2))
    x[y == 1, ::2] += 100
    x[y == 2, :, ::2] += 100
    return x.astype(np.uint8), y


def make(device: str = "auto", **how: Any) -> rf.ContentCNN:
    return rf.ContentCNN(
        **{"layers": LAYERS, "n_epochs": 3, "random_state": 0, "device": device, "n_threads": 2, **how}
    )


def test_learns_classes(device: str) -> None:
    x, y = stripes()
    model = make(device, n_epochs=12, learning_rate=5e-3).fit(x, y, eval_set=stripes(60, 1))
    assert model.history_["accuracy"][-1] > 0.9
    assert model.history_["log_loss"][-1] < model.history_["log_loss"][0]
    probabilities = model.predict_proba(x)
    assert probabilities.shape == (90, 3)
    assert np.abs(probabilities.sum(1) - 1).max() < 1e-5
    assert np.array_equal(probabilities.argmax(1), model.predict(x))
    assert model.encode(x).shape == (90, 16)


def test_bytes_are_floats_from_0_to_1(tmp_path: Path) -> None:
    x, y = stripes()
    np.save(tmp_path / "x.npy", x)
    first = make().fit(x, y).predict_proba(x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.array_equal(first, make().fit(mapped, y).predict_proba(mapped))
    assert np.allclose(first, make().fit(x / 255, y).predict_proba(x / 255), atol=1e-4)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_bits_do_not_depend_on_threads(n_threads: int) -> None:
    x, y = stripes()
    how: dict[str, Any] = {
        "layers": [("conv", 6, 3, "same"), ("pool", 2, "average"), ("dropout", 0.2), ("conv", 5, (2, 3), 2)],
        "augmentation": {"flip": 0.5, "crop": 1, "noise": 0.1}, "resample": "over", "activation": "gelu",
    }  # fmt: skip
    assert np.array_equal(
        make(**how).fit(x, y).predict_proba(x), make(n_threads=n_threads, **how).fit(x, y).predict_proba(x)
    )


def test_other_heads(device: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 11, 3)).astype(np.float32)  # rows of features in order
    level = x.mean((1, 2))
    layers = [("conv", 4, 3), ("pool", 2), ("conv", 6, 3), ("pool", "global", "average"), ("dense", 8)]
    how: dict[str, Any] = {"layers": layers, "n_epochs": 40, "learning_rate": 1e-2}
    yes = make(device, head="sigmoid", **how).fit(x, level > 0, eval_set=(x, level > 0))
    assert yes.history_["auc"][-1] > 0.9
    assert yes.predict_proba(x).shape == (60,)
    assert ((yes.predict_proba(x) > 0.5) == yes.predict(x)).all()
    numbers = make(device, head="linear", loss="smooth_l1", **how).fit(x, np.stack([level, -2 * level], 1))
    assert numbers.predict(x).shape == (60, 2)
    assert np.corrcoef(numbers.predict(x)[:, 1], level)[0, 1] < -0.8


def test_weights_of_classes_and_rows() -> None:
    x, y = stripes(60)
    count = np.bincount(y)
    by_row = make().fit(x, y, sample_weight=(60 / (3 * count))[y])
    balanced = make(class_weight="balanced").fit(x, y)
    assert np.array_equal(by_row.predict_proba(x), balanced.predict_proba(x))
    lean = make(class_weight=[5.0, 1.0, 1.0], n_epochs=1).fit(x, y)
    assert lean.predict_proba(x)[:, 0].mean() > make(n_epochs=1).fit(x, y).predict_proba(x)[:, 0].mean()


def test_files_and_going_on(device: str, tmp_path: Path) -> None:
    x, y = stripes()
    path = tmp_path / "m.safetensors"
    model = make(device, augmentation={"flip": 0.5}, class_weight=[1.0, 2.0, 1.0]).fit(x, y)
    model.save(path)
    for loaded in (rf.load(path, device=device), rf.ContentCNN.load(path, device=device)):
        assert np.array_equal(loaded.predict_proba(x), model.predict_proba(x))
        assert loaded.history_ == model.history_
    whole = make(device, n_epochs=5).fit(x, y)
    make(device, n_epochs=3).fit(x, y, callbacks=[Checkpoint(path)])
    again = rf.ContentCNN.resume(path, x, y, n_epochs=5, device=device)
    assert np.array_equal(again.predict_proba(x), whole.predict_proba(x))
    more = make(device, n_epochs=3).fit(x, y).partial_fit(x, y, n_epochs=2)
    assert np.array_equal(more.predict_proba(x), whole.predict_proba(x))
    assert len(more.history_["loss"]) == 5
    data = path.read_bytes().replace(b'\\"shape\\": [8, 9, 2]', b'\\"shape\\": [9, 8, 2]')
    path.write_bytes(data)
    with pytest.raises(ModelFormatError):
        rf.load(path)


def test_early_stopping_puts_the_best_epoch_back() -> None:
    x, y = stripes()
    stop = rf.EarlyStopping("log_loss", patience=1)
    model = make(n_epochs=30, learning_rate=0.05).fit(x, y, eval_set=stripes(40, 2), callbacks=[stop])
    assert model.n_epochs_ == stop.best_epoch < 30
    assert len(model.history_["log_loss"]) == model.n_epochs_


def test_divergence_keeps_the_last_good_epoch(device: str) -> None:
    x, y = stripes()
    model = make(device, head="linear", n_epochs=1, optimizer="sgd").fit(x, y.astype(float))
    before = model.predict(x)
    model.set_params(learning_rate=1e6)
    with pytest.raises(DivergedError, match=r"ContentCNN diverged in epoch 2.*keeps epoch 1"):
        model.partial_fit(x, y.astype(float), n_epochs=3)
    assert model.n_epochs_ == 1
    assert np.array_equal(model.predict(x), before)
    with pytest.raises(DivergedError, match="not fitted"):
        make(device, head="linear", optimizer="sgd", learning_rate=1e6, n_epochs=9).fit(x, 1e6 * y)


def test_cold_items_get_vectors(device: str) -> None:
    rng = np.random.default_rng(0)
    taste = rng.integers(0, 3, 60)  # of users
    x, kind = stripes(80)
    chance = np.where(taste[:, None] == kind, 0.5, 0.02)
    seen = sp.csr_matrix((rng.random((60, 80)) < chance).astype(np.float32))
    warm = 70
    als = rf.ALS(8, random_state=0, n_threads=2).fit(seen[:, :warm])
    model = make(device, head="linear", n_epochs=20, learning_rate=5e-3).fit_factors(x[:warm], als)
    vectors = model.encode(x[warm:])
    assert vectors.shape == (10, als._item_table().shape[1])
    union = ExtendedCatalogue(als, vectors)
    ids = union.recommend(n=5, include=np.arange(warm, 80)).ids
    assert (ids >= warm).all()
    assert (kind[ids[:, :2]] == taste[:, None]).mean() > 0.6, "by chance a third"
    ids, _ = union.recommend([3, 5], n=80)
    assert not set(ids[0].tolist()) & set(seen[3, :warm].indices.tolist())
    one = union.recommend(3, n=4)
    assert one.ids.shape == (4,)
    assert np.array_equal(one.ids, ids[0, :4])
    with pytest.raises(ValueError, match="goes on"):
        model.partial_fit(x[:warm], np.zeros(warm))
    with pytest.raises(ValueError, match="rows of X: got 80, expected 70"):
        model.fit_factors(x, als)
    with pytest.raises(ValueError, match="head: got 'softmax', expected 'linear'"):
        make(device).fit_factors(x[:warm], als)
    with pytest.raises(NotSupportedError, match="no item vectors"):
        model.fit_factors(x[:warm], rf.ItemKNN().fit(seen[:, :warm]))
    with pytest.raises(ValueError, match="shape of vectors"):
        ExtendedCatalogue(als, vectors[:, :2])


def test_refuses(device: str) -> None:
    x, y = stripes(30)
    empty, one = x[:0], np.zeros(30, int)
    bad: list[tuple[dict[str, Any], Any, Any, type[Exception], str]] = [
        ({}, x[..., 0], y[:29], ValueError, r"shape of y: got \(29,\), expected \(30,\)"),
        ({}, empty, y[:0], ValueError, "X has no images"),
        ({}, x.astype(np.int32), y, TypeError, "dtype of X: got int32"),
        ({}, x * np.nan, y, ValueError, "NaN"),
        ({}, x[:, :2, :2], y, ValueError, r"layers\[0\] does not fit images of \(2, 2, 2\)"),
        ({}, x, y - 1, ValueError, r"y\[\d+\]: got -1"),
        ({}, x, y * 2, ValueError, "class 1 has no row"),
        ({}, x, one, ValueError, "classes in y: got 1, expected at least 2"),
        ({"n_classes": 2}, x, y, ValueError, r"y\[\d+\]: got 2, expected a class from 0 to 1"),
        ({"n_classes": 4}, x, y, ValueError, "class 3 has no row"),
        ({}, x, y + 0.5, ValueError, "fractions"),
        ({}, x, y.astype(str), TypeError, "Number the classes"),
        ({}, x, np.where(y, np.nan, 0), ValueError, "not finite"),
        ({"head": "sigmoid"}, x, y, ValueError, "expected 0 or 1"),
        ({"head": "sigmoid"}, x, one, ValueError, "one class only"),
        ({"head": "linear"}, x, y * 1e300, ValueError, "float32"),
        ({"head": "linear", "resample": "over"}, x, y, ValueError, "resample"),
        ({"head": "tree"}, x, y, ValueError, "head: got 'tree'"),
        ({"layers": [("conv", 3)]}, x, y, ValueError, r"layers\[0\]"),
        ({"layers": [("dense", 3), ("conv", 3, 3)]}, x, y, ValueError, "behind 'dense'"),
        ({"layers": "conv"}, x, y, TypeError, "layers"),
        ({"class_weight": [1.0]}, x, y, ValueError, "shape of class_weight"),
        ({"class_weight": [1.0, -1.0, 1.0]}, x, y, ValueError, "0 or more"),
        ({"class_weight": "even"}, x, y, ValueError, "class_weight"),
        ({"augmentation": {"turn": 1}}, x, y, ValueError, "augmentation"),
        ({"learning_rate": 0}, x, y, ValueError, "learning_rate"),
    ]
    for params, given, targets, error, text in bad:
        model = make(device, **params)
        with pytest.raises(error, match=text):
            model.fit(given, targets)
        assert not model.is_fitted
    model = make(device, n_epochs=1)
    with pytest.raises(NotFittedError, match=r"fit\(X, y\)"):
        model.predict(x)
    model.fit(x, y)
    for call in (model.predict, model.encode, lambda a: model.partial_fit(a, y)):
        with pytest.raises(ValueError, match=r"height, width and channels of X: got \(8, 9, 1\)"):
            call(x[..., :1])
    model.set_params(layers=[("dense", 3)])
    with pytest.raises(ValueError, match="layers of a fitted ContentCNN"):
        model.predict(x)


def test_memory_is_estimated() -> None:
    x, _ = stripes()
    small, large = (make(layers=[("conv", 6, 3), ("dense", width)]).estimate_memory(x) for width in (10, 1000))
    assert large["network"] > 50 * small["network"]
    assert small["total"] == sum(size for name, size in small.items() if name != "total")


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([("conv", 64, 3), ("pool", 2), ("conv", 128, 3), ("pool", 2), ("dense", 128)], (20, 4)),
        ([("conv", 32, 3), ("pool", 2), ("dense", 128)], (64, 64, 3)),
        ([("conv", 32, 3), ("pool", 2), ("conv", 64, 3), ("pool", 2), ("conv", 64, 3), ("dense", 64)], (28, 28, 1)),
    ],
)
def test_textbook_networks(layers: Any, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random((4, *shape)).astype(np.float32)
    model = make(layers=layers, n_epochs=1).fit(x, [0, 1, 0, 1])
    assert np.isfinite(model.predict_proba(x)).all()


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_digits_are_read_as_well_as_by_a_perceptron(device: str) -> None:
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    network = pytest.importorskip("sklearn.neural_network")
    x, y = sklearn_datasets.load_digits(return_X_y=True)
    images = (x * 15).astype(np.uint8).reshape(-1, 8, 8, 1)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1200], order[1200:]
    layers = [("conv", 32, 3, "same"), ("conv", 32, 3, "same"), ("pool", 2), ("conv", 64, 3, "same"), ("dense", 64)]
    model = make(device, layers=layers, n_epochs=8, learning_rate=2e-3, schedule="linear").fit(images[train], y[train])
    peer = network.MLPClassifier(64, max_iter=100, random_state=0).fit(x[train] / 16, y[train])
    ours, theirs = (model.predict(images[test]) == y[test]).mean(), peer.score(x[test] / 16, y[test])
    assert ours >= 0.96
    assert ours >= theirs - 0.005
