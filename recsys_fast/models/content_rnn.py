"""Recurrent networks over texts, or over rows of numbers in order."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from recsys_fast.blocks.encoder import Encoder
from recsys_fast.blocks.sequence_pool import POOLINGS
from recsys_fast.data import augmentation as of_sequences
from recsys_fast.data.images import Augmentation, as_augmentation, as_images
from recsys_fast.data.token_rows import as_token_rows
from recsys_fast.data.vectors import Vectors, start_values
from recsys_fast.errors import message
from recsys_fast.models.content_inputs import ContentInput, ContentKind, SeriesInput, TokenInput
from recsys_fast.models.content_model import ContentModel
from recsys_fast.models.content_recurrent import CELLS, text_encoder
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.models.sgd_factors import check_flag

_CHANGES = ("crop", "reorder", "item_dropout", "probability")  # of texts; others are those of images


class ContentRNN(ContentModel):
    """A recurrent network of texts or rows of numbers: classifier, regressor, or encoder into another model's space.

    X is what ``TextEncoder.tokens`` returns, or other ragged rows of token ids (``Sequences``, a list of lists or
    arrays, ``(n, length)`` integers): embedding, recurrent layers, pooling. ``(n, length, channels)`` floats (or uint8,
    taken as 0 to 1) go into the first layer as they are. Rows are never padded. A text without ids, be it empty or of
    unknown words only, has the vector of zeros that recurrent layers start from, so that the head's biases decide.

    Args:
        cell: "lstm", "gru" or "rnn" (tanh).
        d_embedding: length of a token's vector.
        hidden: units of each recurrent layer, the length of ``encode``'s vectors.
        n_layers: number of recurrent layers.
        pooling: what stands for a text: the "last" state, or "mean" or "max" over the states of the last layer.
        head: "softmax" (one class of several, cross-entropy), "sigmoid" (yes or no, per column of y, binary
            cross-entropy) or "linear" (numbers).
        n_tokens: size of the vocabulary; None for what X says, or for its largest id + 1. Ids beyond it are refused.
        max_len: only the first so many ids of a text count; None for all.
        init: vectors that the embedding starts from: ``(n_tokens, d_embedding)`` numbers, ``Aligned``, or ``Vectors``
            of words, which are matched to the words of ``TextEncoder.tokens``; words without a vector get a random one
            of alike columns. None for random ones of about length 1. Not part of a saved model.
        frozen: whether the embedding stays as it starts.
        dropout: share of the embedding, of each layer's states and of the text's vector that training sets to 0.
        loss: of "linear": "squared" or "smooth_l1".
        n_classes: of "softmax"; None for what y holds.
        class_weight: weight of the rows of each class in the loss, or "balanced": n / (n_classes * rows of the class).
        resample: "over" draws of every class as many rows per epoch as the most frequent has, "under" as many as the
            rarest; None takes every row once.
        augmentation: None, or a dict of random changes, for every batch anew. Of texts: some of ``item_dropout``
            (chance of a token, the last one excepted, to be left out), ``crop`` (share that is cut away), ``reorder``
            (share that is shuffled) and ``probability`` (of the latter two); of rows of numbers: ``flip``, ``crop`` and
            ``noise``, as of ``ContentCNN``.
        optimizer: "adam", "adamw", "sgd" or "adagrad".
        learning_rate, weight_decay, clip_norm, warmup_steps, schedule: of the optimizer.
        lazy_moments: whether "adam" and "adamw" leave vectors of tokens that a step does not touch as they are, as
            PyTorch's SparseAdam does. False moves all of them at every step.
        batch_size: texts in a step.
        n_epochs: passes over the texts.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: number of threads; None for every CPU granted. Nothing depends on it but the time.
        random_state: int, Generator, RandomState or None. The result is a function of data, parameters and this.

    Attributes:
        history_: ``{"loss": [...], metrics ...}``, one number per epoch.
        n_epochs_: finished epochs.
        seed_: the int that first parameters, orders and augmentation came from.
    """

    _N_SIZES: ClassVar[tuple[int, ...]] = (1, 2)
    _unsaved: ClassVar[tuple[str, ...]] = ("init",)
    _training_only: ClassVar[frozenset[str]] = ContentModel._training_only | {"init"}

    def __init__(
        self,
        cell: str = "lstm",
        d_embedding: int = 64,
        hidden: int = 64,
        n_layers: int = 1,
        *,
        pooling: str = "last",
        head: str = "softmax",
        n_tokens: int | None = None,
        max_len: int | None = None,
        init: Any = None,
        frozen: bool = False,
        dropout: float = 0.0,
        loss: str = "squared",
        n_classes: int | None = None,
        class_weight: Any = None,
        resample: str | None = None,
        augmentation: Any = None,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        lazy_moments: bool = True,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 64,
        n_epochs: int = 10,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.cell = cell
        self.d_embedding = d_embedding
        self.hidden = hidden
        self.n_layers = n_layers
        self.pooling = pooling
        self.head = head
        self.n_tokens = n_tokens
        self.max_len = max_len
        self.init = init
        self.frozen = frozen
        self.dropout = dropout
        self.loss = loss
        self.n_classes = n_classes
        self.class_weight = class_weight
        self.resample = resample
        self.augmentation = augmentation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.lazy_moments = lazy_moments
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    def _check_params(self) -> None:
        check_choice("cell", self.cell, CELLS)
        check_int("d_embedding", self.d_embedding, 1, 4096)
        check_int("hidden", self.hidden, 1, 4096)
        check_int("n_layers", self.n_layers, 1, 64)
        check_choice("pooling", self.pooling, POOLINGS)
        if self.n_tokens is not None:
            check_int("n_tokens", self.n_tokens, 1, 2**31 - 2)
        if self.max_len is not None:
            check_int("max_len", self.max_len, 1)
        check_flag("frozen", self.frozen)
        if check_float("dropout", self.dropout, 0.0, high=1.0) == 1.0:
            raise ValueError(message("dropout", self.dropout, "0 <= dropout < 1"))
        self._check_changes()
        super()._check_params()

    # ---- what goes in

    def _content(self, X: Any, name: str = "X", kind: ContentKind | None = None) -> TokenInput | SeriesInput:
        if _is_series(X):
            return self._series(np.asarray(X), name, kind)
        if kind is not None and len(kind.shape) == 2:
            raise TypeError(
                message(name, type(X).__name__, f"(n, {kind.shape[0]}, {kind.shape[1]}) numbers, as in fit")
            )
        n_tokens = self.n_tokens if kind is None else kind.shape[0]
        rows = as_token_rows(X, name, n_tokens, "" if kind is None else kind.vocabulary)
        return TokenInput(rows, self.max_len)

    def _series(self, X: Any, name: str, kind: ContentKind | None) -> SeriesInput:
        if X.ndim != 3:
            expected = "(n, length, channels) numbers, or rows of token ids (integers)"
            raise ValueError(message(f"shape of {name}", f"{X.dtype} {X.shape}", expected))
        if kind is not None and X.shape[1:] != kind.shape:
            got = "texts" if len(kind.shape) == 1 else f"(n, {kind.shape[0]}, {kind.shape[1]})"
            raise ValueError(message(f"shape of {name}", X.shape, f"{got}, as in fit"))
        for parameter in ("init", "n_tokens", "max_len"):
            if getattr(self, parameter) is not None:
                raise ValueError(message(f"{parameter} with rows of numbers", mend="it is for texts; leave it out"))
        return SeriesInput(as_images(X, name))

    def _check_changes(self) -> None:
        """Raise where ``augmentation`` makes sense for nothing; a name that texts and numbers share waits for X."""
        given = set(self.augmentation) if isinstance(self.augmentation, dict) else {None}
        texts, numbers = given <= set(_CHANGES), given <= set(Augmentation._fields)
        if self.augmentation is not None and not (texts and numbers):
            self._changes_of(texts)

    def _changes(self, content: ContentInput) -> Any:
        return None if self.augmentation is None else self._changes_of(len(content.kind.shape) == 1)

    def _changes_of(self, texts: bool) -> Any:
        if texts:
            return of_sequences.as_augmentation(self.augmentation, _CHANGES)
        return as_augmentation(self.augmentation)

    # ---- what it goes through

    def _encoder(self, kind: ContentKind, content: ContentInput | None = None) -> Encoder:
        init = "normal" if content is None or self.init is None else self._start(content)
        return text_encoder(
            kind, self.cell, self.d_embedding, self.hidden, self.n_layers, self.pooling, self.dropout, init=init,
            frozen=self.frozen,
        )  # fmt: skip

    def _start(self, content: Any) -> Any:
        """Return the vectors of all ids that ``init`` says."""
        (n_tokens,), names = content.kind.shape, list(content.names)
        if isinstance(self.init, Vectors) and not names:
            mend = "pass TextEncoder.tokens(texts), or vectors.align(words) as init"
            raise ValueError(message("init of named vectors for tokens without names", mend=mend))
        unnamed: list[Any] = [None] * (n_tokens - len(names))  # that of unknown words, and ids that nobody has
        return start_values(self.init, names[:n_tokens] + unnamed, self.d_embedding, "d_embedding")


def _is_series(X: Any) -> bool:
    """Return whether X is an array of numbers rather than rows of ids."""
    if not isinstance(X, np.ndarray) and not hasattr(X, "__array_interface__"):
        return False
    array = np.asarray(X)
    return array.ndim == 3 or (array.dtype.kind == "f" and array.ndim > 0)
