"""The least squares problem of an ALS model: its weights, its sweeps, its bases, and which solver suits it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import DivergedError, message
from recsys_fast.models.inputs import column_counts
from recsys_fast.ops import Csr
from recsys_fast.ops.gram import all_finite, home
from recsys_fast.ops.unchecked import run_unchecked

if TYPE_CHECKING:
    from recsys_fast.models.als import ALS

F32 = NDArray[np.float32]
_NONE = np.empty(0, np.float32)

SOLVERS = {"cholesky": 0, "cg": 1, "subspace": 2}

# An operation of "cg" takes _CG_PRICE sqrt(d) times as long as one of "cholesky": the blocked factorizations gain more
# from width than streaming over gathered rows does. Fitted to both solvers on sparse (27 entries a row) and dense (190)
# data for d = 8 to 256, where it tells their ratio within a factor of 1.6. An exact epoch may be somewhat dearer, as it
# lowers the loss slightly more.
_CG_PRICE = 0.125
_EXACT_WORTH = 1.5


class AlsProblem(NamedTuple):
    """What every sweep of a model has in common; see ``ALS`` for the objective."""

    explicit: bool
    regularization: float
    nu: float
    unobserved_weight: float
    alpha: float
    target_offset: float
    solver: int
    n_steps: int
    block_size: int
    device: str
    n_threads: int | None

    @classmethod
    def of(cls, model: ALS, solver: str) -> AlsProblem:
        """Return the problem that the parameters of ``model`` describe, solved by ``solver``."""
        explicit = model.feedback == "explicit"
        w0 = 0.0 if explicit else float(model.unobserved_weight)
        return cls(
            explicit=explicit,
            regularization=float(model.regularization),
            nu=float(model.nu),
            unobserved_weight=w0,
            alpha=float(model.alpha),
            # The linear term is confidence times target: (w0 + c) * 1 for Hu et al., c * 1 on top of w0 s^2 else.
            target_offset=w0 if model.objective == "hu2008" else 0.0,
            solver=SOLVERS[solver],
            n_steps=model.n_cg_steps if solver == "cg" else 1,
            block_size=model.block_size,
            device=model.device,
            n_threads=model.n_threads,
        )

    def weighted(self, matrix: Csr) -> Csr:
        """Return the matrix with confidences (or, explicit, ratings) as values; shared where nothing changes."""
        if self.explicit or self.alpha == 1.0:
            return matrix
        alpha = np.float32(self.alpha)
        values = np.full(matrix.nnz, alpha) if matrix.values is None else matrix.values * alpha
        return matrix._replace(values=values)

    def sweep(self, x: F32, y: F32, spectrum: F32, matrix: Csr) -> float:
        """Solve every row of ``x`` in place, given ``y`` in the basis in which its Gram matrix is diag(spectrum).

        Args:
            x: ``(n, d)``; where the iterative solvers start, and the result.
            y: ``(m, d)``.
            spectrum: ``(d,)``.
            matrix: ``(n, m)`` as ``weighted`` makes it.

        Returns:
            The loss of all rows, without the penalty of ``y``.
        """
        values = matrix.or_empty()
        weights, targets = (_NONE, values) if self.explicit else (values, _NONE)
        loss = run_unchecked(
            "als_sweep", x, y, spectrum, matrix.row_ptr, matrix.col_idx, weights, targets,
            self.target_offset, self.regularization, self.nu, self.unobserved_weight,
            self.explicit, self.solver, self.n_steps, min(self.block_size, y.shape[1]),
            **self._where(),
        )  # fmt: skip
        return float(loss)

    def penalty(self, squares: NDArray[np.floating[Any]], matrix: Csr) -> float:
        """Return sum_u reg_u |x_u|^2 for the ``squares`` |x_u|^2 of the rows of ``matrix``."""
        counts = np.diff(matrix.row_ptr) + self.unobserved_weight * matrix.n_cols
        return self.regularization * float(np.sum(counts**self.nu * squares))

    def products(self, out: F32, x: F32, y: F32, pairs: Csr) -> None:
        """out <- x[row] . y[column] of every pair; all on one device."""
        run_unchecked("pair_scores", out, x, y, pairs.row_ptr, pairs.col_idx, **self._where())

    def eigenbasis(self, y: F32) -> tuple[F32, F32]:
        """Return q ``(d, d)`` and the spectrum ``(d,)`` with (y q)^T (y q) = diag(spectrum), descending."""
        d, where, arrays = y.shape[1], self._where(), home(y)
        gram, q, spectrum = arrays.empty((d, d), np.float32), np.empty((d, d), np.float32), np.empty(d, np.float32)
        run_unchecked("gram", gram, y, **where)
        if not all_finite(gram):
            mend = "raise regularization, or scale the values down"
            raise DivergedError(message("the factors outgrow float32", mend=mend))
        run_unchecked("gram_eigen", q, spectrum, arrays.to_host(gram), **where)
        return q, spectrum

    def rotate(self, x: F32, q: F32) -> None:
        """x <- x q, in place."""
        run_unchecked("rows_rotate", x, q, **self._where())

    def _where(self) -> dict[str, Any]:
        return {"device": self.device, "n_threads": self.n_threads}

    def to_item_basis(self, x: F32, y: F32) -> F32:
        """Rotate both tables, in place, so that the items' Gram matrix is diagonal; return that diagonal."""
        q, spectrum = self.eigenbasis(y)
        self.rotate(x, q)
        self.rotate(y, q)
        return spectrum

    def fold_users(self, model: ALS, histories: Csr) -> F32:
        """Return exact factors of the users with these histories, ``(m, d)``; the model is only read."""
        x = np.zeros((histories.n_rows, model._items.shape[1]), np.float32)
        self._exact().sweep(x, model._items, model._spectrum, self.centred(histories, model.global_mean_))
        return x

    def fold_items(self, model: ALS, histories: Csr) -> F32:
        """Return exact factors of the items with these ``(m, n_users)`` histories; the model is only read."""
        users = model._users
        y = np.zeros((histories.n_rows, users.shape[1]), np.float32)
        histories = self.centred(histories, model.global_mean_)
        if self.explicit:
            self._exact().sweep(y, users, model._spectrum, histories)
            return y
        q, spectrum = model._cached("user_basis", lambda: self.eigenbasis(users))
        touched = np.unique(histories.col_idx)
        rotated = np.zeros(users.shape, np.float32)  # memory of rows that no history names is never touched
        rows = users[touched]
        self.rotate(rows, q)
        rotated[touched] = rows
        self._exact().sweep(y, rotated, spectrum, histories)
        self.rotate(y, np.ascontiguousarray(q.T))
        return y

    def _exact(self) -> AlsProblem:
        return self._replace(solver=SOLVERS["cholesky"], n_steps=1)

    @property
    def host(self) -> str:
        """The backend of what stays in host memory."""
        return "auto" if self.device.startswith("cuda") else self.device

    def centred(self, histories: Csr, mean: float) -> Csr:
        """Return ``weighted(histories)``; when explicit, ratings less their mean."""
        histories = self.weighted(histories)
        if self.explicit and histories.values is not None:
            return histories._replace(values=histories.values - np.float32(mean))
        return histories


def choose_solver(matrix: Csr, d: int, n_cg_steps: int) -> str:
    """Return "cholesky" where exact solutions cost little more than ``n_cg_steps`` steps of "cg", else "cg".

    A row with n entries costs ``n d^2 + d^3 / 3`` operations exactly, ``n^2 d + n^3 / 3`` by way of its dual when
    n < d, and ``4 n d`` per step (and the start) iteratively. Few factors favour "cholesky", and so do short rows.
    """
    exact = steps = 0.0
    for lengths in (np.diff(matrix.row_ptr), column_counts(matrix)):
        n = lengths.astype(np.float64)
        exact += float(np.minimum(n * d * d + d**3 / 3, np.where(n < d, n * n * d + n**3 / 3, np.inf)).sum())
        steps += float((4 * n * d * (n_cg_steps + 1)).sum())
    return "cholesky" if exact <= _EXACT_WORTH * _CG_PRICE * math.sqrt(d) * steps else "cg"
