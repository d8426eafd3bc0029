"""Readers of the forms in which the data sets are published, one per data set."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.datasets import build, clicks, text
from recsys_fast.datasets.locate import Place
from recsys_fast.datasets.npz import Ragged
from recsys_fast.datasets.prepared import FRAPPE_FIELDS
from recsys_fast.errors import message

_ML_100K_GENRES = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]  # fmt: skip
_YEAR = re.compile(r"^(.*?)\s*\((\d{4})\)\s*$")


def _gowalla(place: Place) -> dict[str, Any]:
    lines = [text.keyed_lists(place, file) for file in ("train.txt", "test.txt")]
    n_users = max(int(keys.max()) for keys, _, _ in lines) + 1
    train, test = (text.by_key(*parts, n_users) for parts in lines)
    n_items = max(train.n_ids, test.n_ids)
    return {"train": build.sets(train._replace(n_ids=n_items)), "test": build.sets(test._replace(n_ids=n_items))}


def _rating_table(place: Place, file: str, separator: str | None, skip: int = 0) -> list[NDArray[Any]]:
    """Return user, item (as in the file), rating and time of a table of ratings."""
    users, items, values, times = text.numbers(place, file, (0, 1, 2, 3), separator, skip)
    ids = [text.whole(place, file, column, first=0, skip=skip) for column in (users, items, times)]
    return [ids[0], ids[1], values.astype(np.float32), ids[2]]


def _from_one(place: Place, file: str, *columns: NDArray[Any]) -> list[NDArray[Any]]:
    """Return ids counted from 0 of ids counted from 1."""
    return [text.whole(place, file, column.astype(np.float64), first=1) - 1 for column in columns]


def _split_years(table: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return a film table whose titles "Name (1995)" became columns title and year."""
    matches = [_YEAR.match(title) for title in table["title"]]
    titles = [match[1] if match else title for match, title in zip(matches, table["title"], strict=True)]
    years = [match[2] if match else "" for match in matches]
    return {"title": np.array(titles), "year": np.array(years), **{k: v for k, v in table.items() if k != "title"}}


def _ml_100k(place: Place) -> dict[str, Any]:
    users, items, values, times = _rating_table(place, "u.data", "\t")
    users, items = _from_one(place, "u.data", users, items)
    keys = users * (int(items.max()) + 1) + items
    masks = {}
    for split in ("u1", "ua"):
        if place.has(file := f"{split}.test"):
            test_users, test_items = _from_one(place, file, *_rating_table(place, file, "\t")[:2])
            masks[f"{split}_test"] = np.isin(keys, test_users * (int(items.max()) + 1) + test_items)
    parts = build.ratings(users, items, values, times, per_entry=masks)
    n_users, n_items = parts["interactions"].shape
    if place.has("u.item"):
        names = ["item", "title", "date", "video_date", "url", *_ML_100K_GENRES]
        table = text.table(place, "u.item", separator="|", names=names, encoding="latin-1")
        flags = np.stack([table.pop(genre) == "1" for genre in _ML_100K_GENRES], axis=1)
        genres = [" ".join(np.array(_ML_100K_GENRES)[row]) for row in flags]
        chosen = {"item": table["item"], "title": table["title"], "genres": np.array(genres)}
        parts["extras"]["item_table"] = _split_years(text.spread(place, "u.item", chosen, "item", n_items, 1))
    if place.has("u.user"):
        table = text.table(place, "u.user", separator="|", names=("user", "age", "gender", "occupation", "zip"))
        parts["extras"]["user_table"] = text.spread(place, "u.user", table, "user", n_users, 1)
    return parts


def _ml_1m(place: Place) -> dict[str, Any]:
    users, items, values, times = _rating_table(place, "ratings.dat", "::")
    users, items = _from_one(place, "ratings.dat", users, items)
    order = np.lexsort((times, users))
    starts = np.searchsorted(users[order], users[order])
    ranks = np.empty(len(users), np.int32)
    ranks[order] = np.arange(len(users)) - starts
    parts = build.ratings(users, items, values, times, per_entry={"time_rank": ranks})
    n_users, n_items = parts["interactions"].shape
    if place.has("movies.dat"):
        columns = ("item", "title", "genres")
        table = text.table(place, "movies.dat", separator="::", names=columns, encoding="latin-1")
        parts["extras"]["item_table"] = _split_years(text.spread(place, "movies.dat", table, "item", n_items, 1))
    if place.has("users.dat"):
        table = text.table(place, "users.dat", separator="::", names=("user", "gender", "age", "occupation", "zip"))
        parts["extras"]["user_table"] = text.spread(place, "users.dat", table, "user", n_users, 1)
    return parts


def _ml_1m_ncf(place: Place) -> dict[str, Any]:
    train, test = (_rating_table(place, f"ml-1m.{part}.rating", "\t") for part in ("train", "test"))
    file = "ml-1m.test.negative"  # lines "(user,item) negative negative ..."
    bare = place.read(file).replace(b"(", b" ").replace(b")", b" ").replace(b",", b" ")
    rows = [line.split() for line in bare.splitlines() if line.strip()]
    if len(rows) != len(test[0]):
        raise ValueError(message(f"lines of {file} in {place}", len(rows), f"one per test pair, {len(test[0])}"))
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]) or not all(token.isdigit() and len(token) < 10 for token in row):
            text.fail(place, file, number, f"{len(row)} entries", f"{len(rows[0])} ids as in the first line")
    table = np.array(rows, dtype=bytes).astype(np.int32)
    if not np.array_equal(table[:, 0], test[0]) or not np.array_equal(table[:, 1], test[1]):
        raise ValueError(message(f"pairs of {file} in {place} are not those of ml-1m.test.rating, in its order"))
    n_users = int(max(train[0].max(), test[0].max())) + 1
    n_items = int(max(train[1].max(), test[1].max(), table[:, 2:].max(initial=0))) + 1
    if not np.array_equal(test[0], np.arange(n_users)):
        raise ValueError(message(f"users of ml-1m.test.rating in {place}", expected="each user once, in order"))
    matrices = [build.matrix(part[0], part[1], (n_users, n_items), timestamps=part[3]) for part in (train, test)]
    return {"train": matrices[0], "test": matrices[1], "extras": {"negatives": np.ascontiguousarray(table[:, 2:])}}


def _ml_latest_small(place: Place) -> dict[str, Any]:
    users, raw, values, times = _rating_table(place, "ratings.csv", ",", skip=1)
    (users,) = _from_one(place, "ratings.csv", users)
    orig, items = np.unique(raw, return_inverse=True)
    shape = (int(users.max()) + 1, len(orig))
    parts = build.ratings(users, items.reshape(-1), values, times, shape=shape)
    parts["extras"]["item_orig"] = orig
    if place.has("movies.csv"):
        table = text.table(place, "movies.csv")
        row = {int(film): place for place, film in enumerate(table["movieId"])}
        at = [row.get(film, -1) for film in orig.tolist()]
        chosen = {name: np.where(np.array(at) < 0, "", table[name][at]) for name in ("title", "genres")}
        parts["extras"]["item_table"] = _split_years(chosen)
    return parts


def _user_item_lines(file: str) -> Callable[[Place], dict[str, Any]]:
    """Make a reader of lines "user item", both from 1, each user's lines in time order (SASRec, BERT4Rec)."""

    def read(place: Place) -> dict[str, Any]:
        columns = text.numbers(place, file, (0, 1))
        users, items = (text.whole(place, file, column, first=1) - 1 for column in columns)
        row_ptr = np.arange(len(users) + 1, dtype=np.int64)
        return build.leave_one_out(text.by_key(users, row_ptr, items, int(users.max()) + 1))

    return read


def _s3rec(name: str) -> Callable[[Place], dict[str, Any]]:
    """Make a reader of lines "user item item ...", all from 1, and the attributes of items as JSON."""

    def read(place: Place) -> dict[str, Any]:
        file = f"{name}.txt"
        keys, row_ptr, items = text.keyed_lists(place, file)
        keys, items = _from_one(place, file, keys, items)
        parts = build.leave_one_out(text.by_key(keys, row_ptr, items, int(keys.max()) + 1))
        if place.has(attributes := f"{name}_item2attributes.json"):
            parts["extras"] |= build.attributes(_attributes(place, attributes, parts["interactions"].n_items))
        return parts

    return read


def _attributes(place: Place, file: str, n_items: int) -> Ragged:
    """Read {"item": [attribute, ...], ...}, both from 1; items that no user has are left out."""
    try:
        table = {int(item) - 1: [int(a) - 1 for a in found] for item, found in json.loads(place.read(file)).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(message(f"{file} in {place} is not a map of item to attribute numbers ({error})")) from error
    rows = [table.get(item, []) for item in range(n_items)]
    ids = np.array([one for row in rows for one in row], np.int64)
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < 2**31 - 1:
        raise ValueError(message(f"attributes in {file} in {place}", int(ids.min()) + 1, "numbers of 1 or more"))
    row_ptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Ragged(row_ptr, ids.astype(np.int32), int(ids.max(initial=-1)) + 1)


def _frappe(place: Place) -> dict[str, Any]:
    extras: dict[str, Any] = {"fields": np.array(FRAPPE_FIELDS)}
    interactions = None
    if place.has("frappe.csv"):
        table = text.table(place, "frappe.csv", separator="\t")
        missing = [name for name in (*FRAPPE_FIELDS, "cnt") if name not in table]
        if missing:
            raise ValueError(message(f"columns of frappe.csv in {place}", list(table), f"{missing} too"))
        log = np.empty((len(table["cnt"]), len(FRAPPE_FIELDS)), np.int32)
        values: dict[str, list[Any]] = {"field": [], "id": [], "value": []}
        for place_, name in enumerate(FRAPPE_FIELDS):
            if name in ("user", "item"):
                log[:, place_] = _as_ids(place, "frappe.csv", table[name])
                continue
            distinct, first, codes = np.unique(table[name], return_index=True, return_inverse=True)
            by_first = np.argsort(first)  # numbered in order of first appearance
            log[:, place_] = np.argsort(by_first)[codes.reshape(-1)]
            values["field"] += [name] * len(distinct)
            values["id"] += [str(number) for number in range(len(distinct))]
            values["value"] += distinct[by_first].tolist()
        parts = build.context_log(log, _as_ids(place, "frappe.csv", table["cnt"]))
        interactions = parts["interactions"]
        extras |= {**parts["extras"], "field_values": {key: np.array(column) for key, column in values.items()}}
    files = {"train": "frappe.train.libfm", "valid": "frappe.validation.libfm", "test": "frappe.test.libfm"}
    if all(place.has(file) for file in files.values()):
        samples = {part: text.libfm(place, file) for part, file in files.items()}
        if len({x.shape[1] for x, _ in samples.values()}) > 1 or samples["train"][0].shape[1] < 2:
            got = {part: x.shape[1] for part, (x, _) in samples.items()}
            raise ValueError(
                message(f"fields of the libfm files in {place}", got, "the same number in all, 2 at least")
            )
        everything = np.concatenate([x for x, _ in samples.values()])
        base = everything.min(axis=0)
        if (np.diff(base) <= 0).any():
            what = f"first ids of the fields of the libfm files in {place}"
            raise ValueError(message(what, base.tolist(), "ids rising field by field"))
        extras |= build.labelled(samples, base, int(everything.max()) + 1)
        interactions = interactions or build.used_pairs(extras)
    return {"interactions": interactions, "extras": extras}


def _as_ids(place: Place, file: str, column: NDArray[Any]) -> NDArray[np.int32]:
    """Return a text column of whole numbers."""
    try:
        numbers = column.astype(np.float64)
    except ValueError as error:
        raise ValueError(message(f"{file} in {place}: {error}", expected="whole numbers")) from error
    return text.whole(place, file, numbers, skip=1).astype(np.int32)


def _citeulike_t(place: Place) -> dict[str, Any]:
    lists = text.counted_lists(place, "users.dat")
    bags = text.counted_lists(place, "mult.dat", pairs=True)
    n_items = max(lists.n_ids, bags.n_rows)
    row_ptr = np.concatenate([bags.row_ptr // 2, np.full(n_items - bags.n_rows, len(bags.ids) // 2)])
    extras = {"text_row_ptr": row_ptr, "text_words": bags.ids[::2].copy(), "text_counts": bags.ids[1::2].copy()}
    for file in ("vocabulary.dat", "vocab.dat"):
        if place.has(file):
            extras["vocabulary"] = text.lines(place, file)
            break
    return {"interactions": build.sets(lists._replace(n_ids=n_items)), "extras": extras}


def _hetrec_lastfm(place: Place) -> dict[str, Any]:
    file = "user_artists.dat"
    raw = [text.whole(place, file, column, skip=1) for column in text.numbers(place, file, (0, 1, 2), "\t", 1)]
    (user_orig, users), (item_orig, items) = (np.unique(ids, return_inverse=True) for ids in raw[:2])
    shape = (len(user_orig), len(item_orig))
    parts = build.ratings(users.reshape(-1), items.reshape(-1), raw[2], shape=shape)
    parts["extras"] |= {"user_orig": user_orig, "item_orig": item_orig}
    if place.has("artists.dat"):
        table = text.table(place, "artists.dat", separator="\t")
        names = dict(zip(table["id"].tolist(), table["name"].tolist(), strict=True))
        parts["extras"]["item_table"] = {"name": np.array([names.get(str(one), "") for one in item_orig.tolist()])}
    return parts


def _jester(place: Place) -> dict[str, Any]:
    table = text.table(place, "jester5k.csv")
    if not {"user", "item", "rating"} <= set(table):
        raise ValueError(message(f"columns of jester5k.csv in {place}", list(table), "user, item and rating"))
    _, first, codes = np.unique(table["user"], return_index=True, return_inverse=True)
    users = np.argsort(np.argsort(first))[codes.reshape(-1)]
    jokes = np.char.lstrip(table["item"], "j")
    (items,) = _from_one(place, "jester5k.csv", _as_ids(place, "jester5k.csv", jokes))
    try:
        values = table["rating"].astype(np.float32)
    except ValueError as error:
        raise ValueError(message(f"ratings of jester5k.csv in {place}: {error}", expected="numbers")) from error
    parts = build.ratings(users, items, values)
    parts["extras"]["user_orig"] = table["user"][np.sort(first)]
    return parts


READERS: dict[str, Callable[[Place], dict[str, Any]]] = {
    "gowalla": _gowalla,
    "ml-100k": _ml_100k,
    "ml-1m": _ml_1m,
    "ml-1m-ncf": _ml_1m_ncf,
    "ml-1m-sasrec": _user_item_lines("ml-1m.txt"),
    "ml-latest-small": _ml_latest_small,
    "beauty": _s3rec("Beauty"),
    "toys": _s3rec("Toys_and_Games"),
    "yelp": _s3rec("Yelp"),
    "beauty-bert4rec": _user_item_lines("beauty.txt"),
    "diginetica": clicks.diginetica,
    "yoochoose-1-64": clicks.yoochoose,
    "frappe": _frappe,
    "citeulike-t": _citeulike_t,
    "hetrec-lastfm": _hetrec_lastfm,
    "jester": _jester,
}
