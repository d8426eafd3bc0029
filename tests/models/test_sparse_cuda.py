"""Models over sparse rows trained on CUDA, over the emulated grid: as on the CPU, with the network on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from tests.models.cases import ratings
from tests.models.test_deep_rows import FIELDS, rows

pytestmark = pytest.mark.cuda_emulated

SMALL: dict[str, Any] = {"n_epochs": 2, "batch_size": 8, "learning_rate": 0.02, "random_state": 0}
AUTOENCODERS = {
    "multvae": rf.MultVAE(3, (6,), kl_steps=4, **SMALL),
    "multdae": rf.MultDAE(4, sample_weight="values", clip_norm=1.0, lazy_moments=True, **SMALL),
    "autorec": rf.AutoRec(4, (5,), **SMALL),
    "autorec-users": rf.AutoRec(4, side="users", loss="smooth_l1", activation="relu", dropout=0.2, **SMALL),
}
DEEP: dict[str, Any] = {**SMALL, "hidden": (6,), "batch_size": 64}
ROW_MODELS = {
    "deep-fm": rf.DeepFM(3, regularization=0.1, hidden_regularization=0.01, **DEEP),
    "wide-deep": rf.WideDeep(3, dropout=0.2, optimizer="adagrad", **DEEP),
    "mlp": rf.FeatureMLP(3, layer_norm=True, activation="gelu", loss="squared", **DEEP),
}


def on(model: Any, device: str) -> Any:
    """Return an unfitted copy of a model for another device."""
    return type(model)(**{**model.get_params(), "device": device})


def same(there: Any, here: Any) -> None:
    """Check that two models learned the same numbers."""
    assert there.history_["loss"] == pytest.approx(here.history_["loss"], rel=1e-4)
    (got, steps), (want, wanted_steps) = there._held(), here._held()
    assert steps == wanted_steps
    assert got.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_an_autoencoder_is_that_of_the_cpu(name: str, emulated_arrays: Any, tmp_path: Path) -> None:
    here, there = (on(AUTOENCODERS[name], device).fit(ratings()) for device in ("auto", "cuda"))
    assert there._net().runtime.on_device
    same(there, here)
    np.testing.assert_allclose(there.item_factors_, here.item_factors_, atol=1e-5)
    np.testing.assert_array_equal(there.recommend(n=4).ids, here.recommend(n=4).ids)
    np.testing.assert_allclose(there.fold_in(ratings(5, seed=3)), here.fold_in(ratings(5, seed=3)), atol=1e-4)
    np.testing.assert_array_equal(there.similar_users(2, n=3).ids, here.similar_users(2, n=3).ids)
    there.save(tmp_path / "model")
    loaded = rf.load(tmp_path / "model", device="auto")
    np.testing.assert_array_equal(loaded.recommend(n=4).ids, here.recommend(n=4).ids)
    for model in (here, there):
        model.partial_fit(ratings(1, 20, density=0.5, seed=9), users=[4])
        model.partial_fit(ratings())
    same(there, here)


@pytest.mark.parametrize("name", ROW_MODELS)
def test_a_model_of_features_is_that_of_the_cpu(name: str, emulated_arrays: Any, tmp_path: Path) -> None:
    x, y = rows(150)
    dense = x.toarray()
    dense[:, 3] = 0  # a feature that comes later
    early = sp.csr_array(dense)
    here, there = (on(ROW_MODELS[name], device).fit(early, y, fields=FIELDS) for device in ("auto", "cuda"))
    assert there._net().runtime.on_device
    same(there, here)
    np.testing.assert_allclose(there.predict(x), here.predict(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(there.factors_, here.factors_, atol=1e-5)
    there.save(tmp_path / "model")
    np.testing.assert_allclose(rf.load(tmp_path / "model").predict(x), here.predict(x), rtol=1e-4, atol=1e-5)
    for model in (here, there):
        model.partial_fit(x, y)
    same(there, here)


@pytest.mark.parametrize(
    ("kind", "more"),
    [(rf.FM, {"loss": "logistic"}), (rf.FM, {"solver": "als", "loss": "squared"}), (rf.FFM, {"loss": "logistic"})],
)
def test_a_machine_is_that_of_the_cpu(kind: Any, more: dict[str, Any], emulated_arrays: Any) -> None:
    x, y = rows(100)
    given: dict[str, Any] = {"fields": FIELDS} if kind is rf.FFM else {}
    options: dict[str, Any] = {"n_epochs": 2, "batch_size": 16, "random_state": 0, **more}
    here, there = (kind(3, device=device, **options).fit(x, y, **given) for device in ("auto", "cuda"))
    assert there.history_["loss"] == pytest.approx(here.history_["loss"], rel=1e-4)
    np.testing.assert_allclose(there.predict(x), here.predict(x), rtol=1e-3, atol=1e-4)


def test_bfloat16_learns_nearly_what_float32_does(emulated_arrays: Any) -> None:
    model = rf.MultVAE(3, (6,), **SMALL)
    here, there = on(model, "auto").fit(ratings()), on(model, "cuda").set_params(compute="bfloat16").fit(ratings())
    assert there.history_["loss"] == pytest.approx(here.history_["loss"], rel=2e-3)
    assert there.history_["loss"] != pytest.approx(here.history_["loss"], rel=1e-6)
