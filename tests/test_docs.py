"""The documents: their code runs, their links and files exist, their tables are complete."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.cli.arguments import make_parser
from recsys_fast.device import ON_HOST, WRITTEN

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


def test_table_of_operations_is_complete() -> None:
    rows = [line.split("|")[1:-1] for line in _read("docs/ops.md").splitlines() if line.startswith("| `")]
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


def test_variables_are_documented() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "recsys_fast").rglob("*.py")]
    used = {name for source in sources for name in re.findall(r"RECSYS_FAST_[A-Z_]+[A-Z]", source)}
    used |= set(re.findall(r"RECSYS_FAST_[A-Z_]+[A-Z]", _read("pyproject.toml")))
    assert len(used) >= 5
    for name in used:
        assert name in _read("docs/install.md"), name
