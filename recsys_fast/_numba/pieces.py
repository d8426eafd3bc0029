"""Pieces of rows handed to threads as they come free: for rows whose work differs too much to be dealt out before."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Sequence


def cut_pieces(n: int) -> list[int]:
    """Return bounds that cut n units of work into at most 16 pieces."""
    return [n * k // 16 for k in range(17)] if n > 16 else list(range(n + 1))


def run_pieces(bounds: Sequence[int], n_threads: int, worker: Callable[[], Callable[[int, int], object]]) -> None:
    """Call ``work(bounds[i], bounds[i + 1])`` for every i, where each thread gets its own ``work = worker()``.

    The calling thread takes part. Ctrl-C, or an exception in any thread, stops all at the end of their pieces and is
    raised here. ``work`` has to release the GIL.
    """
    pieces = deque(itertools.pairwise(bounds))
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work = worker()
            while not errors:
                try:
                    piece = pieces.popleft()
                except IndexError:
                    return
                work(*piece)
        except BaseException as error:
            errors.append(error)

    helpers = [threading.Thread(target=run) for _ in range(min(n_threads, len(pieces)) - 1)]
    started: list[threading.Thread] = []
    try:
        for helper in helpers:
            helper.start()
            started.append(helper)
        run()
        for helper in started:
            helper.join()
    except BaseException as error:
        errors.append(error)
    for helper in started:  # nobody may write into the caller's arrays after this function has returned
        helper.join()
    if errors:
        raise errors[0]
