"""Conv2D, Pool and Head: gradients against finite differences, sizes that are easily forgotten, losses."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_fast.blocks.base import Block, PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.conv2d import Conv2D, Flatten, Pool
from recsys_fast.blocks.heads import Head
from tests.blocks.layer_gradients import check_gradients


def batch_of(n: int) -> PackedBatch:
    return PackedBatch(np.array([0, n]), seed=3, step=5, training=True)


@pytest.mark.parametrize(
    "block",
    [
        *(Conv2D((5, 4, 2), 3, padding="same", activation=a) for a in ("relu", "gelu", "gelu_tanh", "tanh", "sigmoid")),
        Conv2D((7, 9, 2), 3, (3, 2), stride=(2, 1), padding="same", pool=2, activation="tanh"),
        Conv2D((1, 12, 3), 4, (1, 3), pool=(1, 2), activation="identity"),
        Pool((6, 7, 2), (3, 2), stride=2),
        Pool((6, 7, 2), 2, kind="average"),
        Pool((3, 4, 2), "global"),
    ],
    ids=lambda block: type(block).__name__,
)
def test_gradients(block: Block) -> None:
    image = block.shape[:3] if isinstance(block, Conv2D | Pool) else ()
    x = np.random.default_rng(0).standard_normal((5, int(np.prod(image))))
    check_gradients(block, x, batch_of(5))


def test_first_layer_leaves_the_images_alone(device: str) -> None:
    block, x = Conv2D((5, 5, 1), 4, first=True), np.ones((2, 25), np.float32)
    parameters = ParameterSet({"it": block}, Runtime(device))
    parameters.initialise(np.random.default_rng(0))
    y = block.forward(x, batch_of(2))
    assert y.shape == (2, 36)
    assert block.backward(np.ones_like(y), batch_of(2)).size == 0
    assert parameters.gradients.any()
    assert Flatten().forward(x, batch_of(2)) is x


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "linear", "smooth_l1"])
def test_losses_of_heads(kind: str) -> None:
    regression = kind if kind == "smooth_l1" else "squared"
    head = Head(4, 3, "linear" if kind == "smooth_l1" else kind, regression)
    parameters = ParameterSet({"head": head}, Runtime("numba", 1, np.float64))
    rng = np.random.default_rng(0)
    parameters.initialise(rng)
    h, weights = rng.standard_normal((6, 4)), rng.random(6)
    targets = {
        "softmax": rng.integers(0, 3, 6).astype(np.int32), "sigmoid": rng.integers(0, 2, (6, 3)).astype(float)
    }.get(kind, rng.standard_normal((6, 3)))  # fmt: skip

    def by_formula() -> float:
        scores = h @ head.values["w"].T + head.values["b"]
        if kind == "softmax":
            each = np.log(np.exp(scores).sum(1)) - scores[np.arange(6), targets]
        elif kind == "sigmoid":
            each = (np.logaddexp(0, scores) - targets * scores).sum(1)
        else:
            e = scores - targets
            each = (e**2 if kind == "linear" else np.where(abs(e) < 1, e**2 / 2, abs(e) - 0.5)).sum(1)
        return float(weights @ each)

    loss, dh = head.loss(h, targets, weights, batch_of(6))
    dh, gradients = dh.copy(), parameters.gradients.copy()
    assert abs(loss - by_formula()) < 1e-9 * (1 + abs(loss))
    for values, gradient in ((h.reshape(-1), dh.reshape(-1)), (parameters.values, gradients)):
        for i in range(len(values)):
            before, sums = values[i], []
            for moved in (before + 1e-6, before - 1e-6):
                values[i] = moved
                sums.append(by_formula())
            values[i] = before
            assert abs((sums[0] - sums[1]) / 2e-6 / 6 - gradient[i]) < 1e-7
    scores = head.forward(h, batch_of(6))
    if kind == "softmax":
        assert np.abs(head.link(scores + 900).sum(1) - 1).max() < 1e-12
    if kind == "sigmoid":
        assert np.abs(head.link(scores) - 1 / (1 + np.exp(-scores))).max() < 1e-12
