"""The documents: their code runs, their links and files exist, their tables are complete."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.cli.arguments import make_parser
from recsys_fast.device import ON_HOST, WRITTEN
from recsys_fast.models.registry import MODELS, ROW_MODELS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def _read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page that are marked with ``language`` ("" for unmarked ones)."""
    pairs = re.findall(r"^```(\w*)\n(.*?)^```$", _read(page), re.MULTILINE | re.DOTALL)
    return [text for mark, text in pairs if mark == language]


def test_all_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/index.md", "docs/models/als.md"} <= set(PAGES)


def test_readme_holds_both_commands() -> None:
    blocks = [block.strip() for block in _blocks("README.md", "")]
    assert "pip install . && recsys-fast quickstart" in blocks
    assert 'pip install ".[test]" && pytest' in blocks


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "python")])
def test_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All Python blocks of a page in order, in one namespace; data sets by name are small made ones."""
    monkeypatch.chdir(tmp_path)
    made = rf.datasets.synthetic(n_users=300, n_items=120, n_interactions=6000, random_state=0)
    made.sequences = rf.Sequences.from_interactions(
        rf.Interactions(made.train.csr, timestamps=np.arange(len(made.train)) % 97)
    )
    made.test_sequences = made.sequences[:40]
    monkeypatch.setattr(rf.datasets, "load", lambda name: made)
    namespace: dict[str, object] = {}
    for block in _blocks(page, "python"):
        exec(compile(block, page, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", _read(page)):
        if not target.startswith(("http://", "https://")):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_every_page_is_in_the_navigation() -> None:
    navigation = _read("mkdocs.yml")
    for page in PAGES:
        if page.startswith("docs/"):
            assert page.removeprefix("docs/") in navigation, page


@pytest.mark.parametrize("page", PAGES)
def test_shown_commands_are_understood(page: str) -> None:
    """Every ``recsys-fast`` line of a document that names real arguments parses."""
    for line in [line for block in _blocks(page, "") for line in block.splitlines()]:
        if line.startswith("recsys-fast") and "[" not in line:
            make_parser().parse_args(line.split()[1:])


def _table_rows(page: str) -> list[tuple[int, str]]:
    """Return number and text of the lines outside of code blocks that look like rows of a table."""
    lines, code = [], False
    for number, line in enumerate(_read(page).splitlines()):
        code ^= line.startswith("```")
        if line.startswith("|") and not code:
            lines.append((number, line))
    return lines


@pytest.mark.parametrize("page", PAGES)
def test_rows_stand_in_tables(page: str) -> None:
    """Every run of rows begins with a head and a ruler, and all have as many cells."""
    width = previous = -2
    for number, line in _table_rows(page):
        n_cells = len(re.split(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line)))
        place = f"{page}:{number + 1}"
        if number != previous + 1:
            width, below = n_cells, _read(page).splitlines()[number + 1]
            assert re.fullmatch(r"\|(:?-+:?\|)+", below), f"{place}: a row without a head"
        assert n_cells == width, f"{place}: {n_cells - 2} cells instead of {width - 2}"
        previous = number


def test_table_of_operations_is_complete() -> None:
    found = [(number, line) for number, line in _table_rows("docs/ops.md") if line.startswith("| `")]
    assert found[-1][0] - found[0][0] == len(found) - 1, "more than one table"
    rows = [line.split("|")[1:-1] for _, line in found]
    cells = [[cell.strip().strip("`") for cell in row] for row in rows]
    helpers = {"as_csr", "make_state"}  # and the classes of arguments and results
    operations = [name for name in rf.ops.__all__ if name[0].islower() and name not in helpers]
    assert sorted(row[0] for row in cells) == sorted(operations)
    kernels = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "csrc" / "cuda").glob("*.cu"))
    for name, _, native, device, loops, test, benchmark in cells:
        if device.endswith(".cu"):
            assert f"{name}<Cuda>" in _read(f"csrc/cuda/{device}"), name
            assert name in WRITTEN, name
        else:
            assert f"{name}<Cuda>(" not in kernels, name
            assert (device == "on the host") == (name in ON_HOST), name
        assert f"{name}<Cpu>" in _read(f"csrc/cpu/{native}"), name
        assert f"def {name}(" in _read(f"recsys_fast/_numba/{loops}"), name
        assert f"{name}(" in _read(test), name
        assert not benchmark or name in _read(benchmark), name


def test_command_line_page_names_every_command_and_option() -> None:
    text = _read("docs/cli.md")
    parser = make_parser()
    commands = next(action.choices for action in parser._actions if action.dest == "command")
    assert commands is not None
    for name in commands:
        assert f"recsys-fast {name}" in text, name
    options = {
        option
        for one in (parser, *commands.values())
        for action in one._actions
        for option in action.option_strings
        if action.dest != "help"
    }
    assert {"--data", "-n", "--version"} <= options
    assert not [option for option in sorted(options) if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)]


def test_verbs_are_those_of_the_models() -> None:
    """All models of users and items have the verbs of the table; what models of rows have is said below it."""
    text = _read("docs/index.md")
    table, below = text.split("| verb |")[1].split("\n\n")[:2]
    verbs = set(re.findall(r"`(\w+)\(", table))
    assert {"fit", "recommend", "load"} <= verbs
    for names, expected in ((MODELS, verbs), (ROW_MODELS, set(re.findall(r"`(\w+)[`(]", below)))):
        for name, module in names.items():
            model = getattr(importlib.import_module(module), name)
            assert not [verb for verb in expected if not hasattr(model, verb)], name
            if names is ROW_MODELS:
                assert name in below
                assert not [verb for verb in verbs - expected if hasattr(model, verb)], name


def test_variables_are_documented() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "recsys_fast").rglob("*.py")]
    used = {name for source in sources for name in re.findall(r"RECSYS_FAST_[A-Z_]+[A-Z]", source)}
    used |= set(re.findall(r"RECSYS_FAST_[A-Z_]+[A-Z]", _read("pyproject.toml")))
    assert len(used) >= 5
    for name in used:
        assert name in _read("docs/install.md"), name
