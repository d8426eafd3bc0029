"""Training of ALS: epochs over both tables, and the way back when one is interrupted or diverges."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys_fast import backend, ops
from recsys_fast.errors import DivergedError
from recsys_fast.models.als_problem import AlsProblem

if TYPE_CHECKING:
    from recsys_fast.models.als import ALS

F32 = NDArray[np.float32]

# A fit may use 64 MB beyond factors, matrix and transpose; what the sweeps leave of it keeps the last epoch.
_SNAPSHOT_LIMIT = 48 << 20


def snapshot_bytes(n_users: int, n_items: int, width: int) -> int:
    """Return the size of the copy of both tables that training keeps; 0 where they are too large to copy."""
    size = 4 * width * (n_users + n_items)
    return size if size <= _SNAPSHOT_LIMIT else 0


def working_bytes(width: int, n_threads: int | None) -> int:
    """Return about what the sweeps and the eigensolver need besides: tiles per thread, square matrices once."""
    return backend.resolve_threads(n_threads) * (4 << 20) + 64 * width * width


class AlsTrainer:
    """One epoch: solve all users given the items, then all items given the users.

    Between epochs both tables are in the basis in which the items' Gram matrix is diagonal, ``spectrum``: what the
    users' sweep, ``fold_in`` and a resumed run need. A rotation of both tables leaves every score as it is.

    Args:
        model: published to after every epoch.
        problem: the objective and how it is solved.
        users: ``(n_users, d)``, changed in place.
        items: ``(n_items, d)``, changed in place.
        spectrum: ``(d,)`` of items that are in their basis already; None before the first epoch.
    """

    def __init__(self, model: ALS, problem: AlsProblem, users: F32, items: F32, spectrum: F32 | None) -> None:
        self.model, self.problem, self.users, self.items = model, problem, users, items
        self.by_user = problem.weighted(model._matrix)
        self.by_item = ops.csr_transpose(self.by_user, device=problem.device, n_threads=problem.n_threads)
        if problem.explicit:
            self.spectrum = np.zeros(users.shape[1], np.float32)
        else:
            self.spectrum = problem.to_item_basis(users, items) if spectrum is None else spectrum
        self.safe = snapshot_bytes(len(users), len(items), users.shape[1]) > 0
        self.kept: tuple[F32, F32, F32] | None = None
        self.stage = "whole"

    def epoch(self) -> float:
        """Train one epoch and return the loss; NaN where it diverged."""
        self.stage = "whole"
        self._keep()
        self.stage = "users"
        try:
            return self._epoch()
        except DivergedError:
            return math.nan

    def _epoch(self) -> float:
        x, y, problem = self.users, self.items, self.problem
        with self._mean_in(y):
            loss = problem.sweep(x, y, self.spectrum, self.by_user)
        if not math.isfinite(loss):
            return math.nan
        self.stage = "items"
        spectrum = self.spectrum if problem.explicit else self._rotated_to(x)
        with self._mean_in(x):
            loss = problem.sweep(y, x, spectrum, self.by_item)
        if not math.isfinite(loss):
            return math.nan
        if not problem.explicit:
            self.spectrum = self._rotated_to(y)
        self.stage = "done"
        self._publish()
        return loss + problem.penalty(x, self.by_user)

    def _publish(self) -> None:
        vars(self.model).pop("_cache", None)
        self.model._users, self.model._items, self.model._spectrum = self.users, self.items, self.spectrum

    def _rotated_to(self, table: F32) -> F32:
        """Rotate both tables to the eigenbasis of ``table`` and return its spectrum."""
        q, spectrum = self.problem.eigenbasis(table)

        def rotate() -> None:
            self.problem.rotate(self.users, q)
            self.problem.rotate(self.items, q)

        if self.safe:
            rotate()
        else:
            run_to_the_end(rotate)
        return spectrum

    @contextmanager
    def _mean_in(self, table: F32) -> Iterator[None]:
        """Carry the mean in the biases of the fixed side, so that no centred copy of the ratings is needed."""
        if not self.problem.explicit:
            yield
            return
        biases = table[:, -1].copy()
        table[:, -1] += np.float32(self.model.global_mean_)
        try:
            yield
        finally:
            table[:, -1] = biases

    # ---- the way back

    def _keep(self) -> None:
        """Copy the last epoch's state, where tables are small enough and there is one."""
        if not self.safe or not self.model.is_fitted:
            return
        if self.kept is None:
            self.kept = np.empty_like(self.users), np.empty_like(self.items), self.spectrum
        np.copyto(self.kept[0], self.users)
        np.copyto(self.kept[1], self.items)
        self.kept = (*self.kept[:2], self.spectrum)

    def rollback(self) -> None:
        """Restore the copy; without one, complete the interrupted sweep's state to something consistent."""
        if self.stage == "whole" or not self.model.is_fitted:
            return
        if self.kept is not None:
            np.copyto(self.users, self.kept[0])
            np.copyto(self.items, self.kept[1])
            self.spectrum = self.kept[2]
        else:
            _zero_bad_rows(self.users)
            _zero_bad_rows(self.items)
            if self.stage == "items" and not self.problem.explicit:
                self.spectrum = self._rotated_to(self.items)
        self.stage = "whole"
        self._publish()


def _zero_bad_rows(table: F32) -> None:
    """Set rows that diverged (their squares may not add up in float32) to zero, as if without history."""
    block = max(1, (1 << 20) // table.shape[1])
    for start in range(0, len(table), block):
        part = table[start : start + block]
        part[~(np.abs(part) < 1e15).all(axis=1)] = 0.0


def run_to_the_end(function: Callable[[], None]) -> None:
    """Call ``function`` where Ctrl-C cannot cut it short, and raise KeyboardInterrupt afterwards.

    Python raises KeyboardInterrupt in the main thread only, so a short-lived thread is out of its reach.
    """
    failure: list[BaseException] = []
    done = threading.Event()  # Thread.join takes a thread for ended when it is interrupted

    def guarded() -> None:
        try:
            function()
        except BaseException as error:  # handed to the caller below
            failure.append(error)
        finally:
            done.set()

    threading.Thread(target=guarded).start()
    interrupted: KeyboardInterrupt | None = None
    while not done.is_set():
        try:
            done.wait()
        except KeyboardInterrupt as error:
            interrupted = error
    if failure:
        raise failure[0]
    if interrupted is not None:
        raise interrupted
