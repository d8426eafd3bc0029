"""Quality of session models as GRU4Rec's authors measure it, and the parameters of their README.

Every prefix of a test session predicts the event after it; all items are ranked, those of the session too. Events
of items that no training session has are taken out of the test sessions beforehand, as the official preprocessing does
("recall@20"); with them, as in SR-GNN's samples, an event of such an item is a miss ("recall@20, all").
"""

from __future__ import annotations

from typing import Any

import numpy as np

import recsys_fast as rf

# README of hidasib/GRU4Rec, "Reproducing results on public datasets"; its Yoochoose is the whole set, not 1/64 of it.
PUBLISHED = {
    "diginetica": {"gru4rec": {"recall@20": 0.4995, "mrr@20": 0.1542}},
    "yoochoose-1-64": {"gru4rec": {"recall@20": 0.6789, "mrr@20": 0.3024}},
}
_OFFICIAL: dict[str, Any] = {"n_negatives": 2048, "session_parallel": True, "shuffle": False, "n_epochs": 10}
_BPR_MAX: dict[str, Any] = {**_OFFICIAL, "loss": "bpr_max", "log_q": 0.0}
_CE: dict[str, Any] = {**_OFFICIAL, "loss": "ce", "log_q": 1.0}
#: "gru4rec": the README's best parameters of the set; "gru4rec-100": its small network for Yoochoose; "gru4rec-ce":
#: cross-entropy with the sizes and rates of the official network, which is trained with BPR-max
SETTINGS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "diginetica": {
        "gru4rec": (
            "GRU4Rec",
            {
                **_BPR_MAX, "d": 512, "batch_size": 128, "dropout": 0.5, "dropout_hidden": 0.3, "learning_rate": 0.05,
                "momentum": 0.15, "negative_alpha": 0.3, "score_regularization": 0.9,
            },
        ),
        "gru4rec-ce": (
            "GRU4Rec",
            {
                **_CE, "d": 512, "batch_size": 128, "dropout": 0.5, "dropout_hidden": 0.3, "learning_rate": 0.05,
                "momentum": 0.15, "negative_alpha": 0.3,
            },
        ),
    },
    "yoochoose-1-64": {
        "gru4rec": (
            "GRU4Rec",
            {**_CE, "d": 480, "batch_size": 48, "dropout_hidden": 0.2, "learning_rate": 0.07, "negative_alpha": 0.2},
        ),
        "gru4rec-100": (
            "GRU4Rec",
            {**_CE, "d": 100, "batch_size": 32, "dropout": 0.1, "learning_rate": 0.1, "negative_alpha": 0.75},
        ),
    },
}  # fmt: skip


def known_only(sessions: rf.Sequences, train: rf.Sequences) -> rf.Sequences:
    """Return the sessions without events of items that no training session has."""
    keep = train.item_counts[sessions.items] > 0
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])
    return rf.Sequences.from_arrays(before[sessions.row_ptr], sessions.items[keep], n_items=sessions.n_items)


def measure(model: Any, train: rf.Sequences, sessions: rf.Sequences) -> dict[str, float]:
    """Return Recall@20 and MRR@20 over the next events of test sessions, and the same with unknown items."""
    found = {}
    for suffix, given in (("", known_only(sessions, train)), (", all", sessions)):
        report = rf.evaluation.evaluate(model, *given.prefixes(), ("recall", "mrr"), (20,), filter_seen=False)
        found |= {f"{name}{suffix}": number for name, number in report.items()}
    return found
