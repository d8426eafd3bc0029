"""Convolutional networks over images, or over rows of features in order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from recsys_fast.blocks.base import Block
from recsys_fast.data.images import as_images
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.content_catalogue import item_vectors
from recsys_fast.models.content_layers import as_layers, make_blocks
from recsys_fast.models.content_model import ContentModel
from recsys_fast.models.content_training import ContentData
from recsys_fast.models.parameters import check_choice
from recsys_fast.ops.block_arguments import ACTIVATIONS

_LAYERS = (("conv", 32, 3), ("pool", 2), ("dense", 128))


class ContentCNN(ContentModel):
    """A convolutional network of images or feature rows: classifier, regressor, or encoder into another model's space.

    Args:
        layers: of the encoder, in order: ``("conv", filters, kernel[, stride][, "same"])``,
            ``("pool", window or "global"[, "max" or "average"])``, ``("flatten",)``, ``("dense", width)``,
            ``("dropout", rate)``. A size is an int, or (along the height, along the width). Images ``(n, height, width,
            channels)`` are convolved in both directions, rows of features ``(n, length, channels)`` along their length.
        head: "softmax" (one class of several, cross-entropy), "sigmoid" (yes or no, per column of y, binary
            cross-entropy) or "linear" (numbers).
        activation: of convolutions and dense layers: "relu", "gelu", "gelu_tanh", "tanh", "sigmoid" or "identity".
        loss: of "linear": "squared" or "smooth_l1".
        n_classes: of "softmax"; None for what y holds.
        class_weight: weight of the rows of each class in the loss, or "balanced": n / (n_classes * rows of the class).
        resample: "over" draws of every class as many rows per epoch as the most frequent has, "under" as many as the
            rarest; None takes every row once.
        augmentation: None, or a dict with some of ``flip`` (chance of being mirrored left to right), ``crop`` (moved by
            up to so many places; zeros come in) and ``noise`` (standard deviation), for every batch anew.
        optimizer: "adam", "adamw", "sgd" or "adagrad".
        learning_rate, weight_decay, clip_norm, warmup_steps, schedule: of the optimizer.
        batch_size: rows in a step.
        n_epochs: passes over the rows.
        device: backend.
        n_threads: number of threads; None for every CPU granted. Nothing depends on it but the time.
        random_state: int, Generator, RandomState or None. The result is a function of data, parameters and this.

    Attributes:
        history_: ``{"loss": [...], metrics ...}``, one number per epoch.
        n_epochs_: finished epochs.
        seed_: the int that first parameters, orders and augmentation came from.
    """

    def __init__(
        self,
        layers: Any = _LAYERS,
        head: str = "softmax",
        *,
        activation: str = "relu",
        loss: str = "squared",
        n_classes: int | None = None,
        class_weight: Any = None,
        resample: str | None = None,
        augmentation: Any = None,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 32,
        n_epochs: int = 10,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.layers = layers
        self.head = head
        self.activation = activation
        self.loss = loss
        self.n_classes = n_classes
        self.class_weight = class_weight
        self.resample = resample
        self.augmentation = augmentation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    def _check_params(self) -> None:
        as_layers(self.layers)
        check_choice("activation", self.activation, ACTIVATIONS)
        super()._check_params()

    def _structure(self) -> dict[str, Any]:
        return {**super()._structure(), "layers": as_layers(self.layers)}

    def _blocks(self, image: tuple[int, int, int]) -> tuple[dict[str, Block], int]:
        return make_blocks(as_layers(self.layers), image, self.activation)

    def fit_factors(self, X: Any, model: Any, *, callbacks: Iterable[Any] = (), verbose: bool = False) -> Self:
        """Learn the item vectors of a fitted model from the items' content, so that new items get vectors.

        Afterwards ``encode(X)`` returns vectors in that model's space, and ``ExtendedCatalogue(model, encode(X_new))``
        recommends its items and new ones. Items without interactions do not count.

        Args:
            X: content of all items of the model, in their order; as in ``fit``.
            model: fitted, with factors, such as ``ALS`` or ``BPR``.
            callbacks, verbose: as in ``fit``.

        Raises:
            ValueError: ``head`` is not "linear", X has other items than the model, no item has interactions; and as
                ``fit``.
            NotSupportedError, NotFittedError: the model has no item vectors.
        """
        self._check_all()
        if self.head != "linear":
            raise ValueError(message("head", repr(self.head), "'linear'", "vectors are numbers"))
        vectors, images = item_vectors(model), as_images(X)
        if len(images) != len(vectors):
            raise ValueError(message("rows of X", len(images), f"{len(vectors)}, the items of the model"))
        known = inputs.column_counts(model.training_matrix_) > 0
        if not known.any():
            raise ValueError(message("no item of the model has interactions"))
        offset = vectors[known].mean(0)
        scale = float(np.sqrt(np.mean((vectors[known] - offset) ** 2, dtype=np.float64))) or 1.0
        targets = np.ascontiguousarray((vectors - offset) / np.float32(scale))
        data = ContentData(images, targets, np.empty(0, np.float32) if known.all() else known.astype(np.float32))
        return self._fit(data, offset, scale, None, callbacks, verbose)
