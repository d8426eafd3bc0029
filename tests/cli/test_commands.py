"""The commands from end to end: what they print, what they write."""

from __future__ import annotations

import csv
import importlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.cli import main
from recsys_fast.models.registry import MODELS
from tests.cli.conftest import FAST
from tests.conftest import devices


@pytest.mark.parametrize("device", devices())
def test_fit_evaluate_recommend(device: str, ratings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.safetensors"
    data = ["--data", str(ratings), "--split", "random", "--device", device, "--threads", "2"]
    assert main(["fit", "ALS", *data, "--out", str(out), *FAST]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "3 epochs" in printed.err
    assert f"wrote {out}" in printed.err

    assert main(["evaluate", str(out), *data, "--metrics", "recall@5,NDCG@5,auc", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["metrics"]) == {"recall@5", "ndcg@5", "auc"}
    assert report["metrics"]["auc"] > 0.8  # the groups are that plain
    again = rf.load(out, device=device)
    whole = rf.Interactions.from_csv(ratings)
    train, test = rf.splits.random(whole, random_state=0)
    direct = rf.evaluation.evaluate(again, train, test, ("recall@5", "ndcg@5", "auc"))
    assert report["metrics"] == pytest.approx(dict(direct))

    assert main(["evaluate", str(out), *data]) == 0
    assert "recall@20" in capsys.readouterr().out

    assert main(["recommend", str(out), "--users", "u0,u1", "-n", "4", "--format", "csv", "--device", device]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    ids, scores = again.recommend(again.user_ids_.encode(["u0", "u1"]), n=4)
    assert [row["user"] for row in rows] == ["u0"] * 4 + ["u1"] * 4
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"] * 2
    assert [row["item"] for row in rows] == again.item_ids_.decode(ids).ravel().tolist()
    assert [float(row["score"]) for row in rows] == pytest.approx(scores.ravel().tolist())


def test_recommend_formats_agree(model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = tmp_path / "users.txt"
    users.write_text("u3\n\nu4\n", encoding="utf-8")

    def lines(form: str) -> str:
        assert main(["recommend", str(model_file), "--users", f"@{users}", "-n", "2", "--format", form]) == 0
        return capsys.readouterr().out

    found = json.loads(lines("json"))
    assert [one["user"] for one in found] == ["u3", "u4"]
    items = [item for one in found for item in one["items"]]
    assert [row["item"] for row in csv.DictReader(io.StringIO(lines("csv")))] == items
    table = [line.split() for line in lines("table").splitlines()]
    assert table[0] == ["user", "rank", "item", "score"]
    assert [line[2] for line in table[1:]] == items


def test_histories_are_folded_in(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = rf.load(model_file)
    items = ["i3", "i5", "i0"]
    asked = ["recommend", str(model_file), "--history", ",".join(items), "-n", "3", "--format", "json"]
    assert main(asked) == 0
    (found,) = json.loads(capsys.readouterr().out)
    own = rf.Sequences([model.item_ids_.encode(items)], n_items=model.training_matrix_.n_cols)
    ids = model.recommend(user_items=own, n=3).ids[0]
    assert found["items"] == model.item_ids_.decode(ids).tolist()
    assert not set(found["items"]) & set(items)
    assert main([*asked, "--keep-seen"]) == 0
    assert set(json.loads(capsys.readouterr().out)[0]["items"]) & set(items)


def test_evaluate_may_keep_what_was_seen(model_file: Path, ratings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(ratings), "--metrics", "recall@30", "--json"]
    for more, kept in (([], False), (["--keep-seen"], True)):
        assert main(["evaluate", str(model_file), *data, *more]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["protocol"]["filter_seen"] is not kept
        assert (report["metrics"]["recall@30"] > 0.9) is kept  # the whole file is the test: most of it was trained on


def test_recommend_pads_nothing_and_filters_seen(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A user of some ten items gets all of the other thirty, and each item only with --keep-seen."""
    model = rf.load(model_file)
    n_items = model.training_matrix_.n_cols
    n_seen = int(np.diff(model.training_matrix_.row_ptr)[model.user_ids_.encode("u0")])
    for extra, expected in (([], n_items - n_seen), (["--keep-seen"], n_items)):
        arguments = ["recommend", str(model_file), "--users", "u0", "-n", "500", "--format", "json", *extra]
        assert main(arguments) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert len(found["items"]) == len(found["scores"]) == len(set(found["items"])) == expected
    assert main(["recommend", str(model_file), "--users", "all", "-n", "1", "--format", "json"]) == 0
    assert [one["user"] for one in json.loads(capsys.readouterr().out)] == list(model.user_ids_)


def test_fit_on_a_whole_file_and_evaluate_on_another(
    ratings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, test = tmp_path / "m.safetensors", tmp_path / "test.csv"
    assert main(["fit", "popularity", "--data", str(ratings), "--out", str(out), "--quiet"]) == 0
    assert rf.load(out).training_matrix_.nnz == 720
    test.write_text("who,what\nu0,i25\nu1,i3\nstranger,i3\n", encoding="utf-8")
    assert main(["evaluate", str(out), "--data", str(test), "--json"]) == 2
    assert "stranger" in capsys.readouterr().err
    assert main(["evaluate", str(out), "--data", str(test), "--unknown", "drop", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n_users"] == 2
    # popularity knows i25 and i3 to be liked by half of the users, so each is among the 28 that are left for the other
    assert report["protocol"]["n_test"] == 2
    packed = tmp_path / "test.npz"  # an npz file numbers ids in its own way
    rf.Interactions.from_csv(test).to_npz(packed)
    assert main(["evaluate", str(out), "--data", str(packed), "--json"]) == 2
    assert "test.npz: got 'stranger'" in capsys.readouterr().err
    assert main(["evaluate", str(out), "--data", str(packed), "--unknown", "drop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report


def test_values_columns_and_thresholds_of_a_file(ratings: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "m.safetensors")
    tsv = tmp_path / "plain.tsv"
    tsv.write_text("7\t1\t5\n8\t2\t1\n8\t2\t3\n9\t1\t2\n", encoding="utf-8")
    command = ["fit", "popularity", "--data", str(tsv), "--no-header", "--out", out, "--quiet"]
    assert main([*command, "--value", "2", "--min-value", "2", "--set", "by=sum"]) == 0
    model = rf.load(out)
    assert list(model.user_ids_) == [7, 8, 9]
    assert model.item_scores_.tolist() == [7.0, 4.0]
    assert main([*command, "--user", "1", "--item", "0", "--duplicates", "max"]) == 0
    assert rf.load(out).training_matrix_.shape == (2, 3)
    npz = tmp_path / "m.npz"
    rf.Interactions.from_csv(ratings).to_npz(npz)
    assert main(["fit", "popularity", "--data", str(npz), "--out", out, "--quiet"]) == 0
    assert rf.load(out).training_matrix_.nnz == 720


def test_parquet_file(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path, out = tmp_path / "x.parquet", tmp_path / "m.safetensors"
    pandas.DataFrame({"user": ["a", "b", "b"], "item": [1, 1, 2]}).to_parquet(path)
    assert main(["fit", "popularity", "--data", str(path), "--out", str(out), "--quiet"]) == 0
    assert rf.load(out).item_scores_.tolist() == [2.0, 1.0]


def test_the_same_command_gives_the_same_model(ratings: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b", "c")]
    command = ["fit", "als", "--data", str(ratings), "--quiet", "--set", "n_factors=4", "--set", "n_epochs=1"]
    for path, extra in zip(files, ([], [], ["--set", "random_state=none"]), strict=True):
        assert main([*command, "--out", str(path), *extra]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert (rf.load(files[2]).item_factors_ != rf.load(files[0]).item_factors_).any()


def test_config_file_and_settings(ratings: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "m.safetensors", tmp_path / "als.toml"
    config.write_text('n_factors = 4\nregularization = 1\nsolver = "cholesky"\nn_epochs = 1\n', encoding="utf-8")
    command = ["fit", "als", "--data", str(ratings), "--out", str(out), "--config", str(config), "--quiet"]
    assert main([*command, "--set", "n_factors=6", "--set", " alpha = 2 ", "--set", "random_state=None"]) == 0
    model = rf.load(out)
    assert (model.n_factors, model.regularization, model.solver, model.alpha) == (6, 1.0, "cholesky", 2.0)
    assert isinstance(model.regularization, float)
    assert model.random_state is None
    config.write_text("[als]\nn_factors = 3\nn_epochs = 1\n[popularity]\nby = 'sum'\n", encoding="utf-8")
    assert main(command) == 0
    assert rf.load(out).n_factors == 3


def test_datasets_and_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == rf.datasets.names()
    assert main(["datasets", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == rf.datasets.names()
    assert main(["datasets", "ml-100k"]) == 0
    assert "grouplens" in capsys.readouterr().out
    assert main(["config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rf.backend.config()


def test_every_model_that_trains_on_a_matrix(ratings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "m.safetensors")
    kinds = {name: getattr(importlib.import_module(module), name) for name, module in MODELS.items()}
    names = [name for name, kind in kinds.items() if getattr(kind, "_fits_interactions", False)]
    assert {"ALS", "Popularity", "Random"} <= set(names)
    assert main(["fit", "nothing", "--data", str(ratings), "--out", out]) == 2
    assert "one of " + ", ".join(map(str.lower, names)) in capsys.readouterr().err
    for name in names:
        if getattr(kinds[name], "_fits_sequences", False):
            continue  # what these are trained on has times
        command = ["fit", name.lower(), "--data", str(ratings), "--value", "stars", "--split", "random", "--out", out]
        assert main([*command, "--quiet"]) == 0
        assert type(rf.load(out)) is kinds[name]
        assert main(["recommend", out, "--users", "u3", "-n", "3", "--format", "json"]) == 0
        assert len(json.loads(capsys.readouterr().out)[0]["items"]) == 3
        test = ["--data", str(ratings), "--value", "stars", "--split", "random", "--json", "--quiet"]
        assert main(["evaluate", out, *test]) == 0
        assert 0 <= json.loads(capsys.readouterr().out)["metrics"]["ndcg@20"] <= 1


def test_times_of_a_file_fade_popularity(tmp_path: Path) -> None:
    path, out = tmp_path / "events.csv", str(tmp_path / "m.safetensors")
    path.write_text("who,what,when\na,x,2024-01-01\nb,x,2024-01-01\na,y,2024-03-01\n", encoding="utf-8")
    command = ["fit", "popularity", "--data", str(path), "--set", "half_life=86400000000", "--out", out, "--quiet"]
    assert main([*command, "--timestamp", "when"]) == 0
    assert np.argmax(rf.load(out).item_scores_) == 1
    assert main(command) == 2


def test_a_file_of_several_models_is_used_like_any_other(
    ratings: Path, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    als, out = rf.load(model_file), tmp_path / "hybrid.safetensors"
    matrix = als.training_matrix_
    rf.Hybrid([als, rf.Popularity().fit(matrix)], weights=[1, 1]).fit().save(out)
    assert main(["recommend", str(out), "--users", "u3", "-n", "3", "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("u3,1,i")
    assert main(["evaluate", str(out), "--data", str(ratings), "--split", "random"]) == 0
    assert "ndcg@20" in capsys.readouterr().out
