"""The networks of deep models: a step over a batch, all of what they learn by name, epochs, and the way back.

How a model uses this: it makes an ``ItemTable``, blocks in the order in which rows pass through them, an ``ItemLoss``
and an ``Optimizer``, and hands them to a ``Network``; its batches and the network go to a ``NetworkTrainer``, which is
what ``recsys_fast.training.train`` runs. A network of another shape (two inputs, a state that goes from batch to batch)
overrides ``forward`` and ``backward``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Block, PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.errors import DivergedError, message
from recsys_fast.training.optimizers import Optimizer

_OPTIMIZER = "optimizer."


class Batch(Protocol):
    """What a step trains on: rows of sequences one behind the other.

    ``items (n_rows,) int32`` goes in, ``row_ptr (n_sequences + 1,) int64`` says where sequences begin.
    """

    @property
    def items(self) -> NDArray[np.int32]:
        """Ids that go in."""

    @property
    def row_ptr(self) -> NDArray[np.int64]:
        """First row of each sequence, and the number of rows."""


class Batches(Protocol):
    """Where an epoch's batches come from: a pure function of the epoch's number."""

    def epoch(self, epoch: int) -> Iterable[Any]:
        """Return the batches of an epoch, counted from 0."""


class Objective(Protocol):
    """What a step goes down: the loss of a batch, as a sum over its targets, and its gradient."""

    def __call__(self, network: Network, h: Array, batch: Any, packed: PackedBatch) -> tuple[float, int, Array]:
        """Return the sum of the loss, the number of its terms, and the gradient of h ``(n_rows, width)``.

        The gradient is that of the mean; what concerns ``network.items`` is added there.
        """


class Network:
    """Tables, blocks, a loss and an optimizer, connected to one runtime.

    Args:
        items: table of items; its rows also score the outputs.
        blocks: by name, in order; the first one gets ids, each of the others what the one before it returned.
        objective: the loss; None for a network that is not trained.
        optimizer: steps blocks and tables.
        runtime: where to compute.
        seed: of random masks and negatives.
        tables: further tables, such as one of users.

    Attributes:
        parameters: the parameters of all blocks.
        steps: number of steps so far, without batches that had no target; random masks, negatives and the learning
            rate depend on it.
    """

    def __init__(
        self,
        items: ItemTable,
        blocks: dict[str, Block],
        objective: Objective | None,
        optimizer: Optimizer,
        runtime: Runtime,
        *,
        seed: int,
        tables: Sequence[ItemTable] = (),
    ) -> None:
        self.items, self.tables, self.runtime = items, (items, *tables), runtime
        self.objective, self.optimizer, self.steps = objective, optimizer, 0
        self.seed = seed & (2**63 - 1)  # which every backend takes as it is
        for place, table in enumerate(self.tables, len(blocks) + 1):
            table.connect(runtime, 8 * place)
        self.parameters = ParameterSet(blocks, runtime)
        self.blocks = tuple(blocks.values())
        self._backward = self.blocks[::-1]

    def initialise(self, generator: np.random.Generator) -> None:
        """Draw tables and parameters."""
        for table in self.tables:
            table.initialise(generator)
        self.parameters.initialise(generator)

    def _inputs(self, batch: Any) -> Any:
        """Return what goes into the first block, where the runtime computes."""
        return self.runtime.upload(batch.items)

    def forward(self, batch: Any, packed: PackedBatch) -> Array:
        """Return the outputs ``(n_rows, width)``."""
        x: Array = self._inputs(batch)
        for block in self.blocks:
            x = block.forward(x, packed)
        return x

    def backward(self, dh: Array, packed: PackedBatch) -> None:
        """Write the gradients of all parameters, and add those of the tables."""
        for block in self._backward:
            dh = block.backward(dh, packed)

    def n_rows(self, batch: Any) -> int:
        """Return how many rows a batch has, to tell the speed."""
        return len(batch.items)

    def pack(self, batch: Any) -> PackedBatch:
        """Return where the sequences of a batch begin, and what random masks of this step depend on.

        Rows of a batch without ``row_ptr`` are one sequence: nothing but positions of embeddings would differ.
        """
        row_ptr = getattr(batch, "row_ptr", None)
        row_ptr = np.array([0, self.n_rows(batch)], np.int64) if row_ptr is None else row_ptr
        return PackedBatch.on(self.runtime, row_ptr, self.seed, self.steps, True)

    def step(self, batch: Any) -> tuple[float, int]:
        """Move everything by the gradient of the batch's mean loss; return the loss as a sum, and its terms."""
        assert self.objective is not None, "a network without objective cannot be trained"
        packed = self.pack(batch)
        for table in self.tables:
            table.begin()
        h = self.forward(batch, packed)
        loss, n_terms, dh = self.objective(self, h, batch, packed)
        if n_terms:
            self.backward(dh, packed)
            for table in self.tables:
                table.finish()
            self.optimizer.step(self.parameters, self.tables, self.steps)
            self.steps += 1
        return loss, n_terms

    # ---- what was learned, by name

    def arrays(self) -> dict[str, Array]:
        """Return everything that training changes, in host memory; copies only where it lies on a device."""
        return {name: self.runtime.to_host(array) for name, array in self.live().items()}

    def live(self) -> dict[str, Array]:
        """Return everything that training changes, where it lies; the optimizer's part is there from the first step."""
        found = {"parameters": self.parameters.values}
        for table in self.tables:
            found |= {table.name: table.values}
            found |= {f"{table.name}.bias": table.bias} if table.has_bias else {}
        # the optimizer keeps the moments of a table flat or by rows, as it stepped it last
        for name, array in self.optimizer.state().items():
            found[_OPTIMIZER + name] = array.reshape(found[name.rpartition(".")[0]].shape)
        return found

    def restore(self, arrays: Mapping[str, Array], steps: int) -> None:
        """Take over copies of what ``arrays`` or ``live`` returned after so many steps.

        Tables may be frozen that were not then, or the other way round: their moments are dropped, or begin with zeros.
        """
        self.steps = steps
        current = self.live()
        if arrays.keys() != current.keys():
            frozen = {table.name for table in self.tables if table.frozen}
            moments = {name.removeprefix(_OPTIMIZER): a for name, a in arrays.items() if name.startswith(_OPTIMIZER)}
            state = {name: array for name, array in moments.items() if name.split(".")[0] not in frozen}
            for name, array in current.items():
                if array.size and name.split(".")[0] not in frozen and not name.startswith(_OPTIMIZER):
                    for kind in {moment.rpartition(".")[2] for moment in moments}:
                        state.setdefault(f"{name}.{kind}", self.runtime.zeros(*array.shape))
            self.optimizer.restore(state, self.runtime)
            current = self.live()
        for name, array in current.items():
            if name in arrays or not name.startswith(_OPTIMIZER):
                self.runtime.fill(array, arrays[name])


class NetworkTrainer:
    """Trains the network of a model epoch by epoch, and keeps a copy of the last finished one.

    Args:
        model: its caches are dropped whenever the network changes.
        network: trained in place.
        batches: of each epoch.

    Attributes:
        tokens_per_second: rows that the last epoch went through, over its seconds.
    """

    def __init__(self, model: Any, network: Network, batches: Batches) -> None:
        self.model, self.network, self.batches = model, network, batches
        self.tokens_per_second: float | None = None
        self._kept: dict[str, Array] = {}
        self._kept_steps, self._dirty = 0, False

    def epoch(self) -> float:
        """Train one epoch; return the mean loss of its targets, 0 where there are none.

        Raises:
            DivergedError: the loss, a parameter or the optimizer's state is not finite.
        """
        start, done = time.perf_counter(), self.model.n_epochs_ if self.model.is_fitted else 0
        self._keep()
        self._dirty = True
        self.model._changed()
        total, n_terms, tokens, step = 0.0, 0, 0, self.network.step
        for batch in self.batches.epoch(done):
            try:
                loss, n = step(batch)
            except DivergedError as error:
                raise self._diverged(done, str(error)) from None
            if not math.isfinite(loss):
                raise self._diverged(done, f"loss {loss}")
            total, n_terms, tokens = total + loss, n_terms + n, tokens + self.network.n_rows(batch)
        self.model._changed()
        for name, array in self.network.live().items():
            if not finite(array, self.network.runtime):
                raise self._diverged(done, f"{name} inf or NaN")
        self.tokens_per_second = tokens / max(1e-9, time.perf_counter() - start)
        return total / n_terms if n_terms else 0.0

    def _diverged(self, done: int, got: str) -> DivergedError:
        name, rate = type(self.model).__name__, self.network.optimizer.learning_rate
        kept = f"the model keeps epoch {done}" if done else "the model is not fitted"
        mend = f"{kept}; lower learning_rate (now {rate:g}), or set clip_norm"
        return DivergedError(message(f"{name} diverged in epoch {done + 1}", got, "finite numbers", mend))

    def _keep(self) -> None:
        self._dirty = False
        if not self.model.is_fitted:
            return
        runtime = self.network.runtime
        for name, array in self.network.live().items():
            if name not in self._kept:
                self._kept[name] = runtime.empty(*array.shape, dtype=array.dtype)
            runtime.fill(self._kept[name], array)
        self._kept_steps = self.network.steps

    def rollback(self) -> None:
        """Put the last finished epoch back; before the first there is none, and the model is not fitted."""
        if self._dirty and self._kept:
            self.network.restore(self._kept, self._kept_steps)
            self.model._changed()
        self._dirty = False


def finite(array: Array, runtime: Runtime) -> bool:
    """Whether every number is finite and far enough from the largest for their squares to add up."""
    flat = array.reshape(-1)
    if runtime.on_device:
        return abs(float(runtime.run("square_sum", flat))) <= float(np.finfo(np.float32).max)
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(float(np.dot(flat, flat)))
