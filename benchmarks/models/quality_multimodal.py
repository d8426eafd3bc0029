"""Quality of Multimodal on a made catalogue whose looks decide who likes what: cold items from their pictures alone.

python -m benchmarks.models.quality_multimodal --seeds 3

A fifth of the items is cold: nobody has them in the training part. They are ranked among themselves for the users who
have some of them, by Multimodal with a ContentCNN over the pictures, by ContentKNN over pixels and over the true looks
(which no model of pictures is told), and by chance, which is what popularity comes to. "oracle" is the best that can be
expected: of cold items by what can be seen of them, and by the truth, which knows how popular they will be. "warm" is
the ranking of the other items' held-out interactions, with pictures and without.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import scipy.sparse as sp

import recsys_fast as rf
from benchmarks import harness
from benchmarks.models.cold_items import among

LAYERS = [("conv", 16, 3), ("pool", 2), ("conv", 32, 3), ("pool", 2), ("dense", 64)]
TOWERS: dict[str, Any] = {
    "n_factors": 32, "batch_size": 512, "learning_rate": 0.005, "temperature": 0.3, "n_epochs": 20,
    "schedule": "linear",
}  # fmt: skip
IDS = {"learning_rate": 0.01, "temperature": 0.2, "n_epochs": 40}  # the best of four for ids alone


def one_hot(table: dict[str, Any]) -> Any:
    """Return shape, colour and texture of the items as features."""
    columns = [np.unique(values, return_inverse=True)[1] for values in table.values()]
    return sp.csr_array(np.concatenate([np.eye(column.max() + 1, dtype=np.float32)[column] for column in columns], 1))


def visual(options: argparse.Namespace) -> None:
    """Print recall and NDCG of cold and warm items, by model."""
    for seed in range(options.seeds):
        data = rf.datasets.synthetic_images(random_state=seed)
        train, extras = data.train, data.extras
        cold, images = extras["cold_items"], extras["images"]
        warm = np.setdiff1d(np.arange(train.n_items), cold)
        tests = [sp.csr_array(part.csr) for part in (data.test, extras["cold_test"])]
        figures = {name: [extras[name][f"{metric}@20"] for metric in ("recall", "ndcg")] for name in (
            "oracle", "popularity", "cold_visual_oracle", "cold_oracle",
        )}  # fmt: skip
        print(f"seed {seed}: {len(cold)} cold items of {train.n_items}, by chance recall@20 {20 / len(cold):.4f}")
        for name, (recall, ndcg) in figures.items():
            print(f"  {name}: recall@20 {recall:.4f}, ndcg@20 {ndcg:.4f}", flush=True)
        see = rf.ContentCNN(LAYERS)
        towers = {**TOWERS, **dict(options.set), "random_state": seed}
        content = {"item_content": {"image": images}}
        models: dict[str, tuple[Any, dict[str, Any]]] = {
            "ContentKNN, pixels": (rf.ContentKNN(100), {"item_features": images.reshape(len(images), -1) / 255}),
            "ContentKNN, true looks": (rf.ContentKNN(100), {"item_features": one_hot(extras["item_table"])}),
            "TwoTower, ids": (rf.TwoTower(**{**towers, **IDS}), {}),
            "Multimodal, ids and pictures": (rf.Multimodal({"image": see}, **towers), content),
            "Multimodal, pictures": (rf.Multimodal({"image": see}, identity=False, **towers), content),
        }  # fmt: skip
        for label, (model, given) in models.items():
            start = time.perf_counter()
            model.fit(train, **given)
            seconds = time.perf_counter() - start
            line = f"  {label}: {harness.shown(among(model, tests[0], warm, 'warm ', filter_seen=True))}"
            if given:
                line += f"; {harness.shown(among(model, tests[1], cold))}"
            print(f"{line}; {seconds:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="*", type=harness.setting, default=[], metavar="PARAMETER=VALUE")
    visual(parser.parse_args())


if __name__ == "__main__":
    main()
