"""Epochs of factorization machines against torch and xlearn (libffm's successor): same rows, factors, loss, batches.

python -m benchmarks.models.bench_fm --work ml-100k frappe frappe-ffm --batch 2048

"ml-100k": ratings with side features, 10 factors, squared loss, against torch. "frappe", "frappe-ffm": log loss,
against torch and xlearn (which reads text and runs lock-free; reading is not counted, its seconds are the difference
between many epochs and few). "als": sweeps of ALS on ml-100k. Quality is that of the test rows after the timed epochs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.models.fm_rows import Table, frappe, ml_100k
from recsys_fast import ops
from recsys_fast.evaluation.row_metrics import row_metrics
from recsys_fast.ops.fm import prepare_epoch


class Ours:
    """One ``fm_epoch`` or ``ffm_epoch`` at a time, with arguments checked once, as ``FM.fit`` and ``FFM.fit`` do it."""

    def __init__(self, train: Table, d: int, loss: str, batch: int, aware: bool, options: dict[str, Any]) -> None:
        self.csr, self.y, self.loss = ops.as_csr(train.x), train.y, loss
        if self.csr.values is not None and (self.csr.values == 1).all():
            self.csr = self.csr._replace(values=None)
        self.n_fields = int(train.fields.max()) + 1 if aware else 1
        width = self.n_fields * d + 1
        rng = np.random.default_rng(0)
        self.table = (0.05 * rng.standard_normal((self.csr.n_cols, width))).astype(np.float32)
        self.table[:, -1] = 0.0
        self.bias = np.array([train.y.mean() if loss == "squared" else 0.0, 0.0, 0.0, 0.0])
        self.options: dict[str, Any] = {"optimizer": "adam", "learning_rate": 1e-3, **options}
        states = {"sgd": 0, "adagrad": 1, "adam": 2}[self.options["optimizer"]]
        self.options |= {"state": np.zeros((self.csr.n_cols, states * width), np.float32)}
        self.options |= {"steps": np.zeros(self.csr.n_cols, np.int32), "loss": loss, "batch_size": batch}
        self.fields = train.fields.astype(np.int32) if aware else None
        self.options |= {"weights": None, "groups": None, "seed": 0, "fields": self.fields}
        penalties = {"weight_regularization": 0.0, "factor_regularization": 0.0}
        self.run = prepare_epoch(self.table, self.bias, self.csr, self.y, **{**penalties, **self.options})
        self.done = 0

    def epoch(self) -> None:
        self.run(self.done)
        self.done += 1

    def predict(self, x: Any) -> np.ndarray[Any, Any]:
        how = {"n_threads": self.options["n_threads"], "device": self.options["device"]}
        if self.fields is None:
            return ops.fm_predict(self.table, float(self.bias[0]), x, **how)
        return ops.ffm_predict(self.table, float(self.bias[0]), x, self.fields, **how)

    def floor_seconds(self, peak: float) -> float:
        """Return the operations of an epoch over the matrix product rate: each entry's slot once each way.

        Forward adds x v to the sums of its row and squares it, backward adds slope x slot to its feature's gradient:
        8 operations per number of an entry, 6 with fields (no squares), and as many bytes from cache.
        """
        width = self.table.shape[1]
        return (8.0 if self.fields is None else 6.0) * self.csr.nnz * width / peak / 1e9


class Torch:
    """The usual composition: padded indices, embeddings, Adam over the dense tables or SparseAdam over rows seen."""

    def __init__(self, train: Table, d: int, loss: str, batch: int, n_threads: int, sparse: bool) -> None:
        import torch

        torch.set_num_threads(n_threads)
        torch.manual_seed(0)
        self.torch, self.batch, self.loss = torch, batch, loss
        self.ids, self.x = self._padded(train.x)
        self.y = torch.from_numpy(train.y)
        n = train.x.shape[1] + 1
        self.factors = torch.nn.Embedding(n, d, sparse=sparse)
        self.weights = torch.nn.Embedding(n, 1, sparse=sparse)
        torch.nn.init.normal_(self.factors.weight, std=0.05)
        torch.nn.init.zeros_(self.weights.weight)
        self.bias = torch.nn.Parameter(torch.tensor(float(train.y.mean()) if loss == "squared" else 0.0))
        tables = [self.factors.weight, self.weights.weight]
        if sparse:
            self.optimizers = [torch.optim.SparseAdam(tables, 1e-3), torch.optim.Adam([self.bias], 1e-3)]
        else:
            self.optimizers = [torch.optim.Adam([*tables, self.bias], 1e-3, fused=True)]
        self.error = torch.nn.MSELoss() if loss == "squared" else torch.nn.BCEWithLogitsLoss()

    def _padded(self, x: Any) -> tuple[Any, Any]:
        sizes = np.diff(x.indptr)
        place = np.arange(len(x.indices)) - np.repeat(x.indptr[:-1], sizes)
        ids = np.full((x.shape[0], sizes.max()), x.shape[1], np.int64)
        values = np.zeros(ids.shape, np.float32)
        rows = np.repeat(np.arange(x.shape[0]), sizes)
        ids[rows, place], values[rows, place] = x.indices, x.data
        return self.torch.from_numpy(ids), self.torch.from_numpy(values)

    def score(self, ids: Any, x: Any) -> Any:
        v = self.factors(ids) * x[:, :, None]
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        return self.bias + (self.weights(ids)[:, :, 0] * x).sum(1) + pairs

    def epoch(self) -> None:
        order = self.torch.randperm(len(self.y))
        for first in range(0, len(order), self.batch):
            rows = order[first : first + self.batch]
            loss = self.error(self.score(self.ids[rows], self.x[rows]), self.y[rows])
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()

    def predict(self, x: Any) -> np.ndarray[Any, Any]:
        with self.torch.no_grad():
            return self.score(*self._padded(x)).numpy()


def quality(test: Table, predict: Callable[[Any], np.ndarray[Any, Any]], loss: str) -> dict[str, float]:
    """Return the metrics of the test rows."""
    scores = predict(test.x).astype(np.float64)
    if loss == "squared":
        return row_metrics(test.y, np.clip(scores, 1.0, 5.0), ["rmse"])
    return row_metrics(test.y, 1.0 / (1.0 + np.exp(-scores)), ["log_loss", "auc"])


def write_text(table: Table, path: Path, aware: bool) -> None:
    """Write rows as libsvm or libffm text."""
    with open(path, "w", encoding="utf-8") as file:
        for r in range(table.x.shape[0]):
            row = slice(table.x.indptr[r], table.x.indptr[r + 1])
            entries = [
                f"{table.fields[j]}:{j}:{v:g}" if aware else f"{j}:{v:g}"
                for j, v in zip(table.x.indices[row], table.x.data[row], strict=True)
            ]
            file.write(f"{table.y[r]:g} {' '.join(entries)}\n")


def xlearn_figure(train: Table, test: Table, d: int, aware: bool, n_threads: int, turns: int) -> harness.Figure:
    """Return xlearn's seconds per epoch and quality (Adagrad, lock-free, one row at a time) on the same rows."""
    os.environ.setdefault("USER", "benchmark")  # it ends the process without
    import xlearn

    figure = harness.Figure("xlearn")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("train", "test")]
        for table, path in zip((train, test), paths, strict=True):
            write_text(table, path, aware)

        def run(epochs: int) -> float:
            model = xlearn.create_ffm() if aware else xlearn.create_fm()
            model.disableNorm()
            model.disableEarlyStop()
            model.setTrain(str(paths[0]))
            options = {"task": "binary", "lr": 0.1, "lambda": 2e-5, "k": d, "epoch": epochs, "nthread": n_threads}
            start = time.perf_counter()
            with silence():
                model.fit(options, f"{folder}/model")
            seconds = time.perf_counter() - start
            model.setTest(str(paths[1]))
            model.setSigmoid()
            with silence():
                model.predict(f"{folder}/model", f"{folder}/out")
            return seconds

        run(1)
        for _ in range(turns):
            figure.seconds.append((run(11) - run(1)) / 10)
        predictions = np.loadtxt(f"{folder}/out")  # of one epoch; what follows is of as many as ours had
        run(turns + 1)
        predictions = np.loadtxt(f"{folder}/out")
        figure.quality = row_metrics(test.y, predictions, ["log_loss", "auc"])
    return figure


@contextlib.contextmanager
def silence() -> Any:
    """Send what native code prints nowhere."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def split(table: Table) -> tuple[Table, Table]:
    """Return four fifths of the rows, and the rest."""
    test = np.random.default_rng(0).permutation(len(table.y)) % 5 == 0
    return Table(table.x[~test], table.y[~test], table.fields), Table(table.x[test], table.y[test], table.fields)


class Sweeps:
    """Sweeps of ALS over the same rows."""

    def __init__(self, train: Table, d: int, n_threads: int, device: str) -> None:
        self.csr, self.y = ops.as_csr(train.x), train.y
        self.table = (0.05 * np.random.default_rng(0).standard_normal((self.csr.n_cols, d + 1))).astype(np.float32)
        self.bias, self.columns = np.zeros(4), ops.csr_transpose(self.csr)
        self.options: dict[str, Any] = {"n_threads": n_threads, "device": device, "columns": self.columns}

    def epoch(self) -> None:
        penalties = {"factor_regularization": 0.1, "weight_regularization": 0.02}
        ops.fm_als_sweep(self.table, self.bias, self.csr, self.y, **penalties, **self.options)

    def predict(self, x: Any) -> np.ndarray[Any, Any]:
        return ops.fm_predict(self.table, float(self.bias[0]), x)

    def floor_seconds(self, peak: float) -> float:
        """Return the operations of a sweep over the matrix product rate: each entry's outer product."""
        width = self.table.shape[1] + 1
        return float(self.csr.nnz) * width * (width + 1) / peak / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", default=["ml-100k", "als", "frappe", "frappe-ffm"])
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--peers", nargs="*", default=["torch", "xlearn"])
    parser.add_argument("--numba", action="store_true", help="also run the numba backend")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json")
    options = parser.parse_args()
    peak = harness.sgemm_peak(options.threads)
    print(f"matrix product {peak:.0f} GFLOP/s on {options.threads} threads (the floor)")
    report = harness.Report(options)
    for name in options.work:
        rated, aware = name in ("ml-100k", "als"), name == "frappe-ffm"
        train, test = split(ml_100k()) if rated else (frappe()["train"], frappe()["test"])
        d, loss = (4 if aware else 10), ("squared" if rated else "logistic")
        how = {"n_threads": options.threads, "device": "auto"}
        if aware:
            how |= {"optimizer": "adagrad", "learning_rate": 0.1, "factor_regularization": 2e-3}
        contestants: dict[str, Any] = {}
        for label, device in (("recsys_fast", "auto"), ("recsys_fast numba", "numba")):
            if device == "auto" or options.numba:
                if name == "als":
                    contestants[label] = Sweeps(train, d, options.threads, device)
                else:
                    contestants[label] = Ours(train, d, loss, options.batch, aware, {**how, "device": device})
        if "torch" in options.peers and not aware and name != "als":
            for label, sparse in (("torch, Adam", False), ("torch, SparseAdam", True)):
                contestants[label] = Torch(train, d, loss, options.batch, options.threads, sparse)
        figures = harness.alternate({label: one.epoch for label, one in contestants.items()}, options.turns)
        for label, one in contestants.items():
            figures[label].quality = quality(test, one.predict, loss)
            figures[label].quality["M rows/s"] = len(train.y) / figures[label].median / 1e6
        if "xlearn" in options.peers and not rated:
            figures["xlearn"] = xlearn_figure(train, test, d, aware, options.threads, options.turns)
            figures["xlearn"].quality["M rows/s"] = len(train.y) / figures["xlearn"].median / 1e6
        figures["recsys_fast"].floor_seconds = contestants["recsys_fast"].floor_seconds(peak)
        batch = "" if name == "als" else f", batch {options.batch}"
        report.add(name, figures, f"{d} factors, {len(train.y)} rows{batch}")
    report.finish()


if __name__ == "__main__":
    main()
