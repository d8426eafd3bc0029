"""Search parameters of BPR, WARP or LogisticMF on a validation part of the training data, then test the best, once.

Every pair of regularization and one more parameter on a grid; the metrics are taken at several numbers of epochs on the
way. Every fifth interaction is held out for validation; only the last fit looks at the test part.

python -m benchmarks.models.search_sgd --model BPR --data gowalla --set negative=adaptive n_candidates=32 --rates .05 \\
    --penalties .003 .01 .03 --save search_gowalla_bpr
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from typing import Any

import recsys_fast as rf
from benchmarks import harness


class Watch:
    """Takes the metrics every so many epochs."""

    def __init__(self, every: int, train: Any, test: Any, k: int) -> None:
        self.every, self.train, self.test, self.k = every, train, test, k
        self.found: list[dict[str, float]] = []

    def on_epoch_end(self, state: Any) -> None:
        if state.epoch % self.every == 0 or state.epoch == state.n_epochs:
            report = rf.evaluation.evaluate(state.model, self.train, self.test, ("recall", "ndcg"), (self.k,))
            recall, ndcg = report[f"recall@{self.k}"], report[f"ndcg@{self.k}"]
            self.found.append({"epoch": state.epoch, "recall": recall, "ndcg": ndcg})


def attempt(
    kind: str, parameters: dict[str, Any], train: Any, test: Any, options: argparse.Namespace
) -> dict[str, Any]:
    """Fit on ``train``, and return the metrics on ``test`` along the way and the seconds it took."""
    watch, start = Watch(options.every, train, test, options.k), time.perf_counter()
    try:
        getattr(rf, kind)(random_state=0, **parameters).fit(train, callbacks=[watch])
    except rf.errors.DivergedError as error:
        return {"parameters": parameters, "diverged": str(error)}
    return {"parameters": parameters, "found": watch.found, "seconds": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["BPR", "WARP", "LogisticMF"], default="BPR")
    parser.add_argument("--data", default="gowalla")
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--schedule", default="linear")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.05])
    parser.add_argument("--penalties", type=float, nargs="+", default=[0.003, 0.01, 0.03])
    parser.add_argument(
        "--set", nargs="*", type=harness.setting, default=[], metavar="NAME=VALUE", help="further parameters"
    )
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json")
    options = parser.parse_args()
    data = rf.datasets.load(options.data)
    fit, held_out = rf.splits.random(data.train, test_fraction=0.2, random_state=0)
    base: dict[str, Any] = {"n_factors": options.factors, "n_epochs": options.epochs, "schedule": options.schedule}
    base |= dict(options.set)
    tried = []
    for rate, penalty in itertools.product(options.rates, options.penalties):
        parameters = base | {"learning_rate": rate, "regularization": penalty}
        tried.append(attempt(options.model, parameters, fit, held_out, options))
        print(json.dumps(tried[-1]), flush=True)
    best = max((row for row in tried if "found" in row), key=lambda row: row["found"][-1]["ndcg"])
    final = attempt(options.model, best["parameters"], data.train, data.test, options)
    print("best on validation, measured on test:", json.dumps(final))
    if options.save:
        path = harness.RESULTS / f"{options.save}.json"
        body = {"machine": harness.machine(), "model": options.model, "tried": tried, "best": final}
        path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
