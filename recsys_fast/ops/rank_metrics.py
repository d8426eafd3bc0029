"""Ranking metrics per user; their definitions are in the docstring of ``rank_metrics``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_indices
from recsys_fast.ops.csr import as_csr
from recsys_fast.ops.topk import as_candidates, as_count, as_mask, as_pair, as_rows

F64 = NDArray[np.float64]
RANK_METRICS = ("precision", "recall", "f1", "hit_rate", "ndcg", "mrr", "map")
_NO_IDS = np.empty(0, np.int32)


def _as_ks(ks: Any) -> NDArray[np.int32]:
    values = [as_count(k, "k", 1) for k in (ks if np.iterable(ks) else (ks,))]
    if not values:
        raise ValueError(message("ks", "no cut", "at least one", "pass for example ks=(10, 20)"))
    return np.array(values, np.int32)


def _named(out: F64) -> dict[str, F64]:
    return {name: out[:, i] for i, name in enumerate(RANK_METRICS)}


def rank_metrics(
    items: ArrayLike,
    queries: ArrayLike,
    test: Any,
    ks: int | ArrayLike,
    *,
    seen: Any = None,
    include: ArrayLike | None = None,
    exclude: ArrayLike | None = None,
    check_finite: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> dict[str, F64]:
    """Rank all eligible items for every query and measure the first k against its test row, in one pass.

    With R the items of the test row, "hits" its items among the first k and rel(r) = 1 where rank r holds a hit:

    - precision = hits / k, also where fewer than k items are eligible;
    - recall = hits / |R|;
    - f1 = 2 precision recall / (precision + recall), 0 where both are 0;
    - hit_rate = 1 if hits > 0 else 0;
    - ndcg = sum_r rel(r) / log2(r + 1) over sum_{r <= min(k, |R|)} 1 / log2(r + 1) (Jarvelin, Kekalainen 2002);
    - mrr = 1 / rank of the first hit, 0 where there is none among the first k;
    - map = sum_r rel(r) precision@r / min(k, |R|).

    Equal scores are ranked by ascending id. A user without test items has NaN everywhere. Test items that are seen or
    excluded cannot be recommended but count in |R|.

    Args:
        items: ``(n_items, d)``, converted to contiguous float32 where it is not.
        queries: ``(m, d)``.
        test: sparse ``(m, n_items)``; its values do not matter, a stored zero is a test item too.
        ks: cuts, each at least 1; may exceed ``n_items``.
        seen: sparse ``(m, n_items)``: items not to rank for the query of the row.
        include: ids to choose from; None for all items.
        exclude: ids never to rank.
        check_finite: look for NaN and infinity in the factors first.
        device: "auto", "cpu", "numba" or "cuda". Items and queries may lie on a GPU; metrics are always NumPy arrays.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        A dict of ``(m, n_ks) float64``, one per name above.

    Raises:
        TypeError: sparse factors, a dense ``test`` or ``seen``, ids or cuts that are not integers.
        ValueError: shapes that disagree, values that are not finite, a cut below 1.
        IndexError: an id in ``include`` or ``exclude`` outside 0 .. n_items - 1.
    """
    device = backend.place(device, items=items, queries=queries)
    factors, query = as_pair(items, queries, check_finite)
    cuts, m, n_items = _as_ks(ks), len(query), len(factors)
    relevant = as_rows(test, "test", (m, n_items), device, n_threads)
    candidates = as_candidates(include, exclude, n_items)
    mask = as_mask(seen, (m, n_items), device, n_threads)
    out = np.empty((m, len(RANK_METRICS), len(cuts)))
    module, threads = backend.get(device), backend.resolve_threads(n_threads)
    if candidates is not None and not len(candidates):  # to the backend an empty array means every item
        nothing = np.full((m, 1), -1, np.int32)
        module.list_metrics(out, nothing, relevant.row_ptr, relevant.col_idx, cuts, threads)
    else:
        chosen = _NO_IDS if candidates is None else candidates
        module.rank_metrics(out, query, factors, chosen, *mask, relevant.row_ptr, relevant.col_idx, cuts, threads)
    return _named(out)


def list_metrics(
    ids: ArrayLike, test: Any, ks: int | ArrayLike, *, device: str = "auto", n_threads: int | None = None
) -> dict[str, F64]:
    """Measure given lists against a test matrix; the metrics are those of ``rank_metrics``.

    Args:
        ids: ``(m, n)`` integers: item ids, best first, none twice in a row; -1 where a list has ended.
        test: sparse ``(m, n_items)``.
        ks: cuts, each at least 1 and at most n.
        device: "auto", "cpu" or "numba".
        n_threads: number of threads; the result does not depend on it.

    Returns:
        A dict of ``(m, n_ks) float64``; NaN for rows without test items.

    Raises:
        TypeError: ids or cuts that are not integers, or a dense ``test``.
        ValueError: another number of rows, a cut that the lists are too short for, an item twice in a list.
        IndexError: an id outside -1 .. n_items - 1.
    """
    lists, cuts = np.asarray(ids), _as_ks(ks)
    if lists.ndim != 2:
        raise ValueError(message("ids", f"shape {lists.shape}", "2 dimensions, (m, n)"))
    relevant = as_csr(test, "test", device=device, n_threads=n_threads)
    n_items = relevant.n_cols
    if relevant.n_rows != len(lists):
        raise ValueError(message("rows of test", relevant.n_rows, f"one per list, {len(lists)}"))
    if int(cuts.max()) > lists.shape[1]:
        mend = "ask for longer lists, or pad them with -1"
        raise ValueError(message("k", int(cuts.max()), f"at most the length of the lists, {lists.shape[1]}", mend))
    lists = as_indices(lists, "ids", -1, n_items)
    in_order = np.sort(lists, axis=1)
    twice = (in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)
    if twice.any():
        row, at = np.argwhere(twice)[0]
        raise ValueError(message(f"ids of row {row} hold item {in_order[row, at]} twice", expected="each item once"))
    out = np.empty((len(lists), len(RANK_METRICS), len(cuts)))
    backend.get(device).list_metrics(
        out, lists, relevant.row_ptr, relevant.col_idx, cuts, backend.resolve_threads(n_threads)
    )
    return _named(out)


def rank_auc(
    items: ArrayLike,
    queries: ArrayLike,
    test: Any,
    *,
    seen: Any = None,
    include: ArrayLike | None = None,
    exclude: ArrayLike | None = None,
    check_finite: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> F64:
    """Return the area under the ROC curve per user: how often a test item outscores an item that is none.

    With R the test row and O the eligible items outside R: the mean over r in R of the share of O that scores lower
    than r, equal scores counting one half. A test item that is seen or excluded counts as below everything.

    Args:
        items: ``(n_items, d)``, converted to contiguous float32 where it is not.
        queries: ``(m, d)``.
        test: sparse ``(m, n_items)``.
        seen: sparse ``(m, n_items)``: items not to rank for the query of the row.
        include: ids to choose from; None for all items.
        exclude: ids never to rank.
        check_finite: look for NaN and infinity in the factors first.
        device: "auto", "cpu", "numba" or "cuda"; items and queries may lie on a GPU, the result is a NumPy array.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ``(m,) float64``; NaN for users where R or O is empty.

    Raises:
        TypeError, ValueError, IndexError: as in ``rank_metrics``.
    """
    device = backend.place(device, items=items, queries=queries)
    factors, query = as_pair(items, queries, check_finite)
    m, n_items = len(query), len(factors)
    relevant = as_rows(test, "test", (m, n_items), device, n_threads)
    candidates = as_candidates(include, exclude, n_items)
    mask = as_mask(seen, (m, n_items), device, n_threads)
    out = np.full(m, np.nan)
    if candidates is None or len(candidates):
        backend.get(device).rank_auc(
            out, query, factors, _NO_IDS if candidates is None else candidates, *mask,
            relevant.row_ptr, relevant.col_idx, backend.resolve_threads(n_threads),
        )  # fmt: skip
    return out
