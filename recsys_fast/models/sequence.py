"""Models of what comes next: everything but the network, its batches and its loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.blocks.base import PackedBatch
from recsys_fast.data import Sequences
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.base import Recommendations
from recsys_fast.models.factors import F32
from recsys_fast.models.network_state import ASKING
from recsys_fast.models.parameters import check_int
from recsys_fast.models.sequence_inputs import (
    Packed,
    as_histories,
    check_item,
    chunks,
    is_ragged,
    most_recent,
    part_of,
)
from recsys_fast.models.sequence_training import SequenceTrainable
from recsys_fast.ops import Csr
from recsys_fast.training.network import Network

_CHUNK = 1 << 14  # rows that go through a network at a time


@dataclass
class SequenceState:
    """A user in mid-sequence: what ``start`` returns, ``update`` changes and ``recommend_from`` reads.

    Attributes:
        items: the history, oldest first.
        query: ``(d,) float32``, what scores items; None where it has to be computed first.
        caches: what the network keeps so that one more event is one step; None where it computes the sequence anew.
    """

    items: list[int]
    query: F32 | None = None
    caches: Any = None
    seen: set[int] = field(default_factory=set)


class SequenceModel(SequenceTrainable):
    """Base class of models that rank items by what a user did, in order.

    A model supplies, besides its constructor and ``_check_params``:

    - ``_parts(n_users, n_items)``: tables and blocks, as ``_marked`` returns them (and ``_check_params`` ends with
      ``_check_frozen``, see ``Transferable``); the default ``_make_network`` joins them to a ``Network`` that
      runs one block after the other; where that is not the shape, override ``_make_network`` with a subclass;
    - ``_objective()``: the loss, an ``Objective`` of ``training.network``; for losses over items
      ``models.sequence_losses`` makes it, and checks its parameters;
    - ``_batches()``: an object whose ``epoch(k)`` yields the batches of epoch k of ``self._sequences``, and whose
      ``n_batches`` is their number;
    - ``_inputs(histories)`` where more than the last ``max_len`` items goes in;
    - ``_hidden(network, packed)`` where the answer is not the network's output at the last row;
    - ``_first(network, items)`` and ``_next(network, state, item)`` where one more event need not compute a sequence
      anew.

    Parameters that change after ``fit`` are refused unless they are among ``_training_only``, which a model extends by
    its own ones that do not change what the network computes.

    The score of an item is ``query . item_factors_[item]``: ranking, metrics and top-k are the fused operations.
    """

    # ---- what a model may supply

    def _window(self) -> int:
        """Return how many of the most recent items go in."""
        return self.max_len

    def _inputs(self, histories: Sequences) -> Packed:
        """Return what goes into the network for histories."""
        return most_recent(histories, self._window())

    def _hidden(self, network: Network, packed: Packed) -> tuple[F32, NDArray[np.bool_]]:
        """Return the outputs at the last row of each sequence, and which sequences have one.

        They are the first columns of the queries; an ``_encode`` of the model's own may fill in more.
        """
        batch = PackedBatch.on(network.runtime, packed.row_ptr, network.seed)
        h = network.runtime.to_host(network.forward(packed, batch))
        last = packed.row_ptr[1:] - 1
        some = last >= packed.row_ptr[:-1]
        return h[last[some]], some

    def _first(self, network: Network, items: list[int]) -> tuple[F32 | None, Any]:
        """Return the query of a history and what ``_next`` goes on from, or (None, None) to compute both anew."""
        return None, None

    def _next(self, network: Network, state: SequenceState, item: int) -> F32 | None:
        """Return the query after one more event (appended already), or None to compute it anew."""
        return None

    # ---- factors

    @property
    def item_factors_(self) -> F32:
        """What queries are multiplied with, ``(n_items, d) float32``; with biases ``(n_items, d + 1)``, bias last."""
        self._check_fitted()
        return self._item_table()

    def _item_table(self) -> F32:
        items, n_items = self._net().items, self._matrix.n_cols
        if not items.has_bias:
            return self._item_vectors()
        parts = items.values, items.bias
        whole: F32 = self._cached("table", lambda: np.column_stack([*map(items.runtime.to_host, parts)])[:n_items])
        return whole

    def _item_vectors(self) -> F32:
        items, n_items = self._net().items, self._matrix.n_cols
        if not items.runtime.on_device:
            return items.values[:n_items]
        vectors: F32 = self._cached("vectors", lambda: items.runtime.to_host(items.values)[:n_items])
        return vectors

    def _user_vectors(self) -> F32:
        vectors: F32 = self._cached("users", lambda: self._queries(None))
        return vectors

    def encode(self, histories: Any, users: ArrayLike | None = None) -> F32:
        """Return what scores items after histories: ``encode(histories) @ item_factors_.T`` are the scores.

        Args:
            histories: ``Sequences``, ``Interactions`` with timestamps, or one list or array of items per history,
                oldest first. The most recent ``max_len`` items count; an empty history gives zeros (and so equal
                scores) unless the model says otherwise.
            users: ``(m,)`` known users whose histories these are, for models with vectors of users (``Caser``); None
                for nobody known. Other models do not look at it.

        Returns:
            ``(m, d) float32``; with biases ``(m, d + 1)``, the last one 1.

        Raises:
            TypeError: not lists of integers.
            ValueError: an item that the model does not have, or another number of users than of histories.
            IndexError: a user that the model does not have.
        """
        n_users, n_items = self._shape()
        given = as_histories(histories, n_items)
        if users is None:
            return self._encode(given)
        ids, _ = inputs.check_ids(users, n_users, "users")
        if len(ids) != given.n_users:
            raise ValueError(message("users", f"{len(ids)} of them", f"one for each of {given.n_users} histories"))
        return self._encode(given, ids)

    def _encode(self, histories: Sequences, users: NDArray[np.int32] | None = None) -> F32:
        packed, network = self._inputs(histories), self._net()
        biased = network.items.has_bias
        out = np.zeros((len(packed.row_ptr) - 1, network.items.d + biased), np.float32)
        if biased:
            out[:, -1] = 1.0
        for begin, end in chunks(packed, _CHUNK):
            with ASKING:
                h, some = self._hidden(network, part_of(packed, begin, end))
                out[begin:end, : h.shape[1]][some] = h
        return out

    def fold_in(self, user_items: Any) -> F32:
        """Return the queries of new users from their histories; the same as ``encode``."""
        return self.encode(user_items)

    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        if users is None:
            return self._encode(self._sequences)
        distinct, place = np.unique(users, return_inverse=True)
        return self._encode(self._sequences.take(distinct))[place]

    def _new_queries(self, given: Csr) -> F32:
        raise self._unsupported("order of the items of a matrix")

    # ---- recommendations

    def recommend(
        self,
        users: Any = None,
        user_items: Any = None,
        n: int = 10,
        *,
        filter_seen: bool = True,
        exclude: ArrayLike | None = None,
        include: ArrayLike | None = None,
    ) -> Recommendations:
        """Return the best next items, for known users or for raw histories.

        Args:
            users: a user or a sequence of users, None for all; or histories in any form that ``encode`` takes, such as
                ``[[12, 7, 99], [3]]``.
            user_items: histories of new users, or newer ones of known users. ``users`` then selects among them.
            n: items per user; may exceed their number.
            filter_seen: leave out items of the user's history.
            exclude: item ids never to recommend.
            include: the only item ids to recommend; None for all.

        Returns:
            ids and scores, ``(m, n)``, or ``(n,)`` for a scalar user. No item twice.

        Raises:
            IndexError: a user, or an item of ``exclude`` or ``include``, out of range.
            TypeError, ValueError: histories that ``encode`` refuses.
        """
        if user_items is None and is_ragged(users):
            users, user_items = None, users
        if user_items is None:
            kind: dict[str, Any] = {"filter_seen": filter_seen, "exclude": exclude, "include": include}
            return super().recommend(users, None, n, **kind)
        _, n_items = self._shape()
        histories, scalar = as_histories(user_items, n_items), False
        if users is not None:
            mend = "users selects among user_items when those are given; pass users=None for all of them"
            rows, scalar = inputs.check_ids(users, histories.n_users, "users", mend)
            histories = histories.take(rows)
        choice = inputs.check_chosen(self._shape()[1], exclude=exclude, include=include)
        seen = histories.seen if filter_seen else None
        found = self._best(self._item_table(), self._encode(histories), check_int("n", n, 0), seen=seen, **choice)
        return Recommendations(found.ids[0], found.scores[0]) if scalar else found

    # ---- one user, event by event

    def start(self, history: Iterable[int] = ()) -> SequenceState:
        """Return the state of a user after ``history`` (items, oldest first), to go on from event by event.

        Raises:
            IndexError: an item that the model does not have.
            TypeError: not integers.
        """
        _, n_items = self._shape()
        items = [check_item(item, n_items) for item in history]
        state = SequenceState(items, seen=set(items))
        if items:
            self._restart(state)
        return state

    def _restart(self, state: SequenceState) -> None:
        network = self._net()
        with ASKING:
            state.query, state.caches = self._first(network, state.items)

    def update(self, state: SequenceState, item: int) -> SequenceState:
        """Add one event to a state, in place; the same as ``start`` of the longer history.

        The work of a step where the network allows it (see the model), else the sequence is computed anew when it is
        next asked.

        Returns:
            The state.

        Raises:
            IndexError: an item that the model does not have.
            TypeError: not an integer.
        """
        number = check_item(item, self._shape()[1])
        state.items.append(number)
        state.seen.add(number)
        if state.caches is None:
            self._restart(state)
        else:
            with ASKING:
                state.query = self._next(self._net(), state, number)
        return state

    def recommend_from(
        self,
        state: SequenceState,
        n: int = 10,
        *,
        filter_seen: bool = True,
        exclude: ArrayLike | None = None,
        include: ArrayLike | None = None,
    ) -> Recommendations:
        """Return the best next items for a state; arguments as in ``recommend``.

        Returns:
            ids and scores, ``(n,)``.
        """
        choice = inputs.check_chosen(self._shape()[1], exclude=exclude, include=include)
        if state.query is None:
            state.query = self._encode(Sequences([state.items], n_items=self._matrix.n_cols))[0]
        query, network, seen = state.query, self._net(), None
        if network.items.has_bias and len(query) == network.items.d:
            query = np.append(query, np.float32(1.0))
        if filter_seen:
            own = np.array(sorted(state.seen), np.int32)
            seen = Csr(np.array([0, len(own)], np.int64), own, None, 1, self._matrix.n_cols)
        found = self._best(self._item_table(), query[None], check_int("n", n, 0), seen=seen, **choice)
        return Recommendations(found.ids[0], found.scores[0])
