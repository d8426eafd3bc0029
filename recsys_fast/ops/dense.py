"""A fully connected layer, forward and backward."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.block_arguments import (
    ACTIVATIONS,
    NO_ROWS,
    as_choice,
    as_dropout,
    as_result,
    as_rows,
    as_vector,
    new_rows,
)

F32 = NDArray[np.float32]

_NEED_PRE = ("gelu", "gelu_tanh")


class DenseGradients(NamedTuple):
    """What ``dense_backward`` returns: dx ``(n, d_in)``, dw ``(d_in, d_out)``, db ``(d_out,)``, all float32."""

    dx: F32
    dw: F32
    db: F32


def _as_layer(x: ArrayLike, w: ArrayLike) -> tuple[F32, F32]:
    """Return x ``(n, d_in)`` and w ``(d_in, d_out)`` after checking that they fit."""
    rows = as_rows(x, "x")
    weights = as_rows(w, "w", (rows.shape[1], None))
    if 0 in weights.shape:
        raise ValueError(message("shape of w", weights.shape, "at least one row and one column"))
    return rows, weights


def dense_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, F32]:
    """Return y = D(activation(x w + b)), and what GELU needs in the backward pass.

    Args:
        x: ``(n, d_in)``; this and the other arrays are converted to contiguous float32 where they are not.
        w: ``(d_in, d_out)``.
        b: ``(d_out,)``; None for none.
        activation: "relu", "gelu" (x Phi(x)), "gelu_tanh" (0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)));
            Hendrycks, Gimpel 2016), "tanh", "sigmoid" or "identity".
        dropout: share of the outputs that D sets to 0, in [0, 1); the others are scaled up.
        seed, step, site: which mask; the same in the backward pass.
        out: y, ``(n, d_out) float32``, C-contiguous, to write into; None for a new array.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Returns:
        y ``(n, d_out) float32`` and pre = x w + b ``(n, d_out) float32``, with another activation than GELU ``(0, 0)``.

    Raises:
        TypeError: an array holds no real numbers, seed, step or site is no integer, or ``out`` is not float32.
        ValueError: shapes do not fit, a number is not finite, an unknown activation, a rate outside [0, 1), or ``out``
            shares memory with an input.
    """
    device = backend.place(device, x=x, w=w, b=b, out=out)
    rows, weights = _as_layer(x, w)
    n, d_out = len(rows), weights.shape[1]
    bias, kind = as_vector(b, "b", d_out), as_choice(activation, "activation", ACTIVATIONS)
    masks = as_dropout(dropout, seed, step, site)
    y = as_result(out, (n, d_out), rows, (rows, weights, bias))
    pre = new_rows(rows, *((n, d_out) if activation in _NEED_PRE else (0, 0)))
    backend.get(device).dense_forward(y, pre, rows, weights, bias, kind, *masks, backend.resolve_threads(n_threads))
    return y, pre


def dense_backward(
    dy: ArrayLike,
    y: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    *,
    pre: ArrayLike | None = None,
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> DenseGradients:
    """Return the gradients of ``dense_forward``; sums over rows have a fixed tree.

    Args:
        dy: ``(n, d_out)``, gradient of y.
        y: what ``dense_forward`` returned.
        x, w: what it was given.
        pre: its second result; needed with GELU only.
        activation, dropout, seed, step, site: as there.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Raises:
        TypeError: an array holds no real numbers, or seed, step or site is no integer.
        ValueError: shapes do not fit, a number is not finite, GELU without ``pre``, an unknown activation, or a rate
            outside [0, 1).
    """
    device = backend.place(device, dy=dy, y=y, x=x, w=w, pre=pre)
    rows, weights = _as_layer(x, w)
    shape = (len(rows), weights.shape[1])
    given = as_rows(dy, "dy", shape), as_rows(y, "y", shape)
    kind, masks = as_choice(activation, "activation", ACTIVATIONS), as_dropout(dropout, seed, step, site)
    if activation in _NEED_PRE and pre is None:
        raise ValueError(message("pre", "None", "the second result of dense_forward", "GELU's slope needs it"))
    before = NO_ROWS
    if pre is not None and activation in _NEED_PRE:
        before = as_rows(pre, "pre", shape)
    out = DenseGradients(new_rows(rows, *rows.shape), new_rows(rows, *weights.shape), new_rows(rows, shape[1]))
    threads = backend.resolve_threads(n_threads)
    backend.get(device).dense_backward(*out, *given, before, rows, weights, kind, *masks, threads)
    return out
