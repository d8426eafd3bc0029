"""Item2Vec on Gowalla: parameters found on a validation part of the training data, then the test part.

python -m benchmarks.models.quality_item2vec --search
python -m benchmarks.models.quality_item2vec --seeds 3
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

import numpy as np
from scipy.sparse import csr_array

import recsys_fast as rf

CHOSEN: dict[str, Any] = {"n_factors": 64, "window": 5, "sample": 1e-3, "learning_rate": 0.05, "n_epochs": 30}
GRID: dict[str, tuple[Any, ...]] = {
    "window": (5, 20, None),
    "sample": (1e-3, 1e-4),
    "n_negatives": (5, 15),
    "learning_rate": (0.025, 0.05, 0.1),
    "n_epochs": (30, 100),
}


def _run(parameters: dict[str, Any], train: Any, test: Any, seed: int) -> list[tuple[str, float, float, float]]:
    """Return (scoring, recall, ndcg, seconds) of one fit, for both scorings."""
    start = time.perf_counter()
    model = rf.Item2Vec(random_state=seed, **parameters).fit(train)
    seconds, out = time.perf_counter() - start, []
    for scoring in ("cosine", "context"):
        model.set_params(scoring=scoring)
        found = rf.evaluation.evaluate(model, train, test, ("recall", "ndcg"), (20,))
        out.append((scoring, float(found["recall@20"]), float(found["ndcg@20"]), seconds))
    return out


def _validation(train: Any) -> tuple[csr_array, csr_array]:
    """Return nine tenths of the entries, and the rest."""
    matrix = rf.ops.as_csr(train)
    users = np.repeat(np.arange(matrix.n_rows), np.diff(matrix.row_ptr))
    held = np.random.default_rng(0).random(matrix.nnz) < 0.1
    parts = (~held, held)
    kept, rest = (
        csr_array((np.ones(int(part.sum()), np.float32), (users[part], matrix.col_idx[part])), shape=matrix.shape)
        for part in parts
    )
    return kept, rest


def main() -> None:
    """Search, or measure what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    sets = rf.datasets.load("gowalla")
    if options.search:
        kept, held = _validation(sets.train)
        for values in itertools.product(*GRID.values()):
            parameters = {**CHOSEN, **dict(zip(GRID, values, strict=True))}
            for scoring, recall, ndcg, seconds in _run(parameters, kept, held, 0):
                print(
                    f"{parameters} {scoring}  recall@20 {recall:.4f}  ndcg@20 {ndcg:.4f}  {seconds:.0f} s", flush=True
                )
        return
    found = [_run(CHOSEN, sets.train, sets.test, seed) for seed in range(options.seeds)]
    for place, (scoring, *_) in enumerate(found[0]):
        numbers = np.array([one[place][1:] for one in found])
        each = "  ".join(f"{recall:.4f}/{ndcg:.4f}" for recall, ndcg, _ in numbers)
        recall, ndcg, seconds = numbers.mean(axis=0)
        print(f"item2vec {scoring:<8} {each}  mean {recall:.5f}/{ndcg:.5f}  fit {seconds:.0f} s")


if __name__ == "__main__":
    main()
