"""The models that the shared tests run over, and small matrices for them. A new model is one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

import recsys_fast as rf

MODELS: dict[str, Callable[..., Any]] = {
    "als": lambda **k: rf.ALS(4, **{"n_epochs": 2, "random_state": 0, **k}),
    "als-cg": lambda **k: rf.ALS(5, **{"solver": "cg", "n_epochs": 2, "random_state": 0, **k}),
    "als-subspace": lambda **k: rf.ALS(5, **{"solver": "subspace", "block_size": 2, "random_state": 0, **k}),
    "als-hu": lambda **k: rf.ALS(3, **{"objective": "hu2008", "alpha": 2.0, "random_state": 0, **k}),
    "als-explicit": lambda **k: rf.ALS(
        4, **{"feedback": "explicit", "regularization": 0.05, "n_epochs": 2, "random_state": 0, **k}
    ),
    "bpr": lambda **k: rf.BPR(4, **{"n_epochs": 2, "random_state": 0, **k}),
    "bpr-adaptive": lambda **k: rf.BPR(
        5, **{"negative": "adaptive", "item_bias": False, "balance": "users", "n_epochs": 2, "random_state": 0, **k}
    ),
    "bpr-popularity": lambda **k: rf.BPR(
        4,
        **{
            "negative": "popularity",
            "sample_weight": "values",
            "optimizer": "adam",
            "n_epochs": 2,
            "random_state": 0,
            **k,
        },
    ),
    "logistic-mf": lambda **k: rf.LogisticMF(
        4, **{"alpha": 2.0, "sample_weight": "values", "n_epochs": 2, "random_state": 0, **k}
    ),
    "mf": lambda **k: rf.MF(4, **{"n_epochs": 2, "random_state": 0, **k}),
    "mf-plain": lambda **k: rf.MF(
        3, **{"biases": False, "loss": "smooth_l1", "optimizer": "adagrad", "n_epochs": 2, "random_state": 0, **k}
    ),
    "mf-svdpp": lambda **k: rf.MF(3, **{"implicit_feedback": True, "n_epochs": 2, "random_state": 0, **k}),
    "popularity": lambda **k: rf.Popularity(**k),
    "popularity-sum": lambda **k: rf.Popularity("sum", **k),
    "warp": lambda **k: rf.WARP(4, **{"n_epochs": 2, "random_state": 0, **k}),
    "warp-kos": lambda **k: rf.WARP(
        3, **{"n_os": 4, "k_os": 2, "optimizer": "adagrad", "n_epochs": 2, "random_state": 0, **k}
    ),
    "ease": lambda **k: rf.EASE(**{"regularization": 5.0, **k}),
    "random": lambda **k: rf.Random(**k),
    "slim": lambda **k: rf.SLIM(**{"l1": 0.5, "l2": 2.0, **k}),
    "slim-signed": lambda **k: rf.SLIM(**{"l1": 0.5, "l2": 20.0, "nonnegative": False, **k}),
    "sparse-ease": lambda **k: rf.SparseEASE(**{"regularization": 5.0, "n_neighbors": 6, **k}),
    "item-knn": lambda **k: rf.ItemKNN(**{"k": 5, **k}),
    "item-knn-bm25": lambda **k: rf.ItemKNN(**{"k": 5, "similarity": "bm25", **k}),
    "item-knn-pearson": lambda **k: rf.ItemKNN(**{"k": 40, "similarity": "pearson", "shrinkage": 2.0, **k}),
    "p3alpha": lambda **k: rf.P3alpha(**{"k": 5, **k}),
    "rp3beta": lambda **k: rf.RP3beta(**{"k": 5, **k}),
    "user-knn": lambda **k: rf.UserKNN(**{"k": 7, **k}),
    "user-knn-tfidf": lambda **k: rf.UserKNN(**{"k": 50, "similarity": "tfidf", **k}),
}
# Models whose fit needs more than a matrix; they have tests of their own.
OTHERS = {"ContentKNN"}
CONTAINERS = {"Hybrid"}  # made of fitted models, and never trained on a matrix: with tests of their own
FACTORS = [name for name in MODELS if name.startswith(("als", "bpr", "logistic-mf", "mf", "warp"))]


def ratings(n_users: int = 30, n_items: int = 20, density: float = 0.25, seed: int = 0) -> sp.csr_array:
    """Values 1..5 at random places; one user and one item without any."""
    rng = np.random.default_rng(seed)
    dense = rng.integers(1, 6, (n_users, n_items)) * (rng.random((n_users, n_items)) < density)
    dense[n_users // 2] = 0
    dense[:, n_items // 2] = 0
    return sp.csr_array(dense.astype(np.float32))


def snapshot(matrix: Any) -> tuple[bytes, ...]:
    """Every byte of a scipy matrix."""
    parts = ("data", "indices", "indptr", "row", "col")
    return tuple(getattr(matrix, part).tobytes() for part in parts if hasattr(matrix, part))


def same_state(left: Any, right: Any) -> bool:
    """Whether two models learned the same bits."""
    for name in left._learned:
        a, b = getattr(left, name), getattr(right, name)
        same = np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        if not same:
            return False
    return left.n_epochs_ == right.n_epochs_ and left.history_ == right.history_
