"""The quickstart, on synthetic data and on a real set in its published form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.cli import main


def test_quickstart_on_synthetic_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_FAST_DATA", str(tmp_path))
    monkeypatch.setenv("RECSYS_FAST_CACHE", str(tmp_path))
    out = tmp_path / "out"
    assert main(["quickstart", "--out", str(out), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0].startswith("data: synthetic (no real data set was found")
    scores = {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith(("als ", "popularity "))}
    assert scores["als"] > scores["popularity"]
    assert any(line.startswith("best achievable") for line in lines)
    assert rf.load(out / "als.safetensors").n_epochs_ == 10
    assert f"model file: {out / 'als.safetensors'}" in lines
    pytest.importorskip("matplotlib")
    assert f"plot: {out / 'quickstart.png'}" in lines
    assert (out / "quickstart.png").read_bytes().startswith(b"\x89PNG")


def test_quickstart_prefers_real_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with MovieLens 100K in its published form; without matplotlib there is no plot, and it says so."""
    rng = np.random.default_rng(0)
    pairs = {(int(u), int(i)) for u, i in zip(rng.integers(1, 944, 9000), rng.integers(1, 1683, 9000), strict=True)}
    lines = [f"{u}\t{i}\t{rng.integers(1, 6)}\t{881250949 + u}" for u, i in sorted(pairs)]
    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "ml-100k" / "u.data").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.setenv("RECSYS_FAST_DATA", str(tmp_path))
    monkeypatch.setenv("RECSYS_FAST_CACHE", str(tmp_path))
    monkeypatch.setattr("recsys_fast.cli.quickstart.importlib.util.find_spec", lambda name: None)
    assert main(["quickstart", "--out", str(tmp_path), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("data: ml-100k, ratings of 4 or more, random split")
    assert "plot: none without matplotlib" in printed
