"""What the benchmark scripts share: their arguments, and how figures are shown and saved."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from benchmarks import harness
from benchmarks.models import bench_sequence, session_quality

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


def test_updates_are_timed_from_fresh_states_and_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = np.array([10, 50, 50, 60, 3])  # states of the second and third are full after one event
    items = np.random.default_rng(0).integers(0, 30, lengths.sum())
    np.savez(tmp_path / "small.npz", indptr=np.r_[0, np.cumsum(lengths)], indices=items)
    monkeypatch.setitem(sys.modules, "torch", None)
    words = ["bench_sequence", "--work", "update", "--turns", "3", "--data", str(tmp_path / "small.npz")]
    monkeypatch.setattr(sys, "argv", words)
    bench_sequence.main()
    assert capsys.readouterr().out.count("one event and top 10") == 4


@pytest.mark.parametrize("name", bench_sequence.WORK)
def test_sequence_contestants_start_alike(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All have an epoch behind them, count their own events, and are measured in the same way."""
    pytest.importorskip("torch")
    random = np.random.default_rng(0)
    rows = [random.integers(0, 40, n) for n in random.integers(3, 12, 30)]
    train, valid, _ = rf.splits.leave_one_out(rf.Sequences(rows, n_items=40))
    options = harness.arguments("text").parse_args(["--turns", "1"])
    vars(options).update(max_len=8, batch=4, prefix_batches=1, seed=0, fast_peers_only=False)
    work = bench_sequence.WORK[name](train, options)
    assert work.flops > 0
    for key, one in work.contestants.items():
        assert one.model.n_epochs_ == 1 if key.startswith("recsys_fast") else np.isfinite(one.loss)
    events = {key: one.n_events for key, one in work.contestants.items()}
    if name == "caser":  # the peer leaves out windows without three targets
        assert events["torch, published form"] < events["recsys_fast"]
    else:
        assert len(set(events.values())) == 1
    reports: list[Any] = []
    monkeypatch.setattr(harness, "sgemm_peak", lambda _: 100.0)
    monkeypatch.setattr(harness.Report, "add", lambda _, *found: reports.append(found))
    bench_sequence.epochs(name, train, valid, options, harness.Report(options))
    [(_, figures, details)] = reports
    assert ("max_len 8" in details) == name.startswith("sasrec")
    for key, figure in figures.items():
        measured = name not in ("caser", "nextitnet") or key == "recsys_fast"
        assert ("ndcg@10" in figure.quality) == measured
        assert np.isfinite(figure.quality["loss"])


def test_every_event_of_a_session_is_measured() -> None:
    train = rf.Sequences([[0, 1, 2, 3], [2, 3, 4], [4, 0], [1, 5]], n_items=8)
    test = rf.Sequences([[0, 7, 1, 2], [6], [3, 4, 4], [7, 6, 5], []], n_items=8)
    model = rf.GRU4Rec(4, n_negatives=4, n_epochs=2, random_state=0).fit(train)
    assert [row.tolist() for row in session_quality.known_only(test, train)] == [[0, 1, 2], [], [3, 4, 4], [5], []]
    found = session_quality.measure(model, train, test)
    for suffix, sessions in (("", [[0, 1, 2], [3, 4, 4]]), (", all", [[0, 7, 1, 2], [3, 4, 4], [7, 6, 5]])):
        ranks = []
        for session in sessions:
            for place in range(1, len(session)):
                scores = (model.encode([session[:place]]) @ model.item_factors_.T)[0]
                target = scores[session[place]]
                ranks.append(1 + int((scores > target).sum()) + int((scores[: session[place]] == target).sum()))
        assert found[f"recall@20{suffix}"] == 1
        assert found[f"mrr@20{suffix}"] == pytest.approx(np.mean(1 / np.array(ranks)))
