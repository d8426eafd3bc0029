"""The emulated grid itself: it does what CUDA promises, and catches what was planted."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.emulated.build import CSRC, ROOT, compile_objects, link

pytestmark = [pytest.mark.cuda_emulated, pytest.mark.timeout(1800)]  # they compile


def _program(sanitize: bool) -> str:
    """Return the compiled test_grid.cu."""
    sources = [
        ROOT / "tests" / "emulated" / "test_grid.cu",
        CSRC / "cuda" / "interrupt.cu",
        *sorted((CSRC / "testing").glob("*.cc")),
    ]
    objects = compile_objects(sources, (f"-I{ROOT / 'tests' / 'native'}",), sanitize)
    return str(link(objects, "test_grid", [], sanitize))


def _run(program: str, *arguments: str, workers: int = 2) -> subprocess.CompletedProcess[str]:
    # What a fault leaves on the stacks of fibers is never freed. Preloaded libraries are those of Python's sanitizers.
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "RECSYS_FAST_EMULATED_WORKERS": str(workers)}
    env.pop("LD_PRELOAD", None)
    return subprocess.run([program, *arguments], env=env, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("sanitize", [False, True], ids=["plain", "sanitized"])
def test_the_grid_keeps_promises_and_catches_faults(sanitize: bool, workers: int) -> None:
    done = _run(_program(sanitize), workers=workers)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "15 cases, 0 failed" in done.stdout


@pytest.mark.parametrize(
    ("fault", "report"),
    [
        ("store", "heap-buffer-overflow"),  # behind the end of a device buffer
        ("load", "heap-buffer-overflow"),  # before its beginning
        ("freed", "heap-use-after-free"),
        ("shared", "use-after-poison"),  # through a raw pointer to shared memory, which the shadow does not see
    ],
)
def test_bad_pointers_are_caught_by_the_address_sanitizer(fault: str, report: str) -> None:
    done = _run(_program(True), fault)
    assert done.returncode != 0
    assert report in done.stderr
    assert "overrun_kernel" in done.stderr
