"""Steps of optimizers over flat parameters and over rows of tables, and the norm that clipping needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inlined, inputs, parallel, threads

F = NDArray[Any]  # float32, or float64 to check gradients
I32 = NDArray[np.int32]

SGD, ADAGRAD, ADAM, ADAGRAD_ROOT = range(4)
_CHUNK = 1 << 14  # elements of one partial sum

# lr, beta1, beta2, 1 - beta1, 1 - beta2, eps, weight decay of the gradient, share of the parameter that goes, gradient
# scale, Adam's first and second correction: in the parameters' dtype, because a float64 would widen every product
Rates = tuple[Any, ...]


def rates(
    dtype: Any, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    grad_scale: float, kind: int, step: int,
) -> Rates:  # fmt: skip
    """Return what a step multiplies with, rounded once to the parameters' dtype."""
    first, second = (1.0 - beta1**step, 1.0 / np.sqrt(1.0 - beta2**step)) if kind == ADAM else (1.0, 1.0)
    decay, shrink = (0.0, lr * weight_decay) if decoupled else (weight_decay, 0.0)
    numbers = lr / first, beta1, beta2, 1.0 - beta1, 1.0 - beta2, eps, decay, shrink, grad_scale, second
    return tuple(dtype.type(x) for x in numbers)


@inlined
def _scaled(g, v: F, k: int, kind: int, eps):  # type: ignore[no-untyped-def]
    """Return the gradient as Adagrad scales it, after adding its square; SGD's stays as it is."""
    if kind == SGD:
        return g
    v[k] += g * g
    return g / (np.sqrt(v[k]) + eps) if kind == ADAGRAD else g / np.sqrt(v[k] + eps)


@inlined
def _step_row(param: F, grad: F, m: F, v: F, kind: int, rate: Rates) -> None:
    lr, beta1, beta2, beta1_rest, beta2_rest, eps, decay, shrink, grad_scale, second = rate
    if kind == ADAM:
        for k in range(len(param)):
            g = grad_scale * grad[k] + decay * param[k]
            m[k] = beta1 * m[k] + beta1_rest * g
            v[k] = beta2 * v[k] + beta2_rest * (g * g)
            param[k] -= lr * (m[k] / (np.sqrt(v[k]) * second + eps)) + shrink * param[k]
    elif len(m):
        for k in range(len(param)):
            m[k] = beta1 * m[k] + _scaled(grad_scale * grad[k] + decay * param[k], v, k, kind, eps)
            param[k] -= lr * m[k] + shrink * param[k]
    else:
        for k in range(len(param)):
            u = _scaled(grad_scale * grad[k] + decay * param[k], v, k, kind, eps)
            param[k] -= lr * u + shrink * param[k]


@parallel
def _step(param: F, grad: F, m: F, v: F, kind: int, rate: Rates) -> None:
    n = len(param)
    for chunk in prange((n + _CHUNK - 1) // _CHUNK):
        a, b = chunk * _CHUNK, min(n, (chunk + 1) * _CHUNK)
        _step_row(param[a:b], grad[a:b], m[a:b], v[a:b], kind, rate)


def optimizer_step(
    param: F, grad: F, m: F, v: F, kind: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float,
    decoupled: bool, grad_scale: float, step: int, n_threads: int,
) -> None:  # fmt: skip
    """One step of all parameters, (n,), in place; the formulas are those of ``recsys_fast.ops.optimizer_step``."""
    (grad,) = inputs(grad)
    rate = rates(param.dtype, lr, beta1, beta2, eps, weight_decay, decoupled, grad_scale, kind, step)
    with threads(n_threads):
        _step(param, grad, m, v, kind, rate)


def optimizer_step_rows(
    table: F, m: F, v: F, rows: I32, drows: F, lazy: bool, kind: int, lr: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, decoupled: bool, grad_scale: float, step: int, n_threads: int,
) -> None:  # fmt: skip
    """One step of rows ``rows`` (R,), ascending, of a table (n, d), in place.

    The other rows stay as they are (lazy), or take a step with gradients of zero.
    """
    rest = kind, lr, beta1, beta2, eps, weight_decay, decoupled, grad_scale, step, n_threads
    if lazy:
        moved = tuple(array[rows] if len(array) else array for array in (table, m, v))
        optimizer_step(moved[0].reshape(-1), drows.reshape(-1), moved[1].reshape(-1), moved[2].reshape(-1), *rest)
        for array, part in zip((table, m, v), moved, strict=True):
            if len(array):
                array[rows] = part
    else:
        dense = np.zeros_like(table)
        dense[rows] = drows
        optimizer_step(table.reshape(-1), dense.reshape(-1), m.reshape(-1), v.reshape(-1), *rest)


@parallel
def _squares(parts: F, x: F) -> None:
    for part in prange(len(parts)):
        lanes = np.zeros(16)  # side by side, so that no sum waits for the one before it
        begin, end = part * _CHUNK, min(len(x), (part + 1) * _CHUNK)
        for k in range(begin, end - 15, 16):
            for lane in range(16):
                lanes[lane] += np.float64(x[k + lane]) * np.float64(x[k + lane])
        for k in range(end - (end - begin) % 16, end):
            lanes[0] += np.float64(x[k]) * np.float64(x[k])
        parts[part] = lanes.sum()


def square_sum(x: F, n_threads: int) -> float:
    """Return the sum of squares in float64; its tree depends on the length alone."""
    (x,) = inputs(x)
    parts = np.empty(-(-len(x) // _CHUNK), np.float64)
    with threads(n_threads):
        _squares(parts, x)
    total = 0.0
    for part in parts.tolist():
        total += part
    return total
