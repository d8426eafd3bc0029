"""EASE, SLIM and SparseEASE on CUDA, over the emulated grid: the weights and lists of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.ops import Csr
from tests.cases.linear import dense
from tests.models.cases import ratings

pytestmark = pytest.mark.cuda_emulated

MODELS: dict[str, Any] = {
    "ease": rf.EASE(20.0),
    "sparse": rf.SparseEASE(20.0, n_neighbors=6),
    "slim": rf.SLIM(0.5, 5.0, tolerance=1e-6),
    "slim-signed": rf.SLIM(0.5, 5.0, nonnegative=False, n_neighbors=4, tolerance=1e-6),
}


def weights_of(model: Any) -> Any:
    """Return the weights as a dense array."""
    return dense(model.weights_) if isinstance(model.weights_, Csr) else model.weights_


@pytest.mark.parametrize("name", MODELS)
def test_a_fit_is_the_fit_of_the_cpu(name: str, emulated_arrays: Any) -> None:
    matrix = ratings(40, 25, 0.2)
    here, there = (type(MODELS[name])(**{**MODELS[name].get_params(), "device": d}) for d in ("auto", "cuda"))
    here.fit(matrix)
    there.fit(matrix)
    np.testing.assert_allclose(weights_of(there), weights_of(here), atol=2e-5)
    for choice in ({"n": 6}, {"n": 30, "filter_seen": False}, {"user_items": matrix[:3], "n": 4, "exclude": [1, 2]}):
        found, expected = there.recommend(**choice), here.recommend(**choice)
        np.testing.assert_allclose(found.scores, expected.scores, atol=2e-4)
        assert (found.ids == expected.ids).mean() > 0.9  # scores that are nearly equal may change places
    found, expected = (model.similar_items([2, 3], n=4) for model in (there, here))
    np.testing.assert_allclose(found.scores, expected.scores, atol=2e-5)


def test_a_table_crosses_once(emulated_arrays: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """EASE's table is made, inverted and only then fetched: nothing of its size goes up."""
    matrix, crossed = ratings(40, 25, 0.2), []
    asarray, to_host = emulated_arrays.asarray, emulated_arrays.to_host

    def up(x: Any, *rest: Any) -> Any:
        crossed.extend(["up"] if isinstance(x, np.ndarray) and x.size == 25 * 25 else [])
        return asarray(x, *rest)

    def down(x: Any) -> Any:
        crossed.extend(["down"] if x.size == 25 * 25 else [])
        return to_host(x)

    monkeypatch.setattr(emulated_arrays, "asarray", up)
    monkeypatch.setattr(emulated_arrays, "to_host", down)
    rf.EASE(20.0, device="cuda").fit(matrix)
    assert crossed == ["down"]


def test_a_singular_problem_is_named_and_leaves_the_model(emulated_arrays: Any) -> None:
    matrix = ratings(40, 25, 0.2)
    same = matrix[:, [0] * 25]
    for model in (rf.EASE(20.0, device="cuda"), rf.SparseEASE(20.0, n_neighbors=5, device="cuda")):
        before = weights_of(model.fit(matrix)).copy()
        with pytest.raises(ValueError, match=r"not positive definite.*[Rr]egularization"):
            model.set_params(regularization=0.0).partial_fit(same)
        assert np.array_equal(weights_of(model), before)
