"""Training of factorization machines: an epoch of gradient descent or a sweep of alternating least squares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.models.rows import Rows
from recsys_fast.ops.fm import prepare_epoch
from recsys_fast.ops.fm_data import Pairs

if TYPE_CHECKING:
    from recsys_fast.models.fm_machine import FactorizationMachine

_COUNTER = 2**32  # epochs that the random numbers tell apart


class FmTrainer:
    """Trains in place the arrays that the model holds, and keeps a copy of them from before the epoch.

    Args:
        model: what is trained.
        rows: what it is trained on.
    """

    def __init__(self, model: FactorizationMachine, rows: Rows) -> None:
        self.model, self.rows = model, rows
        self.arrays: list[NDArray[Any]] = [model._table, model._state, model._steps, model._bias]
        self.kept: list[NDArray[Any]] | None = None
        self.touched = False
        self.step = self._sweep() if model._als else self._descent()

    def _place(self) -> dict[str, Any]:
        model = self.model
        return {
            "weight_regularization": model._weight_regularization, "factor_regularization": model.regularization,
            "device": model.device, "n_threads": model.n_threads,
        }  # fmt: skip

    def _descent(self) -> Any:
        """Return a function that runs one epoch and returns the mean loss."""
        model, rows = self.model, self.rows
        groups = None if rows.groups is None or model.loss != "bpr" else Pairs.of(rows.targets, rows.groups)
        weights = rows.weights
        n = len(rows.targets) if groups is None else len(groups.positives)
        options: dict[str, Any] = {
            "state": model._state, "steps": model._steps, "weights": weights, "groups": groups,
            "loss": model.loss, "optimizer": model.solver, "learning_rate": model.learning_rate,
            "batch_size": model.batch_size, "seed": model.seed_, **model._field_options(), **self._place(),
        }  # fmt: skip
        run = prepare_epoch(model._table, model._bias, rows.matrix, rows.targets, **options)
        return lambda: run(getattr(model, "n_epochs_", 0) % _COUNTER) / n

    def _sweep(self) -> Any:
        """Return a function that solves every feature once and returns the objective per row."""
        model, rows = self.model, self.rows
        columns = ops.csr_transpose(rows.matrix, device=model.device, n_threads=model.n_threads)
        options = {"weights": rows.weights, "columns": columns, **self._place()}

        def step() -> float:
            total = ops.fm_als_sweep(model._table, model._bias, rows.matrix, rows.targets, **options)
            return total / len(rows.targets)

        return step

    def epoch(self) -> float:
        """Train one epoch and return the mean loss; NaN where parameters are not finite any more."""
        self._keep()
        self.touched = True
        loss = float(self.step())
        # A sum of finite numbers may overflow; what it would overflow from has diverged just as well.
        finite = all(math.isfinite(float(array.sum(dtype=np.float64))) for array in (self.arrays[0], self.arrays[3]))
        if not finite:
            return math.nan
        self.touched = False
        return loss

    def _keep(self) -> None:
        """Copy the arrays as the last epoch left them, where there was one."""
        if not self.model.is_fitted:
            return
        if self.kept is None:
            self.kept = [array.copy() for array in self.arrays]
            return
        for copy, array in zip(self.kept, self.arrays, strict=True):
            np.copyto(copy, array)

    def rollback(self) -> None:
        """Put the copy back where the epoch had begun to change the arrays."""
        if self.touched and self.kept is not None:
            for copy, array in zip(self.kept, self.arrays, strict=True):
                np.copyto(array, copy)
        self.touched = False
