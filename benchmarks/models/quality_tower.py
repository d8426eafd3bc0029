"""Quality of TwoTower: on Gowalla from ids, and on items that nobody has interacted with from their features alone.

python -m benchmarks.models.quality_tower gowalla --seeds 3 --save quality_tower_gowalla
python -m benchmarks.models.quality_tower cold --data citeulike-t --seeds 3 --save quality_tower_citeulike
python -m benchmarks.models.quality_tower cold --data ml-1m frappe --seeds 3 --save quality_tower_cold

"gowalla": Recall@20 and NDCG@20 of the test part, all items ranked; a name of ``GOWALLA`` behind it chooses settings.
"cold": a tenth of the items is held out with all of its interactions, and ranked among itself for the users who have
some of them: TwoTower with words (citeulike-t), genres, words of the title and decade (ml-1m), or category and words of
the description (frappe), beside ContentKNN on the same features and popularity, which knows nothing of these items and
ranks them by chance: the recall of a random order stands for it. "warm" is the ranking of a held-out fifth of the other
interactions, with features and without.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import recsys_fast as rf
from benchmarks import harness
from benchmarks.models.cold_items import METRICS, Contestant, Held, add_arguments, compare, measured

GOWALLA: dict[str, dict[str, Any]] = {
    # chosen on a fifth of the training part
    "history": {
        "n_factors": 64, "batch_size": 2048, "learning_rate": 0.01, "temperature": 0.15, "n_epochs": 10,
        "schedule": "linear", "item_bias": True, "history": 30, "id_dropout": 0.5,
    },
    "ids": {
        "n_factors": 64, "batch_size": 4096, "learning_rate": 0.01, "temperature": 0.12, "n_epochs": 40,
        "schedule": "linear",
    },
}  # fmt: skip
_WORDS: dict[str, Any] = {
    "n_factors": 64, "batch_size": 1024, "learning_rate": 0.01, "temperature": 0.15, "id_dropout": 0.5,
    "n_epochs": 10, "schedule": "linear", "pooling": "sum",
}  # fmt: skip
COLD: dict[str, dict[str, Any]] = {
    "citeulike-t": _WORDS,
    "ml-1m": {**_WORDS, "batch_size": 4096, "n_epochs": 5},
    "frappe": {**_WORDS, "batch_size": 512},
}
#: of YouTubeDNN on Gowalla: BARS leaderboard
PUBLISHED = dict(zip(METRICS, (0.1754, 0.1473), strict=True))


def gowalla(options: argparse.Namespace) -> None:
    """Fit on the training part with several seeds, and measure on the test part; with ``--validate`` print how the
    metrics on a fifth of the training part go instead."""
    data, report = rf.datasets.load("gowalla"), harness.Report(options)
    parameters = {**GOWALLA[options.settings], **dict(options.set)}
    if options.validate:
        train, valid = rf.splits.random(data.train, 0.2, random_state=0)
        rf.TwoTower(**parameters, random_state=0).fit(train, eval_set=valid, callbacks=[rf.LogEvaluation(every=2)])
        return
    found, seconds = [], []
    for seed in range(options.seeds):
        model, start = rf.TwoTower(**parameters, random_state=seed), time.perf_counter()
        model.fit(data.train)
        seconds.append(time.perf_counter() - start)
        found.append(measured(model, data.train.csr, data.test.csr))
        print(harness.seed_line("two towers", seed, found[-1], seconds[-1]), flush=True)
    figures = {"recsys_fast": harness.over_seeds(found, seconds, PUBLISHED)}
    report.add(f"two towers, gowalla, {options.settings}", figures, f"{options.seeds} seeds", of_data=False)
    report.finish()


def cold(options: argparse.Namespace) -> None:
    """Hold a tenth of the items out, and rank them by what describes them."""

    def contestants(name: str, held: Held, seed: int) -> dict[str, Contestant]:
        parameters = {**COLD[name], **dict(options.set), "random_state": seed}

        def described() -> tuple[Any, Any]:
            model = rf.TwoTower(**parameters).fit(held.train, item_features=held.features)
            return model, model

        def plain() -> tuple[Any, Any]:
            return rf.TwoTower(**{**parameters, "id_dropout": 0.0}).fit(held.train), None

        return {"TwoTower": described, "TwoTower without features": plain}

    compare(options, contestants)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["gowalla", "cold"])
    parser.add_argument("settings", nargs="?", choices=list(GOWALLA), default="history", help="gowalla")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--validate", action="store_true", help="gowalla: on a fifth of the training part")
    parser.add_argument("--set", nargs="*", type=harness.setting, default=[], metavar="PARAMETER=VALUE")
    add_arguments(parser)
    options = parser.parse_args()
    gowalla(options) if options.work == "gowalla" else cold(options)


if __name__ == "__main__":
    main()
