"""EASE for large catalogues: every item predicted from the few items that it has most in common with."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from recsys_fast import ops
from recsys_fast.models import inputs
from recsys_fast.models.item_weights import ItemWeightModel
from recsys_fast.models.memory import names_gpu, with_device
from recsys_fast.models.parameters import check_float, check_int
from recsys_fast.ops import Csr
from recsys_fast.ops.linear import DEVICE_CHUNK

# On a GPU: entries of the Gram matrix, which is made where it pays; scratch of all blocks together, and their number.
_MOST_GRAM, _ROOM, _BLOCKS = 1 << 30, 1 << 30, 264


class SparseEASE(ItemWeightModel):
    """Scores ``x_u W`` with a sparse W: column j is the exact ridge regression of item j on ``n_neighbors`` others.

    These are the items i of largest ``x_i . x_j / sqrt(|x_i|^2 + regularization)``. The sparse submatrix idea is that
    of Steck (2019, "Markov random fields for collaborative filtering"), here with a neighbourhood for every item, as
    fsSLIM has (Ning & Karypis 2011). With ``n_neighbors >= n_items - 1`` W is that of ``EASE``.

    Memory is bounded by ``n_items * n_neighbors``, time by ``n_items * n_neighbors^3 / 3`` operations and counting
    what the neighbours have in common. Results are the same bits for any number of threads.

    New users need no refit: ``recommend(user_items=...)`` multiplies their histories by W. ``partial_fit`` in any form
    computes all of W anew.

    Args:
        regularization: the penalty, as in ``EASE``.
        n_neighbors: most items that one item is predicted from; more is closer to EASE, and slower.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.

    Attributes:
        weights_: W as ``ops.Csr (n_items, n_items)``; row i says what an interaction with item i adds to each score.

    Raises:
        ValueError: a regression has no unique solution in float32; raise ``regularization``.
    """

    _learned: ClassVar[tuple[str, ...]] = ("_row_ptr", "_col_idx", "_values")

    def __init__(
        self,
        regularization: float = 80.0,
        *,
        n_neighbors: int = 256,
        device: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        self.regularization = regularization
        self.n_neighbors = n_neighbors
        self.device = device
        self.n_threads = n_threads

    def _check_params(self) -> None:
        check_float("regularization", self.regularization, 0.0, high=1e30)
        check_int("n_neighbors", self.n_neighbors, 1)

    def _prepare(self, matrix: Csr) -> Csr:
        matrix = inputs.drop_zeros(matrix)
        return matrix._replace(values=None) if inputs.all_ones(matrix) else matrix

    def _compute(self) -> None:
        where: dict[str, Any] = {"device": self.device, "n_threads": self.n_threads}
        columns = ops.ridge_solve(self._matrix, regularization=self.regularization, k=self.n_neighbors, **where)
        self._take_weights(ops.csr_transpose(columns, **where))

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak: purposes, "total", "device"; upper bounds."""
        from recsys_fast.backend import resolve_threads

        self._check_params()
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items"))
        n_items, k = matrix.n_cols, min(self.n_neighbors, max(1, matrix.n_cols - 1))
        parts = {
            **shared_sizes(matrix, n_items * k),
            "work": resolve_threads(self.n_threads)
            * (4 * k * (k + 64) + 16 * n_items + 8 * matrix.n_rows + 12 * matrix.nnz),
        }
        return with_device(parts, self._device_bytes(matrix) if names_gpu(self.device) else 0)

    def _device_bytes(self, data: Csr) -> int:
        n, k = data.n_cols, min(self.n_neighbors, max(1, data.n_cols - 1))
        gram = 4 * n**2 if n**2 <= _MOST_GRAM else 0
        room = min(_ROOM, _BLOCKS * 4 * (2 * n + k + k**2 + (k + 64) ** 2))
        return shared_device_bytes(data) + gram + 8 * min(DEVICE_CHUNK, n * k) + room


def shared_sizes(matrix: Csr, n_weights: int) -> dict[str, int]:
    """Return what a fit of sparse weights by item needs, whatever solves for them."""
    n_users, n_items = matrix.shape
    values = 0 if matrix.values is None else 4 * matrix.nnz
    return {
        "weights": 8 * n_weights + 8 * (n_items + 1),
        "weights by column": 8 * n_weights + 8 * (n_items + 1) + (32 << 20),
        "matrix": 8 * (n_users + 1) + 4 * matrix.nnz + values,
        "transpose": 8 * (n_items + 1) + 4 * matrix.nnz + values,
    }


def shared_device_bytes(matrix: Csr) -> int:
    """Return what a GPU holds of a matrix and its transpose, and to make products of both."""
    sizes = shared_sizes(matrix, 0)
    return sizes["matrix"] + sizes["transpose"] + 16 * matrix.nnz + 72 * matrix.n_rows + 8 * matrix.n_cols


def weights_bound(matrix: Csr) -> int:
    """Return how many pairs of items can have anything in common: at most sum_u n_u^2, and n_items^2."""
    lengths = np.diff(matrix.row_ptr).astype(np.float64)
    return int(min(np.square(lengths).sum(), float(matrix.n_cols) ** 2))
