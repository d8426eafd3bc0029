"""Blocks around texts, images and towers on the emulated grid: what they are on the CPU, also where nothing goes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast.blocks.base import Block, PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.embedding_bag import EmbeddingBag
from recsys_fast.blocks.field_table import FeatureRows
from recsys_fast.blocks.fusion import FUSIONS
from recsys_fast.blocks.heads import Head
from recsys_fast.blocks.mlp import MLP
from recsys_fast.blocks.sequence_pool import POOLINGS, SequencePool
from recsys_fast.blocks.tower import Tower
from recsys_fast.training.optimizers import Optimizer

pytestmark = pytest.mark.cuda_emulated

RANDOM = np.random.default_rng(0)
DEVICES = ("auto", "cuda")


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def close(there: list[Any], here: list[Any]) -> None:
    assert len(there) == len(here)
    for got, want in zip(there, here, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def connected(block: Block, device: str) -> tuple[Runtime, ParameterSet]:
    runtime = Runtime(device)
    parameters = ParameterSet({"it": block}, runtime)
    runtime.fill(parameters.values, np.random.default_rng(1).normal(0, 0.5, len(parameters.values)))
    return runtime, parameters


@pytest.mark.parametrize("kind", POOLINGS)
@pytest.mark.parametrize("lengths", [(0, 3, 1, 0, 4, 0), (0, 0), ()])
def test_pooling(kind: str, lengths: tuple[int, ...], emulated_arrays: Any) -> None:
    row_ptr = np.cumsum([0, *lengths], dtype=np.int64)
    x, dy, found = numbers(int(row_ptr[-1]), 5), numbers(len(lengths), 5), []
    for device in DEVICES:
        block = SequencePool(kind)
        runtime, _ = connected(block, device)
        batch = PackedBatch.on(runtime, row_ptr, 0, training=True)
        y = block.forward(runtime.upload(x), batch)
        assert not runtime.on_device or emulated_arrays.is_array(y)
        found.append([runtime.to_host(array) for array in (y, block.backward(runtime.upload(dy), batch))])
    close(found[1], found[0])


@pytest.mark.parametrize("kind", FUSIONS)
@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("n", [0, 9])
def test_fusion(kind: str, some: bool, n: int, emulated_arrays: Any) -> None:
    x, found = numbers(n, 12), []
    present = RANDOM.random((n, 3)) < 0.5 if some else None
    dy = numbers(n, 12 if kind == "concat" else 4)
    for device in DEVICES:
        block = FUSIONS[kind](3, 4)
        runtime, parameters = connected(block, device)
        batch = PackedBatch.on(runtime, np.array([0, n]), 0, training=True)
        y = runtime.copy(block.forward(runtime.upload(x), batch, present))
        dx = block.backward(runtime.upload(dy), batch)
        found.append([runtime.to_host(array) for array in (y, dx, parameters.gradients)])
    close(found[1], found[0])


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "linear"])
def test_heads(kind: str, emulated_arrays: Any) -> None:
    h, weights, found = numbers(7, 4), RANDOM.random(7).astype(np.float32), []
    targets = RANDOM.integers(0, 3, 7).astype(np.int32) if kind == "softmax" else numbers(7, 3)
    targets = (targets > 0).astype(np.float32) if kind == "sigmoid" else targets
    for device in DEVICES:
        head = Head(4, 3, kind)
        runtime, parameters = connected(head, device)
        batch = PackedBatch.on(runtime, np.array([0, 7]), 0, training=True)
        loss, dh = head.loss(runtime.upload(h), targets, weights, batch)
        kept = runtime.to_host(dh).copy()
        scores = runtime.to_host(head.forward(runtime.upload(h), batch))
        found.append([loss, kept, runtime.to_host(parameters.gradients), head.link(scores)])
    close(found[1], found[0])


@pytest.mark.parametrize("lengths", [(3, 0, 1, 4), (0, 0), ()])
@pytest.mark.parametrize("sparse", [True, False])
def test_towers(lengths: tuple[int, ...], sparse: bool, emulated_arrays: Any) -> None:
    row_ptr = np.cumsum([0, *lengths], dtype=np.int64)
    ids = RANDOM.integers(0, 9, int(row_ptr[-1])).astype(np.int32)
    rows, dy, found = FeatureRows(row_ptr, ids, numbers(len(ids))), numbers(len(lengths), 3), []
    for device in DEVICES:
        mlp = MLP(4, (6, 3), "gelu", layer_norm=True)
        runtime, parameters = connected(mlp, device)
        table = EmbeddingBag(10, 4, "mean", scale=1.0)
        table.connect(runtime, 8)
        table.initialise(np.random.default_rng(0))
        tower, batch = Tower(table, mlp, True), PackedBatch.on(runtime, np.array([0, len(lengths)]), 0, training=True)
        y = runtime.to_host(tower.forward(rows, batch)).copy()
        table.begin()
        tower.backward(runtime.upload(dy), batch)
        table.finish()
        table.step(Optimizer("adam", 0.1, sparse=sparse), 0.1, 1)
        found.append([y, runtime.to_host(parameters.gradients), runtime.to_host(table.values)])
    close(found[1], found[0])
