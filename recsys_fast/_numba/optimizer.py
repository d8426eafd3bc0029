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

# lr, beta1, beta2, 1 - beta1, 1 - beta2, eps, weight decay of the gradient, share of the parameter that stays, gradient
# scale, Adam's first and second correction: in the parameters' dtype, because a float64 would widen every product
Rates = tuple[Any, ...]


def rates(
    dtype: Any, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    grad_scale: float, kind: int, step: int,
) -> Rates:  # fmt: skip
    """Return what a step multiplies with, rounded once to the parameters' dtype."""
    first, second = (1.0 - beta1**step, 1.0 / np.sqrt(1.0 - beta2**step)) if kind == ADAM else (1.0, 1.0)
    decay, keep = (0.0, 1.0 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    numbers = lr / first, beta1, beta2, 1.0 - beta1, 1.0 - beta2, eps, decay, keep, grad_scale, second
    return tuple(dtype.type(x) for x in numbers)


@inlined
def _step_row(param: F, grad: F, m: F, v: F, kind: int, rate: Rates) -> None:
    """One step of a row; grad empty: gradients of zero."""
    lr, beta1, beta2, beta1_rest, beta2_rest, eps, decay, keep, grad_scale, second = rate
    for k in range(len(param)):
        g = grad_scale * grad[k] if len(grad) else decay * param[k]
        if len(grad):
            g += decay * param[k]
        if kind == ADAM:
            m[k] = beta1 * m[k] + beta1_rest * g
            v[k] = beta2 * v[k] + beta2_rest * (g * g)
            param[k] = keep * param[k] - lr * (m[k] / (np.sqrt(v[k]) * second + eps))
            continue
        if kind == ADAGRAD:
            v[k] += g * g
            g = g / (np.sqrt(v[k]) + eps)
        elif kind == ADAGRAD_ROOT:
            v[k] += g * g
            g = g / np.sqrt(v[k] + eps)
        if len(m):
            g += beta1 * m[k]
            m[k] = g
        param[k] = keep * param[k] - lr * g


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


@parallel
def _step_rows(table: F, m: F, v: F, rows: I32, drows: F, kind: int, rate: Rates) -> None:
    none = table[:0, 0]
    for r in prange(len(rows)):
        k = rows[r]
        _step_row(table[k], drows[r], m[k] if len(m) else none, v[k] if len(v) else none, kind, rate)


@parallel
def _step_all_rows(table: F, m: F, v: F, rows: I32, drows: F, kind: int, rate: Rates) -> None:
    none = table[:0, 0]
    for k in prange(len(table)):
        r = np.searchsorted(rows, k)
        grad = drows[r] if r < len(rows) and rows[r] == k else none
        _step_row(table[k], grad, m[k] if len(m) else none, v[k] if len(v) else none, kind, rate)


def optimizer_step_rows(
    table: F, m: F, v: F, rows: I32, drows: F, lazy: bool, kind: int, lr: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, decoupled: bool, grad_scale: float, step: int, n_threads: int,
) -> None:  # fmt: skip
    """One step of rows ``rows`` (R,), ascending, of a table (n, d), in place.

    The other rows stay as they are (lazy), or take a step with gradients of zero.
    """
    rows, drows = inputs(rows, drows)
    rate = rates(table.dtype, lr, beta1, beta2, eps, weight_decay, decoupled, grad_scale, kind, step)
    with threads(n_threads):
        (_step_rows if lazy else _step_all_rows)(table, m, v, rows, drows, kind, rate)


@parallel
def _squares(parts: F, x: F) -> None:
    for part in prange(len(parts)):
        total = 0.0
        for k in range(part * _CHUNK, min(len(x), (part + 1) * _CHUNK)):
            total += np.float64(x[k]) * np.float64(x[k])
        parts[part] = total


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
