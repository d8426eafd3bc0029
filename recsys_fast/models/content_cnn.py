"""Convolutional networks over images, or over rows of features in order."""

from __future__ import annotations

from typing import Any, ClassVar

from recsys_fast.blocks.encoder import Encoder
from recsys_fast.data.images import Augmentation, as_augmentation, as_images
from recsys_fast.models.content_inputs import ContentInput, ContentKind, ImageInput
from recsys_fast.models.content_layers import as_layers, make_blocks
from recsys_fast.models.content_model import ContentModel
from recsys_fast.models.parameters import check_choice
from recsys_fast.ops.block_arguments import ACTIVATIONS

_LAYERS = (("conv", 32, 3), ("pool", 2), ("dense", 128))


class ContentCNN(ContentModel):
    """A convolutional network of images or feature rows: classifier, regressor, or encoder into another model's space.

    X is ``(n, height, width, channels)`` images or ``(n, length, channels)`` rows of features; uint8 (taken as 0 to 1)
    or floats.

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
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: number of threads; None for every CPU granted. Nothing depends on it but the time.
        random_state: int, Generator, RandomState or None. The result is a function of data, parameters and this.

    Attributes:
        history_: ``{"loss": [...], metrics ...}``, one number per epoch.
        n_epochs_: finished epochs.
        seed_: the int that first parameters, orders and augmentation came from.
    """

    _N_SIZES: ClassVar[tuple[int, ...]] = (3,)

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
        as_augmentation(self.augmentation)
        check_choice("activation", self.activation, ACTIVATIONS)
        super()._check_params()

    def _structure(self) -> dict[str, Any]:
        return {**super()._structure(), "layers": as_layers(self.layers)}

    def _content(self, X: Any, name: str = "X", kind: ContentKind | None = None) -> ImageInput:
        shape: Any = None if kind is None else kind.shape
        return ImageInput(as_images(X, name, shape))

    def _encoder(self, kind: ContentKind, content: ContentInput | None = None) -> Encoder:
        height, width, channels = kind.shape
        return Encoder(*make_blocks(as_layers(self.layers), (height, width, channels), self.activation))

    def _changes(self, content: ContentInput) -> Augmentation | None:
        return as_augmentation(self.augmentation)
