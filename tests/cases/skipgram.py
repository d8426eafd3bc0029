"""Skip-gram epochs: small rows of tokens, and the epoch as straightforward float64 code."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from recsys_fast import ops


class Case(NamedTuple):
    """Rows over ``n`` tokens, tables of width ``d``, and the options of an epoch."""

    lengths: tuple[int, ...]
    n: int
    d: int
    options: dict[str, Any]


_LONG = (0, 1, 2, 5, 0, 30, 7, 1, 12)
CASES = {
    "windows": Case(_LONG, 40, 5, {}),
    "whole-windows": Case(_LONG, 40, 16, {"reduced": False, "window": 3}),
    "baskets": Case(_LONG, 40, 8, {"window": None, "reduced": False}),
    "long-baskets": Case((150, 3, 200), 60, 6, {"window": None, "reduced": False, "most_pairs": 16, "tile": 64}),
    "wide": Case((90, 4, 70), 300, 200, {"n_shared": 32, "tile": 64, "batch": 128}),
    "subsampled": Case(_LONG, 12, 9, {"keep": np.linspace(0.1, 1.0, 12)}),
    "weighted": Case(_LONG, 30, 4, {"weights": np.arange(30.0) ** 0.75, "n_negatives": 2}),
    "decay": Case(_LONG, 30, 4, {"learning_rate": 0.05, "last_learning_rate": 0.001, "tile": 3, "batch": 8}),
    "some-move": Case(_LONG, 20, 7, {"moves": np.arange(20) % 3 == 0}),
    "no-negatives": Case(_LONG, 20, 7, {"n_negatives": 0}),
    "many-rounds": Case((40,) * 9, 25, 3, {"batch": 20, "window": 2}),
    "one-token": Case((3, 4), 1, 2, {}),
    "nothing": Case((0, 1, 0), 5, 3, {}),
}


def make(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return vectors, contexts, row_ptr and ids."""
    rng = np.random.default_rng(len(case.lengths) + case.n)
    tables = rng.normal(0, 0.4, (2, case.n, case.d)).astype(np.float32)
    row_ptr = np.concatenate([[0], np.cumsum(case.lengths)])
    ids = (case.n * rng.random(row_ptr[-1]) ** 2).astype(np.int32)
    return tables[0], tables[1], row_ptr, ids


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, x)


def reference(
    vectors: np.ndarray, contexts: np.ndarray, row_ptr: np.ndarray, ids: np.ndarray, *, window: int | None = 5,
    reduced: bool = True, most_pairs: float = np.inf, n_negatives: int = 5, n_shared: int = 64, keep: Any = None,
    weights: Any = None, moves: Any = None, tile: int = 16, batch: int = 512, learning_rate: float = 0.025,
    last_learning_rate: float | None = None, seed: int = 0, epoch: int = 0,
) -> tuple[np.ndarray, np.ndarray, float, int]:  # fmt: skip
    """Return both tables after the epoch, the loss and the number of pairs."""
    x, y = vectors.astype(np.float64), contexts.astype(np.float64)
    last_rate = learning_rate if last_learning_rate is None else last_learning_rate
    reach_all = max(1, int(np.diff(row_ptr).max(initial=1))) if window is None else window
    tokens: list[int] = []
    spans: list[tuple[int, int]] = []
    for row in range(len(row_ptr) - 1):
        kept = []
        for e in range(row_ptr[row], row_ptr[row + 1]):
            words = ops.philox_rows([e], 2, seed=seed, epoch=epoch)[0]
            if keep is None or words[0] < float(np.float32(keep[ids[e]])) * 2.0**32:
                kept.append((int(ids[e]), 1 + (int(words[1]) * reach_all >> 32) if reduced else reach_all))
        start = len(tokens)
        if len(kept) > 1:
            for place, (token, reach) in enumerate(kept):
                tokens.append(token)
                spans.append((start + max(0, place - reach), start + min(len(kept), place + reach + 1)))
    tiles = []
    width = tile
    for begin in range(0, len(tokens), width):
        inside = range(begin, min(len(tokens), begin + width))
        first, last = min(spans[i][0] for i in inside), max(spans[i][1] for i in inside)
        for a in range(first, last, 128):
            b = min(last, a + 128)
            own = [i for i in inside if spans[i][0] < b and spans[i][1] > a]
            if own:
                tiles.append((range(own[0], own[-1] + 1), a, b))
    loss, n_pairs, per_round = 0.0, 0, batch // tile
    for start in range(0, len(tiles), per_round):
        dx, dy = np.zeros_like(x), np.zeros_like(y)
        for number, (inside, a, b) in enumerate(tiles[start : start + per_round], start):
            negatives = ops.negatives_draw(
                n_shared, len(x), weights=weights, seed=seed, epoch=epoch, first=number * n_shared
            )
            rate = learning_rate + (last_rate - learning_rate) * inside[0] / len(tokens)
            for i in inside:
                partners = [j for j in range(max(a, spans[i][0]), min(b, spans[i][1])) if j != i]
                names = [tokens[j] for j in partners]
                n_pairs += len(partners)
                share = min(1.0, most_pairs / (spans[i][1] - spans[i][0] - 1))
                for name in names:
                    s = x[tokens[i]] @ y[name]
                    loss += share * _softplus(-s)
                    dx[tokens[i]] += share * rate / (1 + np.exp(s)) * y[name]
                    dy[name] += share * rate / (1 + np.exp(s)) * x[tokens[i]]
                weight = share * n_negatives * len(partners) / n_shared
                for name in negatives.tolist():
                    if name not in names:
                        s = x[tokens[i]] @ y[name]
                        loss += weight * _softplus(s)
                        dx[tokens[i]] -= weight * rate / (1 + np.exp(-s)) * y[name]
                        dy[name] -= weight * rate / (1 + np.exp(-s)) * x[tokens[i]]
        mask = np.ones(len(x), bool) if moves is None else np.asarray(moves)
        x[mask] += dx[mask]
        y[mask] += dy[mask]
    return x, y, float(loss), n_pairs
