"""Quality of the autoencoders: ranking on Gowalla (LightGCN split, all items), ratings of ml-100k or ml-1m.

A fifth of the interactions of every tenth user are left out of the training part and choose the number of epochs: the
one of the highest NDCG@20, after which ``--patience`` epochs have been no better. ``search`` prints what settings reach
there and looks at nothing else; ``gowalla`` measures on the test part as well, histories whole then.

python -m benchmarks.models.quality_autoencoder search --settings vae vae-200 dae
python -m benchmarks.models.quality_autoencoder gowalla --settings vae-200 --compute bfloat16 --save quality_vae_gowalla
python -m benchmarks.models.quality_autoencoder ratings --data ml-100k --seeds 3
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from scipy import sparse

import recsys_fast as rf
from benchmarks import harness
from benchmarks.models.folds import rmse

_VAE: dict[str, Any] = {"n_factors": 200, "hidden": (600,), "batch_size": 500, "kl_steps": 10_000}
_NARROW: dict[str, Any] = {"n_factors": 200, "hidden": (), "batch_size": 250, "kl_steps": 10_000}
SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vae": (rf.MultVAE, {**_VAE}),
    "vae-small-batches": (rf.MultVAE, {**_VAE, "batch_size": 250}),
    "vae-dropout7": (rf.MultVAE, {**_VAE, "dropout": 0.7}),
    "vae-200": (rf.MultVAE, {**_NARROW}),
    "vae-400": (rf.MultVAE, {**_NARROW, "n_factors": 400}),
    "dae": (rf.MultDAE, {"n_factors": 200, "batch_size": 250}),
    "dae-dropout7": (rf.MultDAE, {"n_factors": 200, "batch_size": 250, "dropout": 0.7}),
}
RATINGS = {"n_factors": 500, "learning_rate": 1e-3, "weight_decay": 1e-3, "batch_size": 64, "n_epochs": 12}
#: of Mult-VAE: BARS leaderboard
PUBLISHED = {"recall@20": 0.1641, "ndcg@20": 0.1335}


def make(name: str, options: argparse.Namespace, seed: int) -> Any:
    """Return a model of a setting."""
    kind, parameters = SETTINGS[name]
    common = {"n_epochs": options.epochs, "n_threads": options.threads, "compute": options.compute}
    return kind(random_state=seed, **{**parameters, **common, **dict(options.set)})


def gowalla(options: argparse.Namespace) -> None:
    """Fit settings, the number of epochs chosen on the validation part, and unless searching look at the test part."""
    sets, report = rf.datasets.load("gowalla"), harness.Report(options)
    held = rf.splits.held_out_users(sets.train, 0.1, target_fraction=0.2, random_state=0)
    train, how = rf.splits.join(held.train, held.fold_in), {"n_threads": options.threads}
    for name in options.settings:
        found, seconds = [], []
        for seed in range(options.seeds):
            model, start = make(name, options, seed), time.perf_counter()
            stopping, log = rf.EarlyStopping("ndcg@20", patience=options.patience), rf.LogEvaluation(every=5)
            model.fit(train, eval_set=held.target, callbacks=[log, stopping])
            seconds.append(time.perf_counter() - start)
            found.append({"epochs": model.n_epochs_, "validation ndcg@20": stopping.best})
            if options.work == "gowalla":
                factors = model.fold_in(sets.train), model.item_factors_
                measured = rf.evaluation.evaluate(factors, sets.train, sets.test, ("recall", "ndcg"), (20,), **how)
                found[-1] |= {metric: float(measured[metric]) for metric in PUBLISHED}
            print(harness.seed_line(name, seed, found[-1], seconds[-1]), flush=True)
        published = PUBLISHED if name.startswith("vae") else None
        figures = {"recsys_fast": harness.over_seeds(found, seconds, published)}
        report.add(f"{name}, gowalla", figures, f"{options.seeds} seeds, {options.compute}", of_data=False)
    report.finish()


def ratings(options: argparse.Namespace) -> None:
    """Root mean squared error of AutoRec, cut to the scale, on a random tenth of the ratings; by items and by users."""
    coo = rf.datasets.load(options.data).interactions.csr.tocoo()
    for side in ("items", "users"):
        errors = []
        for seed in range(options.seeds):
            out = np.random.default_rng(seed).permutation(coo.nnz) % 10 == 0
            train = sparse.csr_array((coo.data[~out], (coo.row[~out], coo.col[~out])), shape=coo.shape)
            model = rf.AutoRec(side=side, random_state=seed, n_threads=options.threads, **RATINGS).fit(train)
            test = sparse.csr_array((coo.data[out], (coo.row[out], coo.col[out])), shape=coo.shape)
            errors.append(rmse(model, test, coo.data.min(), coo.data.max())[1])
        print(f"AutoRec {side}  rmse {np.mean(errors):.4f} +- {np.std(errors):.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("search", "gowalla", "ratings"))
    parser.add_argument("--settings", nargs="+", choices=sorted(SETTINGS), default=["vae"])
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--epochs", type=int, default=100, help="at most")
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compute", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--set", nargs="*", type=harness.setting, default=[], metavar="PARAMETER=VALUE")
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json")
    options = parser.parse_args()
    {"search": gowalla, "gowalla": gowalla, "ratings": ratings}[options.work](options)


if __name__ == "__main__":
    main()
