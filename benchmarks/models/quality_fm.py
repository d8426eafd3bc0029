"""Quality of factorization machines on real data, with the parameters that reach it.

python -m benchmarks.models.quality_fm --work frappe ml-100k

"frappe": log loss and AUC of the test rows for FM, FFM and DeepFM; the epoch is chosen by the validation rows. Its
training negatives were drawn anew, so published figures (BARS, Frappe_x1: FM .2065/.9671, FFM .1860/.9786, DeepFM
.1482/.9842) are near, not the same. "ml-100k": RMSE over 5 seeded folds with user and item features; the number of
epochs is fixed.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks.models.fm_rows import frappe, ml_100k
from recsys_fast.models import evaluate_rows

FRAPPE = [
    rf.FM(10, learning_rate=0.1, regularization=0.001, n_epochs=60),
    rf.FM(64, learning_rate=0.1, regularization=0.002, n_epochs=60),
    rf.FFM(4, learning_rate=0.1, regularization=0.002, n_epochs=40),
    rf.FFM(8, learning_rate=0.2, regularization=0.004, n_epochs=40),
    rf.FFM(16, learning_rate=0.1, regularization=0.002, n_epochs=40),
    rf.DeepFM(10, hidden=(128, 128, 128), learning_rate=1e-3, regularization=1e-4, dropout=0.1, n_epochs=40),
    rf.DeepFM(10, hidden=(400, 400), learning_rate=1e-3, regularization=1e-3, dropout=0.2, n_epochs=40),
]
ML_100K = [
    rf.FM(
        10, loss="squared", learning_rate=0.05, regularization=0.08, linear_regularization=0.01, batch_size=64,
        n_epochs=29,
    ),
    rf.FM(
        32, loss="squared", learning_rate=0.05, regularization=0.08, linear_regularization=0.01, batch_size=64,
        n_epochs=14,
    ),
    rf.FM(16, loss="squared", solver="als", regularization=0.13, linear_regularization=0.03, n_epochs=10),
]  # fmt: skip


def run_frappe(seed: int, kinds: list[str]) -> None:
    parts = frappe()
    train, valid, test = parts["train"], parts["valid"], parts["test"]
    for model in [model for model in FRAPPE if type(model).__name__ in kinds]:
        model.set_params(random_state=seed)
        stopping, start = rf.EarlyStopping("log_loss", patience=3), time.perf_counter()
        more: dict[str, Any] = {} if isinstance(model, rf.FM) else {"fields": train.fields}
        model.fit(train.x, train.y, eval_set=(valid.x, valid.y), callbacks=[stopping], **more)
        found = evaluate_rows(model, test.x, test.y)
        seconds = time.perf_counter() - start
        print(f"{model}: epoch {stopping.best_epoch}, log loss {found['log_loss']:.4f}, AUC {found['auc']:.4f}", end="")
        print(f", {seconds:.1f} s", flush=True)


def run_ml_100k(seed: int) -> None:
    table = ml_100k()
    fold = np.random.default_rng(seed).permutation(len(table.y)) % 5
    for model in ML_100K:
        model.set_params(random_state=seed)
        errors, start = [], time.perf_counter()
        for test in range(5):
            model.fit(table.x[fold != test], table.y[fold != test])
            errors.append(evaluate_rows(model, table.x[fold == test], table.y[fold == test], ["rmse"])["rmse"])
        seconds = (time.perf_counter() - start) / 5
        folds = " ".join(f"{error:.4f}" for error in errors)
        print(f"{model}: RMSE {np.mean(errors):.4f} ({folds}), {seconds:.1f} s per fold", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", default=["frappe", "ml-100k"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", nargs="+", default=["FM", "FFM", "DeepFM"], help="of frappe")
    options = parser.parse_args()
    for name in options.work:
        run_frappe(options.seed, options.models) if name == "frappe" else run_ml_100k(options.seed)


if __name__ == "__main__":
    main()
