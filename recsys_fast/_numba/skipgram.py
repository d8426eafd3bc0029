"""Skip-gram with negative sampling over rows of tokens; the shapes are in ``recsys_fast.ops``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.negatives import negatives_draw
from recsys_fast._numba.parallel import inputs, parallel, serial, threads
from recsys_fast._numba.rng import Int, draw4, to_range

Floats = NDArray[Any]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

_PARTNERS = 128  # of a tile; where there are more, another tile has them
_ROUNDS = 64  # between two looks at Ctrl-C


@parallel
def _draw_reach(reach: I32, ids: I32, keep: Floats, window: int, reduced: bool, seed: Int, epoch: int) -> None:
    """Fill in how far each token looks, 0 for one that goes."""
    for e in prange(len(ids)):
        words = draw4(seed, epoch, e, 0)
        if len(keep) and float(words[0]) >= float(keep[ids[e]]) * 4294967296.0:
            reach[e] = 0
        else:
            reach[e] = 1 + to_range(words[1], window) if reduced else window


@serial
def _stream(tokens: I32, low: I64, high: I64, row_ptr: I64, ids: I32, reach: I32) -> int:
    """Fill in the tokens that stay, and the range that each is paired with; return their number."""
    n = 0
    for row in range(len(row_ptr) - 1):
        begin = n
        for e in range(row_ptr[row], row_ptr[row + 1]):
            if reach[e] > 0:
                tokens[n], low[n], high[n] = ids[e], max(begin, n - reach[e]), n + reach[e] + 1
                n += 1
        for i in range(begin, n):
            high[i] = min(high[i], n)
        if n - begin == 1:  # nobody to be paired with
            n -= 1
    return n


@serial
def _cut(tiles: I64, low: I64, high: I64, width: int, n_tokens: int) -> int:
    """Fill in (begin, end, first, last) of every tile if ``tiles`` has rows; return their number."""
    n = 0
    for begin in range(0, n_tokens, width):
        end = min(n_tokens, begin + width)
        first, last = low[begin:end].min(), high[begin:end].max()
        while first < last:
            stop, a, b = min(last, first + _PARTNERS), begin, end
            while a < b and (high[a] <= first or low[a] >= stop):
                a += 1
            while a < b and (high[b - 1] <= first or low[b - 1] >= stop):
                b -= 1
            if a < b:
                if len(tiles):
                    tiles[n] = a, b, first, stop
                n += 1
            first = stop
    return n


class _Plan(NamedTuple):
    """What an epoch goes through: tokens that stay ``(m,)``, their ranges ``(m,)``, and the tiles ``(n_tiles, 4)``."""

    tokens: I32
    low: I64
    high: I64
    tiles: I64


def _plan(
    row_ptr: I64, ids: I32, keep: Floats, window: int, reduced: bool, width: int, seed: np.uint64, epoch: int
) -> _Plan:
    reach, tokens = np.empty(len(ids), np.int32), np.empty(len(ids), np.int32)
    low, high = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64)
    _draw_reach(reach, ids, keep, window, reduced, seed, epoch)
    n = _stream(tokens, low, high, row_ptr, ids, reach)
    tiles = np.empty((_cut(np.empty((0, 4), np.int64), low, high, width, n), 4), np.int64)
    _cut(tiles, low, high, width, n)
    return _Plan(tokens[:n], low[:n], high[:n], tiles)


@serial
def _softplus(x: float) -> float:
    return max(x, 0.0) + float(np.log1p(np.exp(-abs(x))))


@serial
def _tile(
    dx: Floats, dy: Floats, dz: Floats, tile: I64, vectors: Floats, contexts: Floats, tokens: I32, low: I64, high: I64,
    negatives: I32, most_pairs: int, n_negatives: int, rate: float,
) -> tuple[float, int]:  # fmt: skip
    """Overwrite the steps of one tile: of its tokens, of their partners, of the negatives; return loss and pairs."""
    begin, end, first, last = tile
    d, n_shared = vectors.shape[1], len(negatives)
    dx[: end - begin] = 0
    dy[: last - first] = 0
    dz[:] = 0
    score, own, loss, n_all = np.empty(n_shared, vectors.dtype), np.empty(d, vectors.dtype), 0.0, 0
    columns = np.empty((d, n_shared), vectors.dtype)
    for k in range(n_shared):
        columns[:, k] = contexts[negatives[k]]
    for i in range(begin, end):
        own[:] = vectors[tokens[i]]
        score[:] = 0
        for c in range(d):
            for k in range(n_shared):
                score[k] += own[c] * columns[c, k]
        n_pairs, share = 0, min(1.0, most_pairs / (high[i] - low[i] - 1))
        step = dx[i - begin]
        for j in range(max(low[i], first), min(high[i], last)):
            if j == i:
                continue
            n_pairs += 1
            partner = contexts[tokens[j]]
            s = 0.0
            for c in range(d):
                s += own[c] * partner[c]
            loss += share * _softplus(-s)
            g = vectors.dtype.type(share * rate / (1.0 + np.exp(s)))
            for c in range(d):
                step[c] += g * partner[c]
                dy[j - first, c] += g * own[c]
            for k in range(n_shared):
                if negatives[k] == tokens[j]:
                    score[k] = -np.inf  # a partner does not count against the token
        n_all += n_pairs
        weight = share * n_negatives * n_pairs / n_shared
        for k in range(n_shared):
            if weight > 0.0 and score[k] > -np.inf:
                loss += weight * _softplus(score[k])
                g = vectors.dtype.type(-rate * weight / (1.0 + np.exp(-score[k])))
                negative = contexts[negatives[k]]
                for c in range(d):
                    step[c] += g * negative[c]
                    dz[k, c] += g * own[c]
    return loss, n_all


@serial
def _merge(share: int, n_shares: int, table: Floats, ids: I32, steps: Floats, moves: U8) -> None:
    for i in range(len(ids)):
        if ids[i] % n_shares == share and (len(moves) == 0 or moves[ids[i]]):
            for c in range(table.shape[1]):
                table[ids[i], c] += steps[i, c]


@parallel
def _rounds(
    vectors: Floats, contexts: Floats, tokens: I32, low: I64, high: I64, tiles: I64, negatives: I32, moves: U8,
    dx: Floats, dy: Floats, dz: Floats, first_rate: float, last_rate: float, most_pairs: int, n_negatives: int,
    n_shares: int, totals: F64,
) -> None:  # fmt: skip
    """Train tiles, as many at once as there is room for steps; each round sees the tables of its start."""
    per_round = len(dx)
    for first in range(0, len(tiles), per_round):
        n = min(per_round, len(tiles) - first)
        for t in prange(n):
            tile = tiles[first + t]
            rate = first_rate + (last_rate - first_rate) * (tile[0] / len(tokens))
            totals[first + t, 0], totals[first + t, 1] = _tile(
                dx[t], dy[t], dz[t], tile, vectors, contexts, tokens, low, high, negatives[first + t], most_pairs,
                n_negatives, rate,
            )  # fmt: skip
        for share in prange(n_shares):
            for t in range(n):
                tile = tiles[first + t]
                _merge(share, n_shares, vectors, tokens[tile[0] : tile[1]], dx[t], moves)
                _merge(share, n_shares, contexts, tokens[tile[2] : tile[3]], dy[t], moves)
                _merge(share, n_shares, contexts, negatives[first + t], dz[t], moves)


def skipgram_epoch(
    vectors: Floats, contexts: Floats, row_ptr: I64, ids: I32, keep: Floats, cdf: F64, moves: U8, window: int,
    reduced: bool, most_pairs: int, n_negatives: int, n_shared: int, tile: int, n_tiles: int,
    learning_rate: float, last_learning_rate: float, seed: int, epoch: int, n_threads: int,
) -> tuple[float, int]:  # fmt: skip
    """Descend the loss of all pairs; rounds of tiles in order, hence the same bits for any number of threads."""
    row_ptr, ids, keep, cdf, moves = inputs(row_ptr, ids, keep, cdf, moves)
    (n, d), key = vectors.shape, np.uint64(seed)
    with threads(n_threads):
        plan = _plan(row_ptr, ids, keep, window, reduced, tile, key, epoch)
        dx, dy, dz = (np.empty((n_tiles, k, d), vectors.dtype) for k in (tile, _PARTNERS, n_shared))
        totals = np.zeros((len(plan.tiles), 2))
        for begin in range(0, len(plan.tiles), n_tiles * _ROUNDS):
            piece = slice(begin, begin + n_tiles * _ROUNDS)
            tiles = plan.tiles[piece]
            negatives = np.empty((len(tiles), n_shared), np.int32)
            negatives_draw(negatives.reshape(-1), cdf, n, seed, epoch, begin * n_shared, n_threads)
            _rounds(
                vectors, contexts, plan.tokens, plan.low, plan.high, tiles, negatives, moves, dx, dy, dz,
                float(learning_rate), float(last_learning_rate), most_pairs, n_negatives, n_threads, totals[piece],
            )  # fmt: skip
    loss, pairs = totals.sum(axis=0) if len(totals) else (0.0, 0.0)
    return float(loss), int(pairs)
