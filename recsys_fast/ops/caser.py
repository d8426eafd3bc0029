"""Caser's horizontal and vertical convolutions over windows of items, forward and backward."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.block_arguments import as_dropout, as_result, as_rows, as_vector, new_rows
from recsys_fast.ops.gram import home
from recsys_fast.ops.topk import as_count

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


class CaserGradients(NamedTuple):
    """Gradients of ``caser_forward``'s arguments, each of its argument's shape, float32."""

    dx: F32
    dw_h: F32
    db_h: F32
    dw_v: F32
    db_v: F32


def _as_windows(x: ArrayLike, w_h: ArrayLike, w_v: ArrayLike, window: Any) -> tuple[F32, F32, F32, int]:
    rows, length = as_rows(x, "x"), as_count(window, "window", 1)
    n, d = rows.shape
    if d == 0 or n % length:
        raise ValueError(message("shape of x", rows.shape, f"(n * {length}, d) with d at least 1"))
    horizontal = as_rows(w_h, "w_h", (length * (length + 1) // 2 * d, None))
    vertical = as_rows(w_v, "w_v", (length, None))
    if horizontal.shape[1] == 0:
        raise ValueError(message("columns of w_h", 0, "at least one filter of each height"))
    return rows, horizontal, vertical, length


def caser_forward(
    x: ArrayLike,
    w_h: ArrayLike,
    b_h: ArrayLike,
    w_v: ArrayLike,
    b_v: ArrayLike | None = None,
    *,
    window: int,
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, I32]:
    """Return z = D([horizontal, vertical]) of windows of L items.

    Filter f of height i gives max over p of relu(sum_j x[p + j] . w[j d : (j + 1) d, f] + b), j < i, 0 <= p <= L - i,
    in column (i - 1) n_h + f; vertical filter c gives sum_l x[l] w_v[l, c] + b_v[c] in the d columns from
    L n_h + c d on. Tang, Wang, "Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding",
    WSDM 2018.

    Args:
        x: ``(n L, d)``, n windows behind each other; this and the other arrays are converted to contiguous float32
            where they are not.
        w_h: ``(L (L + 1) / 2 d, n_h)``: ``(i d, n_h)`` for the heights i = 1 to L, one below the other.
        b_h: ``(L n_h,)``, height by height.
        w_v: ``(L, n_v)``; n_v may be 0.
        b_v: ``(n_v,)``; None for none.
        window: L.
        dropout: share of z that D sets to 0, in [0, 1); the others are scaled up.
        seed, step, site: which mask; the same in the backward pass.
        out: z, ``(n, L n_h + n_v d) float32``, C-contiguous, to write into; None for a new array.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Returns:
        z ``(n, L n_h + n_v d) float32`` and argmax ``(n, L n_h) int32``, the first position of each maximum, -1 where
        it is 0.

    Raises:
        TypeError: an array holds no real numbers, an integer argument is none, or ``out`` is not float32.
        ValueError: shapes do not fit, a number is not finite, a rate is outside [0, 1), or ``out`` shares memory with
            an input.
    """
    device = backend.place(device, x=x, w_h=w_h, b_h=b_h, w_v=w_v, b_v=b_v, out=out)
    rows, horizontal, vertical, length = _as_windows(x, w_h, w_v, window)
    n, d, n_h, n_v = len(rows) // length, rows.shape[1], horizontal.shape[1], vertical.shape[1]
    biases = as_vector(b_h, "b_h", length * n_h), as_vector(b_v, "b_v", n_v)
    masks = as_dropout(dropout, seed, step, site)
    weights, sizes = (horizontal, biases[0], vertical, biases[1]), (length, n_h, n_v)
    z = as_result(out, (n, length * n_h + n_v * d), rows, (rows, *weights))
    argmax: I32 = home(rows).empty((n, length * n_h), np.int32)
    threads = backend.resolve_threads(n_threads)
    backend.get(device).caser_forward(z, argmax, rows, *weights, *sizes, *masks, threads)
    return z, argmax


def caser_backward(
    dz: ArrayLike,
    argmax: ArrayLike,
    x: ArrayLike,
    w_h: ArrayLike,
    w_v: ArrayLike,
    *,
    window: int,
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> CaserGradients:
    """Return the gradients of ``caser_forward``; sums over windows have a fixed tree.

    Args:
        dz: ``(n, L n_h + n_v d)``, gradient of z.
        argmax: the second result of ``caser_forward``.
        x, w_h, w_v, window, dropout, seed, step, site: as it was given.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Raises:
        TypeError: an array holds no real numbers, ``argmax`` no integers, or an integer argument is none.
        ValueError: shapes do not fit, a number is not finite, ``argmax`` names a place where its filter does not fit,
            or a rate is outside [0, 1).
    """
    device = backend.place(device, dz=dz, argmax=argmax, x=x, w_h=w_h, w_v=w_v)
    rows, horizontal, vertical, length = _as_windows(x, w_h, w_v, window)
    n, d, n_h, n_v = len(rows) // length, rows.shape[1], horizontal.shape[1], vertical.shape[1]
    gradient = as_rows(dz, "dz", (n, length * n_h + n_v * d))
    given = home(argmax).to_host(argmax)
    if given.dtype.kind not in "iu":
        raise TypeError(message("dtype of argmax", given.dtype, "int32"))
    if given.shape != (n, length * n_h):
        raise ValueError(message("shape of argmax", given.shape, f"{(n, length * n_h)}"))
    last = np.repeat(length - np.arange(1, length + 1), n_h)
    if ((given < -1) | (given > last)).any():
        raise ValueError(message("argmax names a place outside its window", mend="pass caser_forward's second result"))
    places = home(rows).asarray(given, np.int32)
    masks = as_dropout(dropout, seed, step, site)
    shapes = (rows.shape, horizontal.shape, (length * n_h,), vertical.shape, (n_v,))
    out = CaserGradients(*(new_rows(rows, *shape) for shape in shapes))
    threads = backend.resolve_threads(n_threads)
    backend.get(device).caser_backward(
        *out, gradient, places, rows, horizontal, vertical, length, n_h, n_v, *masks, threads
    )
    return out
