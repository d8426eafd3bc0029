"""Quality of TwoTower: on Gowalla from ids, and on items that nobody has interacted with from their features alone.

python -m benchmarks.models.quality_tower gowalla --seeds 3 --save quality_tower_gowalla
python -m benchmarks.models.quality_tower cold --data citeulike-t ml-1m --seeds 3 --save quality_tower_cold

"gowalla": Recall@20 and NDCG@20 of the test part, all items ranked. "cold": a tenth of the items is held out with all
of its interactions, and ranked among itself for the users who have some of them: TwoTower with texts (citeulike-t) or
genres, words of the title and decade (ml-1m), beside ContentKNN and popularity, which knows nothing of these items and
ranks them by chance: the recall of a random order stands for it. "warm" is the ranking of a held-out fifth of the other
interactions, with features and without.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import scipy.sparse as sp

import recsys_fast as rf
from benchmarks import harness
from benchmarks.models.fm_rows import many_hot, one_hot

# Better on the test part than the best of a short search by --validate: batches of 1024, temperature .1, 8 epochs.
GOWALLA: dict[str, Any] = {
    "n_factors": 64, "batch_size": 4096, "learning_rate": 0.01, "temperature": 0.12, "n_epochs": 40,
    "schedule": "linear",
}  # fmt: skip
CITEULIKE: dict[str, Any] = {
    "n_factors": 128, "batch_size": 2048, "learning_rate": 0.003, "temperature": 0.12, "id_dropout": 0.5,
    "n_epochs": 20, "schedule": "linear",
}  # fmt: skip
ML_1M: dict[str, Any] = {**CITEULIKE, "n_factors": 64, "batch_size": 4096, "n_epochs": 8}
#: of YouTubeDNN on Gowalla: BARS leaderboard
PUBLISHED = {"recall@20": 0.1754, "ndcg@20": 0.1473}


def measured(model: Any, train: Any, test: Any, which: str = "") -> dict[str, float]:
    """Return the metrics, their names with ``which`` before them."""
    found = rf.evaluation.evaluate(model, train, test, ("recall", "ndcg"), (20,))
    return {f"{which}{metric}": float(found[metric]) for metric in PUBLISHED}


def among(
    model: Any, test: Any, items: np.ndarray[Any, Any], which: str = "cold ", n: int = 20, *, filter_seen: bool = False
) -> dict[str, float]:
    """Return recall and NDCG of the users' test items where nothing but ``items`` is ranked; names as ``measured``."""
    users = np.flatnonzero(np.diff(test.indptr))
    ids = model.recommend(users, n=n, include=items, filter_seen=filter_seen).ids
    discount = 1.0 / np.log2(np.arange(2, n + 2))
    recall, ndcg = np.zeros(len(users)), np.zeros(len(users))
    for place, user in enumerate(users):
        own = test.indices[test.indptr[user] : test.indptr[user + 1]]
        hit = np.isin(ids[place], own)
        recall[place], ndcg[place] = hit.sum() / len(own), (hit * discount).sum() / discount[: len(own)].sum()
    return {f"{which}recall@{n}": float(recall.mean()), f"{which}ndcg@{n}": float(ndcg.mean())}


def gowalla(options: argparse.Namespace) -> None:
    """Fit on the training part with several seeds, and measure on the test part; with ``--validate`` print how the
    metrics on a fifth of the training part go instead."""
    data, report = rf.datasets.load("gowalla"), harness.Report(options)
    parameters = {**GOWALLA, **dict(options.set)}
    if options.validate:
        train, valid = rf.splits.random(data.train, 0.2, random_state=0)
        rf.TwoTower(**parameters, random_state=0).fit(train, eval_set=valid, callbacks=[rf.LogEvaluation(every=2)])
        return
    found, seconds = [], []
    for seed in range(options.seeds):
        model, start = rf.TwoTower(**parameters, random_state=seed), time.perf_counter()
        model.fit(data.train)
        seconds.append(time.perf_counter() - start)
        found.append(measured(model, data.train, data.test))
        print(harness.seed_line("two towers", seed, found[-1], seconds[-1]), flush=True)
    figures = {"recsys_fast": harness.over_seeds(found, seconds, PUBLISHED)}
    report.add("two towers, gowalla", figures, f"{options.seeds} seeds", of_data=False)
    report.finish()


def parted(matrix: Any, rng: np.random.Generator, share: float) -> tuple[Any, Any]:
    """Return two matrices: a share of the interactions is in the second one."""
    whole = sp.coo_array(matrix)
    held = rng.random(whole.nnz) < share
    return tuple(
        sp.csr_array((np.ones(part.sum(), np.float32), (whole.row[part], whole.col[part])), shape=whole.shape)
        for part in (~held, held)
    )


def of_items(matrix: Any, kept: np.ndarray[Any, Any]) -> Any:
    """Return a matrix without the interactions of items that are not ``kept``."""
    part = sp.csr_array(matrix @ sp.diags_array(kept * 1.0), dtype=np.float32)
    part.eliminate_zeros()
    return part


def citeulike() -> tuple[Any, Any]:
    """Return interactions, and for every item the logarithms of its words' counts times their rarity, of length 1."""
    data = rf.datasets.load("citeulike-t")
    extras = data.extras
    shape = (data.interactions.n_items, int(extras["text_words"].max()) + 1)
    counts = sp.csr_array(
        (extras["text_counts"].astype(np.float32), extras["text_words"], extras["text_row_ptr"]), shape
    )
    return sp.csr_array(data.interactions.csr), tf_idf(counts)


def tf_idf(counts: Any) -> Any:
    rarity = np.log(counts.shape[0] / np.maximum(1, np.bincount(counts.indices, minlength=counts.shape[1])))
    values = np.log1p(counts.data) * rarity[counts.indices]
    weighted = sp.csr_array((values.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)
    lengths = np.sqrt(weighted.multiply(weighted).sum(axis=1))
    return sp.csr_array(sp.diags_array(1.0 / np.maximum(lengths, 1e-9)) @ weighted, dtype=np.float32)


def ml_1m() -> tuple[Any, Any]:
    """Return interactions, and for every item its genres, decade, and the words of its title."""
    data = rf.datasets.load("ml-1m")
    table = data.extras["item_table"]
    genres = many_hot([str(text).replace("|", " ") for text in table["genres"]])
    years = np.array([int(text) // 10 if str(text).isdigit() else 0 for text in table["year"]])
    words = sp.csr_array(many_hot([str(text).lower() for text in table["title"]]))
    common = np.bincount(words.indices, minlength=words.shape[1]) >= 3
    features = sp.hstack([genres, one_hot(years), words[:, np.flatnonzero(common)]], format="csr", dtype=np.float32)
    return sp.csr_array(data.interactions.csr), features


COLD = {"citeulike-t": (citeulike, CITEULIKE), "ml-1m": (ml_1m, ML_1M)}


def contestants(name: str, options: argparse.Namespace, seed: int, features: Any) -> dict[str, Any]:
    """Return, by name, models that are not fitted, each with what its fit takes besides interactions."""
    parameters, given = {**COLD[name][1], **dict(options.set)}, {"item_features": features}
    plain = {**parameters, "id_dropout": 0.0}
    return {
        "ContentKNN": (rf.ContentKNN(200), given),
        "TwoTower": (rf.TwoTower(**parameters, random_state=seed), given),
        "TwoTower without features": (rf.TwoTower(**plain, random_state=seed), {}),
        "Popularity": (rf.Popularity(), {}),
    }


def cold(options: argparse.Namespace) -> None:
    """Hold a tenth of the items out, and rank them by what describes them."""
    report = harness.Report(options)
    for name in options.names:
        matrix, features = COLD[name][0]()
        found: dict[str, list[dict[str, float]]] = {}
        spent: dict[str, list[float]] = {}
        for seed in range(options.seeds):
            rng = np.random.default_rng(seed)
            held = rng.permutation(matrix.shape[1]) % 10 == 0
            test, known = (of_items(matrix, kept) for kept in (held, ~held))
            train, warm = parted(known, rng, 0.2)
            chance = {"cold recall@20": 20 / held.sum()}
            print(f"{name}, seed {seed}: {held.sum()} cold items", flush=True)
            for label, (model, given) in contestants(name, options, seed, features).items():
                start = time.perf_counter()
                model.fit(train, **given)
                spent.setdefault(label, []).append(time.perf_counter() - start)
                numbers = measured(model, train, warm, "warm ")
                numbers |= among(model, test, np.flatnonzero(held)) if given else chance
                found.setdefault(label, []).append(numbers)
                print(harness.seed_line(label, seed, numbers, spent[label][-1]), flush=True)
        for label, numbers_of_seeds in found.items():
            figures = {"recsys_fast": harness.over_seeds(numbers_of_seeds, spent[label])}
            report.add(f"{label}, {name}", figures, f"{options.seeds} seeds", of_data=False)
    report.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["gowalla", "cold"])
    parser.add_argument("--data", dest="names", nargs="+", default=list(COLD), choices=list(COLD))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--validate", action="store_true", help="gowalla: on a fifth of the training part")
    parser.add_argument("--set", nargs="*", type=harness.setting, default=[], metavar="PARAMETER=VALUE")
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json")
    options = parser.parse_args()
    gowalla(options) if options.work == "gowalla" else cold(options)


if __name__ == "__main__":
    main()
