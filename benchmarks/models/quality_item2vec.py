"""Item2Vec on Gowalla: parameters found on a validation part of the training data, then the test part.

python -m benchmarks.models.quality_item2vec --search
python -m benchmarks.models.quality_item2vec --seeds 3 --save quality_item2vec_gowalla
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from typing import Any

import recsys_fast as rf
from benchmarks import harness

CHOSEN: dict[str, Any] = {
    "n_factors": 64, "window": 5, "sample": 0.0, "negative_exponent": 0.5, "learning_rate": 0.05, "n_epochs": 60,
}  # fmt: skip
GRID: dict[str, tuple[Any, ...]] = {
    "window": (5, 20),
    "sample": (0.0, 1e-4),
    "negative_exponent": (0.75, 0.5, 0.25, 0.0),
    "n_epochs": (15, 60),
}
#: BARS leaderboard
PUBLISHED = {"recall@20": 0.1326, "ndcg@20": 0.1057}


def fitted(parameters: dict[str, Any], train: Any, options: argparse.Namespace, seed: int) -> tuple[Any, float]:
    """Return a model and the seconds that it took."""
    start = time.perf_counter()
    model = rf.Item2Vec(random_state=seed, n_threads=options.threads, **parameters).fit(train)
    return model, time.perf_counter() - start


def measured(model: Any, train: Any, test: Any, scoring: str) -> dict[str, float]:
    """Return the metrics with a scoring."""
    found = rf.evaluation.evaluate(model.set_params(scoring=scoring), train, test, ("recall", "ndcg"), (20,))
    return {metric: float(found[metric]) for metric in PUBLISHED}


def search(options: argparse.Namespace, data: Any) -> None:
    """Print what every point of the grid reaches on a fifth of the training part."""
    train, valid = rf.splits.random(data, 0.2, random_state=0)
    for values in itertools.product(*GRID.values()):
        parameters = dict(zip(GRID, values, strict=True))
        model, seconds = fitted({**CHOSEN, **parameters}, train, options, 0)
        for scoring in options.scoring:
            name = f"{json.dumps(parameters)} {scoring}"
            print(harness.seed_line(name, 0, measured(model, train, valid, scoring), seconds), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--scoring", nargs="+", choices=["context", "cosine"], default=["context", "cosine"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="*", type=harness.setting, default=[], metavar="PARAMETER=VALUE")
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json")
    options = parser.parse_args()
    sets = rf.datasets.load("gowalla")
    if options.search:
        search(options, sets.train)
        return
    found: dict[str, list[dict[str, float]]] = {scoring: [] for scoring in options.scoring}
    spent, report = [], harness.Report(options)
    for seed in range(options.seeds):
        model, seconds = fitted({**CHOSEN, **dict(options.set)}, sets.train, options, seed)
        spent.append(seconds)
        for scoring, numbers in found.items():
            numbers.append(measured(model, sets.train, sets.test, scoring))
            print(harness.seed_line(f"item2vec {scoring}", seed, numbers[-1], seconds), flush=True)
    for scoring, numbers in found.items():
        figures = {"recsys_fast": harness.over_seeds(numbers, spent, PUBLISHED)}
        report.add(f"item2vec, gowalla, scoring {scoring}", figures, f"{options.seeds} seeds", of_data=False)
    report.finish()


if __name__ == "__main__":
    main()
