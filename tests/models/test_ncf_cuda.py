"""Networks of pairs trained on CUDA, over the emulated grid: as on the CPU, with the network on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from tests.models.cases import ratings

pytestmark = pytest.mark.cuda_emulated

SMALL: dict[str, Any] = {"n_epochs": 2, "batch_size": 160, "n_negatives": 3, "learning_rate": 0.01, "random_state": 0}
LAYERS = (8, 6, 3)
MODELS: dict[str, Any] = {
    "gmf": rf.GMF(4, **SMALL),
    "mlp": rf.MLPRec(LAYERS, dropout=0.2, lazy_moments=False, **SMALL),
    "neumf": rf.NeuMF(4, LAYERS, activation="tanh", negative="popularity", clip_norm=1.0, **SMALL),
}


def on(name: str, device: str, **changed: Any) -> Any:
    """Return an unfitted copy of a model for another device."""
    return type(MODELS[name])(**{**MODELS[name].get_params(), "device": device, **changed})


@pytest.mark.parametrize("name", MODELS)
def test_a_fit_is_the_fit_of_the_cpu(name: str, emulated_arrays: Any, tmp_path: Path) -> None:
    matrix = ratings()
    here, there = on(name, "auto").fit(matrix), on(name, "cuda").fit(matrix)
    assert there._net().runtime.on_device
    assert there.history_["loss"] == pytest.approx(here.history_["loss"], rel=1e-5)
    for users in (3, [0, 7]):
        np.testing.assert_allclose(there.score(users), here.score(users), atol=1e-5)
    np.testing.assert_allclose(there.score([1, 2], [4, 4, 0]), here.score([1, 2], [4, 4, 0]), atol=1e-5)
    np.testing.assert_allclose(there.predict([1, 2], [5, 6]), here.predict([1, 2], [5, 6]), atol=1e-5)
    np.testing.assert_allclose(there.recommend(n=4).scores, here.recommend(n=4).scores, atol=1e-5)
    np.testing.assert_array_equal(there.similar_items([3], n=4).ids, here.similar_items([3], n=4).ids)
    there.save(tmp_path / "model")
    loaded = rf.load(tmp_path / "model", device="auto")
    np.testing.assert_allclose(loaded.score(3), here.score(3), atol=1e-5)
    there.partial_fit(matrix)
    assert there.history_["loss"][2] == pytest.approx(here.partial_fit(matrix).history_["loss"][2], rel=1e-4)
    np.testing.assert_allclose(there.score(3), here.score(3), atol=1e-4)


def test_a_start_from_fitted_models_is_that_of_the_cpu(emulated_arrays: Any) -> None:
    matrix = ratings()
    found = []
    for device in ("auto", "cuda"):
        parts = on("gmf", device, n_epochs=1).fit(matrix), on("mlp", device, n_epochs=1, activation="tanh").fit(matrix)
        found.append(on("neumf", device, n_epochs=1).fit(matrix, pretrained=parts))
    np.testing.assert_allclose(found[1].score(np.arange(30)), found[0].score(np.arange(30)), atol=1e-5)
