"""Epochs of DeepFM, and of FM, against torch: same rows, vectors, layers, loss, batches and optimizer.

python -m benchmarks.models.bench_deepfm --batch 2048

Our step is `field_sums_forward` and `field_sums_backward`, dense layers, and Adam on the rows of the batch.
Ratings of ml-100k with side features (8 fields, genres several at once), 10 factors, three layers of 128, squared
loss, Adam at 0.001. Torch's tables are stepped as a whole ("torch") or by the rows of the batch ("torch SparseAdam"),
which is what ours does. Quality is the RMSE of a held-out fifth after the timed epochs.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks import harness
from benchmarks.models.bench_fm import Ours as OursFm
from benchmarks.models.bench_fm import Torch as TorchFm
from benchmarks.models.bench_fm import quality, split
from benchmarks.models.fm_rows import Table, ml_100k
from recsys_fast.models import inputs
from recsys_fast.models.rows import Rows

_HIDDEN, _FACTORS, _RATE = (128, 128, 128), 10, 1e-3


class Ours:
    """An epoch at a time, by the trainer that ``DeepFM.fit`` runs."""

    def __init__(self, train: Table, batch: int, n_threads: int, device: str = "auto") -> None:
        self.model = rf.DeepFM(
            _FACTORS, hidden=_HIDDEN, loss="squared", learning_rate=_RATE, batch_size=batch, random_state=0,
            init_scale=0.05, n_threads=n_threads, device=device,
        )  # fmt: skip
        self.matrix, self.n_fields = inputs.check_matrix(train.x, "X"), int(train.fields.max()) + 1
        self.model._start(self.matrix.n_cols)
        self.model._given = train.fields.astype(np.int32)
        self.trainer = self.model._begin(Rows(self.matrix, train.y, None, None))
        self.done = 0

    def epoch(self) -> None:
        for batch in self.trainer.batches.epoch(self.done):
            self.trainer.network.step(batch)
        self.done += 1

    def predict(self, x: Any) -> np.ndarray[Any, Any]:
        return self.trainer.network.scores_of(inputs.check_matrix(x, "X"))

    def floor_seconds(self, peak: float) -> float:
        """Return the products of an epoch's layers, forward and two backward, over the matrix product rate."""
        widths = (self.n_fields * _FACTORS, *_HIDDEN, 1)
        products = sum(a * b for a, b in itertools.pairwise(widths))
        return 6.0 * products * self.matrix.n_rows / peak / 1e9


class Torch(TorchFm):
    """The usual composition: the machine of ``bench_fm``, and layers over the fields' vectors, summed where several."""

    def __init__(self, train: Table, batch: int, n_threads: int, sparse: bool) -> None:
        super().__init__(train, _FACTORS, "squared", batch, n_threads, sparse)
        torch = self.torch
        fields = np.append(train.fields, 0)
        self.n_fields = int(train.fields.max()) + 1
        self.fields = torch.from_numpy(fields.astype(np.int64))
        widths, layers = (self.n_fields * _FACTORS, *_HIDDEN), []
        for wide, narrow in itertools.pairwise(widths):
            layers += [torch.nn.Linear(wide, narrow), torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(_HIDDEN[-1], 1))
        self.optimizers.append(torch.optim.Adam(self.layers.parameters(), _RATE, fused=True))

    def score(self, ids: Any, x: Any) -> Any:
        v = self.factors(ids) * x[:, :, None]
        total = v.sum(1)
        pairs = 0.5 * (total.square() - v.square().sum(1)).sum(1)
        sums = self.torch.zeros(len(ids), self.n_fields, _FACTORS)
        sums = sums.scatter_add(1, self.fields[ids][:, :, None].expand(-1, -1, _FACTORS), v)
        deep = self.layers(sums.reshape(len(ids), -1))[:, 0]
        return self.bias + (self.weights(ids)[:, :, 0] * x).sum(1) + pairs + deep


def main() -> None:
    parser = harness.arguments(__doc__, "ml-100k")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--peers", nargs="*", default=["torch"])
    parser.add_argument("--numba", action="store_true", help="also run the numba backend")
    options = parser.parse_args()
    peak = harness.sgemm_peak(options.threads)
    print(f"matrix product {peak:.0f} GFLOP/s on {options.threads} threads (the floor)")
    report, (train, test) = harness.Report(options), split(ml_100k())
    adam = {"n_threads": options.threads, "device": "auto"}
    works: dict[str, dict[str, Any]] = {
        "DeepFM": {"recsys_fast": Ours(train, options.batch, options.threads)},
        "FM": {"recsys_fast": OursFm(train, _FACTORS, "squared", options.batch, False, adam)},
    }
    if options.numba:
        works["DeepFM"]["numba"] = Ours(train, options.batch, options.threads, "numba")
    if "torch" in options.peers:
        for label, sparse in (("torch", False), ("torch SparseAdam", True)):
            works["DeepFM"][label] = Torch(train, options.batch, options.threads, sparse)
            works["FM"][label] = TorchFm(train, _FACTORS, "squared", options.batch, options.threads, sparse)
    for name, contestants in works.items():
        start = time.perf_counter()
        figures = harness.alternate({label: one.epoch for label, one in contestants.items()}, options.turns)
        for label, one in contestants.items():
            figures[label].quality = quality(test, one.predict, "squared")
            figures[label].quality["M rows/s"] = len(train.y) / figures[label].median / 1e6
        figures["recsys_fast"].floor_seconds = contestants["recsys_fast"].floor_seconds(peak)
        report.add(f"{name}, ml-100k", figures, f"{_FACTORS} factors, {len(train.y)} rows, batch {options.batch}")
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)
    report.finish()


if __name__ == "__main__":
    main()
