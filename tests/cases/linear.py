"""Cases of the operations behind linear item models, for their tests and benchmarks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.ops import Csr


class Case(NamedTuple):
    """A sparse matrix by its sizes.

    Attributes:
        values: "none", "ratings" (1 to 5) or "signed".
    """

    name: str
    n_users: int
    n_items: int
    density: float = 0.2
    values: str = "none"

    @property
    def steps(self) -> float:
        """About what SLIM's visits of all pairs of items cost on the emulated grid, threads that only look counted."""
        return 20_000.0 * self.n_items**2

    def make(self) -> Csr:
        """Return the matrix, popular columns first, one column empty; the same on every call."""
        rng = np.random.default_rng([self.n_users, self.n_items])
        shares = np.minimum(1.0, self.density * 3.0 / np.sqrt(1.0 + np.arange(self.n_items)))
        held = rng.random((self.n_users, self.n_items)) < shares
        if self.n_items > 2:
            held[:, self.n_items // 2] = False
        rows, cols = np.nonzero(held)
        row_ptr = np.concatenate([[0], np.cumsum(held.sum(axis=1))]).astype(np.int64)
        values = None
        if self.values == "ratings":
            values = rng.integers(1, 6, len(rows)).astype(np.float32)
        elif self.values == "signed":
            values = rng.standard_normal(len(rows)).astype(np.float32)
        return Csr(row_ptr, cols.astype(np.int32), values, self.n_users, self.n_items)


CASES = [
    Case("one item", 5, 1, 0.9),
    Case("two items", 20, 2, 0.6),
    Case("no users", 0, 4),
    Case("small", 30, 13),
    Case("wide", 25, 70, 0.3),
    Case("ratings", 60, 40, 0.3, "ratings"),
    Case("signed", 60, 33, 0.4, "signed"),
    Case("larger", 300, 150, 0.15),
    Case("sparse", 60, 200, 0.02),
    Case("sparse, signed", 40, 250, 0.03, "signed"),
    Case("few, signed", 20, 60, 0.02, "signed"),
]
SIZES = [1, 2, 15, 16, 17, 100, 191, 256, 257, 449, 600]  # of matrices to invert: blocks, strips and their edges


def dense(csr: Csr) -> NDArray[np.float64]:
    """Return the matrix as a float64 array."""
    out = np.zeros(csr.shape)
    rows = np.repeat(np.arange(csr.n_rows), np.diff(csr.row_ptr))
    out[rows, csr.col_idx] = 1.0 if csr.values is None else csr.values
    return out


def positive_definite(n: int, condition: float = 1e3) -> NDArray[np.float32]:
    """Return a symmetric matrix with eigenvalues from 1 to ``condition``."""
    rng = np.random.default_rng(n)
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    a = (q * np.geomspace(1.0, condition, n)) @ q.T
    return np.ascontiguousarray((a + a.T) / 2, np.float32)
