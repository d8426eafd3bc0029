from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from tests.memory import traced_peak


def matrix(ones: bool) -> sp.csr_array:
    """(20000, 5000) with 100 sorted items per user, so that one array over the entries is far larger than slack."""
    start = np.random.default_rng(0).integers(0, 5000, 20_000)
    items = np.sort((start[:, None] + 37 * np.arange(100)) % 5000, axis=1).astype(np.int32)
    values = np.ones(items.size, np.float32)
    if not ones:
        values[::2] = 3.0
    return sp.csr_array(
        (values, items.reshape(-1), np.arange(0, items.size + 1, 100, dtype=np.int32)), shape=(20_000, 5000)
    )


@pytest.mark.parametrize(
    ("ones", "options"),
    [(True, {}), (False, {}), (False, {"feedback": "explicit", "regularization": 0.05})],
)
def test_a_fit_allocates_what_it_says_and_no_copy_of_the_entries(
    device: str, ones: bool, options: dict[str, Any]
) -> None:
    data = matrix(ones)
    model = rf.ALS(16, n_epochs=2, solver="cg", device=device, n_threads=2, random_state=0, **options)
    model.fit(data[:100])  # what is compiled and imported on first use is not memory of a fit
    expected = model.estimate_memory(data)
    peak = traced_peak(lambda: model.fit(data))
    allowed = expected["total"] - expected["matrix"] - expected["work"] + (2 << 20)
    assert expected["weights"] == 0
    assert allowed - (4 << 20) < peak < allowed
    factors = sum(table.nbytes for table in (model._users, model._items))
    entries = 4 * data.nnz
    assert expected["total"] <= factors + 2 * (2 * entries + 8 * 20_001) + (64 << 20)
