"""Steps of SGD, Adagrad and Adam, over flat parameters or over rows of a table, and the norm that clipping needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_indices, as_number, check_apart
from recsys_fast.ops.block_arguments import F32, NO_ROWS, NONE, as_choice, as_eps, as_rows, as_vector
from recsys_fast.ops.gram import as_writable, home
from recsys_fast.ops.negatives import counter

KINDS = ("sgd", "adagrad", "adam", "adagrad_root")


def _numbers(
    kind: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    grad_scale: float, step: int,
) -> tuple[float, float, float, float, float, bool, float, int]:  # fmt: skip
    """Return the hyper-parameters in the order of the flat signature, each in its range."""
    betas = as_number(beta1, "beta1"), as_number(beta2, "beta2")
    for name, number in zip(("beta1", "beta2"), betas, strict=True):
        if number >= 1.0:
            raise ValueError(message(name, number, "0 or more, and less than 1"))
    at = counter(step, "step", 31)
    if at == 0:
        raise ValueError(message("step", 0, "1 for the first step"))
    return (
        as_number(lr, "lr"), *betas, as_eps(eps) if KINDS[kind] != "sgd" else as_number(eps, "eps"),
        as_number(weight_decay, "weight_decay"), bool(decoupled), as_number(grad_scale, "grad_scale"), at,
    )  # fmt: skip


def _moments(
    kind: int, beta1: float, like: F32, m: F32 | None, v: F32 | None, others: dict[str, NDArray[Any]]
) -> tuple[F32, F32]:
    """Return the moments that a kind keeps, checked and apart from ``others``; empty arrays for those it does not."""
    wanted = {"m": (m, kind == 2 or beta1 > 0.0), "v": (v, kind != 0)}
    found = []
    for name, (given, needed) in wanted.items():
        if not needed:
            found.append(NONE if like.ndim == 1 else NO_ROWS)
            continue
        if given is None:
            mend = f"pass {name}=np.zeros_like(...) and keep it from step to step"
            raise ValueError(message(f"{name} of {KINDS[kind]}", "None", f"an array of shape {like.shape}", mend))
        if as_writable(given, name, like.ndim).shape != like.shape:
            raise ValueError(message(f"shape of {name}", given.shape, f"{like.shape}"))
        for other, array in others.items():
            check_apart(given, name, array, other)
        found.append(given)
    check_apart(found[0], "m", found[1], "v")
    return found[0], found[1]


def optimizer_step(
    param: F32,
    grad: ArrayLike,
    m: F32 | None = None,
    v: F32 | None = None,
    *,
    kind: str = "adam",
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    grad_scale: float = 1.0,
    step: int = 1,
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Move parameters by their gradients, in place.

    With g = grad_scale * grad + weight_decay * param (``decoupled``: g = grad_scale * grad, and param shrinks by lr *
    weight_decay * param as well, as in AdamW):

    - "sgd": m = beta1 m + g; param -= lr m. Without momentum (beta1 = 0) there is no m.
    - "adagrad": v += g^2; u = g / (sqrt(v) + eps); with momentum m = beta1 m + u and u = m; param -= lr u.
    - "adagrad_root": the same with u = g / sqrt(v + eps), as in GRU4Rec.
    - "adam": m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
      param -= lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps).

    Duchi, Hazan, Singer, JMLR 2011; Kingma, Ba, ICLR 2015; Loshchilov, Hutter, ICLR 2019.

    Args:
        param: ``(n,) float32``, C-contiguous, writable; changed.
        grad: ``(n,)``.
        m, v: ``(n,) float32``, the moments, zeros before the first step; changed. None for those that are not kept.
        kind: "sgd", "adagrad", "adagrad_root" or "adam".
        lr, weight_decay: as above, 0 or more.
        beta1, beta2: as above, in [0, 1).
        eps: as above; above 0 in float32, but for "sgd", which has none.
        decoupled: weight decay apart from the gradient.
        grad_scale: of the gradient, such as min(1, limit / norm).
        step: number of this step, from 1.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ``param``.

    Raises:
        TypeError: what is changed is not a float32 array, or an argument is no number.
        ValueError: shapes that differ, a moment that is missing, a number out of its range or not finite, arrays that
            share memory.
    """
    device = backend.place(device, param=param, grad=grad, m=m, v=v)
    values, number = as_writable(param, "param", 1), as_choice(kind, "kind", KINDS)
    gradient = as_vector(grad, "grad", len(values))
    rates = _numbers(number, lr, beta1, beta2, eps, weight_decay, decoupled, grad_scale, step)
    moments = _moments(number, rates[1], values, m, v, {"param": values, "grad": gradient})
    check_apart(values, "param", gradient, "grad")
    threads = backend.resolve_threads(n_threads)
    backend.get(device).optimizer_step(values, gradient, *moments, number, *rates, threads)
    return param


def optimizer_step_rows(
    table: F32,
    rows: ArrayLike,
    drows: ArrayLike,
    m: F32 | None = None,
    v: F32 | None = None,
    *,
    lazy: bool = True,
    kind: str = "adam",
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    grad_scale: float = 1.0,
    step: int = 1,
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Move a table whose gradient is 0 but for some rows, in place; the formulas are those of ``optimizer_step``.

    Args:
        table: ``(n, d) float32``, C-contiguous, writable; changed.
        rows: ``(R,)`` integers, strictly ascending.
        drows: ``(R, d)``, their gradients.
        m, v: ``(n, d) float32``, the moments; changed. None for those that are not kept.
        lazy: only ``rows`` take a step, and other rows' moments do not decay; Adam corrects by ``step``, the number of
            steps of all. False: every row takes a step, those not named with a gradient of 0.
        kind, lr, beta1, beta2, eps, weight_decay, decoupled, grad_scale, step: as in ``optimizer_step``.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ``table``.

    Raises:
        TypeError: what is changed is not a float32 array, rows are not integers, or an argument is no number.
        ValueError: rows that do not ascend, shapes that do not fit, a moment that is missing, a number out of its range
            or not finite, arrays that share memory.
        IndexError: a row below 0 or beyond the table.
    """
    device = backend.place(device, table=table, drows=drows, m=m, v=v)
    values, number = as_writable(table, "table"), as_choice(kind, "kind", KINDS)
    ids = as_indices(rows, "rows", 0, len(values)).reshape(-1)
    if (ids[1:] <= ids[:-1]).any():
        raise ValueError(message("rows", expected="strictly ascending ones", mend="pass those of ops.id_plan"))
    gradient = as_rows(drows, "drows", (len(ids), values.shape[1]))
    rates = _numbers(number, lr, beta1, beta2, eps, weight_decay, decoupled, grad_scale, step)
    read: dict[str, NDArray[Any]] = {"rows": ids, "drows": gradient}
    moments = _moments(number, rates[1], values, m, v, {"table": values, **read})
    for name, given in read.items():
        check_apart(values, "table", given, name)
    threads = backend.resolve_threads(n_threads)
    backend.get(device).optimizer_step_rows(values, *moments, ids, gradient, bool(lazy), number, *rates, threads)
    return table


def square_sum(x: ArrayLike, *, device: str = "auto", n_threads: int | None = None) -> float:
    """Return the sum of squares; its tree depends on the number of elements alone.

    Args:
        x: numbers of any shape, converted to contiguous float32 where they are not.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Raises:
        TypeError: not numbers.
        ValueError: a number is not finite.
    """
    device = backend.place(device, x=x)
    given = home(x).asarray(x) if on_device(x) else np.asarray(x)
    flat = as_rows(given.reshape(1, -1), "x").reshape(-1)
    return float(backend.get(device).square_sum(flat, backend.resolve_threads(n_threads)))
