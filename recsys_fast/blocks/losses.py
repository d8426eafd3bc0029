"""The loss of a model whose outputs score the items of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.blocks.base import Array, PackedBatch
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.errors import message
from recsys_fast.ops.block_arguments import as_choice
from recsys_fast.ops.losses import KINDS, compute_number
from recsys_fast.ops.negatives import as_weights

I32 = NDArray[np.int32]

# The operations' name for each loss of a model; "ce" is over all items.
_OPERATION_KINDS = {"sampled_ce": "softmax", "gbce": "bce"}
LOSSES = ("ce", "sampled_ce", "bce", "gbce", "bpr", "bpr_max", "top1", "top1_max")
NEGATIVES = ("uniform", "popularity", "in_batch")


class ItemLoss:
    """What training goes down: a loss of outputs and targets over the items of a table; see ``recsys_fast.ops.losses``.

    Args:
        kind: "ce" (all items), "sampled_ce", "bce", "gbce" (over 1 + n_negatives, beta from ``calibration``), "bpr",
            "bpr_max", "top1" or "top1_max".
        n_items: the first rows of the table are the items.
        negatives: "uniform"; "popularity": drawn by counts**alpha; "in_batch": the other targets of the batch only.
        n_negatives: drawn per row, or with ``shared`` once per batch.
        alpha: exponent of the counts.
        counts: ``(n_items,)`` how often each item occurs, for "popularity" and ``log_q``.
        shared: all rows share the candidates: the batch's targets, and ``n_negatives`` drawn besides.
        log_q: factor of the log-q correction (Yi et al. 2019), 1 for all of it: the logarithm of how many candidates
            are expected to be the item is subtracted from its score. Shared: T counts / sum + n_negatives q, for T
            targets; else n_negatives q. Not for "ce".
        mask_equal: leave out negatives that are the row's target.
        calibration: t of gBCE: beta = a (t (1 - 1/a) + 1/a) with a = n_negatives / (n_items - 1); 0 is BCE, 1 makes
            sigmoid(score) a probability.
        regularization: of the scores in "bpr_max".
        compute: "float32" or "bfloat16" for the products of "ce" and of shared candidates.
    """

    def __init__(
        self,
        kind: str,
        n_items: int,
        *,
        negatives: str = "uniform",
        n_negatives: int = 1,
        alpha: float = 1.0,
        counts: ArrayLike | None = None,
        shared: bool = False,
        log_q: float = 0.0,
        mask_equal: bool = True,
        calibration: float = 0.75,
        regularization: float = 1.0,
        compute: str = "float32",
    ) -> None:
        as_choice(kind, "kind of loss", LOSSES)
        as_choice(negatives, "negatives", NEGATIVES)
        self.kind, self.n_items, self.full, self.compute = kind, n_items, kind == "ce", compute
        self.shared = shared or negatives == "in_batch"
        self.n_negatives = 0 if negatives == "in_batch" else n_negatives
        if not self.full and not self.shared and n_negatives < 1:
            raise ValueError(message("n_negatives", n_negatives, "at least 1"))
        self.log_q, self.mask_equal, self.regularization = log_q, mask_equal, regularization
        self.number = 0 if self.full else KINDS.index(_OPERATION_KINDS.get(kind, kind))
        rate = n_negatives / max(1, n_items - 1)
        self.beta = calibration * (rate - 1.0) + 1.0 if kind == "gbce" else 1.0
        by_popularity = negatives == "popularity" and not self.full
        if counts is None and (by_popularity or (log_q and self.shared and not self.full)):
            raise ValueError(message("counts", "None", "how often each item occurs", "pass counts"))
        weights = np.ones(n_items) if counts is None else as_weights(counts, n_items, "counts")
        self._share = weights / weights.sum()
        chance = np.where(weights > 0, weights, 1.0) ** alpha * (weights > 0) if by_popularity else np.ones(n_items)
        self._chance = chance / chance.sum()
        self._cdf = np.empty(0)
        if by_popularity:  # as the sampler wants it: the last sum is at least 1
            self._cdf = np.cumsum(chance / chance.max())
        self._row_log_q: Array | None = None

    def loss(
        self,
        table: ItemTable,
        h: Array,
        targets: I32,
        batch: PackedBatch,
        negatives: I32 | None = None,
        weights: Array | None = None,
        n_mean: int | None = None,
    ) -> tuple[float, int, Array]:
        """Return the sum of the losses, the number of targets, and the gradient of h of the mean over the targets.

        The gradient of the items goes to the table.

        Args:
            table: connected; begun for this step.
            h: ``(T, d)`` outputs.
            targets: ``(T,) int32``, -1 for a row without loss; like ``negatives`` in host memory.
            batch: seed and step decide which negatives are drawn.
            negatives: instead of drawn ones: ``(T, k) int32``, shared ``(k,) int32``. Changed.
            weights: ``(T,)`` of the rows; the mean stays one over the number of targets.
            n_mean: what the gradients' mean is over; None for the number of targets.
        """
        self._runtime = table.runtime
        n_targets = int(np.count_nonzero(targets >= 0))
        dh = self._take("dh", *h.shape)
        if n_targets == 0:
            self._runtime.fill(dh, 0.0)
            return 0.0, 0, dh
        scale = 1.0 / (n_targets if n_mean is None else n_mean)
        w = self._runtime.empty(0) if weights is None else weights
        if self.full:
            loss = self._full(table, dh, h, targets, w, scale)
        elif self.shared:
            loss = self._shared(table, dh, h, targets, batch, negatives, w, scale)
        else:
            loss = self._per_row(table, dh, h, targets, batch, negatives, w, scale)
        return loss, n_targets, dh

    def _full(self, table: ItemTable, dh: Array, h: Array, targets: I32, weights: Array, scale: float) -> float:
        n = self.n_items
        dtable, dbias = table.dense_gradient(n)
        loss: float = self._runtime.run(
            "softmax_loss", dh, dtable, dbias, h, table.values[:n], table.bias[:n], targets, weights, scale,
            self._compute(),
        )  # fmt: skip
        table.add_dense(dtable, dbias)
        return loss

    def _shared(
        self,
        table: ItemTable,
        dh: Array,
        h: Array,
        targets: I32,
        batch: PackedBatch,
        negatives: I32 | None,
        weights: Array,
        scale: float,
    ) -> float:
        rows = np.flatnonzero(targets >= 0)
        drawn = self._draw(batch, self.n_negatives) if negatives is None else negatives
        ids = np.concatenate((targets[rows], drawn))
        positive = np.full(len(targets), -1, np.int32)
        positive[rows] = np.arange(len(rows), dtype=np.int32)
        cand, bias = table.take_rows(ids, "candidates")
        log_q = self._runtime.empty(0)
        if self.log_q:
            expected = len(rows) * self._share[ids] + len(drawn) * self._chance[ids]
            log_q = (self.log_q * np.log(np.maximum(expected, 1e-30))).astype(h.dtype)
        ids = self._runtime.upload(ids)
        dcand, dbias = self._take("dcand", *cand.shape), self._take("dbias", len(bias))
        loss: float = self._runtime.run(
            "shared_loss", dh, dcand, dbias, h, cand, bias, positive, ids, log_q, self.number, self.beta,
            int(self.mask_equal), self.regularization, weights, scale * self._per_candidate(len(drawn)),
            self._compute(),
        )  # fmt: skip
        table.add_rows(ids, dcand, dbias if len(bias) else None)
        return loss * self._per_candidate(len(drawn))

    def _per_row(
        self,
        table: ItemTable,
        dh: Array,
        h: Array,
        targets: I32,
        batch: PackedBatch,
        negatives: I32 | None,
        weights: Array,
        scale: float,
    ) -> float:
        if negatives is None:
            negatives = self._draw(batch, len(targets) * self.n_negatives).reshape(len(targets), self.n_negatives)
        k = negatives.shape[1]
        if self.mask_equal:
            negatives[negatives == targets[:, None]] = -1
        ids = self._runtime.take(self, "ids", (len(targets), 1 + k), np.int32, host=True)
        ids[:, 0], ids[:, 1:] = targets, negatives
        ids[targets < 0] = -1
        coef = self._take("coef", len(targets), 1 + k)
        loss: float = self._runtime.run(
            "row_loss", dh, coef, h, table.values, table.bias, targets, negatives, self._rows_log_q(h.dtype, k),
            self.number, self.beta, self.regularization, weights, scale * self._per_candidate(k),
        )  # fmt: skip
        table.add_pairs(ids, coef, h)
        return loss * self._per_candidate(k)

    def _per_candidate(self, n_negatives: int) -> float:
        """gBCE is a mean over target and negatives."""
        return 1.0 / (1 + n_negatives) if self.kind == "gbce" else 1.0

    def _rows_log_q(self, dtype: Any, n_negatives: int) -> Array:
        if not self.log_q or not len(self._cdf):  # uniform draws shift all scores alike
            return self._runtime.empty(0)
        if self._row_log_q is None or self._row_log_q.dtype != dtype:
            expected = np.maximum(n_negatives * self._chance, 1e-30)
            self._row_log_q = self._runtime.upload((self.log_q * np.log(expected)).astype(dtype))
        return self._row_log_q

    def _draw(self, batch: PackedBatch, n: int) -> I32:
        out: I32 = self._runtime.take(self, "negatives", (n,), np.int32, host=True)
        self._runtime.run_on_host("negatives_draw", out, self._cdf, self.n_items, batch.seed, batch.step, 0)
        return out

    def _compute(self) -> int:
        return compute_number(self.compute, self._runtime.device)

    def _take(self, name: str, *shape: int) -> Array:
        return self._runtime.take(self, name, shape)
