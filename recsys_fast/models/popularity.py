"""The baseline that every model has to beat: the same items for everybody, the most popular first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.data.interactions import Interactions
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.factors import F32, FactorModel
from recsys_fast.models.parameters import check_choice, check_float
from recsys_fast.ops import Csr

_LIMITS = np.finfo(np.float32)


class Popularity(FactorModel):
    """Scores every item by how much it was interacted with, whoever asks. Stored zeros are no interactions.

    With ``half_life`` h an interaction at time t counts 2^(-(newest - t) / h), newest being the latest time in the
    training data: what was popular long ago fades. Each interaction counts at least 1e-38, so that none is lost.

    Args:
        by: "count" of interactions, or "sum" of their values.
        half_life: time in which an interaction loses half of its weight, in the unit of the timestamps: microseconds
            where they were read from dates, else whatever the integers are (MovieLens: seconds). None for no decay.
            Training data must then be ``Interactions`` with timestamps, and the training matrix that the model keeps
            holds the weights.
        device: "auto", "cpu" or "numba".
        n_threads: None for every CPU granted.

    Attributes:
        item_scores_: ``(n_items,) float32``.
        newest_: latest time in the training data, None without ``half_life``. ``partial_fit(users=...)`` leaves it:
            interactions that are newer count more than 1.
    """

    _learned: ClassVar[tuple[str, ...]] = ("item_scores_", "newest_")

    item_scores_: F32
    newest_: int | None

    def __init__(
        self,
        by: str = "count",
        *,
        half_life: float | None = None,
        device: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        self.by = by
        self.half_life = half_life
        self.device = device
        self.n_threads = n_threads

    def _check_params(self) -> None:
        check_choice("by", self.by, ("count", "sum"))
        if self.half_life is not None:
            check_float("half_life", self.half_life, 0.0, above=True)

    def fit(
        self, user_items: Any, *, eval_set: Any = None, callbacks: Iterable[Any] = (), verbose: bool = False
    ) -> Self:
        """Count; see ``Recommender.fit``.

        Raises:
            ValueError: ``half_life`` is given and ``user_items`` has no timestamps.
        """
        self._check_all()
        return super().fit(self._decayed(user_items), eval_set=eval_set, callbacks=callbacks, verbose=verbose)

    def partial_fit(
        self, user_items: Any, *, users: ArrayLike | None = None, items: ArrayLike | None = None, n_epochs: int = 1
    ) -> Self:
        """Count again what is new; see ``Recommender.partial_fit``. With ``half_life`` timestamps are needed here too.

        Raises:
            ValueError: ``half_life`` is given and ``user_items`` has no timestamps.
        """
        self._check_all()
        whole = users is None and items is None
        weighted = self._decayed(user_items, None if whole or not self.is_fitted else self.newest_)
        super().partial_fit(weighted, users=users, items=items, n_epochs=n_epochs)
        if whole:
            self.newest_ = self._newest(user_items)
        return self

    def _start(self, user_items: Any) -> None:
        super()._start(user_items)
        self.newest_ = self._newest(user_items)

    def _newest(self, user_items: Any) -> int | None:
        """Return the latest time, None without decay; that of no interaction at all is 0."""
        if self.half_life is None:
            return None
        return int(user_items.timestamps.max()) if user_items.nnz else 0

    def _decayed(self, user_items: Any, newest: int | None = None) -> Any:
        """Return interactions with their weights as values; the matrix itself without ``half_life``."""
        if self.half_life is None:
            return user_items
        if not isinstance(user_items, Interactions) or user_items.timestamps is None:
            got = "Interactions without them" if isinstance(user_items, Interactions) else type(user_items).__name__
            mend = "pass timestamps to Interactions, name the timestamp column of the file, or use half_life=None"
            raise ValueError(message("half_life needs interactions with timestamps", got, "Interactions", mend))
        newest = self._newest(user_items) if newest is None else newest
        age = float(newest or 0) - user_items.timestamps.astype(np.float64)
        with np.errstate(over="ignore", under="ignore"):
            weights = np.exp2(-age / self.half_life)
        weights = np.clip(weights, _LIMITS.tiny, _LIMITS.max)
        if user_items.values is not None:
            values = user_items.values.astype(np.float64)
            weights = weights * (values if self.by == "sum" else values != 0)
            faded = (weights != 0) & (np.abs(weights) < _LIMITS.tiny)
            weights[faded] = np.copysign(_LIMITS.tiny, weights[faded])
        if np.abs(weights).max(initial=0.0) > _LIMITS.max:
            raise ValueError(message("largest weighted value", np.abs(weights).max(), "a float32", 'use by="count"'))
        return user_items.with_values(weights.astype(np.float32))

    def _prepare(self, matrix: Csr) -> Csr:
        return inputs.drop_zeros(matrix)

    def _begin(self) -> _Counter:
        return _Counter(self)

    def _resume(self) -> _Counter:
        return _Counter(self)

    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        self._count()

    def _grow(self, n_users: int, n_items: int) -> None:
        self.item_scores_ = np.pad(self.item_scores_, (0, n_items - len(self.item_scores_)))

    def _count(self) -> None:
        matrix = self._matrix
        by_count = self.by == "count" and self.half_life is None
        if by_count or matrix.values is None:
            self.item_scores_ = inputs.column_counts(matrix).astype(np.float32)
            return
        totals = np.zeros(matrix.n_cols)
        for start in range(0, matrix.nnz, 1 << 20):
            part = slice(start, start + (1 << 20))
            totals += np.bincount(matrix.col_idx[part], matrix.values[part], matrix.n_cols)
        if np.abs(totals).max(initial=0.0) > np.finfo(np.float32).max:
            raise ValueError(message("largest sum of values", np.abs(totals).max(), "a float32", 'use by="count"'))
        self.item_scores_ = totals.astype(np.float32)

    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        return np.ones((self._matrix.n_rows if users is None else len(users), 1), np.float32)

    def _item_table(self) -> F32:
        return self.item_scores_[:, None]

    def _new_queries(self, given: Csr) -> F32:
        return np.ones((given.n_rows, 1), np.float32)

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose and as "total"."""
        matrix = inputs.check_matrix(user_items, "user_items")
        held = 8 * (matrix.n_rows + 1) + 4 * matrix.nnz * (1 if matrix.values is None else 2)
        parts = {"scores": 4 * matrix.n_cols, "counts": 16 * matrix.n_cols, "matrix": held}
        return {**parts, "total": sum(parts.values())}

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return {"item_scores": self.item_scores_}, {} if self.newest_ is None else {"newest": self.newest_}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import read_table

        self.item_scores_ = read_table(reader, "item_scores", (self._matrix.n_cols,))
        self.newest_ = values.pop("newest", None)
        known = type(self.newest_) is int and -(2**63) <= self.newest_ < 2**63
        if known != (self.half_life is not None):
            raise reader.fail("newest", repr(self.newest_)[:80], "a time where there is a half_life, else none")


class _Counter:
    """Counts once; there is nothing to repeat and nothing to take back."""

    def __init__(self, model: Popularity) -> None:
        self.model = model

    def epoch(self) -> None:
        """Count."""
        self.model._count()

    def rollback(self) -> None:
        """Leave the old scores: ``epoch`` replaces them at once or not at all."""
