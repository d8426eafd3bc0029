"""Users by what they have had: histories as part of what goes into their tower, and training on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.field_table import FeatureRows
from recsys_fast.blocks.tower import HistoryRows
from recsys_fast.data.epoch_random import EpochRandom
from recsys_fast.models import inputs
from recsys_fast.models.two_tower_training import Inputs, PairBatch, TwoTowerNetwork
from recsys_fast.ops import Csr

I32 = NDArray[np.int32]
_WINDOWS = 1 << 63  # numbers of random streams from here on: those below belong to other draws of a step


class HistoryInputs:
    """What goes into the users' tower: ids and features, and the mean of a history's embeddings.

    Args:
        inputs: of ids and features.
        histories: ``(n, n_items)``.
        seed: of the order in which windows go through a history.
    """

    def __init__(self, inputs: Inputs, histories: Csr, seed: int) -> None:
        self.inputs, self.n, self.own, self.histories, self.seed = inputs, inputs.n, inputs.own, histories, seed
        self._shuffled: I32 | None = None

    def rows(self, ids: NDArray[np.integer[Any]]) -> HistoryRows:
        """Return the rows of ``ids`` with whole histories."""
        found = inputs.take_rows(self.histories, ids)
        return HistoryRows(self.inputs.rows(ids), _means(found.row_ptr, found.col_idx))

    def others(self, users: I32, items: I32, most: int, random: NDArray[np.float64]) -> FeatureRows:
        """Return what else than ``items[k]`` user ``users[k]`` has had: a window of at most ``most`` or one more.

        Args:
            users, items: interactions.
            most: items of a window.
            random: from 0 to 1 for each, which says where its window begins.
        """
        csr = self.histories
        if self._shuffled is None:
            self._shuffled = csr.col_idx[EpochRandom(self.seed, 0).within(csr.row_ptr, 1)]
        begin = csr.row_ptr[users]
        lengths = csr.row_ptr[users.astype(np.int64) + 1] - begin
        taken = np.minimum(lengths, most + 1)  # the item itself may be among them
        starts = (random * lengths).astype(np.int64)
        before = np.cumsum(taken) - taken
        place = np.arange(int(taken.sum())) + np.repeat(starts - before, taken)
        place %= np.repeat(lengths, taken)
        place += np.repeat(begin, taken)
        ids, row = self._shuffled[place], np.repeat(np.arange(len(users)), taken)
        kept = ids != items[row]
        row_ptr = np.zeros(len(users) + 1, np.int64)
        np.cumsum(np.bincount(row[kept], minlength=len(users)), out=row_ptr[1:])
        return _means(row_ptr, ids[kept])


def _means(row_ptr: NDArray[np.int64], ids: I32) -> FeatureRows:
    lengths = np.diff(row_ptr)
    return FeatureRows(row_ptr, ids, np.repeat((1.0 / np.maximum(lengths, 1)).astype(np.float32), lengths))


class HistoryNetwork(TwoTowerNetwork):
    """Two towers where that of users has ``HistoryInputs``: an interaction is told from the user's others.

    Args:
        arguments, options: of ``TwoTowerNetwork``.
        history: items of a history that go into a step of training for each of its interactions.
    """

    def __init__(self, *arguments: Any, history: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.history = history

    def users_of(self, batch: PairBatch) -> HistoryRows:
        """Return the rows of the users of a batch, each without the item that it is to find."""
        given, n = self.sides[0], len(batch.users)
        assert isinstance(given, HistoryInputs)
        generator = np.random.Generator(np.random.Philox(key=np.array([self.seed, _WINDOWS + self.steps], np.uint64)))
        own = given.inputs.rows(batch.users, self.without_own(0, n, self.steps) if given.own else None)
        return HistoryRows(own, given.others(batch.users, batch.items, self.history, generator.random(n)))
