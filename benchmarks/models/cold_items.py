"""Data whose items are described, a tenth of them held out, and the comparison of models that rank these."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

import recsys_fast as rf
from benchmarks import harness
from benchmarks.models.fm_rows import many_hot, one_hot

Ints = np.ndarray[Any, Any]
METRICS = ("recall@20", "ndcg@20")


class Described(NamedTuple):
    """Interactions, and what is known of the items: weights of features, and words in order, the first ones first."""

    matrix: Any
    features: Any
    words: Any


class Held(NamedTuple):
    """Items in a new order, the held out ones last, and interactions of these and of the others.

    Attributes:
        train: four fifths of the interactions of the first ``n_warm`` items.
        warm: the other fifth.
        test: of the held out items.
        features, words: of all items.
        n_warm: number of the first held out item.
    """

    train: Any
    warm: Any
    test: Any
    features: Any
    words: Any
    n_warm: int

    @property
    def cold(self) -> Ints:
        """The items held out."""
        return np.arange(self.n_warm, self.train.shape[1])


#: fits, and returns what is to rank the warm items and what the cold ones; None for what cannot
Contestant = Callable[[], tuple[Any, Any]]


def hold_out(data: Described, seed: int) -> Held:
    """Return a tenth of the items held out with all of their interactions, and a fifth of the others' interactions."""
    rng = np.random.default_rng(seed)
    held = rng.permutation(data.matrix.shape[1]) % 10 == 0
    order, n_warm = np.argsort(held, kind="stable"), int((~held).sum())
    matrix = sp.csr_array(sp.csc_array(data.matrix)[:, order])
    known, test = (_part(matrix, part) for part in (matrix.indices < n_warm, matrix.indices >= n_warm))
    fifth = rng.random(known.nnz) < 0.2
    return Held(
        _part(known, ~fifth), _part(known, fifth), test, data.features[order], data.words.take(order), n_warm
    )  # fmt: skip


def _part(matrix: Any, kept: Ints) -> Any:
    whole = sp.coo_array(matrix)
    return sp.csr_array(
        (np.ones(int(kept.sum()), np.float32), (whole.row[kept], whole.col[kept])), shape=matrix.shape
    )  # fmt: skip


def measured(model: Any, train: Any, test: Any, which: str = "") -> dict[str, float]:
    """Return recall and NDCG of a model over its items, their names with ``which`` before them."""
    n_items = model.training_matrix_.n_cols
    parts = (sp.csr_array(sp.csc_array(part)[:, :n_items]) for part in (train, test))
    found = rf.evaluation.evaluate(model, *parts, ("recall", "ndcg"), (20,))
    return {f"{which}{metric}": float(found[metric]) for metric in METRICS}


def among(
    model: Any, test: Any, items: Ints, which: str = "cold ", n: int = 20, *, filter_seen: bool = False
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


def citeulike() -> Described:
    """Return articles by their words, of which the data set has counts and no order: the weightiest come last."""
    data = rf.datasets.load("citeulike-t")
    extras = data.extras
    shape = (data.interactions.n_items, int(extras["text_words"].max()) + 1)
    counts = sp.csr_array(
        (extras["text_counts"].astype(np.float32), extras["text_words"], extras["text_row_ptr"]), shape
    )
    weights = tf_idf(counts)
    return Described(sp.csr_array(data.interactions.csr), weights, by_weight(weights, 100))


def tf_idf(counts: Any) -> Any:
    """Return logarithms of counts times the rarity of the word, rows of length 1."""
    rarity = np.log(counts.shape[0] / np.maximum(1, np.bincount(counts.indices, minlength=counts.shape[1])))
    values = np.log1p(counts.data) * rarity[counts.indices]
    weighted = sp.csr_array((values.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)
    lengths = np.sqrt(weighted.multiply(weighted).sum(axis=1))
    return sp.csr_array(sp.diags_array(1.0 / np.maximum(lengths, 1e-9)) @ weighted, dtype=np.float32)


def by_weight(features: Any, most: int) -> rf.Sequences:
    """Return each item's weightiest features, the weightiest last."""
    lists = []
    for begin, end in zip(features.indptr[:-1], features.indptr[1:], strict=True):
        order = np.argsort(features.data[begin:end], kind="stable")[-most:]
        lists.append(features.indices[begin:end][order])
    return rf.Sequences(lists, n_items=features.shape[1])


def _in_order(encoder: Any, texts: list[str], most: int) -> rf.Sequences:
    rows = encoder.tokens(texts)
    lists = [row[:most] for row in np.split(rows.ids, rows.row_ptr[1:-1])]
    return rf.Sequences(lists, n_items=rows.n_tokens)


def ml_1m() -> Described:
    """Return films by genres, decade, and the words of their titles."""
    data = rf.datasets.load("ml-1m")
    table = data.extras["item_table"]
    kinds = [str(text).replace("|", " ") for text in table["genres"]]
    titles = [str(text).lower() for text in table["title"]]
    years = np.array([int(text) // 10 if str(text).isdigit() else 0 for text in table["year"]])
    words = sp.csr_array(many_hot(titles))
    common = np.bincount(words.indices, minlength=words.shape[1]) >= 3
    features = sp.hstack(
        [many_hot(kinds), one_hot(years), words[:, np.flatnonzero(common)]], format="csr", dtype=np.float32
    )
    texts = [f"{title} decade{year} {kind}" for title, year, kind in zip(titles, years, kinds, strict=True)]
    encoder = rf.data.TextEncoder(min_count=3).fit(texts)
    return Described(sp.csr_array(data.interactions.csr), features, _in_order(encoder, texts, 30))


def frappe() -> Described:
    """Return apps by category, name and description."""
    data = rf.datasets.load("frappe")
    table = data.extras["item_table"]
    texts = [
        " ".join(str(table[name][item]) for name in ("category", "name", "short desc", "description"))
        for item in range(data.interactions.n_items)
    ]
    encoder = rf.data.TextEncoder(min_count=3, max_share=0.2, idf=True, norm="l2").fit(texts)
    features = sp.hstack(
        [one_hot(table["category"]), sp.csr_array(encoder.transform(texts))], format="csr", dtype=np.float32
    )
    return Described(sp.csr_array(data.interactions.csr), features, _in_order(encoder, texts, 60))


DATA: dict[str, Callable[[], Described]] = {"citeulike-t": citeulike, "ml-1m": ml_1m, "frappe": frappe}


def compare(
    options: argparse.Namespace, contestants: Callable[[str, Held, int], dict[str, Contestant]]
) -> None:  # fmt: skip
    """Measure contestants on data sets with several seeds, and popularity and ContentKNN beside them.

    Args:
        options: ``names``, ``seeds``, and those of ``harness.Report``.
        contestants: by name, for a data set, its parts, and a seed.
    """
    report = harness.Report(options)
    for name in options.names:
        data = DATA[name]()
        found: dict[str, list[dict[str, float]]] = {}
        spent: dict[str, list[float]] = {}
        for seed in range(options.seeds):
            held = hold_out(data, seed)
            print(f"{name}, seed {seed}: {len(held.cold)} cold items", flush=True)
            for label, fit in {**_beside(held), **contestants(name, held, seed)}.items():
                start = time.perf_counter()
                warm, cold = fit()
                spent.setdefault(label, []).append(time.perf_counter() - start)
                # what knows nothing of them ranks cold items by chance
                numbers = {"cold recall@20": 20 / len(held.cold)} if cold is None else among(cold, held.test, held.cold)
                numbers |= measured(warm, held.train, held.warm, "warm ")
                found.setdefault(label, []).append(numbers)
                print(harness.seed_line(label, seed, numbers, spent[label][-1]), flush=True)
        for label, of_seeds in found.items():
            figures = {"recsys_fast": harness.over_seeds(of_seeds, spent[label])}
            report.add(f"{label}, {name}", figures, f"{options.seeds} seeds", of_data=False)
    report.finish()


def _beside(held: Held) -> dict[str, Contestant]:
    def popularity() -> tuple[Any, Any]:
        return rf.Popularity().fit(held.train), None

    def content_knn() -> tuple[Any, Any]:
        model = rf.ContentKNN(200).fit(held.train, item_features=held.features)
        return model, model

    return {"popularity": popularity, "ContentKNN": content_knn}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``compare`` wants of the command line."""
    parser.add_argument("--data", dest="names", nargs="+", default=list(DATA), choices=list(DATA), help="cold")
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json")
