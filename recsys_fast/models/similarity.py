"""Similarities between sparse rows as products: weights go into the values beforehand, lengths into the norms."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.ops import Csr

F32 = NDArray[np.float32]
KINDS = ("cosine", "jaccard", "pearson", "tfidf", "bm25")
_NORMALIZE = {"jaccard": "union", "bm25": "none"}  # others: "product"


class Rows(NamedTuple):
    """Things to compare: values of the right side, values times squared term weights for the left, lengths."""

    left: Csr
    right: Csr
    norms: F32 | None
    normalize: str


class Similarity:
    """One of ``KINDS`` over things x terms, with x their values, and w a weight per term.

    - cosine: ``x_i . x_j / (|x_i| |x_j| + shrinkage)``
    - jaccard: ``n(i and j) / (n(i or j) + shrinkage)`` over the terms present, whatever their values
    - pearson: cosine of the values less the mean of their thing (over the terms present)
    - tfidf: cosine of ``x w``, ``w_t = log(1 + n_things / n_t)``, n_t things having the term (Salton, Buckley 1988)
    - bm25: ``sum_t g_it g_jt w_t^2``, ``g = x (k1 + 1) / (x + k1 (1 - b + b length / mean length))`` with length the
      sum of a thing's values, ``w_t = log(1 + (n_things - n_t + 1/2) / (n_t + 1/2))`` (Robertson, Zaragoza 2009)

    With ``unit_terms`` each term's values are scaled to length 1 first (cosine, pearson and tfidf).
    """

    def __init__(
        self, kind: str, shrinkage: float, k1: float, b: float, things: Csr, *, unit_terms: bool = False
    ) -> None:
        self.kind, self.shrinkage, self.k1, self.b = kind, shrinkage, k1, b
        self.weights: F32 | None = None
        self.mean_length = 1.0
        if kind in ("tfidf", "bm25"):
            n, n_t = things.n_rows, inputs.column_counts(things).astype(np.float64)
            ratio = n / np.maximum(n_t, 1) if kind == "tfidf" else (n - n_t + 0.5) / (n_t + 0.5)
            self.weights = (np.log1p(ratio) ** 2).astype(np.float32)
        if unit_terms:
            squares = np.ones(things.nnz) if things.values is None else things.values.astype(np.float64) ** 2
            lengths = np.bincount(things.col_idx, squares, things.n_cols)
            scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0).astype(np.float32)
            self.weights = scale if self.weights is None else self.weights * scale
        if kind == "bm25" and things.nnz:
            total = things.nnz if things.values is None else things.values.sum(dtype=np.float64)
            self.mean_length = float(total) / things.n_rows

    def rows(self, things: Csr) -> Rows:
        """Return the things of a matrix of the same terms, ready to be multiplied."""
        if self.kind == "jaccard" or inputs.all_ones(things):
            things = things._replace(values=None)
        normalize, norms = _NORMALIZE.get(self.kind, "product"), None
        if self.kind == "pearson":
            things = _centred(things)
        elif self.kind == "bm25":
            lengths = row_sums(things)
            base = self.k1 * (1 - self.b + self.b * lengths / self.mean_length)
            if things.values is None:  # all entries of a thing have the same g: a factor of its rows and columns
                normalize, norms = "product", (1 + base) / (self.k1 + 1)
            else:
                values = things.values
                saturated = values * (self.k1 + 1) / (values + np.repeat(base, np.diff(things.row_ptr)))
                things = things._replace(values=saturated.astype(np.float32))
        left = things
        if self.weights is not None:
            weights = self.weights[things.col_idx]
            left = things._replace(values=weights if things.values is None else weights * things.values)
        if self.kind == "jaccard":
            norms = np.diff(things.row_ptr)
        elif normalize == "product" and norms is None:
            norms = np.sqrt(row_sums(left, things.values))  # sum of x^2 w^2
        return Rows(left, things, None if norms is None else norms.astype(np.float32), normalize)

    def nearest(self, things: Rows, others: Rows, terms: Csr, k: int, itself: bool, where: dict[str, Any]) -> Csr:
        """Return each thing's k most similar others, those of similarity above 0, best first.

        Args:
            things: from ``rows``.
            others: from ``rows``.
            terms: transpose of ``others.right``.
            k: most neighbours.
            itself: whether things are the others, each of which is then no neighbour of its own.
            where: device and n_threads.
        """
        n = things.left.n_rows
        seen = identity(n) if itself else None
        norms: dict[str, Any] = {}
        if others.norms is not None:
            norms = {"row_norms": things.norms, "col_norms": others.norms, "shrinkage": self.shrinkage}
        ids, scores = ops.product_topk(
            things.left, terms, min(k, terms.n_cols), seen=seen, normalize=others.normalize, zeros=False, check=False,
            **norms, **where,
        )  # fmt: skip
        return positive(ids, scores, terms.n_cols)


def check_similarity(model: Any) -> None:
    """Check the parameters that neighbour models share: k, similarity, shrinkage, bm25_k1, bm25_b."""
    check_int("k", model.k, 1)
    kind = check_choice("similarity", model.similarity, KINDS)
    shrinkage = check_float("shrinkage", model.shrinkage, 0.0)
    if kind == "bm25" and shrinkage:
        raise ValueError(message("shrinkage", shrinkage, "0 with similarity='bm25', which is no quotient"))
    check_float("bm25_k1", model.bm25_k1, 0.0)
    check_float("bm25_b", model.bm25_b, 0.0, high=1.0)


def similarity_of(model: Any, things: Csr) -> Similarity:
    """Return the similarity that a model's parameters name."""
    unit_terms = getattr(model, "normalize_users", False)
    return Similarity(model.similarity, model.shrinkage, model.bm25_k1, model.bm25_b, things, unit_terms=unit_terms)


def check_positive(matrix: Csr, why: str) -> Csr:
    """Return the matrix without stored zeros.

    Raises:
        ValueError: a value below 0.
    """
    matrix = inputs.drop_zeros(matrix)
    if matrix.values is not None and matrix.nnz and matrix.values.min() < 0:
        raise ValueError(message("value of user_items", matrix.values.min(), f"values above 0 {why}"))
    return matrix


def identity(n: int) -> Csr:
    """Return the identity as a pattern, ``(n, n)``."""
    return Csr(np.arange(n + 1, dtype=np.int64), np.arange(n, dtype=np.int32), None, n, n)


def positive(ids: NDArray[np.int32], scores: F32, n_cols: int) -> Csr:
    """Return lists (best first) as a matrix of the scores above 0; its rows are in the order of the lists.

    Neighbours are transposed next, which sorts them faster than anything here could.
    """
    keep = scores > 0
    row_ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep.sum(axis=1))])
    return Csr(row_ptr, ids[keep], scores[keep], len(ids), n_cols)


def sorted_rows(matrix: Csr, where: dict[str, Any]) -> Csr:
    """Return the matrix with every row sorted by column."""
    return ops.csr_transpose(ops.csr_transpose(matrix, **where), **where)


def row_sums(matrix: Csr, factors: F32 | None = None) -> NDArray[np.float64]:
    """Return the sum of each row's values, times ``factors`` where given; made in float64."""
    if matrix.values is None:
        return np.diff(matrix.row_ptr).astype(np.float64)
    products = matrix.values.astype(np.float64)
    if factors is not None:
        products *= factors
    full = np.diff(matrix.row_ptr) > 0
    out = np.zeros(matrix.n_rows)
    if matrix.nnz:
        out[full] = np.add.reduceat(products, matrix.row_ptr[:-1][full])
    return out


def _centred(things: Csr) -> Csr:
    """Return the values less the mean of their row; all 0 where the matrix has no values."""
    if things.values is None:
        return things._replace(values=np.zeros(things.nnz, np.float32))
    counts = np.diff(things.row_ptr)
    means = row_sums(things) / np.maximum(counts, 1)
    return things._replace(values=(things.values - np.repeat(means, counts)).astype(np.float32))
