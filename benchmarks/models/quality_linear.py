"""Recall and NDCG of EASE, SLIM and SparseEASE, with the time of each fit.

python -m benchmarks.models.quality_linear --data gowalla --models slim sparse_ease
python -m benchmarks.models.quality_linear --data gowalla --models ease --regularization 80
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import recsys_fast as rf
from benchmarks import data
from recsys_fast import evaluation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="gowalla")
    parser.add_argument("--models", nargs="+", choices=("ease", "slim", "sparse_ease"), default=["slim", "sparse_ease"])
    parser.add_argument("--regularization", type=float, default=80.0, help="of EASE and SparseEASE")
    parser.add_argument("--neighbors", type=int, nargs="+", default=[128, 256], help="of SparseEASE")
    parser.add_argument("--l1", type=float, default=1.0)
    parser.add_argument("--l2", type=float, default=100.0)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    train, test = data.load(options.data)
    models: list[Any] = []
    if "ease" in options.models:
        models.append(rf.EASE(options.regularization))
    if "slim" in options.models:
        models.append(rf.SLIM(options.l1, options.l2))
    if "sparse_ease" in options.models:
        models += [rf.SparseEASE(options.regularization, n_neighbors=n) for n in options.neighbors]
    for model in models:
        start = time.perf_counter()
        model.set_params(n_threads=options.threads).fit(train)
        fitted = time.perf_counter()
        report = evaluation.evaluate(model, train, test, metrics=("recall", "ndcg"), ks=(options.k,))
        metrics = "  ".join(f"{name}@{options.k} {report[f'{name}@{options.k}']:.4f}" for name in ("recall", "ndcg"))
        spent = f"fit {fitted - start:.1f} s, evaluation {time.perf_counter() - fitted:.1f} s"
        print(f"{model!r}  {metrics}  {spent}", flush=True)


if __name__ == "__main__":
    main()
