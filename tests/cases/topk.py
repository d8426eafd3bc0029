"""Cases of topk, for its tests and its benchmark."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.ops import Csr


class Problem(NamedTuple):
    """The arguments of one call; ``exact`` where float32 makes no rounding error, so that ids must agree everywhere."""

    items: NDArray[np.float32]
    queries: NDArray[np.float32]
    n: int
    seen: Csr | None
    include: NDArray[np.int32] | None
    exclude: NDArray[np.int32] | None
    exact: bool


def sparse_rows(rng: np.random.Generator, n_rows: int, n_cols: int, density: float) -> Csr:
    """Return random sorted rows without values; some are empty, and the first one is full when density is above 0."""
    rows = [np.flatnonzero(rng.random(n_cols) < density * rng.choice([0.0, 1.0, 2.0])) for _ in range(n_rows)]
    if rows and density > 0:
        rows[0] = np.arange(n_cols)
    row_ptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Csr(row_ptr, np.concatenate([np.empty(0, int), *rows]).astype(np.int32), None, n_rows, n_cols)


class Case(NamedTuple):
    """A problem by its sizes.

    Attributes:
        values: "normal" (float32), "integer" (small integers: exact, with many ties), "zero", or "popular" (norms fall
            like a power law, as those of trained factors do).
        seen: share of the items that a user has seen, 0 for no mask.
        include: number of candidates given with repetition, None for all.
        exclude: number of excluded items, None for none.
    """

    name: str
    m: int
    n_items: int
    d: int
    n: int
    values: str = "normal"
    seen: float = 0.0
    include: int | None = None
    exclude: int | None = None

    def make(self) -> Problem:
        """Return the arrays; the same on every call."""
        rng = np.random.default_rng([self.m, self.n_items, self.d, self.n])
        if self.values == "integer":
            items, queries = rng.integers(-2, 3, (self.n_items, self.d)), rng.integers(-2, 3, (self.m, self.d))
        elif self.values == "zero":
            items, queries = np.zeros((self.n_items, self.d)), np.zeros((self.m, self.d))
        else:
            items, queries = rng.standard_normal((self.n_items, self.d)), rng.standard_normal((self.m, self.d))
            if self.values == "popular":
                items = (np.abs(items) * rng.permutation(np.arange(1.0, self.n_items + 1) ** -0.6)[:, None]) + 0.01
                queries = np.abs(queries)
        return Problem(
            items.astype(np.float32),
            queries.astype(np.float32),
            self.n,
            sparse_rows(rng, self.m, self.n_items, self.seen) if self.seen else None,
            None if self.include is None else rng.integers(0, self.n_items, self.include).astype(np.int32),
            None if self.exclude is None else rng.integers(0, self.n_items, self.exclude).astype(np.int32),
            self.values in ("integer", "zero"),
        )


CASES = [
    Case("plain", 37, 211, 16, 10),
    Case("one query", 1, 500, 8, 5),
    Case("one item", 7, 1, 8, 3),
    Case("no queries", 0, 40, 8, 3),
    Case("no items", 4, 0, 8, 3),
    Case("n is 0", 5, 20, 8, 0),
    Case("n above n_items", 9, 13, 5, 40),
    Case("n is n_items", 9, 130, 5, 130),
    Case("width 0", 3, 50, 0, 7),
    Case("width 1", 30, 150, 1, 7),
    Case("width 3", 30, 150, 3, 7),
    Case("width 65", 31, 400, 65, 12),
    Case("width 257", 8, 300, 257, 12),
    Case("127 items", 6, 127, 10, 20),
    Case("128 items", 6, 128, 10, 20),
    Case("129 items", 6, 129, 10, 20),
    Case("ties", 40, 300, 2, 25, "integer"),
    Case("ties, seen", 300, 300, 3, 25, "integer", seen=0.2),
    Case("all equal", 300, 200, 4, 30, "zero"),
    Case("seen", 60, 350, 12, 20, seen=0.3),
    Case("nearly all seen", 20, 90, 12, 20, seen=0.49),
    Case("include", 25, 600, 9, 15, include=70),
    Case("include fewer than n", 25, 600, 9, 15, include=6),
    Case("exclude", 25, 600, 9, 15, exclude=300),
    Case("seen, include, exclude", 300, 500, 9, 15, "integer", seen=0.2, include=200, exclude=200),
    Case("long lists", 5, 3000, 7, 1500, "integer"),
    Case("norms that end the search", 700, 2500, 16, 10, "popular", seen=0.02),
    Case("norms, long lists", 300, 1500, 33, 300, "popular", seen=0.02),
]
