"""Filters and normalisations of an ``Interactions``; each returns a new one and writes into its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.assemble import check_choice
from recsys_fast.data.report import Step
from recsys_fast.errors import message

if TYPE_CHECKING:
    from recsys_fast.data.interactions import Interactions

NORMALIZATIONS = (
    "binary", "log1p", "tfidf", "bm25", "user_l2", "user_mean", "item_mean", "global_mean", "user_zscore",
)  # fmt: skip


def _reported(data: Interactions, step: Step) -> Interactions:
    """Write ``step`` into the report of ``data``, which was just made and which nobody else holds."""
    data.report = data.report.plus(step)
    return data


def threshold(data: Interactions, minimum: float) -> Interactions:
    """Return the entries with value >= minimum; without values every entry is 1.

    Raises:
        ValueError: ``minimum`` is not a finite number.
    """
    if not np.isfinite(minimum):
        raise ValueError(message("minimum", minimum, "a finite number"))
    mask = np.full(data.nnz, minimum <= 1) if data.values is None else data.values >= minimum
    step = Step("threshold", data.nnz - int(mask.sum()), note=f"values below {minimum:g}")
    return _reported(data.keep(mask), step)


def k_core(data: Interactions, min_user: int, min_item: int, compact: bool) -> Interactions:
    """Drop users with fewer than ``min_user`` entries and items with fewer than ``min_item`` until none is left.

    The largest such part of the data is unique, so the order of the drops does not matter.

    Raises:
        ValueError: a minimum is negative.
    """
    for name, minimum in (("min_user", min_user), ("min_item", min_item)):
        if isinstance(minimum, bool) or not isinstance(minimum, (int, np.integer)):
            raise TypeError(message(name, type(minimum).__name__, "an int"))
        if minimum < 0:
            raise ValueError(message(name, minimum, "at least 0"))
    rows, cols = data.rows(), data.col_idx
    place = np.arange(data.nnz, dtype=np.int64)
    rounds = 0
    while True:
        few_users = np.bincount(rows, minlength=data.n_users) < min_user
        few_items = np.bincount(cols, minlength=data.n_items) < min_item
        stays = ~(few_users[rows] | few_items[cols])
        if stays.all():
            break
        rounds += 1
        rows, cols, place = rows[stays], cols[stays], place[stays]
    mask = np.zeros(data.nnz, bool)
    mask[place] = True
    users, items = np.bincount(rows, minlength=data.n_users) > 0, np.bincount(cols, minlength=data.n_items) > 0
    left = data.keep(mask)
    if compact:
        left = left.select(users=users, items=items)
        gone = data.n_users - left.n_users, data.n_items - left.n_items
    else:
        had = int((data.user_counts > 0).sum()), int((data.item_counts > 0).sum())
        gone = had[0] - int(users.sum()), had[1] - int(items.sum())
    note = f"users with at least {min_user}, items with at least {min_item} entries; {rounds} rounds"
    return _reported(left, Step("k_core", data.nnz - left.nnz, *gone, note))


def compact(data: Interactions) -> Interactions:
    """Drop users and items without entries."""
    left = data.select(users=data.user_counts > 0, items=data.item_counts > 0)
    step = Step("compact", 0, data.n_users - left.n_users, data.n_items - left.n_items, "without entries")
    return _reported(left, step)


def _values(data: Interactions) -> NDArray[np.float64]:
    return np.ones(data.nnz) if data.values is None else data.values.astype(np.float64)


def _mean_of(owner: NDArray[np.int32], values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    counts = np.bincount(owner, minlength=n)
    return np.asarray(np.bincount(owner, weights=values, minlength=n) / np.maximum(counts, 1))


def means(data: Interactions, of: str) -> NDArray[np.float64]:
    """Return the mean value of each user or item, or of all entries; 0 where there is none."""
    check_choice("of", of, ("user", "item", "global"))
    values = _values(data)
    if of == "global":
        return np.array([values.mean() if len(values) else 0.0])
    owner, n = (data.rows(), data.n_users) if of == "user" else (data.col_idx, data.n_items)
    return _mean_of(owner, values, n)


def normalize(data: Interactions, how: str, **parameters: float) -> Interactions:
    """Return the entries of ``data`` with other values; computed in float64, stored as float32.

    With x the value of an entry, N the number of users, n_i the entries of item i, s_u the sum of the values of user
    u, and s the mean of s_u over users with entries:

    - binary: 1 (stored as no values)
    - log1p: log(1 + x)
    - tfidf: x (log((1 + N) / (1 + n_i)) + 1)
    - bm25: log(1 + (N - n_i + 0.5) / (n_i + 0.5)) x (k1 + 1) / (x + k1 (1 - b + b s_u / s)), k1 = 1.2, b = 0.75
      (Robertson and Zaragoza 2009; users are the documents)
    - user_l2: x divided by the Euclidean length of the user's row; rows of zeros stay
    - user_mean, item_mean, global_mean: x minus that mean; ``data.means(...)`` returns what was subtracted
    - user_zscore: (x - mean) / deviation of the user's values; 0 where they are all equal

    Raises:
        ValueError: unknown name, or values the formula has no meaning for (x <= -1 in log1p, x < 0 in bm25).
        TypeError: a parameter the method does not have.
    """
    check_choice("how", how, NORMALIZATIONS)
    allowed = {"k1": 1.2, "b": 0.75} if how == "bm25" else {}
    for name, value in parameters.items():
        if name not in allowed:
            raise TypeError(message(f'normalize("{how}") has no parameter', name, ", ".join(allowed) or "none"))
        if not np.isfinite(value) or value < 0 or (name == "b" and value > 1):
            raise ValueError(message(name, value, "0 <= k1 and 0 <= b <= 1, finite"))
    x = _values(data)
    _check_domain(x, how)
    note = ", ".join([how, *(f"{name}={value:g}" for name, value in parameters.items())])
    values: NDArray[np.float32] | None = None
    if how != "binary":
        with np.errstate(over="ignore"):
            values = _transformed(data, x, how, {**allowed, **parameters}).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(message(f'normalize("{how}") leaves the range of float32', mend="scale the values first"))
    made = type(data)._trusted(
        data.row_ptr, data.col_idx, values, data.timestamps, data.shape,
        order=data.order, user_ids=data.user_ids, item_ids=data.item_ids, report=data.report,
    )  # fmt: skip
    return _reported(made, Step("normalize", note=note))


def _check_domain(x: NDArray[np.float64], how: str) -> None:
    if how == "log1p" and (x <= -1).any():
        raise ValueError(message('values for normalize("log1p")', x.min(), "more than -1", "use another method"))
    if how == "bm25" and (x < 0).any():
        raise ValueError(message('values for normalize("bm25")', x.min(), "at least 0", "use another method"))


def _transformed(
    data: Interactions, x: NDArray[np.float64], how: str, parameters: dict[str, float]
) -> NDArray[np.float64]:
    """Return the new values in float64; formulas in ``normalize``."""
    if how == "log1p":
        return np.asarray(np.log1p(x))
    if how == "global_mean":
        return np.asarray(x - means(data, "global")[0])
    if how == "item_mean":
        return np.asarray(x - means(data, "item")[data.col_idx])
    rows, n, n_i = data.rows(), data.n_users, data.item_counts
    if how == "user_mean":
        return np.asarray(x - _mean_of(rows, x, n)[rows])
    if how == "tfidf":
        return np.asarray(x * (np.log((1 + n) / (1 + n_i)) + 1)[data.col_idx])
    if how == "user_l2":
        lengths = np.sqrt(np.bincount(rows, weights=x * x, minlength=n))
        return np.asarray(x / np.where(lengths > 0, lengths, 1)[rows])
    if how == "user_zscore":
        centred = x - _mean_of(rows, x, n)[rows]
        deviation = np.sqrt(_mean_of(rows, centred * centred, n))
        equal = deviation <= 1e-12 * np.sqrt(_mean_of(rows, x * x, n))  # equal values leave rounding, not a deviation
        return np.where(equal[rows], 0, centred / np.where(equal, 1, deviation)[rows])
    k1, b = parameters["k1"], parameters["b"]
    sums = np.bincount(rows, weights=x, minlength=n)
    busy = int((data.user_counts > 0).sum())
    average = sums.sum() / busy if busy and sums.any() else 1.0
    saturation = k1 * (1 - b + b * sums / average)
    idf = np.log1p((n - n_i + 0.5) / (n_i + 0.5))
    below = x + saturation[rows]
    return np.asarray(idf[data.col_idx] * x * (k1 + 1) / np.where(below > 0, below, 1))
