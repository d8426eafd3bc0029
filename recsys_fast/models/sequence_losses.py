"""The losses that sequence models share, from their constructor parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_fast.blocks.losses import LOSSES, ItemLoss
from recsys_fast.data import Sequences
from recsys_fast.errors import message
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.training.next_item import NextItem

_SHARED = ("sampled_ce", "bpr_max", "top1", "top1_max")  # with negatives of the whole batch, unless asked otherwise
_N_NEGATIVES = {"bce": 1, "bpr": 1, "gbce": 256}
COMPUTE = ("float32", "bfloat16")


class NextItemLoss:
    """Parameters of a loss over items, for models that inherit them.

    ``loss`` is one of "ce" (cross-entropy over all items; over ``n_negatives`` sampled ones where that is given),
    "sampled_ce", "bce", "gbce", "bpr", "bpr_max", "top1", "top1_max".
    """

    loss: str
    n_negatives: int | None
    negative_alpha: float
    shared_negatives: bool | None
    verify_negatives: bool
    log_q: float
    calibration: float
    score_regularization: float
    compute: str

    _sequences: Sequences

    def _check_loss(self) -> None:
        check_choice("loss", self.loss, LOSSES)
        if self.n_negatives is not None:
            check_int("n_negatives", self.n_negatives, 0, 1 << 20)
        check_float("negative_alpha", self.negative_alpha, 0.0, high=10.0)
        if self.shared_negatives is not None:
            check_flag("shared_negatives", self.shared_negatives)
        check_flag("verify_negatives", self.verify_negatives)
        check_float("log_q", self.log_q, 0.0, high=1.0)
        check_float("calibration", self.calibration, 0.0, high=1.0)
        check_float("score_regularization", self.score_regularization, 0.0)
        check_choice("compute", self.compute, COMPUTE)
        kind, n, shared = self._resolved()
        if n == 0 and kind != "ce" and not shared:
            mend = "ask for at least 1, or for shared_negatives=True to learn from the batch's other targets"
            raise ValueError(message("n_negatives", 0, mend=mend))

    def _resolved(self) -> tuple[str, int, bool]:
        """Return the kind of loss, the number of negatives, and whether a batch shares them."""
        kind = "sampled_ce" if self.loss == "ce" and self.n_negatives is not None else self.loss
        shared = kind in _SHARED if self.shared_negatives is None else bool(self.shared_negatives)
        n = self.n_negatives if self.n_negatives is not None else _N_NEGATIVES.get(kind, 2048)
        return kind, n, shared

    def _loss_bytes(self, n_rows: int, width: int) -> int:
        """Return about what the loss needs for rows of outputs: candidates and their gradients, or ids of pairs."""
        kind, n, shared = self._resolved()
        if kind == "ce":
            return 5 * n_rows * width
        if shared:
            return 15 * (n_rows + n) * width + 40 * (n_rows + n)
        return 5 * n_rows * width + 40 * n_rows * (1 + n)

    def _objective(self) -> Any:
        kind, n, shared = self._resolved()
        n_items = self._sequences.n_items
        counts = np.maximum(self._sequences.item_counts, 0)
        some = bool(counts.any())
        negatives = "in_batch" if n == 0 and shared else "popularity" if self.negative_alpha and some else "uniform"
        loss = ItemLoss(
            kind, n_items, negatives=negatives, n_negatives=n, alpha=self.negative_alpha,
            counts=counts if some else None, shared=shared, log_q=self.log_q if kind == "sampled_ce" and some else 0.0,
            calibration=self.calibration, regularization=self.score_regularization, compute=self.compute,
        )  # fmt: skip
        if not self.verify_negatives:
            return NextItem(loss)
        cdf = np.empty(0)
        if negatives == "popularity":
            cdf = np.cumsum((counts / counts.max()) ** self.negative_alpha * (counts > 0))
        return NextItem(loss, self._sequences.seen, cdf)
