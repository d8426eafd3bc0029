"""Seeded folds of rated data, and the error of a model over them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse


def folds(matrix: Any, n: int = 5, seed: int = 0) -> Iterator[tuple[Any, Any]]:
    """Yield ``(train, test)`` csr arrays: every stored entry is in the test part of exactly one of the ``n`` pairs."""
    coo = sparse.coo_array(matrix)
    part = np.random.default_rng(seed).permutation(coo.nnz) % n
    for k in range(n):
        yield tuple(
            sparse.csr_array((coo.data[chosen], (coo.row[chosen], coo.col[chosen])), shape=coo.shape)
            for chosen in (part != k, part == k)
        )  # type: ignore[misc]


def rmse(model: Any, test: Any, low: float, high: float) -> tuple[float, float]:
    """Return the root mean squared error of ``model.predict``, as it is and with predictions cut to [low, high]."""
    coo = sparse.coo_array(test)
    predicted = np.asarray(model.predict(coo.row, coo.col), np.float64)
    errors = [np.sqrt(np.mean((p - coo.data) ** 2)) for p in (predicted, np.clip(predicted, low, high))]
    return float(errors[0]), float(errors[1])
