"""Finite differences of dense and convolutional blocks, in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Block, PackedBatch, ParameterSet, Runtime

F64 = NDArray[np.float64]


def check_gradients(block: Block, x: F64, batch: PackedBatch, device: str = "numba", checks: int = 12) -> None:
    """Hold the gradient of sum(y * weights) by inputs and every parameter against central differences.

    Of every array the elements with the largest gradients and as many others are looked at.
    """
    parameters = ParameterSet({"it": block}, Runtime(device, 2, np.float64))
    rng = np.random.default_rng(5)
    parameters.values[:] = rng.normal(0, 0.4, len(parameters.values))
    weights = rng.standard_normal(block.forward(x, batch).shape)
    block.forward(x, batch)
    dx = block.backward(weights.copy(), batch)
    pairs = [(x, dx.copy())] + [(block.values[p.name], block.gradients[p.name].copy()) for p in block.parameters()]
    for values, gradient in pairs:
        flat, want = values.reshape(-1), gradient.reshape(-1)
        order = np.argsort(-np.abs(want), kind="stable")
        for i in [*order[:checks], *rng.permutation(len(flat))[:checks]]:
            before, step = flat[i], 1e-6
            sums = []
            for moved in (before + step, before - step):
                flat[i] = moved
                sums.append(float((block.forward(x, batch) * weights).sum()))
            flat[i] = before
            assert abs((sums[0] - sums[1]) / (2 * step) - want[i]) < 2e-6 * (1 + abs(want).max())
