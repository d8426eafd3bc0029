"""Quality of GMF, MLPRec and NeuMF: on the NCF split of ML-1M with its negatives, beside ALS, BPR and EASE; on Gowalla.

``--curve`` prints the metrics every so many epochs on a validation part (the last interaction of each user in
the training data, a random one on Gowalla) instead of the test items: what the numbers of epochs below were chosen by.

python -m benchmarks.models.quality_ncf ml-1m --seeds 3
python -m benchmarks.models.quality_ncf gowalla --seeds 3
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from scipy import sparse

import recsys_fast as rf

_LAYERS = (64, 32, 16, 8)
_ADAM: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 1024}
ML1M: dict[str, tuple[Any, dict[str, Any]]] = {
    "gmf": (rf.GMF, {"d": 8, "n_epochs": 40, **_ADAM}),
    "mlp": (rf.MLPRec, {"layers": _LAYERS, "n_epochs": 30, **_ADAM}),
    "neumf": (rf.NeuMF, {"d": 8, "layers": _LAYERS, "n_epochs": 15, **_ADAM}),
    "als": (rf.ALS, {"n_factors": 64, "n_epochs": 15}),
    "bpr": (rf.BPR, {"n_factors": 64, "learning_rate": 0.1, "regularization": 0.01, "n_epochs": 60}),
    "ease": (rf.EASE, {"regularization": 300.0}),
}
GOWALLA: dict[str, tuple[Any, dict[str, Any]]] = {
    "neumf": (
        rf.NeuMF,
        {"d": 64, "layers": (128, 64, 32), "learning_rate": 2e-3, "batch_size": 8192, "n_epochs": 40},
    ),
}
#: how the pre-trained NeuMF goes on
TUNED: dict[str, Any] = {"d": 8, "layers": _LAYERS, "optimizer": "sgd", "learning_rate": 0.1, "n_epochs": 10}


def make(name: str, options: argparse.Namespace, seed: int, train: Any) -> Any:
    """Return a fitted model."""
    known = ML1M if options.data == "ml-1m" else GOWALLA
    if name == "pretrained":
        gmf, mlp = (make(part, options, seed, train) for part in ("gmf", "mlp"))
        return rf.NeuMF(random_state=seed, n_threads=options.threads, **TUNED).fit(train, pretrained=(gmf, mlp))
    kind, parameters = known[name]
    own = {} if kind is rf.EASE else {"random_state": seed}
    return kind(n_threads=options.threads, **own, **parameters).fit(train)


def held_out(sets: Any) -> tuple[Any, Any]:
    """Return the training data without the last interaction of each user (a random one, where times are not known),
    and those."""
    csr, timed = sets.train.csr, sets.train.timestamps is not None
    coo, lengths = csr.tocoo(), np.diff(csr.indptr)
    if timed:
        sequences = rf.Sequences.from_interactions(sets.train)
        chosen = coo.col == sequences.items[np.maximum(sequences.row_ptr[1:] - 1, 0)][coo.row]
    else:
        chosen = np.zeros(csr.nnz, bool)
        places = csr.indptr[:-1] + np.random.default_rng(0).integers(0, np.maximum(lengths, 1))
        chosen[places[lengths > 1]] = True
    parts = [sparse.csr_array((coo.data[k], (coo.row[k], coo.col[k])), shape=csr.shape) for k in (~chosen, chosen)]
    return parts[0], parts[1]


def measure(model: Any, train: Any, test: Any, options: argparse.Namespace, negatives: Any) -> tuple[float, float]:
    """Return HR@10 and NDCG@10 among the negatives, or Recall@20 and NDCG@20 among all items."""
    how = {"n_threads": options.threads}
    if options.data == "ml-1m":
        report = rf.evaluation.evaluate(model, train, test, ("hit_rate", "ndcg"), (10,), negatives=negatives, **how)
    else:
        report = rf.evaluation.evaluate(model, train, test, ("recall", "ndcg"), (20,), **how)
    first, second = list(report.values())[:2]
    return float(first), float(second)


def curve(name: str, options: argparse.Namespace, sets: Any) -> None:
    """Print the metrics of a model every ``options.curve`` epochs, on a part of the training data."""
    own, valid = held_out(sets)
    negatives = 99 if options.data == "ml-1m" else None

    class Watch:
        def on_epoch_end(self, state: Any) -> None:
            if state.epoch % options.curve == 0:
                found = measure(state.model, own, valid, options, negatives)
                print(
                    f"{name:<12} epoch {state.epoch:3d}  loss {state.loss:.4f}  {found[0]:.4f}  {found[1]:.4f}",
                    flush=True,
                )

    known = ML1M if options.data == "ml-1m" else GOWALLA
    if name == "pretrained":
        parts = tuple(make(part, options, 0, own) for part in ("gmf", "mlp"))
        rf.NeuMF(random_state=0, n_threads=options.threads, **TUNED).fit(own, pretrained=parts, callbacks=[Watch()])
    else:
        kind, parameters = known[name]
        kind(random_state=0, n_threads=options.threads, **parameters).fit(own, callbacks=[Watch()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["ml-1m", "gowalla"])
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--curve", type=int, default=0, metavar="EPOCHS")
    options = parser.parse_args()
    sets = rf.datasets.load("ml-1m-ncf" if options.data == "ml-1m" else "gowalla")
    every = [*list(ML1M)[:3], "pretrained", *list(ML1M)[3:]] if options.data == "ml-1m" else list(GOWALLA)
    names = options.models or every
    for name in names:
        if options.curve:
            curve(name, options, sets)
            continue
        found = []
        for seed in range(1 if name == "ease" else options.seeds):
            start = time.perf_counter()
            model = make(name, options, seed, sets.train)
            seconds = time.perf_counter() - start
            found.append(measure(model, sets.train, sets.test, options, sets.extras.get("negatives")))
            print(f"{name:<12} seed {seed}  {found[-1][0]:.4f}  {found[-1][1]:.4f}  fit {seconds:.0f} s", flush=True)
        first, second = np.mean(found, 0)
        print(f"{name:<12} mean    {first:.4f}  {second:.4f}", flush=True)


if __name__ == "__main__":
    main()
