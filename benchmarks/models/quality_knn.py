"""Recall and NDCG of the neighbour models: parameters chosen on a part of the training data, then the test part once.

python -m benchmarks.models.quality_knn --data gowalla
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from typing import Any

import recsys_fast as rf

GRIDS: dict[str, tuple[type[Any], dict[str, list[Any]]]] = {
    "ItemKNN cosine": (rf.ItemKNN, {"k": [100], "shrinkage": [0.0, 20.0, 40.0, 80.0]}),
    "ItemKNN cosine, users of length 1": (
        rf.ItemKNN,
        {"k": [100, 200], "shrinkage": [1.0, 2.0, 4.0], "normalize_users": [True]},
    ),
    "ItemKNN tfidf": (rf.ItemKNN, {"k": [100], "similarity": ["tfidf"], "shrinkage": [300.0, 1000.0, 3000.0]}),
    "ItemKNN jaccard": (rf.ItemKNN, {"k": [100], "similarity": ["jaccard"], "shrinkage": [0.0, 20.0, 60.0]}),
    "ItemKNN bm25": (
        rf.ItemKNN,
        {"k": [100], "similarity": ["bm25"], "bm25_k1": [1.2, 100.0], "bm25_b": [0.05, 0.1, 0.3]},
    ),
    "UserKNN cosine": (rf.UserKNN, {"k": [50, 100, 200], "shrinkage": [0.0, 5.0]}),
    "UserKNN tfidf": (rf.UserKNN, {"k": [50, 100, 200], "similarity": ["tfidf"]}),
    "P3alpha": (rf.P3alpha, {"k": [100], "alpha": [0.4, 0.6, 0.8, 1.0]}),
    "RP3beta": (rf.RP3beta, {"k": [100, 200], "alpha": [0.5, 0.6, 0.7], "beta": [0.1, 0.2, 0.3]}),
}


def settings(grid: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def metrics(model: Any, train: Any, test: Any, k: int) -> tuple[float, float]:
    report = rf.evaluation.evaluate(model.fit(train), train, test, metrics=("recall", "ndcg"), ks=(k,))
    return report[f"recall@{k}"], report[f"ndcg@{k}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="gowalla")
    parser.add_argument("--models", nargs="+", default=list(GRIDS))
    parser.add_argument("--cut", type=int, default=20)
    options = parser.parse_args()
    loaded = rf.datasets.load(options.data)
    fitting, validation = rf.splits.random(loaded.train, 0.2, random_state=0)
    for name in options.models:
        make, grid = GRIDS[name]
        tried = []
        for params in settings(grid):
            recall, ndcg = metrics(make(**params), fitting, validation, options.cut)
            tried.append((ndcg, recall, params))
            print(f"{name:<36} {params}  validation {recall:.4f} / {ndcg:.4f}")
        best = max(tried, key=lambda one: one[0])[2]
        recall, ndcg = metrics(make(**best), loaded.train, loaded.test, options.cut)
        print(f"{name:<36} {best}  TEST {recall:.4f} / {ndcg:.4f}", flush=True)


if __name__ == "__main__":
    main()
