"""How the backend, its instruction set and the number of threads are picked."""

from __future__ import annotations

import os
import platform

import numpy as np
import pytest

from recsys_fast import backend, errors
from tests.installed import native_files, python


def test_hidden_extension_leaves_numba() -> None:
    code = """
from recsys_fast import backend, errors
print(backend.resolve_device(), backend.get().__name__)
try:
    backend.get("cpu")
except errors.DeviceError as error:
    print(error)
"""
    done = python(code, RECSYS_FAST_BACKEND="numba")
    first, second = done.stdout.splitlines()
    assert first == "numba recsys_fast._numba", done.stderr
    assert "RECSYS_FAST_BACKEND" in second


PICK = "from recsys_fast import backend\ntry: backend.get()\nexcept Exception as e: print(type(e).__name__, e)\n"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction set levels are of x86-64")
def test_unknown_instruction_set_is_refused() -> None:
    done = python(PICK, RECSYS_FAST_ISA="v9", RECSYS_FAST_BACKEND="")
    assert done.stdout.startswith("DeviceError RECSYS_FAST_ISA: got 'v9', expected one of v2, v3, v4")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction set levels are of x86-64")
def test_instruction_set_beyond_the_processor_is_refused() -> None:
    code = "from recsys_fast import backend\nbackend._cpu_flags = lambda: backend._ISA_FLAGS['v2']\n" + PICK
    done = python(code, RECSYS_FAST_ISA="v3", RECSYS_FAST_BACKEND="")
    assert done.stdout.startswith("DeviceError RECSYS_FAST_ISA: got 'v3', expected a level this processor supports")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction set levels are of x86-64")
def test_instruction_set_that_is_not_installed_is_refused() -> None:
    code = "import sys\nsys.modules['recsys_fast._cpu_v2'] = None\n" + PICK  # None: the import fails
    done = python(code, RECSYS_FAST_ISA="v2", RECSYS_FAST_BACKEND="")
    assert done.stdout.startswith("DeviceError RECSYS_FAST_ISA (")
    assert "got 'v2', expected a level that is installed" in done.stdout


def test_unknown_backend_is_refused() -> None:
    done = python(PICK, RECSYS_FAST_BACKEND="cupy")
    assert done.stdout.startswith("DeviceError RECSYS_FAST_BACKEND: got 'cupy', expected numba")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction set levels are of x86-64")
def test_each_instruction_set_can_be_chosen() -> None:
    levels = {file.name.split(".")[0].removeprefix("_cpu_") for file in native_files()} & set(backend._supported_isa())
    if not levels:
        pytest.skip("pure Python installation: no level to choose")
    code = """
import numpy, recsys_fast as rf
ids, scores = rf.ops.topk(numpy.eye(5, 3, dtype="float32"), numpy.ones((2, 3), "float32"), 3)
print(rf.backend.get().__name__, ids.tolist())
"""
    for level in levels:
        done = python(code, RECSYS_FAST_ISA=level, RECSYS_FAST_BACKEND="")
        assert done.stdout.strip() == f"recsys_fast._cpu_{level} [[0, 1, 2], [0, 1, 2]]", done.stderr


def test_devices_are_named() -> None:
    with pytest.raises(ValueError, match="device: got 'tpu', expected one of auto, cpu, numba"):
        backend.resolve_device("tpu")
    with pytest.raises(errors.DeviceError, match="cuda"):
        backend.resolve_device("cuda")


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RECSYS_FAST_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_threads_come_from_argument_then_variables_then_system(no_variables: pytest.MonkeyPatch) -> None:
    assert backend.resolve_threads() == backend.granted_cpus()
    no_variables.setenv("OMP_NUM_THREADS", "7,2")
    assert backend.resolve_threads() == 7
    no_variables.setenv("RECSYS_FAST_NUM_THREADS", " 5 ")
    assert backend.resolve_threads() == 5
    assert backend.resolve_threads(3) == 3
    assert backend.resolve_threads(np.int64(3)) == 3  # type: ignore[arg-type]


def test_granted_cpus_heed_affinity_and_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for quota, expected in ((float("inf"), 8), (3.5, 4), (0.2, 1), (64.0, 8)):
        monkeypatch.setattr(backend, "_cgroup_cpus", lambda quota=quota: quota)
        assert backend.granted_cpus() == expected


@pytest.mark.parametrize("name", ["RECSYS_FAST_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "2x"])
def test_bad_thread_variable_is_refused(no_variables: pytest.MonkeyPatch, name: str, value: str) -> None:
    no_variables.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name}: got '{value}', expected a positive integer"):
        backend.resolve_threads()
    assert backend.resolve_threads(2) == 2  # the argument wins over a bad variable


def test_bad_thread_argument_is_refused() -> None:
    for bad in (0, -3):
        with pytest.raises(ValueError, match=f"n_threads: got {bad}, expected at least 1"):
            backend.resolve_threads(bad)
    for wrong in (True, 1.0, "2"):
        with pytest.raises(TypeError, match="n_threads"):
            backend.resolve_threads(wrong)  # type: ignore[arg-type]
