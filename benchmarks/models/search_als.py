"""Search ALS parameters on a validation part of the training data, then report the best on the test part, once.

At one width: every pair of weight and penalty on a grid, then finer steps, nu and the number of epochs around the
best so far. Every fifth interaction of a user is held out for validation; only the last fit looks at the test part.

python -m benchmarks.models.search_als --data gowalla --factors 64 --save search_gowalla_64
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from typing import Any

import recsys_fast as rf
from benchmarks import harness


def score(parameters: dict[str, Any], train: Any, test: Any, k: int) -> dict[str, float]:
    """Fit on ``train`` and return recall@k and ndcg@k on ``test``."""
    start = time.perf_counter()
    model = rf.ALS(random_state=0, **parameters).fit(train)
    seconds = time.perf_counter() - start
    report = rf.evaluation.evaluate(model, train, test, metrics=("recall", "ndcg"), ks=(k,))
    return {"recall": report[f"recall@{k}"], "ndcg": report[f"ndcg@{k}"], "fit_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="gowalla")
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--solver", default="cg")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.001, 0.003, 0.01, 0.03, 0.1])
    parser.add_argument("--penalties", type=float, nargs="+", default=[0.001, 0.003, 0.01, 0.03])
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json")
    options = parser.parse_args()
    data = rf.datasets.load(options.data)
    fit, held_out = rf.splits.random(data.train, test_fraction=0.2, random_state=0)
    tried: list[dict[str, Any]] = []

    def attempt(parameters: dict[str, Any]) -> float:
        tried.append({"parameters": parameters, "validation": score(parameters, fit, held_out, options.k)})
        print(json.dumps(tried[-1]), flush=True)
        return float(tried[-1]["validation"]["ndcg"])

    base: dict[str, Any] = {"n_factors": options.factors, "solver": options.solver, "n_epochs": options.epochs}
    for weight, penalty in itertools.product(options.weights, options.penalties):
        attempt(base | {"unobserved_weight": weight, "regularization": penalty, "nu": 1.0})

    def best() -> dict[str, Any]:
        return max(tried, key=lambda row: row["validation"]["ndcg"])["parameters"]

    coarse = best()
    for w, r in itertools.product((0.6, 1.0, 1.7), (0.6, 1.0, 1.7)):  # between the points of the grid
        if (w, r) != (1.0, 1.0):
            finer = {
                "unobserved_weight": coarse["unobserved_weight"] * w,
                "regularization": coarse["regularization"] * r,
            }
            attempt(coarse | finer)
    for nu, factor in ((0.75, 3.0), (0.5, 10.0), (0.0, 100.0)):  # a smaller exponent wants a larger constant
        attempt(best() | {"nu": nu, "regularization": best()["regularization"] * factor})
    for share in (0.4, 0.6, 0.8, 1.5, 2.0):
        attempt(best() | {"n_epochs": max(1, round(share * options.epochs))})
    winner = best()
    final = {"parameters": winner, "test": score(winner, data.train, data.test, options.k)}
    print("best on validation, measured on test:", json.dumps(final))
    if options.save:
        path = harness.RESULTS / f"{options.save}.json"
        body = {"machine": harness.machine(), "tried": tried, "best": final}
        path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
