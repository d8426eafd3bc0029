"""Training of networks that score pairs of a user and an item: parameters, batches of positives, and a step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter, Runtime
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.data.epoch_random import EpochRandom
from recsys_fast.errors import NotSupportedError, message
from recsys_fast.ops import Csr
from recsys_fast.ops.block_arguments import activation_number
from recsys_fast.training.network import Network
from recsys_fast.training.optimizers import Optimizer

I32 = NDArray[np.int32]
_NEGATIVES = 0x6E63665F6E6567  # random words of their own: seed and step also make the masks


class PairTower(Block):
    """The parameters of ``ops.ncf_loss``, in its order: w and b of each layer, h and c.

    Args:
        widths: of the inputs (both rows' parts behind the product), then of the layers.
        d_product: columns that are multiplied.
    """

    def __init__(self, widths: Sequence[int], d_product: int) -> None:
        self.widths, self.d_product = tuple(widths), d_product

    def parameters(self) -> list[Parameter]:
        """Return the parameters; w starts as Glorot's uniform, h as LeCun's (He et al. 2017, in Keras)."""
        found = []
        for layer, (d_in, d_out) in enumerate(pairwise(self.widths), 1):
            found.append(Parameter(f"w{layer}", (d_in, d_out), "uniform", math.sqrt(6.0 / (d_in + d_out))))
            found.append(Parameter(f"b{layer}", (d_out,)))
        n = self.d_product + (self.widths[-1] if len(self.widths) > 1 else 0)
        return [*found, Parameter("h", (n,), "uniform", math.sqrt(3.0 / n)), Parameter("c", (1,))]

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Raise: pairs go through in one operation with their loss."""
        raise NotSupportedError(message("PairTower takes no rows", mend="use ops.ncf_loss or ops.ncf_scores"))

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Raise, as ``forward``."""
        return self.forward(dy, batch)


class Positives(NamedTuple):
    """What users and items of a step have to do with each other."""

    users: I32
    items: I32


class PairBatches:
    """The interactions in an order that is random for every epoch.

    Args:
        matrix: interactions.
        n_positives: of a batch.
        seed: of the orders.
        device, n_threads: where the random words are made.
    """

    def __init__(self, matrix: Csr, n_positives: int, seed: int, device: str, n_threads: int | None) -> None:
        self._items, self._n, self._seed = matrix.col_idx, n_positives, seed
        self._users = np.repeat(np.arange(matrix.n_rows, dtype=np.int32), np.diff(matrix.row_ptr))
        self._where: tuple[str, int | None] = (device, n_threads)
        self.n_batches = -(-matrix.nnz // n_positives)

    def epoch(self, epoch: int) -> Iterator[Positives]:
        """Yield the batches of an epoch."""
        order = EpochRandom(self._seed, epoch, *self._where).order(len(self._items))
        for start in range(0, len(order), self._n):
            chosen = order[start : start + self._n]
            yield Positives(self._users[chosen], self._items[chosen])


class PairNetwork(Network):
    """Steps over positives, each with verified negatives of its own, drawn for the step and forgotten.

    Args:
        tables: of the items, then of the users, rows as ``ops.ncf_loss`` wants them.
        tower: the parameters.
        activation: of its layers.
        dropout: rate behind them.
        n_negatives: per positive.
        seen: what negatives must not be; None for a network that is not trained.
        cdf: running sums of the weights that negatives are drawn by; empty for equal weights.
        optimizer, runtime, seed: as of ``Network``.
    """

    def __init__(
        self,
        tables: Sequence[ItemTable],
        tower: PairTower,
        activation: str,
        dropout: float,
        n_negatives: int,
        seen: Csr,
        cdf: NDArray[np.float64],
        optimizer: Optimizer,
        runtime: Runtime,
        *,
        seed: int,
    ) -> None:
        super().__init__(tables[0], {"tower": tower}, None, optimizer, runtime, seed=seed, tables=tables[1:])
        self.users, self.tower, self.dropout, self.k = tables[1], tower, dropout, n_negatives
        self.seen, self.cdf, self.activation = seen, cdf, activation_number(activation)
        self.widths = runtime.upload(np.array(tower.widths, np.int64))

    def n_rows(self, batch: Any) -> int:
        """Return the number of pairs."""
        return len(batch.items) * (1 + self.k)

    def pairs(self, batch: Positives) -> I32:
        """Return the items of a step, ``(n, 1 + k)``: the positive, and items that the user has not (-1: has all).

        They are drawn in host memory.
        """
        n = len(batch.items)
        ids = self.runtime.take(self, "ids", (n, 1 + self.k), np.int32, host=True)
        drawn = self.runtime.take(self, "negatives", (n, self.k), np.int32, host=True)
        self.runtime.run_on_host(
            "sample_negatives", drawn, batch.users, self.seen.row_ptr, self.seen.col_idx, self.cdf, self.seen.n_cols,
            self.seed ^ _NEGATIVES, self.steps,
        )  # fmt: skip
        ids[:, 0], ids[:, 1:] = batch.items, drawn
        return ids

    def step(self, batch: Positives) -> tuple[float, int]:
        """Move everything by the gradient of the pairs' mean loss; return the loss as a sum, and their number."""
        drawn = self.pairs(batch)
        n_terms = int(np.count_nonzero(drawn >= 0))
        ids, users = self.runtime.upload(drawn), self.runtime.upload(batch.users)
        for table in self.tables:
            table.begin()
        dusers = self.runtime.take(self, "dusers", (len(ids), self.items.d))
        ditems = self.runtime.take(self, "ditems", (ids.size, self.items.d))
        loss: float = self.runtime.run(
            "ncf_loss", dusers, ditems, self.parameters.gradients, self.users.values, self.items.values, users,
            ids, self.parameters.values, self.widths, self.tower.d_product, self.activation, self.dropout, self.seed,
            self.steps, self.tower.site, 1.0 / max(1, n_terms),
        )  # fmt: skip
        self.items.add_inputs(ids.reshape(-1), ditems)
        self.users.add_inputs(users, dusers)
        for table in self.tables:
            table.finish()
        self.optimizer.step(self.parameters, self.tables, self.steps)
        self.steps += 1
        return loss, n_terms

    def scores(self, users: Array, items: Array) -> Array:
        """Return the scores of users' rows and items' rows, ``(len(users), len(items))``, where the runtime computes.

        Rows are contiguous, in host memory or there.
        """
        out = self.runtime.empty(len(users), len(items))
        self.runtime.run(
            "ncf_scores", out, users, items, self.parameters.values,
            self.widths, self.tower.d_product, self.activation,
        )  # fmt: skip
        return out
