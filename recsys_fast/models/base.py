"""The interface of every model: recommend, compare, predict, save; checks of what comes in."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models import inputs
from recsys_fast.models.fitting import Trainable
from recsys_fast.models.parameters import check_int
from recsys_fast.ops import Csr

_NEW_USERS = "users selects rows of user_items when that is given; pass users=None for all of its rows"


class Recommendations(NamedTuple):
    """Best items (or users) first.

    Attributes:
        ids: ``(m, n) int32``, or ``(n,)`` for a scalar query; -1 where there is nothing more to recommend.
        scores: float32 of the same shape, descending (equal scores by ascending id); -inf where ids are -1.
    """

    ids: NDArray[np.int32]
    scores: NDArray[np.float32]


class Recommender(Trainable):
    """Base class of all models.

    Matrices are always ``(n_users, n_items)``: any scipy sparse matrix or array, ``Interactions`` or ``ops.Csr``. They
    are validated, and never changed; a float32 CSR matrix with sorted rows is kept by reference (for ``filter_seen``),
    so do not write into it while the model is in use. Users and items are the integers ``0 .. n - 1``.

    A fitted model may be read from several threads at once; training it meanwhile is not allowed.
    """

    #: whether ``fit`` takes an interaction matrix and nothing else, as the command line needs it
    _fits_interactions: ClassVar[bool] = True

    @abstractmethod
    def _rank(self, users: NDArray[np.int32] | None, given: Csr | None, n: int, **choice: Any) -> Recommendations:
        """Rank items for known users (None for all), or for the histories ``given``; choice goes to ``ops.topk``."""

    def _score_histories(self, given: Csr) -> NDArray[np.float32]:
        """Return the scores of all items for histories (prepared), ``(m, n_items)``; models override it to be fast."""
        ids, scores = self._rank(None, given, given.n_cols, seen=None)
        out = np.empty((given.n_rows, given.n_cols), np.float32)
        np.put_along_axis(out, ids.astype(np.int64), scores, axis=1)  # all items are eligible: no list is padded
        return out

    # ---- use

    def recommend(
        self,
        users: ArrayLike | None = None,
        user_items: Any = None,
        n: int = 10,
        *,
        filter_seen: bool = True,
        exclude: ArrayLike | None = None,
        include: ArrayLike | None = None,
    ) -> Recommendations:
        """Return the best items for users.

        Args:
            users: a user or a sequence of users; None for all.
            user_items: ``(m, n_items)`` histories of new users, or newer ones of known users; the model folds them in.
                ``users`` then selects rows of this matrix.
            n: items per user; may exceed their number.
            filter_seen: leave out items of the user's training history (or of ``user_items``).
            exclude: item ids never to recommend.
            include: the only item ids to recommend; None for all.

        Returns:
            ids and scores, ``(m, n)``, or ``(n,)`` for a scalar user. No item twice.

        Raises:
            IndexError: an id out of range.
            ValueError: ``user_items`` of another shape.
            NotSupportedError: ``user_items`` for a model that cannot fold in.
        """
        n_users, n_items = self._shape()
        n = check_int("n", n, 0)
        choice = inputs.check_chosen(n_items, exclude=exclude, include=include)
        scalar, rows, given, mend = False, None, None, None
        if user_items is not None:
            given = self._prepare(inputs.check_matrix(user_items, "user_items", None, n_items))
            n_users, mend = given.n_rows, _NEW_USERS
        if users is not None:
            rows, scalar = inputs.check_ids(users, n_users, "users", mend)
        seen = self._matrix if given is None else given
        if rows is not None and (filter_seen or given is not None):
            seen = inputs.take_rows(seen, rows)
        given, rows = (seen, None) if given is not None else (None, rows)
        ranked = self._rank(rows, given, n, seen=seen if filter_seen else None, **choice)
        return Recommendations(ranked.ids[0], ranked.scores[0]) if scalar else ranked

    @abstractmethod
    def predict(self, users: ArrayLike, items: ArrayLike) -> Any:
        """Return the score of each pair ``(users[k], items[k])``."""

    @abstractmethod
    def score(self, users: ArrayLike, items: ArrayLike | None = None) -> NDArray[np.float32]:
        """Return the scores of items for users.

        Args:
            users: a user or a sequence of users.
            items: a sequence of items; None for all.

        Returns:
            ``(len(users), len(items)) float32``, ``(len(items),)`` for a scalar user. For the best items
            ``recommend`` is faster and needs no such array.

        Raises:
            IndexError: an id out of range.
        """

    def similar_items(self, items: ArrayLike, n: int = 10, **choice: Any) -> Recommendations:
        """Return the items most like each of ``items``, without itself."""
        raise self._unsupported("similar_items")

    def similar_users(self, users: ArrayLike, n: int = 10, **choice: Any) -> Recommendations:
        """Return the users most like each of ``users``, without itself."""
        raise self._unsupported("similar_users")

    def fold_in(self, user_items: Any) -> NDArray[np.float32]:
        """Return the state of new users from their histories, without changing the model."""
        raise self._unsupported("fold_in")

    def _unsupported(self, what: str) -> NotSupportedError:
        return NotSupportedError(message(f"{type(self).__name__} has no {what}", mend="use a model with factors"))

    @abstractmethod
    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose and as "total"."""

    # ---- files

    @abstractmethod
    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the learned arrays by name, and the learned plain values (JSON)."""

    @abstractmethod
    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        """Take over what ``_pack`` returned; ``self._matrix`` is there already.

        Raises:
            ModelFormatError: shapes or values do not fit the parameters and the matrix.
        """
