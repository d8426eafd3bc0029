"""NextItNet's residual block of dilated causal convolutions."""

from __future__ import annotations

import math

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter

_WEIGHTS = ("w1", "gamma1", "beta1", "w2", "gamma2", "beta2")
_PARAMETERS = ("w1", "b1", "gamma1", "beta1", "w2", "b2", "gamma2", "beta2")


class CausalConv(Block):
    """y = x + D(relu(LN(conv(relu(LN(conv(x))))))), the second convolution with twice the dilation of the first.

    Yuan, Karatzoglou, Arapakis, Jose, He, "A Simple Convolutional Generative Network for Next Item Recommendation",
    WSDM 2019, figure 3b.

    Args:
        d: width of inputs and outputs.
        kernel_size: taps of each convolution.
        dilation: places between the taps of the first convolution.
        dropout: share of the second convolution's results that training sets to 0; none in the paper.
        eps: added to the variance in the layer norms.
    """

    def __init__(
        self, d: int, kernel_size: int = 3, dilation: int = 1, *, dropout: float = 0.0, eps: float = 1e-8
    ) -> None:
        self.d, self.kernel_size, self.dilation, self.dropout, self.eps = d, kernel_size, dilation, dropout, eps

    @property
    def reach(self) -> int:
        """How many places back an output looks."""
        return 3 * (self.kernel_size - 1) * self.dilation

    def parameters(self) -> list[Parameter]:
        """Return weights and biases of both convolutions, scales and shifts of both layer norms."""
        d, scale = self.d, 1.0 / math.sqrt(self.d * self.kernel_size)
        return [
            parameter
            for number in "12"
            for parameter in (
                Parameter("w" + number, (self.kernel_size * d, d), "uniform", scale),
                Parameter("b" + number, (d,), "uniform", scale),
                Parameter("gamma" + number, (d,), "ones"),
                Parameter("beta" + number, (d,), "zeros"),
            )
        ]

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return ``(n_rows, d)``; an output sees its own and earlier rows of its sequence only."""
        n = len(x)
        y, normal1, normal2 = (self._take(name, n, self.d) for name in ("y", "normal1", "normal2"))
        self._x, self._saved = x, (normal1, normal2, self._take("inverse", n, 2))
        weights = [self.values[name] for name in _PARAMETERS]
        mode = (self.kernel_size, self.dilation, self.eps, *self._masks(batch))
        self.runtime.run("causal_conv_block_forward", y, *self._saved, x, batch.row_ptr, *weights, *mode)
        return y

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the inputs, ``(n_rows, d)``."""
        dx = self._take("dx", len(dy), self.d)
        out = [self.gradients[name] for name in _PARAMETERS]
        given = (dy, *self._saved, self._x, batch.row_ptr, *(self.values[name] for name in _WEIGHTS))
        mode = (self.kernel_size, self.dilation, *self._masks(batch))
        self.runtime.run("causal_conv_block_backward", dx, *out, *given, *mode)
        return dx

    def _masks(self, batch: PackedBatch) -> tuple[float, int, int, int]:
        return self.dropout if batch.training else 0.0, batch.seed, batch.step, self.site
