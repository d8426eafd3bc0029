"""Networks of content: images, rows of numbers or texts go in; classes, numbers or another model's item vectors out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.blocks.encoder import Encoder
from recsys_fast.blocks.heads import Head
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.content_catalogue import item_vectors
from recsys_fast.models.content_inputs import ContentInput, ContentKind
from recsys_fast.models.content_state import F32, ContentState
from recsys_fast.models.content_targets import as_targets, class_weights
from recsys_fast.models.content_training import ContentBatches, ContentData, ContentEvaluator, ContentNetwork
from recsys_fast.models.memory import check_device_memory, names_gpu, with_device
from recsys_fast.models.network_memory import count_parameters, encoder_numbers
from recsys_fast.models.network_state import ASKING
from recsys_fast.models.parameters import check_int, seed_from
from recsys_fast.ops.fm_data import as_numbers
from recsys_fast.training.callbacks import LogEvaluation, ProgressBar
from recsys_fast.training.loop import check_callbacks, train
from recsys_fast.training.network import NetworkTrainer


class ContentModel(ContentState):
    """What networks of content share: ``fit(X, y)``, ``predict``, ``encode``; a model says what goes in, and its
    encoder."""

    # ---- training

    def _read(self, X: Any, y: Any, sample_weight: Any, onwards: bool) -> ContentData:
        content = self._content(X, kind=self._kind if onwards else None)
        n = len(content)
        n_outputs = self._n_outputs if onwards else self.n_classes if self.head == "softmax" else None
        targets = as_targets(y, n, self.head, n_outputs, every=not onwards)
        weights = self._weights(sample_weight, n)
        if self.resample is not None and targets.ndim == 2 and targets.shape[1] > 1:
            raise ValueError(message("resample with several columns of y", mend="leave it out, or use one column"))
        own = class_weights(self.class_weight, targets, self.head)
        if own is not None:
            weights = own * weights if len(weights) else own
        return ContentData(content, targets, weights)

    def _weights(self, sample_weight: Any, n: int) -> F32:
        """Return checked weights, of length 0 for 1."""
        if sample_weight is None:
            return np.empty(0, np.float32)
        weights = as_numbers(sample_weight, "sample_weight", n, lowest=0)
        if not weights.any():
            raise ValueError(message("sample_weight", "only zeros", "at least one above 0"))
        return weights

    def fit(
        self, X: Any, y: ArrayLike, *, sample_weight: ArrayLike | None = None, eval_set: Any = None,
        callbacks: Iterable[Any] = (), verbose: bool = False,
    ) -> Self:  # fmt: skip
        """Train from scratch.

        Args:
            X: content, a row for each target; the class says in which forms. An array is never copied as a whole: a
                memory-mapped one is read batch by batch.
            y: "softmax": ``(n,)`` classes 0, 1, ...; "sigmoid": ``(n,)`` or ``(n, k)`` of 0 and 1; "linear": ``(n,)``
                or ``(n, k)`` numbers.
            sample_weight: ``(n,)``, 0 or more; None for 1.
            eval_set: (X, y), whose metrics join ``history_`` after every epoch: accuracy and log_loss; log_loss, auc
                and accuracy; or rmse and mae.
            callbacks: objects with ``on_epoch_end(state) -> bool | None``; see ``recsys_fast.training``.
            verbose: show a progress bar, or a line per epoch where standard error is not a terminal.

        Returns:
            The model.

        Raises:
            ValueError, TypeError: a parameter or the data are not usable; the model is then left as it was.
            DeviceMemoryError: a GPU has no room for the network, likewise.
            DivergedError: the loss is not finite; the last finite epoch is kept.

        An exception, Ctrl-C included, leaves the model at the last finished epoch; unfitted if there was none.
        """
        self._check_all()
        data = self._read(X, y, sample_weight, False)
        return self._fit(data, np.empty(0, np.float32), 1.0, eval_set, callbacks, verbose)

    def fit_factors(
        self, X: Any, model: Any, *, sample_weight: ArrayLike | None = None, callbacks: Iterable[Any] = (),
        verbose: bool = False,
    ) -> Self:  # fmt: skip
        """Learn the item vectors of a fitted model from the items' content, so that new items get vectors.

        Afterwards ``encode(X)`` returns vectors in that model's space, and ``ExtendedCatalogue(model, encode(X_new))``
        recommends its items and new ones. Items without interactions do not count.

        Args:
            X: content of all items of the model, in their order; as in ``fit``.
            model: fitted, with factors, such as ``ALS`` or ``BPR``.
            sample_weight: of the items, as in ``fit``: vectors of items with few interactions are known less well.
            callbacks, verbose: as in ``fit``.

        Raises:
            ValueError: ``head`` is not "linear", X has other items than the model, no item has interactions; and as
                ``fit``.
            NotSupportedError, NotFittedError: the model has no item vectors.
        """
        self._check_all()
        if self.head != "linear":
            raise ValueError(message("head", repr(self.head), "'linear'", "vectors are numbers"))
        vectors, content = item_vectors(model), self._content(X)
        if len(content) != len(vectors):
            raise ValueError(message("rows of X", len(content), f"{len(vectors)}, the items of the model"))
        known = inputs.column_counts(model.training_matrix_) > 0
        given = self._weights(sample_weight, len(content))
        weights = known * (given if len(given) else np.float32(1))
        known = weights > 0
        if not known.any():
            raise ValueError(message("no item of the model has interactions, and a weight above 0"))
        offset = vectors[known].mean(0)
        scale = float(np.sqrt(np.mean((vectors[known] - offset) ** 2, dtype=np.float64))) or 1.0
        targets = np.ascontiguousarray((vectors - offset) / np.float32(scale))
        data = ContentData(content, targets, given if known.all() and not len(given) else weights)
        return self._fit(data, offset, scale, None, callbacks, verbose)

    def _fit(
        self, data: ContentData, offset: F32, scale: float, eval_set: Any, callbacks: Iterable[Any], verbose: bool
    ) -> Self:
        content, targets = data.content, data.targets
        chosen, evaluator = self._watchers(eval_set, callbacks, verbose, content.kind)
        n_outputs = targets.shape[1] if targets.ndim == 2 else self.n_classes or int(targets.max()) + 1
        self._changes(content)
        encoder = self._encoder(content.kind, content)  # complains before anything is forgotten
        self._check_room(content, encoder, n_outputs)
        for name in (*self._learned, "n_epochs_", "_cache"):
            vars(self).pop(name, None)
        self._forget_network()
        self.history_, self.seed_ = {}, seed_from(self.random_state)
        self._kind, self._n_outputs, self._offset, self._scale = content.kind, n_outputs, offset, scale
        self._keep_structure()
        network = self._new_network(content)
        network.initialise(np.random.Generator(np.random.Philox(self.seed_)))
        trainer = self._trainer(network, data)
        train(self, trainer, self.n_epochs, history=self.history_, evaluator=evaluator, callbacks=chosen)
        return self

    def partial_fit(self, X: Any, y: ArrayLike, *, sample_weight: ArrayLike | None = None, n_epochs: int = 1) -> Self:
        """Train ``n_epochs`` more epochs on these rows from the present state; from scratch on an unfitted model.

        Raises:
            ValueError, TypeError, DivergedError: as ``fit``; content of another kind than before, or a parameter that
                the network was built by has changed.
        """
        self._check_all()
        n_epochs = check_int("n_epochs", n_epochs, 1)
        if not self.is_fitted:
            before, self.n_epochs = self.n_epochs, n_epochs
            try:
                return self.fit(X, y, sample_weight=sample_weight)
            finally:
                self.n_epochs = before
        return self._continue(X, y, sample_weight, self.n_epochs_ + n_epochs, None, (), False)

    @classmethod
    def resume(
        cls, path: str | os.PathLike[str], X: Any, y: ArrayLike, *, sample_weight: ArrayLike | None = None,
        n_epochs: int | None = None, eval_set: Any = None, callbacks: Iterable[Any] = (), verbose: bool = False,
        device: str = "auto",
    ) -> Self:  # fmt: skip
        """Continue the training that a ``Checkpoint`` saved, on the same rows: the file does not hold them.

        Args:
            path: the checkpoint.
            X, y, sample_weight: as in the interrupted ``fit``.
            n_epochs: epochs to reach, counted from the first; None for what that ``fit`` was to reach.
            eval_set, callbacks, verbose: as in ``fit``.
            device: backend.

        Returns:
            The model, with the same bits as after an uninterrupted run on the same backend.

        Raises:
            ModelFormatError: the file is damaged or holds another model.
            ValueError, TypeError: as ``fit``.
        """
        model = cls.load(path, device=device)
        last = model.n_epochs if n_epochs is None else check_int("n_epochs", n_epochs, 1)
        return model._continue(X, y, sample_weight, last, eval_set, callbacks, verbose)

    def _continue(
        self, X: Any, y: Any, sample_weight: Any, last: int, eval_set: Any, callbacks: Iterable[Any], verbose: bool
    ) -> Self:
        self._check_unchanged(onwards=True)
        if len(self._offset):
            raise ValueError(message("a model of item vectors goes on", mend="call fit_factors again"))
        data = self._read(X, y, sample_weight, True)
        self._changes(data.content)
        chosen, evaluator = self._watchers(eval_set, callbacks, verbose, self._kind)
        if last > self.n_epochs_:
            self._check_room(data.content, self._encoder(self._kind), self._n_outputs)
            network = self._new_network()
            network.restore(*self._held())
            first, history, trainer = self.n_epochs_, self.history_, self._trainer(network, data)
            train(self, trainer, last, first=first, history=history, evaluator=evaluator, callbacks=chosen)
        return self

    def _trainer(self, network: ContentNetwork, data: ContentData) -> NetworkTrainer:
        batches = ContentBatches(data, self.batch_size, self.seed_, self.resample, self._changes(data.content))
        self._plan_steps(network, batches.n_batches)
        self._take_network(network)
        return NetworkTrainer(self, network, batches)

    def _watchers(
        self, eval_set: Any, callbacks: Iterable[Any], verbose: bool, kind: ContentKind
    ) -> tuple[tuple[Any, ...], ContentEvaluator]:
        chosen = check_callbacks(callbacks)
        evaluator = ContentEvaluator(self, eval_set, chosen, kind)
        if verbose:
            chosen += (ProgressBar() if sys.stderr.isatty() else LogEvaluation(()),)
        return chosen, evaluator

    # ---- use

    def _run(self, content: ContentInput, head: bool) -> F32:
        """Return the head's scores of every row, or the encoder's vectors."""
        with ASKING:
            network = self._net()
            out = np.empty((len(content), self._n_outputs if head else network.head.d), np.float32)
            for start in range(0, len(out), self.batch_size):
                stop = min(len(out), start + self.batch_size)
                h = network.encode(content.take(slice(start, stop)))
                out[start:stop] = network.runtime.to_host(network.scores(h) if head else h)
        return out

    def _predictions(self, content: ContentInput) -> F32:
        """Return probabilities or numbers, ``(n, k)``."""
        return np.asarray(self._net().head.link(self._run(content, True)), np.float32)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row, ``(n,) int32`` (several columns of "sigmoid": ``(n, k)``); with
        "linear" the numbers, ``(n,)`` or ``(n, k) float32``.

        Raises:
            NotFittedError: there is no model yet.
            TypeError, ValueError: content of another shape, dtype or vocabulary than in ``fit``, or not finite.
        """
        self._check_fitted()
        found = self._predictions(self._content(X, kind=self._kind))
        if self.head == "softmax":
            classes: NDArray[np.int32] = found.argmax(1).astype(np.int32)
            return classes
        found = found[:, 0] if self._n_outputs == 1 else found
        return (found > 0.5).astype(np.int32) if self.head == "sigmoid" else found

    def predict_proba(self, X: Any) -> F32:
        """Return the classes' probabilities, ``(n, n_classes) float32``; with "sigmoid" those of 1, ``(n,)`` or
        ``(n, k)``.

        Raises:
            ValueError: the model predicts numbers; and as ``predict``.
        """
        self._check_fitted()
        if self.head == "linear":
            raise ValueError(message("probabilities of a model with head='linear'", mend="call predict"))
        found = self._predictions(self._content(X, kind=self._kind))
        return found[:, 0] if self.head == "sigmoid" and self._n_outputs == 1 else found

    def encode(self, X: Any) -> F32:
        """Return a vector of each row, ``(n, d) float32``: what goes into the head; after ``fit_factors`` the predicted
        item vectors of that model.

        Raises:
            NotFittedError, TypeError, ValueError: as ``predict``.
        """
        self._check_fitted()
        content = self._content(X, kind=self._kind)
        if not len(self._offset):
            return self._run(content, False)
        vectors: F32 = self._run(content, True) * np.float32(self._scale) + self._offset
        return vectors

    def estimate_memory(self, X: Any) -> dict[str, int]:
        """Return the bytes that ``fit(X, y)`` needs at its peak besides X and y, by purpose and as "total".

        With ``device="cuda"`` there is "device", what the GPU needs, which "total" leaves out.
        """
        self._check_params()
        content = self._content(X)
        return self._estimate(content, self._encoder(content.kind, content), self.n_classes or 1)

    def _check_room(self, content: ContentInput, encoder: Encoder, n_outputs: int) -> None:
        """Raise DeviceMemoryError where a GPU has no room for training."""
        if names_gpu(self.device):
            needed = self._estimate(content, encoder, n_outputs)["device"]
            check_device_memory(type(self).__name__, self.device, needed)

    def _estimate(self, content: ContentInput, encoder: Encoder, n_outputs: int) -> dict[str, int]:
        """Return what ``estimate_memory`` does."""
        head = Head(encoder.width, n_outputs, self.head)
        frozen = 4 * sum(table.n_rows * table.d for table in encoder.tables if table.frozen)
        learned = 4 * count_parameters({**encoder.blocks, "head": head})
        learned += 4 * sum(table.n_rows * table.d for table in encoder.tables) - frozen
        moments, (n_rows, width) = len(self._moments()), content.packed_size(self.batch_size)
        on_gpu = names_gpu(self.device)
        kept = n_rows * (width + encoder_numbers(encoder.blocks.values(), on_gpu))
        parts = {
            "network": learned + frozen, "optimizer": moments * learned, "copy": (1 + moments) * learned + frozen,
            "gradients": learned, "batch": 4 * kept + kept,
        }  # fmt: skip
        on_host = {"order": 24 * len(content)}
        if not on_gpu:
            return with_device({**parts, **on_host}, 0)
        # scores with their gradient, the head's weights turned over, what is pooled and dropped; and small arrays
        scores = 12 * self.batch_size * n_outputs + 12 * encoder.width * n_outputs
        scores += 32 * encoder.width * self.batch_size + (1 << 16)
        on_host |= {"network": learned + frozen, "batch": 5 * n_rows * width}
        return with_device(on_host, sum(parts.values()) + scores)
