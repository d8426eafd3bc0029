"""Epochs of NeuMF against PyTorch with SparseAdam: samples a second, loss, and Recall@20 and NDCG@20 on the test part.

Both have the network 8; 64-32-16-8, ``--negatives`` per interaction, batches of ``--batch`` pairs, Adam at 1e-3 that
steps only the rows of a batch, and the same start distributions. The peer's negatives are unverified, and drawn in one
piece per epoch, which is faster than verifying them; its epochs are cut to ``--steps`` batches, as a whole one takes
long, so that qualities are compared after equally many steps only with ``--steps 0``. The steps of ours are
``ncf_loss`` and Adam; the last line, ranking of all items for all users, is ``ncf_scores`` and a top-k (ours only).

python -m benchmarks.models.bench_ncf --data gowalla --batch 2048
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks import data, harness

LAYERS = (64, 32, 16, 8)


class Ours:
    """NeuMF, so many steps at a time."""

    def __init__(self, train: Any, batch: int, negatives: int, steps: int, threads: int) -> None:
        self.model = rf.NeuMF(
            8, LAYERS, n_negatives=negatives, batch_size=batch, n_epochs=1, n_threads=threads, random_state=0
        )
        self.model._check_all()
        self.model._start(train)
        self.model._matrix = self.model._prepare(rf.ops.as_csr(train))
        self.trainer, self.steps, self.epochs = self.model._begin(), steps, 0
        self.network, self._left = self.trainer.network, iter(())
        self.n_samples, self.loss = 0, float("nan")

    def turn(self) -> None:
        """Train ``steps`` batches, all of an epoch for 0."""
        total, terms, n = 0.0, 0, 0
        while n < self.steps or not self.steps:
            batch = next(self._left, None)
            if batch is None:
                if n and not self.steps:
                    break
                self._left = self.trainer.batches.epoch(self.epochs)
                self.epochs += 1
                continue
            loss, count = self.network.step(batch)
            total, terms, n = total + loss, terms + count, n + 1
        self.model._changed()
        self.model.n_epochs_ = self.epochs
        self.loss, self.n_samples = total / terms, terms


class Peer:
    """The same network in PyTorch."""

    def __init__(self, train: Any, batch: int, negatives: int, steps: int) -> None:
        import torch
        from torch import nn

        torch.manual_seed(0)
        coo, self.torch = train.tocoo(), torch
        self.users, self.items = torch.tensor(coo.row).long(), torch.tensor(coo.col).long()
        self.n_items, self.batch, self.k, self.steps = train.shape[1], batch, negatives, steps
        sizes = ((train.shape[0], 8), (train.shape[1], 8), (train.shape[0], 32), (train.shape[1], 32))
        self.tables = nn.ModuleList(nn.Embedding(n, d, sparse=True) for n, d in sizes)
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.01)
        layers: list[Any] = []
        for d_in, d_out in pairwise(LAYERS):
            layers += [nn.Linear(d_in, d_out), nn.ReLU()]
            nn.init.xavier_uniform_(layers[-2].weight)
        self.tower, self.head = nn.Sequential(*layers), nn.Linear(8 + LAYERS[-1], 1)
        self.optimizers = (
            torch.optim.SparseAdam(list(self.tables.parameters()), lr=1e-3),
            torch.optim.Adam([*self.tower.parameters(), *self.head.parameters()], lr=1e-3),
        )
        self.loss, self.n_samples, self._left = float("nan"), 0, iter(())

    def _epoch(self) -> Any:
        torch, n = self.torch, len(self.users)
        whom, what = self.users.repeat(1 + self.k), torch.empty(n * (1 + self.k), dtype=torch.long)
        what[:n] = self.items
        what[n:] = torch.randint(self.n_items, (n * self.k,))
        labels = torch.zeros(len(what))
        labels[:n] = 1.0
        for chosen in torch.randperm(len(what)).split(self.batch):
            yield whom[chosen], what[chosen], labels[chosen]

    def turn(self) -> None:
        """Train ``steps`` batches, all of an epoch for 0."""
        torch, total, n, count = self.torch, 0.0, 0, 0
        while n < self.steps or not self.steps:
            batch = next(self._left, None)
            if batch is None:
                if n and not self.steps:
                    break
                self._left = self._epoch()
                continue
            user, item, label = batch
            p, q, p_tower, q_tower = (t(i) for t, i in zip(self.tables, (user, item, user, item), strict=True))
            z = self.tower(torch.cat([p_tower, q_tower], 1))
            scores = self.head(torch.cat([p * q, z], 1))[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, label)
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
            total, n, count = total + loss.item() * len(label), n + 1, count + len(label)
        self.loss, self.n_samples = total / count, count

    def score(self, users: Any) -> Any:
        """Return the scores of all items, for ``evaluate``."""
        torch = self.torch
        with torch.no_grad():
            out = []
            for user in np.atleast_1d(users).tolist():
                ids = torch.full((self.n_items,), user), torch.arange(self.n_items)
                p, q, p_tower, q_tower = (t(i) for t, i in zip(self.tables, ids * 2, strict=True))
                z = self.tower(torch.cat([p_tower, q_tower], 1))
                out.append(self.head(torch.cat([p * q, z], 1))[:, 0].numpy())
        return np.stack(out)


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300, help="of a turn; 0: a whole epoch")
    parser.add_argument("--without-torch", action="store_true")
    options = parser.parse_args()
    train, test = data.load(options.data)
    ours = Ours(train, options.batch, options.negatives, options.steps, options.threads)
    contestants: dict[str, Any] = {"recsys_fast": ours}
    if not options.without_torch:
        import torch

        torch.set_num_threads(options.threads)
        contestants["torch SparseAdam"] = Peer(train, options.batch, options.negatives, options.steps)
    figures = harness.alternate({name: one.turn for name, one in contestants.items()}, options.turns)
    for name, one in contestants.items():
        figure = figures[name]
        figure.seconds = [seconds / one.n_samples * 1e6 for seconds in figure.seconds]
        figure.quality = {"samples/s": 1e6 / figure.median, "loss": one.loss}
        if test is not None and not options.steps:
            found = rf.evaluation.evaluate(one.model if one is ours else one, train, test, ("recall", "ndcg"), (20,))
            figure.quality |= {"recall@20": found["recall@20"], "ndcg@20": found["ndcg@20"]}
    # forward, and twice that back; the users' half of the first layer is shared by a positive and its negatives
    per_pair = sum(a * b for a, b in pairwise(LAYERS)) + 3 * 8 + LAYERS[-1]
    per_pair -= LAYERS[0] // 2 * LAYERS[1] * options.negatives / (1 + options.negatives)
    figures["recsys_fast"].floor_seconds = 6 * per_pair * 1e6 / (1e9 * harness.sgemm_peak(options.threads))
    report = harness.Report(options)
    report.add("NeuMF 8; 64-32-16-8", figures, f"{options.negatives} negatives, batch {options.batch}, s per 1M pairs")
    start = time.perf_counter()
    ours.model.recommend(n=20)
    print(f"all {train.shape[1]} items ranked for {train.shape[0]} users: {time.perf_counter() - start:.2f} s")
    report.finish()


if __name__ == "__main__":
    main()
