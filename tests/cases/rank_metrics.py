"""Cases of rank_metrics, list_metrics and rank_auc, for their tests and benchmarks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.ops import Csr
from tests.cases.topk import sparse_rows


class Problem(NamedTuple):
    """The arguments of one call."""

    items: NDArray[np.float32]
    queries: NDArray[np.float32]
    test: Csr
    ks: tuple[int, ...]
    seen: Csr | None
    include: NDArray[np.int32] | None
    exclude: NDArray[np.int32] | None


class Case(NamedTuple):
    """A problem by its sizes; values are small integers (exact scores, many ties) unless ``normal``.

    Attributes:
        test: expected share of a user's items that are test items; the first user has all, some have none.
        seen: the same of seen items, drawn independently, so that some test items are seen.
    """

    name: str
    m: int
    n_items: int
    d: int
    ks: tuple[int, ...]
    test: float = 0.1
    seen: float = 0.0
    include: int | None = None
    exclude: int | None = None
    normal: bool = False

    def make(self) -> Problem:
        """Return the arrays; the same on every call."""
        rng = np.random.default_rng([self.m, self.n_items, self.d, max(self.ks)])
        if self.normal:
            items, queries = rng.standard_normal((self.n_items, self.d)), rng.standard_normal((self.m, self.d))
        else:
            items, queries = rng.integers(-2, 3, (self.n_items, self.d)), rng.integers(-2, 3, (self.m, self.d))
        return Problem(
            items.astype(np.float32),
            queries.astype(np.float32),
            sparse_rows(rng, self.m, self.n_items, self.test),
            self.ks,
            sparse_rows(rng, self.m, self.n_items, self.seen) if self.seen else None,
            None if self.include is None else rng.integers(0, self.n_items, self.include).astype(np.int32),
            None if self.exclude is None else rng.integers(0, self.n_items, self.exclude).astype(np.int32),
        )


CASES = [
    Case("plain", 40, 90, 8, (5, 10, 20), normal=True),
    Case("one user", 1, 50, 4, (1, 3)),
    Case("one item", 6, 1, 4, (1, 5), test=0.4),
    Case("no users", 0, 20, 4, (3,)),
    Case("no items", 3, 0, 4, (3,)),
    Case("k above n_items", 12, 15, 4, (4, 15, 60), test=0.2),
    Case("cuts in any order", 20, 60, 4, (20, 1, 7)),
    Case("ties", 60, 129, 2, (1, 10, 30)),
    Case("no test items", 10, 30, 3, (5,), test=0.0),
    Case("nearly all relevant", 20, 40, 3, (5, 50), test=0.49),
    Case("seen", 50, 80, 3, (5, 10), test=0.2, seen=0.3),
    Case("include", 30, 200, 3, (5, 10), include=50, seen=0.1),
    Case("exclude", 30, 200, 3, (5, 10), exclude=100, seen=0.1),
    Case("include less exclude", 30, 200, 3, (5, 10), include=150, exclude=100),
    Case("one candidate", 10, 60, 3, (5,), include=1, test=0.3),
    Case("many users", 400, 150, 5, (10, 20), test=0.05, seen=0.1),
    Case("many users, real scores", 300, 260, 33, (10, 100), test=0.05, seen=0.1, normal=True),
]
