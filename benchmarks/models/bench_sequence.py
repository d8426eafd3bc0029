"""Training epochs of the sequence models against PyTorch: real events a second, and what both reach.

Ours and the peers take turns on the same training sequences; ``benchmarks.models.sequence_contestants`` says what they
have in common. All have been over the sequences 2 + ``--turns`` times when their loss and, on the validation items of
a data set, HR@10 and NDCG@10 are taken. An epoch of ours includes the packing of batches and the copy that a failure
goes back to. ``--work`` chooses:

    sasrec           d 50, 2 blocks, 1 head, dropout .2, one negative, batch 128 (``--max-len``)
    sasrec-ce        the same at d 64 with cross-entropy over all items, float32 and bfloat16
    gru4rec          100 units, 2,048 negatives, session-parallel, cross-entropy (``--batch``)
    gru4rec-bpr-max  the same with BPR-max on the scores themselves, without the ELU of the official code's final layer
    lstm             64 units, sampled softmax with the batch's targets and 2,048 negatives, batch 128
    caser            d 50, L 5, T 3, 16 horizontal and 4 vertical filters, 3 negatives, batch 512; events are windows
    nextitnet        d 64, dilations 1, 4, 1, 4 five times, softmax over all items; the peer has one target per prefix
    update           one event and the top 10 for one user, one thread, after histories of 9 to 49 events; without torch

python -m benchmarks.models.bench_sequence --work sasrec sasrec-ce gru4rec lstm caser nextitnet update --data beauty
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks import harness
from benchmarks.models import sequence_contestants as contestants

WORK: dict[str, Callable[[Any, argparse.Namespace], contestants.Work]] = {
    "sasrec": partial(contestants.sasrec, loss="bce"),
    "sasrec-ce": partial(contestants.sasrec, loss="ce"),
    "gru4rec": partial(contestants.gru4rec, loss="ce"),
    "gru4rec-bpr-max": partial(contestants.gru4rec, loss="bpr_max"),
    "lstm": contestants.lstm,
    "caser": contestants.caser,
    "nextitnet": contestants.nextitnet,
}


def sequences(name: str) -> tuple[Any, Any]:
    """Return training and validation sequences of a data set; those of an npz file, and None."""
    if name.endswith(".npz"):
        with np.load(name, allow_pickle=False) as arrays:
            row_ptr, items = arrays["indptr"].astype(np.int64), arrays["indices"].astype(np.int32)
        return rf.Sequences.from_arrays(row_ptr, items, n_items=int(items.max()) + 1), None
    return rf.splits.leave_one_out(rf.datasets.load(name).sequences)[:2]


def epochs(name: str, train: Any, valid: Any, options: argparse.Namespace, report: harness.Report) -> None:
    """Time the epochs of all contestants, then compare what they learned."""
    work = WORK[name](train, options)
    figures = harness.alternate({key: one.epoch for key, one in work.contestants.items()}, options.turns)
    for key, one in work.contestants.items():
        figure = figures[key]
        figure.seconds = [seconds / one.n_events * 1e6 for seconds in figure.seconds]
        figure.quality = {"events/s": 1e6 / figure.median, "loss": one.loss}
        scores = None if valid is None else one.scores(train)
        if scores is not None:
            metrics = ("hit_rate", "ndcg")
            found = rf.evaluation.evaluate(scores, train, valid, metrics, (10,), n_threads=options.threads)
            figure.quality |= {"hr@10": found["hit_rate@10"], "ndcg@10": found["ndcg@10"]}
    ours, peak = work.contestants["recsys_fast"], harness.sgemm_peak(options.threads)
    figures["recsys_fast"].floor_seconds = work.flops / 1e9 / peak / ours.n_events * 1e6
    report.add(name, figures, f"{work.details}, seconds per million events")


def update(train: Any, options: argparse.Namespace, report: harness.Report) -> None:
    """Time one event and the top 10 after it for one user on one thread, after 9 to 49 of the user's own events."""
    for name, model in (
        ("SASRec, positions from the start", rf.SASRec(64, 2, 2, 50, positions="start")),
        ("SASRec, positions from the end", rf.SASRec(64, 2, 2, 50, positions="end")),
        ("GRU4Rec", rf.GRU4Rec(100)),
        ("NextItNet", rf.NextItNet(64)),
    ):
        fitted = model.set_params(n_epochs=1, n_threads=1, random_state=0).fit(train)
        users = np.flatnonzero((train.lengths >= 10) & (train.lengths <= 50))[:200].tolist()
        if not users:
            raise SystemExit("update: no training sequence has 10 to 50 events")
        known, last = [train[u][:-1].tolist() for u in users], [int(train[u][-1]) for u in users]
        # An update changes its state: every turn, and the one that warms up, has states of its own.
        turns = iter([[fitted.start(items) for items in known] for _ in range(options.turns + 1)])

        def all_users(fitted: Any = fitted, turns: Any = turns, last: list[int] = last) -> None:
            for state, item in zip(next(turns), last, strict=True):
                fitted.update(state, item)
                fitted.recommend_from(state, n=10)

        figures = harness.alternate({"recsys_fast": all_users}, options.turns)
        figures["recsys_fast"].seconds = [s / len(users) for s in figures["recsys_fast"].seconds]
        report.add(f"one event and top 10, {name}", figures, "one thread")


def main() -> None:
    parser = harness.arguments(__doc__, data="beauty")
    parser.add_argument("--work", nargs="+", choices=[*WORK, "update"], default=["sasrec"])
    parser.add_argument("--max-len", type=int, default=50)
    parser.add_argument("--batch", type=int, default=64, help="lanes of gru4rec")
    parser.add_argument("--prefix-batches", type=int, default=4, help="a turn of nextitnet's peer")
    parser.add_argument("--seed", type=int, default=0, help="of start values, orders and draws of all contestants")
    parser.add_argument("--fast-peers-only", action="store_true", help="leave the standard SASRec out")
    options = parser.parse_args()
    if set(options.work) != {"update"}:
        import torch

        torch.set_num_threads(options.threads)
    train, valid = sequences(options.data)
    report = harness.Report(options)
    for name in options.work:
        if name == "update":
            update(train, options, report)
        else:
            epochs(name, train, valid, options, report)
    report.finish()


if __name__ == "__main__":
    main()
