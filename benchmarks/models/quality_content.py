"""Quality of networks of content: on real images, and on items that nobody has interacted with, from their texts.

python -m benchmarks.models.quality_content digits
python -m benchmarks.models.quality_content cold --seeds 3

"digits": classifier heads on scikit-learn's digits beside scikit-learn's perceptron; each seed has a split of its own,
1,200 images for training and 597 for the test. Needs scikit-learn.
"cold": citeulike-t, a tenth of the items held out with all of their interactions and ranked among itself for the users
who have some of them, as by ``quality_tower cold``. ContentRNN learns the vectors of an ALS from the items' words by
``fit_factors``; beside it ContentKNN over the same words, and popularity, which knows nothing of these items and ranks
them by chance. The data set has counts of words and no order: the words of an item go in by rising tf-idf weight, so
that an LSTM remembers the weightiest best. "warm" is the ranking of a held-out fifth of the other interactions: that
of the ALS alone stays what it is, since the vectors of known items are not touched.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp

import recsys_fast as rf
from benchmarks import harness
from benchmarks.models.quality_tower import among, citeulike, measured, parted
from recsys_fast.models import ExtendedCatalogue

LAYERS = [("conv", 32, 3, "same"), ("conv", 32, 3, "same"), ("pool", 2), ("conv", 64, 3, "same"), ("dense", 64)]
ALS: dict[str, Any] = {"n_factors": 128, "n_epochs": 15}
TEXT: dict[str, Any] = {
    "cell": "lstm", "d_embedding": 128, "hidden": 128, "pooling": "mean", "head": "linear", "batch_size": 64,
    "learning_rate": 3e-3, "schedule": "linear", "n_epochs": 10, "augmentation": {"item_dropout": 0.2}, "dropout": 0.2,
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


def by_weight(features: Any, most: int) -> rf.Sequences:
    """Return each item's weightiest words, the weightiest last."""
    lists = []
    for begin, end in zip(features.indptr[:-1], features.indptr[1:], strict=True):
        order = np.argsort(features.data[begin:end], kind="stable")[-most:]
        lists.append(features.indices[begin:end][order])
    return rf.Sequences(lists, n_items=features.shape[1])


def known_only(matrix: Any, items: np.ndarray[Any, Any]) -> Any:
    """Return the columns ``items``."""
    return sp.csr_array(sp.csc_array(matrix)[:, items])


def cold(options: argparse.Namespace) -> None:
    """Hold a tenth of the items out, and rank them by their words."""
    matrix, features = citeulike()
    words = by_weight(features, options.words)
    print(f"{words}", flush=True)
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        held = rng.permutation(matrix.shape[1]) % 10 == 0
        cold_items, warm_items = np.flatnonzero(held), np.flatnonzero(~held)
        test = known_only(matrix, cold_items)
        train, warm = parted(known_only(matrix, warm_items), rng, 0.2)
        print(f"seed {seed}: {held.sum()} cold items, by chance recall@20 {20 / held.sum():.4f}", flush=True)
        n_warm = len(warm_items)
        # behind the warm items, as an ExtendedCatalogue numbers them
        shifted = sp.csr_array((test.data, test.indices + n_warm, test.indptr), (len(matrix.indptr) - 1, len(held)))
        behind = n_warm + np.arange(len(cold_items))

        wide = sp.csr_array((train.data, train.indices, train.indptr), shape=shifted.shape)
        both = features[np.concatenate([warm_items, cold_items])]
        knn = rf.ContentKNN(200).fit(wide, item_features=both)
        print(f"  ContentKNN: {harness.shown(among(knn, shifted, behind))}", flush=True)
        popular = rf.Popularity().fit(wide)
        print(f"  Popularity: {harness.shown(among(popular, shifted, behind))}", flush=True)

        als = rf.ALS(**ALS, random_state=seed).fit(train)
        print(f"  ALS: {harness.shown(measured(als, train, warm, 'warm '))}", flush=True)
        model = rf.ContentRNN(**TEXT, random_state=seed).set_params(**dict(options.set))
        start = time.perf_counter()
        model.fit_factors(words.take(warm_items), als)
        seconds = time.perf_counter() - start
        union = ExtendedCatalogue(als, model.encode(words.take(cold_items)))
        print(f"  ContentRNN: {harness.shown(among(union, shifted, behind))}; {seconds:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="?", choices=["digits", "cold"], default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--words", type=int, default=100, help="cold: of an item at most")
    parser.add_argument("--set", nargs="*", type=harness.setting, default=[], metavar="PARAMETER=VALUE")
    options = parser.parse_args()
    digits(options) if options.work == "digits" else cold(options)


if __name__ == "__main__":
    main()
