"""What the benchmark scripts share: their arguments, and how figures are shown and saved."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from benchmarks import harness

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("bench_*.py")
    if "harness.arguments(" in path.read_text(encoding="utf-8")
)


def test_scripts_are_found() -> None:
    assert {"benchmarks.models.bench_als", "benchmarks.ops.bench_topk", "benchmarks.ops.bench_csr"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_take_the_shared_arguments(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module(name)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as left:
        script.main()
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("--data", "--threads", "--turns", "--save"))
    assert f"python -m {name}" in text


def test_a_report_prints_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    options = harness.arguments("text").parse_args(["--data", "/somewhere/set.npz", "--save", "x"])
    assert (options.threads, options.turns) == (2, 5)
    report = harness.Report(options)
    figures = {
        "recsys_fast": harness.Figure("recsys_fast", [1.0, 3.0, 2.0], floor_seconds=1.0),
        "peer": harness.Figure("peer", [8.0], {"ndcg": 0.5}),
    }
    report.add("work", figures, "64 factors")
    report.add("more", figures)
    report.add("without", figures, "n = 3", of_data=False)
    report.finish()
    out = capsys.readouterr().out
    assert "work, set, 64 factors" in out
    assert "4.00 x" in out
    assert "50.0 % of floor" in out
    saved = json.loads((tmp_path / "x.json").read_text())
    assert list(saved["work"]) == ["work, set, 64 factors", "more, set", "without, n = 3"]
    harness.Report(harness.arguments("text").parse_args([])).finish()
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
