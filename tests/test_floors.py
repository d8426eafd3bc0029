"""Imports and includes only go down, files stay readable, and the checks themselves see a planted fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.floors import NATIVE_SUFFIXES, native_violations, python_violations

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 400


def test_python_imports_go_down() -> None:
    assert python_violations(ROOT) == []


def test_models_leave_the_choice_of_a_backend_to_ops() -> None:
    models = list((ROOT / "recsys_fast" / "models").glob("*.py"))
    assert len(models) > 5
    assert [path.name for path in models if "backend.get(" in path.read_text(encoding="utf-8")] == []


def test_native_includes_go_down() -> None:
    assert native_violations(ROOT) == []


def test_no_file_outgrows_its_room() -> None:
    folders = [ROOT / name for name in ("recsys_fast", "csrc", "tests", "benchmarks")]
    files = [p for folder in folders for p in folder.rglob("*") if p.suffix in NATIVE_SUFFIXES | {".py"}]
    assert len(files) > 50
    assert {str(p): n for p in files if (n := len(p.read_text(encoding="utf-8").splitlines())) > MAX_LINES} == {}


def test_the_build_reassociates_nothing_globally() -> None:
    for path in [ROOT / "CMakeLists.txt", ROOT / "pyproject.toml", *(ROOT / "csrc").rglob("*.cc")]:
        text = path.read_text(encoding="utf-8")
        assert not any(flag in text for flag in ("-ffast-math", "-Ofast", "-fassociative-math", "-funsafe-math"))


def _plant(root: Path, files: dict[str, str]) -> Path:
    """Write a small tree of rooms that keeps every rule, with ``files`` on top."""
    sound = {
        "recsys_fast/__init__.py": "__version__ = '1'\nfrom recsys_fast.models import als\n",
        "recsys_fast/backend.py": "import importlib\nimportlib.import_module('recsys_fast._numba')\n",
        "recsys_fast/_numba/__init__.py": "",
        "recsys_fast/ops/__init__.py": "from recsys_fast import backend\n",
        "recsys_fast/data/__init__.py": "from ..ops import thing\n",
        "recsys_fast/models/__init__.py": "",
        "recsys_fast/models/als.py": "from recsys_fast import __version__, ops\nfrom . import base\nimport numpy\n",
        "recsys_fast/models/base.py": "",
        "csrc/core/simd.h": "#if defined(__AVX512F__)\n#endif\n#include <cstdint>\n",
        "csrc/ops/als.h": '#include "core/simd.h"\n',
        "csrc/cpu/als.cc": '#include "ops/als.h"\n',
        "csrc/cuda/als.cu": '#include "ops/als.h"\n',
        "csrc/bindings/module.cc": '#include <pybind11/pybind11.h>\n#include "ops/als.h"\n',
    }
    for name, text in {**sound, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_a_sound_tree_passes(tmp_path: Path) -> None:
    root = _plant(tmp_path, {})
    assert python_violations(root) == []
    assert native_violations(root) == []


PLANTED_IMPORTS = {
    "up": ("recsys_fast/data/bad.py", "import recsys_fast.models.als\n", "goes up from floor 5 to 6"),
    "up, a name": ("recsys_fast/data/bad.py", "from recsys_fast import models\n", "goes up"),
    "up, relative": ("recsys_fast/data/bad.py", "from ..models import als\n", "goes up"),
    "up, two rooms up": ("recsys_fast/ops/bad.py", "from recsys_fast.cli import main\n", "goes up"),
    "up, inside a function": ("recsys_fast/ops/bad.py", "def f():\n    from recsys_fast.data import x\n", "goes up"),
    "up, for types only": ("recsys_fast/ops/bad.py", "if TYPE_CHECKING:\n    from recsys_fast.data import x\n", "up"),
    "up, importlib": ("recsys_fast/ops/bad.py", "import_module('recsys_fast.models')\n", "goes up"),
    "up, formatted": ("recsys_fast/ops/bad.py", "__import__(f'recsys_fast.models.{name}')\n", "goes up"),
    "up, to the roof": ("recsys_fast/ops/bad.py", "import recsys_fast\n", "goes up from floor 4 to 8"),
    "up, a name of the roof": ("recsys_fast/ops/bad.py", "from recsys_fast import show_config\n", "goes up"),
    "past ops": ("recsys_fast/models/bad.py", "from recsys_fast._numba import als\n", "passes by ops"),
    "past ops, native": ("recsys_fast/data/bad.py", "import recsys_fast._cpu_v3\n", "passes by ops"),
    "to tests": ("recsys_fast/models/bad.py", "import tests.cases\n", "not part of the package"),
    "to benchmarks": ("recsys_fast/models/bad.py", "from benchmarks import x\n", "not part of the package"),
    "a circle": ("recsys_fast/backend.py", "from recsys_fast import ops\n", "circle"),
    "an unknown room": ("recsys_fast/attic/bad.py", "from recsys_fast import ops\n", "has no floor"),
}


@pytest.mark.parametrize("fault", PLANTED_IMPORTS)
def test_a_planted_import_is_found(fault: str, tmp_path: Path) -> None:
    name, text, reason = PLANTED_IMPORTS[fault]
    found = python_violations(_plant(tmp_path, {name: text}))
    assert found
    assert all(reason in line for line in found), found


PLANTED_INCLUDES = {
    "up": ("csrc/core/bad.h", '#include "ops/als.h"\n', "goes up from core to ops"),
    "up, spaced": ("csrc/core/bad.h", '#  include  "ops/als.h"\n', "goes up"),
    "up, relative": ("csrc/core/bad.h", '#include "../ops/als.h"\n', "goes up"),
    "to bindings": ("csrc/cpu/bad.cc", '#include "bindings/module.cc"\n', "goes up"),
    "cpu to cuda": ("csrc/cpu/bad.cc", '#include "cuda/als.cu"\n', "do not know each other"),
    "cuda to cpu": ("csrc/cuda/bad.cu", '#include "cpu/als.cc"\n', "do not know each other"),
    "to Python": ("csrc/cpu/bad.cc", "#include <Python.h>\n", "Python belongs in bindings"),
    "to pybind11": ("csrc/core/bad.h", "#include <pybind11/pybind11.h>\n", "Python belongs in bindings"),
    "to OpenMP": ("csrc/cpu/bad.cc", "#include <omp.h>\n", "foreign run-time library"),
    "to nowhere": ("csrc/cpu/bad.cc", '#include "core/none.h"\n', "not found under csrc"),
    "out of csrc": ("csrc/cpu/bad.cc", '#include "../../recsys_fast/backend.py"\n', "not found under csrc"),
    "instruction set": ("csrc/cpu/bad.cc", "#ifdef __AVX2__\n", "belong in core/simd.h"),
    "intrinsics": ("csrc/cpu/bad.cc", "#include <immintrin.h>\n", "belong in core/simd.h"),
    "an unknown room": ("csrc/attic/bad.h", "", "has no floor"),
}


@pytest.mark.parametrize("fault", PLANTED_INCLUDES)
def test_a_planted_include_is_found(fault: str, tmp_path: Path) -> None:
    name, text, reason = PLANTED_INCLUDES[fault]
    found = native_violations(_plant(tmp_path, {name: text}))
    assert len(found) == 1
    assert reason in found[0]
