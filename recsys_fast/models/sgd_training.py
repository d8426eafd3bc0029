"""Epochs of stochastic gradient descent over interactions: sampling, schedules, and the way back from a bad epoch."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast import backend
from recsys_fast.errors import DivergedError, NotSupportedError, message
from recsys_fast.models.inputs import column_counts
from recsys_fast.ops import Csr
from recsys_fast.ops.unchecked import device_finite, run_unchecked

if TYPE_CHECKING:
    from recsys_fast.models.sgd_factors import SgdFactorModel

F32 = NDArray[np.float32]
_NO_F32, _NO_F64 = np.empty(0, np.float32), np.empty(0, np.float64)

#: code of each optimizer, and how many numbers it keeps per parameter
OPTIMIZERS = {"sgd": (0, 0), "adagrad": (1, 1), "adam": (2, 2)}
SCHEDULES = ("constant", "linear", "cosine")
BALANCES = ("none", "users", "items")

#: what Adagrad's sums of squared gradients start from: its first steps are then ``learning_rate`` times the gradient
#: at most, not ``learning_rate`` times its sign
ADAGRAD_START = 1.0

# what an epoch is for: all tables move; only users; only positive items; items as negatives (all move)
FIT, FOLD_USERS, FOLD_ITEMS, PUSH_ITEMS = range(4)
_FROZEN = (0, 1, 2, 0)


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an array that begins at a cache line: then so do rows of 16 floats, 32, ..., which else touch one more."""
    line, dtype = 64, np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + line, np.uint8)
    start = -memory.ctypes.data % line
    out: NDArray[Any] = memory[start : start + size].view(dtype).reshape(shape)
    return out


def aligned(table: NDArray[Any]) -> NDArray[Any]:
    """Return the table itself, or a copy of it that begins at a cache line."""
    if table.ctypes.data % 64 == 0 or not table.size:
        return table
    out = aligned_empty(table.shape, table.dtype)
    out[...] = table
    return out


def learning_rate_at(schedule: str, learning_rate: float, epoch: int, n_epochs: int) -> float:
    """Return the learning rate of an epoch, counted from 0.

    "linear" and "cosine" fall from ``learning_rate`` in the first epoch to 0 just after the last one,
    ``learning_rate (1 - t)`` and ``learning_rate (1 + cos(pi t)) / 2`` with t = epoch / n_epochs. Epochs beyond
    ``n_epochs`` keep the rate of the last one.
    """
    t = min(epoch, n_epochs - 1) / n_epochs
    if schedule == "linear":
        return learning_rate * (1.0 - t)
    return learning_rate * (1.0 + math.cos(math.pi * t)) / 2.0 if schedule == "cosine" else learning_rate


def balanced_rates(matrix: Csr, balance: str, exponent: float) -> F32:
    """Return how often each entry is visited per epoch, ``(nnz,) float32``; empty where that is once each.

    An entry of a user (or item) with n entries gets a rate proportional to ``n^-exponent``; the rates add up to nnz.
    """
    if balance == "none" or exponent == 0.0 or not matrix.nnz:
        return _NO_F32
    lengths = np.diff(matrix.row_ptr) if balance == "users" else column_counts(matrix)
    weights = np.maximum(lengths, 1).astype(np.float64) ** -exponent
    weights *= matrix.nnz / float(weights @ lengths)
    per_side = weights.astype(np.float32)
    rates: F32 = np.repeat(per_side, lengths) if balance == "users" else per_side[matrix.col_idx]
    return rates


def negative_cdf(matrix: Csr, exponent: float | None, known_only: bool) -> NDArray[np.float64]:
    """Return running sums of the weights that negatives are drawn by, ``(n_items,)``; empty where they are equal.

    Args:
        matrix: what popularity is counted in.
        exponent: weight = number of interactions to this power; None for equal weights.
        known_only: items without interactions are never drawn.
    """
    if (exponent is None and not known_only) or not matrix.nnz:
        return _NO_F64
    counts = column_counts(matrix)
    if exponent is None:
        if counts.all():
            return _NO_F64
        return np.cumsum((counts > 0).astype(np.float64))
    weights = counts.astype(np.float64) ** exponent
    if known_only:
        weights[counts == 0] = 0.0
    return np.cumsum(weights / weights.max())


class Sgd(NamedTuple):
    """One call of a model's epoch operation, but for what changes from epoch to epoch.

    Attributes:
        model: whose operation and parameters.
        tables: the ten arrays of the flat signature, trained in place.
        matrix: entries, with their values where the operation is to see them.
        rates: visits per entry; empty for one each.
        features: six arrays of the flat signature.
        cdf: of negatives; empty for equal weights.
        purpose: FIT, FOLD_USERS, FOLD_ITEMS or PUSH_ITEMS.
    """

    model: SgdFactorModel
    tables: tuple[NDArray[Any], ...]
    matrix: Csr
    rates: F32
    features: tuple[NDArray[Any], ...]
    cdf: NDArray[np.float64]
    purpose: int

    def placed(self) -> Sgd:
        """Return the same with copies of all arrays on the model's device; itself on the CPU."""
        if not on_cuda(self.model):
            return self
        asarray, matrix = backend.arrays(self.model.device).asarray, self.matrix
        values = None if matrix.values is None else asarray(matrix.values)
        return self._replace(
            tables=tuple(map(asarray, self.tables)),
            matrix=matrix._replace(row_ptr=asarray(matrix.row_ptr), col_idx=asarray(matrix.col_idx), values=values),
            rates=asarray(self.rates),
            features=tuple(map(asarray, self.features)),
            cdf=asarray(self.cdf),
        )

    def fetch(self, tables: tuple[NDArray[Any], ...]) -> None:
        """Copy the tables of ``placed()`` that its epochs changed back into ``tables``."""
        if self.tables is tables:
            return
        arrays, frozen = backend.arrays(self.model.device), _FROZEN[self.purpose]
        for at, (target, source) in enumerate(zip(tables, self.tables, strict=True)):
            if target.size and not (frozen == 1 and at % 2 == 1) and not (frozen == 2 and at % 2 == 0):
                np.copyto(target, arrays.to_host(source))

    def run(self, epoch: int) -> tuple[float, int, int]:
        """Train one epoch; return the sum of the loss, the number of samples, and of samples without a negative.

        Raises:
            NotSupportedError: items are folded in as negatives on CUDA, where that would not be deterministic.
        """
        model, matrix = self.model, self.matrix
        if self.purpose == PUSH_ITEMS and on_cuda(model):
            mend = 'set_params(device="cpu") first'
            raise NotSupportedError(message("folding items in has no CUDA kernel in this version", mend=mend))
        rate = learning_rate_at(model.schedule, model.learning_rate, epoch, model.n_epochs)
        n_threads = model.n_threads
        deterministic = model.deterministic or self.purpose != FIT
        if self.purpose == PUSH_ITEMS:  # one thread without blocks: negatives are the same few items for everybody
            n_threads, deterministic = 1, False
        loss, trained, skipped = run_unchecked(
            model._operation, *self.tables, matrix.row_ptr, matrix.col_idx, matrix.or_empty(), self.rates,
            *self.features, *model._arguments(self.cdf, self.purpose), OPTIMIZERS[model.optimizer][0], rate,
            float(model.regularization), _FROZEN[self.purpose], model.seed_, epoch, deterministic,
            device=model.device, n_threads=n_threads,
        )  # fmt: skip
        return float(loss), int(trained), int(skipped)


def on_cuda(model: SgdFactorModel) -> bool:
    """Say whether a model trains on a GPU."""
    return backend.resolve_device(model.device).startswith("cuda")


class SgdTrainer:
    """Trains the tables of a model in place, and keeps a copy of the last finished epoch beside them.

    On CUDA both stay on the device from epoch to epoch, and ``publish`` copies the tables into the model's.

    Args:
        model: its tables are trained, and its caches dropped, epoch by epoch.
        sgd: the operation.
    """

    def __init__(self, model: SgdFactorModel, sgd: Sgd) -> None:
        self.model, self.tables, self.sgd = model, sgd.tables, sgd.placed()
        self.kept: tuple[NDArray[Any], ...] | None = None
        self.dirty = self.told = False

    def epoch(self) -> float:
        """Train one epoch and return the mean loss of its samples.

        Raises:
            DivergedError: the loss or a table is not finite.
        """
        self._keep()
        self.dirty = True
        vars(self.model).pop("_cache", None)
        done = self.model.n_epochs_ if self.model.is_fitted else 0
        loss, trained, skipped = self.sgd.run(done)
        vars(self.model).pop("_cache", None)
        if not (math.isfinite(loss) and all(self._finite(table) for table in self.sgd.tables[:4])):
            raise self._diverged(done)
        if skipped and not self.told:
            self.told = True
            what = f"{type(self.model).__name__}: {skipped} of {skipped + trained} samples of this epoch are left out"
            why = "their users have interacted with every item that can be drawn as a negative"
            warnings.warn(f"{what}: {why}", stacklevel=5)
        return loss / trained if trained else 0.0

    def _diverged(self, done: int) -> DivergedError:
        name, rate = type(self.model).__name__, self.model.learning_rate
        mend = f"the model keeps epoch {done}" if done else "the model is not fitted"
        mend += f"; lower learning_rate (now {rate:g})"
        if hasattr(self.model, "regularization"):
            mend += ", raise regularization, or scale the values down"
        return DivergedError(message(f"{name} diverged in epoch {done + 1}: loss or factors", "inf or NaN", mend=mend))

    def _keep(self) -> None:
        self.dirty = False
        if not self.model.is_fitted:
            return
        if self.kept is None:
            empty = backend.arrays(self.model.device).empty
            self.kept = tuple(empty(table.shape, table.dtype) for table in self.sgd.tables)
        for target, source in zip(self.kept, self.sgd.tables, strict=True):
            target[...] = source

    def _finite(self, table: Any) -> bool:
        return finite(table) if self.sgd.tables is self.tables else device_finite(table, self.model.device)

    def publish(self) -> None:
        """Bring the model's tables up to date."""
        self.sgd.fetch(self.tables)
        vars(self.model).pop("_cache", None)

    def rollback(self) -> None:
        """Put the last finished epoch back; before the first there is none, and the model is not fitted."""
        if self.dirty and self.kept is not None:
            for target, source in zip(self.sgd.tables, self.kept, strict=True):
                target[...] = source
            vars(self.model).pop("_cache", None)
        self.dirty = False


def working_bytes(n_users: int, n_items: int, nnz: int, n_threads: int | None) -> int:
    """Return about what an epoch needs besides: the order of users and entries by block, scratch rows per thread."""
    return 16 * (n_users + n_items) + 20 * nnz + backend.resolve_threads(n_threads) * (1 << 20)


# Of an epoch on a GPU: bytes per entry of the schedule, with rates of visits and without, and per visit of a stage, of
# which there is one at a time. Blocks of items keep marks.
_SCHEDULE, _RATED, _VISIT, _STAGE, _BLOCKS = 32, 20, 48, 2 << 30, 16


def device_bytes(matrix: Csr, tables: int, rated: bool, n_drawn: int) -> int:
    """Return about what training takes on a GPU.

    Args:
        matrix: the entries.
        tables: bytes of what is learned and of the optimizer.
        rated: whether entries are visited at different rates.
        n_drawn: items that a visit draws at most.
    """
    nnz = matrix.nnz
    entries = 8 * (matrix.n_rows + 1) + (4 + 4 * (matrix.values is not None) + _SCHEDULE + _RATED * rated) * nnz
    stage = min(_STAGE, (_VISIT + 16 * n_drawn) * nnz)
    return 2 * tables + entries + stage + 4 * _BLOCKS * matrix.n_cols + 40 * sum(matrix.shape) + (1 << 20)


def finite(table: F32) -> bool:
    """Whether every number is finite and far enough from float32's largest for their squares to add up."""
    flat = table.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(float(np.dot(flat, flat)))
