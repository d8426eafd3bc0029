"""SLIM: every item predicted from few others, by a sparse linear regression."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.item_weights import ItemWeightModel
from recsys_fast.models.memory import names_gpu, with_device
from recsys_fast.models.parameters import check_float, check_int
from recsys_fast.models.sparse_ease import shared_device_bytes, shared_sizes, weights_bound
from recsys_fast.ops import Csr
from recsys_fast.ops.linear import DEVICE_CHUNK, slim_needs_gram

_ROOM, _BLOCKS = 1 << 30, 1056  # of a large GPU: scratch of all blocks together, and how many there are


class SLIM(ItemWeightModel):
    """Sparse linear method (Ning & Karypis 2011): scores ``x_u W`` with the sparse W that minimises

    ``1/2 |X - X W|^2 + l1 |W|_1 + l2/2 |W|^2`` under ``diag(W) = 0`` and, unless ``nonnegative=False``, ``W >= 0``;
    columns are independent, and solved by coordinate descent. X holds the values of the matrix, or ones. Results are
    the same bits for any number of threads.

    New users need no refit: ``recommend(user_items=...)`` multiplies their histories by W. ``partial_fit`` in any form
    computes all of W anew.

    Args:
        l1: weight of the absolute values; larger is sparser and faster.
        l2: weight of the squares.
        nonnegative: whether weights below 0 are ruled out.
        n_neighbors: keep so many weights of largest magnitude per predicted item; None for all.
        tolerance: an item is done when a pass over its candidates changes no weight by more.
        n_passes: most passes per item; a warning says how many items needed more.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.

    Attributes:
        weights_: W as ``ops.Csr (n_items, n_items)``; row i says what an interaction with item i adds to each score.
        n_unfinished_: items that ``n_passes`` were not enough for.
    """

    _learned: ClassVar[tuple[str, ...]] = ("_row_ptr", "_col_idx", "_values", "n_unfinished_")

    n_unfinished_: int

    def __init__(
        self,
        l1: float = 1.0,
        l2: float = 100.0,
        *,
        nonnegative: bool = True,
        n_neighbors: int | None = None,
        tolerance: float = 1e-4,
        n_passes: int = 1000,
        device: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        self.l1 = l1
        self.l2 = l2
        self.nonnegative = nonnegative
        self.n_neighbors = n_neighbors
        self.tolerance = tolerance
        self.n_passes = n_passes
        self.device = device
        self.n_threads = n_threads

    def _check_params(self) -> None:
        check_float("l1", self.l1, 0.0, high=1e30)
        check_float("l2", self.l2, 0.0, high=1e30)
        if not isinstance(self.nonnegative, bool):
            raise TypeError(message("nonnegative", repr(self.nonnegative), "True or False"))
        if self.n_neighbors is not None:
            check_int("n_neighbors", self.n_neighbors, 1)
        check_float("tolerance", self.tolerance, 0.0, high=1e30)
        check_int("n_passes", self.n_passes, 1)

    def _prepare(self, matrix: Csr) -> Csr:
        matrix = inputs.drop_zeros(matrix)
        return matrix._replace(values=None) if inputs.all_ones(matrix) else matrix

    def _compute(self) -> None:
        where: dict[str, Any] = {"device": self.device, "n_threads": self.n_threads}
        columns, unfinished = ops.slim_solve(
            self._matrix, l1=self.l1, l2=self.l2, nonnegative=self.nonnegative, tolerance=self.tolerance,
            n_passes=self.n_passes, k=self.n_neighbors, **where,
        )  # fmt: skip
        self._take_weights(ops.csr_transpose(columns, **where))
        self.n_unfinished_ = unfinished
        if unfinished:
            mend = "raise n_passes, tolerance, l1 or l2"
            warnings.warn(
                message(f"SLIM: {unfinished} items not converged after {self.n_passes} passes", mend=mend), stacklevel=2
            )

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose, "total" and "device"; upper bounds.

        Without ``n_neighbors`` "weights" counts every pair of items with a user in common; few of them stay.
        """
        from recsys_fast.backend import resolve_threads

        self._check_params()
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items"))
        n_weights = weights_bound(matrix) if self.nonnegative else matrix.n_cols**2
        if self.n_neighbors is not None:
            n_weights = min(n_weights, matrix.n_cols * self.n_neighbors)
        parts = {
            **shared_sizes(matrix, n_weights),
            "gram": 4 * matrix.n_cols**2 if slim_needs_gram(matrix) else 0,
            "work": resolve_threads(self.n_threads) * (32 * matrix.n_cols + 16 * matrix.n_rows),
        }
        return with_device(parts, self._device_bytes(matrix) if names_gpu(self.device) else 0)

    def _device_bytes(self, data: Csr) -> int:
        n, gram = data.n_cols, slim_needs_gram(data)
        k = max(1, n - 1) if self.n_neighbors is None else min(self.n_neighbors, max(1, n - 1))
        room = min(_ROOM, _BLOCKS * (12 * n if gram else 16 * n + 4 * data.n_rows))
        return shared_device_bytes(data) + (4 * n**2 if gram else 0) + 8 * min(DEVICE_CHUNK, n * k) + room

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return super()._pack()[0], {"n_unfinished": self.n_unfinished_}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        super()._unpack(reader, values)
        found = values.pop("n_unfinished", None)
        if type(found) is not int or not 0 <= found <= self._matrix.n_cols:
            raise reader.fail("n_unfinished", repr(found)[:80], "a count of items")
        self.n_unfinished_ = found
