"""The command line with sequence models: what they are trained, tested and asked on."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.cli import commands, main, parameters, sequence_sources
from recsys_fast.cli.arguments import make_parser
from recsys_fast.data import Interactions, Sequences, splits
from recsys_fast.datasets import Dataset
from recsys_fast.models.base import Recommendations
from recsys_fast.models.registry import MODELS


class Successor:
    """A sequence model that knows which item followed which how often."""

    _fits_sequences: ClassVar[bool] = True
    saved: ClassVar[Successor]

    def __init__(self, weight: float = 1.0, device: str = "auto", n_threads: int | None = None) -> None:
        self.weight, self.device, self.n_threads, self.n_epochs_ = weight, device, n_threads, 1
        self.history_: dict[str, list[float]] = {}

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {"weight": 1.0, "device": "auto", "n_threads": None}

    def fit(self, data: Sequences, callbacks: Any = ()) -> Successor:
        self.training_sequences_, self.training_matrix_ = data, data.seen
        self.user_ids_, self.item_ids_ = data.user_ids, data.item_ids
        follows = np.zeros((data.n_items, data.n_items), np.float32)
        for row in data:
            np.add.at(follows, (row[:-1], row[1:]), self.weight)
        self._follows, self.item_factors_ = follows, np.ascontiguousarray(follows.T)
        return self

    def encode(self, histories: Sequences) -> np.ndarray[Any, Any]:
        out = np.zeros((histories.n_users, histories.n_items), np.float32)
        for row, items in zip(out, histories, strict=True):
            row[items[-1:]] = 1
        return out

    def recommend(self, users: Any, user_items: Any, n: int, *, filter_seen: bool) -> Recommendations:
        histories = self.training_sequences_.take(users) if user_items is None else user_items
        scores = self.encode(histories) @ self.item_factors_.T
        if filter_seen:
            scores[histories.rows(), histories.items] = -np.inf
        ids = np.argsort(-scores, axis=1, kind="stable")[:, :n].astype(np.int32)
        return Recommendations(ids, np.take_along_axis(scores, ids, 1))

    def save(self, path: str) -> None:
        Successor.saved = self
        Path(path).touch()


@pytest.fixture
def successor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "model_class", lambda name: Successor)
    monkeypatch.setattr(commands, "_load", lambda args: Successor.saved)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users walk along a ring of items; lines in no order, one history of two."""
    path = tmp_path_factory.mktemp("log") / "log.csv"
    rng = np.random.default_rng(0)
    lines = [(f"u{user}", f"i{(user + k) % 12}", k) for user in range(40) for k in range(5)]
    lines += [("short", "i0", 0), ("short", "i1", 1)]
    rows = [lines[k] for k in rng.permutation(len(lines))]
    path.write_text("who,what,when\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows), encoding="utf-8")
    return path


def options(*texts: str) -> argparse.Namespace:
    return make_parser().parse_args(["evaluate", "file", *texts])


COLUMNS = ("--user", "who", "--item", "what", "--timestamp", "when")


@pytest.mark.usefixtures("successor")
def test_fit_evaluate_recommend(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data", str(log), *COLUMNS, "--split", "leave-one-out"]
    out = str(tmp_path / "model")
    assert main(["fit", "successor", *where, "--set", "weight=2", "--out", out, "--quiet"]) == 0
    assert Successor.saved.weight == 2
    assert Successor.saved.training_sequences_.lengths.max() == 3
    assert main(["evaluate", out, *where, "--metrics", "hit_rate@1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["metrics"]["hit_rate@1"] == 1
    assert (report["n_users"], report["n_users_without_test"]) == (40, 1)
    ids = Successor.saved.training_sequences_
    assert ids.user_ids is not None
    assert main(["recommend", out, "--users", "u3", "-n", "1", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["items"] == ["i6"]
    history = ["--history", "i4,i5", "--history", "i9"]
    assert main(["recommend", out, *history, "-n", "1", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["user"], one["items"]) for one in found] == [("i4,i5", ["i6"]), ("i9", ["i10"])]
    assert main(["recommend", out, "--history", "i4,nothing"]) == 2
    assert "unknown id 'nothing'" in capsys.readouterr().err


@pytest.mark.usefixtures("successor")
def test_a_whole_file_is_trained_on_and_another_is_the_test(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "model")
    assert main(["fit", "successor", "--data", str(log), *COLUMNS, "--out", out, "--quiet"]) == 0
    assert Successor.saved.training_sequences_.n_events == 202
    later = tmp_path / "later.csv"
    later.write_text("who,what,when\nu0,i5,9\nu1,i6,9\nu1,i7,9\nnobody,i1,9\n", encoding="utf-8")
    asked = ["evaluate", out, "--data", str(later), *COLUMNS, "--metrics", "recall@1", "--json"]
    assert main([*asked, "--unknown", "drop"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["n_users"], report["metrics"]["recall@1"]) == (2, 0.75)
    assert main(asked) == 2
    packed = tmp_path / "later.npz"  # an npz file numbers ids in its own way
    columns: dict[str, Any] = {"user": "who", "item": "what", "timestamp": "when"}
    for kind in (Sequences, Interactions):
        kind.from_csv(later, **columns).to_npz(packed)
        asked = ["evaluate", out, "--data", str(packed), "--metrics", "recall@1", "--json"]
        capsys.readouterr()
        assert main([*asked, "--unknown", "drop"]) == 0
        assert json.loads(capsys.readouterr().out) == report
        assert main(asked) == 2
        assert "later.npz: got 'nobody'" in capsys.readouterr().err


@pytest.mark.usefixtures("successor")
@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_a_random_split_is_tested_on_the_other_users(
    kind: str, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sequence_sources.read(options("--data", str(log), *COLUMNS, "--quiet")).train
    whole.to_npz(tmp_path / "log.npz")
    out, split = str(tmp_path / "model"), ["--split", "random", "--test-fraction", "0.25"]
    where = [*(["--data", str(log), *COLUMNS] if kind == "csv" else ["--data", str(tmp_path / "log.npz")]), *split]
    assert main(["fit", "successor", *where, "--out", out, "--quiet"]) == 0
    trained = Successor.saved.training_sequences_
    n_users, n_events = whole.n_users - trained.n_users, whole.n_events - trained.n_events
    assert n_users == 10
    for more in ([], ["--unknown", "drop"]):
        assert main(["evaluate", out, *where, "--metrics", "hit_rate@1", "--json", *more]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["n_users"], report["metrics"]["hit_rate@1"]) == (n_events - n_users, 1)


def test_kinds_of_files(log: Path, tmp_path: Path) -> None:
    data = sequence_sources.read(options("--data", str(log), *COLUMNS, "--quiet")).train
    assert isinstance(data, Sequences)
    assert data.lengths.max() == 5
    data.to_npz(tmp_path / "s.npz")
    data.to_interactions().to_npz(tmp_path / "m.npz")
    for name in ("s.npz", "m.npz"):
        read = sequence_sources.read(options("--data", str(tmp_path / name), "--quiet")).train
        assert np.array_equal(read.items, data.items)
    rated = tmp_path / "rated.csv"
    rated.write_text("user,item,stars,when\n0,1,5,3\n0,2,1,2\n0,3,4,1\n", encoding="utf-8")
    columns = ("--value", "stars", "--min-value", "4", "--timestamp", "when")
    kept = sequence_sources.read(options("--data", str(rated), *columns, "--quiet")).train
    assert kept.item_ids.decode(kept[0]).tolist() == [3, 1]
    for wrong, text in (
        (("--data", str(rated), "--value", "stars"), "no times"),
        (("--data", str(tmp_path / "s.npz"), "--min-value", "2"), "min-value"),
        (("--data", str(tmp_path / "none.csv")), "--data"),
        (("--data", str(log), *COLUMNS, "--split", "u1"), "--split"),
    ):
        with pytest.raises(ValueError, match=text):
            sequence_sources.read(options(*wrong, "--quiet"))


def test_splits_of_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Sequences([[1, 2, 3, 4], [0, 1], [5, 4, 3]], n_items=6)
    parts = splits.leave_one_out(whole)
    timed = splits.leave_one_out(Sequences(list(whole), n_items=6, timestamps=[[1, 2, 3, 4], [1, 2], [1, 2, 3]]))
    sets = {
        "beauty": Dataset(
            "beauty", "", *(part.to_interactions() for part in (parts.train, parts.test)), sequences=whole
        ),
        "diginetica": Dataset(
            "diginetica",
            "",
            whole.to_interactions(),
            whole[:1].to_interactions(),
            sequences=whole,
            test_sequences=whole,
        ),
        "ml-1m-ncf": Dataset(
            "ml-1m-ncf", "", splits.join(timed.train, timed.valid).to_interactions(), timed.test.to_interactions()
        ),
        "gowalla": Dataset(
            "gowalla", "", Interactions.from_coo([0], [1]), Interactions.from_coo([0], [0], shape=(1, 2))
        ),
        "ml-100k": Dataset("ml-100k", "", interactions=whole.to_interactions(), extras={"u1_test": np.arange(9) > 5}),
    }
    monkeypatch.setattr(rf.datasets, "load", lambda name, progress=None: sets[name])

    def read(name: str, *more: str) -> sequence_sources.SequenceData:
        return sequence_sources.read(options("--data", name, "--quiet", *more))

    def lists(data: Any) -> list[list[int]]:
        return [row.tolist() for row in data]

    for more in ((), ("--split", "given"), ("--split", "leave-one-out")):
        data = read("beauty", *more)
        assert lists(data.train) == [[1, 2], [0, 1], [5]]
        assert lists(data.history) == [[1, 2, 3], [0, 1], [5, 4]]
        assert lists(data.test) == [[4], [], [3]]
    assert read("beauty", "--split", "none").test is None
    assert lists(read("beauty", "--split", "none").train) == lists(whole)
    data = read("diginetica")
    assert lists(data.train) == lists(whole)
    assert lists(data.test) == [[2], [3], [4], [1], [4], [3]]
    data = read("beauty", "--split", "random", "--test-fraction", "0.4")
    assert data.train.n_users == 2
    assert data.history.n_users == data.test.n_users >= 1
    data = read("ml-1m-ncf")  # published in two parts, and not as sequences
    assert lists(data.train) == lists(data.history) == [[1, 2, 3], [0, 1], [5, 4]]
    assert data.test.nnz == 2
    for split, expected in (
        ("leave-one-out", ([[1, 2], [0, 1], [5]], [[1, 2, 3], [0, 1], [5, 4]], [[4], [], [3]])),
        ("none", (lists(whole), None, None)),
    ):
        data = read("ml-1m-ncf", "--split", split)
        assert tuple(None if part is None else lists(part) for part in data[1:4]) == expected
    data = read("ml-1m-ncf", "--split", "random", "--test-fraction", "0.4")
    assert all(row in lists(whole) for row in lists(data.train))
    assert data.train.n_users == 2
    data = read("ml-100k", "--split", "leave-one-out")
    assert lists(data.train) == [[1, 2], [0, 1], [5]]
    data = read("ml-100k", "--split", "u1")
    assert data.history.n_events == 6
    assert data.test.nnz == 3
    assert lists(read("ml-100k").test) == [[4], [], [3]]
    for name, more, text in (("gowalla", (), "no times"), ("beauty", ("--min-value", "2"), "min-value")):
        with pytest.raises(ValueError, match=text):
            read(name, *more)


SEQUENCE_MODELS = [
    name for name, module in MODELS.items() if parameters.fits_sequences(getattr(importlib.import_module(module), name))
]


@pytest.mark.parametrize("split", ["leave-one-out", "random", "none"])
@pytest.mark.parametrize("name", SEQUENCE_MODELS)
def test_every_sequence_model(
    name: str, split: str, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, where = str(tmp_path / "m.safetensors"), ["--data", str(log), *COLUMNS, "--split", split]
    assert main(["fit", name.lower(), *where, "--set", "n_epochs=1", "--set", "d=8", "--out", out, "--quiet"]) == 0
    assert main(["evaluate", out, *where, "--metrics", "ndcg@5", "--keep-seen", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 0 <= report["metrics"]["ndcg@5"] <= 1
    model = rf.load(out)
    held_out = 202 - model.training_sequences_.n_events
    n_others = 41 - model.training_sequences_.n_users
    assert report["n_users"] == {"leave-one-out": 40, "random": held_out - n_others, "none": 41}[split]
    known = list(model.user_ids_)[:2]
    for whom in (["--users", ",".join(known)], ["--history", "i1,i2", "--history", "i3"]):
        assert main(["recommend", out, *whom, "-n", "3", "--format", "json"]) == 0
        assert [len(one["items"]) for one in json.loads(capsys.readouterr().out)] == [3, 3]


def test_parameters_of_several_integers(tmp_path: Path) -> None:
    parse = parameters.parse_parameters
    for text in ("1,2,4", "(1, 2, 4)", "[1,2,4]", "1,2,4,"):
        assert parse(rf.NextItNet, [f"dilations={text}"], None) == {"dilations": (1, 2, 4)}
    assert parse(rf.NextItNet, ["dilations=3"], None) == {"dilations": (3,)}
    config = tmp_path / "c.toml"
    config.write_text("[nextitnet]\ndilations = [1, 2]\nd = 16\n")
    assert parse(rf.NextItNet, [], str(config)) == {"dilations": (1, 2), "d": 16}
    config.write_text('dilations = "2,1"\n')
    assert parse(rf.NextItNet, [], str(config)) == {"dilations": (2, 1)}
    for bad in ("1,x", "", "1.5"):
        with pytest.raises(ValueError, match=r"dilations.*integers such as"):
            parse(rf.NextItNet, [f"dilations={bad}"], None)
    config.write_text("dilations = [1.5]\n")
    with pytest.raises(ValueError, match=r"dilations.*integers such as"):
        parse(rf.NextItNet, [], str(config))
