"""Item2Vec trained on CUDA, over the emulated grid: as on the CPU, with the tables on the device during fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from tests.models.cases import ratings, sequences

pytestmark = pytest.mark.cuda_emulated

HOW: dict[str, dict[str, Any]] = {
    "shuffled baskets": {"window": 3},
    "whole baskets": {"window": None, "scoring": "cosine"},
    "sequences": {"window": 2, "sample": 0.05},
}


@pytest.mark.parametrize("name", HOW)
def test_a_fit_is_the_fit_of_the_cpu(name: str, emulated_arrays: Any) -> None:
    data = sequences(20, 15, 8) if name == "sequences" else ratings(30, 20)
    made = {"n_epochs": 2, "learning_rate": 0.1, "random_state": 0, **HOW[name]}
    here, there = (rf.Item2Vec(6, device=device, **made).fit(data) for device in ("auto", "cuda"))
    assert there.history_["loss"] == pytest.approx(here.history_["loss"], rel=1e-5)
    for table in ("item_factors_", "context_factors_", "user_factors_"):
        np.testing.assert_allclose(getattr(there, table), getattr(here, table), atol=2e-5)
    np.testing.assert_allclose(there.recommend(n=4).scores, here.recommend(n=4).scores, atol=2e-5)
    if name != "sequences":
        for model in (here, there):
            model.partial_fit(ratings(30, 20)[:, [4, 5]], items=[4, 5])
        np.testing.assert_allclose(there.item_factors_, here.item_factors_, atol=5e-5)


def test_callbacks_see_the_epoch_that_ended(emulated_arrays: Any) -> None:
    class Watch:
        def __init__(self) -> None:
            self.factors: list[Any] = []

        def on_epoch_end(self, state: Any) -> None:
            self.factors.append(state.model.item_factors_.copy())

    watched = []
    for device in ("auto", "cuda"):
        watch = Watch()
        rf.Item2Vec(4, n_epochs=2, random_state=0, device=device).fit(ratings(30, 20), callbacks=[watch])
        watched.append(watch.factors)
    np.testing.assert_allclose(watched[1], watched[0], atol=2e-5)
