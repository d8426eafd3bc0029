"""Layer norm, forward and backward."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.ops.block_arguments import as_eps, as_input, as_result, as_rows, as_vector, new_rows

F32 = NDArray[np.float32]


class LayerNormGradients(NamedTuple):
    """Gradients: dx ``(T, d) float32``, dgamma and dbeta ``(d,) float32``."""

    dx: F32
    dgamma: F32
    dbeta: F32


def layer_norm_forward(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    eps: float = 1e-5,
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, F32]:
    """Return y = gamma (x - mean) / sqrt(variance + eps) + beta, row by row (Ba, Kiros, Hinton 2016).

    Args:
        x: ``(T, d)``, converted to contiguous float32 where it is not; T may be 0, d may not.
        gamma: ``(d,)``.
        beta: ``(d,)``.
        eps: added to the variance; above 0.
        out: ``(T, d) float32``, C-contiguous, to write into; None for a new array.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Returns:
        y ``(T, d) float32``, and stats ``(T, 2) float32``: mean and 1 / sqrt(variance + eps), for the backward pass.

    Raises:
        TypeError: an array that holds no real numbers, or ``out`` is not float32.
        ValueError: shapes that do not fit, numbers that are not finite, or ``out`` shares memory with an input.
    """
    device = backend.place(device, x=x, gamma=gamma, beta=beta, out=out)
    rows = as_input(x)
    d = rows.shape[1]
    scale, shift = as_vector(gamma, "gamma", d), as_vector(beta, "beta", d)
    y, stats = as_result(out, rows.shape, rows, (rows, scale, shift)), new_rows(rows, len(rows), 2)
    threads = backend.resolve_threads(n_threads)
    backend.get(device).layer_norm_forward(y, stats, rows, scale, shift, as_eps(eps), threads)
    return y, stats


def layer_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    stats: ArrayLike,
    gamma: ArrayLike,
    *,
    device: str = "auto",
    n_threads: int | None = None,
) -> LayerNormGradients:
    """Return the gradients of ``layer_norm_forward``'s x, gamma and beta.

    Args:
        dy: ``(T, d)``, the gradient of y.
        x: ``(T, d)``, as in the forward pass.
        stats: ``(T, 2)``, from the forward pass.
        gamma: ``(d,)``.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Raises:
        TypeError: an array that holds no real numbers.
        ValueError: shapes that do not fit, or numbers that are not finite.
    """
    device = backend.place(device, dy=dy, x=x, stats=stats, gamma=gamma)
    rows = as_input(x)
    n, d = rows.shape
    given, kept = as_rows(dy, "dy", (n, d)), as_rows(stats, "stats", (n, 2))
    scale = as_vector(gamma, "gamma", d)
    result = LayerNormGradients(new_rows(rows, n, d), new_rows(rows, d), new_rows(rows, d))
    threads = backend.resolve_threads(n_threads)
    backend.get(device).layer_norm_backward(*result, given, rows, kept, scale, threads)
    return result
