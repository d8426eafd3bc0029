"""Cases of convolutions and pooling of images: forward and backward in one, for tests and benchmarks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.ops.block_arguments import ACTIVATIONS
from recsys_fast.ops.conv2d import conv_shape
from recsys_fast.ops.pool import pool_shape
from recsys_fast.ops.unchecked import run_unchecked

Array = NDArray[Any]


class Conv2DProblem(NamedTuple):
    """Arguments of ``conv2d_forward``, and the gradient of its result."""

    case: Conv2DCase
    x: Array
    w: Array
    b: Array
    dy: Array

    def options(self) -> dict[str, Any]:
        case = self.case
        return {"stride": case.stride, "padding": case.padding, "pool": case.pool, "activation": case.activation}

    def run(self, device: str, n_threads: int | None = None) -> dict[str, Array]:
        """Return all results by name, in float32."""
        how = {**self.options(), "device": device, "n_threads": n_threads}
        y, saved = ops.conv2d_forward(self.x, self.w, self.b, **how)
        dx, dw, db = ops.conv2d_backward(self.dy, y, saved, self.x, self.w, **how)
        assert dx is not None
        alone = ops.conv2d_backward(self.dy, y, saved, self.x, self.w, want_dx=False, **how)
        assert alone.dx is None
        assert np.abs(alone.dw - dw).max(initial=0) <= 1e-4 * np.abs(dw).max(initial=0)
        return {"y": y, **saved._asdict(), "dx": dx, "dw": dw, "db": db}

    def exact(self) -> dict[str, Array]:
        """Return the same in float64."""
        case, n = self.case, len(self.x)
        shape = conv_shape(case.image, self.w.shape[:2], case.stride, case.padding, case.pool)
        x, w, b, dy = (a.astype(np.float64) for a in (self.x, self.w, self.b, self.dy))
        x, w, dy = (
            x.reshape(n, int(np.prod(case.image))),
            w.reshape(-1, case.d),
            dy.reshape(n, int(np.prod(dy.shape[1:]))),
        )
        mode = (*shape, ACTIVATIONS.index(case.activation))
        y, none = np.empty_like(dy), np.empty((0, 0))
        pre = np.empty_like(dy) if "gelu" in case.activation else none
        argmax = np.empty(dy.shape if shape.pool_h * shape.pool_w > 1 else (0, 0), np.uint8)
        run_unchecked("conv2d_forward", y, pre, argmax, x, w, b, *mode, device="numba", n_threads=2)
        out = {"dx": np.empty_like(x), "dw": np.empty_like(w), "db": np.empty_like(b)}
        given = (dy, y, pre, argmax, x, w)
        run_unchecked("conv2d_backward", *out.values(), *given, *mode, device="numba", n_threads=2)
        whole = {
            name: a.reshape(self.dy.shape) if a.shape[1] else a
            for name, a in (("y", y), ("pre", pre), ("argmax", argmax))
        }
        return {**whole, "dx": out["dx"].reshape(self.x.shape), "dw": out["dw"].reshape(self.w.shape), "db": out["db"]}


class Conv2DCase(NamedTuple):
    """Images by their number and sizes, and a layer."""

    name: str
    n: int
    image: tuple[int, int, int]
    kernel: tuple[int, int]
    d: int
    stride: Any = 1
    padding: str = "valid"
    pool: Any = 1
    activation: str = "relu"

    def make(self, seed: int = 0) -> Conv2DProblem:
        rng = np.random.default_rng([seed, self.n, self.d])
        shape = conv_shape(self.image, self.kernel, self.stride, self.padding, self.pool)
        x, dy = rng.standard_normal((self.n, *self.image)), rng.standard_normal((self.n, *shape.pooled, self.d))
        w = rng.standard_normal((*self.kernel, self.image[2], self.d)) / np.sqrt(np.prod(self.kernel) * self.image[2])
        arrays = (a.astype(np.float32) for a in (x, w, rng.standard_normal(self.d), dy))
        return Conv2DProblem(self, *arrays)


class PoolProblem(NamedTuple):
    """Arguments of ``pool_forward``, and the gradient of its result."""

    case: PoolCase
    x: Array
    dy: Array

    def run(self, device: str, n_threads: int | None = None) -> dict[str, Array]:
        """Return all results by name, in float32."""
        case, how = self.case, {"stride": self.case.stride, "kind": self.case.kind, "device": device}
        y, argmax = ops.pool_forward(self.x, case.window, n_threads=n_threads, **how)
        dx = ops.pool_backward(self.dy, argmax, case.image, case.window, n_threads=n_threads, **how)
        return {"y": y, "argmax": argmax, "dx": dx}

    def exact(self) -> dict[str, Array]:
        """Return the same in float64, by NumPy alone."""
        _, _, _, window_h, window_w, stride_h, stride_w, high, wide = pool_shape(
            self.case.image, self.case.window, self.case.stride
        )
        x, dx = self.x.astype(np.float64), np.zeros(self.x.shape)
        y = np.empty((len(x), high, wide, x.shape[3]))
        argmax = np.zeros(y.shape if self.case.kind == "max" else (0, 0), np.int32)
        places = np.arange(int(np.prod(self.case.image))).reshape(self.case.image)
        for row in range(high):
            for col in range(wide):
                where = (
                    slice(row * stride_h, row * stride_h + window_h),
                    slice(col * stride_w, col * stride_w + window_w),
                )
                part, dy = x[:, *where].reshape(len(x), window_h * window_w, x.shape[3]), self.dy[:, row, col]
                if self.case.kind == "average":
                    y[:, row, col] = part.mean(1)
                    dx[:, *where] += dy[:, None, None] / (window_h * window_w)
                    continue
                y[:, row, col], best = part.max(1), part.argmax(1)
                argmax[:, row, col] = np.take_along_axis(places[where].reshape(1, *part.shape[1:]), best[:, None], 1)[
                    :, 0
                ]
                for i, j in np.ndindex(window_h, window_w):
                    dx[:, row * stride_h + i, col * stride_w + j] += dy * (best == i * window_w + j)
        return {"y": y, "argmax": argmax, "dx": dx}


class PoolCase(NamedTuple):
    """Images by their number and sizes, and windows."""

    name: str
    n: int
    image: tuple[int, int, int]
    window: Any
    stride: Any = None
    kind: str = "max"

    def make(self, seed: int = 0) -> PoolProblem:
        rng = np.random.default_rng([seed, self.n])
        *_, high, wide = pool_shape(self.image, self.window, self.stride)
        x = rng.integers(-9, 9, (self.n, *self.image)).astype(np.float32)  # with equal maxima
        return PoolProblem(self, x, rng.standard_normal((self.n, high, wide, self.image[2])).astype(np.float32))


CONV2D_CASES = [
    *(Conv2DCase(name, 3, (6, 7, 2), (3, 2), 5, padding="same", activation=name) for name in ACTIVATIONS),
    Conv2DCase("one number", 4, (1, 1, 1), (1, 1), 1),
    Conv2DCase("sequences, pooled", 7, (1, 29, 6), (1, 3), 20, pool=(1, 2)),
    Conv2DCase("short sequences", 300, (1, 4, 9), (1, 3), 33, padding="same"),
    Conv2DCase("pooled, uneven", 3, (11, 14, 3), (3, 3), 17, pool=(2, 3), activation="tanh"),
    Conv2DCase("pooled, padded, by steps", 3, (13, 12, 5), (4, 5), 16, (2, 3), "same", 2),
    Conv2DCase("steps beyond the kernel", 2, (9, 10, 4), (2, 2), 3, 3),
    Conv2DCase("kernel beyond the image", 2, (2, 3, 4), (5, 5), 6, padding="same"),
    Conv2DCase("several bands, wide", 2, (40, 33, 18), (3, 3), 70, padding="same"),
    Conv2DCase("several bands, pooled", 2, (64, 64, 3), (3, 3), 32, pool=2),
    Conv2DCase("no images", 0, (5, 5, 2), (3, 3), 4, pool=2),
]
POOL_CASES = [
    PoolCase("two by two", 3, (7, 8, 5), 2),
    PoolCase("overlapping", 4, (9, 8, 19), (3, 2), (2, 1)),
    PoolCase("gaps", 2, (9, 9, 1), 2, 3),
    PoolCase("global", 3, (5, 6, 33), "global"),
    PoolCase("mean", 3, (7, 8, 5), 2, kind="average"),
    PoolCase("overlapping means", 4, (9, 8, 19), (3, 2), (2, 1), kind="average"),
    PoolCase("global mean", 3, (5, 6, 33), "global", kind="average"),
    PoolCase("no images", 0, (4, 4, 2), 2),
]
