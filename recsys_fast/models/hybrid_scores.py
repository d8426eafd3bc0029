"""What a hybrid adds up: the members' scores made comparable within each user, or the reciprocals of their ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.models import inputs
from recsys_fast.models.base import Recommendations, Recommender
from recsys_fast.models.factors import FactorModel
from recsys_fast.ops import Csr

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

NORMALIZATIONS = ("zscore", "minmax", "none")
_EQUAL = 1e-6  # a spread below this share of the scores' size is rounding: the member says nothing about that user
_BLOCK = 1 << 22  # scores of a member that are alive at once
_WIDTH = 64  # rows that are ranked in one call


class Query(NamedTuple):
    """Whom to score: known users, or histories (one of the two is None); and what they have seen."""

    users: NDArray[np.int32] | None
    given: Csr | None

    @property
    def n(self) -> int:
        """Number of users."""
        return len(self.users) if self.users is not None else self.given.n_rows if self.given is not None else 0

    def part(self, rows: slice) -> Query:
        """Return some of them, a slice without a step."""
        if self.users is not None:
            return Query(self.users[rows], None)
        assert self.given is not None
        return Query(None, inputs.take_rows(self.given, np.arange(rows.start, rows.stop)))

    def scores(self, model: Recommender) -> F32:
        """Return a member's scores of all items, ``(n, n_items)``."""
        if self.users is not None:
            return model.score(self.users)
        assert self.given is not None
        return model._score_histories(model._prepare(self.given))

    def lists(self, model: Recommender, depth: int) -> NDArray[np.int32]:
        """Return a member's best items, whether seen or not, ``(n, depth)``."""
        given = None if self.given is None else model._prepare(self.given)
        return model._rank(self.users, given, depth, seen=None).ids


def blocks(n: int, n_items: int) -> list[slice]:
    """Return slices of n users whose scores fit in memory, in steps of whole ranking calls."""
    step = max(1, _BLOCK // max(1, n_items) // _WIDTH) * _WIDTH
    return [slice(start, min(n, start + step)) for start in range(0, n, step)]


def _scale(mean: F64, variance: F64) -> F64:
    """Return 1 / deviation; 0 where the scores of a user are all equal."""
    deviation = np.sqrt(np.maximum(variance, 0.0))
    varied = deviation > _EQUAL * np.sqrt(mean * mean + variance)
    return np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varied)


def normalised(scores: F32, how: str) -> F32:
    """Return a new array: scores of each row minus their mean over their deviation, or scaled to 0 .. 1, or as is."""
    if how == "none" or not scores.size:
        return scores
    if how == "minmax":
        low, high = scores.min(axis=1).astype(np.float64), scores.max(axis=1).astype(np.float64)
        shift, scale = low, _scale((low + high) / 2, (high - low) ** 2)
    else:
        shift = scores.mean(axis=1, dtype=np.float64)
        variance = np.empty_like(shift)
        for row, values in enumerate(scores):  # row by row: no float64 copy of the whole block
            centred = values.astype(np.float64) - shift[row]
            variance[row] = np.square(centred, out=centred).mean()
        scale = _scale(shift, variance)
    out: F32 = scores - shift.astype(np.float32)[:, None]
    out *= scale.astype(np.float32)[:, None]
    return out


def reciprocal_ranks(ids: NDArray[np.int32], n_items: int, k: float) -> F32:
    """Return ``(m, n_items)``: 1 / (k + rank) for the items of each list, ranks from 1; 0 for the others."""
    out = np.zeros((len(ids), n_items), np.float32)
    rows, place = np.nonzero(ids >= 0)
    out[rows, ids[rows, place]] = (1.0 / (k + 1.0 + place)).astype(np.float32)
    return out


class Fusion(NamedTuple):
    """How members' scores become one; see ``Hybrid`` for the formulas."""

    method: str
    normalize: str
    k: float
    depth: int

    def part(self, model: Recommender, query: Query, n_items: int) -> F32:
        """Return what one member contributes at weight 1, ``(n, n_items)``."""
        if self.method == "blend":
            return normalised(query.scores(model), self.normalize)
        return reciprocal_ranks(query.lists(model, min(self.depth, n_items)), n_items, self.k)

    def total(self, models: Sequence[Recommender], weights: F64, query: Query, n_items: int) -> F32:
        """Return the weighted sum over the members, ``(n, n_items)``; those of weight 0 are not asked."""
        out = np.zeros((query.n, n_items), np.float32)
        for model, weight in zip(models, weights, strict=True):
            if weight:
                out += np.float32(weight) * self.part(model, query, n_items)
        return out


def best_rows(scores: F32, n: int, seen: Csr | None, where: dict[str, Any], **choice: Any) -> Recommendations:
    """Return the n best columns of each row of dense scores, ties by column; seen has the rows of scores."""
    ids, values = np.empty((len(scores), n), np.int32), np.empty((len(scores), n), np.float32)
    for start in range(0, len(scores), _WIDTH):
        part = scores[start : start + _WIDTH]
        rows = slice(start, start + len(part))
        own = None if seen is None else inputs.take_rows(seen, np.arange(rows.start, rows.stop))
        # Row r is the product of unit vector r with the table of columns: the fused ranking, exact to the bit.
        ops.topk(
            np.ascontiguousarray(part.T), np.eye(len(part), dtype=np.float32), n,
            seen=own, out=(ids[rows], values[rows]), check_finite=False, **where, **choice,
        )  # fmt: skip
    return Recommendations(ids, values)


class LinearBlend:
    """A blend of models with factors is one of those itself: tables side by side, queries scaled for each user.

    With m the mean of a member's item vectors and C their covariance, its scores have mean q . m and variance q^T C q,
    so z-scores need no scores: w (q . y_i - q . m) / sqrt(q^T C q) is linear in y_i.

    Args:
        models: the members.
        weights: of the members.
        normalize: "zscore" or "none".
    """

    def __init__(self, models: Sequence[FactorModel], weights: F64, normalize: str) -> None:
        kept = [(model, float(weight)) for model, weight in zip(models, weights, strict=True) if weight]
        self._models, self._weights = [model for model, _ in kept], [weight for _, weight in kept]
        tables = [model._item_table() for model in self._models]
        self._moments: list[tuple[F64, F64] | None] = [None] * len(kept)
        if normalize == "zscore" and len(tables[0]):
            self._moments = [_moments(table) for table in tables]
        self.table = np.concatenate([*tables, np.ones((len(tables[0]), 1), np.float32)], axis=1)

    def queries(self, query: Query) -> F32:
        """Return one row per user, ``(n, columns of table)``."""
        parts, constant = [], np.zeros(query.n)
        for model, weight, moments in zip(self._models, self._weights, self._moments, strict=True):
            if query.users is not None:
                own = model._queries(query.users)
            else:
                own = model._new_queries(model._prepare(query.given))  # type: ignore[arg-type]
            scale = np.full(query.n, weight)
            if moments is not None:
                wide = own.astype(np.float64)
                mean = wide @ moments[0]
                scale *= _scale(mean, np.einsum("ij,ij->i", wide @ moments[1], wide))
                constant -= scale * mean
            parts.append((own * scale[:, None]).astype(np.float32))
        return np.concatenate([*parts, constant.astype(np.float32)[:, None]], axis=1)


def _moments(table: F32) -> tuple[F64, F64]:
    """Return mean ``(d,)`` and covariance ``(d, d)`` of the rows, in float64 and with small temporaries."""
    n, d = table.shape
    mean, gram = table.mean(axis=0, dtype=np.float64), np.zeros((d, d))
    for start in range(0, n, 4096):
        centred = table[start : start + 4096] - mean
        gram += centred.T @ centred
    return mean, gram / n
