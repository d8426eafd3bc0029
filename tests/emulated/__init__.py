"""The emulated grid in the place of a GPU: arrays whose memory plays the device's, and the module that runs kernels."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.emulated.build import load


class EmulatedArray:
    """A C-contiguous array in memory that plays the device's; host code cannot compute on it.

    It has what the package may use of a CuPy array: shape, dtype, the CUDA array interface, slices of rows, ``get``.
    """

    __array__ = None  # NumPy refuses it, as it refuses CuPy's
    __array_ufunc__ = None

    def __init__(self, memory: Any, shape: tuple[int, ...], dtype: Any, offset: int = 0) -> None:
        self._memory, self.shape, self.dtype, self._offset = memory, tuple(shape), np.dtype(dtype), offset
        self.ndim, self.size = len(self.shape), int(np.prod(self.shape, dtype=np.int64))
        self.nbytes = self.size * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        pointer = self._memory.pointer + self._offset if self.size else 0
        data = (pointer, False)
        described = {"shape": self.shape, "typestr": self.dtype.str, "data": data}
        return described | {"strides": None, "version": 3, "stream": 1}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> EmulatedArray:
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            raise TypeError(f"an emulated array is sliced by rows only, got [{rows!r}]")
        start, stop, _ = rows.indices(len(self))
        stride = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        shape = (max(0, stop - start), *self.shape[1:])
        return EmulatedArray(self._memory, shape, self.dtype, self._offset + start * stride)

    def __setitem__(self, rows: Any, value: EmulatedArray) -> None:
        if rows is Ellipsis:
            rows = slice(None)
        self[rows]._window()[...] = value._window()

    def reshape(self, *shape: int) -> EmulatedArray:
        """Return a view of another shape."""
        given = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        new = np.empty(self.shape, np.bool_).reshape(given).shape
        return EmulatedArray(self._memory, new, self.dtype, self._offset)

    def get(self) -> NDArray[Any]:
        """Return a copy in host memory."""
        return self._window().copy()

    def _window(self) -> NDArray[Any]:
        if not self.size:
            return np.empty(self.shape, self.dtype)
        flat = np.frombuffer(self._memory.view(), self.dtype, self.size, self._offset)
        return flat.reshape(self.shape)


class EmulatedArrays:
    """The array module of the emulated grid."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def empty(self, shape: Any, dtype: Any, device: int = -1) -> EmulatedArray:
        shape = tuple(shape) if np.iterable(shape) else (int(shape),)
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return EmulatedArray(self.module.Memory(size, device), shape, dtype)

    def zeros(self, shape: Any, dtype: Any) -> EmulatedArray:
        return self.asarray(np.zeros(shape, dtype))

    def asarray(self, x: Any, dtype: Any = None, device: int = -1) -> EmulatedArray:
        if isinstance(x, EmulatedArray):
            if dtype is None or x.dtype == dtype:
                return x
            x = x.get()
        given = np.ascontiguousarray(x, dtype) if np.ndim(x) else np.asarray(x, dtype)
        out = self.empty(given.shape, given.dtype, device)
        if given.size:
            out._window()[...] = given
        return out

    def to_host(self, x: Any) -> NDArray[Any]:
        return x.get() if isinstance(x, EmulatedArray) else np.asarray(x)

    def stream(self) -> int:
        return 0

    def idle_bytes(self) -> int:
        return 0

    def is_array(self, x: object) -> bool:
        return isinstance(x, EmulatedArray)


@functools.cache
def emulated() -> tuple[Any, EmulatedArrays]:
    """Return the module of the emulated grid, built where it is not yet, and its array module."""
    module = load()
    return module, EmulatedArrays(module)
