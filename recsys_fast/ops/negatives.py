"""Sampled negatives, and the random numbers behind every sampler."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_indices, as_integer
from recsys_fast.ops.csr import as_csr
from recsys_fast.ops.topk import as_out

_EMPTY_F64 = np.empty(0, np.float64)
_MAX_NEGATIVES = 2**27 - 1  # 32 draws each, numbered in 32 bits


def counter(value: Any, name: str, bits: int) -> int:
    """Return ``value`` as an int of at most ``bits`` bits."""
    number = as_integer(value, name)
    if not 0 <= number < 2**bits:
        raise ValueError(message(name, number, f"0 to 2**{bits} - 1"))
    return number


def _users(users: ArrayLike, n_users: int) -> NDArray[np.int32]:
    array = np.atleast_1d(np.asarray(users))
    if array.ndim != 1:
        raise ValueError(message("dimensions of users", array.ndim, "1"))
    return as_indices(array, "users", 0, n_users)


def as_weights(weights: ArrayLike, n_items: int, name: str = "weights") -> NDArray[np.float64]:
    """Return weights of items over their largest, in float64.

    Raises:
        TypeError: not numbers.
        ValueError: not one per item, negative, not finite, or all zero.
    """
    array = np.asarray(weights)
    if array.shape != (n_items,):
        raise ValueError(message(f"shape of {name}", array.shape, f"one weight per item, ({n_items},)"))
    if array.dtype.kind not in "biuf":
        raise TypeError(message(f"dtype of {name}", array.dtype, "bool, integer or floating point"))
    array = array.astype(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if len(wrong):
        raise ValueError(message(f"{name}[{int(wrong[0])}]", array[wrong[0]], "a finite number, 0 or more"))
    largest = array.max(initial=0.0)
    if n_items and largest == 0:
        raise ValueError(message(name, "only zeros", "at least one above 0"))
    return np.asarray(array / largest)


def sample_negatives(
    matrix: Any,
    users: ArrayLike,
    n: int,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    epoch: int = 0,
    out: NDArray[np.int32] | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> NDArray[np.int32]:
    """Draw items that the users have not interacted with: verified, with replacement.

    Uniform draws pick a rank among the absent items (bias below n_items / 2^32). Weighted draws invert the running
    sums of the weights, at most 15 times until an item is absent, and then walk the row's gaps: the distribution is the
    same, and it always ends.

    Args:
        matrix: ``(n_users, n_items)`` sparse matrix, ``Csr`` or ``Interactions``: the positives; every stored entry
            counts, whatever its value.
        users: ``(m,)`` integers, or one; the same user may occur often.
        n: negatives per user.
        weights: ``(n_items,)`` numbers, 0 or more, such as ``popularity**0.75``; None is uniform. Any scale.
        seed: 0 to 2^64 - 1.
        epoch: 0 to 2^32 - 1; another epoch gives other negatives of the same seed.
        out: ``(m, n) int32``, C-contiguous, to write into; None for a new array.
        device: backend; all give the same negatives.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ``(m, n) int32``, ``out`` where it was given; row i depends on (seed, epoch, i) and on the user's row. -1 where
        the user has every item, or every item of a positive weight.

    Raises:
        TypeError: not a sparse matrix, users that are not integers, ``out`` is not int32.
        ValueError: negative weight, a matrix that ``as_csr`` refuses, ``out`` of another shape, not contiguous,
            read-only, or sharing memory with an input.
        IndexError: an unknown user.
    """
    csr = as_csr(matrix, device=device, n_threads=n_threads)
    n = counter(n, "n", 32)
    if n > _MAX_NEGATIVES:
        raise ValueError(message("n", n, f"at most {_MAX_NEGATIVES}"))
    user = _users(users, csr.n_rows)
    # Running sums, left to right, so that they have the same bits everywhere.
    cdf = _EMPTY_F64 if weights is None else np.cumsum(as_weights(weights, csr.n_cols))
    drawn = as_out(out, "out", (len(user), n), np.int32, (user, csr.row_ptr, csr.col_idx))
    backend.get(device).sample_negatives(
        drawn, user, csr.row_ptr, csr.col_idx, cdf, csr.n_cols, counter(seed, "seed", 64), counter(epoch, "epoch", 32),
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return drawn


def negatives_draw(
    n: int,
    n_items: int,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    epoch: int = 0,
    first: int = 0,
    out: NDArray[np.int32] | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> NDArray[np.int32]:
    """Draw items without verification, with replacement: candidates that a batch shares may be anybody's positives.

    Draw number i of (seed, epoch) is a function of these alone, so that any piece of a stream can be drawn apart.

    Args:
        n: number of draws.
        n_items: number of items, 1 to 2^31 - 1.
        weights: ``(n_items,)`` numbers, 0 or more, such as ``popularity**0.5``; None is uniform. Any scale.
        seed: 0 to 2^64 - 1.
        epoch: 0 to 2^32 - 1.
        first: number of the first draw, 0 to 2^62 - 1.
        out: ``(n,) int32``, C-contiguous, to write into, also on a GPU; None for a new array.
        device: backend; all give the same draws.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ``(n,) int32``; ``out`` where it was given.

    Raises:
        TypeError: not numbers, or ``out`` is not int32.
        ValueError: a negative weight, only zeros, a number out of its range, or ``out`` of another shape.
    """
    n, n_items, first = counter(n, "n", 48), counter(n_items, "n_items", 31), counter(first, "first", 62)
    if n_items == 0:
        raise ValueError(message("n_items", 0, "at least 1"))
    cdf = _EMPTY_F64 if weights is None else np.cumsum(as_weights(weights, n_items))
    device = backend.place(device, out=out)
    drawn = as_out(out, "out", (n,), np.int32, ())
    backend.get(device).negatives_draw(
        drawn, cdf, n_items, counter(seed, "seed", 64), counter(epoch, "epoch", 32), first,
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return drawn


def philox_draw(
    n: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    first_sample: int = 0,
    k: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> NDArray[np.uint32]:
    """Return the random words behind every sampler: the k-th draw of n samples in a row (Philox4x32-10).

    Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011. The counter is (sample, epoch,
    k // 4), the key is the seed, and the draw is word k % 4.

    Args:
        n: number of samples.
        seed: 0 to 2^64 - 1.
        epoch: 0 to 2^32 - 1.
        first_sample: 0 to 2^64 - 1; samples count on from here, modulo 2^64.
        k: 0 to 2^32 - 1, which draw of each sample.
        device: backend; all give the same bits.
        n_threads: number of threads.

    Returns:
        ``(n,) uint32``, each value equally likely.
    """
    out = np.empty(counter(n, "n", 48), np.uint32)
    backend.get(device).philox_draw(
        out, counter(seed, "seed", 64), counter(epoch, "epoch", 32), counter(first_sample, "first_sample", 64),
        counter(k, "k", 32), backend.resolve_threads(n_threads),
    )  # fmt: skip
    return out


def philox_rows(
    samples: ArrayLike,
    n: int,
    *,
    first: ArrayLike = 0,
    seed: int = 0,
    epoch: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> NDArray[np.uint32]:
    """Return n random words of each sample: row i holds draws ``first[i]`` to ``first[i] + n - 1`` of ``samples[i]``.

    The words are those of ``philox_draw``; a row costs a quarter of its words, as four come at a time.

    Args:
        samples: ``(m,)`` integers, 0 to 2^63 - 1, in any order.
        n: words per sample.
        first: ``(m,)`` integers or one for all, 0 to 2^32 - n: number of the first draw.
        seed: 0 to 2^64 - 1.
        epoch: 0 to 2^32 - 1.
        device: backend; all give the same bits.
        n_threads: number of threads.

    Returns:
        ``(m, n) uint32``, each value equally likely.

    Raises:
        TypeError: not integers.
        ValueError: an argument out of its range, or ``first`` of another length.
    """
    n = counter(n, "n", 32)
    sample = _integers(samples, "samples", 2**63 - 1).astype(np.int64)
    start = _integers(first, "first", 2**32 - n).astype(np.uint32)
    if len(start) not in (1, len(sample)):
        raise ValueError(message("length of first", len(start), f"{len(sample)}, one per sample, or one number"))
    out = np.empty((len(sample), n), np.uint32)
    backend.get(device).philox_rows(
        out, sample, np.ascontiguousarray(np.broadcast_to(start, sample.shape)), counter(seed, "seed", 64),
        counter(epoch, "epoch", 32), backend.resolve_threads(n_threads),
    )  # fmt: skip
    return out


def _integers(values: ArrayLike, name: str, high: int) -> NDArray[Any]:
    """Return integers as a 1-D array after checking that none is below 0 or above ``high``."""
    array = np.atleast_1d(np.asarray(values))
    if array.ndim != 1:
        raise ValueError(message(f"dimensions of {name}", array.ndim, "1"))
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(message(f"dtype of {name}", array.dtype, "an integer dtype"))
    if array.size and (int(array.min()) < 0 or int(array.max()) > high):
        at = int(np.flatnonzero((array < 0) | (array > high))[0])
        raise ValueError(message(f"{name}[{at}]", int(array[at]), f"0 to {high}"))
    return array
