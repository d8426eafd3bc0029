"""Picks the backend of an operation, the instruction set of the native one, and the number of threads.

``cpu`` is the C++ extension, compiled once per instruction set level; ``numba`` is the readable fallback that needs no
compiler; ``cuda`` is the extension for NVIDIA GPUs, behind ``recsys_fast.device``. All hold functions of the same names
and flat signatures.
"""

from __future__ import annotations

import functools
import importlib
import math
import operator
import os
import platform
import sys
from types import ModuleType
from typing import Any

from recsys_fast import device as devices
from recsys_fast import device_blocks
from recsys_fast.errors import DeviceError, message

DEVICES = ("auto", "cpu", "numba", "cuda")
ISA_LEVELS = ("v4", "v3", "v2")

# The flags in /proc/cpuinfo that the x86-64 psABI levels ask for beyond the level below.
_ISA_FLAGS = {
    "v2": {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"},
    "v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "abm"},
    "v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}


def _cpu_flags() -> set[str]:
    """Return the flags of the first processor, empty where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    return set(line.split(":", 1)[1].split())
    except OSError:
        pass
    return set()


def _supported_isa() -> list[str]:
    """Return the instruction set levels this processor runs, best first ("base" where there are no levels)."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ["base"]
    flags = _cpu_flags()
    supported: list[str] = []
    for level in ("v2", "v3", "v4"):
        if not _ISA_FLAGS[level] <= flags:
            break
        supported.insert(0, level)
    return supported or ["v2"]


@functools.cache
def _native() -> tuple[ModuleType | None, str]:
    """Return the extension module and its level, or None and the reason why there is none."""
    backend = os.environ.get("RECSYS_FAST_BACKEND", "").strip().lower()
    if backend == "numba":
        return None, "hidden by RECSYS_FAST_BACKEND=numba"
    if backend:
        raise DeviceError(message("RECSYS_FAST_BACKEND", repr(backend), "numba", "unset it to use the extension"))
    supported = _supported_isa()
    wanted = os.environ.get("RECSYS_FAST_ISA", "").strip().lower()
    if wanted:
        if wanted not in ISA_LEVELS:
            mend = "unset it to choose by the processor"
            raise DeviceError(message("RECSYS_FAST_ISA", repr(wanted), "one of v2, v3, v4", mend))
        if wanted not in supported:
            mend = "unset it, or name one of: " + ", ".join(supported)
            raise DeviceError(message("RECSYS_FAST_ISA", repr(wanted), "a level this processor supports", mend))
        supported = [wanted]
    reasons = []
    for level in supported:
        try:
            return importlib.import_module(f"recsys_fast._cpu_{level}"), level
        except ImportError as error:
            reasons.append(str(error))
    if wanted:  # a level asked for by name is not replaced in silence
        mend = "unset it, or install with a C++ compiler"
        raise DeviceError(message(f"RECSYS_FAST_ISA ({reasons[0]})", repr(wanted), "a level that is installed", mend))
    return None, "; ".join(reasons)


@functools.cache
def _fallback() -> ModuleType:
    return importlib.import_module("recsys_fast._numba")


_installed_cuda: tuple[Any, Any] | None = None  # tests put the emulated grid here


def _install_cuda(module: Any = None, arrays: Any = None) -> None:
    """Put an extension module and its array module in the place of ``recsys_fast._cuda``; without arguments undo it."""
    global _installed_cuda
    _installed_cuda = None if module is None else (module, arrays)
    _cuda.cache_clear()


@functools.cache
def _cuda() -> tuple[Any, Any]:
    """Return the CUDA module and its array module; raises DeviceError with the reason why there is none."""
    if _installed_cuda is not None:
        devices.check_probe(_installed_cuda[0].probe())
        return _installed_cuda
    if os.environ.get("RECSYS_FAST_BACKEND", "").strip().lower() == "numba":
        mend = "unset it to use the extensions"
        raise DeviceError(message("device='cuda' is hidden by RECSYS_FAST_BACKEND=numba", mend=mend))
    return devices.load()


def _index(device: str) -> int | None:
    """Return the number in "cuda:1"; None for "cuda", the current device."""
    return int(device[5:]) if device.startswith("cuda:") else None


@functools.cache
def _cuda_device(index: int | None, module: Any, arrays: Any) -> devices.Cuda:
    return devices.Cuda(module, arrays, index, get("auto"))


def resolve_device(device: str = "auto") -> str:
    """Return the backend that ``device`` stands for: "cpu", "numba", "cuda" or "cuda:1".

    Raises:
        ValueError: ``device`` is not a known name.
        DeviceError: the device was asked for by name and is not there.
    """
    if isinstance(device, str) and device.startswith("cuda:") and device[5:].isdecimal():
        n_devices = _cuda()[0].probe()[2]
        if int(device[5:]) >= n_devices:
            expected = "cuda:0" if n_devices == 1 else f"cuda:0 to cuda:{n_devices - 1}"
            raise DeviceError(message("device", repr(device), expected, "no more devices are visible"))
        return device
    if device not in DEVICES:
        raise ValueError(message("device", repr(device), "one of " + ", ".join(DEVICES) + ", cuda:1 and so on"))
    if device == "cuda":
        _cuda()
        return "cuda"
    if device == "numba":
        return "numba"
    module, reason = _native()
    if module is not None:
        return "cpu"
    if device == "cpu":
        mend = 'install a C++20 compiler and run "pip install ." again, or use device="numba"'
        raise DeviceError(message(f"device='cpu' is not available ({reason})", mend=mend))
    return "numba"


def get(device: str = "auto") -> ModuleType:
    """Return the module that holds the operations of ``device``."""
    resolved = resolve_device(device)
    if resolved.startswith("cuda"):
        return _cuda_device(_index(resolved), *_cuda())
    if resolved == "numba":
        return _fallback()
    module = _native()[0]
    assert module is not None
    return module


def arrays(device: str = "auto") -> Any:
    """Return the array module of a device: NumPy's, or CuPy's for cuda, cut down to a few names.

    ``asarray(x, dtype=None)``, ``empty(shape, dtype)``, ``zeros(shape, dtype)``, ``to_host(x)``, ``is_array(x)``.
    """
    return _cuda()[1] if resolve_device(device).startswith("cuda") else _NUMPY


_NUMPY = devices.NumpyArrays()


def device_memory(device: str) -> int:
    """Return how many bytes arrays may take on a GPU: those that are free, at most RECSYS_FAST_DEVICE_MEMORY."""
    free: int = get(device).free_bytes()
    asked = device_blocks.asked()
    return free if asked is None else min(asked, free)


def place(device: str, **arrays: Any) -> str:
    """Return the device of an operation on the given arrays (None is no array), and check that they lie together.

    The home of a result follows the arrays: on the device if they are there, in NumPy if they are NumPy's, also with
    ``device="cuda"``. ``device="auto"`` with arrays on a device means cuda.

    Raises:
        TypeError: some lie on a device and others do not, or ``device`` is not where they lie.
    """
    there = [name for name, array in arrays.items() if devices.on_device(array)]
    if there:
        for name, array in arrays.items():
            if array is not None and name not in there:
                got = f"{there[0]} on the device and {name} ({type(array).__name__}) in host memory"
                raise TypeError(
                    message("arrays of one operation", got, "all in one place", f"pass cupy.asarray({name})")
                )
        if device in ("cpu", "numba"):
            mend = f'use device="auto", or pass cupy.asnumpy({there[0]})'
            raise TypeError(
                message(f"{there[0]} with device={device!r}", "an array on the device", "a host array", mend)
            )
        device = "cuda" if device == "auto" else device
    if isinstance(device, str) and device.startswith("cuda"):
        resolve_device(device)
        if (index := _index(device)) is not None:
            _cuda()[0].set_device(index)  # what is allocated next lies there
    return device


@functools.cache  # a file of the system costs 50 us to open, more than a small operation
def _cgroup_cpus() -> float:
    """Return the CPU quota of this process's control group (v2, then v1), infinity where there is none."""
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        base = "/sys/fs/cgroup/cpu/cpu.cfs_"
        with open(base + "quota_us", encoding="ascii") as q, open(base + "period_us", encoding="ascii") as p:
            quota_us, period_us = int(q.read()), int(p.read())
        return quota_us / period_us if quota_us > 0 and period_us > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


def granted_cpus() -> int:
    """Return the number of CPUs this process may really use: its affinity, cut by its control group's quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(affinity, math.ceil(min(_cgroup_cpus(), 1 << 16))))


def resolve_threads(n_threads: int | None = None) -> int:
    """Return the number of threads: the argument, RECSYS_FAST_NUM_THREADS, OMP_NUM_THREADS, or the CPUs granted.

    Raises:
        TypeError: ``n_threads`` is not an integer.
        ValueError: it, or the variable that was read, is not a positive number.
    """
    if n_threads is not None:
        try:
            number = operator.index(n_threads)  # what could only be rounded to an integer has none
        except TypeError:
            number = None
        if number is None or isinstance(n_threads, bool):
            raise TypeError(message("n_threads", type(n_threads).__name__, "an int or None"))
        if number < 1:
            raise ValueError(message("n_threads", number, "at least 1", "pass None to use every CPU granted"))
        return min(number, 1024)
    for name in ("RECSYS_FAST_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").strip()
        if not text:
            continue
        first = text.split(",")[0].strip()  # OMP_NUM_THREADS may list a number per nesting level
        if not first.isdigit() or int(first) < 1:
            raise ValueError(message(name, repr(text), "a positive integer", "unset it to use every CPU granted"))
        return min(int(first), 1024)
    return granted_cpus()


def _cuda_note() -> str:
    """Return what ``config`` says of CUDA: the devices, or why there is none."""
    try:
        module = _cuda()[0]
        names = [module.device_name(index) for index in range(module.probe()[2])]
    except DeviceError as error:
        return f"absent ({error})"
    return ", ".join(f"cuda:{index} {name}" for index, name in enumerate(names))


def config() -> dict[str, Any]:
    """Return what ``show_config`` prints: backends and why one is absent, instruction set, threads, versions."""
    import numpy
    import scipy

    from recsys_fast import __version__

    module, note = _native()
    try:
        import numba

        numba_note = numba.__version__
    except ImportError as error:
        numba_note = f"absent ({error})"
    return {
        "recsys_fast": __version__,
        "device auto": resolve_device("auto"),
        "cpu": f"x86-64-{note}" if module is not None and note != "base" else (note if module else f"absent ({note})"),
        "numba": numba_note,
        "cuda": _cuda_note(),
        "threads": resolve_threads(),
        "machine": platform.machine(),
        "python": sys.version.split()[0],
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }


def show_config() -> None:
    """Print the backends that are there (and why one is not), instruction set, threads and versions."""
    for name, value in config().items():
        print(f"{name:>12}  {value}")
