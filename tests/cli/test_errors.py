"""How the command line fails: one line, exit code 2, a traceback only with --debug."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_fast.cli import main
from tests.cli.conftest import check_refused

BAD = {
    "unknown model": (["fit", "alz", "--data", "RATINGS", "--out", "OUT"], "one of als, "),
    "a model of models": (["fit", "hybrid", "--data", "RATINGS", "--out", "OUT"], "use it from Python"),
    "unknown data": (["fit", "als", "--data", "gowala", "--out", "OUT"], "one of gowalla"),
    "unknown parameter": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--set", "factors=3"], "n_factors"),
    "not an integer": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--set", "n_factors=many"], "an integer"),
    "a fraction": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--set", "n_factors=1.5"], "an integer"),
    "not a number": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--set", "alpha=x"], "a number"),
    "out of range": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--set", "n_factors=0"], "n_factors"),
    "no equals sign": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--set", "n_factors"], "key=value"),
    "no folder": (["fit", "als", "--data", "RATINGS", "--out", "none/m.safetensors"], "an existing folder"),
    "no config": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--config", "none.toml"], "none.toml"),
    "bad config": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--config", "RATINGS"], "not valid TOML"),
    "no column": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--user", "nobody"], "nobody"),
    "bad split": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--split", "halves"], "leave-one-out"),
    "bad fraction": (
        ["fit", "als", "--data", "RATINGS", "--out", "OUT", "--split", "random", "--test-fraction", "2"],
        "between 0 and 1",
    ),
    "kind of file": (["fit", "als", "--data", __file__, "--out", "OUT"], "kind of file"),
    "unknown device": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--device", "tpu"], "one of auto"),
    "no cuda": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--device", "cuda"], "device='cuda'"),
    "no threads": (["fit", "als", "--data", "RATINGS", "--out", "OUT", "--threads", "0"], "n_threads"),
    "no model file": (["recommend", "none.safetensors", "--users", "1"], "none.safetensors"),
    "not a model": (["recommend", "RATINGS", "--users", "1"], "ratings.csv"),
    "unknown user": (["recommend", "MODEL", "--users", "u0,u99"], "u99"),
    "no users": (["recommend", "MODEL", "--users", ","], "--users"),
    "negative n": (["recommend", "MODEL", "--users", "u0", "-n", "-1"], "n: got -1"),
    "bad metric": (["evaluate", "MODEL", "--data", "RATINGS", "--metrics", "recal@20"], "recall"),
    "bad cut": (["evaluate", "MODEL", "--data", "RATINGS", "--metrics", "recall@0"], "k"),
    "no metric": (["evaluate", "MODEL", "--data", "RATINGS", "--metrics", ","], "metric"),
    "bad negatives": (["evaluate", "MODEL", "--data", "RATINGS", "--negatives", "few"], "--negatives"),
    "no negatives": (["evaluate", "MODEL", "--data", "RATINGS", "--negatives", "given"], "given"),
    "unknown set": (["datasets", "gowala"], "Did you mean 'gowalla'"),
}


@pytest.mark.parametrize("case", BAD)
def test_user_errors_are_one_line(
    case: str, ratings: Path, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = BAD[case]
    out = tmp_path / "m.safetensors"
    places = {"RATINGS": str(ratings), "MODEL": str(model_file), "OUT": str(out)}
    quiet = ["--quiet"] * (arguments[0] != "config")
    check_refused([places.get(one, one) for one in arguments] + quiet, expected, out, capsys)


@pytest.mark.parametrize("arguments", [[], ["bogus"], ["fit"], ["fit", "als", "--out", "x"], ["datasets", "--bogus"]])
def test_wrong_usage_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as failure:
        main(arguments)
    assert failure.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="Did you mean"):
        main(["datasets", "gowala", "--debug"])
