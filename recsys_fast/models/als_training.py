"""Training of ALS: epochs over both tables, and the way back when one is interrupted or diverges."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast import backend, ops
from recsys_fast.errors import DivergedError
from recsys_fast.models.als_problem import AlsProblem
from recsys_fast.models.memory import names_gpu
from recsys_fast.models.similarity import identity
from recsys_fast.ops import Csr

if TYPE_CHECKING:
    from recsys_fast.models.als import ALS

F32 = NDArray[np.float32]

# A fit may use 64 MB beyond factors, matrix and transpose; what the sweeps leave of it keeps the last epoch.
_SNAPSHOT_LIMIT = 48 << 20

# Rows that a large GPU solves at a time, each with a square matrix of its own.
_SOLVED_AT_ONCE = 1056


def snapshot_bytes(n_users: int, n_items: int, width: int) -> int:
    """Return the size of the copy of both tables that training keeps; 0 where they are too large to copy."""
    size = 4 * width * (n_users + n_items)
    return size if size <= _SNAPSHOT_LIMIT else 0


def working_bytes(width: int, n_threads: int | None) -> int:
    """Return about what the sweeps and the eigensolver need besides: tiles per thread, square matrices once."""
    return backend.resolve_threads(n_threads) * (4 << 20) + 64 * width * width


def device_bytes(matrix: Csr, width: int, weighted: bool) -> tuple[int, int]:
    """Return about what arrays of a training take on a GPU: with all of it there, and with matrices in blocks of rows.

    Args:
        matrix: the entries.
        width: columns of the tables.
        weighted: whether entries have values in training.
    """
    tables = 8 * width * sum(matrix.shape)  # and their copy
    matrices = 8 * (sum(matrix.shape) + 2) + 2 * (4 + 4 * (weighted or matrix.values is not None)) * matrix.nnz
    longest = 12 * max(int(np.diff(matrix.row_ptr).max(initial=0)), *matrix.shape)
    work = 24 * max(matrix.shape) + 16 * matrix.n_rows + 4 * matrix.nnz
    return tables + matrices + work, 4 * width * max(matrix.shape) + longest


def device_scratch(width: int) -> int:
    """Return about what the sweeps allocate on a GPU besides: a square matrix for each row that is being solved."""
    return min(2 << 30, _SOLVED_AT_ONCE * 4 * (width + 64) ** 2)


class AlsTrainer:
    """One epoch: solve all users given the items, then all items given the users.

    Between epochs both tables are in the basis in which the items' Gram matrix is diagonal, ``spectrum``: what the
    users' sweep, ``fold_in`` and a resumed run need. A rotation of both tables leaves every score as it is.

    With ``device="cuda"`` tables, the copy of the last epoch, matrix and transpose are on the device from the start to
    the end of the training, and ``publish`` copies the tables into the model. Where the GPU has no room for all that,
    everything stays in host memory, and each sweep sends blocks of rows there.

    Args:
        model: published to after every epoch; from a device, where somebody looks and at the end.
        problem: the objective and how it is solved.
        users: ``(n_users, d)``, changed in place (on a device: copied there).
        items: ``(n_items, d)``, likewise.
        spectrum: ``(d,)`` of items that are in their basis already; None before the first epoch.
    """

    def __init__(self, model: ALS, problem: AlsProblem, users: F32, items: F32, spectrum: F32 | None) -> None:
        self.model, self.problem, self.arrays = model, problem, _home(model, problem, users.shape[1])
        self.lengths = by_user = problem.weighted(model._matrix)
        self.apart = not self.arrays.is_array(users)
        if self.apart and problem.explicit:  # ratings less their mean, since a column there is not for us to change
            by_user = problem.centred(by_user, model.global_mean_)
        by_item = ops.csr_transpose(by_user, device=problem.host, n_threads=problem.n_threads)
        self.by_user, self.by_item = self._moved(by_user), self._moved(by_item)
        self.users, self.items = self.arrays.asarray(users), self.arrays.asarray(items)
        if self.apart and not model.is_fitted:
            model._users, model._items, model._spectrum = users, items, np.zeros(users.shape[1], np.float32)
        self.diagonal = self._moved(identity(len(users))) if self.apart else None
        if problem.explicit:
            self.spectrum = np.zeros(users.shape[1], np.float32)
        else:
            self.spectrum = problem.to_item_basis(self.users, self.items) if spectrum is None else spectrum
        self.safe = self.apart or snapshot_bytes(len(users), len(items), users.shape[1]) > 0
        self.kept: tuple[F32, F32, F32] | None = None
        self.stage, self.pending = "whole", False

    def _moved(self, matrix: Csr) -> Csr:
        """Return the matrix where the tables are."""
        if not self.apart:
            return matrix
        values = None if matrix.values is None else self.arrays.asarray(matrix.values)
        row_ptr, col_idx = self.arrays.asarray(matrix.row_ptr), self.arrays.asarray(matrix.col_idx)
        return matrix._replace(row_ptr=row_ptr, col_idx=col_idx, values=values)

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
        self._changed()
        return loss + problem.penalty(self._squares(x), self.lengths)

    def _squares(self, table: F32) -> NDArray[np.floating[Any]]:
        """Return the squared length of every row."""
        if self.diagonal is None:
            squares: NDArray[np.floating[Any]] = np.einsum("ij,ij->i", table, table)
            return squares
        out = self.arrays.empty(len(table), np.float32)
        self.problem.products(out, table, table, self.diagonal)
        found: F32 = self.arrays.to_host(out)
        return found

    def _changed(self) -> None:
        """Note that the model is behind; without a device it is brought up to date at once."""
        vars(self.model).pop("_cache", None)
        self.pending = True
        if not self.apart:
            self.publish()

    def publish(self) -> None:
        """Bring the model's tables up to date."""
        if not self.pending:
            return
        users, items = self.arrays.to_host(self.users), self.arrays.to_host(self.items)
        self.model._users, self.model._items, self.model._spectrum = users, items, self.spectrum
        vars(self.model).pop("_cache", None)
        self.pending = False

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
        if not self.problem.explicit or self.apart:
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
        """Copy the last epoch's state, where tables are small enough or on a device and there is one."""
        if not self.safe or not self.model.is_fitted:
            return
        if self.kept is None:
            users, items = (self.arrays.empty(table.shape, np.float32) for table in (self.users, self.items))
            self.kept = users, items, self.spectrum
        _copy(self.kept[0], self.users)
        _copy(self.kept[1], self.items)
        self.kept = (*self.kept[:2], self.spectrum)

    def rollback(self) -> None:
        """Restore the copy; without one, complete the interrupted sweep's state to something consistent."""
        if self.stage == "whole" or not self.model.is_fitted:
            return
        if self.kept is not None:
            _copy(self.users, self.kept[0])
            _copy(self.items, self.kept[1])
            self.spectrum = self.kept[2]
        else:
            _zero_bad_rows(self.users)
            _zero_bad_rows(self.items)
            if self.stage == "items" and not self.problem.explicit:
                self.spectrum = self._rotated_to(self.items)
        self.stage = "whole"
        self._changed()


def _copy(target: F32, source: F32) -> None:
    """Copy one table into another of the same device or of the host."""
    target[...] = source


def _home(model: ALS, problem: AlsProblem, width: int) -> Any:
    """Return the array module of tables and matrices: that of the device, NumPy where it has no room for them."""
    device = problem.device
    if names_gpu(device):
        needed = device_bytes(model._matrix, width, problem.explicit or problem.alpha != 1.0)[0]
        device = device if needed <= backend.device_memory(device) * 3 // 4 else "auto"
    return backend.arrays(device)


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
