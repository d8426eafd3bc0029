"""run_pieces: every piece once, errors and interrupts reach the caller, and no thread works on after the return."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest

from recsys_fast._numba.pieces import run_pieces


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("bounds", [[0], [0, 3], [0, 1, 4, 4, 9, 12, 13]])
def test_every_piece_runs_once(bounds: list[int], n_threads: int) -> None:
    done: list[tuple[int, int]] = []
    run_pieces(bounds, n_threads, lambda: lambda first, last: done.append((first, last)))
    assert sorted(done) == list(itertools.pairwise(bounds))


def test_each_thread_has_its_own_worker() -> None:
    meet = threading.Barrier(3, timeout=20)
    owners: dict[int, set[int]] = {}

    def worker() -> Callable[[int, int], None]:
        mine = owners.setdefault(threading.get_ident(), set())

        def work(first: int, last: int) -> None:
            mine.add(threading.get_ident())
            if first < 3:
                meet.wait()  # so that three threads really take part

        return work

    run_pieces(range(7), 3, worker)
    assert len(owners) == 3
    assert all(users == {owner} for owner, users in owners.items())


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_error_stops_all_and_is_raised(kind: type[BaseException], n_threads: int) -> None:
    done: list[int] = []

    def work(first: int, last: int) -> None:
        if first == 5:
            raise kind("piece 5")
        time.sleep(0.001)
        done.append(first)

    with pytest.raises(kind, match="piece 5"):
        run_pieces(range(1001), n_threads, lambda: work)
    after = len(done)
    assert after < 100, "the other pieces must not be worked off"
    time.sleep(0.02)
    assert len(done) == after, "no thread may work on after the return"


def test_an_error_in_a_worker_is_raised() -> None:
    def worker() -> Callable[[int, int], None]:
        raise MemoryError("no scratch")

    with pytest.raises(MemoryError, match="no scratch"):
        run_pieces(range(4), 2, worker)
