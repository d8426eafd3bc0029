"""Classifier heads on real images: scikit-learn's digits beside scikit-learn's perceptron, mean of 3 seeds.

Each seed has a split of its own, 1,200 images for training and 597 for the test. Needs scikit-learn.

python -m benchmarks.models.quality_content
"""

from __future__ import annotations

import warnings

import numpy as np

import recsys_fast as rf

LAYERS = [("conv", 32, 3, "same"), ("conv", 32, 3, "same"), ("pool", 2), ("conv", 64, 3, "same"), ("dense", 64)]


def main() -> None:
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    warnings.filterwarnings("ignore", "Stochastic Optimizer")
    x, y = load_digits(return_X_y=True)
    images = (x * 15).astype(np.uint8).reshape(-1, 8, 8, 1)
    found = []
    for seed in range(3):
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


if __name__ == "__main__":
    main()
