"""What any trained model is: parameters, learned state that can be copied and put back, and a file of both."""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from recsys_fast import backend
from recsys_fast.errors import NotFittedError, message
from recsys_fast.models.parameters import Parameters


class Stateful(Parameters, ABC):
    """Learned state and its life: ``Trainable`` adds training on users and items, ``RowModel`` training on rows."""

    #: names of the learned attributes that are plain data: kept by ``copy_state``, cleared by ``fit``
    _learned: ClassVar[tuple[str, ...]] = ()
    #: names of constructor parameters that a model file does not hold among them, such as the models of a hybrid
    _unsaved: ClassVar[tuple[str, ...]] = ()
    #: whether the training matrix is part of the model, and of its file
    _keeps_matrix: ClassVar[bool] = False

    device: str
    n_threads: int | None

    n_epochs_: int
    history_: dict[str, list[float]]

    @abstractmethod
    def _check_params(self) -> None:
        """Raise TypeError or ValueError when a constructor parameter is out of its range."""

    @abstractmethod
    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the learned arrays by name, and the learned plain values (JSON)."""

    @abstractmethod
    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        """Take over what ``_pack`` returned.

        Raises:
            ModelFormatError: shapes or values do not fit the parameters.
        """

    def _check_all(self) -> None:
        self._check_params()
        backend.resolve_device(self.device)
        backend.resolve_threads(self.n_threads)

    @property
    def is_fitted(self) -> bool:
        """Whether at least one epoch has finished."""
        return "n_epochs_" in vars(self)

    def _check_fitted(self) -> None:
        if not self.is_fitted:
            name = type(self).__name__
            raise NotFittedError(message(f"this {name} is not fitted", mend=f"call {self._FIT}, or load a file"))

    _FIT: ClassVar[str] = "fit(user_items)"

    def copy_state(self) -> dict[str, Any]:
        """Return a copy of the learned state (not of the training matrix), for ``restore_state``."""
        self._check_fitted()
        return {name: copy.copy(getattr(self, name)) for name in (*self._learned, "n_epochs_")}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Put a state that ``copy_state`` returned back; ``history_`` ends with its epoch."""
        vars(self).pop("_cache", None)
        vars(self).update(state)
        for numbers in self.history_.values():
            del numbers[self.n_epochs_ :]

    # ---- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and learned state, the optimizer's included, to one file, atomically.

        Models of users and items have their training matrix and id maps in it, others not what they were trained on.
        The layout is that of safetensors; see ``recsys_fast.serialization``. ``device``, ``n_threads`` and a
        ``random_state`` other than an int are not stored.

        Raises:
            NotFittedError: nothing to save yet.
            TypeError: an id map with ids that are neither ints nor strings.
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

    # ---- what is derived

    def _cached(self, name: str, make: Any) -> Any:
        """Return something derived from the learned state, kept until that changes (never saved or pickled)."""
        cache = vars(self).setdefault("_cache", {})
        if name not in cache:
            cache[name] = make()
        return cache[name]

    def __getstate__(self) -> dict[str, Any]:
        state = vars(self).copy()
        state.pop("_cache", None)
        return state
