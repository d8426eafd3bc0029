"""Cases of the convolutional and dense layers: forward and backward in one, for tests and benchmarks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.ops.block_arguments import ACTIVATIONS
from recsys_fast.ops.unchecked import run_unchecked

Array = NDArray[Any]
MASK = {"seed": 3, "step": 5, "site": 8}


def _normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> NDArray[np.float32]:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def _wide(*arrays: Array) -> list[Array]:
    return [array.astype(np.float64) if array.dtype == np.float32 else array for array in arrays]


class ConvProblem(NamedTuple):
    """Arguments of ``causal_conv_block_forward``, and the gradient of its result."""

    case: ConvCase
    x: Array
    row_ptr: Array
    weights: list[Array]  # w, b, gamma, beta of both layers
    dy: Array

    def options(self) -> dict[str, Any]:
        return {"dilation": self.case.dilation, "dropout": self.case.dropout, **MASK}

    def run(self, device: str, n_threads: int | None = None) -> dict[str, Array]:
        """Return all results by name, in float32."""
        how = {**self.options(), "device": device, "n_threads": n_threads}
        y, saved = ops.causal_conv_block_forward(self.x, self.row_ptr, *self.weights, **how)
        w1, _, gamma1, beta1, w2, _, gamma2, beta2 = self.weights
        given = (self.x, self.row_ptr, w1, gamma1, beta1, w2, gamma2, beta2)
        gradients = ops.causal_conv_block_backward(self.dy, saved, *given, **how)
        return {"y": y, **saved._asdict(), **gradients._asdict()}

    def exact(self) -> dict[str, Array]:
        """Return the same in float64."""
        case, (x, dy, *weights) = self.case, _wide(self.x, self.dy, *self.weights)
        masks = (case.dropout, *MASK.values())
        y, normal1, normal2 = (np.empty_like(x) for _ in range(3))
        saved = {"normal1": normal1, "normal2": normal2, "inverse": np.empty((len(x), 2))}
        mode = (case.kernel_size, case.dilation)
        forward = (y, *saved.values(), x, self.row_ptr, *weights, *mode, 1e-8, *masks)
        run_unchecked("causal_conv_block_forward", *forward, device="numba", n_threads=2)
        names = ("dx", "dw1", "db1", "dgamma1", "dbeta1", "dw2", "db2", "dgamma2", "dbeta2")
        out = {name: np.empty_like(array) for name, array in zip(names, [x, *weights], strict=True)}
        w1, _, gamma1, beta1, w2, _, gamma2, beta2 = weights
        given = (dy, *saved.values(), x, self.row_ptr, w1, gamma1, beta1, w2, gamma2, beta2)
        run_unchecked("causal_conv_block_backward", *out.values(), *given, *mode, *masks, device="numba", n_threads=2)
        return {"y": y, **saved, **out}


class ConvCase(NamedTuple):
    """Sequences by their lengths."""

    name: str
    lengths: list[int]
    d: int
    kernel_size: int = 3
    dilation: int = 1
    dropout: float = 0.0

    def make(self, seed: int = 0) -> ConvProblem:
        rng = np.random.default_rng([seed, self.d, self.kernel_size])
        row_ptr = np.cumsum([0, *self.lengths], dtype=np.int64)
        d, width = self.d, self.kernel_size * self.d
        weights = []
        for _ in range(2):
            weights += [_normal(rng, width, d, scale=width**-0.5), _normal(rng, d, scale=0.1)]
            weights += [1.0 + _normal(rng, d, scale=0.2), _normal(rng, d, scale=0.2)]
        x, dy = _normal(rng, row_ptr[-1], d), _normal(rng, row_ptr[-1], d)
        return ConvProblem(self, x, row_ptr, weights, dy)


class CaserProblem(NamedTuple):
    """Arguments of ``caser_forward``, and the gradient of its result."""

    case: CaserCase
    x: Array
    weights: list[Array]  # w_h, b_h, w_v, b_v
    dz: Array

    def options(self) -> dict[str, Any]:
        return {"window": self.case.window, "dropout": self.case.dropout, **MASK}

    def run(self, device: str, n_threads: int | None = None) -> dict[str, Array]:
        """Return all results by name, in float32."""
        how = {**self.options(), "device": device, "n_threads": n_threads}
        z, argmax = ops.caser_forward(self.x, *self.weights, **how)
        gradients = ops.caser_backward(self.dz, argmax, self.x, self.weights[0], self.weights[2], **how)
        return {"z": z, "argmax": argmax, **gradients._asdict()}

    def exact(self) -> dict[str, Array]:
        """Return the same in float64."""
        case, (x, dz, *weights) = self.case, _wide(self.x, self.dz, *self.weights)
        mode = (case.window, case.n_horizontal, case.n_vertical, case.dropout, *MASK.values())
        z, argmax = np.empty_like(dz), np.empty((case.n, case.window * case.n_horizontal), np.int32)
        run_unchecked("caser_forward", z, argmax, x, *weights, *mode, device="numba", n_threads=2)
        names = ("dx", "dw_h", "db_h", "dw_v", "db_v")
        out = {name: np.empty_like(array) for name, array in zip(names, [x, *weights], strict=True)}
        given = (dz, argmax, x, weights[0], weights[2])
        run_unchecked("caser_backward", *out.values(), *given, *mode, device="numba", n_threads=2)
        return {"z": z, "argmax": argmax, **out}


class CaserCase(NamedTuple):
    """n windows of items."""

    name: str
    n: int
    window: int
    d: int
    n_horizontal: int
    n_vertical: int
    dropout: float = 0.0

    def make(self, seed: int = 0) -> CaserProblem:
        rng = np.random.default_rng([seed, self.n, self.d])
        n_columns = self.window * self.n_horizontal
        rows = self.window * (self.window + 1) // 2 * self.d
        w_h, b_h = _normal(rng, rows, self.n_horizontal, scale=rows**-0.5), _normal(rng, n_columns, scale=0.1)
        w_v, b_v = _normal(rng, self.window, self.n_vertical), _normal(rng, self.n_vertical)
        x = _normal(rng, self.n * self.window, self.d)
        return CaserProblem(self, x, [w_h, b_h, w_v, b_v], _normal(rng, self.n, n_columns + self.n_vertical * self.d))


class DenseProblem(NamedTuple):
    """Arguments of ``dense_forward``, and the gradient of its result."""

    case: DenseCase
    x: Array
    w: Array
    b: Array
    dy: Array

    def options(self) -> dict[str, Any]:
        return {"activation": self.case.activation, "dropout": self.case.dropout, **MASK}

    def run(self, device: str, n_threads: int | None = None) -> dict[str, Array]:
        """Return all results by name, in float32."""
        how = {**self.options(), "device": device, "n_threads": n_threads}
        y, pre = ops.dense_forward(self.x, self.w, self.b, **how)
        gradients = ops.dense_backward(self.dy, y, self.x, self.w, pre=pre if pre.size else None, **how)
        return {"y": y, "pre": pre, **gradients._asdict()}

    def exact(self) -> dict[str, Array]:
        """Return the same in float64."""
        x, w, b, dy = _wide(self.x, self.w, self.b, self.dy)
        mode = (ACTIVATIONS.index(self.case.activation), self.case.dropout, *MASK.values())
        y, pre = np.empty_like(dy), np.empty(dy.shape if "gelu" in self.case.activation else (0, 0))
        run_unchecked("dense_forward", y, pre, x, w, b, *mode, device="numba", n_threads=2)
        out = {"dx": np.empty_like(x), "dw": np.empty_like(w), "db": np.empty_like(b)}
        run_unchecked("dense_backward", *out.values(), dy, y, pre, x, w, *mode, device="numba", n_threads=2)
        return {"y": y, "pre": pre, **out}


class DenseCase(NamedTuple):
    """A layer by its sizes."""

    name: str
    n: int
    d_in: int
    d_out: int
    activation: str
    dropout: float = 0.0

    def make(self, seed: int = 0) -> DenseProblem:
        rng = np.random.default_rng([seed, self.n, self.d_in])
        w, b = _normal(rng, self.d_in, self.d_out, scale=self.d_in**-0.5), _normal(rng, self.d_out)
        return DenseProblem(self, _normal(rng, self.n, self.d_in), w, b, _normal(rng, self.n, self.d_out))


CONV_CASES = [
    ConvCase("one column", [5, 1, 0, 3], 1),
    ConvCase("empty sequences", [0, 7, 0, 0, 30, 2, 0], 8, dropout=0.3),
    ConvCase("one tap", [4, 9, 1], 5, kernel_size=1),
    ConvCase("short", [1, 2, 3, 4, 5] * 60, 50, dilation=2),
    ConvCase("width 64", [8, 3, 20, 11] * 40, 64, dropout=0.2),
    ConvCase("wide", [33, 1, 70], 100, kernel_size=5),
    ConvCase("long", [700], 33, kernel_size=2, dilation=32, dropout=0.1),
]
CASER_CASES = [
    CaserCase("published", 300, 5, 50, 16, 4, dropout=0.5),
    CaserCase("one item", 9, 1, 3, 5, 2),
    CaserCase("one of each", 40, 3, 1, 1, 1),
    CaserCase("no vertical", 70, 4, 9, 7, 0, dropout=0.2),
    CaserCase("many filters", 45, 9, 33, 20, 3),
    CaserCase("wide windows", 5, 4, 400, 2, 1),
]
DENSE_CASES = [
    *(DenseCase(name, 300, 33, 20, name, dropout=0.3) for name in ACTIVATIONS),
    DenseCase("one number", 70, 1, 1, "relu"),
    DenseCase("head", 512, 280, 50, "relu", dropout=0.5),
    DenseCase("wide", 9, 200, 150, "tanh"),
    DenseCase("too wide for a piece of BLAS", 40, 520, 513, "tanh"),
    DenseCase("few rows of images", 32, 1500, 48, "relu"),
    DenseCase("rows of 512 bytes", 200, 130, 128, "relu", dropout=0.1),
    DenseCase("one score", 210, 130, 1, "sigmoid", dropout=0.2),
    DenseCase("one score of images", 9, 1100, 1, "identity"),
]
