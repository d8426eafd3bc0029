"""What ``bench_sequence`` times: our sequence models and PyTorch's, which take turns on the same training sequences.

Contestants of a piece of work agree in widths, lengths, batch sizes, losses, optimizers and, where the published form
of the peer does not say otherwise, in the distribution of their start values. Each has trained for one epoch when it is
made, so that after equally many turns all have been over the sequences equally often (but for NextItNet's peer).
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

import recsys_fast as rf
from recsys_fast import backend


class Ours:
    """A model, epoch by epoch.

    Args:
        model: not fitted.
        train: sequences.
        n_events: what an epoch trains on.
    """

    def __init__(self, model: Any, train: Any, n_events: int) -> None:
        self.model, self.n_events = model.set_params(n_epochs=1).fit(train), n_events
        self.trainer = self.model._resume()
        self.loss = float("nan")

    def epoch(self) -> None:
        self.loss = self.trainer.epoch()
        self.model.n_epochs_ += 1

    def scores(self, train: Any) -> Any:
        """Return what ``evaluate`` takes."""
        return self.model


class Peer:
    """A PyTorch model, epoch by epoch: ``epoch()`` trains on ``n_events`` and returns their mean loss."""

    def __init__(self, model: Any) -> None:
        self.model, self.n_events = model, model.n_events
        self.epoch()

    def epoch(self) -> None:
        self.loss = self.model.epoch()

    def scores(self, train: Any) -> Any:
        """Return what ``evaluate`` takes, None where the peer is trained only."""
        scoring = getattr(self.model, "scoring", None)
        return None if scoring is None else scoring(train.row_ptr, train.items)


class Work(NamedTuple):
    """Contestants by name, the operations of an epoch of ours, and the settings that the title names."""

    contestants: dict[str, Ours | Peer]
    flops: float
    details: str


def n_transitions(train: Any, max_len: int) -> np.ndarray:
    """Return how many events of each sequence have one before them, among the last ``max_len`` + 1."""
    return np.minimum(train.lengths - 1, max_len).clip(0)


def sasrec(train: Any, options: argparse.Namespace, loss: str) -> Work:
    """Two blocks with one head; "bce" with one negative an event, neither of ours nor of torch's looked up."""
    from benchmarks.models.torch_sasrec import TorchSasRec

    d = 64 if loss == "ce" else 50
    kind: dict[str, Any] = {"max_len": options.max_len, "dropout": 0.2, "loss": loss, "batch_size": 128}
    how = {"n_threads": options.threads, "random_state": options.seed}
    common = {**kind, "norm": "query", "scale_items": True, "verify_negatives": False, **how}
    lengths = n_transitions(train, options.max_len).astype(np.float64)
    n = int(lengths.sum())
    ptr, items = train.row_ptr, train.items.astype(np.int64)
    found: dict[str, Ours | Peer] = {"recsys_fast": Ours(rf.SASRec(d, 2, 1, **common), train, n)}

    def peer(**form: Any) -> Peer:
        return Peer(TorchSasRec(ptr, items, train.n_items, d=d, seed=options.seed, **kind, **form))

    if loss == "ce":
        if backend.get().has_bfloat16():
            found["recsys_fast, bfloat16"] = Ours(rf.SASRec(d, 2, 1, compute="bfloat16", **common), train, n)
            found["torch SDPA, bfloat16"] = peer(standard=False, bf16=True)
    elif not options.fast_peers_only:
        found["torch, standard"] = peer(standard=True)
    found["torch SDPA"] = peer(standard=False)
    products = 2 * (4 + 2) * d * d  # of a row in both blocks: query, key, value, out; two layers
    attention = 2 * 2 * d * (lengths * (lengths + 1) / 2).sum()
    scores = n * train.n_items * d if loss == "ce" else n * 2 * d
    return Work(found, 2.0 * 3.0 * (n * products + attention + scores), f"max_len {options.max_len}")


def gru4rec(train: Any, options: argparse.Namespace, loss: str) -> Work:
    """Session-parallel lanes.

    The official form corrects cross-entropy by where a candidate comes from, ours by how often it is expected among
    all candidates, and leaves negatives out that are the target: losses differ by definition, the metrics do not.
    """
    from benchmarks.models.torch_gru4rec import TorchGru4Rec

    kind: dict[str, Any] = {"d": 100, "loss": loss, "n_negatives": 2048, "batch_size": options.batch}
    n = int((train.lengths - 1).clip(0).sum())
    ours = Ours(rf.GRU4Rec(**kind, n_threads=options.threads, random_state=options.seed), train, n)
    items = train.items.astype(np.int64)
    peer = Peer(TorchGru4Rec(train.row_ptr, items, train.n_items, seed=options.seed, **kind))
    flops = 2.0 * n * (2 * 3 * 100 * 300 + 3 * 100 * (2048 + options.batch))
    return Work({"recsys_fast": ours, "torch, official form": peer}, flops, f"batch {options.batch}")


def lstm(train: Any, options: argparse.Namespace) -> Work:
    """Whole sequences; the candidates of an event are the batch's targets and 2,048 uniform draws.

    Our batches have equally many events, the peer's are of like lengths and so have more or fewer: with the number of
    candidates the level of the loss differs, the metrics can be compared.
    """
    from benchmarks.models.torch_gru4rec import TorchLstm

    n = int(n_transitions(train, 200).sum())
    model = rf.GRU4Rec(
        64, cell="lstm", session_parallel=False, n_negatives=2048, negative_alpha=0.0, log_q=0.0, item_bias=False,
        optimizer="adam", learning_rate=0.001, batch_size=128, n_threads=options.threads, random_state=options.seed,
    )  # fmt: skip
    found: dict[str, Ours | Peer] = {"recsys_fast": Ours(model, train, n)}
    ptr, items = train.row_ptr, train.items.astype(np.int64)
    for name, packed in (("torch packed", True), ("torch padded", False)):
        found[name] = Peer(TorchLstm(ptr, items, train.n_items, packed=packed, seed=options.seed))
    candidates = 2048 + n / max(1, model._batches().n_batches)
    return Work(found, 2.0 * n * 3 * (2 * 64 * 256 + 64 * candidates), "batch 128")


def caser(train: Any, options: argparse.Namespace) -> Work:
    """Windows; an event is one. The peer trains on those with three targets only, and is counted for those only."""
    from benchmarks.models.torch_conv import TorchCaser
    from recsys_fast.data.batches import WindowBatches

    whole = next(WindowBatches(train, 5, 3, batch_size=1 << 30).epoch(0))
    full = (whole.targets >= 0).all(axis=1)
    n = len(whole.users)
    ours = rf.Caser(50, 5, 3, verify_negatives=False, n_threads=options.threads, random_state=options.seed)
    parts = (whole.items[full], whole.targets[full], whole.users[full])
    found = {
        "recsys_fast": Ours(ours, train, n),
        "torch, published form": Peer(TorchCaser(*parts, train.n_users, train.n_items, seed=options.seed)),
    }
    flops = 2.0 * 3.0 * n * (sum((6 - h) * h * 50 * 16 for h in range(1, 6)) + 5 * 50 * 4 + 280 * 50 + 6 * 100)
    return Work(found, flops, "batch 512")


def nextitnet(train: Any, options: argparse.Namespace) -> Work:
    """Ours has a target at every place; the peer, as published codes train it, one target per padded prefix.

    A turn of the peer is ``--prefix-batches`` batches of its own default size: its loss is that of those, after fewer
    steps than an epoch has.
    """
    from benchmarks.models.torch_conv import TorchNextItNet

    dilations, n = (1, 4, 1, 4) * 5, int(n_transitions(train, 50).sum())
    ours = rf.NextItNet(64, dilations, 3, 50, dropout=0.0, n_threads=options.threads, random_state=options.seed)
    ptr, items, n_batches = train.row_ptr, train.items.astype(np.int64), options.prefix_batches
    found = {
        "recsys_fast": Ours(ours, train, n),
        "torch, prefixes": Peer(TorchNextItNet(ptr, items, train.n_items, n_batches=n_batches, seed=options.seed)),
    }
    return Work(found, 2.0 * 3.0 * n * (20 * 2 * 3 * 64 * 64 + 64 * 64 + 64 * train.n_items), "batch 128 and 2,048")
