"""Quality of GMF, MLPRec and NeuMF: on the NCF split of ML-1M with its negatives, beside ALS, BPR and EASE; on Gowalla.

The number of epochs of the networks is chosen on a validation part of the training data (the last interaction of each
user; on Gowalla a fifth of those of every tenth user) by NDCG over all items; then each seed is fitted to all of the
training data, and measured on the test items. ``--search`` only does the first.

python -m benchmarks.models.quality_ncf ml-1m --seeds 3 --save quality_ncf_ml1m
python -m benchmarks.models.quality_ncf gowalla --seeds 3 --save quality_neumf_gowalla
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import recsys_fast as rf
from benchmarks import harness
from recsys_fast.models.ncf_model import NcfModel

# 32 "predictive factors" of the paper: the width of GMF and of the MLP's last layer, with which it states .726/.445
_LAYERS = (128, 64, 32)
_ADAM: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 1024}
#: the networks' numbers of epochs are the largest
ML1M: dict[str, tuple[Any, dict[str, Any]]] = {
    "gmf": (rf.GMF, {"d": 32, "n_epochs": 30, **_ADAM}),
    "mlp": (rf.MLPRec, {"layers": _LAYERS, "n_epochs": 30, **_ADAM}),
    "neumf": (rf.NeuMF, {"d": 32, "layers": _LAYERS, "n_epochs": 30, **_ADAM}),
    # goes on from the first two
    "pretrained": (rf.NeuMF, {"d": 32, "layers": _LAYERS, "optimizer": "sgd", "learning_rate": 0.1, "n_epochs": 20}),
    "als": (rf.ALS, {"n_factors": 64, "n_epochs": 15}),
    "bpr": (rf.BPR, {"n_factors": 64, "learning_rate": 0.1, "regularization": 0.01, "n_epochs": 60}),
    "ease": (rf.EASE, {"regularization": 300.0}),
}
GOWALLA: dict[str, tuple[Any, dict[str, Any]]] = {
    "neumf": (
        rf.NeuMF,
        {"d": 64, "layers": (64, 32, 16), "learning_rate": 2e-3, "batch_size": 8192, "n_epochs": 40},
    ),
}
#: He et al. 2017, and the BARS leaderboard
PUBLISHED = {
    "ml-1m": {
        "neumf": {"hr@10": 0.701, "ndcg@10": 0.425},
        "pretrained": {"hr@10": 0.726, "ndcg@10": 0.445},
    },
    "gowalla": {"neumf": {"recall@20": 0.1399, "ndcg@20": 0.1212}},
}


class Models:
    """Fitted models by name and seed; those that another one goes on from are fitted once.

    Args:
        options: of the command line.
        train: what they are fitted to.
        valid: what networks stop early by; None for a number of epochs that is known.
        epochs: that number by name, where it is not the one of the settings.
    """

    def __init__(
        self, options: argparse.Namespace, train: Any, valid: Any = None, epochs: dict[str, int] | None = None
    ) -> None:
        self.options, self.train, self.valid, self.epochs = options, train, valid, epochs or {}
        self.known = ML1M if options.data == "ml-1m" else GOWALLA
        self._kept: dict[tuple[str, int], tuple[Any, float]] = {}

    def networks(self, names: list[str]) -> list[str]:
        """Return those of the names whose number of epochs is chosen, after those that they go on from."""
        wanted = {*names, *(("gmf", "mlp") if "pretrained" in names else ())}
        return [name for name, (kind, _) in self.known.items() if name in wanted and issubclass(kind, NcfModel)]

    def get(self, name: str, seed: int) -> tuple[Any, float]:
        """Return a fitted model, and the seconds that it took."""
        if (name, seed) in self._kept:
            return self._kept[name, seed]
        kind, parameters = self.known[name]
        more: dict[str, Any] = {}
        if issubclass(kind, NcfModel):
            parameters = {**parameters, **dict(self.options.set)}
            parameters["n_epochs"] = self.epochs.get(name, parameters["n_epochs"])
        if self.valid is not None:
            monitor = "ndcg@10" if self.options.data == "ml-1m" else "ndcg@20"
            stopping = rf.EarlyStopping(monitor, patience=self.options.patience)
            more = {"eval_set": self.valid, "callbacks": [stopping, rf.LogEvaluation((monitor,))]}
        if name == "pretrained":
            more["pretrained"] = tuple(self.get(part, seed)[0] for part in ("gmf", "mlp"))
        own = {} if kind is rf.EASE else {"random_state": seed}
        model, start = kind(n_threads=self.options.threads, **parameters, **own), time.perf_counter()
        found = model.fit(self.train, **more), time.perf_counter() - start
        if name in ("gmf", "mlp"):
            self._kept[name, seed] = found
        return found


def choose(names: list[str], options: argparse.Namespace, data: Any) -> dict[str, int]:
    """Return the number of epochs of each network, chosen on a part of the training data."""
    if options.data == "ml-1m":
        train, valid = rf.splits.leave_one_out(data)
    else:
        held = rf.splits.held_out_users(data, 0.1, target_fraction=0.2, random_state=0)
        train, valid = rf.splits.join(held.train, held.fold_in), held.target
    models, epochs = Models(options, train, valid), {}
    for name in models.networks(names):
        model, seconds = models.get(name, 0)
        best = {metric: numbers[-1] for metric, numbers in model.history_.items() if metric != "loss"}
        print(harness.seed_line(name, 0, best, seconds) + f"  epoch {model.n_epochs_}", flush=True)
        epochs[name] = model.n_epochs_
    return epochs


def measure(model: Any, train: Any, test: Any, options: argparse.Namespace, negatives: Any) -> dict[str, float]:
    """Return HR@10 and NDCG@10 among the negatives, or Recall@20 and NDCG@20 among all items."""
    first, k = ("hit_rate", 10) if options.data == "ml-1m" else ("recall", 20)
    report = rf.evaluation.evaluate(
        model, train, test, (first, "ndcg"), (k,), negatives=negatives, n_threads=options.threads
    )
    names = f"{'hr' if first == 'hit_rate' else first}@{k}", f"ndcg@{k}"
    return dict(zip(names, map(float, report.values()), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["ml-1m", "gowalla"])
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--patience", type=int, default=3)
    parser.add_argument("--search", action="store_true", help="choose numbers of epochs and look at no test item")
    parser.add_argument("--set", nargs="*", type=harness.setting, default=[], metavar="PARAMETER=VALUE")
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json")
    options = parser.parse_args()
    sets = rf.datasets.load("ml-1m-ncf" if options.data == "ml-1m" else "gowalla")
    names, report = options.models or list(ML1M if options.data == "ml-1m" else GOWALLA), harness.Report(options)
    models = Models(options, sets.train, epochs=choose(names, options, sets.train))
    for name in [] if options.search else names:
        found, seconds = [], []
        for seed in range(1 if name == "ease" else options.seeds):
            model, spent = models.get(name, seed)
            seconds.append(spent)
            found.append(measure(model, sets.train, sets.test, options, sets.extras.get("negatives")))
            print(harness.seed_line(name, seed, found[-1], spent), flush=True)
        published, epochs = PUBLISHED[options.data].get(name), models.epochs.get(name)
        details = f"{len(found)} seeds" + (f", {epochs} epochs" if epochs else "")
        report.add(name, {"recsys_fast": harness.over_seeds(found, seconds, published)}, details)
    report.finish()


if __name__ == "__main__":
    main()
