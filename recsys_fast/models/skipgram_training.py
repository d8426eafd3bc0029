"""Epochs of skip-gram over the rows of a model: what is drawn how often, how large rounds are, rates by epoch."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast import backend
from recsys_fast.data.epoch_random import EpochRandom
from recsys_fast.models import inputs
from recsys_fast.ops.unchecked import run_unchecked

if TYPE_CHECKING:
    from recsys_fast.models.item2vec import Item2Vec

F32 = NDArray[np.float32]
_LARGEST_TILE, _MOST_SHARED, _LARGEST_ROUND = 64, 64, 1024
_MOST_PAIRS = 16  # that a token of a whole basket counts as
_ORDER = 0x736B6970  # random words of their own: seed and epoch also draw windows and negatives


def keep_probability(counts: NDArray[np.int64], sample: float) -> F32:
    """Return how likely a token stays, ``sqrt(sample / f) + sample / f`` of its share f (word2vec); empty for all.

    Args:
        counts: ``(n,)`` occurrences.
        sample: share up to which all stay; 0 for no bound.
    """
    total = int(counts.sum())
    if sample == 0 or total == 0:
        return np.empty(0, np.float32)
    ratio = sample * total / np.maximum(counts, 1).astype(np.float64)
    keep = np.minimum(1.0, np.sqrt(ratio) + ratio).astype(np.float32)
    return keep if (keep < 1).any() else np.empty(0, np.float32)


def round_sizes(
    shares: tuple[float, float], rate: float, pairs: float, n_negatives: int, n_shared: int
) -> tuple[int, int]:
    """Return the tokens of a tile and the tiles of a round.

    All steps of a round come from one state of the tables, so that a row which many of them move would overshoot: a
    negative, which is moved by every token of its tile, and the commonest token. Neither is to be moved by steps whose
    rates add up to more than 1 (the curvature of a step is a quarter of a squared length at most).

    Args:
        shares: of the commonest token among tokens, and of the commonest negative among negatives.
        rate: the learning rate at its highest.
        pairs: of a token, on average.
        n_negatives: per pair.
        n_shared: negatives of a tile.
    """
    weight = max(1.0, n_negatives * pairs / n_shared)
    tile = float(np.clip(1.0 / (rate * weight), 4, _LARGEST_TILE))
    moved = rate * pairs * (2.0 * shares[0] + n_negatives * shares[1])  # by one token of the round
    size = float(np.clip(1.0 / max(moved, 1e-9), 1, _LARGEST_ROUND))
    tile = min(tile, size)
    return int(tile), max(1, int(size) // int(tile))


def _largest_share(weights: NDArray[Any]) -> float:
    return float(weights.max() / weights.sum()) if weights.sum() > 0 else 1.0


class SkipgramEpochs:
    """The epochs of a model, as ``SgdTrainer`` runs them.

    Args:
        model: its parameters, and its rows: ``_events`` where order counts, else ``_matrix``.
        vectors: ``(n_items, d) float32``, trained in place.
        contexts: likewise.
        only: items that move, on the rows that have them; None for all.
    """

    def __init__(self, model: Item2Vec, vectors: F32, contexts: F32, only: NDArray[np.int32] | None = None) -> None:
        self.model, self.tables = model, (vectors, contexts)
        events, matrix = model._events, model._matrix
        self.row_ptr = matrix.row_ptr if events is None else events.row_ptr
        self.ids = matrix.col_idx if events is None else events.items
        counts = np.bincount(self.ids, minlength=len(vectors))
        self.keep = keep_probability(counts, model.sample)
        weights = np.where(counts > 0, np.maximum(counts, 1).astype(np.float64) ** model.negative_exponent, 0.0)
        self.cdf = np.cumsum(weights / weights.max()) if weights.any() else np.empty(0)
        self.moves = np.empty(0, np.uint8)
        if only is not None:
            self.moves = np.zeros(len(vectors), np.uint8)
            self.moves[only] = 1
            having = np.add.reduceat(np.append(self.moves[self.ids], 0), self.row_ptr[:-1])
            rows = np.flatnonzero((having > 0) & (np.diff(self.row_ptr) > 0))
            part = inputs.take_rows(matrix, rows)
            self.row_ptr, self.ids = part.row_ptr, part.col_idx
        self.shuffled = events is None and model.window is not None
        longest = int(np.diff(self.row_ptr).max(initial=1))
        self.window = max(1, longest if model.window is None else min(model.window, longest))
        partners = self._partners()
        self.n_shared = int(np.clip(16 * round(model.n_negatives * partners / 16), 16, _MOST_SHARED))
        left = counts.astype(np.float64) * (self.keep if len(self.keep) else 1.0)
        shares = _largest_share(left), _largest_share(weights)
        self.tile, self.n_tiles = round_sizes(shares, model.learning_rate, partners, model.n_negatives, self.n_shared)

    def _partners(self) -> float:
        """Return about how many pairs a token counts as: the mean over tokens."""
        lengths = np.diff(self.row_ptr).astype(np.float64)
        mean = float((lengths**2).sum() / max(1.0, lengths.sum())) - 1.0
        if self.model.window is None:
            return max(1.0, min(mean, _MOST_PAIRS))
        return max(1.0, min(mean, self.window + 1 if self.model.reduced else 2 * self.window))

    def placed(self) -> SkipgramEpochs:
        """Return the same with copies of all arrays on the model's device; itself on the CPU."""
        if not backend.resolve_device(self.model.device).startswith("cuda"):
            return self
        asarray, there = backend.arrays(self.model.device).asarray, copy.copy(self)
        there.tables = asarray(self.tables[0]), asarray(self.tables[1])
        there.keep, there.cdf, there.moves = map(asarray, (self.keep, self.cdf, self.moves))
        if not self.shuffled:  # which happens in host memory
            there.row_ptr, there.ids = asarray(self.row_ptr), asarray(self.ids)
        return there

    def fetch(self, tables: tuple[F32, F32]) -> None:
        """Copy the tables of ``placed()`` back into ``tables``."""
        if self.tables is not tables:
            for target, source in zip(tables, self.tables, strict=True):
                np.copyto(target, backend.arrays(self.model.device).to_host(source))

    def run(self, epoch: int) -> tuple[float, int, int]:
        """Train one epoch; return the sum of the loss, the number of pairs, and 0."""
        model, ids = self.model, self.ids
        if self.shuffled:
            random = EpochRandom(model.seed_ ^ _ORDER, epoch, model.device, model.n_threads)
            ids = ids[random.within(self.row_ptr, 0)]
        first, last = (
            model.learning_rate + (model.min_learning_rate - model.learning_rate) * (at / model.n_epochs)
            for at in (min(epoch, model.n_epochs - 1), min(epoch, model.n_epochs - 1) + 1)
        )
        reduced = model.reduced and model.window is not None
        most_pairs = _MOST_PAIRS if model.window is None else 2**31 - 1
        loss, n_pairs = run_unchecked(
            "skipgram_epoch", *self.tables, self.row_ptr, ids, self.keep, self.cdf, self.moves, self.window, reduced,
            most_pairs, model.n_negatives, self.n_shared, self.tile, self.n_tiles, first, last, model.seed_, epoch,
            device=model.device, n_threads=model.n_threads,
        )  # fmt: skip
        return float(loss), int(n_pairs), 0
