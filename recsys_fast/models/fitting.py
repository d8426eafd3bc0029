"""Training of models: from scratch, onwards, in part, and resumed from a file; and the state that it leaves."""

from __future__ import annotations

import os
import sys
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.memory import check_device_memory, names_gpu
from recsys_fast.models.parameters import check_int
from recsys_fast.models.state import Stateful
from recsys_fast.ops import Csr
from recsys_fast.training.callbacks import LogEvaluation, ProgressBar
from recsys_fast.training.loop import Evaluator, Trainer, check_callbacks, train

_GROW = "call resize(n_users, n_items) first to make room for new ids"


class Trainable(Stateful):
    """What every model of users and items does around its training; ``Recommender`` adds the use of the result."""

    _keeps_matrix: ClassVar[bool] = True

    user_ids_: Any
    item_ids_: Any
    _matrix: Csr

    # ---- what a model supplies

    def _prepare(self, matrix: Csr) -> Csr:
        """Return the matrix as the model keeps it; raises ValueError for values that make no sense to the model."""
        return matrix

    def _check_given(self, matrix: Csr, **given: Any) -> dict[str, Any]:
        """Return what a model keeps of further inputs of ``fit``, by attribute; raises ValueError where they misfit."""
        return given

    def _device_bytes(self, data: Any) -> int:
        """Return how many bytes of a GPU training on checked data takes at its peak; 0 where it takes none."""
        return 0

    def _sketch(self, **given: Any) -> Self:
        """Return an unfitted model of the same parameters that has what ``_check_given`` returned."""
        sketch = type(self)(**self.get_params())
        vars(sketch).update(given)
        return sketch

    def _check_room(self, data: Any) -> None:
        """Raise DeviceMemoryError, before anything is lost, where a GPU has no room for training on checked data."""
        if names_gpu(self.device) and (needed := self._device_bytes(data)):
            check_device_memory(type(self).__name__, self.device, needed)

    @abstractmethod
    def _begin(self) -> Trainer:
        """Allocate the learned state for ``self._matrix`` and return what trains it."""

    @abstractmethod
    def _resume(self) -> Trainer:
        """Return what goes on training the present learned state on ``self._matrix``."""

    def _planned_epochs(self) -> int:
        """Return the number of epochs of a ``fit``."""
        return 1

    @abstractmethod
    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        """Recompute the state of these users or items from ``self._matrix``."""

    @abstractmethod
    def _grow(self, n_users: int, n_items: int) -> None:
        """Give new users and items the state of those without interactions; ``self._matrix`` has grown already."""

    # ---- training

    def fit(
        self, user_items: Any, *, eval_set: Any = None, callbacks: Iterable[Any] = (), verbose: bool = False
    ) -> Self:
        """Train from scratch.

        Args:
            user_items: ``(n_users, n_items)`` interactions.
            eval_set: test matrix, or the pair (train, test); its metrics join ``history_`` after every epoch.
            callbacks: objects with ``on_epoch_end(state) -> bool | None``; see ``recsys_fast.training``.
            verbose: show a progress bar, or a line per epoch where standard error is not a terminal.

        Returns:
            The model.

        Raises:
            ValueError, TypeError: a parameter or the matrix is not usable; the model is then left as it was.
            DeviceMemoryError: a GPU has no room for it, likewise.
            DivergedError: the loss is not finite; the last finite epoch is kept.

        An exception, Ctrl-C included, leaves the model at the last finished epoch; unfitted if there was none.
        """
        return self._fit(user_items, eval_set, callbacks, verbose)

    def _fit(self, user_items: Any, eval_set: Any, callbacks: Iterable[Any], verbose: bool, **given: Any) -> Self:
        """Train from scratch; ``given`` are further inputs, which ``_check_given`` makes attributes of."""
        self._check_all()
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items"))
        attributes = self._check_given(matrix, **given)
        chosen, evaluator = self._watchers(eval_set, callbacks, verbose)
        (self._sketch(**attributes) if attributes else self)._check_room(matrix)
        self._start(user_items)
        self._matrix = matrix
        vars(self).update(attributes)
        trainer = self._begin()
        self._announce(verbose)
        n_epochs = self._planned_epochs()
        train(self, trainer, n_epochs, history=self.history_, evaluator=evaluator, callbacks=chosen)
        return self

    def partial_fit(
        self, user_items: Any, *, users: ArrayLike | None = None, items: ArrayLike | None = None, n_epochs: int = 1
    ) -> Self:
        """Bring a fitted model up to date; on an unfitted one, train ``n_epochs`` epochs from scratch.

        - Neither ``users`` nor ``items``: ``user_items (n_users, n_items)`` replaces the training matrix, and
          ``n_epochs`` more epochs are trained from the present state.
        - ``users``: row ``k`` of ``user_items (len(users), n_items)`` replaces the history of ``users[k]``, and only
          those users' state is computed anew.
        - ``items``: column ``k`` of ``user_items (n_users, len(items))`` replaces that of ``items[k]``, likewise.

        Raises:
            ValueError: both ``users`` and ``items``, an id twice, or a matrix of another shape.
            IndexError: an id the model does not have; ``resize`` makes room.
        """
        self._check_all()
        n_epochs = check_int("n_epochs", n_epochs, 1)
        if users is not None and items is not None:
            raise ValueError(message("partial_fit", "users and items", "one of them", "call it once for each"))
        if users is None and items is None:
            return self._partial_fit_all(user_items, n_epochs)
        n_users, n_items = self._shape()
        if users is not None:
            ids, _ = inputs.check_ids(users, n_users, "users", _GROW)
            inputs.check_distinct(ids, "users")
            part = self._prepare(inputs.check_matrix(user_items, "user_items", len(ids), n_items))
            self._replace(inputs.replace_rows(self._matrix, ids, part), ids, None)
        elif items is not None:
            ids, _ = inputs.check_ids(items, n_items, "items", _GROW)
            inputs.check_distinct(ids, "items")
            part = self._prepare(inputs.check_matrix(user_items, "user_items", n_users, len(ids)))
            self._replace(inputs.replace_columns(self._matrix, ids, part), None, ids)
        return self

    def _replace(self, matrix: Csr, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        """Take over a matrix in which these users or items are new; on failure stay as before."""
        old, self._matrix = self._matrix, matrix
        try:
            self._update(users, items)
        except BaseException:
            self._matrix = old
            raise

    def _partial_fit_all(self, user_items: Any, n_epochs: int) -> Self:
        fitted = self.is_fitted
        shape = self._shape() if fitted else (None, None)
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items", *shape))
        self._check_room(matrix)
        if not fitted:
            self._start(user_items)
        self._matrix = matrix
        trainer = self._resume() if fitted else self._begin()
        first = self.n_epochs_ if fitted else 0
        evaluator = Evaluator(None, (), self.n_threads)
        train(self, trainer, first + n_epochs, first=first, history=self.history_, evaluator=evaluator)
        return self

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        *,
        n_epochs: int | None = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
        device: str = "auto",
    ) -> Self:
        """Continue the training that a ``Checkpoint`` saved; the file holds all that is needed.

        Args:
            path: the checkpoint.
            n_epochs: epochs to reach, counted from the first; None for what the interrupted ``fit`` was to reach.
            eval_set: as in ``fit``.
            callbacks: as in ``fit``.
            verbose: as in ``fit``.
            device: backend.

        Returns:
            The model, with the same bits as after an uninterrupted run on the same backend.

        Raises:
            ModelFormatError: the file is damaged or holds another model.
        """
        return cls.load(path, device=device)._go_on(n_epochs, eval_set, callbacks, verbose)

    def _go_on(self, n_epochs: int | None, eval_set: Any, callbacks: Iterable[Any], verbose: bool) -> Self:
        """Train a loaded model up to this number of epochs; see ``resume``."""
        chosen, evaluator = self._watchers(eval_set, callbacks, verbose)
        last = self._planned_epochs() if n_epochs is None else check_int("n_epochs", n_epochs, 1)
        if last > self.n_epochs_:
            first, history = self.n_epochs_, self.history_
            self._announce(verbose)
            train(self, self._resume(), last, first=first, history=history, evaluator=evaluator, callbacks=chosen)
        return self

    def _watchers(self, eval_set: Any, callbacks: Iterable[Any], verbose: bool) -> tuple[tuple[Any, ...], Evaluator]:
        chosen = check_callbacks(callbacks)
        evaluator = Evaluator(eval_set, chosen, self.n_threads)
        if verbose:
            chosen += (ProgressBar() if sys.stderr.isatty() else LogEvaluation(()),)
        return chosen, evaluator

    def _announce(self, verbose: bool) -> None:
        """Say, where ``verbose``, what was chosen automatically."""

    # ---- state

    @property
    def training_matrix_(self) -> Csr:
        """The training matrix as the model keeps it; values None where every entry counts 1."""
        self._check_fitted()
        return self._matrix

    def _training_data(self) -> Any:
        """Return what is known of users when the model is evaluated during training."""
        return self.training_matrix_

    def _shape(self) -> tuple[int, int]:
        """Return (n_users, n_items) of a fitted model."""
        self._check_fitted()
        return self._matrix.shape

    def _start(self, user_items: Any) -> None:
        """Drop the learned state, so that training starts from nothing, whatever the shape was."""
        for name in (*self._learned, "n_epochs_", "_matrix", "_cache"):
            vars(self).pop(name, None)
        self.history_ = {}
        self.user_ids_, self.item_ids_ = getattr(user_items, "user_ids", None), getattr(user_items, "item_ids", None)

    def resize(self, n_users: int | None = None, n_items: int | None = None) -> Self:
        """Make room for new users and items, without interactions, behind the present ones.

        Args:
            n_users: new number of users; None to keep it.
            n_items: new number of items; None to keep it.

        Returns:
            The model. Id maps that came with the training data are dropped where their side grows.

        Raises:
            ValueError: fewer than there are.
        """
        old = self._shape()
        users = old[0] if n_users is None else check_int("n_users", n_users, old[0])
        items = old[1] if n_items is None else check_int("n_items", n_items, old[1])
        before, self._matrix = self._matrix, inputs.add_empty(self._matrix, users, items)
        try:
            self._grow(users, items)
        except BaseException:
            self._matrix = before
            raise
        self.user_ids_ = self.user_ids_ if users == old[0] else None
        self.item_ids_ = self.item_ids_ if items == old[1] else None
        return self
