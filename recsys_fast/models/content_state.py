"""What a network of content is between its trainings: parameters, learned state, files."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Block, Runtime
from recsys_fast.blocks.heads import HEADS, Head
from recsys_fast.data.images import as_augmentation
from recsys_fast.errors import message
from recsys_fast.models.content_training import ContentNetwork
from recsys_fast.models.network_memory import count_parameters
from recsys_fast.models.network_state import NetworkState
from recsys_fast.models.network_structure import Structured
from recsys_fast.models.parameters import check_choice, check_float, check_int, check_random_state
from recsys_fast.ops.losses import REGRESSION
from recsys_fast.training.optimizers import KINDS, SCHEDULES, Optimizer

F32 = NDArray[np.float32]
Shape = tuple[int, int, int]

_MAX_STEPS = 2**32


class ContentState(NetworkState[ContentNetwork]):
    """Base class of ``ContentModel``, which adds training and use."""

    _FIT: ClassVar[str] = "fit(X, y)"
    _learned: ClassVar[tuple[str, ...]] = ("seed_", "_image", "_n_outputs", "_offset", "_scale")
    _training_only: ClassVar[frozenset[str]] = Structured._training_only | {"class_weight", "resample"}

    head: str
    loss: str
    n_classes: int | None
    class_weight: Any
    resample: str | None
    augmentation: Any
    optimizer: str
    learning_rate: float
    weight_decay: float
    clip_norm: float | None
    warmup_steps: int
    schedule: str
    batch_size: int
    n_epochs: int
    random_state: Any

    seed_: int
    _image: Shape
    _n_outputs: int
    _offset: F32  # of another model's vectors; of length 0 where the targets are the caller's own
    _scale: float

    # ---- what a model supplies

    @abstractmethod
    def _blocks(self, image: Shape) -> tuple[dict[str, Block], int]:
        """Return the encoder's blocks in order, not connected yet, and the width of its vectors."""

    # ---- parameters

    def _check_params(self) -> None:
        check_choice("head", self.head, HEADS)
        check_choice("loss", self.loss, REGRESSION)
        if self.n_classes is not None:
            check_int("n_classes", self.n_classes, 2, 1 << 24)
        if self.resample is not None:
            check_choice("resample", self.resample, ("over", "under"))
        if self.resample is not None and self.head == "linear":
            raise ValueError(message("resample with head='linear'", mend="it is for classes"))
        if self.class_weight is not None and self.head == "linear":
            raise ValueError(message("class_weight with head='linear'", mend="pass sample_weight to fit"))
        as_augmentation(self.augmentation)
        check_choice("optimizer", self.optimizer, tuple(KINDS))
        check_float("learning_rate", self.learning_rate, 0.0, above=True, high=1e6)
        check_float("weight_decay", self.weight_decay, 0.0, high=1e6)
        if self.clip_norm is not None:
            check_float("clip_norm", self.clip_norm, 0.0, above=True)
        check_int("warmup_steps", self.warmup_steps, 0)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_int("batch_size", self.batch_size, 1, 1 << 20)
        check_int("n_epochs", self.n_epochs, 1)
        check_random_state(self.random_state)

    # ---- the network

    def _new_network(self) -> ContentNetwork:
        blocks, width = self._blocks(self._image)
        optimizer = Optimizer(
            self.optimizer, self.learning_rate, weight_decay=self.weight_decay, clip_norm=self.clip_norm,
            warmup_steps=self.warmup_steps, schedule=self.schedule, n_steps=self.warmup_steps + 1,
        )  # fmt: skip
        head = Head(width, self._n_outputs, self.head, self.loss)
        runtime = Runtime(self.device, self.n_threads).stay_on_the_host(type(self).__name__)
        return ContentNetwork(blocks, head, optimizer, runtime, seed=self.seed_)

    # ---- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and learned state, the optimizer's included, to one file, atomically; not the training rows.

        Raises:
            NotFittedError: nothing to save yet.
            OSError: the file cannot be written.
        """
        from recsys_fast.models.files import save

        self._check_fitted()
        save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "auto") -> Self:
        """Return the model that ``save`` wrote to ``path``.

        Raises:
            ModelFormatError: the file is damaged, too new, or holds another kind of model.
        """
        from recsys_fast.models.files import load

        return load(path, cls, device)

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        self._check_unchanged(onwards=True)  # the file's parameters have to be those of its arrays
        arrays, steps = self._held()
        packed = {f"network.{name}": array for name, array in arrays.items()}
        values = {"seed": self.seed_, "steps": steps, "image": list(self._image), "n_outputs": self._n_outputs}
        return {**packed, "offset": self._offset}, {**values, "scale": self._scale}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import read_table, take_number, take_seed

        self.seed_, self._scale = take_seed(reader, values), take_number(reader, values, "scale")
        steps, image, n = (values.pop(name, None) for name in ("steps", "image", "n_outputs"))
        if type(steps) is not int or not 0 <= steps < _MAX_STEPS:
            raise reader.fail("steps", repr(steps)[:80], "a count below 2**32")
        if type(n) is not int or not 1 <= n < 2**31 or self.n_classes not in (None, n):
            raise reader.fail("n_outputs", repr(n)[:80], "a count that fits n_classes")
        sizes = image if isinstance(image, list) and len(image) == 3 else [0]
        if any(type(size) is not int or not 1 <= size < 2**31 for size in sizes):
            raise reader.fail("image", repr(image)[:80], "height, width and channels")
        self._image, self._n_outputs = (sizes[0], sizes[1], sizes[2]), n
        try:
            blocks, width = self._blocks(self._image)
        except ValueError as error:
            raise reader.fail(f"layers do not fit the images ({error})") from None
        shape = (count_parameters({**blocks, "head": Head(width, n, self.head)}),)
        names = ["parameters"] + [f"optimizer.parameters.{m}" for m in (self._moments() if steps else ())]
        self._stored = {name: read_table(reader, f"network.{name}", shape) for name in names}, steps
        self._offset = read_table(reader, "offset", (reader.length("offset"),))
        if len(self._offset) not in (0, n):
            raise reader.fail("offset", len(self._offset), f"0 or {n} numbers")
        self._keep_structure()
