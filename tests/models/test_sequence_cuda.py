"""Sequence models trained on CUDA, over the emulated grid: as on the CPU, with the network on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from tests.models.cases import sequences

pytestmark = pytest.mark.cuda_emulated

SMALL: dict[str, Any] = {"max_len": 6, "n_epochs": 2, "batch_size": 4, "random_state": 0}
MODELS = {
    "sasrec": rf.SASRec(8, 1, 2, loss="ce", dropout=0.2, **SMALL),
    "sasrec-bce": rf.SASRec(8, 1, 1, loss="bce", norm="query", **SMALL),
    "bert4rec": rf.BERT4Rec(8, 1, 2, **SMALL),
    "nextitnet": rf.NextItNet(8, (1,), 2, **SMALL),
    "gru4rec": rf.GRU4Rec(8, session_parallel=False, n_negatives=6, **SMALL),
    "lstm": rf.GRU4Rec(8, cell="lstm", session_parallel=False, n_negatives=6, **SMALL),
    "lanes": rf.GRU4Rec(8, n_negatives=6, **SMALL),
    "lstm-lanes": rf.GRU4Rec(8, 2, cell="lstm", loss="bpr_max", n_negatives=6, dropout_hidden=0.3, **SMALL),
    "caser": rf.Caser(8, 3, 2, n_horizontal=2, n_vertical=1, n_epochs=2, batch_size=16, random_state=0),
    "frozen": rf.SASRec(8, 1, 2, init=np.eye(15, 8), frozen=("items", "attention0"), clip_norm=0.5, **SMALL),
    "caser-nobody": rf.Caser(6, 2, 1, n_horizontal=2, n_vertical=0, user_vectors=False, n_epochs=1, random_state=0),
}
DATA = sequences(12, 15, 8)


def on(model: Any, device: str) -> Any:
    """Return an unfitted copy of a model for another device."""
    return type(model)(**{**model.get_params(), "device": device})


@pytest.mark.parametrize("name", MODELS)
def test_a_fit_is_the_fit_of_the_cpu(name: str, emulated_arrays: Any, tmp_path: Path) -> None:
    here, there = on(MODELS[name], "auto").fit(DATA), on(MODELS[name], "cuda").fit(DATA)
    assert there._net().runtime.on_device
    assert there.history_["loss"] == pytest.approx(here.history_["loss"], rel=1e-5)
    np.testing.assert_allclose(there.item_factors_, here.item_factors_, atol=1e-5)
    np.testing.assert_array_equal(there.recommend(n=4).ids, here.recommend(n=4).ids)
    np.testing.assert_allclose(there.encode([[1, 2], [], [3]]), here.encode([[1, 2], [], [3]]), atol=1e-5)
    best = [model.recommend_from(model.update(model.start([1, 2]), 5), n=4).ids for model in (here, there)]
    np.testing.assert_array_equal(*best)
    there.save(tmp_path / "model")
    loaded = rf.load(tmp_path / "model", device="auto")
    np.testing.assert_array_equal(loaded.recommend(n=4).ids, here.recommend(n=4).ids)
    there.partial_fit(DATA)
    assert there.history_["loss"][2:] == pytest.approx(here.partial_fit(DATA).history_["loss"][2:], rel=1e-4)


@pytest.mark.parametrize("loss", ["ce", "sampled_ce"])
def test_bfloat16_learns_nearly_what_float32_does(loss: str, emulated_arrays: Any) -> None:
    model = rf.SASRec(8, 1, 2, loss=loss, **SMALL)
    here, there = on(model, "auto").fit(DATA), on(model, "cuda").set_params(compute="bfloat16").fit(DATA)
    assert there.history_["loss"] == pytest.approx(here.history_["loss"], rel=2e-3)
    assert there.history_["loss"] != pytest.approx(here.history_["loss"], rel=1e-6)
