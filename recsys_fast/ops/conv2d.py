"""Convolutions and pooling of images, channels last; sequences of rows are images of height 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_integer, as_record
from recsys_fast.ops.block_arguments import (
    ACTIVATIONS,
    NO_ROWS,
    as_choice,
    as_result,
    as_rows,
    as_vector,
    new_rows,
)
from recsys_fast.ops.gram import home

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]

PADDINGS = ("valid", "same")
POOLS = ("max", "average")
_NEED_PRE = ("gelu", "gelu_tanh")
_MONOTONE = ("relu", "tanh", "sigmoid", "identity")
NO_PLACES = np.empty((0, 0), np.uint8)


class ConvShape(NamedTuple):
    """Sizes of a convolution, in the order in which backends take them; out_h and out_w are before the pooling."""

    height: int
    width: int
    channels: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    top: int
    left: int
    out_h: int
    out_w: int
    pool_h: int
    pool_w: int

    @property
    def pooled(self) -> tuple[int, int]:
        """Height and width of the results."""
        return self.out_h // self.pool_h, self.out_w // self.pool_w


class ConvSaved(NamedTuple):
    """What ``conv2d_backward`` needs besides the results.

    Attributes:
        pre: arguments of the activation, of y's shape, where that is GELU; else ``(0, 0)``.
        argmax: which place of its window each result comes from, row by row, of y's shape, uint8; ``(0, 0)`` without
            pooling.
    """

    pre: F32
    argmax: U8


class ConvGradients(NamedTuple):
    """What ``conv2d_backward`` returns: gradients of x (None where not wanted), w and b, each of its shape, float32."""

    dx: F32 | None
    dw: F32
    db: F32


def as_pair(value: Any, name: str) -> tuple[int, int]:
    """Return (along the height, along the width) of an int for both, or a pair, each at least 1.

    Raises:
        TypeError: neither ints.
        ValueError: not two, or below 1.
    """
    given = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(given) != 2:
        raise ValueError(
            message(f"length of {name}", len(given), "an int, or one for the height and one for the width")
        )
    pair = as_integer(given[0], name), as_integer(given[1], name)
    if min(pair) < 1:
        raise ValueError(message(name, value, "at least 1"))
    return pair


def conv_shape(
    image: tuple[int, int, int], kernel: Any, stride: Any = 1, padding: str = "valid", pool: Any = 1
) -> ConvShape:
    """Return the sizes of a convolution of images (height, width, channels).

    With "same" padding the outputs are ceil(size / stride) long, and zeros are added on both sides, one more behind
    where their number is odd; "valid" adds none. Rows and columns that a pooling window does not fit into are left out.

    Raises:
        TypeError: not integers.
        ValueError: a size below 1, an unknown padding, or nothing left of the image.
    """
    as_choice(padding, "padding", PADDINGS)
    kernels, strides, pools = as_pair(kernel, "kernel"), as_pair(stride, "stride"), as_pair(pool, "pool")
    if pools[0] * pools[1] > 256:
        raise ValueError(message("pool", pool, "windows of at most 256 places", "use pool_forward"))
    before, out = [], []
    for size, k, s in zip(image[:2], kernels, strides, strict=True):
        n = -(-size // s) if padding == "same" else (size - k) // s + 1
        before.append(max(0, (n - 1) * s + k - size) // 2 if padding == "same" else 0)
        out.append(n)
    if out[0] < pools[0] or out[1] < pools[1]:
        expected = f"room for a kernel of {kernels} and pooling by {pools}"
        raise ValueError(message("height and width of an image", image[:2], expected, 'use smaller ones, or "same"'))
    (height, width, channels), (top, left), (out_h, out_w) = image, before, out
    return ConvShape(height, width, channels, *kernels, *strides, top, left, out_h, out_w, *pools)


def as_images(x: ArrayLike, name: str = "x", shape: tuple[int, ...] | None = None) -> F32:
    """Return ``(n, height, width, channels)`` as contiguous float32, no size but the first 0.

    Raises:
        TypeError: not real numbers.
        ValueError: another shape, or not finite.
    """
    given = home(x).asarray(x) if on_device(x) else np.asarray(x)
    if given.ndim != 4 or 0 in given.shape[1:] or (shape is not None and given.shape != shape):
        expected = "(n, height, width, channels), none 0" if shape is None else str(shape)
        raise ValueError(message(f"shape of {name}", given.shape, expected))
    return as_rows(given.reshape(len(given), int(np.prod(given.shape[1:]))), name).reshape(given.shape)


def _as_layer(x: ArrayLike, w: ArrayLike, stride: Any, padding: str, pool: Any) -> tuple[F32, F32, ConvShape]:
    images, weights = as_images(x), home(w).asarray(w) if on_device(w) else np.asarray(w)
    if weights.ndim != 4 or 0 in weights.shape or weights.shape[2] != images.shape[3]:
        raise ValueError(message("shape of w", weights.shape, f"(kernel_h, kernel_w, {images.shape[3]}, d), none 0"))
    shape = conv_shape(images.shape[1:], weights.shape[:2], stride, padding, pool)
    return images, as_rows(weights.reshape(int(np.prod(weights.shape[:3])), weights.shape[3]), "w"), shape


def _check_activation(activation: str, shape: ConvShape) -> int:
    kind = as_choice(activation, "activation", ACTIVATIONS)
    if activation not in _MONOTONE and shape.pool_h * shape.pool_w > 1:
        mend = "pool behind it with pool_forward"
        raise ValueError(message(f"pool with activation={activation!r}", mend=mend))
    return kind


def conv2d_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: Any = 1,
    padding: str = "valid",
    pool: Any = 1,
    activation: str = "relu",
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, ConvSaved]:
    """Return y = activation(max over windows of (b + sum over taps of x[row s + i, col s + j] . w[i, j])).

    Sequences ``(n, length, channels)`` are images of height 1: ``x[:, None]`` with ``w[None]``. No array of all
    windows exists: products run over the rows of the images as they lie in memory.

    Args:
        x: ``(n, height, width, channels)``; this and the other arrays are converted to contiguous float32 where they
            are not.
        w: ``(kernel_h, kernel_w, channels, d)``.
        b: ``(d,)``; None for none.
        stride: places from one window to the next, an int or (along the height, along the width).
        padding: "valid": windows inside the image only. "same": as if zeros lay around it, so that there are
            ceil(height / stride) rows and ceil(width / stride) columns; one zero more behind where the number is odd.
        pool: the maximum of pool x pool results takes their place (an int or a pair; at most 256 places). What is left
            at the lower and right edge is not looked at.
        activation: "relu", "gelu", "gelu_tanh", "tanh", "sigmoid" or "identity"; no GELU with ``pool``.
        out: y, ``(n, out_h // pool, out_w // pool, d) float32``, C-contiguous, to write into; None for a new array.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Returns:
        y float32, and what ``conv2d_backward`` needs.

    Raises:
        TypeError: an array holds no real numbers, a size is no integer, or ``out`` is not float32.
        ValueError: shapes do not fit, a number is not finite, a size below 1, an unknown word, GELU with ``pool``, or
            ``out`` shares memory with an input.
    """
    device = backend.place(device, x=x, w=w, b=b, out=out)
    images, weights, shape = _as_layer(x, w, stride, padding, pool)
    kind, d = _check_activation(activation, shape), weights.shape[1]
    n, bias = len(images), as_vector(b, "b", d)
    y = as_result(out, (n, *shape.pooled, d), images, (images, weights, bias))
    rows = y.reshape(n, shape.pooled[0] * shape.pooled[1] * d)
    pre = new_rows(images, *rows.shape) if activation in _NEED_PRE else NO_ROWS
    argmax = home(images).empty(rows.shape, np.uint8) if shape.pool_h * shape.pool_w > 1 else NO_PLACES
    given = images.reshape(n, int(np.prod(images.shape[1:])))
    threads = backend.resolve_threads(n_threads)
    backend.get(device).conv2d_forward(rows, pre, argmax, given, weights, bias, *shape, kind, threads)
    whole = (
        (pre.reshape(y.shape) if pre is not NO_ROWS else pre),
        (argmax if argmax is NO_PLACES else argmax.reshape(y.shape)),
    )
    return y, ConvSaved(*whole)


def conv2d_backward(
    dy: ArrayLike,
    y: ArrayLike,
    saved: ConvSaved,
    x: ArrayLike,
    w: ArrayLike,
    *,
    stride: Any = 1,
    padding: str = "valid",
    pool: Any = 1,
    activation: str = "relu",
    want_dx: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> ConvGradients:
    """Return the gradients of ``conv2d_forward``; sums over images have a fixed tree.

    Args:
        dy: gradient of y, of its shape.
        y, saved: what ``conv2d_forward`` returned.
        x, w: what it was given.
        stride, padding, pool, activation: as there.
        want_dx: False leaves out the gradient of the images, which the first layer of a network does not need.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Raises:
        TypeError: an array holds no real numbers, or ``saved`` is something else.
        ValueError: shapes do not fit, a number is not finite, or as ``conv2d_forward``.
    """
    device = backend.place(device, dy=dy, y=y, x=x, w=w)
    images, weights, shape = _as_layer(x, w, stride, padding, pool)
    as_record(saved, "saved", ConvSaved, "the second result of conv2d_forward")
    kind, d, n = _check_activation(activation, shape), weights.shape[1], len(images)
    result = (n, *shape.pooled, d)
    flat = n, shape.pooled[0] * shape.pooled[1] * d
    given = [as_images(a, name, result).reshape(flat) for a, name in ((dy, "dy"), (y, "y"))]
    before = as_images(saved.pre, "pre", result).reshape(flat) if activation in _NEED_PRE else NO_ROWS
    argmax = NO_PLACES
    if shape.pool_h * shape.pool_w > 1:
        if saved.argmax.shape != result or saved.argmax.dtype != np.uint8:
            got = f"{saved.argmax.dtype} {saved.argmax.shape}"
            raise ValueError(message("argmax of saved", got, f"uint8 {result}", "pass what conv2d_forward returned"))
        argmax = home(saved.argmax).asarray(saved.argmax).reshape(flat)
    width = int(np.prod(images.shape[1:]))
    dx = new_rows(images, n, width) if want_dx else NO_ROWS
    dw, db = new_rows(images, *weights.shape), new_rows(images, d)
    backend.get(device).conv2d_backward(
        dx, dw, db, *given, before, argmax, images.reshape(n, width), weights, *shape, kind,
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return ConvGradients(dx.reshape(images.shape) if want_dx else None, dw.reshape(np.shape(w)), db)
