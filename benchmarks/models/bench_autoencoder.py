"""Training epochs of Mult-VAE 600-200-600 against PyTorch, and what all reach.

Ours and the peers take turns: "torch" is an EmbeddingBag as first layer and fused Adam, "torch dense" the usual port
over dense rows, "bfloat16" the same products in bfloat16 on both sides. All have been over the users 1 + ``--turns``
times when their loss and, where the data set has a test part, Recall@20 and NDCG@20 are taken. An epoch of ours
includes the making of batches and the copy that a failure goes back to. The floor is that of the three products with
the items (``multinomial_loss``) at this package's own sgemm rate. ``--peers none`` leaves torch out.

python -m benchmarks.models.bench_autoencoder --data gowalla --turns 3
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks import data, harness
from recsys_fast.models import inputs

PEERS = {"torch": {}, "torch dense": {"dense": True}, "torch bfloat16": {"bfloat16": True}}


class Ours:
    """A model whose epochs are run one by one."""

    def __init__(self, matrix: Any, options: argparse.Namespace, compute: str) -> None:
        self.model = rf.MultVAE(
            options.factors, (options.hidden,), batch_size=options.batch, n_epochs=1, compute=compute,
            n_threads=options.threads, random_state=0,
        )  # fmt: skip
        self.model._start(matrix)
        self.model._matrix = self.model._prepare(inputs.check_matrix(matrix, "matrix"))
        self.trainer, self.loss = self.model._begin(), float("nan")
        self.model.n_epochs_ = 0

    def epoch(self) -> None:
        """Train one epoch, with the copy of the one before that a failure goes back to."""
        self.loss = self.trainer.epoch()
        self.model.n_epochs_ += 1


def quality(queries: Any, items: Any, train: Any, test: Any, threads: int) -> dict[str, float]:
    """Return Recall@20 and NDCG@20 over all items."""
    found = rf.evaluation.evaluate((queries, items), train, test, ("recall", "ndcg"), (20,), n_threads=threads)
    return {"recall@20": found["recall@20"], "ndcg@20": found["ndcg@20"]}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--factors", type=int, default=200)
    parser.add_argument("--hidden", type=int, default=600)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--compute", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--peers", nargs="+", default=["torch", "torch dense"], choices=[*PEERS, "none"])
    options = parser.parse_args()
    train, test = data.load(options.data)
    names = {"float32": "recsys_fast", "bfloat16": "recsys_fast bfloat16"}
    contestants: dict[str, Any] = {names[compute]: Ours(train, options, compute) for compute in options.compute}
    if options.peers != ["none"]:
        import torch

        from benchmarks.models.torch_vae import TorchVae

        torch.set_num_threads(options.threads)
        shape = {"hidden": options.hidden, "k": options.factors, "batch_size": options.batch}
        rows = train.indptr.astype(np.int64), train.indices
        contestants |= {name: TorchVae(*rows, train.shape[1], **shape, **PEERS[name]) for name in options.peers}
    figures = harness.alternate({name: one.epoch for name, one in contestants.items()}, options.turns)
    n_users = int(np.count_nonzero(np.diff(train.indptr)))
    flops = 6.0 * n_users * options.hidden * train.shape[1]
    floor = flops / 1e9 / harness.sgemm_peak(options.threads)
    for name, one in contestants.items():
        figures[name].quality = {"users/s": n_users / figures[name].median, "loss": one.loss}
        if isinstance(one, Ours):
            vectors = one.model._scoring()
            if one.model.compute == "float32":
                figures[name].floor_seconds = floor
        else:
            vectors = one.vectors()
        if test is not None:
            figures[name].quality |= quality(*vectors, train, test, options.threads)
    report = harness.Report(options)
    details = f"{options.hidden}-{options.factors}-{options.hidden}, batch {options.batch}, seconds of an epoch"
    report.add("Mult-VAE", figures, details)
    report.finish()


if __name__ == "__main__":
    main()
