"""A fitted model's catalogue with items behind it that it never saw, by vectors made from their content."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models import inputs
from recsys_fast.models.base import Recommendations
from recsys_fast.models.factors import FactorModel
from recsys_fast.models.parameters import check_int

F32 = NDArray[np.float32]


def item_vectors(model: Any) -> F32:
    """Return what a fitted model multiplies its users' vectors with, ``(n_items, d)``.

    Raises:
        NotSupportedError: it has no such vectors.
        NotFittedError: it is not fitted.
    """
    if not isinstance(model, FactorModel):
        mend = "pass a model with factors, such as ALS or BPR"
        raise NotSupportedError(message(f"{type(model).__name__} has no item vectors", mend=mend))
    model._check_fitted()
    return np.ascontiguousarray(model._item_table(), np.float32)


class ExtendedCatalogue:
    """Recommends over a model's items and new ones behind them, whose ids go on from ``n_items`` of the model.

    Args:
        model: fitted, with factors; it is not changed.
        vectors: ``(n_new, d)`` of the new items, such as ``encode`` of a ``ContentCNN`` returns them.

    Raises:
        NotSupportedError, NotFittedError: the model has no vectors.
        ValueError: vectors of another width, or not finite.

    Attributes:
        item_vectors_: ``(n_items + n_new, d) float32``.
        n_known: items of the model.
    """

    def __init__(self, model: FactorModel, vectors: ArrayLike) -> None:
        known, new = item_vectors(model), np.asarray(vectors, np.float32)
        if new.ndim != 2 or new.shape[1] != known.shape[1]:
            raise ValueError(message("shape of vectors", new.shape, f"(n_new, {known.shape[1]}), the model's width"))
        if not np.isfinite(new).all():
            raise ValueError(message("vectors are not finite"))
        self.model, self.n_known = model, len(known)
        self.item_vectors_: F32 = np.concatenate([known, new])

    def recommend(
        self,
        users: ArrayLike | None = None,
        n: int = 10,
        *,
        filter_seen: bool = True,
        exclude: ArrayLike | None = None,
        include: ArrayLike | None = None,
    ) -> Recommendations:
        """Return the best items of the union for users.

        Args:
            users: a user or a sequence of users; None for all.
            n: items per user.
            filter_seen: leave out items of the user's training history.
            exclude: item ids never to recommend.
            include: the only item ids to recommend, such as those of the new items; None for all.

        Returns:
            ids and scores, ``(m, n)``, or ``(n,)`` for a scalar user.

        Raises:
            IndexError: an id out of range.
        """
        model, n_items = self.model, len(self.item_vectors_)
        n, scalar, rows, seen = check_int("n", n, 0), False, None, model.training_matrix_
        choice = inputs.check_chosen(n_items, exclude=exclude, include=include)
        if users is not None:
            rows, scalar = inputs.check_ids(users, seen.n_rows, "users")
            seen = inputs.take_rows(seen, rows)
        seen = seen._replace(n_cols=n_items)  # nobody has seen the new ones
        found = model._best(self.item_vectors_, model._queries(rows), n, seen=seen if filter_seen else None, **choice)
        return Recommendations(found.ids[0], found.scores[0]) if scalar else found
