"""Splits of ``Sequences``: the last events of each user, everything from one time on, other users."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.report import Step
from recsys_fast.data.sequences import Sequences, spread
from recsys_fast.errors import message


class SequenceParts(NamedTuple):
    """Three parts of a ``Sequences``, of its users.

    Attributes:
        train: all but the events below.
        valid: the events before those of ``test``.
        test: the last events.
    """

    train: Sequences
    valid: Sequences
    test: Sequences

    @property
    def n_short(self) -> int:
        """Number of users whose history was too short to be split; all of it is in ``train``."""
        return int(((self.train.lengths > 0) & (self.test.lengths == 0)).sum())


class SequenceSplit(NamedTuple):
    """Two parts of a ``Sequences``."""

    train: Sequences
    test: Sequences


def _part(data: Sequences, begin: NDArray[np.int64], end: NDArray[np.int64], step: Step | None = None) -> Sequences:
    """Return the events ``begin[u]`` to ``end[u]`` of every user."""
    row_ptr, events = spread(begin, end - begin)
    times = None if data.timestamps is None else data.timestamps[events]
    report = None if step is None else data.report.plus(step)
    return data._like(row_ptr, data.items[events], times, data.user_ids, report)


def leave_last(data: Sequences, k: int, min_train: int) -> SequenceParts:
    """Return (train, valid, test): the last k events are the test part, the k before them the validation part."""
    enough = data.lengths >= 2 * k + min_train
    end = data.row_ptr[1:]
    test = np.where(enough, end - k, end)
    valid = np.where(enough, end - 2 * k, end)
    short = ~enough & (data.lengths > 0)
    note = f"{int(short.sum()):,} of {data.n_users:,} users have fewer than {2 * k + min_train} events: all in train"
    step = Step("leave_one_out" if k == 1 else "leave_k_out", note=note)
    return SequenceParts(
        _part(data, data.row_ptr[:-1], valid, step), _part(data, valid, test), _part(data, test, end)
    )  # fmt: skip


def cut_in_time(data: Sequences, at: int | None, n_train: int) -> SequenceSplit:
    """Return the events before a time, and those at or after it.

    Args:
        data: sequences with times.
        at: the time; None to have the first ``n_train`` events of all in the training part instead, equal times by
            user and place.
        n_train: see ``at``.
    """
    assert data.timestamps is not None
    times = data.timestamps
    if at is not None:
        late = times >= at
    else:
        late = np.zeros(len(times), bool)
        late[np.argsort(times, kind="stable")[n_train:]] = True
    before = np.zeros(len(times) + 1, np.int64)
    np.cumsum(~late, out=before[1:])
    cut = data.row_ptr[:-1] + np.diff(before[data.row_ptr])
    return SequenceSplit(_part(data, data.row_ptr[:-1], cut), _part(data, cut, data.row_ptr[1:]))


def by_rows(data: Sequences, in_test: NDArray[np.bool_]) -> SequenceSplit:
    """Return the rows outside and inside of a mask, whole."""
    return SequenceSplit(data[~in_test], data[in_test])


def join(a: Sequences, b: Sequences) -> Sequences:
    """Return the events of both, user by user: those of ``a`` first, or in time order where both have times."""
    if a.shape != b.shape:
        raise ValueError(message("shapes differ", f"{a.shape} and {b.shape}", "two parts of the same shape"))
    for name in ("user_ids", "item_ids"):
        if getattr(a, name) != getattr(b, name):
            mend = f"read the second with {name}=first.{name}"
            raise ValueError(message(f"{name} of the two differ", expected="the same map", mend=mend))
    if (a.timestamps is None) != (b.timestamps is None):
        raise ValueError(message("only one of the two has timestamps", expected="both or neither"))
    row_ptr = a.row_ptr + b.row_ptr
    order = np.empty(a.n_events + b.n_events, np.int64)  # of the events of a, then b
    order[spread(row_ptr[:-1], a.lengths)[1]] = np.arange(a.n_events)
    order[spread(row_ptr[:-1] + a.lengths, b.lengths)[1]] = np.arange(a.n_events, len(order))
    times: Any = None
    if a.timestamps is not None and b.timestamps is not None:
        from recsys_fast.data.sequence_input import by_user_and_time

        times = np.concatenate([a.timestamps, b.timestamps])[order]
        rows = np.repeat(np.arange(a.n_users, dtype=np.int32), np.diff(row_ptr))
        stable = by_user_and_time(rows, times, a.n_users)
        order, times = order[stable], times[stable].copy()
    return a._like(row_ptr, np.concatenate([a.items, b.items])[order], times, a.user_ids)
