"""Loss and metrics of ALS beside irspack's, same parameters and epochs, several seeds.

python -m benchmarks.models.quality_als --data gowalla --factors 64 --seeds 3
"""

from __future__ import annotations

import argparse

import numpy as np

import recsys_fast as rf
from benchmarks import data
from benchmarks.models.bench_als import NU, REGULARIZATION, UNOBSERVED, irspack_model, loss
from recsys_fast import ops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="gowalla")
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--solver", default="cg", choices=["cg", "cholesky"])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--k", type=int, default=20)
    options = parser.parse_args()
    train, test = data.load(options.data)
    seen, target = ops.as_csr(train), ops.as_csr(test)
    rows: dict[str, list[list[float]]] = {"recsys_fast": [], "irspack": []}
    for seed in range(options.seeds):
        model = rf.ALS(
            options.factors, unobserved_weight=UNOBSERVED, regularization=REGULARIZATION, nu=NU,
            solver=options.solver, n_epochs=options.epochs, random_state=seed,
        ).fit(train)  # fmt: skip
        peer = irspack_model(train, options.factors, options.solver, 2, seed)
        for _ in range(options.epochs):
            peer.run_epoch()
        tables = {
            "recsys_fast": (model.user_factors_, model.item_factors_),
            "irspack": (peer.get_user_embedding(), peer.get_item_embedding()),
        }
        for name, (x, y) in tables.items():
            found = ops.rank_metrics(y, x, target, [options.k], seen=seen)
            metrics = [float(np.nanmean(found[metric])) for metric in ("recall", "ndcg")]
            rows[name].append([loss(seen, x, y), *metrics])
            print(
                f"{name:<12} seed {seed}  loss {rows[name][-1][0]:.6g}  recall {metrics[0]:.5f}  ndcg {metrics[1]:.5f}"
            )
    for name, values in rows.items():
        mean = np.mean(values, axis=0)
        print(f"{name:<12} mean    loss {mean[0]:.6g}  recall {mean[1]:.5f}  ndcg {mean[2]:.5f}")


if __name__ == "__main__":
    main()
