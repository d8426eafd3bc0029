"""A small data file, and a model fitted on it through the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys_fast.cli import main

FAST = ["--set", "n_factors=8", "--set", "n_epochs=3", "--set", "random_state=0", "--set", "solver=cg"]


def check_refused(arguments: list[str], expected: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that a command fails with exit code 2 and one line that says ``expected``, and writes no ``out``."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith(f"recsys-fast {arguments[0]}: error: ")
    assert expected in printed.err
    assert not out.exists()


@pytest.fixture(scope="session")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of raw string ids with values: two groups of users who like two groups of items."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "ratings.csv"
    lines = ["who,what,stars"]
    for user in range(60):
        group = user % 2
        items = rng.choice(np.arange(20) + 20 * group, 12, replace=False)
        lines += [f"u{user},i{item},{rng.integers(1, 6)}" for item in items]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def model_file(ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model fitted through the command line on a random split of ``ratings``."""
    path = tmp_path_factory.mktemp("model") / "als.safetensors"
    assert main(["fit", "als", "--data", str(ratings), "--split", "random", "--out", str(path), "--quiet", *FAST]) == 0
    return path
