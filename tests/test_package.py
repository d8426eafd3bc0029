"""The installation: what import drags in, what the extension links, how backend and threads are picked."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import recsys_fast
from recsys_fast import backend
from tests.elf import dynamic_strings
from tests.installed import native_files, python

ROOT = Path(__file__).resolve().parents[1]


HEAVY = ("numba", "scipy.sparse", "scipy.linalg", "pandas", "polars", "pyarrow", "narwhals", "tqdm", "matplotlib")


def test_import_drags_in_nothing_heavy() -> None:
    code = f"import sys, recsys_fast; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_command_line_help_drags_in_nothing_heavy() -> None:
    code = (
        "import sys\nfrom recsys_fast import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_import_starts_no_thread_and_no_file() -> None:
    code = "import os, recsys_fast; print(len(os.listdir('/proc/self/task')))"
    done = python(code, OPENBLAS_NUM_THREADS="1")  # numpy's own pool is not ours to count
    assert done.stdout.strip() == "1", done.stderr


ALLOWED_LIBRARIES = re.compile(
    r"^(libc|libm|libpthread|libdl|librt)\.so\.\d+$|^(libstdc\+\+|libgcc_s)\.so\.\d+$|^ld-linux[\w-]*\.so\.\d+$"
    r"|^librecsys_fast_ops_(v2|v3|v4|base)\.so$"
)


def test_extension_links_only_the_compilers_run_time() -> None:
    if os.environ.get("LD_PRELOAD"):
        pytest.skip("a sanitizer's run time is linked into this build")
    files = native_files()
    if not files:
        pytest.skip("pure Python installation: nothing is linked")
    assert len(files) % 2 == 0  # a library of operations and a module per level
    for file in files:
        found = dynamic_strings(file)
        assert [name for name in found["needed"] if not ALLOWED_LIBRARIES.match(name)] == [], file.name
        assert set(found["runpath"]) <= {"$ORIGIN"}, file.name


def test_elf_reader_sees_foreign_libraries() -> None:
    """The reader the test above trusts must find what NumPy, which does link more, links."""
    from numpy._core import _multiarray_umath

    if not sys.platform.startswith("linux"):
        pytest.skip("ELF files are a Linux matter")
    needed = dynamic_strings(Path(_multiarray_umath.__file__))["needed"]
    assert any(name.startswith("libc.so") for name in needed)
    assert [name for name in needed if not ALLOWED_LIBRARIES.match(name)], needed


def test_installed_extension_is_used() -> None:
    if os.environ.get("RECSYS_FAST_BACKEND") == "numba" or not native_files():
        pytest.skip("the extension is hidden or absent")
    assert backend.resolve_device("auto") == "cpu"
    done = python("from recsys_fast import backend; print(backend.get().__name__)")
    assert done.stdout.strip().startswith("recsys_fast._cpu_"), done.stderr


def test_config_names_backends_threads_and_versions(capsys: pytest.CaptureFixture[str]) -> None:
    recsys_fast.show_config()
    text = capsys.readouterr().out
    for word in ("recsys_fast", recsys_fast.__version__, "cpu", "numba", "cuda", "threads", "numpy", np.__version__):
        assert word in text


def test_version_matches_the_distribution() -> None:
    try:
        installed = importlib.metadata.version("recsys-fast")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package runs from its source tree")
    assert installed == recsys_fast.__version__


def test_package_is_typed() -> None:
    assert any((Path(place) / "py.typed").is_file() for place in recsys_fast.__path__)


# Kernels' headers stand on the emulated grid here; what stands on the CUDA toolkit is compiled where that is.
ON_TOOLKIT = {"cuda/hardware.h"}
HEADERS = sorted({str(path.relative_to(ROOT / "csrc")) for path in (ROOT / "csrc").rglob("*.h")} - ON_TOOLKIT)


def _compile_errors(include: str, *folders: Path | str) -> str:
    """Return what the compiler says about a file that includes nothing else, empty when it is content."""
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if not compiler:
        pytest.skip("no C++ compiler")
    command = [compiler, "-std=gnu++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-xc++", "-"]
    command += ["-Wno-unknown-pragmas", "-DRECSYS_FAST_EMULATED_GRID"]
    command += [f"-I{folder}" for folder in folders]
    source = f'#include "{include}"\n'
    done = subprocess.run(command, input=source, capture_output=True, text=True, timeout=240)
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("header", HEADERS)
def test_header_compiles_alone(header: str) -> None:
    folders: list[Path | str] = [ROOT / "csrc"]
    if header.startswith("bindings"):
        pybind11 = pytest.importorskip("pybind11", reason="the bindings' headers need pybind11")
        folders += [pybind11.get_include(), sysconfig.get_paths()["include"]]
    assert _compile_errors(header, *folders) == ""


def test_header_that_leans_on_its_includer_is_found(tmp_path: Path) -> None:
    (tmp_path / "leans.h").write_text("inline std::vector<int> f() { return {}; }\n", encoding="utf-8")
    assert "vector" in _compile_errors("leans.h", tmp_path)
