"""Beyond accuracy: what the lists of all users look like together, and how alike the items of a list are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.errors import message
from recsys_fast.evaluation.report import Value
from recsys_fast.ops import Csr
from recsys_fast.ops.topk import as_factors

I32 = NDArray[np.int32]
F64 = NDArray[np.float64]
_BLOCK_FLOATS = 1 << 22  # features of list items that are alive at once


def coverage(ids: I32, n_items: int) -> Value:
    """Return the share of the catalogue that is in at least one list."""
    shown = np.unique(ids[ids >= 0])
    return Value(len(shown) / n_items if n_items else math.nan, math.nan, None)


def gini(ids: I32, n_items: int) -> Value:
    """Return the Gini coefficient of how often each item of the catalogue is in a list.

    0 where all items are recommended equally often, close to 1 where all lists hold the same few items. With counts
    c_1 <= ... <= c_n: sum_i (2 i - n - 1) c_i / (n sum_i c_i). NaN where nothing is recommended.
    """
    counts = np.sort(np.bincount(ids[ids >= 0], minlength=n_items)).astype(np.float64)
    total = counts.sum()
    if total == 0:
        return Value(math.nan, math.nan, None)
    weights = 2.0 * np.arange(1, n_items + 1) - n_items - 1
    return Value(float(weights @ counts / (n_items * total)), math.nan, None)


def novelty(ids: I32, train: Csr) -> F64:
    """Return per list the mean of -log2 (share of training users who have the item), NaN for an empty list.

    An item that nobody has counts as if one user had it, so that novelty is at most log2 n_users. Zhou et al. 2010.
    """
    owners = np.maximum(np.bincount(train.col_idx, minlength=train.n_cols), 1)
    surprise = np.append(np.log2(max(1, train.n_rows)) - np.log2(owners), 0.0)  # the last one for the -1 of short lists
    lengths = (ids >= 0).sum(axis=1)
    out = np.full(len(ids), np.nan)
    np.divide(surprise[ids].sum(axis=1), lengths, out=out, where=lengths > 0)
    return out


def _dense_rows(features: Any, n_items: int) -> tuple[Callable[[I32], F64], int]:
    """Return a function from ids to their features in float64, and the number of features."""
    if hasattr(features, "tocsr") or isinstance(features, Csr):
        import scipy.sparse as sp

        csr = ops.as_csr(features, "item_features")
        values = np.ones(csr.nnz, np.float32) if csr.values is None else csr.values
        table = sp.csr_array((values, csr.col_idx, csr.row_ptr), shape=csr.shape)
        shape, rows = csr.shape, lambda ids: table[ids].toarray().astype(np.float64)
    else:
        dense = as_factors(features, "item_features")
        shape, rows = dense.shape, lambda ids: dense[ids].astype(np.float64)
    if shape[0] != n_items:
        raise ValueError(message("rows of item_features", shape[0], f"one per item, {n_items}"))
    return rows, shape[1]


def diversity(ids: I32, ks: list[int], features: Any, n_items: int) -> dict[int, F64]:
    """Return for each k, per list, 1 - the mean cosine of all pairs among its first k items.

    NaN for lists of fewer than two items. An item without features has cosine 0 with every other. Ziegler et al. 2005
    (intra-list similarity).

    Args:
        ids: ``(m, n)``, -1 where a list has ended.
        ks: cuts, at most n.
        features: ``(n_items, f)``, dense or sparse.
        n_items: size of the catalogue.
    """
    rows, width = _dense_rows(features, n_items)
    out = {k: np.full(len(ids), np.nan) for k in ks}
    longest = max(ks)
    block = max(1, _BLOCK_FLOATS // max(1, longest * width))
    for begin in range(0, len(ids), block):
        part = ids[begin : begin + block, :longest]
        there = part >= 0
        vectors = np.zeros((*part.shape, width))
        vectors[there] = rows(part[there])
        lengths = np.sqrt(np.einsum("ijk,ijk->ij", vectors, vectors))[:, :, None]
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        for k in ks:
            total = vectors[:, :k].sum(axis=1)
            alone = np.einsum("ijk,ijk->i", vectors[:, :k], vectors[:, :k])
            n = there[:, :k].sum(axis=1)
            pairs = (n * (n - 1)).astype(np.float64)
            cosines = np.einsum("ij,ij->i", total, total) - alone
            mean = np.full(len(part), np.nan)
            np.divide(cosines, pairs, out=mean, where=pairs > 0)
            out[k][begin : begin + block] = 1.0 - mean
    return out
