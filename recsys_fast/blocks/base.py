"""What every block is made of: parameters in one flat vector, memory that stays, and the batch that passes through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import NotSupportedError, message

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
        host_row_ptr: the same numbers in host memory, where ``row_ptr`` lies on a device; see ``on``.
    """

    row_ptr: NDArray[np.int64]
    seed: int = 0
    step: int = 0
    training: bool = False
    host_row_ptr: NDArray[np.int64] | None = None

    @classmethod
    def on(cls, runtime: Runtime, row_ptr: NDArray[np.int64], seed: int, step: int = 0, training: bool = False) -> Self:
        """Return a batch whose pointers lie where the runtime computes; ``row_ptr`` is in host memory."""
        return cls(runtime.upload(row_ptr), seed, step, training, row_ptr)

    @property
    def cuts(self) -> NDArray[np.int64]:
        """``row_ptr`` in host memory."""
        return self.row_ptr if self.host_row_ptr is None else self.host_row_ptr

    @property
    def n_sequences(self) -> int:
        """Number of sequences."""
        return len(self.row_ptr) - 1

    @property
    def n_rows(self) -> int:
        """Number of rows of all sequences."""
        return int(self.cuts[-1])


class Runtime:
    """Where a network computes: backend, threads, and memory that is reused from batch to batch.

    Args:
        device: backend.
        n_threads: number of threads; None for every CPU granted.
        dtype: of parameters and activations; float64 only where the backend has it (numba), to check gradients.

    Attributes:
        arrays: the array module of the backend (``backend.arrays``). NumPy functions take no array on a device: such
            arrays are made, sliced, reshaped, copied into each other and given to operations, nothing else.
        on_device: whether that is a GPU.
    """

    def __init__(self, device: str = "auto", n_threads: int | None = None, dtype: Any = np.float32) -> None:
        self.device, self.n_threads, self.dtype = device, n_threads, np.dtype(dtype)
        device = backend.place(device)  # on a GPU it is the current one from now on
        self.on_device = backend.resolve_device(device).startswith("cuda")
        self.arrays = backend.arrays(device)
        self._backend, self._threads = backend.get(device), backend.resolve_threads(n_threads)
        self._host = backend.get("auto") if self.on_device else self._backend
        self._operations: dict[str, Callable[..., Any]] = {}
        self._buffers: WeakKeyDictionary[object, dict[tuple[str, Any], Array]] = WeakKeyDictionary()
        self._no_rows, self._whole = self.empty(0, 0), np.zeros(2, np.int64)

    def stay_on_the_host(self, what: str) -> Self:
        """Return the runtime, for networks whose steps do not run on CUDA.

        Raises:
            NotSupportedError: it computes there.
        """
        if self.on_device:
            mend = "use device='auto'"
            raise NotSupportedError(message(f"device of {what}", repr(self.device), "'cpu' or 'numba'", mend))
        return self

    def run(self, operation: str, *arguments: Any) -> Any:
        """Run an operation on its flat arguments, without checks; backend and threads were chosen once and for all."""
        found = self._operations.get(operation)
        if found is None:
            found = self._operations[operation] = getattr(self._backend, operation)
        return found(*arguments, self._threads)

    def run_on_host(self, operation: str, *arguments: Any) -> Any:
        """Run an operation on arrays in host memory: what prepares a step, such as drawing ids."""
        return getattr(self._host, operation)(*arguments, self._threads)

    def empty(self, *shape: int, dtype: Any = None) -> Array:
        """Return a new array whose contents are undefined."""
        made: Array = self.arrays.empty(shape, self.dtype if dtype is None else dtype)
        return made

    def zeros(self, *shape: int, dtype: Any = None) -> Array:
        """Return a new array of zeros."""
        made: Array = self.arrays.zeros(shape, self.dtype if dtype is None else dtype)
        return made

    def upload(self, array: Any) -> Any:
        """Return an array where the runtime computes; itself where it lies there already."""
        return self.arrays.asarray(array) if self.on_device else array

    def to_host(self, array: Any) -> Array:
        """Return an array in host memory; itself where it lies there already."""
        there: Array = self.arrays.to_host(array)
        return there

    def fill(self, array: Any, values: Any) -> None:
        """Overwrite ``array`` by an array of its shape, from wherever, or by a number."""
        if self.on_device:
            given = np.full(array.shape, values, array.dtype) if np.ndim(values) == 0 else values
            array[...] = self.arrays.asarray(given, array.dtype)
        else:
            array[...] = values

    def copy(self, array: Any) -> Array:
        """Return a copy, where the runtime computes, of an array from wherever."""
        made = self.empty(*array.shape, dtype=array.dtype)
        self.fill(made, array)
        return made

    def gather(self, out: Array, table: Array, ids: Any) -> None:
        """Write the rows ``ids (n,) int32`` of ``table`` into ``out (n, d)``; an id of -1 gives zeros."""
        self._whole[1] = len(ids)
        self.run("embedding_forward", out, table, self._no_rows, ids, self._whole, 1.0, False, 0.0, 0, 0, 0)

    def join(self, out: Array, parts: Iterable[Any]) -> Array:
        """Write arrays behind each other into ``out`` and return it."""
        at = 0
        for part in parts:
            out[at : at + len(part)] = self.upload(part)
            at += len(part)
        return out

    def take(self, owner: object, name: str, shape: tuple[int, ...], dtype: Any = None, *, host: bool = False) -> Array:
        """Return an array of uninitialised numbers that belongs to ``owner`` under ``name``.

        The next call with the same owner and name hands out the same memory, so that training allocates nothing once
        the largest batch has been seen. It goes with its owner. ``host``: in host memory, whatever the device.
        """
        own = self._buffers.get(owner)
        if own is None:
            own = self._buffers[owner] = {}
        key, n = (name, dtype), shape[0]
        buffer = own.get(key)
        if buffer is None or len(buffer) < n or buffer.shape[1:] != shape[1:]:
            kind = self.dtype if dtype is None else dtype
            whole = (n + n // 4, *shape[1:])
            buffer = own[key] = np.empty(whole, kind) if host else self.empty(*whole, dtype=kind)
        return buffer[:n]


class Block(ABC):
    """A function with parameters: ``forward`` keeps what ``backward`` needs, until the next ``forward``.

    ``connect`` gives it its memory. Gradients are overwritten by ``backward``, not added to. Blocks are written once
    for all backends.

    Attributes:
        frozen: whether no optimizer moves the parameters; set before the block goes into a ``ParameterSet``.
    """

    frozen: bool = False

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
        trained: slices of them that belong to blocks that are not frozen; none is empty.
    """

    def __init__(self, blocks: dict[str, Block], runtime: Runtime) -> None:
        self.blocks = blocks
        specs = {f"{name}.{p.name}": p for name, block in blocks.items() for p in block.parameters()}
        sizes = [int(np.prod(p.shape, dtype=np.int64)) for p in specs.values()]
        self.values, self.gradients = runtime.zeros(sum(sizes)), runtime.zeros(sum(sizes))
        self._runtime = runtime
        self.names = list(specs)
        self._specs, self._views, at = specs, {}, 0
        gradient_views = {}
        for (name, spec), size in zip(specs.items(), sizes, strict=True):
            self._views[name] = self.values[at : at + size].reshape(spec.shape)
            gradient_views[name] = self.gradients[at : at + size].reshape(spec.shape)
            at += size
        self.trained = _trained(blocks)
        for k, (name, block) in enumerate(blocks.items()):
            own = [p.name for p in block.parameters()]
            values = {p: self._views[f"{name}.{p}"] for p in own}
            block.connect(runtime, values, {p: gradient_views[f"{name}.{p}"] for p in own}, 8 * (k + 1))

    def initialise(self, generator: np.random.Generator) -> None:
        """Fill the parameters as their ``init`` says, in the order of ``names``; drawn on the host."""
        for name, spec in self._specs.items():
            values: Any = 1.0 if spec.init == "ones" else 0.0
            if spec.init == "normal":
                values = spec.scale * generator.standard_normal(spec.shape)
            elif spec.init == "uniform":
                values = generator.uniform(-spec.scale, spec.scale, spec.shape)
            self._runtime.fill(self._views[name], values)

    def view(self, name: str) -> Array:
        """Return the parameter "block.parameter"."""
        return self._views[name]


def address(array: Any) -> int:
    """Return where an array begins, in host memory or on a device."""
    interface = array.__cuda_array_interface__ if on_device(array) else array.__array_interface__
    return int(interface["data"][0])


def _trained(blocks: dict[str, Block]) -> list[slice]:
    """Return where the parameters of blocks that are not frozen lie among those of all; neighbours are one slice."""
    found: list[slice] = []
    end = 0
    for block in blocks.values():
        begin, end = end, end + sum(int(np.prod(p.shape, dtype=np.int64)) for p in block.parameters())
        if begin == end or block.frozen:
            continue
        joined = bool(found) and found[-1].stop == begin
        found.append(slice(found.pop().start if joined else begin, end))
    return found
