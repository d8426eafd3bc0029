"""How sequence models are trained, kept, grown and written to files."""

from __future__ import annotations

import sys
import threading
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.blocks.base import Array, Block, Runtime
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.data import Sequences
from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models import inputs
from recsys_fast.models.factors import FactorModel
from recsys_fast.models.parameters import check_choice, check_float, check_int, check_random_state, seed_from
from recsys_fast.models.sequence_inputs import as_sequences, replaced
from recsys_fast.models.sequence_structure import Structured
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.training.loop import Evaluator, train
from recsys_fast.training.network import Network, NetworkTrainer, Objective
from recsys_fast.training.optimizers import KINDS, SCHEDULES, Optimizer

_BUILDING = threading.Lock()
_NETWORK, _SEQUENCES = "network.", "sequences."


class SequenceTrainable(Structured, FactorModel):
    """Training of ``SequenceModel``, which adds the use of the result and says what a model supplies."""

    _learned: ClassVar[tuple[str, ...]] = ("seed_",)
    _fits_sequences: ClassVar[bool] = True

    max_len: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    clip_norm: float | None
    lazy_moments: bool
    warmup_steps: int
    schedule: str
    batch_size: int
    n_epochs: int
    random_state: Any

    seed_: int
    _sequences: Sequences
    _network: Network | None = None
    _stored: tuple[dict[str, Array], int]

    # ---- what a model supplies

    @abstractmethod
    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        """Return tables and blocks, not connected yet (so that nothing has memory).

        The first table is that of the items, whose name is "items"; rows behind the items (such as a mask) are never
        ranked. A table of users is called "users". Blocks are in the order in which rows pass them.
        """

    @abstractmethod
    def _objective(self) -> Objective:
        """Return the loss; ``self._sequences`` is there."""

    @abstractmethod
    def _batches(self) -> Any:
        """Return the batches of epochs over ``self._sequences``; ``n_batches`` is their number in an epoch."""

    def _make_network(self, runtime: Runtime) -> Network:
        """Return the network for the items of ``self._matrix``, connected, not yet initialised, without objective."""
        (items, *tables), blocks = self._parts(*self._matrix.shape)
        return Network(items, blocks, None, self._optimizer(), runtime, seed=self.seed_, tables=tables)

    def _optimizer(self) -> Optimizer:
        """Return the optimizer; ``_trainer`` tells it how many steps there are in all."""
        return Optimizer(
            self.optimizer, self.learning_rate, weight_decay=self.weight_decay, clip_norm=self.clip_norm,
            warmup_steps=self.warmup_steps, schedule=self.schedule, n_steps=self.warmup_steps + 1,
            sparse=self._steps_rows_only(),
        )  # fmt: skip

    def _steps_rows_only(self) -> bool:
        """Return whether a step leaves table rows that it does not touch as they are: where asked for, and where
        nothing would change them anyhow."""
        moves = self.optimizer in ("adam", "adamw") or self.weight_decay > 0 or getattr(self, "momentum", 0.0) > 0
        return self.lazy_moments or not moves

    def _check_params(self) -> None:
        check_int("max_len", self.max_len, 1, 4096)
        check_choice("optimizer", self.optimizer, tuple(KINDS))
        check_float("learning_rate", self.learning_rate, 0.0, above=True, high=1e6)
        check_float("weight_decay", self.weight_decay, 0.0, high=1e6)
        if self.clip_norm is not None:
            check_float("clip_norm", self.clip_norm, 0.0, above=True)
        check_flag("lazy_moments", self.lazy_moments)
        check_int("warmup_steps", self.warmup_steps, 0)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_int("batch_size", self.batch_size, 1, 1 << 20)
        check_int("n_epochs", self.n_epochs, 1)
        check_random_state(self.random_state)

    # ---- the network

    def _runtime(self) -> Runtime:
        return Runtime(self.device, self.n_threads)

    def _net(self) -> Network:
        """Return the network; made of what a file or a copy of the model holds, where that is not done yet.

        Raises:
            ValueError: a parameter that the network was built by has changed since.
        """
        self._check_unchanged()
        if self._network is None:
            with _BUILDING:
                if self._network is None:
                    self._network = self._restored(*self._stored)
                    del self._stored
        return self._network

    def _restored(self, arrays: dict[str, Array], steps: int) -> Network:
        """Return a new network, as the present parameters want it, with copies of these arrays."""
        network = self._make_network(self._runtime())
        network.restore(arrays, steps)
        return network

    def _changed(self) -> None:
        """Forget what was derived from the learned state."""
        vars(self).pop("_cache", None)

    def _held(self) -> tuple[dict[str, Array], int]:
        """Return the network's arrays, not copied, and its steps."""
        with _BUILDING:
            network = self._network
            return self._stored if network is None else (network.arrays(), network.steps)

    def copy_state(self) -> dict[str, Any]:
        """Return a copy of the learned state (not of the training sequences), for ``restore_state``."""
        arrays, steps = self._held() if self.is_fitted else ({}, 0)
        copied = {name: array.copy() for name, array in arrays.items()}
        return {**super().copy_state(), "_stored": (copied, steps)}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Put a state that ``copy_state`` returned back."""
        others = {name: value for name, value in state.items() if name != "_stored"}
        super().restore_state(others)
        self._net().restore(*state["_stored"])

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if state.pop("_network", None) is not None:
            state["_stored"] = self._held()
        return state

    def _start(self, user_items: Any) -> None:
        super()._start(user_items)
        for name in ("_network", "_stored", "_sequences"):
            vars(self).pop(name, None)

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
            DivergedError: the loss is not finite; the last finite epoch is kept.

        An exception, Ctrl-C included, leaves the model at the last finished epoch; unfitted if there was none.
        """
        self._check_all()
        sequences = as_sequences(user_items, "user_items")
        chosen, evaluator = self._watchers(eval_set, callbacks, verbose)
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

    def _planned_epochs(self) -> int:
        return self.n_epochs

    def _begin(self) -> NetworkTrainer:
        self.seed_ = seed_from(self.random_state)
        self._keep_structure()
        network = self._make_network(self._runtime())
        network.initialise(np.random.Generator(np.random.Philox(self.seed_)))
        return self._trainer(network)

    def _resume(self) -> NetworkTrainer:
        self._check_unchanged(onwards=True)
        return self._trainer(self._restored(*self._held()))

    def _trainer(self, network: Network) -> NetworkTrainer:
        """Make this the model's network, and return what trains it as the present parameters say."""
        batches = self._batches()
        network.objective = self._objective()
        network.optimizer.n_steps = max(self.warmup_steps + 1, self.n_epochs * batches.n_batches)
        network.optimizer.last_steps = batches.n_batches
        self._take_network(network)
        return NetworkTrainer(self, network, batches)

    def _take_network(self, network: Network) -> None:
        self._network = network
        vars(self).pop("_stored", None)
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
        self._check_unchanged(onwards=True)
        old, (arrays, steps) = self._sequences, self._held()
        row_ptr = np.append(old.row_ptr, np.full(n_users - old.n_users, old.n_events, np.int64))
        grown = Sequences.from_arrays(row_ptr, old.items, n_items=n_items, timestamps=old.timestamps)
        network = self._make_network(self._runtime())
        key = np.array([self.seed_, n_items], np.uint64)
        network.initialise(np.random.Generator(np.random.Philox(key=key)))
        arrays = dict(arrays)
        for table in network.tables:
            self._grow_table(arrays, network, table.name, old.shape, grown.shape)
        network.restore(arrays, steps)
        self._take_over(grown)
        self._take_network(network)

    def _grow_table(
        self, arrays: dict[str, Array], network: Network, name: str, old: tuple[int, int], new: tuple[int, int]
    ) -> None:
        """Put new rows between those of old items (users) and those behind; moments of new rows are zero."""
        side = 0 if name == "users" else 1
        fresh = network.arrays()
        for key in [key for key in arrays if key.removeprefix("optimizer.").split(".")[0] == name]:
            was, base = arrays[key], fresh.get(key)
            rows = new[side] - old[side]
            added = np.zeros((rows, *was.shape[1:]), was.dtype) if base is None else base[old[side] : new[side]]
            arrays[key] = np.concatenate([was[: old[side]], added, was[old[side] :]])

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose and as "total".

        "copy" is the last finished epoch, which training keeps to fall back on; "work" what a step computes.
        """
        from recsys_fast.models.sequence_memory import estimate

        self._check_params()
        return estimate(self, as_sequences(user_items, "user_items"))

    def _step_rows(self, data: Sequences) -> tuple[int, int]:
        """Return about how many rows go into the network in a step, and how many come out to be scored."""
        from recsys_fast.models.sequence_memory import sample_rows

        rows, samples = sample_rows(self, data)
        mean = int(rows / max(1, samples) * min(self.batch_size, samples)) + min(self.max_len, rows)
        return mean, mean

    def _loss_bytes(self, n_rows: int, width: int) -> int:
        """Return about what the objective needs for rows of outputs, besides the gradient of the tables."""
        return 4 * n_rows * width

    def _batch_bytes(self, data: Sequences) -> int:
        """Return about how many bytes the batches of an epoch need while they are made."""
        from recsys_fast.models.sequence_memory import sample_rows

        return 40 * sample_rows(self, data)[0] + 32 * data.n_users

    # ---- files

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        self._check_unchanged(onwards=True)  # the file's parameters have to be those of its arrays
        arrays, steps = self._held()
        packed: dict[str, NDArray[Any]] = {
            f"{_SEQUENCES}row_ptr": self._sequences.row_ptr,
            f"{_SEQUENCES}items": self._sequences.items,
        }
        packed |= {_NETWORK + name: array for name, array in arrays.items()}
        return packed, {"seed": self.seed_, "steps": steps}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.sequence_files import unpack

        unpack(self, reader, values)
