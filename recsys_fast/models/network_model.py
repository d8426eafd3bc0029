"""How models that train a network are trained, kept, grown and written to files, whatever they are trained on."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Block, Runtime
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models import inputs
from recsys_fast.models.fitting import Trainable
from recsys_fast.models.network_state import NetworkState
from recsys_fast.models.parameters import seed_from
from recsys_fast.training.network import Network, NetworkTrainer, Objective


class NetworkModel(NetworkState[Network], Trainable):
    """Mixin for models that train a ``training.Network``; it comes before ``FactorModel`` or ``Recommender``.

    ``fit``, ``partial_fit``, ``resume``, ``resize`` and files are those of every model, over ``self._matrix``. A model
    supplies, besides its constructor (with the parameters that ``NetworkState`` names) and its use of the result:

    - ``_parts(n_users, n_items)``: tables and blocks; the default ``_make_network`` joins them to a ``Network`` that
      runs one block after the other (of another class, where ``_network_type`` says so). Where that is not the shape,
      override it with a subclass of ``Network`` that has ``forward`` and ``backward``, or ``step``, of its own, and
      ``n_rows`` where batches have no ``items``;
    - ``_batches()``: an object whose ``epoch(k)`` yields the batches of epoch k of ``self._matrix`` and whose
      ``n_batches`` is their number; a pure function of k and ``self.seed_``;
    - ``_objective()``: the loss; nothing where the network's ``step`` is its own;
    - ``_update(users, items)`` where something can be computed anew for single users or items, or need not be;
    - ``_side(name)`` where a table's name does not say what its rows are;
    - ``_prepare``, ``_check_params`` (and call this one), ``_step_rows``, ``_loss_bytes``, ``_batch_bytes``.

    Parameters that change after ``fit`` are refused unless they are among ``_training_only``, which a model extends by
    its own ones that do not change what the network computes. ``_net()`` is the trained network; ask it under
    ``ASKING``. What is kept by ``_cached`` is dropped whenever it changes.
    """

    _learned: ClassVar[tuple[str, ...]] = ("seed_",)
    _network_type: ClassVar[type[Network]] = Network

    # ---- what a model supplies

    @abstractmethod
    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        """Return tables and blocks, not connected yet (so that nothing has memory).

        There is one table at least. Blocks are in the order in which rows pass them.
        """

    @abstractmethod
    def _batches(self) -> Any:
        """Return the batches of epochs over the training data; ``n_batches`` is their number in an epoch."""

    def _objective(self) -> Objective | None:
        """Return the loss; the training data are there."""
        return None

    def _make_network(self, runtime: Runtime) -> Network:
        """Return the network for the items of ``self._matrix``, connected, not yet initialised, without objective."""
        (first, *tables), blocks = self._parts(*self._matrix.shape)
        kind = self._network_type
        return kind(first, blocks, None, self._optimizer(), runtime, seed=self.seed_, tables=tables)

    def _side(self, name: str) -> int | None:
        """Return whose rows a table has: 0 users', 1 items', None neither's (so that ``resize`` leaves it alone)."""
        return 0 if name.startswith("users") else 1

    # ---- the network

    def _runtime(self) -> Runtime:
        runtime = Runtime(self.device, self.n_threads)
        return runtime if self._has_kernels() else runtime.stay_on_the_host(type(self).__name__)

    def _has_kernels(self) -> bool:
        """Return whether every step of the network runs on CUDA."""
        return False

    def _new_network(self) -> Network:
        return self._make_network(self._runtime())

    def _start(self, user_items: Any) -> None:
        super()._start(user_items)
        self._forget_network()

    # ---- training

    def _planned_epochs(self) -> int:
        return self.n_epochs

    def _partial_fit_all(self, user_items: Any, n_epochs: int) -> Self:
        if self.is_fitted:
            self._check_unchanged(onwards=True)
        return super()._partial_fit_all(user_items, n_epochs)

    def _begin(self) -> NetworkTrainer:
        self.seed_ = seed_from(self.random_state)
        self._keep_structure()
        network = self._new_network()
        network.initialise(np.random.Generator(np.random.Philox(self.seed_)))
        self._start_tables(network)
        return self._trainer(network)

    def _start_tables(self, network: Network) -> None:
        """Give rows of tables other first values than those that were drawn."""

    def _resume(self) -> NetworkTrainer:
        self._check_unchanged(onwards=True)
        trainer = self._trainer(self._restored(*self._held()))
        self._keep_structure()
        return trainer

    def _trainer(self, network: Network) -> NetworkTrainer:
        """Make this the model's network, and return what trains it as the present parameters say."""
        batches = self._batches()
        network.objective = self._objective()
        self._plan_steps(network, batches.n_batches)
        self._take_network(network)
        return NetworkTrainer(self, network, batches)

    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        side = "users" if users is not None else "items"
        what = f"{type(self).__name__} does not train single {side}"
        raise NotSupportedError(message(what, mend=f"pass the whole matrix to partial_fit, without {side}"))

    # ---- size

    def _grow(self, n_users: int, n_items: int) -> None:
        """Give new users and items rows as at the start of a training, with moments of zero."""
        self._check_unchanged(onwards=True, as_trained=True)
        held, steps = self._held()
        network = self._new_network()
        key = np.array([self.seed_, n_items], np.uint64)
        network.initialise(np.random.Generator(np.random.Philox(key=key)))
        arrays, fresh = dict(held), network.arrays()
        for table in network.tables:
            side = self._side(table.name)
            if side is None:
                continue
            # rows behind those of all items, such as that of a mask, stay behind
            new, added = (n_users, n_items)[side], table.n_rows - len(arrays[table.name])
            for name in [name for name in arrays if name.removeprefix("optimizer.").split(".")[0] == table.name]:
                was, base, old = arrays[name], fresh.get(name), new - added
                rows = np.zeros((added, *was.shape[1:]), was.dtype) if base is None else base[old:new]
                arrays[name] = np.concatenate([was[:old], rows, was[old:]])
        network.restore(arrays, steps)
        self._take_network(network)

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose and as "total".

        "copy" is the last finished epoch, which training keeps to fall back on; "work" what a step computes. With
        ``device="cuda"`` these are in "device", what the GPU needs, which "total" leaves out.
        """
        from recsys_fast.models.network_memory import estimate

        self._check_params()
        return estimate(self, self._prepare(inputs.check_matrix(user_items, "user_items")))

    def _device_bytes(self, data: Any) -> int:
        from recsys_fast.models.network_memory import estimate

        return estimate(self, data).get("device", 0) if self._has_kernels() else 0

    def _step_rows(self, data: Any) -> tuple[int, int]:
        """Return about how many rows go into the network in a step, and how many come out to be scored."""
        return self.batch_size, self.batch_size

    def _loss_bytes(self, n_rows: int, width: int) -> int:
        """Return about what the objective needs for rows of outputs, besides the gradient of the tables."""
        return 4 * n_rows * width

    def _device_work(self, data: Any) -> int:
        """Return about what a step takes on a GPU that ``_step_rows`` does not tell."""
        return 0

    def _batch_bytes(self, data: Any) -> int:
        """Return about how many bytes the batches of an epoch need while they are made."""
        return 8 * int(data.shape[0])

    def _data_bytes(self, data: Any) -> dict[str, int]:
        """Return what the training data take, by name."""
        per_entry = 4 + 4 * (data.values is not None)
        return {"matrix": 8 * (data.n_rows + 1) + per_entry * data.nnz}

    # ---- files

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        from recsys_fast.models.network_files import pack

        return pack(self)

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.network_files import unpack

        unpack(self, reader, values)
