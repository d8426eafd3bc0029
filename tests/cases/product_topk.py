"""Cases of product_topk with a sparse right side, for its tests and its benchmark."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.ops import Csr


class Problem(NamedTuple):
    """The arguments of one call; ``exact`` where float32 makes no rounding error, so that ids must agree everywhere."""

    a: Csr
    b: Csr
    n: int
    choice: dict[str, Any]
    exact: bool

    def dense(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the scores in float64, and which columns may be returned, both ``(m, n_cols)``."""
        sums = to_dense(self.a) @ to_dense(self.b)
        mode, shrinkage = self.choice.get("normalize", "none"), self.choice.get("shrinkage", 0.0)
        scores = sums
        if mode != "none":
            x, y = (np.asarray(self.choice[f"{side}_norms"], np.float64) for side in ("row", "col"))
            below = (x[:, None] * y if mode == "product" else x[:, None] + y - sums) + shrinkage
            scores = np.divide(sums, below, out=np.zeros_like(sums), where=below > 0)
        eligible = np.ones(scores.shape, np.bool_)
        if not self.choice.get("zeros", True):
            eligible &= scores != 0
        if self.choice.get("include") is not None:
            eligible &= np.isin(np.arange(scores.shape[1]), self.choice["include"])
        if self.choice.get("exclude") is not None:
            eligible[:, self.choice["exclude"]] = False
        if self.choice.get("seen") is not None:
            eligible &= to_dense(self.choice["seen"]) == 0
        return scores, eligible


def to_dense(csr: Csr) -> NDArray[np.float64]:
    """Return the matrix in float64."""
    out = np.zeros(csr.shape)
    rows = np.repeat(np.arange(csr.n_rows), np.diff(csr.row_ptr))
    out[rows, csr.col_idx] = 1.0 if csr.values is None else csr.values
    return out


def from_dense(dense: NDArray[Any], values: bool) -> Csr:
    """Return the entries other than 0."""
    rows, cols = np.nonzero(dense)
    row_ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(rows, minlength=len(dense)))])
    kept = dense[rows, cols].astype(np.float32) if values else None
    return Csr(row_ptr, cols.astype(np.int32), kept, *dense.shape)


class Case(NamedTuple):
    """A problem by its sizes.

    Attributes:
        a, b: values: "ones" (no values), "integer" (-2 to 2: exact, with ties and sums that cancel), "ratings" (1 to
            5) or "normal".
        density: share of entries; columns of b have shares that fall like a power law.
        mode: as ``normalize``.
        zeros: as in ``product_topk``.
        seen: share of seen columns, 0 for none.
        include: number of candidates given with repetition, None for all.
        exclude: number of excluded columns, None for none.
    """

    name: str
    m: int
    k: int
    n_cols: int
    n: int
    a: str = "ones"
    b: str = "ones"
    density: float = 0.1
    mode: str = "none"
    shrinkage: float = 0.0
    zeros: bool = True
    seen: float = 0.0
    include: int | None = None
    exclude: int | None = None

    def make(self) -> Problem:
        """Return the arrays; the same on every call."""
        rng = np.random.default_rng([self.m, self.k, self.n_cols, self.n])
        share = np.minimum(1.0, 6.0 * self.density * (1.0 + np.arange(self.n_cols)) ** -0.5)
        a = self._draw(rng, self.a, (self.m, self.k), np.full(self.k, self.density))
        b = self._draw(rng, self.b, (self.k, self.n_cols), rng.permutation(share))
        choice: dict[str, Any] = {"zeros": self.zeros}
        if self.mode != "none":
            choice |= {"normalize": self.mode, "shrinkage": self.shrinkage}
            for side, size in (("row", self.m), ("col", self.n_cols)):
                high = 9 if self.mode == "product" else 3 * self.k + 1
                choice[f"{side}_norms"] = rng.integers(0 if self.mode == "product" else self.k, high, size)
        if self.seen:
            choice["seen"] = from_dense(rng.random((self.m, self.n_cols)) < self.seen, False)
        for name, count in (("include", self.include), ("exclude", self.exclude)):
            if count is not None:
                choice[name] = rng.integers(0, self.n_cols, count)
        exact = self.mode == "none" and "normal" not in (self.a, self.b)
        return Problem(a, b, self.n, choice, exact)

    @staticmethod
    def _draw(rng: np.random.Generator, kind: str, shape: tuple[int, int], share: NDArray[Any]) -> Csr:
        dense = (rng.random(shape) < share).astype(np.float64)
        if kind == "integer":
            dense *= rng.integers(-2, 3, shape)
        elif kind == "ratings":
            dense *= rng.integers(1, 6, shape)
        elif kind == "normal":
            dense *= rng.standard_normal(shape)
        if len(dense) > 2:
            dense[len(dense) // 2] = 0
        return from_dense(dense, kind != "ones")


CASES = [
    Case("plain", 30, 40, 60, 10),
    Case("similarities of neighbours", 30, 40, 60, 10, mode="product", zeros=False),
    Case("one row", 1, 5, 7, 3),
    Case("one column", 7, 3, 1, 4, "ratings"),
    Case("no rows", 0, 4, 5, 2),
    Case("no columns", 4, 5, 0, 2),
    Case("nothing between", 4, 0, 6, 3),
    Case("n is 0", 4, 5, 6, 0),
    Case("n above the columns", 20, 25, 30, 40, "integer", "integer", 0.2),
    Case("n above the columns, no zeros", 20, 25, 30, 40, "integer", "integer", 0.2, zeros=False),
    Case("sums that cancel", 60, 50, 300, 25, "integer", "integer", 0.3),
    Case("sums that cancel in short rows", 60, 50, 2000, 25, "integer", "integer", 0.02),
    Case("short rows, no zeros", 60, 50, 2000, 25, "integer", "integer", 0.02, zeros=False, seen=0.1),
    Case("ratings", 40, 60, 100, 15, "ratings", "ratings", mode="product", shrinkage=3.0, zeros=False),
    Case("normal", 40, 60, 100, 15, "normal", "normal"),
    Case("union", 40, 60, 200, 15, mode="union", shrinkage=1.5, zeros=False),
    Case("union, zeros", 40, 60, 200, 150, mode="union"),
    Case("product, norms of 0", 40, 60, 90, 90, "integer", "integer", 0.2, mode="product"),
    Case("seen", 50, 40, 150, 20, "ratings", "ratings", seen=0.5),
    Case("nearly all seen", 20, 10, 50, 20, seen=0.95),
    Case("include", 30, 40, 600, 15, "integer", "integer", include=50),
    Case("include fewer than n", 30, 40, 600, 15, include=6),
    Case("exclude", 30, 40, 200, 15, "ratings", exclude=150),
    Case("seen, include, exclude", 40, 60, 900, 15, "integer", "ratings", seen=0.2, include=500, exclude=100),
    Case("bits", 200, 150, 1100, 20, density=0.15),
    Case("bits, more than a byte counts", 6, 900, 1600, 40, density=0.6),
    Case("bits, similarities", 300, 100, 1100, 20, density=0.1, mode="product", shrinkage=2.0, zeros=False),
    Case("bits, union", 200, 100, 1024, 20, density=0.15, mode="union", zeros=False),
    Case("bits, weighted", 200, 150, 1100, 20, "normal", density=0.15),
    Case("bits, exact weights", 200, 150, 1300, 30, "integer", density=0.15),
    Case(
        "bits, seen, include, exclude", 150, 150, 1500, 20, "ratings", density=0.15, seen=0.2, include=900, exclude=99
    ),
    Case("bits, no zeros, seen", 150, 150, 1500, 20, "integer", density=0.15, zeros=False, seen=0.3),
    Case("long lists", 20, 100, 3000, 1500, "integer", "integer", 0.1),
    Case("crowds of equal scores", 20, 12, 5000, 30, density=0.3),
    Case("columns of several panels", 5, 30, 34000, 40, "integer", "integer", 0.02, seen=0.1),
    Case("panels, no zeros", 4, 30, 17000, 25, "ratings", "ratings", 0.01, mode="product", zeros=False),
]
