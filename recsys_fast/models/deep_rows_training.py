"""Training of deep models over rows of features: the network, its batches, and the loss of a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, PackedBatch, Runtime
from recsys_fast.blocks.field_table import FeatureRows, FieldTable
from recsys_fast.blocks.mlp import MLP
from recsys_fast.data.epoch_random import EpochRandom
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.parameters import check_choice, check_float
from recsys_fast.models.rows import Rows
from recsys_fast.ops import Csr
from recsys_fast.training.network import Network
from recsys_fast.training.optimizers import Optimizer

F32 = NDArray[np.float32]


class RowBatch(NamedTuple):
    """Rows with their targets, and weights of length 0 where all are 1."""

    rows: FeatureRows
    targets: F32
    weights: F32


class RowBatches:
    """Batches of rows in an order that is drawn for each epoch.

    Args:
        rows: all of them.
        batch_size: rows of a batch.
        seed: of the orders.
    """

    def __init__(self, rows: Rows, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.n_batches = -(-rows.matrix.n_rows // batch_size)

    def epoch(self, epoch: int) -> Iterator[RowBatch]:
        """Return the batches of an epoch, counted from 0."""
        order = EpochRandom(self.seed, epoch).order(self.rows.matrix.n_rows)
        weights, none = self.rows.weights, np.empty(0, np.float32)
        for first in range(0, len(order), self.batch_size):
            place = order[first : first + self.batch_size]
            some = none if weights is None else weights[place]
            yield RowBatch(feature_rows(inputs.take_rows(self.rows.matrix, place)), self.rows.targets[place], some)


def feature_rows(matrix: Csr) -> FeatureRows:
    """Return a checked matrix as a batch."""
    return FeatureRows(matrix.row_ptr, matrix.col_idx, matrix.or_empty())


def loss_of(score: Array, targets: Array, weights: Array, logistic: bool) -> tuple[float, Array]:
    """Return the sum of weight times loss, and its derivatives by the scores.

    The loss is log(1 + exp(-+score)), or (score - target)^2 / 2.
    """
    if logistic:
        loss = np.logaddexp(0, score) - targets * score
        slope = np.exp(-np.logaddexp(0, -score)) - targets
    else:
        slope = score - targets
        loss = 0.5 * slope * slope
    if len(weights):
        loss, slope = weights * loss, weights * slope
    return float(loss.sum(dtype=np.float64)), slope


class RowNetwork(Network):
    """score = score of the table (weights, pairs) + MLP(vectors summed by field).

    Args:
        table: of the features.
        mlp: its last layer has one output, whose bias is that of the whole.
        optimizer: of both; its weight decay is that of the layers.
        runtime: where to compute.
        seed: of random masks.
        logistic: the loss, or else the squared one.
    """

    def __init__(
        self,
        table: FieldTable,
        mlp: MLP,
        optimizer: Optimizer,
        runtime: Runtime,
        *,
        seed: int,
        logistic: bool,
    ) -> None:
        super().__init__(table, {"mlp": mlp}, None, optimizer, runtime, seed=seed)
        self.table, self.mlp, self.logistic = table, mlp, logistic

    def score(self, rows: FeatureRows, packed: PackedBatch) -> Array:
        """Return the score of each row, ``(n,)``, in host memory."""
        x, own = self.table.forward(rows)
        y, to_host = self.mlp.forward(x, packed), self.runtime.to_host
        scores: Array = to_host(own) + to_host(y)[:, 0]
        return scores

    def n_rows(self, batch: RowBatch) -> int:
        """Return how many rows a batch has."""
        return batch.rows.n

    def step(self, batch: RowBatch) -> tuple[float, int]:
        """Move everything by the gradient of the batch's mean loss; return the loss as a sum, and its terms."""
        n = batch.rows.n
        packed = PackedBatch(np.array([0, n], np.int64), self.seed, self.steps, True)
        with np.errstate(over="ignore", invalid="ignore"):  # the trainer looks for what has diverged
            loss, slope = loss_of(self.score(batch.rows, packed), batch.targets, batch.weights, self.logistic)
        mean = slope.astype(self.runtime.dtype)
        mean /= n
        dscore = self.runtime.upload(mean)
        self.table.backward(self.mlp.backward(dscore.reshape(n, 1), packed), dscore)
        self.optimizer.step(self.parameters, self.tables, self.steps)
        self.steps += 1
        return loss, n

    def scores_of(self, matrix: Csr, block: int = 8192) -> F32:
        """Return the scores of all rows of a checked matrix, ``(n_rows,) float32``, without dropout."""
        out = np.empty(matrix.n_rows, np.float32)
        for first in range(0, matrix.n_rows, block):
            rows = feature_rows(inputs.take_rows(matrix, np.arange(first, min(first + block, matrix.n_rows))))
            out[first : first + rows.n] = self.score(rows, PackedBatch(np.array([0, rows.n], np.int64)))
        return out


def moment_names(optimizer: str) -> tuple[str, ...]:
    """Return the names of what an optimizer keeps of each parameter."""
    return {"adam": ("m", "v"), "adagrad": ("v",), "sgd": ()}[optimizer]


def table_bytes(n_features: int, width: int, optimizer: str) -> dict[str, Any]:
    """Return the bytes of a table, its optimizer's state, and of the copy of both that training keeps."""
    one = 4 * n_features * width
    moments = len(moment_names(optimizer))
    return {"parameters": one, "optimizer": moments * one, "copy": (1 + moments) * one}


def check_class_weight(value: Any, loss: str) -> None:
    """Raise where ``value`` is neither None, "balanced" nor a pair of weights, or the loss knows no classes."""
    if value is None:
        return
    if loss != "logistic":
        raise ValueError(message(f"class_weight with loss={loss!r}", mend="pass sample_weight to fit"))
    if isinstance(value, str):
        check_choice("class_weight", value, ("balanced",))
        return
    if not isinstance(value, Sequence) or len(value) != 2:
        expected = '"balanced", or a pair of weights, of classes 0 and 1'
        raise TypeError(message("class_weight", repr(value)[:80], expected))
    for weight in value:
        check_float("class_weight", weight, 0.0, above=True, high=1e6)


def balanced_weights(labels: F32, weights: F32 | None, class_weight: Any) -> F32 | None:
    """Return the rows' weights times those of their classes.

    "balanced" gives both classes the same sum, and leaves the sum of all as it is.

    Raises:
        ValueError: "balanced", and the rows of a class have no weight.
    """
    if class_weight is None:
        return weights
    own = np.ones(len(labels), np.float32) if weights is None else weights
    if class_weight == "balanced":
        sums = [float(own[labels == k].sum(dtype=np.float64)) for k in (0, 1)]
        if not all(sums):
            raise ValueError(message(f"class {sums.index(0.0)} has no sample", mend="leave class_weight=None"))
        factors = [0.5 * sum(sums) / one for one in sums]
    else:
        factors = list(class_weight)
    return (own * np.where(labels > 0, factors[1], factors[0])).astype(np.float32)


def constant_score(rows: Rows, logistic: bool) -> float:
    """Return the best score that is the same for all rows."""
    mean = float(np.average(rows.targets.astype(np.float64), weights=rows.weights))
    if not logistic:
        return mean
    mean = min(max(mean, 1e-6), 1 - 1e-6)
    return math.log(mean / (1 - mean))
