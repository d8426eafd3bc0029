"""Session-parallel minibatches of GRU4Rec (Hidasi et al. 2016): lanes of sessions that advance one event at a time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.epoch_random import EpochRandom
from recsys_fast.data.sequences import Sequences, spread
from recsys_fast.errors import message


class SessionBatch(NamedTuple):
    """One step of all lanes that still have a session, at most ``batch_size``.

    Attributes:
        items: ``(B,) int32`` the event that each lane is at.
        targets: ``(B,) int32`` the event after it.
        first: ``(B,) bool`` whether the event begins a session: the lane's state starts from zero.
        lanes: ``(B,) int32`` ascending number of each lane, below ``batch_size``: where its state is kept. All
            ``0 .. batch_size - 1``, but for the last steps, when lanes have run out of sessions.
        users: ``(B,) int32`` row of the ``Sequences`` that each lane is in.
    """

    items: NDArray[np.int32]
    targets: NDArray[np.int32]
    first: NDArray[np.bool_]
    lanes: NDArray[np.int32]
    users: NDArray[np.int32]


class SessionSteps(NamedTuple):
    """All steps of an epoch, packed.

    Attributes:
        items, targets, first, lanes, users: ``(n_events,)`` of all steps, behind each other; see ``SessionBatch``.
        step_ptr: ``(n_steps + 1,) int64``; step t holds ``step_ptr[t]`` to ``step_ptr[t + 1]``.
    """

    items: NDArray[np.int32]
    targets: NDArray[np.int32]
    first: NDArray[np.bool_]
    lanes: NDArray[np.int32]
    users: NDArray[np.int32]
    step_ptr: NDArray[np.int64]

    @property
    def n_steps(self) -> int:
        """Number of steps."""
        return len(self.step_ptr) - 1

    def batches(self) -> Iterator[SessionBatch]:
        """Yield the steps one by one."""
        bounds = self.step_ptr.tolist()
        for begin, end in pairwise(bounds):
            step = slice(begin, end)
            first, lanes, users = self.first[step], self.lanes[step], self.users[step]
            yield SessionBatch(self.items[step], self.targets[step], first, lanes, users)


def session_parallel(sequences: Sequences, batch_size: int, order: NDArray[np.int64] | None = None) -> SessionSteps:
    """Return the minibatches of the official GRU4Rec code.

    The first ``batch_size`` sessions start in the lanes; every step takes one event of each lane as input and the next
    one as target. A lane whose session has ended takes the next session (several at once in the order of lanes). When
    no session is left a lane is dropped, and steps become smaller. Sessions of less than two events are passed over.

    Args:
        sequences: a row per session.
        batch_size: number of lanes; there are never more than sessions.
        order: ``(n,)`` rows in the order in which they start; None for the order of rows (in the official code that
            of the sessions' first events in time).
    """
    if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__") or batch_size < 1:
        raise ValueError(message("batch_size", batch_size, "an int of 1 or more"))
    rows = np.arange(sequences.n_users) if order is None else np.asarray(order, np.int64)
    rows = rows[sequences.lengths[rows] >= 2]
    n_lanes = min(int(batch_size), len(rows))
    steps = sequences.lengths[rows] - 1  # of each session
    lane, start = _lanes(steps, n_lanes)
    n_steps = int((start + steps).max()) if len(rows) else 0
    row_ptr, event = spread(sequences.row_ptr[rows], steps)
    place = np.repeat((start - row_ptr[:-1]) * n_lanes + lane, steps)  # cell of (step, lane) in a full table
    place += np.arange(len(event)) * n_lanes
    table = np.full(n_steps * n_lanes, -1, np.int64)
    table[place] = event
    there = table >= 0
    step_ptr = np.zeros(n_steps + 1, np.int64)
    np.cumsum(there.reshape(n_steps, n_lanes).sum(axis=1) if n_lanes else 0, out=step_ptr[1:])
    event = table[there]
    begins = np.zeros(sequences.n_events + 1, bool)
    begins[sequences.row_ptr[:-1]] = True
    lanes = (np.flatnonzero(there) % n_lanes if n_lanes else event).astype(np.int32)
    targets, users = sequences.items[event + 1], sequences.rows()[event]
    return SessionSteps(sequences.items[event], targets, begins[event], lanes, users, step_ptr)


def _lanes(steps: NDArray[np.int64], n_lanes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the lane of each session, and the step at which it starts."""
    lane, start = np.arange(len(steps)), np.zeros(len(steps), np.int64)
    free = [(int(n), at) for at, n in enumerate(steps[:n_lanes].tolist())]  # (step at which it is free, lane)
    heapq.heapify(free)
    lane_of, start_of = [], []
    for n in steps[n_lanes:].tolist():
        when, at = free[0]
        lane_of.append(at)
        start_of.append(when)
        heapq.heapreplace(free, (when + n, at))
    lane[n_lanes:], start[n_lanes:] = lane_of, start_of
    return lane, start


class SessionBatches:
    """Session-parallel batches, epoch after epoch; see ``session_parallel``.

    Args:
        sequences: a row per session.
        batch_size: number of lanes.
        shuffle: start sessions in a random order that is another one each epoch; False keeps that of the rows, as
            the official code does by default.
        seed: 0 to 2^64 - 1.
        device, n_threads: where random words are drawn; the result depends on neither.

    Attributes:
        n_batches: steps of epoch 0; with ``shuffle`` other epochs have about as many.
        n_rows: events with a target, of an epoch.
        n_short: sessions of less than two events.
    """

    def __init__(
        self,
        sequences: Sequences,
        batch_size: int = 64,
        *,
        shuffle: bool = False,
        seed: int = 0,
        device: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        if not isinstance(sequences, Sequences):
            raise TypeError(message("sequences", type(sequences).__name__, "Sequences"))
        self.sequences, self.batch_size, self.shuffle, self.seed = sequences, batch_size, shuffle, seed
        self.n_rows = int(np.maximum(sequences.lengths - 1, 0).sum())
        self.n_short = int((sequences.lengths < 2).sum())
        self._how: dict[str, Any] = {"device": device, "n_threads": n_threads}
        self._fixed = None if shuffle else session_parallel(sequences, batch_size)
        self.n_batches = self.steps(0).n_steps

    def steps(self, k: int) -> SessionSteps:
        """Return all steps of epoch k."""
        if self._fixed is not None:
            return self._fixed
        order = EpochRandom(self.seed, k, **self._how).order(self.sequences.n_users)
        return session_parallel(self.sequences, self.batch_size, order)

    def epoch(self, k: int) -> Iterator[SessionBatch]:
        """Yield the batches of epoch k (0, 1, ...)."""
        return self.steps(k).batches()
