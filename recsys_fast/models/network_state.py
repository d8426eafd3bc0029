"""A model's network between its trainings: made when it is first asked, copied, pickled, shared by threads."""

from __future__ import annotations

import threading
from abc import abstractmethod
from typing import Any, Generic, TypeVar

from recsys_fast.blocks.base import Array
from recsys_fast.models.network_structure import Structured
from recsys_fast.models.state import Stateful
from recsys_fast.training.network import Network

_BUILDING = threading.Lock()

#: networks keep their activations in memory of their own, so that one thread at a time may ask them
ASKING = threading.Lock()


N = TypeVar("N", bound=Network)


class NetworkState(Structured, Stateful, Generic[N]):
    """Mixin: the network is ``_network``, or what a file or a copy holds of it is ``_stored`` until somebody asks."""

    _network: N | None = None
    _stored: tuple[dict[str, Array], int]

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
