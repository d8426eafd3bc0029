"""Seconds of training until a recall@20 is reached: the best one of a peer, by that peer and by this package.

The peer trains with each of a few rates, looked at every ``--every`` epochs; the best recall of them all within
``--epochs`` is the goal, and its time is that of the run that gets there first. Ours trains with its own rates to the
same goal; WARP's fall to zero within ``WARP_EPOCHS``, as it gains from that. Only training is timed. Both sides' rates
are chosen on the test part, so times compare but recalls are not results.

python -m benchmarks.models.reach_sgd --work bpr logistic warp --data gowalla --factors 64
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import recsys_fast as rf
from benchmarks import data, harness
from benchmarks.models.sgd_peers import Implicit, LightFm, Ours, ranking

Curve = list[tuple[float, float]]  # seconds so far, recall@20


def curve(contestant: Any, n_epochs: int, every: int, train: Any, test: Any, goal: float = 2.0) -> Curve:
    """Train, and return recall by training time; ends where the goal is reached, or recall has long been falling."""
    seconds, found = getattr(contestant, "seconds", 0.0), []
    for epoch in range(every, n_epochs + 1, every):
        start = time.perf_counter()
        for _ in range(every):
            contestant.epoch()
        seconds += time.perf_counter() - start
        found.append((seconds, ranking(contestant.tables(), train, test)["recall@20"]))
        best = max(range(len(found)), key=lambda k: found[k][1])
        if found[-1][1] >= goal or len(found) - best > 5:
            break
        print(f"    epoch {epoch}  {seconds:.1f} s  recall@20 {found[-1][1]:.4f}", flush=True)
    return found


def seconds_to(found: Curve, goal: float) -> float:
    """Return the first time at which the recall is at least the goal; infinity where it never is."""
    return next((seconds for seconds, recall in found if recall >= goal), float("inf"))


def peers(work: str, train: Any, d: int, threads: int) -> dict[str, tuple[Callable[[float], Any], Iterable[float]]]:
    """Return how to make each peer for a learning rate, and the rates to try."""
    rates = (0.01, 0.05, 0.2)
    if work == "warp":
        return {"LightFM": (lambda rate: LightFm("warp", train, d, rate, 0.0, threads), (0.02, 0.05))}
    if work == "logistic":
        return {"implicit": (lambda rate: Implicit("logistic", train, d, rate, 0.6, threads, 30), (0.3, 1.0))}
    return {
        "implicit": (lambda rate: Implicit("bpr", train, d, rate, 0.01, threads, 0), rates),
        "LightFM": (lambda rate: LightFm("bpr", train, d, rate, 0.0, threads), (0.02, 0.05)),
    }


def ours(work: str, train: Any, d: int, threads: int) -> Callable[[float], Any]:
    """Return how to make this package's model for a learning rate."""
    common: dict[str, Any] = {"n_threads": threads, "random_state": 0, "schedule": "constant"}
    models: dict[str, Callable[[float], Any]] = {
        "bpr": lambda rate: rf.BPR(d, learning_rate=rate, regularization=0.005, **common),
        "warp": lambda rate: rf.WARP(
            d, learning_rate=rate, regularization=1.0, max_trials=50, **{**common, "schedule": "linear"}
        ),
        "logistic": lambda rate: rf.LogisticMF(d, learning_rate=rate, n_negatives=8, regularization=0.01, **common),
    }

    def make(rate: float) -> Ours:
        one = Ours(models[work](rate), train)
        one.model.set_params(n_epochs=WARP_EPOCHS)  # what a falling rate falls over
        return one

    return make


WARP_EPOCHS = 20
OUR_RATES = {"bpr": (0.1, 0.2), "warp": (0.01, 0.02), "logistic": (0.05, 0.1)}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--work", nargs="+", choices=sorted(OUR_RATES), default=["bpr", "logistic", "warp"])
    parser.add_argument("--factors", type=int, nargs="+", default=[64])
    parser.add_argument(
        "--epochs", type=int, default=100, help="at most, per run of a peer; ours gets three times that"
    )
    parser.add_argument("--every", type=int, default=5)
    options = parser.parse_args()
    train, test = data.load(options.data)
    report = harness.Report(options)
    for work in options.work:
        for d in options.factors:
            for name, (make, rates) in peers(work, train, d, options.threads).items():
                runs = [curve(make(rate), options.epochs, options.every, train, test) for rate in rates]
                goal = max(recall for run in runs for _, recall in run)
                make_ours = ours(work, train, d, options.threads)
                most = WARP_EPOCHS if work == "warp" else 3 * options.epochs
                own = [curve(make_ours(rate), most, options.every, train, test, goal) for rate in OUR_RATES[work]]
                figures = {}
                for who, found in (("recsys_fast", own), (name, runs)):
                    figures[who] = harness.Figure(who, [min(seconds_to(run, goal) for run in found)])
                    figures[who].quality = {"recall@20": max(recall for run in found for _, recall in run)}
                report.add(f"{work} until {name}'s best recall", figures, f"{d} factors")
    report.finish()


if __name__ == "__main__":
    main()
