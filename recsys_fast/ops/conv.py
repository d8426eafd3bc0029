"""NextItNet's residual block of dilated causal convolutions, forward and backward."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_record
from recsys_fast.ops.block_arguments import (
    as_dropout,
    as_eps,
    as_input,
    as_result,
    as_row_ptr,
    as_rows,
    as_vector,
    new_rows,
)
from recsys_fast.ops.topk import as_count

F32 = NDArray[np.float32]


class ConvSaved(NamedTuple):
    """What the backward pass needs: results of both layer norms before scale and shift, and 1 / std of their rows.

    ``normal1`` and ``normal2`` are ``(n_rows, d) float32``, ``inverse`` is ``(n_rows, 2) float32``.
    """

    normal1: F32
    normal2: F32
    inverse: F32


class ConvGradients(NamedTuple):
    """Gradients of ``causal_conv_block_forward``'s arguments, each of its argument's shape, float32."""

    dx: F32
    dw1: F32
    db1: F32
    dgamma1: F32
    dbeta1: F32
    dw2: F32
    db2: F32
    dgamma2: F32
    dbeta2: F32


class _Layer(NamedTuple):
    w: F32
    b: F32
    gamma: F32
    beta: F32


def _as_weights(w: ArrayLike, name: str, d: int) -> F32:
    weights = as_rows(w, name, (None, d))
    if len(weights) == 0 or len(weights) % d:
        raise ValueError(message(f"rows of {name}", len(weights), f"kernel_size * {d}"))
    return weights


def _same_taps(w1: F32, w2: F32) -> int:
    if w1.shape != w2.shape:
        raise ValueError(message("shape of w2", w2.shape, f"{w1.shape}, that of w1"))
    return len(w1) // int(w1.shape[1])


def causal_conv_block_forward(
    x: ArrayLike,
    row_ptr: ArrayLike,
    w1: ArrayLike,
    b1: ArrayLike,
    gamma1: ArrayLike,
    beta1: ArrayLike,
    w2: ArrayLike,
    b2: ArrayLike,
    gamma2: ArrayLike,
    beta2: ArrayLike,
    *,
    dilation: int = 1,
    eps: float = 1e-8,
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, ConvSaved]:
    """Return y = x + D(relu(LN2(conv2(relu(LN1(conv1(x))))))) for packed sequences.

    conv(x)[t] = b + sum_j x[t - (kernel_size - 1 - j) l] w[j d : (j + 1) d], zeros before a sequence's start, with
    dilation l in the first convolution and 2 l in the second; LN normalises each row to mean 0 and variance 1, then
    scales by gamma and shifts by beta. Yuan, Karatzoglou, Arapakis, Jose, He, WSDM 2019, figure 3b.

    Args:
        x: ``(n_rows, d)``; this and the other arrays are converted to contiguous float32 where they are not.
        row_ptr: ``(n_sequences + 1,) int64``; sequence s has rows ``row_ptr[s]`` to ``row_ptr[s + 1]``.
        w1, w2: ``(kernel_size d, d)``, oldest tap first.
        b1, gamma1, beta1, b2, gamma2, beta2: ``(d,)``.
        dilation: l, at least 1.
        eps: added to the variance; above 0.
        dropout: share of the second convolution's results that D sets to 0, in [0, 1); the others are scaled up.
        seed, step, site: which mask; the same in the backward pass.
        out: ``(n_rows, d) float32``, C-contiguous, to write into; None for a new array.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Returns:
        y ``(n_rows, d) float32``, and what ``causal_conv_block_backward`` needs.

    Raises:
        TypeError: an array holds no real numbers (``row_ptr``: no integers), or an integer argument is none.
        ValueError: shapes do not fit, a number is not finite, ``row_ptr`` does not cut x into sequences, ``dilation``
            is below 1, ``eps`` is not positive, a rate is outside [0, 1), or ``out`` shares memory with an input.
    """
    arrays = {"row_ptr": row_ptr, "w1": w1, "b1": b1, "gamma1": gamma1, "beta1": beta1}
    arrays |= {"w2": w2, "b2": b2, "gamma2": gamma2, "beta2": beta2}
    device = backend.place(device, x=x, **arrays, out=out)
    rows = as_input(x)
    n, d = rows.shape
    pointers = as_row_ptr(row_ptr, n)
    layers = [
        _Layer(_as_weights(w, f"w{i}", d), *(as_vector(v, f"{name}{i}", d) for name, v in vectors))
        for i, w, vectors in (
            (1, w1, (("b", b1), ("gamma", gamma1), ("beta", beta1))),
            (2, w2, (("b", b2), ("gamma", gamma2), ("beta", beta2))),
        )
    ]
    taps, places = _same_taps(layers[0].w, layers[1].w), as_count(dilation, "dilation", 1)
    added, masks = as_eps(eps), as_dropout(dropout, seed, step, site)
    y = as_result(out, rows.shape, rows, (rows, pointers, *layers[0], *layers[1]))
    saved = ConvSaved(new_rows(rows, n, d), new_rows(rows, n, d), new_rows(rows, n, 2))
    backend.get(device).causal_conv_block_forward(
        y, *saved, rows, pointers, *layers[0], *layers[1], taps, places, added, *masks,
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return y, saved


def causal_conv_block_backward(
    dy: ArrayLike,
    saved: ConvSaved,
    x: ArrayLike,
    row_ptr: ArrayLike,
    w1: ArrayLike,
    gamma1: ArrayLike,
    beta1: ArrayLike,
    w2: ArrayLike,
    gamma2: ArrayLike,
    beta2: ArrayLike,
    *,
    dilation: int = 1,
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> ConvGradients:
    """Return the gradients of ``causal_conv_block_forward``; sums over rows have a fixed tree.

    Args:
        dy: ``(n_rows, d)``, gradient of y.
        saved: the second result of ``causal_conv_block_forward``.
        x, row_ptr, w1, gamma1, beta1, w2, gamma2, beta2, dilation, dropout, seed, step, site: as it was given.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Raises:
        TypeError: an array holds no real numbers (``row_ptr``: no integers), or an integer argument is none.
        ValueError: shapes do not fit, a number is not finite, ``row_ptr`` does not cut x into sequences, ``dilation``
            is below 1, or a rate is outside [0, 1).
    """
    arrays = {"row_ptr": row_ptr, "w1": w1, "gamma1": gamma1, "beta1": beta1, "w2": w2, "gamma2": gamma2}
    device = backend.place(device, dy=dy, x=x, **arrays, beta2=beta2)
    rows = as_input(x)
    n, d = rows.shape
    pointers, gradient = as_row_ptr(row_ptr, n), as_rows(dy, "dy", (n, d))
    as_record(saved, "saved", ConvSaved, "the second result of causal_conv_block_forward")
    kept = [as_rows(saved[i], f"saved.{name}", (n, 2 if i == 2 else d)) for i, name in enumerate(ConvSaved._fields)]
    weights1, weights2 = _as_weights(w1, "w1", d), _as_weights(w2, "w2", d)
    scales = [as_vector(v, name, d) for name, v in (("gamma1", gamma1), ("beta1", beta1))]
    more = [as_vector(v, name, d) for name, v in (("gamma2", gamma2), ("beta2", beta2))]
    taps, places = _same_taps(weights1, weights2), as_count(dilation, "dilation", 1)
    masks = as_dropout(dropout, seed, step, site)
    one_layer = (weights1.shape, (d,), (d,), (d,))
    out = ConvGradients(*(new_rows(rows, *shape) for shape in ((n, d), *one_layer, *one_layer)))
    backend.get(device).causal_conv_block_backward(
        *out, gradient, *kept, rows, pointers, weights1, *scales, weights2, *more, taps, places, *masks,
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return out
