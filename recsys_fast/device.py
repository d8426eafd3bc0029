"""Arrays on a device, and the CUDA backend behind the same flat signatures as the others.

``Cuda`` wraps the extension ``recsys_fast._cuda`` (tests put the emulated grid in its place): operations called with
NumPy arrays upload them and copy back what they write; arrays on the device go straight in.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast import device_blocks
from recsys_fast.errors import MAKE_ROOM, DeviceError, DeviceMemoryError, NotSupportedError, message

_CPU_INSTEAD = 'use device="auto" to run on the CPU'

_SGD_TABLES = tuple(range(10))  # rows, biases, the optimizer's numbers; frozen ones come back as they were

# The arguments that an operation writes, by position in its flat signature; the others are only read. "out" and
# "in and out" alike. An operation that is not here cannot be called with NumPy arrays.
WRITTEN: dict[str, tuple[int, ...]] = {
    "als_loss": (),
    "als_sweep": (0,),
    "attention_block_backward": (0, 1, 2, 3, 4, 5, 6),
    "attention_block_forward": (0, 1, 2, 3, 4, 5),
    "attention_block_step": (0, 1, 2),
    "caser_backward": (0, 1, 2, 3, 4),
    "caser_forward": (0, 1),
    "causal_conv_block_backward": (0, 1, 2, 3, 4, 5, 6, 7, 8),
    "causal_conv_block_forward": (0, 1, 2, 3),
    "conv2d_backward": (0, 1, 2),
    "conv2d_forward": (0, 1, 2),
    "csr_dense_backward": (0, 1, 2, 3),
    "csr_dense_forward": (0,),
    "csr_from_coo": (0, 1, 2, 3),
    "csr_gram": (0,),
    "csr_scale": (0,),
    "csr_take_rows": (0, 1),
    "csr_transpose": (0, 1, 2),
    "dense_backward": (0, 1, 2),
    "dense_forward": (0, 1),
    "dropout_apply": (0,),
    "embedding_backward": (0, 1),
    "embedding_forward": (0,),
    "feed_forward_block_backward": (0, 1, 2, 3, 4, 5, 6),
    "feed_forward_block_forward": (0, 1, 2, 3),
    "ffm_epoch": (0, 1, 2, 3),
    "ffm_predict": (0,),
    "field_sums_backward": (0,),
    "field_sums_forward": (0, 1, 2),
    "fm_als_sweep": (0, 1, 2, 3),
    "fm_epoch": (0, 1, 2, 3),
    "fm_predict": (0,),
    "gaussian_backward": (0,),
    "gaussian_forward": (0,),
    "gram": (0,),
    "gram_eigen": (0, 1),
    "gru_backward": (0, 1, 2, 3, 4, 5),
    "gru_forward": (0, 1),
    "has_bfloat16": (),
    "id_plan": (0, 1, 2),
    "layer_norm_backward": (0, 1, 2),
    "layer_norm_forward": (0, 1),
    "list_metrics": (0,),
    "lstm_backward": (0, 1, 2, 3, 4, 5),
    "lstm_forward": (0, 1, 2),
    "mixture_backward": (0, 1),
    "mixture_forward": (0, 1),
    "multinomial_loss": (0, 1, 2),
    "ncf_loss": (0, 1, 2),
    "ncf_scores": (0,),
    "negatives_draw": (0,),
    "optimizer_step": (0, 2, 3),
    "optimizer_step_rows": (0, 1, 2),
    "pair_scores": (0,),
    "philox_draw": (0,),
    "philox_rows": (0,),
    "pool_backward": (0,),
    "pool_forward": (0, 1),
    "product_topk": (0, 1),
    "product_topk_dense": (0, 1),
    "rank_auc": (0,),
    "rank_metrics": (0,),
    "regression_loss": (0,),
    "ridge_solve": (0, 1, 2),
    "rnn_backward": (0, 1, 2, 3, 4, 5),
    "rnn_forward": (0,),
    "row_loss": (0, 1),
    "rows_rotate": (0,),
    "sample_negatives": (0,),
    "sequence_max_backward": (0,),
    "sequence_max_forward": (0, 1),
    "shared_loss": (0, 1, 2),
    "skipgram_epoch": (0, 1),
    "slim_solve": (0, 1, 2),
    "softmax_loss": (0, 1, 2),
    "spd_invert": (0,),
    "square_sum": (),
    "table_add": (0, 1),
    "table_gradient": (0, 1),
    "topk": (0, 1),
    "unit_rows_backward": (0,),
    "unit_rows_forward": (0, 1),
    "validate_csr": (),
    "bpr_epoch": _SGD_TABLES,
    "warp_epoch": _SGD_TABLES,
    "logistic_epoch": _SGD_TABLES,
    "rating_epoch": _SGD_TABLES,
}

# Operations that have no kernel and are small: their arrays visit the host, where another backend runs them.
ON_HOST = frozenset({"csr_from_coo", "csr_take_rows", "gram_eigen"})


class NumpyArrays:
    """The array module of ``cpu`` and ``numba``."""

    def asarray(self, x: Any, dtype: Any = None) -> NDArray[Any]:
        """Return ``x`` as a C-contiguous array, itself where it is one."""
        return np.ascontiguousarray(x, dtype)

    def empty(self, shape: Any, dtype: Any) -> NDArray[Any]:
        """Return an array whose contents are undefined."""
        return np.empty(shape, dtype)

    def zeros(self, shape: Any, dtype: Any) -> NDArray[Any]:
        """Return an array of zeros."""
        return np.zeros(shape, dtype)

    def to_host(self, x: Any) -> NDArray[Any]:
        """Return ``x`` as a NumPy array."""
        return np.asarray(x)

    def is_array(self, x: object) -> bool:
        """Say whether ``x`` is an array of this module."""
        return isinstance(x, np.ndarray)


class CupyArrays:
    """The array module of ``cuda``: CuPy, with the same few names."""

    def __init__(self) -> None:
        self.module: Any = importlib.import_module("cupy")

    def asarray(self, x: Any, dtype: Any = None) -> Any:
        """Return ``x`` as a C-contiguous CuPy array; memory that lies on the device already is shared."""
        try:
            if (
                not isinstance(x, np.ndarray)
                and not hasattr(x, "__cuda_array_interface__")
                and hasattr(x, "__dlpack__")
            ):
                x = self.module.from_dlpack(x)
            return self.module.ascontiguousarray(self.module.asarray(x), dtype)
        except Exception as error:
            raise self._named(error) from None

    def empty(self, shape: Any, dtype: Any) -> Any:
        """Return an array whose contents are undefined."""
        try:
            return self.module.empty(shape, dtype)
        except Exception as error:
            raise self._named(error) from None

    def zeros(self, shape: Any, dtype: Any) -> Any:
        """Return an array of zeros."""
        try:
            return self.module.zeros(shape, dtype)
        except Exception as error:
            raise self._named(error) from None

    def to_host(self, x: Any) -> NDArray[Any]:
        """Return a copy of ``x`` as a NumPy array."""
        there = self.asarray(x)
        try:
            copy: NDArray[Any] = self.module.asnumpy(there)
        except Exception as error:
            raise self._named(error) from None
        return copy

    def idle_bytes(self) -> int:
        """Return how much of the memory that CuPy holds has no array in it."""
        return int(self.module.get_default_memory_pool().free_bytes())

    def _named(self, error: Exception) -> Exception:
        """Return an error of CuPy under our names, and any other as it is."""
        if isinstance(error, self.module.cuda.memory.OutOfMemoryError):
            return DeviceMemoryError(message(f"device memory ({error})", mend=MAKE_ROOM))
        if isinstance(error, self.module.cuda.runtime.CUDARuntimeError):
            return DeviceError(message(f"CuPy: {error}"))
        return error

    def stream(self) -> int:
        """Return the handle of the stream that CuPy uses now: ours as well, so that both stay in order."""
        return int(self.module.cuda.get_current_stream().ptr)

    def is_array(self, x: object) -> bool:
        """Say whether ``x`` is an array of this module."""
        return isinstance(x, self.module.ndarray)


def on_device(x: object) -> bool:
    """Say whether ``x`` lies on a GPU: CuPy, PyTorch, numba, anything with the CUDA array interface or DLPack."""
    if x is None or isinstance(x, np.ndarray | int | float | list | tuple):
        return False
    if hasattr(x, "__cuda_array_interface__"):
        return True
    find = getattr(x, "__dlpack_device__", None)
    return find is not None and find()[0] in (2, 13)  # kDLCUDA, kDLCUDAManaged


class Cuda(ModuleType):
    """The operations of an extension module for CUDA, for host arrays as well.

    Args:
        module: ``recsys_fast._cuda``, or the emulated grid.
        arrays: its array module.
        index: number of the device, which calls make the current one; None for whichever is current.
        host: the module of a CPU backend, for the operations in ``ON_HOST``.
    """

    def __init__(self, module: Any, arrays: Any, index: int | None, host: ModuleType) -> None:
        super().__init__(module.__name__)
        self._module, self._arrays, self._index, self._host = module, arrays, index, host

    def __getattr__(self, name: str) -> Any:
        """Return the operation ``name``; made on first use, then an attribute."""
        if name.startswith("_"):
            raise AttributeError(name)
        native = None if name in ON_HOST else getattr(self._module, name, None)
        if native is None and name not in ON_HOST:
            raise NotSupportedError(message(f"{name} has no CUDA kernel in this version", mend=_CPU_INSTEAD))

        def call(*arguments: Any) -> Any:
            return self._visit_host(name, arguments) if native is None else self._call(name, native, arguments)

        setattr(self, name, call)
        return call

    def _call(self, name: str, native: Any, arguments: tuple[Any, ...]) -> Any:
        """Call a native operation, in blocks of rows where its arrays are too large for the device."""
        if self._index is not None:
            self._module.set_device(self._index)
        self._module.set_stream(self._arrays.stream())
        streams = name in device_blocks.LAYOUTS
        limit = None
        if (streams or name in device_blocks.HOST_IF_LARGE) and not any(map(on_device, arguments)):
            limit = device_blocks.too_large(arguments, self.free_bytes)
        if limit is None:
            return self._call_whole(name, native, arguments)
        if not streams:
            return self._visit_host(name, arguments)
        parts = list(device_blocks.blocks(name, arguments, limit))
        there = {id(array): self._arrays.asarray(array) for array in device_blocks.staying(name, arguments)}
        results = [self._call_whole(name, native, tuple(there.get(id(a), a) for a in part)) for part in parts]
        return None if results[0] is None else sum(results)

    def _call_whole(self, name: str, native: Any, arguments: tuple[Any, ...]) -> Any:
        """Call a native operation; NumPy arrays go to the device, and those that it writes come back."""
        there: dict[int, Any] = {}  # an array that is given twice goes once
        for argument in arguments:
            if isinstance(argument, np.ndarray) and id(argument) not in there:
                there[id(argument)] = self._arrays.asarray(argument)
        result = native(*(there.get(id(argument), argument) for argument in arguments))
        if there:
            for position in WRITTEN[name]:
                host = arguments[position]
                if isinstance(host, np.ndarray) and host.size:
                    host[...] = self._arrays.to_host(there[id(host)])
        return result

    def free_bytes(self) -> int:
        """Return how many bytes arrays may take on the current device."""
        if self._index is not None:
            self._module.set_device(self._index)
        return int(self._module.memory_info()[0]) + int(self._arrays.idle_bytes())

    def _visit_host(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Run an operation on the host; arrays on the device that it writes are written there again."""
        hosts = [self._arrays.to_host(a) if on_device(a) else a for a in arguments]
        result = getattr(self._host, name)(*hosts)
        for position in WRITTEN[name]:
            if on_device(arguments[position]):
                self._arrays.asarray(arguments[position])[...] = self._arrays.asarray(hosts[position])
        return result


def load() -> tuple[Any, Any]:
    """Return the extension module and its array module.

    Raises:
        DeviceError: one of them, the driver or a device is missing; the message says which, and how to get it.
    """
    what = "device='cuda' is not available"
    try:
        module = importlib.import_module("recsys_fast._cuda")
    except ImportError as error:
        mend = 'install the CUDA toolkit, so that "nvcc" is found, and run "pip install ." again; or ' + _CPU_INSTEAD
        reason = "recsys_fast._cuda was not built" if "No module named" in str(error) else str(error)
        raise DeviceError(message(f"{what} ({reason})", mend=mend)) from None
    check_probe(module.probe())
    try:
        arrays = CupyArrays()
    except ImportError as error:
        mend = 'pip install "recsys_fast[cuda]"; or ' + _CPU_INSTEAD
        raise DeviceError(message(f"{what} (CuPy: {error})", mend=mend)) from None
    return module, arrays


def check_probe(probe: tuple[int, int, int, str]) -> None:
    """Raise DeviceError with reason and fix where ``_cuda.probe()`` found no driver, an old one, or no device."""
    driver, runtime, n_devices, error = probe
    what = "device='cuda' is not available"
    if driver == 0:
        mend = "install the NVIDIA driver, or in a container pass the GPU through; or " + _CPU_INSTEAD
        raise DeviceError(message(f"{what} (no NVIDIA driver was found)", mend=mend))
    if driver // 1000 < runtime // 1000:
        got = f"a driver for CUDA {driver // 1000}.{driver % 1000 // 10}"
        expected = f"one for CUDA {runtime // 1000}.0 or newer"
        mend = "update the driver, or build with an older CUDA toolkit; or " + _CPU_INSTEAD
        raise DeviceError(message(what, got, expected, mend))
    if n_devices == 0:
        mend = "look at nvidia-smi and CUDA_VISIBLE_DEVICES; or " + _CPU_INSTEAD
        raise DeviceError(message(f"{what} (no CUDA device is visible{': ' + error if error else ''})", mend=mend))
