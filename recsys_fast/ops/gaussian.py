"""Normal samples whose parameters a network computes, and their divergence from N(0, 1)."""

from __future__ import annotations

from numpy.typing import ArrayLike

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_number
from recsys_fast.ops.block_arguments import F32, as_masks, as_rows, new_rows


def _as_stats(stats: ArrayLike) -> F32:
    rows = as_rows(stats, "stats")
    if rows.shape[1] % 2 or rows.shape[1] == 0:
        raise ValueError(message("columns of stats", rows.shape[1], "an even number: means, then log variances"))
    return rows


def gaussian_forward(
    stats: ArrayLike,
    *,
    noise: bool = True,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, float]:
    """Return z = mu + sigma noise, and the sum over the rows of KL(N(mu, sigma^2) || N(0, 1)).

    The reparametrisation of Kingma & Welling (2014), with v = log sigma^2: KL = 1/2 sum (e^v + mu^2 - 1 - v).

    Args:
        stats: ``(n, 2 k)``: k means, then k log variances.
        noise: whether to draw; without, z = mu.
        seed, step, site: which random numbers; element (t, c) is a function of t, c and these.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Returns:
        z ``(n, k) float32`` and the divergence, infinite where a log variance exceeds 709.

    Raises:
        TypeError: no real numbers, or seed, step or site is no integer.
        ValueError: an odd number of columns, or a number is not finite.
    """
    device = backend.place(device, stats=stats)
    given, masks = _as_stats(stats), as_masks(seed, step, site)
    z = new_rows(given, len(given), given.shape[1] // 2)
    threads = backend.resolve_threads(n_threads)
    return z, float(backend.get(device).gaussian_forward(z, given, bool(noise), *masks, threads))


def gaussian_backward(
    dz: ArrayLike,
    stats: ArrayLike,
    *,
    kl_weight: float = 0.0,
    noise: bool = True,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Return the gradient of the stats: that of z, and ``kl_weight`` times that of the divergence.

    Args:
        dz: ``(n, k)``, gradient of z.
        stats: what ``gaussian_forward`` was given.
        kl_weight: factor of the divergence in the loss.
        noise, seed, step, site: as there.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Returns:
        ``(n, 2 k) float32``.

    Raises:
        TypeError: no real numbers, or seed, step or site is no integer.
        ValueError: shapes do not fit, or a number is not finite.
    """
    device = backend.place(device, dz=dz, stats=stats)
    given, masks = _as_stats(stats), as_masks(seed, step, site)
    upper = as_rows(dz, "dz", (len(given), given.shape[1] // 2))
    weight, out = as_number(kl_weight, "kl_weight"), new_rows(given, *given.shape)
    threads = backend.resolve_threads(n_threads)
    backend.get(device).gaussian_backward(out, upper, given, weight, bool(noise), *masks, threads)
    return out
