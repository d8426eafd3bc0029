"""Layer norm as a block, and the names of the places where other blocks have one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter
from recsys_fast.errors import message

NORMS = {"none": 0, "pre": 1, "post": 2, "query": 3}


def norm_number(norm: str) -> int:
    """Return the operations' number for where a block has its layer norm.

    Raises:
        ValueError: no such place.
    """
    if norm not in NORMS:
        raise ValueError(message("norm", repr(norm), "one of " + ", ".join(NORMS)))
    return NORMS[norm]


def glorot(init: str, d_in: int, d_out: int) -> float:
    """Return the scale of ``init`` whose variance is 2 / (d_in + d_out) (Glorot, Bengio 2010)."""
    deviation = math.sqrt(2.0 / (d_in + d_out))
    return deviation if init == "normal" else math.sqrt(3.0) * deviation


class NormedBlock(Block):
    """A block that may have a layer norm and may lack other parameters: an absent one is an array of length 0."""

    def _value(self, name: str, ndim: int = 1) -> Array:
        found = self.values.get(name)
        return self._absent(ndim) if found is None else found

    def _gradient(self, name: str, ndim: int = 1) -> Array:
        found = self.gradients.get(name)
        return self._absent(ndim) if found is None else found

    def _absent(self, ndim: int) -> Array:
        return self.runtime.take(self, "absent", (0,) * ndim)

    def _fresh(self, *shape: int) -> Array:
        """Return memory of its own: states of several sequences may be stepped at once."""
        return np.empty(shape, self.runtime.dtype)

    def _kept_by_norm(self, norm: int, n: int, d: int) -> tuple[Array, Array]:
        """Return room for each row's mean and 1 / deviation, and for what a norm behind the residual was made from."""
        stats = self._take("stats", n, 2) if norm else self._absent(2)
        return stats, self._take("mid", n, d) if norm == NORMS["post"] else self._absent(2)


class LayerNorm(NormedBlock):
    """y = gamma (x - mean) / sqrt(variance + eps) + beta in every row (Ba, Kiros, Hinton 2016).

    Args:
        d: width.
        eps: added to the variance.
    """

    def __init__(self, d: int, *, eps: float = 1e-5) -> None:
        self.d, self.eps = d, eps

    def parameters(self) -> list[Parameter]:
        """Return the parameters, in the order in which they are stored."""
        return [Parameter("gamma", (self.d,), "ones"), Parameter("beta", (self.d,))]

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return the outputs ``(n_rows, d)`` for inputs of the same shape."""
        y, self._stats, self._x = self._take("y", *x.shape), self._take("stats", len(x), 2), x
        self._run(y, self._stats, x)
        return y

    def _run(self, y: Array, stats: Array, x: Array) -> None:
        gamma, beta = self.values["gamma"], self.values["beta"]
        self.runtime.run("layer_norm_forward", y, stats, x, gamma, beta, self.eps)

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the inputs of the last ``forward``, and write those of the parameters."""
        dx = self._take("dx", *dy.shape)
        dgamma, dbeta = self.gradients["gamma"], self.gradients["beta"]
        self.runtime.run("layer_norm_backward", dx, dgamma, dbeta, dy, self._x, self._stats, self.values["gamma"])
        return dx

    def start(self, capacity: int) -> None:
        """Return the state before the first row of a sequence: there is none to keep."""

    def step(self, state: Any, x: Array) -> Array:
        """Return the output ``(d,)`` for one more row ``x`` of a sequence; nothing is dropped."""
        y, stats = self._fresh(1, self.d), self._fresh(1, 2)
        self._run(y, stats, x.reshape(1, -1))
        row: Array = y[0]
        return row
