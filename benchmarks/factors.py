"""Trained factors of two kinds: ALS (norms spread, a bound stops early) and BPR with item biases (it cannot)."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import data


def als(matrix: Any, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return this package's ALS factors after 10 epochs: users ``(n_users, d)``, items ``(n_items, d)`` float32."""
    import recsys_fast as rf

    model = rf.ALS(n_factors=d, unobserved_weight=0.01, regularization=0.003, nu=1.0, n_epochs=10, random_state=0)
    model.fit(matrix)
    return model.user_factors_, model.item_factors_


def bpr(matrix: Any, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return implicit's BPR factors, the bias as one more column, ``d + 1`` wide, float32."""
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(factors=d, iterations=40, num_threads=2, random_state=0)
    model.fit(data.for_peer(matrix), show_progress=False)
    return model.user_factors.astype(np.float32), model.item_factors.astype(np.float32)
