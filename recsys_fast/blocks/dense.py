"""A fully connected layer."""

from __future__ import annotations

import math

import numpy as np

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter
from recsys_fast.ops.block_arguments import ACTIVATIONS, as_choice

_NEED_PRE = (1, 5)  # GELU in both forms: its slope looks at its argument


class Dense(Block):
    """y = D(activation(x w + b)).

    Args:
        d_in: width of the inputs.
        d_out: width of the outputs.
        activation: "relu", "gelu", "gelu_tanh", "tanh", "sigmoid" or "identity".
        dropout: share of the outputs that training sets to 0.
        bias: whether there is b.
    """

    def __init__(
        self, d_in: int, d_out: int, activation: str = "relu", *, dropout: float = 0.0, bias: bool = True
    ) -> None:
        self.d_in, self.d_out, self.dropout, self.bias = d_in, d_out, dropout, bias
        self.activation = as_choice(activation, "activation", ACTIVATIONS)

    def parameters(self) -> list[Parameter]:
        """Return w, and b where there is one."""
        scale = 1.0 / math.sqrt(self.d_in)
        bias = [Parameter("b", (self.d_out,), "uniform", scale)] if self.bias else []
        return [Parameter("w", (self.d_in, self.d_out), "uniform", scale), *bias]

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return ``(n_rows, d_out)`` for ``(n_rows, d_in)``; any number of rows, sequences play no part."""
        n = len(x)
        self._x, self._y = x, self._take("y", n, self.d_out)
        self._pre = self._take("pre", n, self.d_out) if self.activation in _NEED_PRE else np.empty((0, 0), x.dtype)
        b = self.values["b"] if self.bias else np.empty(0, x.dtype)
        self.runtime.run("dense_forward", self._y, self._pre, x, self.values["w"], b, *self._mode(batch))
        return self._y

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the inputs, ``(n_rows, d_in)``."""
        dx = self._take("dx", len(dy), self.d_in)
        db = self.gradients["b"] if self.bias else np.empty(0, dy.dtype)
        given = (dy, self._y, self._pre, self._x, self.values["w"])
        self.runtime.run("dense_backward", dx, self.gradients["w"], db, *given, *self._mode(batch))
        return dx

    def _mode(self, batch: PackedBatch) -> tuple[int, float, int, int, int]:
        return self.activation, self.dropout if batch.training else 0.0, batch.seed, batch.step, self.site
