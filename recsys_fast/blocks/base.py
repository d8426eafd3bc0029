"""What every block is made of: parameters in one flat vector, memory that stays, and the batch that passes through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from recsys_fast import backend

Array = NDArray[Any]


class Parameter(NamedTuple):
    """A block's parameter before it has memory.

    Attributes:
        name: unique within the block.
        shape: sizes.
        init: "zeros", "ones", "normal" (standard deviation ``scale``) or "uniform" (between -scale and scale).
        scale: see ``init``.
    """

    name: str
    shape: tuple[int, ...]
    init: str = "zeros"
    scale: float = 0.0


@dataclass
class PackedBatch:
    """Ragged sequences whose rows lie one behind the other, and what random masks depend on.

    Attributes:
        row_ptr: ``(n_sequences + 1,) int64``; sequence s has rows ``row_ptr[s]`` to ``row_ptr[s + 1]``.
        seed: of the model.
        step: training steps so far; every step has masks of its own.
        training: whether dropout is on, and a backward pass will follow.
    """

    row_ptr: NDArray[np.int64]
    seed: int = 0
    step: int = 0
    training: bool = False

    @property
    def n_sequences(self) -> int:
        """Number of sequences."""
        return len(self.row_ptr) - 1

    @property
    def n_rows(self) -> int:
        """Number of rows of all sequences."""
        return int(self.row_ptr[-1])


class Runtime:
    """Where a network computes: backend, threads, and memory that is reused from batch to batch.

    Args:
        device: backend.
        n_threads: number of threads; None for every CPU granted.
        dtype: of parameters and activations; float64 only where the backend has it (numba), to check gradients.
    """

    def __init__(self, device: str = "auto", n_threads: int | None = None, dtype: Any = np.float32) -> None:
        self.device, self.n_threads, self.dtype = device, n_threads, np.dtype(dtype)
        self._backend, self._threads = backend.get(device), backend.resolve_threads(n_threads)
        self._operations: dict[str, Callable[..., Any]] = {}
        self._buffers: WeakKeyDictionary[object, dict[tuple[str, Any], Array]] = WeakKeyDictionary()

    def run(self, operation: str, *arguments: Any) -> Any:
        """Run an operation on its flat arguments, without checks; backend and threads were chosen once and for all."""
        found = self._operations.get(operation)
        if found is None:
            found = self._operations[operation] = getattr(self._backend, operation)
        return found(*arguments, self._threads)

    def take(self, owner: object, name: str, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """Return an array of uninitialised numbers that belongs to ``owner`` under ``name``.

        The next call with the same owner and name hands out the same memory, so that training allocates nothing once
        the largest batch has been seen. It goes with its owner.
        """
        own = self._buffers.get(owner)
        if own is None:
            own = self._buffers[owner] = {}
        key, n = (name, dtype), shape[0]
        buffer = own.get(key)
        if buffer is None or len(buffer) < n or buffer.shape[1:] != shape[1:]:
            kind = self.dtype if dtype is None else dtype
            buffer = own[key] = np.empty((n + n // 4, *shape[1:]), kind)
        return buffer[:n]


class Block(ABC):
    """A function with parameters: ``forward`` keeps what ``backward`` needs, until the next ``forward``.

    ``connect`` gives it its memory. Gradients are overwritten by ``backward``, not added to. Blocks are written once
    for all backends.
    """

    runtime: Runtime
    values: dict[str, Array]
    gradients: dict[str, Array]
    site: int

    @abstractmethod
    def parameters(self) -> list[Parameter]:
        """Return the parameters, in the order in which they are stored."""

    def connect(self, runtime: Runtime, values: dict[str, Array], gradients: dict[str, Array], site: int) -> None:
        """Take over where to compute, the parameters and their gradients by name, and the number of the first of eight
        random masks that belong to this block."""
        self.runtime, self.values, self.gradients, self.site = runtime, values, gradients, site

    @abstractmethod
    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return the outputs, ``(n_rows, width)``, for inputs ``(n_rows, d)``."""

    @abstractmethod
    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the inputs of the last ``forward``, and write those of the parameters."""

    def _take(self, name: str, *shape: int) -> Array:
        return self.runtime.take(self, name, shape)


class ParameterSet:
    """The parameters of a list of blocks in one flat vector, so that one call of an optimizer steps them all.

    Args:
        blocks: by name.
        runtime: connected to all blocks.

    Attributes:
        values, gradients: ``(n,)``, every block's parameters behind each other.
        names: "block.parameter" in this order.
    """

    def __init__(self, blocks: dict[str, Block], runtime: Runtime) -> None:
        self.blocks = blocks
        specs = {f"{name}.{p.name}": p for name, block in blocks.items() for p in block.parameters()}
        sizes = [int(np.prod(p.shape, dtype=np.int64)) for p in specs.values()]
        self.values = np.zeros(sum(sizes), runtime.dtype)
        self.gradients = np.zeros(sum(sizes), runtime.dtype)
        self.names = list(specs)
        self._specs, self._views, at = specs, {}, 0
        gradient_views = {}
        for (name, spec), size in zip(specs.items(), sizes, strict=True):
            self._views[name] = self.values[at : at + size].reshape(spec.shape)
            gradient_views[name] = self.gradients[at : at + size].reshape(spec.shape)
            at += size
        for k, (name, block) in enumerate(blocks.items()):
            own = [p.name for p in block.parameters()]
            values = {p: self._views[f"{name}.{p}"] for p in own}
            block.connect(runtime, values, {p: gradient_views[f"{name}.{p}"] for p in own}, 8 * (k + 1))

    def initialise(self, generator: np.random.Generator) -> None:
        """Fill the parameters as their ``init`` says, in the order of ``names``."""
        for name, spec in self._specs.items():
            view = self._views[name]
            if spec.init == "normal":
                view[...] = spec.scale * generator.standard_normal(spec.shape)
            elif spec.init == "uniform":
                view[...] = generator.uniform(-spec.scale, spec.scale, spec.shape)
            else:
                view[...] = 1.0 if spec.init == "ones" else 0.0

    def view(self, name: str) -> Array:
        """Return the parameter "block.parameter"."""
        return self._views[name]
