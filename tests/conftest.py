"""Fixtures that every room's tests share: the backends that are there, and the real data sets where they are."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]

# The installed package is the one to test: the source tree beside these tests holds no compiled extension. So the
# root, which the tests need for their own modules, goes to the end of the path, also when "python -m pytest" or
# PYTHONPATH put it in front; it still serves where nothing is installed.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _ROOT] + [str(_ROOT)]

from recsys_fast import backend  # noqa: E402

# Child processes of tests find the same package, whatever folder they start in.
os.environ["PYTHONSAFEPATH"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)

# A shell that starts the tests in the background has SIGINT ignored, and the tests of Ctrl-C would wait in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)

_SHARED = _ROOT.parent / "shared" / "data"
if "RECSYS_FAST_DATA" not in os.environ and _SHARED.is_dir():
    os.environ["RECSYS_FAST_DATA"] = str(_SHARED)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background jobs; tests here send the signal
    signal.signal(signal.SIGINT, signal.default_int_handler)


def devices() -> list[str]:
    """Return the backends this installation runs."""
    return ["cpu", "numba"] if backend.resolve_device("auto") == "cpu" else ["numba"]


@pytest.fixture(params=devices())
def device(request: pytest.FixtureRequest) -> str:
    """A backend's name; a test that takes it runs once per backend."""
    return str(request.param)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; skips where there is none."""
    folder = os.environ.get("RECSYS_FAST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RECSYS_FAST_DATA names no folder of data sets")
    return Path(folder)
