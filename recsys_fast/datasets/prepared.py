"""Readers of the prepared npz forms, one per data set."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.datasets import build, text
from recsys_fast.datasets.locate import Place
from recsys_fast.datasets.npz import Npz, Ragged
from recsys_fast.errors import message

FRAPPE_FIELDS = ("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")


def _table(place: Place, file: str, **renamed: str) -> dict[str, NDArray[Any]]:
    """Return a side table with columns renamed (new=old), its id column left out: rows are in the order of ids."""
    columns = text.table(place, file)
    table = {new: columns[old] for new, old in renamed.items() if old in columns}
    if len(table) < len(renamed):
        raise ValueError(message(f"columns of {file} in {place}", list(columns), f"{list(renamed.values())} too"))
    return table


def _gowalla(place: Place) -> dict[str, Any]:
    train, test = Npz(place, "gowalla_train.npz"), Npz(place, "gowalla_test.npz")
    n_users, n_items = (int(extent) for extent in train.array("shape", length=2))
    lists = (file.ragged("indptr", "indices", n_items, n_users) for file in (train, test))
    return dict(zip(("train", "test"), map(build.sets, lists), strict=True))


def _rating_columns(npz: Npz) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[Any]]:
    users = npz.ids("user")
    return users, npz.ids("item", length=len(users)), npz.array("rating", "iuf", length=len(users)).astype(np.float32)


def _ml_100k(place: Place) -> dict[str, Any]:
    npz = Npz(place, "ml100k_ratings.npz")
    users, items, values = _rating_columns(npz)
    masks = {}
    if place.has("ml100k_splits.npz"):
        splits = Npz(place, "ml100k_splits.npz")
        masks = {key: splits.array(key, length=len(users)) > 0 for key in ("u1_test", "ua_test")}
    parts = build.ratings(users, items, values, npz.array("timestamp", length=len(users)), per_entry=masks)
    if place.has("ml100k_item.csv"):
        columns = {"title": "movie_title", "year": "release_year", "genres": "class"}
        parts["extras"]["item_table"] = _table(place, "ml100k_item.csv", **columns)
    if place.has("ml100k_user.csv"):
        columns = {"age": "age", "gender": "gender", "occupation": "occupation", "zip": "zip_code"}
        parts["extras"]["user_table"] = _table(place, "ml100k_user.csv", **columns)
    return parts


def _ml_1m(place: Place) -> dict[str, Any]:
    npz = Npz(place, "ml1m_ratings.npz")
    users, items, values = _rating_columns(npz)
    times, ranks = npz.array("timestamp", length=len(users)), npz.array("time_rank", length=len(users))
    parts = build.ratings(users, items, values, times, per_entry={"time_rank": ranks.astype(np.int32)})
    if place.has("ml1m_item.csv"):
        table, n_items = text.table(place, "ml1m_item.csv"), parts["interactions"].n_items
        parts["extras"]["item_table"] = text.spread(place, "ml1m_item.csv", table, "item", n_items)
    if place.has("ml1m_user.csv"):
        columns = {name: name for name in ("gender", "age", "occupation", "zip")}
        parts["extras"]["user_table"] = _table(place, "ml1m_user.csv", **columns)
    return parts


def _ml_1m_ncf(place: Place) -> dict[str, Any]:
    ratings, split = Npz(place, "ml1m_ratings.npz"), Npz(place, "ml1m_ncf_split.npz")
    users, items, _ = _rating_columns(ratings)
    times = ratings.array("timestamp", length=len(users)).astype(np.int64)
    item_orig = split.ids("item_raw")
    n_items, dense = len(item_orig), np.full(int(item_orig.max(initial=0)) + 1, -1, np.int32)
    dense[item_orig] = np.arange(n_items, dtype=np.int32)
    if int(items.max(initial=-1)) + 1 >= len(dense) or (dense[items + 1] < 0).any():
        raise ValueError(message(f"{split.name} does not number every item of {ratings.name}"))
    items = dense[items + 1]  # ratings hold raw ids minus 1
    test_items = split.ids("test_item", n_items)
    n_users = len(test_items)
    if len(users) and int(users.max()) >= n_users:
        raise ValueError(message(f"users of {ratings.name}", int(users.max()) + 1, f"{n_users} as in {split.name}"))
    held_out = items == test_items[users]
    if int(held_out.sum()) != n_users:
        raise ValueError(message(f"test pairs of {split.name} in {ratings.name}", int(held_out.sum()), f"{n_users}"))
    negatives = split.array("neg99", ndim=2, length=n_users).astype(np.int32)
    shape = (n_users, n_items)
    return {
        "train": build.matrix(users[~held_out], items[~held_out], shape, timestamps=times[~held_out]),
        "test": build.matrix(users[held_out], items[held_out], shape, timestamps=times[held_out]),
        "extras": {"negatives": negatives, "item_orig": item_orig.astype(np.int64)},
    }


def _sequences(file: str, attributes: str | None = None) -> Callable[[Place], dict[str, Any]]:
    def read(place: Place) -> dict[str, Any]:
        npz = Npz(place, file)
        n_items = npz.number("n_items")
        lists = npz.ragged("indptr", "indices", n_items)
        parts = build.leave_one_out(lists)
        extras = parts["extras"]
        for raw, orig, n in (("raw_user", "user_orig", lists.n_rows), ("raw_item", "item_orig", n_items)):
            if raw in npz:
                extras[orig] = npz.array(raw, length=n).astype(np.int64)
        if attributes and place.has(attributes):
            given = Npz(place, attributes)
            extras |= build.attributes(given.ragged("indptr", "indices", given.number("n_attr"), n_items))
        return parts

    return read


def _sessions(stem: str) -> Callable[[Place], dict[str, Any]]:
    def read(place: Place) -> dict[str, Any]:
        train, test = Npz(place, f"{stem}_train.npz"), Npz(place, f"{stem}_test.npz")
        n_items = train.number("n_items")
        lists: list[Ragged] = [npz.ragged("indptr", "indices", n_items) for npz in (train, test)]
        parts = build.sessions(*lists)
        if "item_orig" in train:
            parts["extras"]["item_orig"] = train.array("item_orig", length=n_items).astype(np.int64)
        return parts

    return read


def _frappe(place: Place) -> dict[str, Any]:
    extras: dict[str, Any] = {"fields": np.array(FRAPPE_FIELDS)}
    interactions = None
    if place.has("frappe_raw.npz"):
        npz = Npz(place, "frappe_raw.npz")
        log = npz.array("X", ndim=2).astype(np.int32)
        if log.shape[1] != len(FRAPPE_FIELDS):
            raise ValueError(message(f"columns of X in {npz.name}", log.shape[1], str(len(FRAPPE_FIELDS))))
        parts = build.context_log(log, npz.array("cnt", length=len(log)))
        interactions = parts["interactions"]
        extras |= parts["extras"]
    if place.has("frappe_fm.npz"):
        npz = Npz(place, "frappe_fm.npz")
        samples = {}
        for part in ("train", "valid", "test"):
            x = npz.array(f"X_{part}", ndim=2).astype(np.int32)
            samples[part] = (x, npz.array(f"y_{part}", length=len(x)).astype(np.int8))
        extras |= build.labelled(samples, npz.array("field_base", length=x.shape[1]), npz.number("n_features"))
        interactions = interactions or build.used_pairs(extras)
    if place.has("frappe_field_values.csv"):
        extras["field_values"] = text.table(place, "frappe_field_values.csv")
    if place.has("frappe_item_meta.tsv.gz"):
        try:
            data = gzip.decompress(place.read("frappe_item_meta.tsv.gz"))
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(message(f"frappe_item_meta.tsv.gz in {place} is damaged ({error})")) from error
        table = text.table(place, "frappe_item_meta.tsv.gz", separator="\t", data=data)
        extras["item_table"] = {name: column for name, column in table.items() if name != "item"}
    return {"interactions": interactions, "extras": extras}


def _citeulike_t(place: Place) -> dict[str, Any]:
    npz = Npz(place, "citeulike_t.npz")
    n_items = npz.number("n_items")
    lists = npz.ragged("indptr", "indices", n_items)
    everything = build.sets(lists)
    extras: dict[str, Any] = {}
    keys = everything.rows().astype(np.int64) * n_items + everything.col_idx
    for draw in ("P1", "P10"):
        train = npz.ragged(f"{draw}_train_indptr", f"{draw}_train_indices", n_items, lists.n_rows)
        extras[f"{draw.lower()}_test"] = ~np.isin(keys, train.rows() * n_items + train.ids)
    if place.has("citeulike_t_text.npz"):
        words = Npz(place, "citeulike_t_text.npz")
        bags = words.ragged("indptr", "indices", words.number("n_words"), n_items)
        counts = words.array("counts", length=len(bags.ids)).astype(np.int32)
        extras |= {"text_row_ptr": bags.row_ptr, "text_words": bags.ids, "text_counts": counts}
    if place.has("citeulike_t_vocab.txt"):
        extras["vocabulary"] = text.lines(place, "citeulike_t_vocab.txt")
    return {"interactions": everything, "extras": extras}


def _hetrec_lastfm(place: Place) -> dict[str, Any]:
    npz = Npz(place, "hetrec_lastfm.npz")
    orig = {"user_orig": npz.array("user_orig").astype(np.int64), "item_orig": npz.array("item_orig").astype(np.int64)}
    shape = (len(orig["user_orig"]), len(orig["item_orig"]))
    users = npz.ids("user", shape[0])
    items = npz.ids("item", shape[1], len(users))
    parts = build.ratings(users, items, npz.array("weight", length=len(users)), shape=shape)
    parts["extras"] |= orig
    return parts


def _ml_latest_small(place: Place) -> dict[str, Any]:
    npz = Npz(place, "ml_latest_small.npz")
    users, items, values = _rating_columns(npz)
    orig = npz.array("item_orig").astype(np.int64)
    shape = (int(users.max(initial=-1)) + 1, len(orig))
    parts = build.ratings(users, items, values, npz.array("timestamp", length=len(users)), shape=shape)
    parts["extras"]["item_orig"] = orig
    return parts


def _douban(place: Place) -> dict[str, Any]:
    npz = Npz(place, "monti_douban.npz")
    shape = (int(npz.array("shape", length=2)[0]), int(npz.array("shape", length=2)[1]))
    parts: dict[str, Any] = {"extras": {}}
    for part in ("train", "test"):
        users = npz.ids(f"{part}_user", shape[0])
        items = npz.ids(f"{part}_item", shape[1], len(users))
        parts[part] = build.matrix(users, items, shape, npz.array(f"{part}_rating", "iuf", length=len(users)))
    if "W_users_src" in npz and "W_users_dst" in npz:
        source = npz.ids("W_users_src", shape[0])
        parts["extras"]["user_graph"] = np.stack([source, npz.ids("W_users_dst", shape[0], len(source))])
    return parts


def _jester(place: Place) -> dict[str, Any]:
    parts = build.ratings(*_rating_columns(Npz(place, "jester5k.npz")))
    if place.has("jester5k_jokes.csv"):
        parts["extras"]["item_table"] = _table(place, "jester5k_jokes.csv", text="text")
    return parts


READERS: dict[str, Callable[[Place], dict[str, Any]]] = {
    "gowalla": _gowalla,
    "ml-100k": _ml_100k,
    "ml-1m": _ml_1m,
    "ml-1m-ncf": _ml_1m_ncf,
    "ml-1m-sasrec": _sequences("ml1m_sasrec_seq.npz"),
    "ml-latest-small": _ml_latest_small,
    "beauty": _sequences("s3rec_beauty_seq.npz", "s3rec_beauty_attr.npz"),
    "toys": _sequences("s3rec_toys_and_games_seq.npz", "s3rec_toys_and_games_attr.npz"),
    "yelp": _sequences("s3rec_yelp_seq.npz", "s3rec_yelp_attr.npz"),
    "beauty-bert4rec": _sequences("bert4rec_beauty_seq.npz"),
    "diginetica": _sessions("diginetica"),
    "yoochoose-1-64": _sessions("yoochoose1_64"),
    "frappe": _frappe,
    "citeulike-t": _citeulike_t,
    "hetrec-lastfm": _hetrec_lastfm,
    "douban": _douban,
    "jester": _jester,
}
