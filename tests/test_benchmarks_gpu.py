"""The benchmarks of GPUs run: each script at tiny sizes on the emulated grid, and the one that starts them all."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"


@pytest.mark.cuda_emulated
@pytest.mark.parametrize("name", ["als", "bpr", "topk", "linear", "sequence"])
def test_scripts_run_dry(
    name: str, emulated_arrays: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    script = importlib.import_module(f"benchmarks.gpu.bench_{name}")
    monkeypatch.setattr(sys, "argv", [name, "--dry", "--save", "dry"])
    script.main()
    assert "copy " in capsys.readouterr().out
    work = json.loads((tmp_path / "dry.json").read_text())["work"]
    assert len(work) == {"als": 2, "bpr": 1, "topk": 1, "linear": 3, "sequence": 4}[name]
    for figures in work.values():
        assert all(figure["seconds"] for figure in figures.values())
        assert figures["recsys_fast"]["floor_seconds"] > 0
        assert len(figures) > 1 or importlib.util.find_spec("torch") is None


def run(path: str, *words: str, logs: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": path, "RECSYS_FAST_GPU_LOGS": str(logs)}
    return subprocess.run(["bash", str(SCRIPT), *words], env=env, capture_output=True, text=True, timeout=60)


def tools(folder: Path, **scripts: str) -> str:
    """Return a PATH of commands that do what is said, before the system's."""
    folder.mkdir()
    for name, body in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_the_script_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    done = run(tools(tmp_path / "bin", **{"nvidia-smi": "echo no devices; exit 9"}), logs=tmp_path)
    assert done.returncode == 3
    assert "no GPU: nvidia-smi says: no devices" in done.stderr


@pytest.mark.skipif(shutil.which("compute-sanitizer", path="/usr/bin:/bin") is not None, reason="it is installed")
def test_the_script_tells_what_failed_and_what_was_left_out(tmp_path: Path) -> None:
    fail = 'case "$*" in *bench_topk*) exit 4 ;; esac'
    path = tools(tmp_path / "bin", **{"nvidia-smi": "echo A100, 1.0", "python3": fail, "nvcc": "exit 0"})
    done = run(path, "--skip", "sequence=no time today", logs=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()[-9:]}
    assert list(lines) == ["build", "tests", "memcheck", "racecheck", "als", "bpr", "topk", "linear", "sequence"]
    assert "passed" in lines["build"]
    assert "skipped: compute-sanitizer is not on PATH" in lines["memcheck"]
    assert "passed" in lines["bpr"]
    assert "FAILED with 4" in lines["topk"]
    assert "skipped: no time today" in lines["sequence"]
    done = run(path, "--only", "als", logs=tmp_path)
    assert done.returncode == 0
    assert "skipped: not among --only" in done.stdout
    for words in (("--skip", "topk"), ("--fast",)):
        assert run(path, *words, logs=tmp_path).returncode == 2
