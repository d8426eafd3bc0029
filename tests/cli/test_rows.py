"""The command line with models of rows: what they are trained and tested on, and how they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.cli import main
from recsys_fast.data.libsvm import read_libffm, read_libsvm
from recsys_fast.datasets import Dataset
from recsys_fast.models import evaluate_rows
from recsys_fast.models.registry import ROW_MODELS
from tests.cli.conftest import check_refused
from tests.conftest import devices

FAST = ["--set", "n_epochs=3", "--set", "n_factors=4", "--quiet"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Users with tastes as libsvm, libffm and grouped libsvm text: a row is a user, an item and a context."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("rows")
    taste = rng.standard_normal((12, 8))
    texts: dict[str, list[str]] = {"svm": [], "ffm": [], "qid": []}
    for _ in range(400):
        user, item, evening = rng.integers(12), rng.integers(8), rng.integers(2)
        label = int(taste[user, item] + evening > 0.5)
        ids = (user, 12 + item, 20 + evening)
        texts["svm"].append(f"{label} " + " ".join(f"{one}:1" for one in ids))
        texts["qid"].append(f"{label} qid:{user} " + " ".join(f"{one}:1" for one in ids))
        texts["ffm"].append(f"{label} " + " ".join(f"{field}:{one}:1" for field, one in enumerate(ids)))
    for name, lines in texts.items():
        (folder / f"rows.{name}").write_text("# made\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return {name: folder / f"rows.{name}" for name in texts}


@pytest.fixture(scope="module")
def fm(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fm") / "fm.safetensors"
    assert main(["fit", "fm", "--data", str(files["svm"]), "--out", str(path), *FAST]) == 0
    return path


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", *arguments, "--json", "--quiet"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("device", devices())
def test_fit_and_evaluate_split_a_file_alike(
    device: str, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, data = tmp_path / "fm.safetensors", ["--data", str(files["svm"]), "--split", "random", "--device", device]
    assert main(["fit", "FM", *data, "--out", str(out), "--set", "n_epochs=3"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "training on 320 rows x 22 features" in printed.err
    report = evaluated(capsys, str(out), *data)
    rows = read_libsvm(files["svm"])
    in_test = rf.splits.random_rows(400, 0.2, random_state=0)
    test = np.flatnonzero(in_test)
    model = rf.load(out, device=device)
    dense = np.zeros((400, 22), np.float32)
    dense[np.repeat(np.arange(400), 3), rows.matrix.col_idx] = 1
    import scipy.sparse as sp

    expected = evaluate_rows(model, sp.csr_array(dense[test]), rows.targets[test])
    assert report["metrics"] == pytest.approx(expected)
    assert list(report["metrics"]) == ["log_loss", "auc"]
    assert report["n_rows"] == 80
    assert main(["evaluate", str(out), *data, "--metrics", "AUC,accuracy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["metric", "auc", "accuracy"]


@pytest.mark.parametrize("name", ROW_MODELS)
def test_every_model_of_rows(
    name: str, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, layers = tmp_path / "m.safetensors", [] if name in ("FM", "FFM") else ["--set", "hidden=8"]
    for loss, metrics in (("logistic", ["log_loss", "auc"]), ("squared", ["rmse", "mae"])):
        command = ["fit", name.lower(), "--data", str(files["ffm"]), "--out", str(out), "--set", f"loss={loss}"]
        assert main([*command, *layers, *FAST]) == 0
        model = rf.load(out)
        assert type(model).__name__ == name
        rows = read_libffm(files["ffm"])
        report = evaluated(capsys, str(out), "--data", str(files["ffm"]))
        assert report["metrics"] == pytest.approx(evaluate_rows(model, rows.matrix, rows.targets))
        assert list(report["metrics"]) == metrics
        if name != "FM":
            assert model.fields_.tolist() == [0] * 12 + [1] * 8 + [2] * 2


def test_groups_of_a_file(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, data = str(tmp_path / "m.safetensors"), ["--data", str(files["qid"])]
    assert main(["fit", "fm", *data, "--out", out, "--set", "loss=bpr", *FAST]) == 0
    report = evaluated(capsys, out, *data, "--metrics", "group_auc")
    assert report["metrics"]["group_auc"] > 0.6
    assert main(["fit", "fm", "--data", str(files["svm"]), "--out", out, "--set", "loss=bpr", *FAST]) == 2
    assert "qid:group" in capsys.readouterr().err


def test_options_of_a_file(
    files: dict[str, Path], fm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, out = tmp_path / "one.txt", tmp_path / "m.safetensors"
    text.write_text("1 1:1 3:1\n0 2:1 3:1\n", encoding="utf-8")
    command = ["fit", "fm", "--data", str(text), "--out", str(out), *FAST]
    for more, n_features in (([], 4), (["--one-based"], 3), (["--n-features", "9"], 9)):
        assert main([*command, *more]) == 0
        assert rf.load(out).n_features_in_ == n_features
    assert main([*command, "--layout", "libffm"]) == 2
    assert "field:index:value" in capsys.readouterr().err
    text.write_text("1 3:1 500:1\n0 4:1\n", encoding="utf-8")  # a feature that the model does not know
    assert main(["evaluate", str(fm), "--data", str(text)]) == 2
    assert "got 501, expected at most 22" in capsys.readouterr().err
    report = evaluated(capsys, str(fm), "--data", str(text), "--unknown", "drop", "--metrics", "log_loss")
    text.write_text("1 3:1\n0 4:1\n", encoding="utf-8")
    assert report == evaluated(capsys, str(fm), "--data", str(text), "--metrics", "log_loss")


def samples(n: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, 5, n), 5 + rng.integers(0, 4, n), 9 + rng.integers(0, 2, n)], axis=1)
    return ids.astype(np.int32), np.where((ids[:, 0] + ids[:, 1]) % 2, 1, -1).astype(np.int8)


def test_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extras: dict[str, Any] = {"field_base": np.array([0, 5, 9]), "n_features": 11}
    for seed, (part, n) in enumerate({"train": 90, "valid": 30, "test": 40}.items()):
        extras[f"X_{part}"], extras[f"y_{part}"] = samples(n, seed)
    rng = np.random.default_rng(0)
    rated = rf.Interactions.from_coo(*rng.integers(0, 9, (2, 200)), rng.integers(1, 6, 200), duplicates="last")
    sets = {
        "frappe": Dataset("frappe", "", extras=extras),
        "ml-100k": Dataset("ml-100k", "", interactions=rated, extras={"u1_test": np.arange(rated.nnz) % 5 == 0}),
        "gowalla": Dataset("gowalla", "", *(rf.Interactions.from_coo([0], [0], shape=(1, 1)) for _ in range(2))),
    }
    monkeypatch.setattr(rf.datasets, "load", lambda name, progress=None: sets[name])
    out = str(tmp_path / "m.safetensors")
    for split, n_train, n_test in (([], 90, 40), (["--split", "random"], 128, 32), (["--split", "none"], 160, 160)):
        data = ["--data", "frappe", *split]
        assert main(["fit", "ffm", *data, "--out", out, "--set", "n_factors=2", "--set", "n_epochs=2"]) == 0
        assert f"training on {n_train} rows x 11 features in 3 fields" in capsys.readouterr().err
        assert evaluated(capsys, out, *data, "--metrics", "auc,group_auc")["n_rows"] == n_test
    assert main(["evaluate", out, "--data", "ml-100k"]) == 2
    assert "features of ml-100k: got 18, expected 11" in capsys.readouterr().err

    data = ["--data", "ml-100k", "--split", "u1"]
    assert main(["fit", "fm", *data, "--out", out, "--set", "loss=squared", "--set", "solver=als", *FAST]) == 0
    report = evaluated(capsys, out, *data)
    model, test = rf.load(out), rated.keep(sets["ml-100k"].extras["u1_test"])
    columns = np.zeros((test.nnz, 18), np.float32)
    columns[np.arange(test.nnz), test.rows()] = columns[np.arange(test.nnz), 9 + test.col_idx] = 1
    import scipy.sparse as sp

    assert report["metrics"] == pytest.approx(evaluate_rows(model, sp.csr_array(columns), test.values))
    for wrong, expected in (
        (["--data", "gowalla"], "no targets"),
        (["--data", "frappe", "--split", "leave-one-out"], "none or random"),
        (["--data", "frappe", "--min-value", "1"], "--min-value"),
        (["--data", "frappe", "--one-based"], "a libsvm or libffm file"),
    ):
        assert main(["fit", "fm", *wrong, "--out", out, *FAST]) == 2
        assert expected in capsys.readouterr().err


BAD: dict[str, tuple[list[str], str]] = {
    "a table": (["fit", "fm", "--data", "CSV", "--out", "OUT"], "line 1 of ratings.csv: got 'who,what,stars'"),
    "no file": (["fit", "fm", "--data", "frape", "--out", "OUT"], "Did you mean frappe?"),
    "no fields": (["fit", "ffm", "--data", "SVM", "--out", "OUT"], "libffm text"),
    "numbers for classes": (["fit", "fm", "--data", "NUMBERS", "--out", "OUT"], "0 and 1"),
    "one class": (["fit", "fm", "--data", "ONE", "--out", "OUT"], "one class"),
    "damaged": (["fit", "fm", "--data", "DAMAGED", "--out", "OUT"], "line 2 of damaged.txt"),
    "empty": (["fit", "fm", "--data", "EMPTY", "--out", "OUT"], "X has no rows"),
    "a column": (["fit", "fm", "--data", "SVM", "--out", "OUT", "--user", "0"], "--user"),
    "leave-one-out": (["fit", "fm", "--data", "SVM", "--out", "OUT", "--split", "leave-one-out"], "none or random"),
    "one-based libffm": (["fit", "ffm", "--data", "FFM", "--out", "OUT", "--one-based"], "--one-based"),
    "order 3": (["fit", "fm", "--data", "SVM", "--out", "OUT", "--set", "order=3"], "order"),
    "rows for users and items": (["fit", "als", "--data", "CSV", "--out", "OUT", "--n-features", "3"], "--n-features"),
    "ranking": (["recommend", "FM", "--users", "0"], "FM, which ranks no items for users. Evaluate it"),
    "history": (["recommend", "FM", "--history", "0"], "ranks no items for users"),
    "a ranking metric": (["evaluate", "FM", "--data", "SVM", "--metrics", "ndcg@10"], "one of log_loss"),
    "no metric": (["evaluate", "FM", "--data", "SVM", "--metrics", ","], "one of log_loss"),
    "negatives": (["evaluate", "FM", "--data", "SVM", "--negatives", "9"], "--negatives"),
    "seen items": (["evaluate", "FM", "--data", "SVM", "--keep-seen"], "--keep-seen"),
    "no groups": (["evaluate", "FM", "--data", "SVM", "--metrics", "group_auc"], "group"),
    "ratings without values": (["evaluate", "ALS", "--data", "CSV", "--metrics", "rmse"], "--value"),
}


@pytest.mark.parametrize("case", BAD)
def test_user_errors_are_one_line(
    case: str, files: dict[str, Path], fm: Path, ratings: Path, model_file: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arguments, expected = BAD[case]
    texts = {"NUMBERS": "2 0:1\n1 1:1\n", "ONE": "1 0:1\n1 1:1\n", "DAMAGED": "1 0:1\n1 a:1\n", "EMPTY": ""}
    places = {"CSV": ratings, "FM": fm, "ALS": model_file, "OUT": tmp_path / "m.safetensors"}
    places |= {name.upper(): path for name, path in files.items()}
    for name, text in texts.items():
        places[name] = tmp_path / f"{name.lower()}.txt"
        places[name].write_text(text, encoding="utf-8")
    places["SVM"] = files["svm"]
    check_refused([*(str(places.get(one, one)) for one in arguments), "--quiet"], expected, places["OUT"], capsys)
