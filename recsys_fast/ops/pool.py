"""Pooling of images: maxima and means of windows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_indices, as_integer
from recsys_fast.ops.block_arguments import as_choice, as_result, new_rows
from recsys_fast.ops.conv2d import POOLS, as_images, as_pair
from recsys_fast.ops.gram import home

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
_NO_PLACES = np.empty((0, 0), np.int32)


def pool_shape(image: tuple[int, int, int], window: Any, stride: Any = None) -> tuple[int, ...]:
    """Return (height, width, channels, window_h, window_w, stride_h, stride_w, out_h, out_w).

    Args:
        image: (height, width, channels), less than 2**31 numbers.
        window: an int, a pair, or "global" for the whole image.
        stride: None for the window's size.

    Raises:
        TypeError: not integers.
        ValueError: a size below 1, or a window larger than the image.
    """
    windows = image[:2] if isinstance(window, str) and window == "global" else as_pair(window, "window")
    strides = windows if stride is None else as_pair(stride, "stride")
    if windows[0] > image[0] or windows[1] > image[1]:
        raise ValueError(message("window", windows, f"at most the image's {image[:2]}"))
    if image[0] * image[1] * image[2] >= 2**31:
        raise ValueError(message("numbers of an image", image[0] * image[1] * image[2], "less than 2**31"))
    out = (image[0] - windows[0]) // strides[0] + 1, (image[1] - windows[1]) // strides[1] + 1
    return (*image, *windows, *strides, *out)


def pool_forward(
    x: ArrayLike,
    window: Any,
    *,
    stride: Any = None,
    kind: str = "max",
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, I32]:
    """Return maxima or means over windows of each channel; windows that do not fit are left out.

    Args:
        x: ``(n, height, width, channels)``, converted to contiguous float32 where it is not.
        window: places along height and width, an int or a pair; "global" for one window of the whole image.
        stride: places from one window to the next, an int or a pair; None for the window's size.
        kind: "max" or "average".
        out: y, ``(n, out_h, out_w, channels) float32``, C-contiguous, to write into; None for a new array.
        device: backend.
        n_threads: number of threads; None for every CPU granted.

    Returns:
        y ``(n, out_h, out_w, channels) float32``, and where in its image each maximum lies (the first one of several),
        of the same shape, int32; ``(0, 0)`` for means.

    Raises:
        TypeError: not real numbers, a size is no integer, or ``out`` is not float32.
        ValueError: another shape, a number is not finite, a size below 1, a window larger than the image, or an unknown
            kind.
    """
    device = backend.place(device, x=x, out=out)
    images = as_images(x)
    *shape, high, wide = pool_shape(images.shape[1:], window, stride)
    average = as_choice(kind, "kind", POOLS)
    n, channels = len(images), images.shape[3]
    y = as_result(out, (n, high, wide, channels), images, (images,))
    argmax = _NO_PLACES if average else home(images).empty((n, high * wide * channels), np.int32)
    rows = images.reshape(n, shape[0] * shape[1] * channels), y.reshape(n, high * wide * channels)
    threads = backend.resolve_threads(n_threads)
    backend.get(device).pool_forward(rows[1], argmax, rows[0], *shape, average, threads)
    return y, argmax.reshape(y.shape) if not average else argmax


def pool_backward(
    dy: ArrayLike,
    argmax: ArrayLike,
    image: tuple[int, int, int],
    window: Any,
    *,
    stride: Any = None,
    kind: str = "max",
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Return the gradient of ``pool_forward``'s x, ``(n, height, width, channels) float32``.

    Args:
        dy: gradient of y, of its shape.
        argmax: the second result of ``pool_forward``; not looked at for means.
        image: (height, width, channels) of x.
        window, stride, kind: as there.
        device: backend.
        n_threads: number of threads; None for every CPU granted.

    Raises:
        TypeError: not real numbers, or not integers.
        ValueError: shapes do not fit, or a number is not finite.
        IndexError: a place outside the image.
    """
    sizes = tuple(as_integer(size, "image") for size in image)
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(message("image", image, "(height, width, channels), each at least 1"))
    *shape, high, wide = pool_shape((sizes[0], sizes[1], sizes[2]), window, stride)
    average = as_choice(kind, "kind", POOLS)
    device = backend.place(device, dy=dy)
    n, whole = np.shape(dy)[0] if np.ndim(dy) else 1, shape[0] * shape[1] * shape[2]
    rows = as_images(dy, "dy", (n, high, wide, sizes[2])).reshape(n, high * wide * sizes[2])
    places = _NO_PLACES
    if not average:
        if np.shape(argmax) != (n, high, wide, sizes[2]):
            raise ValueError(message("shape of argmax", np.shape(argmax), f"{(n, high, wide, sizes[2])}"))
        places = as_indices(argmax, "argmax", 0, whole).reshape(rows.shape)
    dx = new_rows(rows, n, whole)
    threads = backend.resolve_threads(n_threads)
    backend.get(device).pool_backward(dx, rows, places, *shape, average, threads)
    return dx.reshape(n, *sizes)
