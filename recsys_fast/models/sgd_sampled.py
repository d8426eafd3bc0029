"""Models that learn from positives and sampled negatives: what their interactions mean, and how negatives are drawn."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys_fast.models import inputs
from recsys_fast.models.parameters import check_choice, check_float
from recsys_fast.models.sgd_factors import SgdFactorModel
from recsys_fast.models.sgd_tables import TABLES
from recsys_fast.models.sgd_training import PUSH_ITEMS, negative_cdf
from recsys_fast.ops import Csr

SAMPLE_WEIGHTS = ("none", "values")


class SampledModel(SgdFactorModel):
    """What BPR, WARP and LogisticMF share: positives with or without weights, and the distribution of negatives."""

    _negatives: ClassVar[tuple[str, ...]] = ("uniform", "popularity")

    negative: str
    negative_exponent: float
    sample_weight: str

    def _check_params(self) -> None:
        super()._check_params()
        check_choice("negative", self.negative, self._negatives)
        check_float("negative_exponent", self.negative_exponent, 0.0, high=10.0)
        check_choice("sample_weight", self.sample_weight, SAMPLE_WEIGHTS)

    def _prepare(self, matrix: Csr) -> Csr:
        if matrix.values is None or matrix.nnz == 0:
            return matrix._replace(values=None)
        matrix = inputs.liked(matrix, type(self).__name__)
        if self.sample_weight == "none" or inputs.all_ones(matrix):
            return matrix._replace(values=None)
        return matrix

    def _cdf(self) -> NDArray[np.float64]:
        exponent = self.negative_exponent if self.negative == "popularity" else None
        return negative_cdf(self._matrix, exponent, self._item_features is not None)

    def _draws(self) -> int:
        """Return how many negatives a sample has, about."""
        return 1

    def _push_items(self, tables: dict[str, NDArray[Any]], ids: NDArray[np.int32], epoch: int) -> None:
        """Train ``ids`` as the negatives of random interactions, as many as a fit's epoch would draw.

        Users and positive items move along in copies that are thrown away.
        """
        matrix, n_items = self._matrix, self._matrix.n_cols
        cdf = self._cached("cdf", self._cdf)
        weights = np.diff(cdf, prepend=0.0) if len(cdf) else np.ones(n_items)
        only = np.zeros(n_items)
        only[ids] = weights[ids]
        if not matrix.nnz or not only.any():
            return
        expected = matrix.nnz * self._draws() * only.sum() / weights.sum()
        generator = np.random.Generator(np.random.Philox(key=[self.seed_, epoch]))
        entries, visits = np.unique(generator.integers(0, matrix.nnz, math.ceil(expected)), return_counts=True)
        rates = np.zeros(matrix.nnz, np.float32)
        rates[entries] = visits
        rows = np.unique(np.searchsorted(matrix.row_ptr, entries, side="right") - 1)
        part = inputs.take_rows(matrix._replace(values=rates), rows)
        moved = self._allocate(len(rows), 0)
        moved |= {name: tables[name].copy() for name in TABLES if name.startswith("item")}
        moved["users"] = self.user_factors_[rows]
        if self._user_biased():
            moved["user_bias"] = self._composed_bias(0)[rows]
        weighted = self._weighted(inputs.take_rows(matrix, rows))
        sgd = self._sgd(moved, weighted, part.or_empty(), PUSH_ITEMS)._replace(cdf=np.cumsum(only / only.max()))
        sgd.run(epoch)
        for name in TABLES:
            if name.startswith("item") and len(tables[name]):
                tables[name][ids] = moved[name][ids]
