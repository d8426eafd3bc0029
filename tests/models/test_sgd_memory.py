"""What a fit by gradient descent allocates, against what ``estimate_memory`` says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from tests.memory import traced_peak
from tests.models.test_memory import matrix

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "bpr": (rf.BPR, {}),
    "bpr-adam-users": (rf.BPR, {"optimizer": "adam", "balance": "users"}),
    "logistic": (rf.LogisticMF, {"alpha": 2.0, "n_negatives": 1}),
    "mf": (rf.MF, {}),
    "svdpp": (rf.MF, {"implicit_feedback": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fit_allocates_no_more_than_it_says(device: str, case: str) -> None:
    kind, options = CASES[case]
    data = matrix(ones=kind is not rf.MF)[:4000]
    model = kind(16, n_epochs=2, device=device, n_threads=2, random_state=0, **options)
    model.fit(data[:100])  # what is compiled and imported on first use is not memory of a fit
    expected = model.estimate_memory(data)
    peak = traced_peak(lambda: model.fit(data))
    assert peak < expected["total"] - expected["matrix"] + (1 << 20)
    assert peak > expected["tables"] + expected["copy"]


def test_features_count(device: str) -> None:
    data = matrix(ones=True)[:500]
    features = sp.csr_array((np.ones(1500, np.float32), np.arange(1500) % 40, np.arange(0, 1501, 3)), shape=(500, 40))
    plain, described = rf.BPR(8).estimate_memory(data), rf.BPR(8).estimate_memory(data, user_features=features)
    assert described["tables"] == plain["tables"] + 4 * 40 * 8
    assert described["features"] > plain["features"] == 0
    with pytest.raises(ValueError, match="rows of user_features"):
        rf.BPR(8).estimate_memory(data[:400], user_features=features)
