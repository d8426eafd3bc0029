"""Training epochs of the sequence models against PyTorch: real events a second, and the loss both reach.

Ours and the peers take turns on the same training sequences with the same widths, lengths, batch sizes and losses; an
epoch of ours includes the packing of batches and the copy that a failure goes back to. ``--work`` chooses:

    sasrec     d 50, 2 blocks, 1 head, dropout .2, one negative, batch 128 (``--max-len``)
    sasrec-ce  the same at d 64 with cross-entropy over all items, float32 and bfloat16
    gru4rec    100 units, 2,048 negatives, session-parallel, cross-entropy and BPR-max (``--batch``)
    lstm       64 units, sampled softmax with 2,048 negatives, batch 128
    caser      d 50, L 5, T 3, 16 horizontal and 4 vertical filters, 3 negatives, batch 512
    nextitnet  d 64, dilations 1, 4, 1, 4 five times, softmax over all items; the peer's unit is a prefix
    update     one event and the top 10 for one user, one thread

python -m benchmarks.models.bench_sequence --work sasrec sasrec-ce gru4rec lstm caser nextitnet update --data beauty
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks import harness
from recsys_fast import backend

Contestants = dict[str, tuple[Callable[[], Any], int]]  # an epoch, and its events


class Ours:
    """A model, epoch by epoch."""

    def __init__(self, model: Any, train: Any) -> None:
        self.model = model.set_params(n_epochs=1).fit(train)
        self.trainer = model._resume()
        self.loss = 0.0

    def epoch(self) -> None:
        self.loss = self.trainer.epoch()
        self.model.n_epochs_ += 1


class Peer:
    """A PyTorch model, epoch by epoch."""

    def __init__(self, model: Any) -> None:
        self.model, self.loss = model, 0.0

    def epoch(self) -> None:
        self.loss = self.model.epoch()


def sequences(name: str) -> Any:
    """Return training sequences: the leave-one-out training part of a data set, or those of an npz file."""
    if name.endswith(".npz"):
        with np.load(name, allow_pickle=False) as arrays:
            row_ptr, items = arrays["indptr"].astype(np.int64), arrays["indices"].astype(np.int32)
        return rf.Sequences.from_arrays(row_ptr, items, n_items=int(items.max()) + 1)
    return rf.splits.leave_one_out(rf.datasets.load(name).sequences)[0]


def floor_seconds(flops: float, options: argparse.Namespace) -> float:
    """Return the time of so many operations at the measured rate of our matrix product."""
    return flops / 1e9 / harness.sgemm_peak(options.threads)


def sasrec(train: Any, options: argparse.Namespace, loss: str) -> tuple[dict[str, Any], int, float]:
    """Return contestants, events of an epoch, and its operations."""
    from benchmarks.models.torch_sasrec import TorchSasRec

    d = 64 if loss == "ce" else 50
    kind: dict[str, Any] = {"max_len": options.max_len, "dropout": 0.2, "loss": loss, "batch_size": 128}
    common = {**kind, "norm": "query", "scale_items": True, "n_threads": options.threads, "random_state": 0}
    found: dict[str, Any] = {"recsys_fast": Ours(rf.SASRec(d, 2, 1, **common), train)}
    ptr, items = train.row_ptr, train.items.astype(np.int64)
    peer: dict[str, Any] = {**kind, "d": d}
    if loss == "ce":
        if backend.get().has_bfloat16():
            found["recsys_fast, bfloat16"] = Ours(rf.SASRec(d, 2, 1, compute="bfloat16", **common), train)
            found["torch SDPA, bfloat16"] = Peer(
                TorchSasRec(ptr, items, train.n_items, standard=False, bf16=True, **peer)
            )
    elif not options.fast_peers_only:
        found["torch, standard"] = Peer(TorchSasRec(ptr, items, train.n_items, standard=True, **peer))
    found["torch SDPA"] = Peer(TorchSasRec(ptr, items, train.n_items, standard=False, **peer))
    lengths = np.minimum(train.lengths - 1, options.max_len).clip(0).astype(np.float64)
    n = int(lengths.sum())
    products = 2 * (4 + 2) * d * d  # of a row in both blocks: query, key, value, out; two layers
    attention = 2 * 2 * d * (lengths * (lengths + 1) / 2).sum()
    scores = n * train.n_items * d if loss == "ce" else n * 2 * d
    return found, n, 2.0 * 3.0 * (n * products + attention + scores)


def gru4rec(train: Any, options: argparse.Namespace, loss: str) -> tuple[dict[str, Any], int, float]:
    """Return contestants, events of an epoch, and its operations."""
    from benchmarks.models.torch_gru4rec import TorchGru4Rec

    ours = rf.GRU4Rec(
        100, loss=loss, n_negatives=2048, batch_size=options.batch, n_threads=options.threads, random_state=0
    )
    ptr, items = train.row_ptr, train.items.astype(np.int64)
    peer = TorchGru4Rec(ptr, items, train.n_items, d=100, loss=loss, batch_size=options.batch, n_negatives=2048)
    n = int((train.lengths - 1).clip(0).sum())
    flops = 2.0 * n * (2 * 3 * 100 * 300 + 3 * 100 * (2048 + options.batch))
    return {"recsys_fast": Ours(ours, train), "torch, official form": Peer(peer)}, n, flops


def lstm(train: Any, options: argparse.Namespace) -> tuple[dict[str, Any], int, float]:
    """Return contestants, events of an epoch, and its operations."""
    from benchmarks.models.torch_gru4rec import TorchLstm

    ours = rf.GRU4Rec(
        64, cell="lstm", session_parallel=False, n_negatives=2048, negative_alpha=0.0, log_q=0.0, item_bias=False,
        optimizer="adam", learning_rate=0.001, batch_size=128, n_threads=options.threads, random_state=0,
    )  # fmt: skip
    ptr, items = train.row_ptr, train.items.astype(np.int64)
    n = int(np.minimum(train.lengths - 1, 200).clip(0).sum())
    found = {"recsys_fast": Ours(ours, train)}
    for name, packed in (("torch packed", True), ("torch padded", False)):
        found[name] = Peer(TorchLstm(ptr, items, train.n_items, packed=packed))
    return found, n, 2.0 * n * 3 * (2 * 64 * 256 + 64 * 2048)


def caser(train: Any, options: argparse.Namespace) -> tuple[dict[str, Any], int, float]:
    """Return contestants, windows of an epoch, and its operations."""
    from benchmarks.models.torch_conv import TorchCaser
    from recsys_fast.data.batches import WindowBatches

    whole = next(WindowBatches(train, 5, 3, batch_size=1 << 30).epoch(0))
    full = (whole.targets >= 0).all(axis=1)  # the peer knows no missing targets
    ours = rf.Caser(50, 5, 3, n_threads=options.threads, random_state=0)
    parts = (whole.items[full], whole.targets[full], whole.users[full])
    peer = TorchCaser(*parts, train.n_users, train.n_items)
    n = len(whole.users)
    flops = 2.0 * 3.0 * n * (sum((6 - h) * h * 50 * 16 for h in range(1, 6)) + 5 * 50 * 4 + 280 * 50 + 6 * 100)
    return {"recsys_fast": Ours(ours, train), "torch, published form": Peer(peer)}, n, flops


class Prefixes:
    """A few batches of the peer's NextItNet, as a share of an epoch."""

    def __init__(self, model: Any, n_batches: int) -> None:
        self.model, self.n_batches = model, n_batches
        self.loss = float("nan")

    def epoch(self) -> None:
        self.model.steps(self.n_batches)


def nextitnet(train: Any, options: argparse.Namespace) -> tuple[dict[str, Any], int, float]:
    """Return contestants, targets of an epoch, and its operations."""
    from benchmarks.models.torch_conv import TorchNextItNet

    ours = rf.NextItNet(64, (1, 4, 1, 4) * 5, 3, 50, dropout=0.0, n_threads=options.threads, random_state=0)
    peer = TorchNextItNet(train.row_ptr, train.items.astype(np.int64), train.n_items, batch_size=256)
    n = int(np.minimum(train.lengths - 1, 50).clip(0).sum())
    found = {"recsys_fast": Ours(ours, train), "torch, prefixes": Prefixes(peer, 4)}
    return found, n, 2.0 * 3.0 * n * (20 * 2 * 3 * 64 * 64 + 64 * 64 + 64 * train.n_items)


def update(train: Any, options: argparse.Namespace, report: harness.Report) -> None:
    """Time one event and the top 10 after it for one user on one thread, at the training sequences' own lengths."""
    for name, model in (
        ("SASRec, positions from the start", rf.SASRec(64, 2, 2, 50, positions="start")),
        ("SASRec, positions from the end", rf.SASRec(64, 2, 2, 50, positions="end")),
        ("GRU4Rec", rf.GRU4Rec(100)),
        ("NextItNet", rf.NextItNet(64)),
    ):
        fitted = model.set_params(n_epochs=1, n_threads=1, random_state=0).fit(train)
        users = [u for u in range(train.n_users) if len(train[u]) >= 10][:200]
        states = {u: fitted.start(train[u][:-1].tolist()) for u in users}
        last = {u: int(train[u][-1]) for u in users}

        def all_users(fitted: Any = fitted, states: dict[int, Any] = states, last: dict[int, int] = last) -> None:
            for user, state in states.items():
                fitted.update(state, last[user])
                fitted.recommend_from(state, n=10)
                state.items.pop()

        figures = harness.alternate({"recsys_fast": all_users}, options.turns)
        figures["recsys_fast"].seconds = [s / len(users) for s in figures["recsys_fast"].seconds]
        report.add(f"one event and top 10, {name}", figures, "one thread")


def main() -> None:
    parser = harness.arguments(__doc__, data="beauty")
    choices = ["sasrec", "sasrec-ce", "gru4rec", "gru4rec-bpr-max", "lstm", "caser", "nextitnet", "update"]
    parser.add_argument("--work", nargs="+", choices=choices, default=["sasrec"])
    parser.add_argument("--max-len", type=int, default=50)
    parser.add_argument("--batch", type=int, default=64, help="lanes of gru4rec")
    parser.add_argument("--fast-peers-only", action="store_true", help="leave the standard SASRec out")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    train = sequences(options.data)
    report = harness.Report(options)
    makers: dict[str, Callable[[], tuple[dict[str, Any], int, float]]] = {
        "sasrec": lambda: sasrec(train, options, "bce"),
        "sasrec-ce": lambda: sasrec(train, options, "ce"),
        "gru4rec": lambda: gru4rec(train, options, "ce"),
        "gru4rec-bpr-max": lambda: gru4rec(train, options, "bpr_max"),
        "lstm": lambda: lstm(train, options),
        "caser": lambda: caser(train, options),
        "nextitnet": lambda: nextitnet(train, options),
    }
    for work in options.work:
        if work == "update":
            update(train, options, report)
            continue
        found, n_events, flops = makers[work]()
        figures = harness.alternate({name: one.epoch for name, one in found.items()}, options.turns)
        for name, one in found.items():
            events = 4 * 256 if isinstance(one, Prefixes) else n_events
            figures[name].seconds = [seconds / events * 1e6 for seconds in figures[name].seconds]
            figures[name].quality = {"events/s": 1e6 / figures[name].median, "loss": one.loss}
        figures["recsys_fast"].floor_seconds = floor_seconds(flops / n_events * 1e6, options)
        details = f"batch {options.batch}, " if work.startswith("gru4rec") else ""
        report.add(work, figures, details + "seconds per million events")
    report.finish()


if __name__ == "__main__":
    main()
