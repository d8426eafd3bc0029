"""Rows of features for benchmarks of factorization machines: Frappe, and MovieLens-100K with its side tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

import recsys_fast as rf


class Table(NamedTuple):
    """Rows, targets, and the field of each column."""

    x: sp.csr_array
    y: np.ndarray[Any, Any]
    fields: np.ndarray[Any, Any]


def frappe() -> dict[str, Table]:
    """Return the parts "train", "valid" and "test": ten one-hot fields per row, targets 0 and 1."""
    extras = rf.datasets.load("frappe").extras
    n_features = int(extras["n_features"])
    fields = np.searchsorted(extras["field_base"], np.arange(n_features), side="right") - 1
    parts = {}
    for name in ("train", "valid", "test"):
        ids = extras[f"X_{name}"]
        n, width = ids.shape
        ones = np.ones(ids.size, np.float32)
        x = sp.csr_array((ones, ids.ravel(), np.arange(n + 1) * width), shape=(n, n_features))
        parts[name] = Table(x, (extras[f"y_{name}"] > 0).astype(np.float32), fields)
    return parts


def one_hot(values: Any, missing: Any = None) -> np.ndarray[Any, Any]:
    """Return a column per distinct value; rows of the missing one are empty."""
    names, place = np.unique(np.asarray(values), return_inverse=True)
    hot = np.eye(len(names), dtype=np.float32)[place]
    return hot if missing is None else hot[:, names != missing]


def many_hot(texts: Any) -> np.ndarray[Any, Any]:
    """Return a column per distinct word; a row's words share the weight 1."""
    words = [str(text).split() for text in texts]
    names = {name: place for place, name in enumerate(sorted({word for row in words for word in row}))}
    hot = np.zeros((len(words), len(names)), np.float32)
    for row, own in enumerate(words):
        for word in own:
            hot[row, names[word]] = 1.0 / np.sqrt(len(own))
    return hot


def ml_100k() -> Table:
    """Return the ratings with user, item, gender, age group, occupation, region, release decade and genres."""
    data = rf.datasets.load("ml-100k")
    matrix = data.interactions.csr.tocoo()
    users, items = data.extras["user_table"], data.extras["item_table"]
    age = np.digitize(users["age"].astype(float), [18, 25, 35, 45, 50, 56])
    region = np.array([str(code)[:1] for code in users["zip"]])
    years = [str(year)[:4] for year in items["year"]]
    year = np.array([int(text) // 5 if text.isdigit() else 0 for text in years])
    of_users = [one_hot(users["gender"]), one_hot(age), one_hot(users["occupation"]), one_hot(region)]
    of_items = [one_hot(np.maximum(year, 1970 // 5)), many_hot(items["genres"])]
    blocks = [sp.eye_array(matrix.shape[0]).tocsr()[matrix.row], sp.eye_array(matrix.shape[1]).tocsr()[matrix.col]]
    blocks += [sp.csr_array(block)[matrix.row] for block in of_users]
    blocks += [sp.csr_array(block)[matrix.col] for block in of_items]
    fields = np.repeat(np.arange(len(blocks)), [block.shape[1] for block in blocks])
    x = sp.csr_array(sp.hstack(blocks, format="csr", dtype=np.float32))
    return Table(x, matrix.data.astype(np.float32), fields)
