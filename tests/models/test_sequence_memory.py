"""What ``estimate_memory`` of sequence models says, beside what training takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

import recsys_fast as rf
from tests.memory import traced_peak
from tests.models.cases import sequences

Make = Callable[..., Any]


def test_memory_estimate_covers_what_is_held(make_sequence: Make) -> None:
    data = sequences()
    model = make_sequence().fit(data)
    parts = model.estimate_memory(data)
    assert parts["total"] == sum(size for name, size in parts.items() if name != "total")
    held = sum(array.nbytes for array in model._held()[0].values())
    assert parts["network"] + parts["optimizer"] >= held - sum(len(table.bias) * 4 for table in model._net().tables)


BATCHES: dict[str, Any] = {
    "gru4rec": rf.GRU4Rec(8),
    "gru4rec-whole": rf.GRU4Rec(8, session_parallel=False),
    "caser": rf.Caser(8),
    "caser-one-target": rf.Caser(8, window=10, targets=1, batch_size=64),
    "nextitnet": rf.NextItNet(8, max_len=20),
    "nextitnet-prefixes": rf.NextItNet(8, max_len=20, windows="prefixes"),
    "nextitnet-sliding": rf.NextItNet(8, max_len=20, windows="sliding", stride=3),
}


@pytest.mark.parametrize("name", BATCHES)
def test_memory_estimate_covers_the_batches(name: str) -> None:
    """However an epoch multiplies the events."""
    model, data = BATCHES[name], sequences(600, 50, 60)
    model.seed_ = 0
    model._take_over(data)
    list(model._batches().epoch(0))  # whatever is compiled or imported now is not counted
    peak = traced_peak(lambda: deque(model._batches().epoch(0), maxlen=0))
    assert 0.8 * peak < model.estimate_memory(data)["batches"] < 8 * peak


WHOLE: dict[str, Any] = {
    "sasrec": rf.SASRec(32, 1, max_len=40),
    "sasrec-post": rf.SASRec(32, 2, max_len=40, norm="post", hidden=96, windows="sliding", stride=10),
    "sasrec-rows": rf.SASRec(32, 1, max_len=40, n_negatives=200, shared_negatives=False),
    "sasrec-gbce": rf.SASRec(32, 1, max_len=40, loss="gbce"),
    "sasrec-shared": rf.SASRec(32, 1, max_len=40, n_negatives=3000),
    "bert4rec": rf.BERT4Rec(32, 1, max_len=40),
    "gru4rec": rf.GRU4Rec(32, batch_size=200, n_negatives=4000),
    "gru4rec-whole": rf.GRU4Rec(32, 2, cell="lstm", session_parallel=False, max_len=40),
    "nextitnet": rf.NextItNet(32, max_len=40),
    "nextitnet-rows": rf.NextItNet(32, max_len=40, loss="bce", n_negatives=100),
    "caser": rf.Caser(32),
    "caser-rows": rf.Caser(32, n_negatives=16),
}


@pytest.mark.parametrize("name", WHOLE)
def test_memory_estimate_is_near_the_peak(name: str) -> None:
    """Never far below what a fit allocates, and at most twice as much."""
    model, data = WHOLE[name].set_params(n_epochs=1, n_threads=1, random_state=0), sequences(600, 300, 60)
    model.fit(sequences(20, 300, 60))  # what is compiled and imported on first use is not memory of a fit
    expected = model.estimate_memory(data)["total"]
    model._start(data)
    peak = traced_peak(lambda: model.fit(data))
    assert 0.8 * peak < expected < 2.0 * peak
