"""Fusion of vectors some of which are missing: what it computes, gradients in float64, what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast.blocks.base import PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.fusion import FUSIONS, Fusion
from tests.blocks.layer_gradients import check_gradients

N, PARTS, D = 9, 3, 4


def packed(n: int = N) -> PackedBatch:
    return PackedBatch(np.array([0, n]), seed=3, step=5, training=True)


def present() -> Any:
    """Every subset of three vectors, none of them included."""
    return np.array([[k & 1, k & 2, k & 4] for k in [*range(8), 7]], bool)


def connected(kind: str, device: str, n_threads: int = 2) -> tuple[Fusion, ParameterSet]:
    block = FUSIONS[kind](PARTS, D)
    parameters = ParameterSet({"fusion": block}, Runtime(device, n_threads))
    parameters.values[:] = np.random.default_rng(1).normal(0, 0.5, len(parameters.values))
    return block, parameters


@pytest.mark.parametrize("kind", FUSIONS)
@pytest.mark.parametrize("some", [False, True])
def test_gradients(kind: str, some: bool) -> None:
    block = FUSIONS[kind](PARTS, D)
    if some:
        forward = block.forward
        block.forward = lambda x, batch: forward(x, batch, present())  # type: ignore[method-assign, assignment]
    check_gradients(block, np.random.default_rng(0).standard_normal((N, PARTS * D)), packed())


@pytest.mark.parametrize("kind", FUSIONS)
def test_is_what_it_says(kind: str, device: str) -> None:
    block, parameters = connected(kind, device)
    x = np.random.default_rng(0).standard_normal((N, PARTS, D)).astype(np.float32)
    there = present()
    dirty = np.where(there[:, :, None], x, np.float32(np.nan))
    found = block.forward(dirty.reshape(N, -1), packed(), there)
    p = {name.removeprefix("fusion."): parameters.view(name).astype(np.float64) for name in parameters.names}
    if kind == "concat":
        wanted = np.where(there[:, :, None], x, p["missing"]).reshape(N, -1)
    else:
        v = np.where(there[:, :, None], x, 0).astype(np.float64)
        a = v.reshape(N, -1) @ p["w"] + p["b"] if kind == "gated" else (v @ p["w"])[:, :, 0] + p["bias"]
        e = np.exp(a) * there
        wanted = ((e / np.maximum(e.sum(1, keepdims=True), 1e-300))[:, :, None] * v).sum(1)
        assert not found[0].any(), "of nothing there is nothing"
        np.testing.assert_allclose(found[4], x[4, 2], rtol=1e-6)  # the only one has all of the weight
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    dx = block.backward(np.ones_like(found), packed()).reshape(N, PARTS, D)
    assert np.isfinite(dx).all()
    assert not dx[~there].any()
    assert np.isfinite(parameters.gradients).all()


@pytest.mark.parametrize("kind", FUSIONS)
def test_bits_do_not_depend_on_threads(kind: str, device: str) -> None:
    rng = np.random.default_rng(0)
    x, there = rng.standard_normal((700, PARTS * D)).astype(np.float32), rng.random((700, PARTS)) < 0.6
    results = []
    for n_threads in (1, 3):
        block, parameters = connected(kind, device, n_threads)
        y = block.forward(x, packed(700), there).copy()
        results.append((y, block.backward(y, packed(700)).copy(), parameters.gradients.copy()))
    for one, two in zip(*results, strict=True):
        assert np.array_equal(one, two)


@pytest.mark.parametrize("kind", FUSIONS)
def test_what_it_refuses(kind: str) -> None:
    with pytest.raises(ValueError, match="parts of a fusion"):
        FUSIONS[kind](0, 3)
    with pytest.raises(ValueError, match="length of its vectors"):
        FUSIONS[kind](2, 0)
