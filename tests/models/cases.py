"""The models that the shared tests run over, and small matrices for them. A new model is one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

import recsys_fast as rf

_SMALL = {"d": 8, "n_blocks": 1, "max_len": 6, "batch_size": 8, "n_epochs": 2, "random_state": 0}

_TWO = {"n_epochs": 2}
_GRU = {"d": 8, "max_len": 12, "batch_size": 8, "n_epochs": 2, "random_state": 0}
_NEXT = {"d": 8, "dilations": (1, 2), "max_len": 6, "batch_size": 8, "n_epochs": 2, "random_state": 0}
_CASER = {"d": 8, "user_vectors": False, "n_vertical": 2, "batch_size": 8, "n_epochs": 2, "random_state": 0}

MODELS: dict[str, Callable[..., Any]] = {
    "als": lambda **k: rf.ALS(4, **{"n_epochs": 2, "random_state": 0, **k}),
    "als-cg": lambda **k: rf.ALS(5, **{"solver": "cg", "n_epochs": 2, "random_state": 0, **k}),
    "als-subspace": lambda **k: rf.ALS(5, **{"solver": "subspace", "block_size": 2, "random_state": 0, **k}),
    "als-hu": lambda **k: rf.ALS(3, **{"objective": "hu2008", "alpha": 2.0, "random_state": 0, **k}),
    "als-explicit": lambda **k: rf.ALS(
        4, **{"feedback": "explicit", "regularization": 0.05, "n_epochs": 2, "random_state": 0, **k}
    ),
    "autorec": lambda **k: rf.AutoRec(4, **{"batch_size": 7, "n_epochs": 2, "random_state": 0, **k}),
    "autorec-users": lambda **k: rf.AutoRec(
        4, (5,), **{"side": "users", "loss": "smooth_l1", "dropout": 0.2, "n_epochs": 2, "random_state": 0, **k}
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
    "item2vec": lambda **k: rf.Item2Vec(4, **{"n_epochs": 2, "learning_rate": 0.1, "random_state": 0, **k}),
    "item2vec-basket": lambda **k: rf.Item2Vec(
        5, **{"window": None, "scoring": "cosine", "history_weight": "values", "sample": 0.0, "random_state": 0, **k}
    ),
    "logistic-mf": lambda **k: rf.LogisticMF(
        4, **{"alpha": 2.0, "sample_weight": "values", "n_epochs": 2, "random_state": 0, **k}
    ),
    "mf": lambda **k: rf.MF(4, **{"n_epochs": 2, "random_state": 0, **k}),
    "mf-plain": lambda **k: rf.MF(
        3, **{"biases": False, "loss": "smooth_l1", "optimizer": "adagrad", "n_epochs": 2, "random_state": 0, **k}
    ),
    "mf-svdpp": lambda **k: rf.MF(3, **{"implicit_feedback": True, "n_epochs": 2, "random_state": 0, **k}),
    "mult-dae": lambda **k: rf.MultDAE(4, **{"batch_size": 8, "n_epochs": 2, "random_state": 0, **k}),
    "mult-vae": lambda **k: rf.MultVAE(3, (6,), **{"batch_size": 8, "kl_steps": 20, "random_state": 0, **_TWO, **k}),
    "mult-vae-values": lambda **k: rf.MultVAE(
        3, (), **{"sample_weight": "values", "normalize": False, "lazy_moments": True, "random_state": 0, **_TWO, **k}
    ),
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
# Models of what comes next, which take sequences.
SEQUENCE_MODELS: dict[str, Callable[..., Any]] = {
    "bert4rec": lambda **k: rf.BERT4Rec(**{**_SMALL, "n_heads": 2, "dropout": 0.1, **k}),
    "bert4rec-pre": lambda **k: rf.BERT4Rec(
        **{**_SMALL, "norm": "pre", "item_bias": False, "last_probability": 0.5, "positions": "start", **k}
    ),
    "caser": lambda **k: rf.Caser(**{**_CASER, "window": 4, "targets": 2, "n_horizontal": 3, **k}),
    "caser-ce": lambda **k: rf.Caser(
        **{**_CASER, "window": 3, "targets": 1, "n_vertical": 0, "loss": "ce", "n_negatives": None, **k}
    ),
    "gru4rec": lambda **k: rf.GRU4Rec(**{**_GRU, "n_negatives": 6, **k}),
    "gru4rec-bpr-max": lambda **k: rf.GRU4Rec(
        **{**_GRU, "n_layers": 2, "loss": "bpr_max", "n_negatives": 5, "dropout": 0.1, "dropout_hidden": 0.1, **k}
    ),
    "gru4rec-lstm": lambda **k: rf.GRU4Rec(
        **{**_GRU, "cell": "lstm", "session_parallel": False, "n_negatives": None, "truncate": 3, **k}
    ),
    "gru4rec-rnn": lambda **k: rf.GRU4Rec(
        **{**_GRU, "cell": "rnn", "momentum": 0.2, "n_negatives": 4, "shuffle": False, **k}
    ),
    "nextitnet": lambda **k: rf.NextItNet(**{**_NEXT, **k}),
    "nextitnet-bce": lambda **k: rf.NextItNet(
        **{**_NEXT, "dilations": (1,), "kernel_size": 2, "loss": "bce", "projection": False, "item_bias": True, **k}
    ),
    "sasrec": lambda **k: rf.SASRec(**{**_SMALL, **k}),
    "sasrec-bce": lambda **k: rf.SASRec(
        **{**_SMALL, "loss": "bce", "norm": "query", "scale_items": True, "n_heads": 2, "lazy_moments": True, **k}
    ),
    "sasrec-gbce": lambda **k: rf.SASRec(
        **{**_SMALL, "loss": "gbce", "n_negatives": 4, "positions": "start", "item_bias": True, **k}
    ),
    "sasrec-sampled": lambda **k: rf.SASRec(
        **{**_SMALL, "n_negatives": 8, "negative_alpha": 0.5, "positions": "none", "optimizer": "adagrad", **k}
    ),
    "sasrec-bpr-max": lambda **k: rf.SASRec(
        **{**_SMALL, "loss": "bpr_max", "n_negatives": 6, "norm": "post", "item_bias": True, "optimizer": "sgd", **k}
    ),
}
# Models whose fit needs more than a matrix, or that know users by their id only; they have tests of their own.
OTHERS = {"ContentKNN", "GMF", "MLPRec", "Multimodal", "NeuMF", "TwoTower"}
CONTAINERS = {"Hybrid"}  # made of fitted models, and never trained on a matrix: with tests of their own
FACTORS = [name for name in MODELS if name.startswith(("als", "bpr", "logistic-mf", "mf", "warp"))]


def ratings(n_users: int = 30, n_items: int = 20, density: float = 0.25, seed: int = 0) -> sp.csr_array:
    """Values 1..5 at random places; one user and one item without any."""
    rng = np.random.default_rng(seed)
    dense = rng.integers(1, 6, (n_users, n_items)) * (rng.random((n_users, n_items)) < density)
    dense[n_users // 2] = 0
    dense[:, n_items // 2] = 0
    return sp.csr_array(dense.astype(np.float32))


def sequences(n_users: int = 30, n_items: int = 20, longest: int = 9, seed: int = 0) -> rf.Sequences:
    """Walks over the items in steps of 1 to 3, with repeats; one user without events, and one with a single one."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, longest + 1, n_users)
    lengths[n_users // 2], lengths[n_users // 3] = 0, 1
    starts, steps = rng.integers(0, n_items, n_users), rng.integers(1, 4, n_users)
    lists = [(a + b * np.arange(n)) % n_items for a, b, n in zip(starts, steps, lengths, strict=True)]
    return rf.Sequences(lists, n_items=n_items)


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
    if hasattr(left, "_held"):
        (own, steps), (other, other_steps) = left._held(), right._held()
        if own.keys() != other.keys() or steps != other_steps:
            return False
        if not all(np.array_equal(own[name], other[name]) for name in own):
            return False
    return left.n_epochs_ == right.n_epochs_ and left.history_ == right.history_
