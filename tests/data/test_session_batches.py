"""Session-parallel batches against the loop of the official code, and Caser's windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_fast.data import Sequences
from recsys_fast.data.batches import SessionBatches, WindowBatches, session_parallel
from recsys_fast.data.window_batches import windows_before


def reference(sessions: list[list[int]], batch_size: int) -> Iterator[tuple[list[int], list[int], list[bool]]]:
    """Lanes that advance together, written as plainly as possible: (inputs, targets, first) of every step."""
    waiting = [session for session in sessions if len(session) > 1]
    lanes = [(waiting.pop(0), 0) for _ in range(min(batch_size, len(waiting)))]
    while lanes:
        yield (
            [session[at] for session, at in lanes],
            [session[at + 1] for session, at in lanes],
            [at == 0 for _, at in lanes],
        )
        advanced: list[tuple[list[int], int]] = []
        for session, at in lanes:
            if at + 2 < len(session):
                advanced.append((session, at + 1))
            elif waiting:
                advanced.append((waiting.pop(0), 0))
        lanes = advanced


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=12), st.integers(1, 5))
def test_session_parallel_is_the_official_loop(sessions: list[list[int]], batch_size: int) -> None:
    made = session_parallel(Sequences(sessions, n_items=10), batch_size)
    found = [(batch.items.tolist(), batch.targets.tolist(), batch.first.tolist()) for batch in made.batches()]
    assert found == list(reference(sessions, batch_size))
    assert made.n_steps == len(found)
    state: dict[int, Any] = {}
    visited: dict[int, list[int]] = {}
    for batch in made.batches():  # each lane goes through whole sessions
        assert batch.lanes.dtype == np.int32
        assert (np.diff(batch.lanes) > 0).all()
        assert batch.users.dtype == np.int32
        columns = (batch.lanes, batch.items, batch.targets, batch.first, batch.users)
        for lane, item, target, first, user in zip(*(column.tolist() for column in columns), strict=True):
            visited.setdefault(user, [item]).append(target)
            assert first or state[lane] == item
            state[lane] = target
    assert visited == {user: session for user, session in enumerate(sessions) if len(session) > 1}


def test_session_batches_shuffle_by_epoch() -> None:
    rng = np.random.default_rng(0)
    data = Sequences([rng.integers(0, 30, rng.integers(0, 9)) for _ in range(200)], n_items=30)
    fixed = SessionBatches(data, 16)
    assert fixed.steps(0) is fixed.steps(5)
    assert fixed.n_batches == fixed.steps(0).n_steps
    shuffled = SessionBatches(data, 16, shuffle=True, seed=3)
    pairs = sorted(zip(fixed.steps(0).items.tolist(), fixed.steps(0).targets.tolist(), strict=True))
    for k in range(2):
        steps = shuffled.steps(k)
        assert len(steps.items) == shuffled.n_rows == fixed.n_rows
        assert sorted(zip(steps.items.tolist(), steps.targets.tolist(), strict=True)) == pairs
        assert np.array_equal(
            SessionBatches(data, 16, shuffle=True, seed=3, device="numba").steps(k).items, steps.items
        )
    assert not np.array_equal(shuffled.steps(0).items, shuffled.steps(1).items)
    assert sum(1 for _ in shuffled.epoch(0)) == shuffled.steps(0).n_steps
    assert shuffled.n_short == (data.lengths < 2).sum()


def test_session_batches_of_nothing_and_bad_sizes() -> None:
    assert list(SessionBatches(Sequences([]), 4).epoch(0)) == []
    assert list(SessionBatches(Sequences([[1], []], n_items=2), 4, shuffle=True).epoch(0)) == []
    with pytest.raises(ValueError, match="batch_size"):
        SessionBatches(Sequences([[1, 2]]), 0)
    with pytest.raises(TypeError, match="Sequences"):
        SessionBatches([[1, 2]], 2)  # type: ignore[arg-type]


def windows(batches: WindowBatches, k: int = 0) -> list[tuple[int, list[int], list[int]]]:
    found = []
    for batch in batches.epoch(k):
        assert batch.items.dtype == batch.targets.dtype == batch.users.dtype == np.int32
        found += list(zip(batch.users.tolist(), batch.items.tolist(), batch.targets.tolist(), strict=True))
    return found


def test_windows() -> None:
    data = Sequences([[0, 1, 2, 3, 4, 5], [6, 7, 8], [9, 10], [11], []])
    batches = WindowBatches(data, window=3, targets=2, batch_size=2)
    assert sorted(windows(batches)) == [
        (0, [0, 1, 2], [3, 4]), (0, [1, 2, 3], [4, 5]), (1, [-1, -1, 6], [7, 8]), (2, [-1, -1, 9], [10, -1]),
    ]  # fmt: skip
    assert (batches.n_samples, batches.n_batches, batches.n_short) == (4, 2, 2)
    one = WindowBatches(data, window=1, targets=3)
    assert (1, [6], [7, 8, -1]) in windows(one)
    assert (
        windows(batches, 0) == windows(batches, 0) == windows(WindowBatches(data, 3, 2, batch_size=9, device="numba"))
    )
    assert len({tuple(map(str, windows(batches, k))) for k in range(20)}) > 3
    assert list(WindowBatches(Sequences([[1]])).epoch(0)) == []
    with pytest.raises(ValueError, match="window"):
        WindowBatches(data, window=0)


def test_recent_windows_of_all_users() -> None:
    data = Sequences([[0, 1, 2], [], [3]])
    made = windows_before(data, np.arange(3), data.row_ptr[1:], 2)
    assert made.tolist() == [[1, 2], [-1, -1], [-1, 3]]
    empty = Sequences([[]], n_items=1)
    assert windows_before(empty, np.arange(1), empty.row_ptr[1:], 2).tolist() == [[-1, -1]]
