"""The floors of the house: which room may import or include which, and a walk that names every arrow that goes up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = "recsys_fast"

# Rooms of the package by floor. The package's own __init__ is the roof: it may import all, nothing imports it.
PYTHON_FLOORS = {
    "errors": 0,
    "backend": 4, "device": 4, "device_blocks": 4, "ops": 4, "_numba": 4, "_cpu": 4, "_cuda": 4,
    "serialization": 5, "data": 5, "blocks": 5, "training": 5, "evaluation": 5,
    "models": 6,
    "datasets": 7, "serving": 7, "dask": 7, "compat": 7, "cli": 7,
    "": 8,
}  # fmt: skip
# Only these may name a backend's own room; everybody else goes through ops.
BACKEND_ROOMS = {"_numba", "_cpu", "_cuda"}
KNOWS_BACKENDS = BACKEND_ROOMS | {"backend", "device"}

# testing is the emulated grid, which stands in for the CUDA runtime.
NATIVE_FLOORS = {"core": 0, "ops": 1, "cpu": 2, "cuda": 2, "testing": 2, "bindings": 3}
PYTHON_HEADERS = re.compile(r"^(pybind11/|Python\.h|numpy/)")
# Run-time libraries that the extension promises not to need.
FOREIGN_HEADERS = re.compile(r"^(omp\.h|tbb/|cblas\.h|lapacke?\.h|mkl)")
ISA_NAMES = re.compile(r"__(AVX|SSE|FMA|ARM_NEON|ARM_FEATURE|aarch64__|x86_64__)|<(imm|emm|arm_neon|x86)\w*\.h>")
KNOWS_ISA = ("core/simd.h", "core/simd_bf16.h", "testing/fiber.h", "testing/fiber.cc")  # a fiber changes stacks
NATIVE_SUFFIXES = {".h", ".cc", ".cu", ".cuh"}


class Arrow(NamedTuple):
    """One import or include: who, on which line, what, and the rooms of both."""

    path: Path
    line: int
    target: str
    source_room: str
    target_room: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.source_room or PACKAGE} -> {self.target}"


def _room(module: str) -> str:
    """Return the room of a dotted module name: "recsys_fast.ops.topk" is in "ops", "recsys_fast._cpu_v3" in "_cpu"."""
    parts = module.split(".")
    if len(parts) == 1:
        return ""
    return "_cpu" if parts[1].startswith("_cpu") else parts[1]


def _imported(node: ast.AST, package: list[str]) -> Iterator[tuple[str, bool]]:
    """Yield (module, is a name taken from it) for an import statement or an importlib call with a literal name."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, False) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
        yield from ((f"{base}.{alias.name}", True) for alias in node.names)
    elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func) and node.args:
        name = node.args[0]
        if isinstance(name, ast.JoinedStr) and name.values:
            name = name.values[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            text = name.value
            yield (".".join(package) + text if text.startswith(".") else text), False


def python_arrows(root: Path) -> list[Arrow]:
    """Return every arrow of the package under ``root`` that ends in the package, in tests or in benchmarks."""
    arrows = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = list(path.relative_to(root).with_suffix("").parts)
        package = parts[:-1]
        source = _room(".".join(package if parts[-1] == "__init__" else parts))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for module, is_name in _imported(node, package):
                top = module.split(".")[0]
                if top in ("tests", "benchmarks"):
                    arrows.append(Arrow(path, node.lineno, module, source, top))
                if top != PACKAGE:
                    continue
                room = _room(module)
                if is_name and room not in PYTHON_FLOORS:  # a name defined in the package's __init__, no module
                    room = ""
                arrows.append(Arrow(path, node.lineno, module, source, room))
    return arrows


def python_violations(root: Path) -> list[str]:
    """Return one line per arrow of the Python package that goes up, sideways into a backend, or round in a circle."""
    wrong, sideways = [], {}
    for arrow in python_arrows(root):
        source, target = arrow.source_room, arrow.target_room
        if source not in PYTHON_FLOORS:
            wrong.append(f"{arrow.path}: room {source!r} has no floor")
        elif target not in PYTHON_FLOORS:
            wrong.append(f"{arrow} (not part of the package)" if target else f"{arrow} (no such room)")
        elif source == target or arrow.target == f"{PACKAGE}.__version__":
            continue
        elif PYTHON_FLOORS[target] > PYTHON_FLOORS[source]:
            wrong.append(f"{arrow} goes up from floor {PYTHON_FLOORS[source]} to {PYTHON_FLOORS[target]}")
        elif target in BACKEND_ROOMS and source not in KNOWS_BACKENDS:
            wrong.append(f"{arrow} passes by ops")
        elif PYTHON_FLOORS[target] == PYTHON_FLOORS[source]:
            sideways.setdefault((source, target), arrow)
    return wrong + [f"{arrow} is one way of a circle" for arrow in _circular(sideways)]


def _circular(sideways: dict[tuple[str, str], Arrow]) -> list[Arrow]:
    """Return the arrows between rooms of one floor that lie on a circle."""
    reach: dict[str, set[str]] = {}
    for source, target in sideways:
        reach.setdefault(source, set()).add(target)
    for _ in reach:  # as many rounds as rooms close every path
        for targets in reach.values():
            targets |= {further for target in targets for further in reach.get(target, ())}
    return [arrow for (source, target), arrow in sideways.items() if source in reach.get(target, ())]


_INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def native_violations(root: Path) -> list[str]:
    """Return one line per include under csrc that goes up, crosses cpu and cuda, or reaches for what is not ours."""
    wrong, csrc = [], root / "csrc"
    for path in sorted(p for p in csrc.rglob("*") if p.suffix in NATIVE_SUFFIXES):
        room = path.relative_to(csrc).parts[0]
        if room not in NATIVE_FLOORS:
            wrong.append(f"{path}: room {room!r} has no floor")
            continue
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            where = f"{path}:{number}: {text.strip()}"
            if ISA_NAMES.search(text) and path not in {csrc / name for name in KNOWS_ISA}:
                wrong.append(f"{where} (instruction sets belong in core/simd.h)")
            found = _INCLUDE.match(text)
            if not found:
                continue
            target = found[2]
            if FOREIGN_HEADERS.match(target):
                wrong.append(f"{where} (foreign run-time library)")
            elif PYTHON_HEADERS.match(target):
                if room != "bindings":
                    wrong.append(f"{where} (Python belongs in bindings)")
            elif found[1] == '"':
                wrong += [f"{where} ({reason})" for reason in _include_reasons(csrc, path, room, target)]
    return wrong


def _include_reasons(csrc: Path, path: Path, room: str, target: str) -> Iterator[str]:
    """Yield what is wrong with a quoted include of ``target`` in ``path``."""
    file = csrc / target if (csrc / target).is_file() else path.parent / target
    if not file.is_file() or csrc.resolve() not in file.resolve().parents:
        yield "not found under csrc"
        return
    target_room = file.resolve().relative_to(csrc.resolve()).parts[0]
    if {room, target_room} == {"cpu", "cuda"}:
        yield "cpu and cuda do not know each other"
    elif {room, target_room} == {"cpu", "testing"} or (room, target_room) == ("testing", "cuda"):
        yield "only cuda knows the emulated grid, which knows no kernel"
    elif NATIVE_FLOORS.get(target_room, 9) > NATIVE_FLOORS[room]:
        yield f"goes up from {room} to {target_room}"
