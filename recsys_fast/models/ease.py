"""EASE: every item predicted from all others by one ridge regression, in closed form."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import numpy as np

from recsys_fast import backend, ops
from recsys_fast.models import inputs
from recsys_fast.models.item_weights import ItemWeightModel
from recsys_fast.models.memory import check_memory, in_gb, names_gpu, with_device
from recsys_fast.models.parameters import check_float
from recsys_fast.models.sparse_ease import shared_device_bytes
from recsys_fast.ops import Csr

_BLOCK = 1 << 20  # weights that are scaled at a time, so that Ctrl-C is honoured meanwhile
_PIVOT = 256  # columns that the inverse sweeps at once


class EASE(ItemWeightModel):
    """Embarrassingly shallow autoencoder (Steck 2019): scores ``x_u W`` with the dense W that minimises

    ``|X - X W|^2 + regularization |W|^2`` under ``diag(W) = 0``: with ``P = (X^T X + regularization I)^-1``,
    ``W_ij = -P_ij / P_jj`` off the diagonal.

    W takes ``4 n_items^2`` bytes (6.7 GB for 41,000 items) and ``n_items^3`` operations. ``fit`` raises MemoryError
    before it allocates anything where that is not there; ``SparseEASE`` then fits. X holds the values of the matrix, or
    ones. Results are the same bits for any number of threads on "cpu".

    New users need no refit: ``recommend(user_items=...)`` multiplies their histories by W. ``partial_fit`` in any form
    computes all of W anew.

    Args:
        regularization: the penalty; 80 to 500 suit most sets, more where there are more interactions per item.
        device: "auto", "cpu", "numba" (which calls LAPACK) or "cuda".
        n_threads: None for every CPU granted.

    Attributes:
        weights_: W ``(n_items, n_items) float32``; row i says what an interaction with item i adds to each score.

    Raises:
        ValueError: ``X^T X + regularization I`` is not positive definite in float32; raise ``regularization``.
        MemoryError: the model does not fit into memory, that of a GPU (DeviceMemoryError) or of the host.
    """

    _dense: ClassVar[bool] = True
    _learned: ClassVar[tuple[str, ...]] = ("_table",)

    def __init__(self, regularization: float = 80.0, *, device: str = "auto", n_threads: int | None = None) -> None:
        self.regularization = regularization
        self.device = device
        self.n_threads = n_threads

    def _check_params(self) -> None:
        check_float("regularization", self.regularization, 0.0, high=1e30)

    def _prepare(self, matrix: Csr) -> Csr:
        matrix = inputs.drop_zeros(matrix)
        return matrix._replace(values=None) if inputs.all_ones(matrix) else matrix

    def _announce(self, verbose: bool) -> None:
        if verbose:
            n_items = self._matrix.n_cols
            size = in_gb(sum(_sizes(self._matrix).values()))
            print(f"EASE: {n_items} items, dense weights, {size} in all, {n_items**3:.2g} operations", file=sys.stderr)

    def _compute(self) -> None:
        matrix = self._matrix
        sizes = _sizes(matrix)
        mend = "use SparseEASE, whose memory grows with n_items * n_neighbors, or drop rare items"
        check_memory(f"EASE of {matrix.n_cols} items", sum(sizes.values()) - sizes["matrix"], mend)
        where: dict[str, Any] = {"device": self.device, "n_threads": self.n_threads}
        there = backend.arrays(backend.place(self.device))  # the table goes back once
        table = there.empty((matrix.n_cols, matrix.n_cols), np.float32)
        ops.csr_gram(matrix, regularization=self.regularization, out=table, **where)
        table = there.to_host(ops.spd_invert(table, **where))
        diagonal = np.einsum("ii->i", table)
        scale = -1.0 / diagonal
        step = max(1, _BLOCK // max(1, matrix.n_cols))
        for start in range(0, matrix.n_cols, step):
            table[start : start + step] *= scale
        diagonal[:] = 0.0
        self._take_weights(table)

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose, and as "total" and "device"."""
        self._check_params()
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items"))
        return with_device(_sizes(matrix), self._device_bytes(matrix) if names_gpu(self.device) else 0)

    def _device_bytes(self, data: Csr) -> int:
        return 4 * data.n_cols**2 + shared_device_bytes(data) + 4 * _PIVOT * (data.n_cols + _PIVOT)


def _sizes(matrix: Csr) -> dict[str, int]:
    n_users, n_items = matrix.shape
    values = 0 if matrix.values is None else 4 * matrix.nnz
    parts = {
        "weights": 4 * n_items**2,
        "matrix": 8 * (n_users + 1) + 4 * matrix.nnz + values,
        "transpose": 8 * (n_items + 1) + 4 * matrix.nnz + values,
        "work": 8 * n_items * min(n_items + 16, _PIVOT) + (2 << 20),
    }
    return parts
