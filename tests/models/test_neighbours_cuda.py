"""Neighbour models on CUDA, over the emulated grid: the neighbours and lists of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from tests.cases.product_topk import to_dense
from tests.models.cases import ratings

pytestmark = pytest.mark.cuda_emulated

MODELS: dict[str, Any] = {
    "items": rf.ItemKNN(5, shrinkage=1.0),
    "items-bm25": rf.ItemKNN(7, "bm25"),
    "users": rf.UserKNN(6),
    "users-jaccard": rf.UserKNN(6, "jaccard"),
    "walks": rf.RP3beta(5),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_fit_is_the_fit_of_the_cpu(name: str, emulated_arrays: Any) -> None:
    matrix = ratings(40, 25, 0.2)
    here, there = (type(MODELS[name])(**{**MODELS[name].get_params(), "device": d}) for d in ("auto", "cuda"))
    here.fit(matrix)
    there.fit(matrix)
    for weights in ("neighbours_", "weights_"):
        if hasattr(here, weights):
            found, expected = (to_dense(getattr(model, weights)) for model in (there, here))
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    new = matrix[:3]
    for choice in ({"n": 6}, {"n": 30, "filter_seen": False}, {"user_items": new, "n": 4, "exclude": [1, 2]}):
        found, expected = there.recommend(**choice), here.recommend(**choice)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
        assert (found.ids == expected.ids).mean() > 0.95  # equal scores may differ by a rounding
    similar = (model.similar_users if "users" in name else model.similar_items for model in (there, here))
    found, expected = (call([2, 3], n=4) for call in similar)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
