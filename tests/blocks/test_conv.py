"""CausalConv, CaserConv and Dense: gradients, sizes that are easily forgotten, and what their masks depend on."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_fast.blocks.base import Block, PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.caser import CaserConv
from recsys_fast.blocks.conv import CausalConv
from recsys_fast.blocks.dense import Dense
from tests.blocks.layer_gradients import check_gradients

LENGTHS = [0, 3, 1, 0, 12, 7, 1]


def packed(lengths: list[int], training: bool = False) -> PackedBatch:
    return PackedBatch(np.cumsum([0, *lengths], dtype=np.int64), seed=3, step=5, training=training)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "block",
    [
        CausalConv(5, 3, 1),
        CausalConv(4, 2, 3, dropout=0.3),
        CausalConv(3, 1, 1),
        *(Dense(5, 7, name, dropout=0.3) for name in ("relu", "gelu", "gelu_tanh", "tanh", "sigmoid", "identity")),
        Dense(5, 1, "relu", bias=False),
    ],
    ids=lambda block: type(block).__name__,
)
def test_gradients(block: Block, training: bool) -> None:
    batch = packed(LENGTHS, training)
    width = block.d if isinstance(block, CausalConv) else 5
    check_gradients(block, np.random.default_rng(0).standard_normal((batch.n_rows, width)), batch)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("block", [CaserConv(3, 4, 5, 2, dropout=0.3), CaserConv(2, 1, 3, 0)], ids=["both", "one item"])
def test_caser_gradients(block: CaserConv, training: bool) -> None:
    batch = packed([block.window] * 9, training)
    check_gradients(block, np.random.default_rng(0).standard_normal((batch.n_rows, block.d)), batch)


@pytest.mark.parametrize("lengths", [[], [0, 0], [1]])
def test_small_batches(lengths: list[int], device: str) -> None:
    batch = packed(lengths, True)
    x = np.ones((batch.n_rows, 3), np.float32)
    for block in (CausalConv(3, 3, 2, dropout=0.5), CaserConv(3, 1, 2, 1), Dense(3, 4, "gelu")):
        parameters = ParameterSet({"it": block}, Runtime(device))
        parameters.initialise(np.random.default_rng(0))
        y = block.forward(x, batch)
        assert len(y) == len(x)
        parameters.gradients[:] = 7
        assert block.backward(np.ones_like(y), batch).shape == x.shape
        assert len(x) > 0 or not parameters.gradients.any(), "gradients must be overwritten"


def test_masks_are_off_outside_training(device: str) -> None:
    for block in (CausalConv(4, dropout=0.5), CaserConv(4, 3, dropout=0.5), Dense(4, 6, dropout=0.5)):
        ParameterSet({"it": block}, Runtime(device)).initialise(np.random.default_rng(1))
        x = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
        resting = block.forward(x, packed([30])).copy()
        training = block.forward(x, packed([30], True)).copy()
        assert not np.array_equal(resting, training)
        assert np.array_equal(training, block.forward(x, packed([30], True)))
        later = packed([30], True)
        later.step += 1
        assert not np.array_equal(training, block.forward(x, later))
