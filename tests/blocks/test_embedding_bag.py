"""EmbeddingBag and Tower: what they compute, gradients in float64, and rows that are stepped alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast.blocks.base import PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.embedding_bag import EmbeddingBag
from recsys_fast.blocks.field_table import FeatureRows
from recsys_fast.blocks.mlp import MLP
from recsys_fast.blocks.tower import Tower
from recsys_fast.training.optimizers import Optimizer

LENGTHS = [3, 0, 1, 4, 2]


def rows(valued: bool, dtype: Any = np.float32) -> FeatureRows:
    rng = np.random.default_rng(1)
    ids = np.concatenate([np.sort(rng.choice(9, n, replace=False)) for n in LENGTHS]).astype(np.int32)
    values = rng.standard_normal(len(ids)).astype(dtype) if valued else np.empty(0, dtype)
    return FeatureRows(np.cumsum([0, *LENGTHS], dtype=np.int64), ids, values)


def connected(table: EmbeddingBag, device: str, dtype: Any = np.float32) -> EmbeddingBag:
    table.connect(Runtime(device, 2, dtype), 8)
    table.initialise(np.random.default_rng(0))
    return table


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("valued", [False, True])
def test_bags_and_their_steps(mode: str, valued: bool, device: str) -> None:
    table, given = connected(EmbeddingBag(10, 5, mode, scale=1.0), device), rows(valued)
    weights = np.zeros((len(LENGTHS), 10))
    for r, n in enumerate(LENGTHS):
        own = slice(given.row_ptr[r], given.row_ptr[r + 1])
        weights[r, given.col_idx[own]] = given.values[own] if valued else 1.0
        weights[r] /= n if mode == "mean" and n else 1
    before = table.values.copy()
    np.testing.assert_allclose(table.bags(given), weights @ before, rtol=1e-5, atol=1e-6)
    dy = np.random.default_rng(2).standard_normal((len(LENGTHS), 5)).astype(np.float32)
    table.bags_backward(dy)
    table.step(Optimizer("sgd", 0.5), 0.5, 1)
    np.testing.assert_allclose(table.values, before - 0.5 * weights.T @ dy, rtol=1e-5, atol=1e-5)
    untouched = np.setdiff1d(np.arange(10), given.col_idx)
    assert len(untouched) > 0
    assert np.array_equal(table.values[untouched], before[untouched])


@pytest.mark.parametrize("unit", [False, True])
def test_gradients_of_a_tower(unit: bool) -> None:
    table = EmbeddingBag(10, 4, scale=1.0)
    mlp = MLP(4, (6, 3), "tanh")
    parameters = ParameterSet({"mlp": mlp}, Runtime("numba", 2, np.float64))
    connected(table, "numba", np.float64)
    parameters.initialise(np.random.default_rng(3))
    tower, given = Tower(table, mlp, unit), rows(True, np.float64)
    batch = PackedBatch(np.array([0, len(LENGTHS)]))
    weights = np.random.default_rng(4).standard_normal((len(LENGTHS), 3))
    y = tower.forward(given, batch)
    assert not unit or np.allclose((y * y).sum(1), 1)
    tower.backward(weights.copy(), batch)
    gradient = np.zeros_like(table.values)
    gradient[table.rows] = table.drows
    for values, slopes in ((table.values, gradient), (parameters.values, parameters.gradients.copy())):
        for i in range(values.size):
            kept, sides = values.flat[i], []
            for moved in (kept + 1e-6, kept - 1e-6):
                values.flat[i] = moved
                sides.append(float((tower.forward(given, batch) * weights).sum()))
            values.flat[i] = kept
            assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(slopes.flat[i], rel=1e-5, abs=1e-6)


def test_a_vector_of_zeros_stays_one(device: str) -> None:
    table, mlp = connected(EmbeddingBag(10, 4), device), MLP(4, ())
    ParameterSet({"mlp": mlp}, table.runtime)
    tower, batch = Tower(table, mlp, True), PackedBatch(np.array([0, len(LENGTHS)]))
    y = tower.forward(rows(False), batch)
    assert not y[1].any()
    tower.backward(np.ones_like(y), batch)
    assert np.isfinite(table.drows).all()


def test_modes() -> None:
    with pytest.raises(ValueError, match="mode of an embedding bag"):
        EmbeddingBag(3, 2, "max")
