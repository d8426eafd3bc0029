"""Caser's convolutions over windows of items."""

from __future__ import annotations

import math

import numpy as np

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter


class CaserConv(Block):
    """z = D([max over time of relu of horizontal convolutions, vertical convolutions]) of windows of items.

    Tang, Wang, "Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding", WSDM 2018.

    Args:
        d: width of an item's vector.
        window: items of a window (L of the paper).
        n_horizontal: filters of each height 1 to ``window``.
        n_vertical: vertical filters; 0 for none.
        dropout: share of z that training sets to 0.
    """

    def __init__(
        self, d: int, window: int = 5, n_horizontal: int = 16, n_vertical: int = 4, *, dropout: float = 0.0
    ) -> None:
        self.d, self.window, self.n_horizontal, self.n_vertical = d, window, n_horizontal, n_vertical
        self.dropout = dropout
        self.d_out = window * n_horizontal + n_vertical * d

    def parameters(self) -> list[Parameter]:
        """Return weights and biases of the horizontal and the vertical convolutions."""
        height = (self.window + 1) / 2  # the filters' heights on average
        across, along = 1.0 / math.sqrt(height * self.d), 1.0 / math.sqrt(self.window)
        n_rows = self.window * (self.window + 1) // 2 * self.d
        return [
            Parameter("w_h", (n_rows, self.n_horizontal), "uniform", across),
            Parameter("b_h", (self.window * self.n_horizontal,), "uniform", across),
            Parameter("w_v", (self.window, self.n_vertical), "uniform", along),
            Parameter("b_v", (self.n_vertical,), "uniform", along),
        ]

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return z ``(n, d_out)`` for ``(n window, d)``, n windows whose rows lie one behind the other."""
        n = len(x) // self.window
        z = self._take("z", n, self.d_out)
        self._x = x
        self._argmax = self.runtime.take(self, "argmax", (n, self.window * self.n_horizontal), np.int32)
        weights = [self.values[name] for name in ("w_h", "b_h", "w_v", "b_v")]
        self.runtime.run("caser_forward", z, self._argmax, x, *weights, *self._mode(batch))
        return z

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the inputs, ``(n window, d)``."""
        dx = self._take("dx", len(self._x), self.d)
        out = [self.gradients[name] for name in ("w_h", "b_h", "w_v", "b_v")]
        weights = (self.values["w_h"], self.values["w_v"])
        self.runtime.run("caser_backward", dx, *out, dy, self._argmax, self._x, *weights, *self._mode(batch))
        return dx

    def _mode(self, batch: PackedBatch) -> tuple[int, int, int, float, int, int, int]:
        rate = self.dropout if batch.training else 0.0
        return self.window, self.n_horizontal, self.n_vertical, rate, batch.seed, batch.step, self.site
