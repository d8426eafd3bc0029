"""Epochs of BPR, WARP, LogisticMF and MF against cornac, implicit, LightFM and libmf: same data, factors and rates.

A turn is a few epochs in a row, as in training: one alone would start from caches that the contestant before has
filled. An epoch has as many samples as there are interactions; seconds are per million samples. After the turns every
contestant trains on to ``--epochs`` epochs, and its recall@20 (or RMSE) stands beside its time.

python -m benchmarks.models.bench_sgd --work bpr warp logistic --data gowalla --factors 64 128
python -m benchmarks.models.bench_sgd --work ratings --data ml-1m --factors 64
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks import data, harness
from benchmarks.models.folds import folds
from benchmarks.models.sgd_peers import Cornac, Implicit, LibMf, LightFm, Ours, ranking

RATES = {"bpr": (0.05, 0.01), "warp": (0.01, 1.0), "logistic": (0.05, 0.01), "ratings": (0.02, 0.05)}
NEGATIVES = 30  # of logistic factorization, implicit's default
TURN = 4  # epochs


def floor_seconds(n_rows: int, d: int, n_moves: float, n_threads: int) -> float:
    """Return the time to read and write ``n_moves`` random rows of a table ``(n_rows, d)`` on all threads.

    What an epoch cannot do without: each sample reads and writes its item rows; the user's row stays in registers.
    """
    table = np.zeros((n_rows, d), np.float32)
    n = 1 << 17

    def gather(seed: int) -> None:
        rows, out = np.random.default_rng(seed).integers(0, n_rows, n), np.empty((1 << 11, d), np.float32)
        for start in range(0, n, len(out)):
            np.take(table, rows[start : start + len(out)], axis=0, out=out, mode="clip")

    best = np.inf
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in range(5):
            start = time.perf_counter()
            list(pool.map(gather, range(n_threads)))
            best = min(best, time.perf_counter() - start)
    return best / (n * n_threads) * n_moves


def contestants(work: str, train: Any, d: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return what takes part, by name; each has ``epoch`` and ``tables``."""
    rate, penalty = RATES[work]
    threads = options.threads
    common: dict[str, Any] = {"learning_rate": rate, "regularization": penalty, "random_state": 0, "n_threads": threads}
    models: dict[str, Callable[..., Any]] = {
        "bpr": lambda **k: rf.BPR(d, **common, **k),
        "warp": lambda **k: rf.WARP(d, **common, **k),
        "logistic": lambda **k: rf.LogisticMF(d, n_negatives=NEGATIVES, **common, **k),
        "ratings": lambda **k: rf.MF(d, **common, **k),
    }
    found: dict[str, Any] = {"recsys_fast": Ours(models[work](), train)}
    if options.racy:
        found["recsys_fast, lock-free"] = Ours(models[work](deterministic=False), train)
    if options.numba:
        found["recsys_fast, numba"] = Ours(models[work](device="numba"), train)
    peers = set(options.peers)
    if "implicit" in peers and work in ("bpr", "logistic"):
        steps = (rate, penalty) if work == "bpr" else (1.0, 0.6)  # its logistic form has Adagrad, and these defaults
        found["implicit"] = Implicit(work, train, d, *steps, threads, NEGATIVES)
    if "cornac" in peers and work in ("bpr", "ratings"):
        found["cornac"] = Cornac("mf" if work == "ratings" else work, train, d, rate, penalty, threads)
    if "lightfm" in peers and work in ("bpr", "warp"):
        found["LightFM"] = LightFm(work, train, d, 0.05, 0.0, threads)
    return found


def turn_of(contestant: Any) -> Callable[[], None]:
    """Return what trains ``TURN`` epochs."""

    def turn() -> None:
        for _ in range(TURN):
            contestant.epoch()

    return turn


def train_on(contestant: Any, name: str, options: argparse.Namespace) -> int:
    """Train what is left of ``--epochs`` after the turns, and return the number of epochs there have been."""
    begun = 1 if name.startswith("recsys_fast") else 0
    done = (options.turns + 1) * TURN + begun
    for _ in range(done, options.epochs):
        contestant.epoch()
    return max(done, options.epochs)


def rank(work: str, d: int, options: argparse.Namespace) -> dict[str, harness.Figure]:
    """Time one of the ranking models, then measure all at the same number of epochs."""
    train, test = data.load(options.data)
    taking_part = contestants(work, train, d, options)
    figures = harness.alternate({name: turn_of(one) for name, one in taking_part.items()}, options.turns)
    for figure in figures.values():
        figure.seconds = [seconds / TURN / train.nnz * 1e6 for seconds in figure.seconds]
    moves = {"bpr": 2.0, "warp": 2.0, "logistic": 1.0 + NEGATIVES}[work]
    floor = floor_seconds(train.shape[1], d, moves * 1e6, options.threads)
    figures["recsys_fast"].floor_seconds = floor
    for name, one in taking_part.items():
        figures[name].quality = {"epochs": train_on(one, name, options)}
        if test is not None:
            figures[name].quality |= ranking(one.tables(), train, test)
    return figures


def rate(d: int, options: argparse.Namespace) -> dict[str, harness.Figure]:
    """Time the factorization of ratings; libmf, which starts anew, by whole runs less runs of one epoch."""
    ratings = rf.datasets.load(options.data)
    train, test = next(folds((ratings.train or ratings.interactions).csr))
    taking_part = contestants("ratings", train, d, options)
    figures = harness.alternate({name: turn_of(one) for name, one in taking_part.items()}, options.turns)
    for figure in figures.values():
        figure.seconds = [seconds / TURN for seconds in figure.seconds]
    penalty = RATES["ratings"][1]
    if "libmf" in options.peers:
        long, one = (LibMf(train, d, 0.1, penalty, options.threads, epochs) for epochs in (options.epochs, 1))
        runs = harness.alternate({"long": long.epochs, "one": one.epochs}, options.turns)
        steps = [a - b for a, b in zip(runs["long"].seconds, runs["one"].seconds, strict=True)]
        figures["libmf"] = harness.Figure("libmf", [seconds / (options.epochs - 1) for seconds in steps])
        errors = long.predict(test) - test.tocoo().data
        figures["libmf"].quality = {"epochs": options.epochs, "rmse": float(np.sqrt(np.mean(errors**2)))}
    for figure in figures.values():
        figure.seconds = [seconds / train.nnz * 1e6 for seconds in figure.seconds]
    figures["recsys_fast"].floor_seconds = floor_seconds(train.shape[1], d, 1e6, options.threads)
    coo = test.tocoo()
    for name, contestant in taking_part.items():
        epochs = train_on(contestant, name, options)
        users, items = contestant.tables()
        errors = np.einsum("ij,ij->i", users[coo.row], items[coo.col]) - coo.data
        figures[name].quality = {"epochs": epochs, "rmse": float(np.sqrt(np.mean(errors**2)))}
    return figures


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--work", nargs="+", choices=sorted(RATES), default=["bpr", "warp", "logistic"])
    parser.add_argument("--factors", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--peers", nargs="*", default=["cornac", "implicit", "lightfm", "libmf"])
    parser.add_argument("--numba", action="store_true", help="also run the numba backend")
    parser.add_argument("--racy", action="store_true", help="also run deterministic=False")
    parser.add_argument("--epochs", type=int, default=40, help="epochs after which quality is measured")
    options = parser.parse_args()
    report = harness.Report(options)
    for name in options.work:
        for d in options.factors:
            figures = rate(d, options) if name == "ratings" else rank(name, d, options)
            report.add(name, figures, f"{d} factors, per million samples")
    report.finish()


if __name__ == "__main__":
    main()
