"""Convolution and pooling of images, which pass through as rows: channels last, row of the image by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter
from recsys_fast.ops.block_arguments import ACTIVATIONS, as_choice
from recsys_fast.ops.conv2d import POOLS, conv_shape
from recsys_fast.ops.pool import pool_shape

_NEED_PRE = (1, 5)  # GELU in both forms: its slope looks at its argument


class Conv2D(Block):
    """y = activation(maxima of windows of (x * w + b)); see ``recsys_fast.ops.conv2d_forward``.

    A sequence of rows is an image of height 1, with a kernel (1, k).

    Args:
        image: (height, width, channels) of the inputs, which are rows of ``height * width * channels`` numbers.
        d: number of filters.
        kernel: places along height and width, an int or a pair.
        stride, padding, pool: as in ``conv2d_forward``.
        activation: "relu", "gelu", "gelu_tanh", "tanh", "sigmoid" or "identity".
        first: whether nobody wants the gradient of the inputs; ``backward`` then returns an empty array.

    Attributes:
        out: (height, width, channels) of the results.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        d: int,
        kernel: Any = 3,
        *,
        stride: Any = 1,
        padding: str = "valid",
        pool: Any = 1,
        activation: str = "relu",
        first: bool = False,
    ) -> None:
        self.shape, self.d, self.first = conv_shape(image, kernel, stride, padding, pool), d, first
        self.activation = as_choice(activation, "activation", ACTIVATIONS)
        self.out = (*self.shape.pooled, d)
        self._pooled = self.shape.pool_h * self.shape.pool_w > 1

    def parameters(self) -> list[Parameter]:
        """Return w ``(kernel_h kernel_w channels, d)`` and b; as wide as torch's at the start."""
        taps = self.shape.kernel_h * self.shape.kernel_w * self.shape.channels
        scale = 1.0 / math.sqrt(taps)
        return [Parameter("w", (taps, self.d), "uniform", scale), Parameter("b", (self.d,), "uniform", scale)]

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return ``(n, out_h out_w d)`` for images ``(n, height width channels)``."""
        n, width = len(x), math.prod(self.out)
        self._x, self._y = x, self._take("y", n, width)
        self._pre = self._take("pre", n, width) if self.activation in _NEED_PRE else np.empty((0, 0), x.dtype)
        self._argmax = self.runtime.take(self, "argmax", (n, width) if self._pooled else (0, 0), np.uint8)
        given = (self._y, self._pre, self._argmax, x, self.values["w"], self.values["b"])
        self.runtime.run("conv2d_forward", *given, *self.shape, self.activation)
        return self._y

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the images."""
        dx = np.empty((0, 0), dy.dtype) if self.first else self._take("dx", *self._x.shape)
        given = (dy, self._y, self._pre, self._argmax, self._x, self.values["w"])
        out = (dx, self.gradients["w"], self.gradients["b"])
        self.runtime.run("conv2d_backward", *out, *given, *self.shape, self.activation)
        return dx


class Pool(Block):
    """Maxima or means of windows of each channel; see ``recsys_fast.ops.pool_forward``.

    Args:
        image: (height, width, channels) of the inputs.
        window: an int, a pair, or "global".
        stride: None for the window's size.
        kind: "max" or "average".

    Attributes:
        out: (height, width, channels) of the results.
    """

    def __init__(self, image: tuple[int, int, int], window: Any, *, stride: Any = None, kind: str = "max") -> None:
        *shape, high, wide = pool_shape(image, window, stride)
        self.shape, self.out = tuple(shape), (high, wide, image[2])
        self.average = as_choice(kind, "kind", POOLS)

    def parameters(self) -> list[Parameter]:
        """Return nothing."""
        return []

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return ``(n, out_h out_w channels)`` for images ``(n, height width channels)``."""
        y = self._take("y", len(x), math.prod(self.out))
        self._argmax = self.runtime.take(self, "argmax", (0, 0) if self.average else y.shape, np.int32)
        self.runtime.run("pool_forward", y, self._argmax, x, *self.shape, self.average)
        return y

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the images."""
        dx = self._take("dx", len(dy), math.prod(self.shape[:3]))
        self.runtime.run("pool_backward", dx, dy, self._argmax, *self.shape, self.average)
        return dx


class Flatten(Block):
    """Images as plain rows, which they are already."""

    def parameters(self) -> list[Parameter]:
        """Return nothing."""
        return []

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return x."""
        return x

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return dy."""
        return dy
