"""The CUDA backend's faults: what is missing is named with its fix, and what a call does wrong is an error at once."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys_fast import backend, device, errors, ops
from tests.emulated.build import families

ROOT = Path(__file__).resolve().parents[1]
Y = np.arange(12, dtype=np.float32).reshape(4, 3)

emulated = pytest.mark.cuda_emulated


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The backend has not looked for CUDA yet, and forgets afterwards what it found."""
    monkeypatch.delenv("RECSYS_FAST_BACKEND", raising=False)
    backend._install_cuda()
    yield monkeypatch
    backend._install_cuda()


def refusal() -> str:
    """Return what asking for CUDA says."""
    with pytest.raises(errors.DeviceError) as caught:
        ops.gram(Y, device="cuda")
    assert backend.config()["cuda"] == f"absent ({caught.value})"
    return str(caught.value)


def test_module_that_was_not_built(nothing_known: pytest.MonkeyPatch) -> None:
    nothing_known.setitem(sys.modules, "recsys_fast._cuda", None)
    assert 'so that "nvcc" is found, and run "pip install ." again' in refusal()


@pytest.mark.parametrize(
    ("probe", "reason", "mend"),
    [
        ((0, 13000, 0, "cudaErrorInsufficientDriver"), "no NVIDIA driver", "Install the NVIDIA driver"),
        ((12040, 13000, 0, ""), "got a driver for CUDA 12.4, expected one for CUDA 13.0 or newer", "Update the driver"),
        (
            (13000, 13000, 0, "cudaErrorNoDevice"),
            "no CUDA device is visible: cudaErrorNoDevice",
            "CUDA_VISIBLE_DEVICES",
        ),
    ],
)
def test_driver_that_does_not_serve(nothing_known: pytest.MonkeyPatch, probe: Any, reason: str, mend: str) -> None:
    nothing_known.setitem(sys.modules, "recsys_fast._cuda", SimpleNamespace(probe=lambda: probe))
    text = refusal()
    assert reason in text
    assert mend in text
    assert 'device="auto"' in text


def test_cupy_that_is_missing(nothing_known: pytest.MonkeyPatch) -> None:
    nothing_known.setitem(sys.modules, "recsys_fast._cuda", SimpleNamespace(probe=lambda: (13000, 13000, 1, "")))
    nothing_known.setitem(sys.modules, "cupy", None)
    assert 'Pip install "recsys_fast[cuda]"' in refusal()


def test_cuda_is_hidden_with_the_other_extension(nothing_known: pytest.MonkeyPatch) -> None:
    nothing_known.setenv("RECSYS_FAST_BACKEND", "numba")
    with pytest.raises(errors.DeviceError, match="hidden by RECSYS_FAST_BACKEND=numba"):
        backend._cuda()


def test_devices_are_numbered(nothing_known: pytest.MonkeyPatch) -> None:
    for bad in ("cuda:", "cuda:x", "cuda:-1", "gpu"):
        with pytest.raises(ValueError, match="expected one of auto, cpu, numba, cuda"):
            backend.resolve_device(bad)


def test_written_arguments_are_known() -> None:
    """Every operation with a kernel says which of its arrays it writes, or NumPy arrays could not come back."""
    bound = set()
    for family in families():
        text = (ROOT / "csrc" / "bindings" / f"bind_{family}.cc").read_text(encoding="utf-8")
        text = re.sub(r"if constexpr \(kOnCpu\) \{.*?\n  \}", "", text, flags=re.DOTALL)
        bound |= set(re.findall(r'm\.def\(\s*"(\w+)"', text))
    assert bound
    assert bound <= set(device.WRITTEN)
    assert not bound & device.ON_HOST


@emulated
def test_arrays_on_the_device_give_arrays_on_the_device(emulated_arrays: Any) -> None:
    there = emulated_arrays.asarray(Y)
    found = ops.gram(there)  # "auto" with such arrays means cuda
    assert emulated_arrays.is_array(found)
    assert np.array_equal(found.get(), Y.T @ Y)
    assert isinstance(ops.gram(Y, device="cuda"), np.ndarray)
    out = emulated_arrays.empty((3, 3), np.float32)
    assert ops.gram(emulated_arrays.asarray(Y.astype(np.float64)), out=out, device="cuda") is out
    assert np.array_equal(out.get(), Y.T @ Y)
    vectors, values = ops.gram_eigen(found)
    assert emulated_arrays.is_array(vectors)
    assert values.shape == (3,)
    assert ops.rows_rotate(there, vectors) is there
    assert np.allclose(there.get(), Y @ vectors.get(), rtol=1e-5, atol=1e-5)


@emulated
def test_arrays_on_the_device_are_checked(emulated_arrays: Any) -> None:
    there = emulated_arrays.asarray(Y)
    bad: list[tuple[Any, type[Exception], str]] = [
        (lambda: ops.gram(there, out=np.empty((3, 3), np.float32)), TypeError, "y on the device and out .ndarray."),
        (lambda: ops.rows_rotate(Y.copy(), emulated_arrays.asarray(np.eye(3))), TypeError, "q on the device and x"),
        (lambda: ops.gram(there, device="cpu"), TypeError, "y with device='cpu': got an array on the device"),
        (lambda: ops.gram(emulated_arrays.asarray(Y * np.nan)), ValueError, r"y\[0, 0\]: got nan"),
        (lambda: ops.gram(emulated_arrays.asarray(Y * 1e30)), ValueError, "exceeds float32"),
        (lambda: ops.gram(emulated_arrays.asarray(Y[0])), ValueError, "2 dimensions"),
        (lambda: ops.gram(there, out=emulated_arrays.empty((3, 3), np.float64)), TypeError, "dtype of out"),
        (lambda: ops.rows_rotate(square := emulated_arrays.asarray(Y[:3]), square), ValueError, "share memory"),
    ]
    for call, error, text in bad:
        with pytest.raises(error, match=text):
            call()


class Described:
    """An object with a CUDA array interface of one's own making."""

    def __init__(self, **interface: Any) -> None:
        self.__cuda_array_interface__ = interface


@emulated
def test_memory_that_kernels_cannot_read_is_refused(emulated_arrays: Any) -> None:
    module, out = emulated_arrays.module, emulated_arrays.empty((3, 3), np.float32)
    with pytest.raises(TypeError, match=r"y: got ndarray, expected an array on the device"):
        module.gram(out, Y, 1)
    fine = {"shape": Y.shape, "typestr": "<f4", "data": (Y.ctypes.data, False), "version": 3}
    with pytest.raises(errors.DeviceError, match="y: got host memory, expected one on cuda:0"):
        module.gram(out, Described(**fine), 1)
    other = emulated_arrays.asarray(Y, device=1)
    with pytest.raises(errors.DeviceError, match=r"y: got an array on cuda:1, expected one on cuda:0"):
        module.gram(out, other, 1)
    assert np.array_equal(ops.gram(other, device="cuda:1").get(), Y.T @ Y)
    module.set_device(0)
    data = (emulated_arrays.asarray(Y)._memory, False)
    fine["data"] = (data[0].pointer, False)
    for change, error, text in [
        ({"typestr": "<f8"}, TypeError, "type '<f8'"),
        ({"strides": (4, 16)}, ValueError, "not C-contiguous"),
        ({"shape": (12,)}, ValueError, "dimensions of y"),
    ]:
        with pytest.raises(error, match=text):
            module.gram(out, Described(**{**fine, **change}), 1)
    with pytest.raises(ValueError, match="out: read-only"):
        module.gram(Described(**{**fine, "shape": (3, 3), "data": (data[0].pointer, True)}), out, 1)


@emulated
def test_device_that_does_not_exist(emulated_arrays: Any) -> None:
    with pytest.raises(errors.DeviceError, match="device: got 'cuda:2', expected cuda:0 to cuda:1"):
        ops.gram(Y, device="cuda:2")
    assert np.array_equal(ops.gram(Y, device="cuda:1"), Y.T @ Y)
    assert backend.config()["cuda"] == "cuda:0 emulated grid 0, cuda:1 emulated grid 1"


@emulated
def test_driver_that_is_missing_or_too_old(emulated_arrays: Any) -> None:
    module = emulated_arrays.module
    try:
        for driver, n_devices, reason in ((0, 0, "no NVIDIA driver"), (12040, 1, "CUDA 12.4"), (13000, 0, "visible")):
            module.set_probe(driver, n_devices)
            backend._install_cuda(module, emulated_arrays)
            assert reason in refusal()
    finally:
        module.set_probe(13000, 2)


@emulated
def test_launch_that_fails_and_memory_that_runs_out(emulated_arrays: Any) -> None:
    module = emulated_arrays.module
    there = emulated_arrays.asarray(Y)
    before = module.live_allocations()
    try:
        for n in range(3):  # the check of the input, then both kernels of gram
            module.allow_launches(n)
            with pytest.raises(errors.DeviceError, match="kernel launch: cudaErrorLaunchOutOfResources"):
                ops.gram(there)
            module.allow_launches(-1)
            assert module.live_allocations() == before
        module.set_memory_limit(1000)
        wide = emulated_arrays.asarray(np.ones((2, 20), np.float32))
        with pytest.raises(errors.DeviceMemoryError, match=r"device memory: 1600 bytes asked for, \d+ bytes free"):
            ops.gram(wide)
        with pytest.raises(MemoryError):
            ops.gram(np.ones((2, 20), np.float32), device="cuda")
    finally:
        module.allow_launches(-1)
        module.set_memory_limit(1 << 34)
    assert np.array_equal(ops.gram(there).get(), Y.T @ Y)


@emulated
def test_operation_without_a_kernel(emulated_arrays: Any) -> None:
    with pytest.raises(errors.NotSupportedError, match="no CUDA kernel in this version"):
        _ = backend.get("cuda").no_such_operation
