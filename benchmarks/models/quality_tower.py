"""Quality of TwoTower: on Gowalla from ids, and on items that nobody has interacted with from their features alone.

python -m benchmarks.models.quality_tower gowalla --seeds 3
python -m benchmarks.models.quality_tower cold --data citeulike-t ml-1m --seeds 3

"gowalla": Recall@20 and NDCG@20 of the test part, all items ranked. "cold": a tenth of the items is held out with all
of its interactions, and ranked among itself for the users who have some of them: TwoTower with texts (citeulike-t) or
genres, words of the title and decade (ml-1m), beside ContentKNN and popularity, which knows nothing of these items and
ranks them by chance: the recall of a random order is printed. "warm" is the ranking of a held-out fifth of the other
interactions, with features and without.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import scipy.sparse as sp

import recsys_fast as rf
from benchmarks.models.fm_rows import many_hot, one_hot

# Not searched yet: the rate is the better one of .003 and .01 on a part of the users.
GOWALLA: dict[str, Any] = {
    "n_factors": 64, "batch_size": 4096, "learning_rate": 0.01, "temperature": 0.12, "n_epochs": 40,
    "schedule": "linear",
}  # fmt: skip
CITEULIKE: dict[str, Any] = {
    "n_factors": 128, "batch_size": 2048, "learning_rate": 0.003, "temperature": 0.12, "id_dropout": 0.5,
    "n_epochs": 20, "schedule": "linear",
}  # fmt: skip
ML_1M: dict[str, Any] = {**CITEULIKE, "n_factors": 64, "batch_size": 4096, "n_epochs": 8}


def measured(model: Any, train: Any, test: Any) -> str:
    found = rf.evaluation.evaluate(model, train, test, ("recall", "ndcg"), (20,))
    return f"recall@20 {found['recall@20']:.4f}, ndcg@20 {found['ndcg@20']:.4f}"


def among(model: Any, test: Any, items: np.ndarray[Any, Any], n: int = 20, *, filter_seen: bool = False) -> str:
    """Return recall and NDCG of the users' test items where nothing but ``items`` is ranked."""
    users = np.flatnonzero(np.diff(test.indptr))
    ids = model.recommend(users, n=n, include=items, filter_seen=filter_seen).ids
    discount = 1.0 / np.log2(np.arange(2, n + 2))
    recall, ndcg = np.zeros(len(users)), np.zeros(len(users))
    for place, user in enumerate(users):
        own = test.indices[test.indptr[user] : test.indptr[user + 1]]
        hit = np.isin(ids[place], own)
        recall[place], ndcg[place] = hit.sum() / len(own), (hit * discount).sum() / discount[: len(own)].sum()
    return f"recall@20 {recall.mean():.4f}, ndcg@20 {ndcg.mean():.4f}"


def gowalla(options: argparse.Namespace) -> None:
    """Fit on the training part with several seeds, and measure on the test part (``--validate``: on a fifth of the
    training part)."""
    data = rf.datasets.load("gowalla")
    train, test = data.train, data.test
    if options.validate:
        train, test = parted(sp.csr_array(data.train.csr), np.random.default_rng(0), 0.2)
    for seed in range(options.seeds):
        model = rf.TwoTower(**GOWALLA, random_state=seed)
        model.set_params(**dict(options.set))
        start = time.perf_counter()
        model.fit(train)
        seconds = time.perf_counter() - start
        print(f"{model}: {measured(model, train, test)}, {seconds:.0f} s", flush=True)


def parted(matrix: Any, rng: np.random.Generator, share: float) -> tuple[Any, Any]:
    """Return two matrices: a share of the interactions is in the second one."""
    whole = sp.coo_array(matrix)
    held = rng.random(whole.nnz) < share
    return tuple(
        sp.csr_array((np.ones(part.sum(), np.float32), (whole.row[part], whole.col[part])), shape=whole.shape)
        for part in (~held, held)
    )


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


def cold(options: argparse.Namespace) -> None:
    """Hold a tenth of the items out, and rank them by what describes them."""
    for name in options.data:
        load, params = COLD[name]
        matrix, features = load()
        for seed in range(options.seeds):
            rng = np.random.default_rng(seed)
            held = rng.permutation(matrix.shape[1]) % 10 == 0
            hidden, known = matrix @ sp.diags_array(held * 1.0), matrix @ sp.diags_array(1.0 - held)
            test = sp.csr_array(hidden, dtype=np.float32)
            test.eliminate_zeros()
            known = sp.csr_array(known, dtype=np.float32)
            known.eliminate_zeros()
            train, warm = parted(known, rng, 0.2)
            chance = 20 / held.sum()
            print(f"{name}, seed {seed}: {held.sum()} cold items, by chance recall@20 {chance:.4f}", flush=True)
            cold_items = np.flatnonzero(held)
            models: dict[str, tuple[Any, dict[str, Any]]] = {
                "ContentKNN": (rf.ContentKNN(200), {"item_features": features}),
                "TwoTower": (
                    rf.TwoTower(**params, random_state=seed).set_params(**dict(options.set)),
                    {"item_features": features},
                ),
                "TwoTower without features": (
                    rf.TwoTower(**{**params, "id_dropout": 0.0}, random_state=seed).set_params(**dict(options.set)), {},
                ),
                "Popularity": (rf.Popularity(), {}),
            }  # fmt: skip
            for label, (model, given) in models.items():
                start = time.perf_counter()
                model.fit(train, **given)
                seconds = time.perf_counter() - start
                line = f"  {label}: warm {measured(model, train, warm)}"
                if given:
                    line += f"; cold {among(model, test, cold_items)}"
                print(f"{line}; {seconds:.0f} s", flush=True)


def setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, {"True": True, "False": False}.get(value, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["gowalla", "cold"])
    parser.add_argument("--data", nargs="+", default=list(COLD), choices=list(COLD))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--validate", action="store_true", help="gowalla: on a fifth of the training part")
    parser.add_argument("--set", nargs="*", type=setting, default=[], metavar="PARAMETER=VALUE")
    options = parser.parse_args()
    gowalla(options) if options.work == "gowalla" else cold(options)


if __name__ == "__main__":
    main()
