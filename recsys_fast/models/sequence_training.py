"""How sequence models are trained, kept, grown and written to files."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.data import Sequences
from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models import inputs
from recsys_fast.models.factors import FactorModel
from recsys_fast.models.parameters import check_int
from recsys_fast.models.sequence_inputs import as_sequences, replaced
from recsys_fast.models.transfer import Transferable
from recsys_fast.training.loop import Evaluator, train


class SequenceTrainable(Transferable, FactorModel):
    """Training of ``SequenceModel``, which adds the use of the result and says what a model supplies.

    The first table of ``_parts`` is that of the items, whose name is "items"; rows behind the items (such as a mask)
    are never ranked. A table of users is called "users".
    """

    _fits_sequences: ClassVar[bool] = True

    max_len: int
    _sequences: Sequences

    def _check_params(self) -> None:
        check_int("max_len", self.max_len, 1, 4096)
        super()._check_params()

    def _start(self, user_items: Any) -> None:
        super()._start(user_items)
        vars(self).pop("_sequences", None)

    # ---- training

    def fit(
        self, user_items: Any, *, eval_set: Any = None, callbacks: Iterable[Any] = (), verbose: bool = False
    ) -> Self:
        """Train from scratch.

        Args:
            user_items: ``Sequences``, or ``Interactions`` with timestamps.
            eval_set: what comes after, as ``Sequences`` (or any matrix) of the same users; or the pair (history, that).
                Its metrics join ``history_`` after every epoch.
            callbacks: objects with ``on_epoch_end(state) -> bool | None``; see ``recsys_fast.training``.
            verbose: show a progress bar, or a line per epoch where standard error is not a terminal.

        Returns:
            The model.

        Raises:
            ValueError, TypeError: a parameter or the sequences are not usable; the model is then left as it was.
            DeviceMemoryError: a GPU has no room for the network, likewise.
            DivergedError: the loss is not finite; the last finite epoch is kept.

        An exception, Ctrl-C included, leaves the model at the last finished epoch; unfitted if there was none.
        """
        self._check_all()
        sequences = as_sequences(user_items, "user_items")
        self._first_vectors(sequences)  # complains before anything is forgotten
        chosen, evaluator = self._watchers(eval_set, callbacks, verbose)
        self._check_room(sequences)
        self._start(sequences)
        self._take_over(sequences)
        trainer = self._begin()
        self._announce(verbose)
        train(self, trainer, self.n_epochs, history=self.history_, evaluator=evaluator, callbacks=chosen)
        return self

    def partial_fit(
        self, user_items: Any, *, users: ArrayLike | None = None, items: ArrayLike | None = None, n_epochs: int = 1
    ) -> Self:
        """Bring a fitted model up to date; on an unfitted one, train ``n_epochs`` epochs from scratch.

        - Without ``users``: ``user_items`` replaces the training sequences, and ``n_epochs`` more epochs are trained.
        - With ``users``: sequence ``k`` of ``user_items`` replaces that of ``users[k]``; nothing is trained, as users
          are what they did.

        Raises:
            ValueError: an id twice, or sequences of another number of users or items (``resize`` makes room);
                a parameter that the network was built by has changed since ``fit``.
            IndexError: a user that the model does not have.
            NotSupportedError: ``items`` was given.
        """
        self._check_all()
        n_epochs = check_int("n_epochs", n_epochs, 1)
        if items is not None:
            mend = "pass all sequences, without items"
            raise NotSupportedError(message(f"{type(self).__name__} has no state of single items", mend=mend))
        if users is not None:
            return self._replace_users(user_items, users)
        fitted = self.is_fitted
        if fitted:
            self._check_unchanged(onwards=True)
        sequences = as_sequences(user_items, "user_items", *(self._shape() if fitted else ()))
        if not fitted:
            self._first_vectors(sequences)
        self._check_room(sequences)
        if not fitted:
            self._start(sequences)
        self._take_over(sequences)
        trainer = self._resume() if fitted else self._begin()
        first, evaluator = self.n_epochs_ if fitted else 0, Evaluator(None, (), self.n_threads)
        train(self, trainer, first + n_epochs, first=first, history=self.history_, evaluator=evaluator)
        return self

    def _replace_users(self, user_items: Any, users: ArrayLike) -> Self:
        n_users, n_items = self._shape()
        ids, _ = inputs.check_ids(users, n_users, "users", "call resize(n_users, n_items) first to make room")
        inputs.check_distinct(ids, "users")
        new = as_sequences(user_items, "user_items", len(ids), n_items)
        self._take_over(replaced(self._sequences, ids, new))
        return self

    def _take_over(self, sequences: Sequences) -> None:
        """Make these the training sequences; raw ids stay those of ``fit``."""
        self._sequences, self._matrix = sequences, sequences.seen
        self._changed()

    def _announce(self, verbose: bool) -> None:
        if verbose:
            print(f"{self!r}: {self._sequences}", file=sys.stderr)

    def _training_data(self) -> Any:
        return self._sequences

    @property
    def training_sequences_(self) -> Sequences:
        """The training sequences as the model keeps them."""
        self._check_fitted()
        return self._sequences

    # ---- size

    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        """Nothing is kept of single users or items."""

    def _grow(self, n_users: int, n_items: int) -> None:
        old = self._sequences
        row_ptr = np.append(old.row_ptr, np.full(n_users - old.n_users, old.n_events, np.int64))
        grown = Sequences.from_arrays(row_ptr, old.items, n_items=n_items, timestamps=old.timestamps)
        super()._grow(n_users, n_items)
        self._take_over(grown)

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose and as "total".

        "copy" is the last finished epoch, which training keeps to fall back on; "work" what a step computes. With
        ``device="cuda"`` these are in "device", what the GPU needs, which "total" leaves out.
        """
        from recsys_fast.models.network_memory import estimate

        self._check_params()
        return estimate(self, as_sequences(user_items, "user_items"))

    def _step_rows(self, data: Sequences) -> tuple[int, int]:
        """Return about how many rows go into the network in a step, and how many come out to be scored."""
        from recsys_fast.models.sequence_memory import sample_rows

        rows, samples = sample_rows(self, data)
        mean = int(rows / max(1, samples) * min(self.batch_size, samples)) + min(self.max_len, rows)
        return mean, mean

    def _batch_bytes(self, data: Sequences) -> int:
        """Return about how many bytes the batches of an epoch need while they are made."""
        from recsys_fast.models.sequence_memory import sample_rows

        return 40 * sample_rows(self, data)[0] + 32 * data.n_users

    def _data_bytes(self, data: Sequences) -> dict[str, int]:
        return {"sequences": 16 * data.n_users + 12 * data.n_events}

    # ---- files

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        from recsys_fast.models.sequence_files import pack_sequences

        arrays, values = super()._pack()
        return {**pack_sequences(self._sequences), **arrays}, values

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.sequence_files import unpack_sequences

        self._sequences = unpack_sequences(self, reader)
        super()._unpack(reader, values)
