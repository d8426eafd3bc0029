"""Quality of BPR, WARP, LogisticMF and MF: on Gowalla with the parameters found, on ml-100k beside the peers.

python -m benchmarks.models.quality_sgd gowalla --models bpr bpr-uniform warp logistic --seeds 3
python -m benchmarks.models.quality_sgd ratings --models mf svdpp
python -m benchmarks.models.quality_sgd beside --seeds 3
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks.models.folds import folds, rmse
from benchmarks.models.sgd_peers import Implicit, LightFm, ranking

# Chosen by search_sgd on a validation part of the training data.
_FALLING = {"n_factors": 64, "schedule": "linear"}
_HARD = {"negative": "adaptive", "n_candidates": 32}
GOWALLA: dict[str, tuple[Any, dict[str, Any]]] = {
    "bpr": (rf.BPR, {**_FALLING, **_HARD, "learning_rate": 0.1, "regularization": 0.02, "n_epochs": 60}),
    "bpr-uniform": (rf.BPR, {**_FALLING, "learning_rate": 0.2, "regularization": 0.003, "n_epochs": 300}),
    "warp": (rf.WARP, {**_FALLING, "learning_rate": 0.01, "regularization": 1.0, "n_epochs": 40, "max_trials": 50}),
    "logistic": (
        rf.LogisticMF,
        {**_FALLING, "learning_rate": 0.1, "regularization": 0.01, "n_epochs": 60, "n_negatives": 8},
    ),
}
_RATED = {"n_factors": 100, "learning_rate": 0.02, "regularization": 0.08, "n_epochs": 40, "schedule": "linear"}
RATINGS: dict[str, dict[str, Any]] = {
    "mf": {**_RATED, "init_scale": 0.3},
    "svdpp": {**_RATED, "init_scale": 0.2, "implicit_feedback": True},
    # the settings of Surprise's SVD and SVD++ whose errors are published
    "as-svd": {
        "n_factors": 100,
        "learning_rate": 0.005,
        "regularization": 0.02,
        "init_scale": 1.0,
        "n_epochs": 20,
        "schedule": "constant",
    },
    "as-svdpp": {
        "n_factors": 20,
        "learning_rate": 0.007,
        "regularization": 0.02,
        "init_scale": 0.45,
        "n_epochs": 20,
        "implicit_feedback": True,
        "schedule": "constant",
    },
}


def gowalla(options: argparse.Namespace) -> None:
    """Fit with the parameters found, several seeds, and measure on the test part."""
    sets = rf.datasets.load("gowalla")
    for name in options.models or GOWALLA:
        kind, parameters = GOWALLA[name]
        found = []
        for seed in range(options.seeds):
            start = time.perf_counter()
            model = kind(random_state=seed, **parameters).fit(sets.train)
            seconds = time.perf_counter() - start
            report = rf.evaluation.evaluate(model, sets.train, sets.test, ("recall", "ndcg"), (20,))
            found.append((report["recall@20"], report["ndcg@20"]))
            print(
                f"{name:<12} seed {seed}  recall@20 {found[-1][0]:.5f}  ndcg@20 {found[-1][1]:.5f}  fit {seconds:.0f} s"
            )
        print(
            f"{name:<12} mean    recall@20 {np.mean(found, 0)[0]:.5f}  ndcg@20 {np.mean(found, 0)[1]:.5f}", flush=True
        )


def ratings(options: argparse.Namespace) -> None:
    """Root mean squared error on ml-100k over five folds."""
    matrix = rf.datasets.load("ml-100k").interactions.csr
    for name in options.models or RATINGS:
        start = time.perf_counter()
        errors = [
            rmse(rf.MF(random_state=0, **RATINGS[name]).fit(train), test, 1.0, 5.0) for train, test in folds(matrix)
        ]
        each = "  ".join(f"{error[0]:.4f}" for error in errors)
        plain, cut = np.mean(errors, 0)
        seconds = time.perf_counter() - start
        print(f"{name:<12} {each}  mean {plain:.4f}, cut to 1..5 {cut:.4f}  {seconds:.0f} s", flush=True)


def beside(options: argparse.Namespace) -> None:
    """BPR beside implicit's and WARP beside LightFM's on ml-100k: same splits, factors, rates, penalties and epochs.

    Both peers' BPR draws negatives in proportion to popularity, LightFM's WARP draws them uniformly; so do ours here.
    """
    like = {"negative": "popularity", "negative_exponent": 1.0, "n_factors": 64, "schedule": "constant"}
    adagrad = {"optimizer": "adagrad", "schedule": "constant", "learning_rate": 0.05, "regularization": 0.0}
    ours: dict[str, Any] = {
        "BPR": lambda **k: rf.BPR(**like, learning_rate=0.05, regularization=0.01, n_epochs=60, **k),
        "WARP": lambda **k: rf.WARP(64, **adagrad, max_trials=10, n_epochs=20, **k),
    }
    found: dict[str, list[list[float]]] = {}
    for seed in range(options.seeds):
        train, test = rf.splits.random(rf.datasets.load("ml-100k").interactions, 0.2, random_state=seed)
        matrix = (train.csr > 0).astype(np.float32)
        peers = {
            "implicit BPR": (Implicit("bpr", matrix, 64, 0.05, 0.01, 2, 0), 60),
            "LightFM BPR": (LightFm("bpr", matrix, 64, 0.05, 0.0, 2), 20),
            "LightFM WARP": (LightFm("warp", matrix, 64, 0.05, 0.0, 2), 20),
        }
        for name, make in ours.items():
            model = make(random_state=seed).fit(matrix)
            queries, items = model._scoring()
            found.setdefault(name, []).append(list(ranking((queries, items), matrix, test.csr, 10).values()))
        model = rf.BPR(**{**like, **adagrad}, n_epochs=20, random_state=seed).fit(matrix)
        found.setdefault("BPR, adagrad", []).append(list(ranking(model._scoring(), matrix, test.csr, 10).values()))
        for name, (peer, n_epochs) in peers.items():
            for _ in range(n_epochs):
                peer.epoch()
            found.setdefault(name, []).append(list(ranking(peer.tables(), matrix, test.csr, 10).values()))
    for name, values in sorted(found.items()):
        spread = np.std(values, 0)
        mean = np.mean(values, 0)
        print(f"{name:<14} recall@10 {mean[0]:.4f} ({spread[0]:.4f})  ndcg@10 {mean[1]:.4f} ({spread[1]:.4f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["gowalla", "ratings", "beside"])
    parser.add_argument("--models", nargs="*", help="all where not given")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    {"gowalla": gowalla, "ratings": ratings, "beside": beside}[options.what](options)


if __name__ == "__main__":
    main()
