"""The recurrent block: parameters, gradients, states between batches, one step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_fast.blocks.base import PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.recurrent import Recurrent

by_cell = pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
LENGTHS = [3, 0, 5, 1]


def build(cell: str, device: str, dtype: Any = np.float32, **options: Any) -> tuple[Recurrent, ParameterSet]:
    block = Recurrent(4, 6, cell, **options)
    parameters = ParameterSet({"layer": block}, Runtime(device, 1, dtype))
    parameters.initialise(np.random.default_rng(0))
    return block, parameters


def batch_of(lengths: list[int], training: bool = True) -> PackedBatch:
    return PackedBatch(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), training=training)


def rows(n: int, dtype: Any = np.float32, seed: int = 1) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal((n, 4)).astype(dtype)


@by_cell
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_all_parameters(cell: str, bias: bool) -> None:
    block, parameters = build(cell, "numba", np.float64, bias=bias)
    batch, x = batch_of(LENGTHS), rows(9, np.float64)
    block.state = np.random.default_rng(2).standard_normal((4, block.state_width))
    dy = np.random.default_rng(3).standard_normal((9, 6))

    def loss() -> float:
        return float((block.forward(x, batch) * dy).sum())

    loss()
    block.backward(dy, batch)
    assert block.d_state is None
    block.want_d_state = True
    dx = block.backward(dy, batch).copy()
    assert block.d_state is not None
    checks = [(parameters.values, parameters.gradients.copy()), (x, dx), (block.state, block.d_state.copy())]
    for array, gradient in checks:
        flat, expected = array.reshape(-1), gradient.reshape(-1)
        for i in range(0, len(flat), max(1, len(flat) // 10)):
            before = flat[i]
            flat[i] = before + 1e-6
            above = loss()
            flat[i] = before - 1e-6
            slope = (above - loss()) / 2e-6
            flat[i] = before
            assert slope == pytest.approx(expected[i], rel=1e-5, abs=1e-7)


@by_cell
def test_nobody_may_want_the_gradient_of_the_inputs(cell: str, device: str) -> None:
    found = []
    for first in (False, True):
        block, parameters = build(cell, device, first=first)
        batch = batch_of(LENGTHS)
        block.forward(rows(9), batch)
        dx = block.backward(np.ones((9, 6), np.float32), batch)
        assert dx.shape == (0 if first else 9, 4)
        found.append(parameters.gradients.copy())
    assert np.array_equal(*found)


@by_cell
def test_a_state_continues_a_sequence(cell: str, device: str) -> None:
    block, _ = build(cell, device)
    x = rows(8)
    whole = block.forward(x, batch_of([8], training=False)).copy()
    first = block.forward(x[:5], batch_of([5])).copy()
    block.state = block.final_state()
    rest = block.forward(x[5:], batch_of([3]))
    assert np.allclose(np.concatenate([first, rest]), whole, atol=1e-6)


@by_cell
def test_steps_are_the_sequence(cell: str, device: str) -> None:
    block, _ = build(cell, device)
    x = rows(6)
    whole = block.forward(x, batch_of([6])).copy()
    state = block.start()
    for t in range(6):
        state = block.step(state, x[t : t + 1])
        assert state.shape == (1, block.state_width)
        assert np.allclose(state[0, :6], whole[t], atol=1e-6)


@by_cell
def test_final_states_of_ragged_sequences(cell: str, device: str) -> None:
    block, _ = build(cell, device)
    block.state = rows(4 * 3, seed=5).reshape(4, 12)[:, : block.state_width].copy()
    h = block.forward(rows(9), batch_of(LENGTHS))
    last = block.final_state()
    assert np.array_equal(last[1], block.state[1])
    assert np.array_equal(last[[0, 2, 3], :6], h[[2, 7, 8]])
    block.state = None
    block.forward(rows(9), batch_of(LENGTHS))
    assert not block.final_state()[1].any()


def test_refuses_unknown_cells() -> None:
    with pytest.raises(ValueError, match="cell: got 'gated'"):
        Recurrent(3, 4, "gated")
    with pytest.raises(ValueError, match="activation"):
        Recurrent(3, 4, "rnn", "gelu")


@by_cell
def test_start_values(cell: str) -> None:
    for options, weights, biases in (
        ({}, 6**-0.5, 6**-0.5),
        ({"scale": 0.2}, 0.2, 0.2),
        ({"scale": 0.2, "bias_scale": 0.0}, 0.2, 0.0),
        ({"bias_scale": 0.7}, 6**-0.5, 0.7),
    ):
        _, parameters = build(cell, "numba", **options)
        for name, bound in (("w_x", weights), ("w_h", weights), ("b_x", biases), ("b_h", biases)):
            values = np.abs(parameters.view(f"layer.{name}"))
            assert bound / 2 <= values.max() <= bound
