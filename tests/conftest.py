"""Fixtures that every room's tests share: the backends that are there, and the real data sets where they are."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[1]

# The installed package is the one to test: the source tree beside these tests holds no compiled extension. So the
# root, which the tests need for their own modules, goes to the end of the path, also when "python -m pytest" or
# PYTHONPATH put it in front; it still serves where nothing is installed.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _ROOT] + [str(_ROOT)]

from recsys_fast import backend  # noqa: E402
from recsys_fast.errors import DeviceError  # noqa: E402
from tests.cases import cuda_ops  # noqa: E402

# Child processes of tests find the same package, whatever folder they start in.
os.environ["PYTHONSAFEPATH"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)

# A shell that starts the tests in the background has SIGINT ignored, and the tests of Ctrl-C would wait in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)

_SHARED = _ROOT.parent / "shared" / "data"
if "RECSYS_FAST_DATA" not in os.environ and _SHARED.is_dir():
    os.environ["RECSYS_FAST_DATA"] = str(_SHARED)


_MOST_WORKERS = 4


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes share the tests: none for chosen files, whose output is to be read as it comes, nor for
    the emulated grid, which is built once and has threads of its own."""
    if config.args != config.getini("testpaths") or re.search(r"(?<!not )cuda_emulated", config.option.markexpr):
        return 0
    return min(_MOST_WORKERS, backend.resolve_threads(None))


def devices() -> list[str]:
    """Return the backends this installation runs."""
    return ["cpu", "numba"] if backend.resolve_device("auto") == "cpu" else ["numba"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``device`` once per backend; those that cuda_ops.py lists also on CUDA, both ways."""
    named = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "device" not in metafunc.fixturenames or any("device" in names for names in named):
        return
    params: list[Any] = list(devices())
    file = metafunc.definition.path.relative_to(_ROOT).as_posix()
    if metafunc.definition.originalname not in cuda_ops.TESTS.get(file, {metafunc.definition.originalname: ""}):
        params += [
            pytest.param("cuda_emulated", marks=pytest.mark.cuda_emulated),
            pytest.param("cuda", marks=pytest.mark.gpu),
        ]
    metafunc.parametrize("device", params, indirect=True)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """A backend's name; a test that takes it runs once per backend."""
    name = str(request.param)
    if name == "cuda":
        try:
            backend.resolve_device("cuda")
        except DeviceError as error:
            pytest.skip(str(error))
    most = cuda_ops.most_steps(name)
    params = request.node.callspec.params.values()
    if most < math.inf and (wanted := max((cuda_ops.steps(value) for value in params), default=0.0)) > most:
        pytest.skip(f"{wanted:.1e} steps are too much here, where a case may take {most:.0e}")
    if name != "cuda_emulated":
        yield name
        return
    with emulated_cuda():
        yield "cuda"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the emulated grid before the first test that needs it: a test's time limit is not for compilers."""
    wanted = any(item.get_closest_marker("cuda_emulated") for item in session.items)
    if wanted and not session.config.option.collectonly:
        from tests.emulated import emulated

        emulated()


@contextlib.contextmanager
def emulated_cuda() -> Iterator[Any]:
    """Put the emulated grid in the place of the CUDA extension; yield its array module. Memory must all come back."""
    from tests.emulated import emulated

    module, arrays = emulated()
    before = module.live_allocations()
    backend._install_cuda(module, arrays)
    try:
        yield arrays
    finally:
        backend._install_cuda()
        module.set_device(0)
    if module.live_allocations() > before:
        gc.collect()
    assert module.live_allocations() <= before, "memory on the emulated device was not freed"


@pytest.fixture
def emulated_arrays() -> Iterator[Any]:
    """The array module of the emulated grid, which stands for CUDA during the test."""
    with emulated_cuda() as arrays:
        yield arrays


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; skips where there is none."""
    folder = os.environ.get("RECSYS_FAST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RECSYS_FAST_DATA names no folder of data sets")
    return Path(folder)
