"""Factor models trained on CUDA, over the emulated grid: as on the CPU, with the tables on the device during fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.errors import DivergedError, NotSupportedError
from recsys_fast.models.sgd_training import Sgd
from tests.cases.csr import random_csr

pytestmark = pytest.mark.cuda_emulated

MATRIX = random_csr(70, 65, 0.06, values=False)
RATINGS = random_csr(70, 65, 0.06)
MODELS = [
    rf.BPR(8, n_epochs=3, random_state=0),
    rf.BPR(5, n_epochs=2, optimizer="adam", learning_rate=0.01, negative="adaptive", n_candidates=3, random_state=1),
    rf.WARP(8, n_epochs=2, optimizer="adagrad", random_state=0),
    rf.LogisticMF(8, n_epochs=2, balance="items", random_state=0),
    rf.MF(8, n_epochs=2, random_state=0),
]
by_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{type(model).__name__} {model.optimizer}")


def on(model: Any, device: str) -> Any:
    """Return an unfitted copy of a model for another device."""
    return type(model)(**{**model.get_params(), "device": device})


@by_model
def test_a_fit_is_the_fit_of_the_cpu(model: Any, emulated_arrays: Any) -> None:
    matrix = RATINGS if isinstance(model, rf.MF) else MATRIX
    here, there = on(model, "auto").fit(matrix), on(model, "cuda").fit(matrix)
    np.testing.assert_allclose(there.user_factors_, here.user_factors_, atol=2e-5)
    np.testing.assert_allclose(there.item_factors_, here.item_factors_, atol=2e-5)
    assert there.history_["loss"] == pytest.approx(here.history_["loss"], rel=1e-5)
    there.set_params(device="auto")
    assert there.recommend([3, 5], n=4).ids.shape == (2, 4)


def test_tables_stay_on_the_device(emulated_arrays: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, run = [], Sgd.run

    def watched(self: Sgd, epoch: int) -> tuple[float, int, int]:
        seen.append([id(table) for table in self.tables if emulated_arrays.is_array(table)])
        return run(self, epoch)

    monkeypatch.setattr(Sgd, "run", watched)
    on(MODELS[0], "cuda").fit(MATRIX)
    assert len(seen) == 3
    assert all(ids == seen[0] and len(ids) == 10 for ids in seen)


def test_callbacks_see_the_epoch_that_ended(emulated_arrays: Any) -> None:
    class Watch:
        def __init__(self) -> None:
            self.factors: list[Any] = []

        def on_epoch_end(self, state: Any) -> None:
            self.factors.append(state.model.item_factors_.copy())

    here, there = Watch(), Watch()
    on(MODELS[0], "auto").fit(MATRIX, callbacks=[here])
    on(MODELS[0], "cuda").fit(MATRIX, callbacks=[there])
    np.testing.assert_allclose(there.factors, here.factors, atol=2e-5)


def test_divergence_keeps_the_last_finite_epoch(emulated_arrays: Any) -> None:
    model = on(MODELS[0], "cuda").fit(MATRIX)
    kept = model.item_factors_.copy()
    with pytest.raises(DivergedError, match="learning_rate"):
        model.set_params(learning_rate=1e6, schedule="constant").partial_fit(MATRIX, n_epochs=9)
    assert np.isfinite(model.item_factors_).all()
    assert model.n_epochs_ >= 3
    assert model.n_epochs_ > 3 or np.array_equal(model.item_factors_, kept)


def test_folding_users_in_is_that_of_the_cpu(emulated_arrays: Any) -> None:
    model = on(MODELS[0], "auto").fit(MATRIX)
    given = random_csr(3, 65, 0.1, values=False)
    expected = model.fold_in(given)
    np.testing.assert_allclose(model.set_params(device="cuda").fold_in(given), expected, atol=2e-5)


def test_what_has_no_kernel_says_so(emulated_arrays: Any) -> None:
    features = random_csr(65, 4, 0.5)
    with pytest.raises(NotSupportedError, match="features"):
        on(MODELS[0], "cuda").fit(MATRIX, item_features=features)
    with pytest.raises(NotSupportedError, match="n_os"):
        rf.WARP(8, n_os=3, k_os=1, n_epochs=1, device="cuda").fit(MATRIX)
    model = on(MODELS[0], "cuda").fit(MATRIX)
    with pytest.raises(NotSupportedError, match="folding items in"):
        model.partial_fit(random_csr(70, 1, 0.3, values=False), items=[2])
