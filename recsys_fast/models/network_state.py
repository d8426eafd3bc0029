"""A model's network: how it is trained, and, between trainings, made when first asked, copied, pickled, shared."""

from __future__ import annotations

import threading
from abc import abstractmethod
from typing import Any, Generic, TypeVar

from recsys_fast.blocks.base import Array
from recsys_fast.models.network_structure import Structured
from recsys_fast.models.parameters import check_choice, check_float, check_int, check_random_state
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.models.state import Stateful
from recsys_fast.training.network import Network
from recsys_fast.training.optimizers import KINDS, SCHEDULES, Optimizer

_BUILDING = threading.Lock()

#: networks keep their activations in memory of their own, so that one thread at a time may ask them
ASKING = threading.Lock()


N = TypeVar("N", bound=Network)


class NetworkState(Structured, Stateful, Generic[N]):
    """Mixin: the network is ``_network``, or what a file or a copy holds of it is ``_stored`` until somebody asks."""

    optimizer: str
    learning_rate: float
    weight_decay: float
    clip_norm: float | None
    lazy_moments: bool = False  # of models whose constructor does not have it
    warmup_steps: int
    schedule: str
    batch_size: int
    n_epochs: int
    random_state: Any

    seed_: int
    _network: N | None = None
    _stored: tuple[dict[str, Array], int]

    # ---- its training

    def _check_params(self) -> None:
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

    def _optimizer(self) -> Optimizer:
        """Return the optimizer; ``_plan_steps`` tells it how many steps there are in all."""
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

    def _plan_steps(self, network: N, n_batches: int) -> None:
        """Tell the optimizer, whose rate may fall, that there are so many steps in an epoch."""
        network.optimizer.n_steps = max(self.warmup_steps + 1, self.n_epochs * n_batches)
        network.optimizer.last_steps = n_batches

    # ---- its life

    @abstractmethod
    def _new_network(self) -> N:
        """Return a network as the present parameters want it, connected, not yet initialised."""

    def _net(self) -> N:
        """Return the network; made of what a file or a copy of the model holds, where that is not done yet.

        Raises:
            ValueError: a parameter that the network was built by has changed since.
        """
        self._check_unchanged()
        network = self._network
        if network is None:
            with _BUILDING:
                network = self._network
                if network is None:
                    network = self._network = self._restored(*self._stored)
                    del self._stored
        return network

    def _restored(self, arrays: dict[str, Array], steps: int) -> N:
        """Return a new network with copies of these arrays."""
        network = self._new_network()
        network.restore(arrays, steps)
        return network

    def _take_network(self, network: N) -> None:
        """Make this the model's network."""
        self._network = network
        vars(self).pop("_stored", None)
        self._changed()

    def _forget_network(self) -> None:
        """Be as before the first training."""
        for name in ("_network", "_stored"):
            vars(self).pop(name, None)

    def _changed(self) -> None:
        """Forget what was derived from the learned state."""
        vars(self).pop("_cache", None)

    def _held(self) -> tuple[dict[str, Array], int]:
        """Return the network's arrays, not copied, and its steps."""
        with _BUILDING:
            network = self._network
            return self._stored if network is None else (network.arrays(), network.steps)

    def copy_state(self) -> dict[str, Any]:
        """Return a copy of the learned state (not of the training data), for ``restore_state``."""
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
