"""What a network of content is between its trainings: parameters, learned state, files."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Runtime
from recsys_fast.blocks.encoder import Encoder
from recsys_fast.blocks.heads import HEADS, Head
from recsys_fast.errors import message
from recsys_fast.models.content_inputs import ContentInput, ContentKind
from recsys_fast.models.content_training import ContentNetwork
from recsys_fast.models.network_state import NetworkState
from recsys_fast.models.network_structure import Structured
from recsys_fast.models.parameters import check_choice, check_int
from recsys_fast.ops.losses import REGRESSION

F32 = NDArray[np.float32]


class ContentState(NetworkState[ContentNetwork]):
    """Base class of ``ContentModel``, which adds training and use."""

    _FIT: ClassVar[str] = "fit(X, y)"
    _learned: ClassVar[tuple[str, ...]] = ("seed_", "_kind", "_n_outputs", "_offset", "_scale")
    _training_only: ClassVar[frozenset[str]] = Structured._training_only | {"class_weight", "resample"}
    #: how many sizes a ``ContentKind`` of the model has
    _N_SIZES: ClassVar[tuple[int, ...]]

    head: str
    loss: str
    n_classes: int | None
    class_weight: Any
    resample: str | None
    augmentation: Any

    seed_: int
    _kind: ContentKind
    _n_outputs: int
    _offset: F32  # of another model's vectors; of length 0 where the targets are the caller's own
    _scale: float

    # ---- what a model supplies

    @abstractmethod
    def _content(self, X: Any, name: str = "X", kind: ContentKind | None = None) -> ContentInput:
        """Return checked content.

        Args:
            X: as the caller gave it.
            name: in messages.
            kind: that it must be of; None for any.
        """

    @abstractmethod
    def _encoder(self, kind: ContentKind, content: ContentInput | None = None) -> Encoder:
        """Return the encoder of content of a kind, not connected yet; at the start of a training, ``content`` is it.

        Raises:
            ValueError: there is no such encoder.
        """

    @abstractmethod
    def _changes(self, content: ContentInput) -> Any:
        """Return ``augmentation`` as ``content.augment`` takes it, or None.

        Raises:
            TypeError, ValueError: it makes no sense for this content.
        """

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
        super()._check_params()

    # ---- the network

    def _new_network(self, content: ContentInput | None = None) -> ContentNetwork:
        encoder = self._encoder(self._kind, content)
        head = Head(encoder.width, self._n_outputs, self.head, self.loss)
        runtime = Runtime(self.device, self.n_threads)
        return ContentNetwork(encoder, head, self._optimizer(), runtime, seed=self.seed_)

    # ---- files

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        from recsys_fast.models.network_files import pack

        arrays, values = pack(self)
        values |= {"n_outputs": self._n_outputs, "scale": self._scale, "shape": list(self._kind.shape)}
        return {**arrays, "offset": self._offset}, {**values, "vocabulary": self._kind.vocabulary}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import read_table, take_number
        from recsys_fast.models.network_files import read_network

        self._scale = take_number(reader, values, "scale")
        shape, vocabulary, n = (values.pop(name, None) for name in ("shape", "vocabulary", "n_outputs"))
        if type(n) is not int or not 1 <= n < 2**31 or self.n_classes not in (None, n):
            raise reader.fail("n_outputs", repr(n)[:80], "a count that fits n_classes")
        sizes = shape if isinstance(shape, list) and len(shape) in self._N_SIZES else [0]
        if any(type(size) is not int or not 1 <= size < 2**31 for size in sizes):
            raise reader.fail("shape", repr(shape)[:80], "the sizes of a row of content")
        if not isinstance(vocabulary, str) or len(vocabulary) > 64:
            raise reader.fail("vocabulary", repr(vocabulary)[:80], "a fingerprint")
        self._kind, self._n_outputs = ContentKind(tuple(sizes), vocabulary), n
        try:
            encoder = self._encoder(self._kind)
        except ValueError as error:
            raise reader.fail(f"parameters do not fit the content ({error})") from None
        blocks = {**encoder.blocks, "head": Head(encoder.width, n, self.head)}
        read_network(self, reader, values, encoder.tables, blocks)
        self._offset = read_table(reader, "offset", (reader.length("offset"),))
        if len(self._offset) not in (0, n):
            raise reader.fail("offset", len(self._offset), f"0 or {n} numbers")
