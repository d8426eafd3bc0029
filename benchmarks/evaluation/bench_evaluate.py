"""Recall@20 and NDCG@20 of all users against the evaluators of irspack and implicit, on the same factors.

python -m benchmarks.evaluation.bench_evaluate --data gowalla --factors 64
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import data, factors, harness
from recsys_fast import ops


def irspack_evaluator(users: np.ndarray, items: np.ndarray, train: Any, test: Any, k: int, n_threads: int) -> Any:
    """Return a function that evaluates with irspack's C++ evaluator over a recommender that holds these factors."""
    from irspack import Evaluator
    from irspack.recommenders.ials import IALSRecommender

    evaluator = Evaluator(data.for_peer(test), offset=0, cutoff=k, n_threads=n_threads, mb_size=1024)
    train = data.for_peer(train)
    recommender = IALSRecommender(train, n_components=items.shape[1], n_threads=n_threads, train_epochs=0)
    recommender.start_learning()
    recommender.trainer.core_trainer.user, recommender.trainer.core_trainer.item = users, items

    def run() -> dict[str, float]:
        scores = evaluator.get_score(recommender)
        return {"recall": float(scores["recall"]), "ndcg": float(scores["ndcg"])}

    return run


def implicit_evaluator(users: np.ndarray, items: np.ndarray, train: Any, test: Any, k: int, n_threads: int) -> Any:
    """Return a function that evaluates with implicit's ranking_metrics_at_k (its NDCG; it has no recall)."""
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.evaluation import ranking_metrics_at_k

    model = AlternatingLeastSquares(factors=items.shape[1], num_threads=n_threads)  # any model that only ranks
    model.user_factors, model.item_factors = users.copy(), items.copy()
    arguments = model, data.for_peer(train), data.for_peer(test)
    return lambda: {"ndcg": ranking_metrics_at_k(*arguments, K=k, show_progress=False, num_threads=n_threads)["ndcg"]}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", choices=("als", "bpr"), default=["als", "bpr"])
    options = parser.parse_args()
    train, test = data.load(options.data)
    k, threads = options.k, options.threads
    seen, target = ops.as_csr(train), ops.as_csr(test)
    report = harness.Report(options)
    peak = harness.sgemm_peak(threads)
    for kind in options.kinds:
        users, items = factors.als(train, options.factors) if kind == "als" else factors.bpr(train, options.factors)
        users, items = np.ascontiguousarray(users), np.ascontiguousarray(items)
        results: dict[str, dict[str, float]] = {}

        def ours(u: np.ndarray = users, i: np.ndarray = items) -> dict[str, float]:
            per_user = ops.rank_metrics(i, u, target, [k], seen=seen, n_threads=threads)
            return {name: float(np.nanmean(per_user[name])) for name in ("recall", "ndcg")}

        def keep(name: str, work: Any, into: dict[str, dict[str, float]] = results) -> Any:
            def run() -> None:
                into[name] = work()

            return run

        rest = users, items, train, test, k, threads
        contestants = {
            "recsys_fast": keep("recsys_fast", ours),
            "irspack": keep("irspack", irspack_evaluator(*rest)),
            "implicit": keep("implicit", implicit_evaluator(*rest)),
        }
        figures = harness.alternate(contestants, options.turns)
        for name, quality in results.items():
            figures[name].quality = quality
        figures["recsys_fast"].floor_seconds = 2.0 * users.size * len(items) / peak / 1e9
        report.add(f"Recall@{k} and NDCG@{k}", figures, f"{kind}, {options.factors} factors")
    report.finish()


if __name__ == "__main__":
    main()
