"""MLP: gradients, names and shapes, masks, and what it is when written out."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_fast.blocks.base import PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.mlp import MLP
from tests.blocks.layer_gradients import check_gradients


def packed(n: int, training: bool = False, step: int = 5) -> PackedBatch:
    return PackedBatch(np.array([0, n]), seed=3, step=step, training=training)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "block",
    [
        MLP(5, (7, 4, 3), "gelu", 0.3, True),
        MLP(5, (6, 1), "relu", 0.3, last="sigmoid"),
        MLP(5, (4, 4), "tanh", layer_norm=True),
        MLP(5, (3,), dropout=0.5),
    ],
    ids=["three", "classifier", "norm", "one"],
)
def test_gradients(block: MLP, training: bool) -> None:
    batch = packed(11, training)
    check_gradients(block, np.random.default_rng(0).standard_normal((11, 5)), batch)


def test_is_what_it_says(device: str) -> None:
    block = MLP(4, (6, 3), "tanh", last="sigmoid")
    parameters = ParameterSet({"mlp": block}, Runtime(device))
    parameters.initialise(np.random.default_rng(1))
    assert parameters.names == ["mlp.dense0.w", "mlp.dense0.b", "mlp.dense1.w", "mlp.dense1.b"]
    w0, b0, w1, b1 = (parameters.view(name).astype(np.float64) for name in parameters.names)
    x = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    wanted = 1 / (1 + np.exp(-(np.tanh(x @ w0 + b0) @ w1 + b1)))
    np.testing.assert_allclose(block.forward(x, packed(9)), wanted, rtol=1e-5)


def test_without_layers_it_is_the_identity(device: str) -> None:
    block = MLP(4, ())
    ParameterSet({"mlp": block}, Runtime(device))
    x = np.ones((3, 4), np.float32)
    assert block.forward(x, packed(3)) is x
    assert block.backward(x, packed(3)) is x
    assert block.d_out == 4


def test_each_layer_has_a_mask_of_its_own(device: str) -> None:
    """Identities of equal width: what passes both layers is what neither mask holds back."""
    block = MLP(64, (64, 64, 64), "identity", 0.5)
    parameters = ParameterSet({"mlp": block}, Runtime(device))
    for k in range(3):
        parameters.view(f"mlp.dense{k}.w")[...] = np.eye(64)
    y = block.forward(np.ones((50, 64), np.float32), packed(50, True))
    assert set(np.unique(y)) == {0.0, 4.0}
    assert 0.2 < np.mean(y > 0) < 0.3
    assert not np.array_equal(y.copy(), block.forward(np.ones((50, 64), np.float32), packed(50, True, 6)))


def test_bits_do_not_depend_on_threads(device: str) -> None:
    results = []
    for n_threads in (1, 2, 5):
        block = MLP(20, (33, 17), "relu", 0.2, True)
        parameters = ParameterSet({"mlp": block}, Runtime(device, n_threads))
        parameters.initialise(np.random.default_rng(1))
        x = np.random.default_rng(0).standard_normal((700, 20)).astype(np.float32)
        y = block.forward(x, packed(700, True)).copy()
        dx = block.backward(np.ones_like(y), packed(700, True)).copy()
        results.append((y, dx, parameters.gradients))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0, (3,)), "width of a layer"),
        ((3, (3, 0)), "width of a layer"),
        ((3, (3,), "softplus", 0.0, False, "nothing"), "activation"),
        ((3, (2,) * 10, "relu", 0.1), "at most 9"),
    ],
)
def test_what_it_refuses(arguments: tuple, match: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=match):
        MLP(*arguments)
