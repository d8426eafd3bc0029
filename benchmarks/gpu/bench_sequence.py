"""Epochs of SASRec and GRU4Rec on a GPU against PyTorch there: eager, compiled, cuDNN; seconds per million events.

``--data beauty-shaped`` needs no file. An epoch of ours includes the packing of batches; PyTorch's padded batches of
SASRec are on the device from the start.
``--work`` chooses:

    sasrec      d 50, 2 blocks, 1 head, dropout .2, one negative, batch 128
    sasrec-ce   the same at d 64 with cross-entropy over all items, float32 and bfloat16
    gru4rec     100 units, 2,048 negatives, session-parallel, cross-entropy; the peer is the official form
    gru         100 units on whole sequences, sampled softmax with 2,048 negatives; the peers are cuDNN's layers

python -m benchmarks.gpu.bench_sequence --work sasrec sasrec-ce gru4rec gru --data beauty
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks import data, harness
from benchmarks.gpu import machine
from benchmarks.models.bench_sequence import sequences
from benchmarks.models.sequence_contestants import Ours, Peer, n_transitions


def sasrec(train: Any, options: argparse.Namespace, torch: str | None, loss: str) -> tuple[dict[str, Any], float]:
    """Return contestants and operations of an epoch of ours."""
    d = (64 if loss == "ce" else 50) if not options.dry else 8
    kind: dict[str, Any] = {
        "max_len": options.max_len,
        "dropout": 0.2,
        "loss": loss,
        "batch_size": options.batch or 128,
    }
    how: dict[str, Any] = {"norm": "query", "scale_items": True, "verify_negatives": False, "device": "cuda"}
    lengths = n_transitions(train, options.max_len).astype(np.float64)
    n = int(lengths.sum())
    found: dict[str, Any] = {"recsys_fast": Ours(rf.SASRec(d, 2, 1, random_state=0, **kind, **how), train, n)}
    if loss == "ce":
        how["compute"] = "bfloat16"
        found["recsys_fast, bfloat16"] = Ours(rf.SASRec(d, 2, 1, random_state=0, **kind, **how), train, n)
    if torch is not None:
        from benchmarks.models.torch_sasrec import TorchSasRec

        forms: dict[str, dict[str, Any]] = {
            "torch, standard": {"standard": True},
            "torch SDPA": {"standard": False},
            "torch SDPA, compiled": {"standard": False, "compiled": True},
        }
        if loss == "ce":
            forms["torch SDPA, bfloat16"] = {"standard": False, "bf16": True}
        if options.dry:
            del forms["torch SDPA, compiled"]  # a compiler's minute
        where: dict[str, Any] = {"d": d, "device": torch, **kind}
        for name, form in forms.items():
            found[name] = Peer(TorchSasRec(train.row_ptr, train.items.astype(np.int64), train.n_items, **where, **form))
    products = 2 * 6 * d * d
    scores = n * d * (train.n_items if loss == "ce" else 2)
    return found, 2.0 * 3.0 * (n * products + 2 * 2 * d * (lengths * (lengths + 1) / 2).sum() + scores)


def gru4rec(train: Any, options: argparse.Namespace, torch: str | None) -> tuple[dict[str, Any], float]:
    """Return contestants and operations of an epoch of ours, session-parallel."""
    d, k = (100, 2048) if not options.dry else (8, 16)
    kind: dict[str, Any] = {"d": d, "loss": "ce", "n_negatives": k, "batch_size": options.batch or 512}
    n = int((train.lengths - 1).clip(0).sum())
    found: dict[str, Any] = {"recsys_fast": Ours(rf.GRU4Rec(random_state=0, device="cuda", **kind), train, n)}
    if torch is not None:
        from benchmarks.models.torch_gru4rec import TorchGru4Rec

        items = train.items.astype(np.int64)
        found["torch, official form"] = Peer(TorchGru4Rec(train.row_ptr, items, train.n_items, device=torch, **kind))
    return found, 2.0 * n * (2 * 3 * d * 3 * d + 3 * d * (k + kind["batch_size"]))


def gru(train: Any, options: argparse.Namespace, torch: str | None) -> tuple[dict[str, Any], float]:
    """Return contestants and operations of an epoch of ours, on whole sequences."""
    d, k, batch = (100, 2048, options.batch or 128) if not options.dry else (8, 16, 8)
    n = int(n_transitions(train, 200).sum())
    model = rf.GRU4Rec(
        d, session_parallel=False, n_negatives=k, negative_alpha=0.0, log_q=0.0, item_bias=False, optimizer="adam",
        learning_rate=0.001, batch_size=batch, random_state=0, device="cuda",
    )  # fmt: skip
    found: dict[str, Any] = {"recsys_fast": Ours(model, train, n)}
    if torch is not None:
        from benchmarks.models.torch_gru4rec import TorchLstm

        how: dict[str, Any] = {"cell": "gru", "d": d, "n_negatives": k, "batch_size": batch, "device": torch}
        for name, packed in (("torch cuDNN, packed", True), ("torch cuDNN, padded", False)):
            items = train.items.astype(np.int64)
            found[name] = Peer(TorchLstm(train.row_ptr, items, train.n_items, packed=packed, **how))
    candidates = k + n / max(1, model._batches().n_batches)
    return found, 2.0 * n * 3 * (2 * d * 3 * d + d * candidates)


WORK: dict[str, Any] = {
    "sasrec": lambda *given: sasrec(*given, "bce"),
    "sasrec-ce": lambda *given: sasrec(*given, "ce"),
    "gru4rec": gru4rec,
    "gru": gru,
}


def main() -> None:
    parser = harness.arguments(__doc__, data="beauty")
    parser.add_argument("--work", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--max-len", type=int, default=50)
    parser.add_argument("--batch", type=int, default=0, help="sequences or lanes of a step; 0 for those above")
    options = machine.arguments(parser)
    gpu, report = machine.Gpu(options.dry), harness.Report(options)
    if options.dry:
        options.max_len, options.batch, train = 5, 8, data.made_sequences(8, 25, 6.0)
    else:
        train = data.made_sequences() if options.data == "beauty-shaped" else sequences(options.data)[0]
    torch = machine.torch_device(options.dry)
    for name in options.work:
        contestants, operations = WORK[name](train, options, torch)
        figures = harness.alternate({key: gpu.finished(one.epoch) for key, one in contestants.items()}, options.turns)
        for key, one in contestants.items():
            figures[key].seconds = [seconds / one.n_events * 1e6 for seconds in figures[key].seconds]
            figures[key].quality = {"events/s": 1e6 / figures[key].median, "loss": one.loss}
        ours = contestants["recsys_fast"]
        figures["recsys_fast"].floor_seconds = gpu.floor(0.0, operations) / ours.n_events * 1e6
        report.add(f"{name} on a GPU", figures, f"max_len {options.max_len}" if name.startswith("sasrec") else "")
    report.finish()


if __name__ == "__main__":
    main()
