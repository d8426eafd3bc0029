"""Windows of a fixed number of inputs and targets, as Caser trains on (Tang & Wang 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.epoch_random import EpochRandom
from recsys_fast.data.sequences import Sequences, spread
from recsys_fast.errors import message


class WindowBatch(NamedTuple):
    """Windows of one training step.

    Attributes:
        items: ``(n, window) int32`` inputs, oldest first; -1 on the left where a history is shorter.
        targets: ``(n, targets) int32`` what follows; -1 on the right where a sequence ends before.
        users: ``(n,) int32`` row that each window is a part of.
    """

    items: NDArray[np.int32]
    targets: NDArray[np.int32]
    users: NDArray[np.int32]


class WindowBatches:
    """Every window of ``window`` events and the ``targets`` after it, in random order.

    A sequence shorter than both together gives one window: its last ``targets`` events (fewer where otherwise no
    input would be left) with what comes before as inputs. Sequences of less than two events give none.

    Args:
        sequences: what to train on.
        window: number of inputs L.
        targets: number of targets T.
        batch_size: windows in a batch; all batches of an epoch are of about the same size.
        seed: 0 to 2^64 - 1.
        device, n_threads: where random words are drawn; the result depends on neither.

    Attributes:
        n_batches: of an epoch.
        n_samples: windows of an epoch.
        n_short: sequences of less than two events.
    """

    def __init__(
        self,
        sequences: Sequences,
        window: int = 5,
        targets: int = 3,
        *,
        batch_size: int = 512,
        seed: int = 0,
        device: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        if not isinstance(sequences, Sequences):
            raise TypeError(message("sequences", type(sequences).__name__, "Sequences"))
        for name, size in (("window", window), ("targets", targets), ("batch_size", batch_size)):
            if isinstance(size, bool) or not hasattr(size, "__index__") or size < 1:
                raise ValueError(message(name, size, "an int of 1 or more"))
        self.sequences, self.window, self.targets, self.seed = sequences, window, targets, seed
        users = np.flatnonzero(sequences.lengths >= 2)
        first, last = sequences.row_ptr[users], sequences.row_ptr[users + 1]
        lowest = np.minimum(first + window, np.maximum(last - targets, first + 1))  # first target of the first window
        n = np.maximum(last - targets - lowest, 0) + 1
        _, self._target = spread(lowest, n)
        self._user = np.repeat(users, n).astype(np.int32)
        self.n_samples = len(self._user)
        self.n_batches = -(-self.n_samples // batch_size)
        self.n_short = int((sequences.lengths < 2).sum())
        self._how: dict[str, Any] = {"device": device, "n_threads": n_threads}

    def epoch(self, k: int) -> Iterator[WindowBatch]:
        """Yield the batches of epoch k (0, 1, ...)."""
        order = EpochRandom(self.seed, k, **self._how).order(self.n_samples)
        cuts = (np.arange(self.n_batches + 1) * self.n_samples // max(self.n_batches, 1)).tolist()
        for b in range(self.n_batches):
            chosen = order[cuts[b] : cuts[b + 1]]
            user, target = self._user[chosen], self._target[chosen]
            items = windows_before(self.sequences, user, target, self.window)
            after = target[:, None] + np.arange(self.targets)
            there = after < self.sequences.row_ptr[user.astype(np.int64) + 1][:, None]
            targets = np.where(there, self.sequences.items[np.where(there, after, 0)], -1).astype(np.int32)
            yield WindowBatch(items, targets, user)


def windows_before(
    sequences: Sequences, users: NDArray[np.integer[Any]], ends: NDArray[np.int64], window: int
) -> NDArray[np.int32]:
    """Return the ``window`` events of rows ``users`` before the events ``ends``, -1 on the left where there are fewer.

    ``windows_before(s, np.arange(s.n_users), s.row_ptr[1:], window)`` are the most recent ones of all users.

    Args:
        sequences: histories.
        users: ``(n,)`` rows, in range.
        ends: ``(n,) int64`` positions among all events.
        window: number of events.

    Returns:
        ``(n, window) int32``, oldest first.
    """
    if not sequences.n_events:
        return np.full((len(ends), window), -1, np.int32)
    before = ends[:, None] + np.arange(-window, 0)
    there = before >= sequences.row_ptr[users][:, None]
    return np.where(there, sequences.items[np.where(there, before, 0)], -1).astype(np.int32)
