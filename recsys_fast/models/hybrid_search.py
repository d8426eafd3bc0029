"""The weights of a hybrid, found on held-out interactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.evaluation.names import parse
from recsys_fast.models import inputs
from recsys_fast.models.hybrid_scores import Query, best_rows, blocks
from recsys_fast.ops import Csr
from recsys_fast.training.loop import Trainer

if TYPE_CHECKING:
    from recsys_fast.models.hybrid import Hybrid

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_MAX_SWEEPS = 50  # of one step size; in practice a few


class Search(Trainer):
    """Coordinate ascent on the simplex over candidate lists that are computed once.

    Candidates of a user are the union of the members' best ``n_candidates`` unseen items, with what each member gives
    them. The start is the best of the single members and the equal weights. In round r every weight in turn is moved by
    +s and -s with s = 2^-(r + 1), the others keeping their proportions; what raises the metric stays, until a whole
    sweep changes nothing.

    Args:
        model: the hybrid, whose members are fitted.
        validation: ``(n_users, n_items)``.
    """

    def __init__(self, model: Hybrid, validation: Csr) -> None:
        self._model, self._step = model, 0.5
        active = np.flatnonzero(np.diff(validation.row_ptr) > 0).astype(np.int32)
        if len(active) > model.max_users:  # evenly spread over the ids, so that no random numbers are needed
            active = active[np.linspace(0, len(active) - 1, model.max_users).astype(np.int64)]
        self._test = inputs.take_rows(validation, active)
        self._wanted = parse(model.metric, ())[0]
        self._items, self._parts = self._candidates(active)
        n = len(model.models)
        starts = [*np.eye(n), np.full(n, 1.0 / n)] if n > 1 else [np.ones(1)]
        reached = [self._measure(weights) for weights in starts]
        best = int(np.argmax(reached))
        self._weights, self._best = starts[best], reached[best]

    def _candidates(self, users: NDArray[np.int32]) -> tuple[NDArray[np.int32], F32]:
        """Return items ``(m, c) int32``, ascending and padded with -1, and the members' parts ``(n_models, m, c)``."""
        model, n_items = self._model, self._model._matrix.n_cols
        fusion, where = model._fusion(), model._where()
        rows_of, lists, values = [], [], []
        for rows in blocks(len(users), n_items):
            query = Query(users[rows], None)
            seen = inputs.take_rows(model._matrix, query.users)  # type: ignore[arg-type]
            parts = [fusion.part(member, query, n_items) for member in model.models]
            n = min(model.n_candidates, n_items)
            ids = np.sort(np.concatenate([best_rows(part, n, seen, where).ids for part in parts], axis=1), axis=1)
            fresh = ids >= 0
            fresh[:, 1:] &= ids[:, 1:] != ids[:, :-1]
            row, place = np.nonzero(fresh)
            items = ids[row, place]
            rows_of.append(row + rows.start)
            lists.append(items)
            values.append(np.stack([part[row, items] for part in parts]))
        row = np.concatenate(rows_of)
        counts = np.bincount(row, minlength=len(users))
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        items = np.full((len(users), int(counts.max(initial=0))), -1, np.int32)
        items[row, place] = np.concatenate(lists)
        stacked = np.zeros((len(model.models), *items.shape), np.float32)
        stacked[:, row, place] = np.concatenate(values, axis=1)
        return items, stacked

    def _measure(self, weights: F64) -> float:
        """Return the metric of the fused candidate lists."""
        fused = np.tensordot(weights.astype(np.float32), self._parts, axes=1)
        fused[self._items < 0] = -np.inf
        k = self._wanted.k or 0
        order = np.argsort(-fused, axis=1, kind="stable")[:, :k]  # stable: candidates ascend, so ties go by id
        ids = np.full((len(fused), k), -1, np.int32)
        ids[:, : order.shape[1]] = np.take_along_axis(self._items, order, axis=1)
        found = ops.list_metrics(ids, self._test, [k], **self._model._where())[self._wanted.name]
        return float(np.nanmean(found)) if len(found) else 0.0

    def epoch(self) -> None:
        """Search with half the step of the last round, and publish the weights."""
        self._step /= 2
        for _ in range(_MAX_SWEEPS):
            before = self._best
            for place in range(len(self._weights)):
                for move in (self._step, -self._step):
                    self._try(place, move)
            if self._best <= before:
                break
        self._model.weights_ = self._weights.copy()
        self._model._record(self._best)

    def _try(self, place: int, move: float) -> None:
        own = float(np.clip(self._weights[place] + move, 0.0, 1.0))
        others = self._weights.copy()
        others[place] = 0.0
        if own == self._weights[place] or not others.any():  # all weight is here: there is nothing to scale the rest by
            if own == 1.0 or len(others) == 1 or own == self._weights[place]:
                return
            others[:] = 1.0
            others[place] = 0.0
        moved = others * ((1.0 - own) / others.sum())
        moved[place] = own
        reached = self._measure(moved)
        if reached > self._best:
            self._weights, self._best = moved, reached

    def rollback(self) -> None:
        """Nothing: weights are published at the end of a round."""


class Fixed(Trainer):
    """Weights that were given; with held-out interactions their metric is recorded."""

    def __init__(self, model: Hybrid, weights: F64, validation: Csr | None) -> None:
        self._model, self._weights = model, weights
        self._search = None if validation is None else Search(model, validation)

    def epoch(self) -> None:
        """Publish the weights."""
        self._model.weights_ = self._weights
        if self._search is not None:
            self._model._record(self._search._measure(self._weights))

    def rollback(self) -> None:
        """Nothing was changed."""


def check_weights(weights: Any, n: int) -> F64:
    """Return given weights scaled to sum 1.

    Raises:
        TypeError: not numbers.
        ValueError: another number of them, one negative or not finite, or all 0.
    """
    from recsys_fast.errors import message

    array = np.asarray(weights)
    if array.dtype.kind not in "biuf" or array.ndim != 1:
        raise TypeError(message("weights", repr(weights)[:80], "one number per model, or None to fit them"))
    if len(array) != n:
        raise ValueError(message("weights", f"{len(array)} numbers", f"{n}, one per model"))
    array = array.astype(np.float64)
    if not np.isfinite(array).all() or (array < 0).any() or not array.any():
        raise ValueError(message("weights", repr(weights)[:80], "finite numbers, 0 or more, not all 0"))
    weights = array / array.sum()
    return np.asarray(weights)
