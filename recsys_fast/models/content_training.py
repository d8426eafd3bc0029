"""How networks of content are trained: their batches, their objective, and metrics after every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.encoder import Encoder
from recsys_fast.blocks.heads import Head
from recsys_fast.data.epoch_random import EpochRandom
from recsys_fast.data.images import class_order
from recsys_fast.errors import message
from recsys_fast.models.content_inputs import ContentInput, ContentKind, Taken
from recsys_fast.models.content_targets import as_targets
from recsys_fast.training.network import Network
from recsys_fast.training.optimizers import Optimizer

F32 = NDArray[np.float32]
CLASS_METRICS = ("accuracy", "log_loss")


class ContentBatch(NamedTuple):
    """Rows that go in, and what should come out; ``items`` and ``row_ptr`` are what a network asks a batch for."""

    items: Array
    row_ptr: NDArray[np.int64]
    targets: Array
    weights: F32


class ContentNetwork(Network):
    """An encoder that makes a vector of each row, and a head.

    Args:
        encoder: not connected yet.
        head: what the vectors end in.
        optimizer: steps all of them.
        runtime: where to compute.
        seed: of random masks.
    """

    def __init__(self, encoder: Encoder, head: Head, optimizer: Optimizer, runtime: Runtime, *, seed: int) -> None:
        self.tables, self.runtime, self.head, self.encoder = encoder.tables, runtime, head, encoder
        self.objective, self.optimizer, self.steps = _objective, optimizer, 0
        self.seed = seed & (2**63 - 1)  # which every backend takes as it is
        blocks = {**encoder.blocks, "head": head}
        for place, table in enumerate(self.tables, len(blocks) + 1):
            table.connect(runtime, 8 * place)
        self.parameters = ParameterSet(blocks, runtime)

    def forward(self, batch: Any, packed: PackedBatch) -> Array:
        """Return the vectors, ``(n, d)``."""
        return self.encoder.forward(self.runtime.upload(batch.items), packed)

    def backward(self, dh: Array, packed: PackedBatch) -> None:
        """Write the gradients of the encoder's parameters, and add those of its tables."""
        self.encoder.backward(dh, packed)

    def encode(self, taken: Taken) -> Array:
        """Return the vectors of rows, ``(n, d)``, until the next call."""
        packed = PackedBatch.on(self.runtime, taken.row_ptr, self.seed)
        return self.encoder.forward(self.runtime.upload(taken.items), packed)

    def scores(self, h: Array) -> Array:
        """Return the head's scores of vectors, ``(n, k)``, until the next call."""
        return self.head.forward(h, PackedBatch(np.array([0, len(h)]), self.seed))


def _objective(network: Any, h: Array, batch: ContentBatch, packed: PackedBatch) -> tuple[float, int, Array]:
    loss, dh = network.head.loss(h, batch.targets, batch.weights, packed)
    return loss, len(h), dh


class ContentData(NamedTuple):
    """What a network is trained on, checked.

    Attributes:
        content: what goes in.
        targets: ``(n,) int32`` classes, or ``(n, k) float32``.
        weights: ``(n,) float32``, of length 0 for 1.
    """

    content: ContentInput
    targets: Array
    weights: F32


class ContentBatches:
    """The batches of epochs, each a function of seed and epoch.

    Args:
        data: all rows.
        batch_size: rows in a batch, the last one excepted.
        seed: of orders and augmentation.
        resample: None, "over" or "under"; see ``class_order``.
        augmentation: of every batch, as ``ContentInput.augment`` takes it, or None.
    """

    def __init__(
        self, data: ContentData, batch_size: int, seed: int, resample: str | None, augmentation: Any | None
    ) -> None:
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.resample, self.augmentation = resample, augmentation
        targets = data.targets
        self._classes = (
            targets.reshape(len(targets), -1)[:, 0].astype(np.int32) if resample else np.zeros(len(targets), np.int32)
        )
        counts = np.bincount(self._classes)
        counts = counts[counts > 0]
        rows = len(targets)
        if resample is not None:
            rows = len(counts) * int(counts.max() if resample == "over" else counts.min())
        self.n_batches = -(-rows // batch_size)

    def epoch(self, epoch: int) -> Iterator[ContentBatch]:
        """Yield the batches of an epoch; the next one may overwrite the rows of the one before."""
        order = class_order(self._classes, self.resample, EpochRandom(self.seed, epoch))
        content, targets, weights = self.data
        for number, start in enumerate(range(0, len(order), self.batch_size)):
            rows = order[start : start + self.batch_size]
            taken = content.take(rows)
            if self.augmentation is not None:
                taken = content.augment(taken, self.augmentation, self.seed, epoch, number)
            own = weights[rows] if len(weights) else weights
            yield ContentBatch(*taken, targets[rows], own)


class ContentEvaluator:
    """Computes the metrics that the callbacks ask for on ``eval_set`` after every epoch.

    Args:
        model: with a head.
        eval_set: None or (X, y).
        callbacks: their ``metrics`` are computed; without any, what suits the head.
        kind: that X must be of.

    Raises:
        ValueError: an unknown metric, or a callback asks for one and there is no evaluation set.
        TypeError: ``eval_set`` is no pair.
    """

    def __init__(self, model: Any, eval_set: Any, callbacks: Sequence[Any], kind: ContentKind) -> None:
        known = {"softmax": CLASS_METRICS, "sigmoid": ("log_loss", "auc", "accuracy"), "linear": ("rmse", "mae")}
        wanted = [name for callback in callbacks for name in getattr(callback, "metrics", ())]
        self.names = tuple(dict.fromkeys(wanted)) or known[model.head][:2]
        self.test: tuple[ContentInput, NDArray[Any]] | None = None
        for name in wanted:
            if name not in known[model.head]:
                raise ValueError(message("metric", repr(name), "one of " + ", ".join(known[model.head])))
        if eval_set is None:
            if wanted:
                raise ValueError(message(f"a callback needs {wanted[0]!r}", mend="pass eval_set=(X, y) to fit"))
            return
        if type(eval_set) not in (tuple, list) or len(eval_set) != 2:
            raise TypeError(message("eval_set", type(eval_set).__name__, "the pair (X, y)"))
        content, y = model._content(eval_set[0], "X of eval_set", kind), np.asarray(eval_set[1])
        if len(y) != len(content):
            raise ValueError(message("rows of y of eval_set", len(y), f"{len(content)}, as X"))
        self.test = content, y

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the metrics by name; empty without an evaluation set."""
        return {} if self.test is None else evaluate(model, *self.test, self.names)


def evaluate(model: Any, content: ContentInput, y: NDArray[Any], metrics: Sequence[str]) -> dict[str, float]:
    """Return metrics of a fitted model's predictions; several columns of "sigmoid" and "linear" count alike."""
    from recsys_fast.evaluation.row_metrics import row_metrics

    found = model._predictions(content)
    if model.head != "softmax":
        return row_metrics(y.reshape(-1), found.reshape(-1), tuple(metrics))
    wanted = as_targets(y, len(content), "softmax", model._n_outputs, every=False)
    right = found[np.arange(len(wanted)), wanted].astype(np.float64)
    figures = {
        "accuracy": float((found.argmax(1) == wanted).mean()),
        "log_loss": float(-np.log(np.clip(right, 1e-15, 1.0)).mean()),
    }
    return {name: figures[name] for name in metrics}
