"""Random and hybrid top-20 lists against NumPy as one would write it by hand: blocks of users scored as whole arrays.

No peer offers more than loops over users here.

python -m benchmarks.models.bench_baselines --data gowalla
"""

from __future__ import annotations

from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks import data, harness

N, BLOCK = 20, 256


def by_hand(model_scores: Any, users: np.ndarray, seen: Any) -> Any:
    """Return a function that ranks users in blocks: scores, seen items to -inf, argpartition, sort."""

    def run() -> np.ndarray:
        lists = []
        for start in range(0, len(users), BLOCK):
            block = users[start : start + BLOCK]
            scores, own = model_scores(block), seen[block]
            scores[np.repeat(np.arange(len(scores)), np.diff(own.indptr)), own.indices] = -np.inf
            best = np.argpartition(-scores, N, axis=1)[:, :N]
            order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
            lists.append(np.take_along_axis(best, order, 1))
        return np.concatenate(lists)

    return run


def zscores(scores: np.ndarray) -> np.ndarray:
    scores -= scores.mean(axis=1, keepdims=True)
    scores /= np.maximum(scores.std(axis=1, keepdims=True), 1e-12)
    return scores


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--users", type=int, default=4000, help="users to rank for, spread evenly")
    options = parser.parse_args()
    train, test = data.load(options.data)
    n_items = train.shape[1]
    users = np.linspace(0, train.shape[0] - 1, min(train.shape[0], options.users)).astype(np.int64)
    seen, place = data.for_peer(train), {"n_threads": options.threads}
    peak, report = harness.sgemm_peak(options.threads), harness.Report(options)

    model = rf.Random(**place).fit(train)
    rng = np.random.default_rng(0)
    numpy_random = by_hand(lambda block: rng.random((len(block), n_items), np.float32), users, seen)
    report.add("random lists", harness.alternate(
        {"recsys_fast": lambda: model.recommend(users, n=N), "NumPy": numpy_random}, options.turns))  # fmt: skip

    als = rf.ALS(options.factors, n_epochs=10, random_state=0, **place).fit(train)
    small = rf.ALS(options.factors // 2, n_epochs=10, random_state=1, **place).fit(train)
    for method in ("blend", "rank_fusion"):
        hybrid = rf.Hybrid([als, small], method, weights=[2, 1], depth=200, **place).fit()

        def summed(block: np.ndarray) -> np.ndarray:
            parts = [model.user_factors_[block] @ model.item_factors_.T for model in (als, small)]
            if method == "blend":  # noqa: B023 (run within the loop)
                return 2 / 3 * zscores(parts[0]) + 1 / 3 * zscores(parts[1])
            ranks = [np.argsort(np.argsort(-part, axis=1), axis=1) + 1.0 for part in parts]
            return (2 / 3 / (60 + ranks[0]) + 1 / 3 / (60 + ranks[1])).astype(np.float32)

        contestants = {"recsys_fast": lambda h=hybrid: h.recommend(users, n=N), "NumPy": by_hand(summed, users, seen)}
        figures = harness.alternate(contestants, options.turns, warm_up=0 if method == "rank_fusion" else 1)
        figures["recsys_fast"].floor_seconds = 3.0 * len(users) * n_items * options.factors / peak / 1e9
        if test is not None:
            for name, work in contestants.items():
                lists = work() if name == "NumPy" else work().ids
                found = rf.ops.list_metrics(np.ascontiguousarray(lists, np.int32), test[users], [N])["ndcg"]
                figures[name].quality[f"ndcg@{N}"] = float(np.nanmean(found))
        report.add(f"hybrid lists, {method}", figures, f"{options.factors} and {options.factors // 2} factors")
    report.finish()


if __name__ == "__main__":
    main()
