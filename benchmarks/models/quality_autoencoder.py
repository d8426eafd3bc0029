"""Quality of the autoencoders: ranking on Gowalla (LightGCN split, all items), ratings of ml-100k or ml-1m.

``search`` fits each setting on the training part without every fifth interaction, stops where NDCG@20 on those has not
risen for ``--patience`` epochs, and looks at nothing else; ``gowalla`` fits with the setting and the epochs found, on
all of the training part, and measures on the test part. Published: Recall@20 .1641, NDCG@20 .1335 (Mult-VAE).

python -m benchmarks.models.quality_autoencoder search --settings vae vae-dropout7 vae-wide dae
python -m benchmarks.models.quality_autoencoder gowalla --settings vae --epochs 60 --seeds 3
python -m benchmarks.models.quality_autoencoder ratings --data ml-100k --seeds 3
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from scipy import sparse

import recsys_fast as rf
from benchmarks.models.folds import rmse

_VAE: dict[str, Any] = {"n_factors": 200, "hidden": (600,), "batch_size": 500, "kl_steps": 10_000}
SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vae": (rf.MultVAE, {**_VAE}),
    "vae-dropout7": (rf.MultVAE, {**_VAE, "dropout": 0.7}),
    "vae-slow": (rf.MultVAE, {**_VAE, "learning_rate": 3e-4}),
    "vae-cap5": (rf.MultVAE, {**_VAE, "kl_cap": 0.5, "kl_steps": 5_000}),
    "vae-wide": (rf.MultVAE, {**_VAE, "hidden": (), "n_factors": 600}),
    "dae": (rf.MultDAE, {"n_factors": 200, "batch_size": 500}),
    "dae-wide": (rf.MultDAE, {"n_factors": 600, "batch_size": 500, "dropout": 0.7}),
}
RATINGS = {"n_factors": 500, "learning_rate": 1e-3, "weight_decay": 1e-3, "batch_size": 64, "n_epochs": 12}
METRICS = ("recall", "ndcg")


def make(name: str, options: argparse.Namespace, seed: int) -> Any:
    """Return a model of a setting."""
    kind, parameters = SETTINGS[name]
    common = {"n_epochs": options.epochs, "n_threads": options.threads, "compute": options.compute}
    return kind(random_state=seed, **parameters, **common)


def held_out(train: Any) -> tuple[Any, Any]:
    """Return a training matrix without every fifth interaction, and those."""
    coo = train.tocoo()
    chosen = np.random.default_rng(0).permutation(coo.nnz) % 5 == 0
    parts = [sparse.csr_array((coo.data[p], (coo.row[p], coo.col[p])), shape=coo.shape) for p in (~chosen, chosen)]
    return parts[0], parts[1]


def search(options: argparse.Namespace) -> None:
    """Fit settings on a part of the training data and compare them on the rest of it."""
    train, valid = held_out(rf.datasets.load("gowalla").train.csr)
    for name in options.settings:
        model, start = make(name, options, 0), time.perf_counter()
        stopping = rf.EarlyStopping("ndcg@20", patience=options.patience, restore_best=False)
        log = rf.LogEvaluation(("recall@20", "ndcg@20"))
        model.fit(train, eval_set=valid, callbacks=[log, stopping])
        best = int(np.argmax(model.history_["ndcg@20"]))
        print(
            f"{name}  validation recall@20 {model.history_['recall@20'][best]:.4f}  "
            f"ndcg@20 {model.history_['ndcg@20'][best]:.4f}  epoch {best + 1}  {time.perf_counter() - start:.0f} s",
            flush=True,
        )


def gowalla(options: argparse.Namespace) -> None:
    """Fit with what was found, several seeds, and measure on the test part."""
    sets = rf.datasets.load("gowalla")
    for name in options.settings:
        found = []
        for seed in range(options.seeds):
            start = time.perf_counter()
            model = make(name, options, seed).fit(sets.train)
            seconds = time.perf_counter() - start
            measured = rf.evaluation.evaluate(model, sets.train, sets.test, METRICS, (20,), n_threads=options.threads)
            found.append([measured["recall@20"], measured["ndcg@20"]])
            print(
                f"{name} seed {seed}  recall@20 {found[-1][0]:.4f}  ndcg@20 {found[-1][1]:.4f}  {seconds:.0f} s",
                flush=True,
            )
        mean, spread = np.mean(found, 0), np.std(found, 0)
        print(
            f"{name}  recall@20 {mean[0]:.4f} +- {spread[0]:.4f}  ndcg@20 {mean[1]:.4f} +- {spread[1]:.4f}", flush=True
        )


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
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compute", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    {"search": search, "gowalla": gowalla, "ratings": ratings}[options.work](options)


if __name__ == "__main__":
    main()
