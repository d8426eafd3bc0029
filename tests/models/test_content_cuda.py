"""Networks of content trained on CUDA, over the emulated grid: as on the CPU, with the network on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.errors import DeviceMemoryError, DivergedError
from recsys_fast.models import ExtendedCatalogue
from recsys_fast.training import Checkpoint
from tests.models.cases import ratings
from tests.models.test_content_cnn import stripes
from tests.models.test_content_rnn import N_TOKENS, texts

pytestmark = pytest.mark.cuda_emulated

SMALL: dict[str, Any] = {"n_epochs": 2, "batch_size": 16, "learning_rate": 0.01, "random_state": 0}
TEXT: dict[str, Any] = {**SMALL, "n_tokens": N_TOKENS, "d_embedding": 5, "hidden": 6}
IMAGES, KINDS = stripes(40)
TEXTS, LAST = texts(40)
LEVEL = np.random.default_rng(0).standard_normal((40, 2))
SERIES = np.random.default_rng(1).standard_normal((40, 5, 3)).astype(np.float32)
SERIES[:, :, 0] += LEVEL[:, :1]

MODELS: dict[str, tuple[Any, Any, Any]] = {
    "lstm": (rf.ContentRNN("lstm", dropout=0.2, class_weight="balanced", **TEXT), TEXTS, LAST),
    "gru-mean": (
        rf.ContentRNN("gru", n_layers=2, pooling="mean", head="linear", loss="smooth_l1", **TEXT), TEXTS, LEVEL
    ),
    "rnn-max": (rf.ContentRNN("rnn", pooling="max", head="sigmoid", frozen=True, **TEXT), TEXTS, LEVEL > 0),
    "init": (rf.ContentRNN("gru", init=0.1 * np.arange(60.0).reshape(12, 5) - 3, **TEXT), TEXTS, LAST),
    "series": (
        rf.ContentRNN("gru", hidden=4, pooling="max", head="sigmoid", class_weight=[1.0, 2.0], **SMALL),
        SERIES,
        LEVEL[:, 0] > 0,
    ),
    "images": (
        rf.ContentCNN([("conv", 3, 3), ("pool", 2), ("dropout", 0.2), ("dense", 6)], clip_norm=1.0,
                      augmentation={"flip": 0.5, "noise": 0.1}, **SMALL), IMAGES, KINDS
    ),
    "rows": (
        rf.ContentCNN([("conv", 4, 3, "same"), ("pool", "global", "average")], "linear", activation="gelu",
                      resample=None, **SMALL), SERIES, LEVEL
    ),
    "oversampled": (
        rf.ContentCNN([("conv", 2, 3, 2), ("flatten",)], resample="over", optimizer="adagrad", **SMALL), IMAGES, KINDS
    ),
}  # fmt: skip
by_model = pytest.mark.parametrize("name", MODELS)


def on(model: Any, device: str, **changed: Any) -> Any:
    """Return an unfitted copy of a model for another device."""
    return type(model)(**{**model.get_params(), "device": device, **changed})


def same(there: Any, here: Any, x: Any) -> None:
    """Check that two models learned the same."""
    assert there.history_["loss"] == pytest.approx(here.history_["loss"], rel=1e-5)
    use = "predict" if here.head == "linear" else "predict_proba"
    np.testing.assert_allclose(getattr(there, use)(x), getattr(here, use)(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(there.encode(x), here.encode(x), rtol=1e-4, atol=1e-5)


@by_model
def test_a_fit_is_the_fit_of_the_cpu(name: str, emulated_arrays: Any, tmp_path: Path) -> None:
    model, x, y = MODELS[name]
    weights = np.linspace(0.5, 1.5, 40) if name == "rows" else None
    given: dict[str, Any] = {"sample_weight": weights, "eval_set": (x, y)}
    here, there = on(model, "auto").fit(x, y, **given), on(model, "cuda").fit(x, y, **given)
    assert there._net().runtime.on_device
    assert emulated_arrays.is_array(there._net().parameters.values)
    assert there.history_.keys() == here.history_.keys()
    same(there, here, x)
    np.testing.assert_array_equal(there.predict(x) > 0.5, here.predict(x) > 0.5)
    there.save(tmp_path / "model")
    for device in ("auto", "cuda"):
        same(rf.load(tmp_path / "model", device=device), here, x)
    for one in (here, there):
        one.partial_fit(x, y, sample_weight=weights)
    same(there, here, x)


@pytest.mark.parametrize("name", ["lstm", "images"])
def test_a_checkpoint_goes_on_with_the_same_bits(name: str, emulated_arrays: Any, tmp_path: Path) -> None:
    model, x, y = MODELS[name]
    path = tmp_path / "model"
    whole = on(model, "cuda", n_epochs=2).fit(x, y)
    on(model, "cuda", n_epochs=1).fit(x, y, callbacks=[Checkpoint(path)])
    again = type(model).resume(path, x, y, n_epochs=2, device="cuda")
    np.testing.assert_array_equal(again.predict_proba(x), whole.predict_proba(x))


@pytest.mark.parametrize("kind", ["texts", "images"])
def test_vectors_of_cold_items(kind: str, emulated_arrays: Any) -> None:
    x = TEXTS if kind == "texts" else IMAGES
    make = rf.ContentRNN("gru", head="linear", **TEXT) if kind == "texts" else rf.ContentCNN(
        [("conv", 3, 3), ("dense", 6)], "linear", **SMALL
    )  # fmt: skip
    als = rf.ALS(4, n_epochs=2, random_state=0).fit(ratings())  # 20 items
    here, there = (on(make, device).fit_factors(x[:20], als) for device in ("auto", "cuda"))
    assert there.history_["loss"] == pytest.approx(here.history_["loss"], rel=1e-5)
    vectors = here.encode(x[20:]), there.encode(x[20:])
    np.testing.assert_allclose(vectors[1], vectors[0], rtol=1e-4, atol=1e-5)
    ids = [ExtendedCatalogue(als, found).recommend(n=6).ids for found in vectors]
    np.testing.assert_array_equal(*ids)


@by_model
def test_memory_is_told_and_enough(name: str, emulated_arrays: Any) -> None:
    model, x, y = MODELS[name]
    model = on(model, "cuda", n_epochs=1)
    parts = model.estimate_memory(x)
    assert parts["total"] == sum(size for part, size in parts.items() if part not in ("device", "total"))
    assert "device" not in on(model, "auto").estimate_memory(x)
    emulated_arrays.module.take_peak()
    model.fit(x, y)
    needed = model._estimate(model._content(x), model._encoder(model._kind), model._n_outputs)["device"]
    assert 0 < emulated_arrays.module.take_peak() <= needed


def test_what_has_no_room_is_refused_before_anything_is_lost(emulated_arrays: Any) -> None:
    model, x, y = MODELS["images"]
    model = on(model, "cuda", n_epochs=1).fit(x, y)
    kept = model.predict_proba(x)
    emulated_arrays.module.set_memory_limit(600)
    try:
        for train in (model.fit, model.partial_fit):
            with pytest.raises(DeviceMemoryError, match="device memory for ContentCNN"):
                train(x, y)
    finally:
        emulated_arrays.module.set_memory_limit(1 << 34)
    np.testing.assert_array_equal(model.predict_proba(x), kept)


def test_divergence_keeps_the_last_good_epoch(emulated_arrays: Any) -> None:
    model, x, _ = MODELS["rows"]
    model = on(model, "cuda", n_epochs=1, optimizer="sgd").fit(x, LEVEL)
    before = model.predict(x)
    model.set_params(learning_rate=1e6)
    with pytest.raises(DivergedError, match=r"ContentCNN diverged in epoch 2.*keeps epoch 1"):
        model.partial_fit(x, LEVEL, n_epochs=3)
    np.testing.assert_array_equal(model.predict(x), before)
