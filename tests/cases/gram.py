"""Cases of gram, gram_eigen and rows_rotate, for their tests and benchmarks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Case(NamedTuple):
    """A factor table by its sizes.

    Attributes:
        rank: columns that are independent, None for all; the others are combinations of them.
        decay: ratio of one column's scale to that of the column before it.
        scale: of everything.
    """

    name: str
    n: int
    d: int
    rank: int | None = None
    decay: float = 0.95
    scale: float = 1.0

    @property
    def steps(self) -> float:
        """Multiply-adds of one Gram matrix."""
        return float(self.n) * self.d * self.d

    def make(self, seed: int = 0) -> NDArray[np.float32]:
        """Return y ``(n, d)``; the same for the same seed."""
        rng = np.random.default_rng([seed, self.n, self.d])
        rank = self.d if self.rank is None else self.rank
        y = rng.standard_normal((self.n, rank)) * self.decay ** np.arange(rank) * self.scale
        mix = np.linalg.qr(rng.standard_normal((self.d, self.d)))[0][:rank]
        return np.ascontiguousarray(y @ mix, np.float32)


CASES = [
    Case("one column", 100, 1),
    Case("two columns", 50, 2),
    Case("odd", 200, 7),
    Case("width 8", 1, 8),
    Case("no rows", 0, 5),
    Case("width 16", 1000, 16),
    Case("width 31", 300, 31, decay=0.5),
    Case("width 33", 5000, 33),
    Case("width 64", 3000, 64),
    Case("rank 10", 400, 48, rank=10),
    Case("zero", 20, 12, rank=0),
    Case("equal scales", 2000, 40, decay=1.0),
    Case("width 129", 1500, 129),
    Case("tiny", 300, 24, scale=1e-15),
    Case("huge", 300, 24, scale=1e14),
]
