"""ALS trained on the emulated grid: the same model as on the CPU, which loads there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import recsys_fast as rf
from recsys_fast import backend
from tests.conftest import emulated_cuda

pytestmark = pytest.mark.cuda_emulated

HOW: dict[str, dict[str, Any]] = {
    "cholesky": {"solver": "cholesky"},
    "cg": {"solver": "cg", "alpha": 3.0, "objective": "hu2008"},
    "subspace": {"solver": "subspace", "block_size": 16},
    "explicit": {"feedback": "explicit", "regularization": 0.05},
}
by_how = pytest.mark.parametrize("how", HOW.values(), ids=HOW)


@pytest.fixture(autouse=True)
def grid() -> Iterator[None]:
    """The emulated grid stands for CUDA."""
    with emulated_cuda():
        yield


@pytest.fixture
def ratings() -> Any:
    """(60, 45) ratings of 1 to 5."""
    rng = np.random.default_rng(0)
    matrix = sparse.random_array((60, 45), density=0.15, rng=rng, format="csr", dtype=np.float32)
    matrix.data[:] = rng.integers(1, 6, matrix.nnz)
    return matrix


def fit(ratings: Any, device: str, **how: Any) -> rf.ALS:
    """Return a small model."""
    return rf.ALS(18, n_epochs=2, random_state=1, device=device, **how).fit(ratings)


@by_how
def test_trains_as_the_cpu_does(how: dict[str, Any], ratings: Any) -> None:
    there, here = fit(ratings, "cuda", **how), fit(ratings, "auto", **how)
    assert there.history_["loss"] == pytest.approx(here.history_["loss"], rel=1e-3)
    assert isinstance(there.user_factors_, np.ndarray)
    scores = [model.user_factors_ @ model.item_factors_.T for model in (there, here)]
    assert np.abs(scores[0] - scores[1]).max() < 2e-2
    new = ratings[:5]
    assert np.allclose(there.fold_in(new), _moved(there, "auto").fold_in(new), atol=1e-3)


def _moved(model: rf.ALS, device: str) -> rf.ALS:
    """Return the model with another device."""
    moved = rf.ALS(**{**model.get_params(), "device": device})
    vars(moved).update({name: value for name, value in vars(model).items() if name not in model.get_params()})
    return moved


@by_how
def test_files_cross_backends_both_ways(how: dict[str, Any], ratings: Any, tmp_path: Path) -> None:
    for device, other in (("cuda", "auto"), ("auto", "cuda")):
        model = fit(ratings, device, **how)
        model.save(tmp_path / "model")
        loaded = rf.load(tmp_path / "model", device=other)
        assert np.array_equal(loaded.user_factors_, model.user_factors_)
        loss = model.history_["loss"][-1]
        assert loaded.partial_fit(ratings, n_epochs=1).history_["loss"][-1] < loss
    ids, _ = rf.load(tmp_path / "model", device="auto").recommend([0, 1], n=3)
    assert ids.shape == (2, 3)


def test_an_epoch_that_fails_leaves_the_last_one(ratings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fit(ratings, "cuda", solver="cholesky")
    before = model.user_factors_.copy(), model.item_factors_.copy()
    calls = []
    sweep = backend.get("cuda").als_sweep

    def interrupted(*arguments: Any) -> float:
        calls.append(1)
        if len(calls) == 2:  # the users are new, the items are not
            raise KeyboardInterrupt
        return float(sweep(*arguments))

    monkeypatch.setattr(backend.get("cuda"), "als_sweep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(ratings, n_epochs=3)
    assert len(calls) == 2
    assert np.array_equal(model.user_factors_, before[0])
    assert np.array_equal(model.item_factors_, before[1])


def test_tables_stay_on_the_device(ratings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables come to the host at the end of a fit, and where callbacks look at them."""
    arrays, fetched = backend.arrays("cuda"), []

    def watched(x: Any, call: Any = arrays.to_host) -> Any:
        fetched.extend([x.shape] if x.shape in ((60, 18), (45, 18)) else [])
        return call(x)

    class Watch:
        def __init__(self) -> None:
            self.factors: list[Any] = []

        def on_epoch_end(self, state: Any) -> None:
            self.factors.append(state.model.item_factors_.copy())

    monkeypatch.setattr(arrays, "to_host", watched)
    quiet = rf.ALS(18, n_epochs=3, random_state=1, device="cuda").fit(ratings)
    assert sorted(fetched) == [(45, 18), (60, 18)]
    watch = Watch()
    seen = rf.ALS(18, n_epochs=3, random_state=1, device="cuda").fit(ratings, callbacks=[watch])
    assert len(fetched) == 2 + 6
    assert np.array_equal(seen.item_factors_, quiet.item_factors_)
    assert np.array_equal(watch.factors[-1], quiet.item_factors_)
    assert not np.array_equal(watch.factors[0], watch.factors[1])
