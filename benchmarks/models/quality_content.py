"""Quality of networks of content: on real images, and on items that nobody has interacted with, from their texts.

python -m benchmarks.models.quality_content digits
python -m benchmarks.models.quality_content cold --data citeulike-t --seeds 3
python -m benchmarks.models.quality_content cold --data ml-1m frappe --seeds 3

"digits": classifier heads on scikit-learn's digits beside scikit-learn's perceptron; each seed has a split of its own,
1,200 images for training and 597 for the test. Needs scikit-learn.
"cold": a tenth of the items held out with all of their interactions and ranked among itself for the users who have some
of them, as by ``quality_tower cold``, from words: of articles, of titles with genres and decade, of categories, names
and descriptions of apps. ContentRNN over word vectors of Item2Vec is used in both ways: it learns the vectors of an ALS
by ``fit_factors``, and as the text encoder of a Multimodal it is trained on the interactions. Beside them are
ContentKNN over the words, and popularity, which knows nothing of these items and ranks them by chance. citeulike-t has
counts of words and no order: the words of an item go in by rising tf-idf weight, so that the weightiest are read last.
"warm" is the ranking of a held-out fifth of the other interactions: that of the ALS alone stays what it is, since the
vectors of known items are not touched; "ids alone" are the towers of the Multimodal without texts.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp

import recsys_fast as rf
from benchmarks import harness
from benchmarks.models.cold_items import Contestant, Held, add_arguments, compare
from recsys_fast.models import ExtendedCatalogue

LAYERS = [("conv", 32, 3, "same"), ("conv", 32, 3, "same"), ("pool", 2), ("conv", 64, 3, "same"), ("dense", 64)]
ALS: dict[str, dict[str, Any]] = {
    "citeulike-t": {"n_factors": 128, "n_epochs": 15},
    "ml-1m": {"n_factors": 64, "n_epochs": 10, "unobserved_weight": 0.1},
    "frappe": {"n_factors": 32, "n_epochs": 10},
}
TEXT: dict[str, Any] = {
    "cell": "gru", "d_embedding": 64, "hidden": 64, "pooling": "mean", "head": "linear", "batch_size": 64,
    "learning_rate": 3e-3, "schedule": "linear", "n_epochs": 10, "augmentation": {"item_dropout": 0.2}, "dropout": 0.2,
}  # fmt: skip
TOWERS: dict[str, Any] = {
    "n_factors": 64, "learning_rate": 0.005, "temperature": 0.15, "id_dropout": 0.5, "n_epochs": 10,
    "schedule": "linear",
}  # fmt: skip
BATCHES: dict[str, dict[str, Any]] = {
    "citeulike-t": {"batch_size": 1024}, "ml-1m": {"batch_size": 4096, "n_epochs": 5}, "frappe": {"batch_size": 512},
}  # fmt: skip


def digits(options: argparse.Namespace) -> None:
    """Print the share of digits read right."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    warnings.filterwarnings("ignore", "Stochastic Optimizer")
    x, y = load_digits(return_X_y=True)
    images = (x * 15).astype(np.uint8).reshape(-1, 8, 8, 1)
    found = []
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(x))
        train, test = order[:1200], order[1200:]
        model = rf.ContentCNN(
            LAYERS, n_epochs=20, learning_rate=2e-3, schedule="linear", augmentation={"crop": 1}, random_state=seed
        ).fit(images[train], y[train])
        peer = MLPClassifier(64, max_iter=100, random_state=seed).fit(x[train] / 16, y[train])
        found.append(((model.predict(images[test]) == y[test]).mean(), peer.score(x[test] / 16, y[test])))
        print(f"seed {seed}  ContentCNN {found[-1][0]:.4f}  MLPClassifier {found[-1][1]:.4f}", flush=True)
    ours, theirs = np.mean(found, axis=0)
    print(f"mean    ContentCNN {ours:.4f}  MLPClassifier {theirs:.4f}")


def word_vectors(words: rf.Sequences, d: int, seed: int) -> Any:
    """Return vectors of words that stand in the same texts, about as long as random ones."""
    model = rf.Item2Vec(d, window=10, sample=1e-3, n_epochs=10, random_state=seed).fit(words.csr)
    vectors = model.item_factors_
    return vectors / np.sqrt(np.mean(vectors**2) * d)


def cold(options: argparse.Namespace) -> None:
    """Hold a tenth of the items out, and rank them by their words."""

    def contestants(name: str, held: Held, seed: int) -> dict[str, Contestant]:
        text = {**TEXT, **dict(options.set), "random_state": seed}

        def reader() -> Any:
            return rf.ContentRNN(**text, init=word_vectors(held.words, text["d_embedding"], seed))

        def fitted() -> tuple[Any, Any]:
            known, new = (held.words.take(part) for part in (np.arange(held.n_warm), held.cold))
            train = sp.csr_array(sp.csc_array(held.train)[:, : held.n_warm])
            als = rf.ALS(**ALS[name], random_state=seed).fit(train)
            readers = np.bincount(train.indices, minlength=held.n_warm)  # the more, the better a vector is known
            model = reader().fit_factors(known, als, sample_weight=np.sqrt(readers))
            return als, ExtendedCatalogue(als, model.encode(new))

        def end_to_end() -> tuple[Any, Any]:
            model = rf.Multimodal({"text": reader()}, **{**TOWERS, **BATCHES[name]}, random_state=seed)
            model.fit(held.train, item_content={"text": held.words})
            return model, model

        def plain() -> tuple[Any, Any]:
            towers = {**TOWERS, **BATCHES[name], "id_dropout": 0.0, "random_state": seed}
            return rf.TwoTower(**towers).fit(held.train), None

        return {"ContentRNN, fit_factors": fitted, "ContentRNN in Multimodal": end_to_end, "ids alone": plain}

    compare(options, contestants)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="?", choices=["digits", "cold"], default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="*", type=harness.setting, default=[], metavar="PARAMETER=VALUE")
    add_arguments(parser)
    options = parser.parse_args()
    digits(options) if options.work == "digits" else cold(options)


if __name__ == "__main__":
    main()
