"""Pooling over the rows of a sequence: what it is when written out, gradients, sequences without rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast.blocks.base import PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.sequence_pool import SequencePool
from tests.blocks.layer_gradients import check_gradients

KINDS = {"last": lambda x: x[-1], "mean": lambda x: x.mean(0), "max": lambda x: x.max(0)}
by_kind = pytest.mark.parametrize("kind", KINDS)
LENGTHS = [0, 3, 1, 0, 4, 0]


def batch_of(lengths: list[int]) -> PackedBatch:
    return PackedBatch(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), training=True)


@by_kind
def test_is_what_it_says(kind: Any, device: str) -> None:
    block = SequencePool(kind)
    ParameterSet({"pool": block}, Runtime(device, 2))
    x = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)
    rows = np.split(x, np.cumsum(LENGTHS)[:-1])
    wanted = [KINDS[kind](row) if len(row) else np.zeros(5) for row in rows]
    np.testing.assert_allclose(block.forward(x, batch_of(LENGTHS)), wanted, rtol=1e-6, atol=1e-7)


@by_kind
def test_gradients(kind: Any) -> None:
    check_gradients(SequencePool(kind), np.random.default_rng(0).standard_normal((8, 5)), batch_of(LENGTHS))


@by_kind
def test_nothing_but_sequences_without_rows(kind: Any, device: str) -> None:
    block = SequencePool(kind)
    ParameterSet({"pool": block}, Runtime(device))
    batch = batch_of([0, 0])
    assert not block.forward(np.empty((0, 3), np.float32), batch).any()
    assert block.backward(np.ones((2, 3), np.float32), batch).shape == (0, 3)


def test_of_equal_maxima_the_first_has_the_gradient(device: str) -> None:
    block = SequencePool("max")
    ParameterSet({"pool": block}, Runtime(device))
    block.forward(np.ones((3, 2), np.float32), batch_of([3]))
    found = block.backward(np.array([[2.0, 3.0]], np.float32), batch_of([3]))
    assert found.tolist() == [[2, 3], [0, 0], [0, 0]]


def test_other_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="pooling"):
        SequencePool("first")
