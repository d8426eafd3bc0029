"""An epoch of skip-gram with negative sampling: vectors of items or words from what stands near them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_indices, as_integer, as_number, on_host
from recsys_fast.ops.gram import all_finite
from recsys_fast.ops.negatives import as_weights, counter
from recsys_fast.ops.topk import as_out

_NO_F32, _NO_F64, _NO_U8 = np.empty(0, np.float32), np.empty(0, np.float64), np.empty(0, np.uint8)
_MOST = 2**20


class SkipgramResult(NamedTuple):
    """What an epoch did.

    Attributes:
        loss: sum over the pairs and their negatives, each before its step.
        n_pairs: trained pairs of a token and a partner.
    """

    loss: float
    n_pairs: int


def skipgram_epoch(
    vectors: NDArray[np.float32],
    contexts: NDArray[np.float32],
    row_ptr: ArrayLike,
    ids: ArrayLike,
    *,
    window: int | None = 5,
    reduced: bool = True,
    most_pairs: int | None = None,
    n_negatives: int = 5,
    n_shared: int = 64,
    keep: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    moves: ArrayLike | None = None,
    tile: int = 16,
    batch: int = 512,
    learning_rate: float = 0.025,
    last_learning_rate: float | None = None,
    seed: int = 0,
    epoch: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> SkipgramResult:
    """Train both tables over rows of tokens, in place (Mikolov et al. 2013; baskets: Barkan, Koenigstein 2016).

    A token and each of its partners j go down ``-log sigmoid(x . y_j)``, x a row of ``vectors`` and y of ``contexts``,
    and ``n_negatives`` negatives per pair down ``-log sigmoid(-x . y_k)``. Tiles of ``tile`` tokens share ``n_shared``
    negatives, which count ``n_negatives * pairs / n_shared`` each and never against their own partners, so that scores
    and steps are matrix products (Ji et al. 2016). All tiles of a round of ``batch`` tokens see the tables of its
    start; their steps are added up in order. The result does not depend on the number of threads.

    Args:
        vectors: ``(n, d) float32``, C-contiguous: the vectors that are wanted; trained in place, where they lie.
        contexts: ``(n, d) float32``: those of tokens as partners; trained in place.
        row_ptr: ``(n_rows + 1,)`` integers; row r is ``ids[row_ptr[r]:row_ptr[r + 1]]``.
        ids: ``(row_ptr[-1],)`` integers from 0 to n - 1.
        window: partners on either side at most; None for all of the row.
        reduced: every token's window is drawn from 1 .. ``window``, as word2vec does; near partners then count more.
        most_pairs: a token with n partners weighs each of its pairs ``min(1, most_pairs / n)``, so that long rows
            neither outweigh all others nor overshoot; None for 1.
        n_negatives: per pair, 0 to 2^20.
        n_shared: negatives of a tile, a multiple of 16 up to 1024.
        keep: ``(n,)`` probability with which a token stays in the epoch; None for all. What is left moves together.
        weights: ``(n,)`` weights that negatives are drawn by, any scale; None for equal ones.
        moves: ``(n,)`` bool: which rows of both tables move; None for all.
        tile: tokens that share negatives, 1 to 64. Every negative moves by the steps of all tokens of its tile at once,
            so that ``tile * learning_rate`` should stay below about 1.
        batch: tokens of a round, at least ``tile``. Large rounds suit many threads; where a token makes up a large
            share of all, too many of its steps come from one state of the tables.
        learning_rate: of the first token.
        last_learning_rate: just after the last one, linear in between; None for ``learning_rate``.
        seed: 0 to 2^64 - 1.
        epoch: 0 to 2^32 - 1; another epoch draws other windows, tokens and negatives.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Raises:
        TypeError: an array of another dtype.
        ValueError: shapes that do not fit, tables that are not finite, a number out of its range.
        IndexError: an id out of range.
    """
    device = backend.place(device, vectors=vectors, contexts=contexts)
    if getattr(vectors, "ndim", 0) != 2:
        raise ValueError(message("dimensions of vectors", getattr(vectors, "ndim", 0), "2"))
    shape = tuple(vectors.shape)
    vectors = as_out(vectors, "vectors", shape, np.float32, ())
    contexts = as_out(contexts, "contexts", shape, np.float32, (vectors,))
    for name, table in (("vectors", vectors), ("contexts", contexts)):
        if not all_finite(table):
            raise ValueError(message(f"{name} hold NaN or infinity", expected="finite numbers"))
    n, _ = shape
    tokens = as_indices(ids, "ids", 0, n)
    rows = _as_row_ptr(row_ptr, tokens)
    reach = max(1, int(np.diff(rows).max(initial=1))) if window is None else _count("window", window, 1, 2**31 - 1)
    shared = _count("n_shared", n_shared, 16, 1024)
    if shared % 16:
        raise ValueError(message("n_shared", shared, "a multiple of 16"))
    width = _count("tile", tile, 1, 64)
    n_tiles = _count("batch", batch, width, 2**20) // width
    rate = as_number(learning_rate, "learning_rate")
    last = rate if last_learning_rate is None else as_number(last_learning_rate, "last_learning_rate")
    if n == 0:
        return SkipgramResult(0.0, 0)
    loss, n_pairs = backend.get(device).skipgram_epoch(
        vectors, contexts, rows, tokens, _as_keep(keep, n),
        _NO_F64 if weights is None else np.cumsum(as_weights(weights, n)), _as_moves(moves, n), reach,
        bool(reduced), 2**31 - 1 if most_pairs is None else _count("most_pairs", most_pairs, 1, 2**31 - 1),
        _count("n_negatives", n_negatives, 0, _MOST), shared, width, n_tiles,
        rate, last, counter(seed, "seed", 64), counter(epoch, "epoch", 32), backend.resolve_threads(n_threads),
    )  # fmt: skip
    return SkipgramResult(float(loss), int(n_pairs))


def _count(name: str, value: Any, low: int, high: int) -> int:
    number = as_integer(value, name)
    if not low <= number <= high:
        raise ValueError(message(name, number, f"{low} to {high}"))
    return number


def _as_row_ptr(row_ptr: ArrayLike, tokens: NDArray[np.int32]) -> NDArray[np.int64]:
    rows = on_host(row_ptr)
    if tokens.ndim != 1 or rows.ndim != 1 or not len(rows):
        raise ValueError(message("dimensions of row_ptr and ids", (rows.ndim, tokens.ndim), "1, at least one element"))
    if rows.dtype.kind not in "iu":
        raise TypeError(message("dtype of row_ptr", rows.dtype, "an integer dtype"))
    rows = np.ascontiguousarray(rows, np.int64)
    if rows[0] != 0 or rows[-1] != len(tokens) or (np.diff(rows) < 0).any():
        raise ValueError(message("row_ptr", f"from {rows[0]} to {rows[-1]}", f"ascending from 0 to {len(tokens)}"))
    return rows


def _as_keep(keep: ArrayLike | None, n: int) -> NDArray[np.float32]:
    if keep is None:
        return _NO_F32
    array = np.asarray(keep)
    if array.shape != (n,) or array.dtype.kind not in "biuf":
        raise ValueError(message("keep", f"{array.dtype} {array.shape}", f"one probability per row, ({n},)"))
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(message("keep", "a number out of range", "probabilities from 0 to 1"))
    return np.ascontiguousarray(array, np.float32)


def _as_moves(moves: ArrayLike | None, n: int) -> NDArray[np.uint8]:
    if moves is None:
        return _NO_U8
    array = np.asarray(moves)
    if array.shape != (n,) or array.dtype.kind != "b":
        raise ValueError(message("moves", f"{array.dtype} {array.shape}", f"bool, ({n},)"))
    return np.ascontiguousarray(array).view(np.uint8)
