"""The objective of models of the next item: a loss over items, with negatives that the user has not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, PackedBatch
from recsys_fast.blocks.losses import ItemLoss
from recsys_fast.ops import Csr
from recsys_fast.training.network import Network

_NEGATIVES = 0x6E65676174697665  # random words of their own: seed and step also make the masks


class NextItem:
    """A loss of the network's outputs and the batch's ``targets`` over the table of items.

    Args:
        loss: see ``ItemLoss``.
        seen: ``(n_users, n_items)``, what negatives of each row must not be: anything of the row's user (verified).
            None lets them be anything but the target. Only for losses whose negatives belong to rows.
        cdf: running sums of the weights that verified negatives are drawn by; empty for equal weights.
    """

    def __init__(self, loss: ItemLoss, seen: Csr | None = None, cdf: NDArray[np.float64] | None = None) -> None:
        self.loss = loss
        self.seen = None if loss.full or loss.shared else seen
        self.cdf = np.empty(0) if cdf is None else cdf

    def __call__(
        self, network: Network, h: Array, batch: Any, packed: PackedBatch, n_mean: int | None = None
    ) -> tuple[float, int, Array]:
        """Return the sum of the loss, the number of targets, and the gradient of h of the mean.

        ``n_mean``: what that mean is over; None for the number of targets.
        """
        negatives = None if self.seen is None else self._verified(network, self.seen, batch, packed)
        return self.loss.loss(network.items, h, batch.targets, packed, negatives, n_mean=n_mean)

    def _verified(self, network: Network, seen: Csr, batch: Any, packed: PackedBatch) -> NDArray[np.int32]:
        users = np.repeat(batch.users, np.diff(batch.row_ptr))
        out = network.runtime.take(self, "negatives", (len(users), self.loss.n_negatives), np.int32, host=True)
        network.runtime.run_on_host(
            "sample_negatives", out, users, seen.row_ptr, seen.col_idx, self.cdf, seen.n_cols,
            packed.seed ^ _NEGATIVES, packed.step,
        )  # fmt: skip
        return out
