"""Builds the kernels and their bindings for the emulated grid, by content: what did not change is not compiled again.

``python -m tests.emulated`` builds and prints the module's path. RECSYS_FAST_EMULATED_SANITIZE=1 adds the address
and undefined-behaviour sanitizers, and tests/emulated/run shows what must be preloaded then.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType

from recsys_fast import backend

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
CACHE = Path(os.environ.get("RECSYS_FAST_EMULATED_CACHE", ROOT / "build" / "emulated"))
MODULE = "_cuda_emulated"
BINDINGS_TOGETHER = 7
ON_HARDWARE = {"cuda/hardware.h"}  # in the other branch of an #ifdef

# -O2 for kernels; -g1 gives sanitizers and debuggers lines. No flag makes floating point inexact.
FLAGS = ["-std=c++20", "-fPIC", "-fvisibility=hidden", "-g1", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Werror"]
DEFINES = ["-DRECSYS_FAST_EMULATED_GRID", "-DRECSYS_FAST_BIND_CUDA", f"-DRECSYS_FAST_MODULE={MODULE}"]
# Of kernels and the emulator. Bindings are sanitized in the extension, which is made of the same files.
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-O1"]


def families() -> list[str]:
    """Return the families that csrc/bindings/cuda_module.cc binds."""
    text = (CSRC / "bindings" / "cuda_module.cc").read_text(encoding="utf-8")
    return [name for name in re.findall(r"^  bindings::bind_(\w+)\(m\);", text, re.MULTILINE)
            if name not in ("device", "emulated")]  # fmt: skip


def binding_sources() -> list[Path]:
    """Return the files of the bindings, several in one: what pybind11 makes once per file takes longer than their own
    code."""
    names = ["cuda_module.cc", "emulated.cc", *(f"bind_{name}.cc" for name in families())]
    folder = CACHE / "bindings"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for begin in range(0, len(names), BINDINGS_TOGETHER):
        text = "".join(f'#include "bindings/{name}"\n' for name in names[begin : begin + BINDINGS_TOGETHER])
        file = folder / f"together_{hashlib.sha256(text.encode()).hexdigest()[:16]}.cc"
        if not file.exists():
            part = file.with_suffix(f".{os.getpid()}.part")
            part.write_text(text, encoding="utf-8")
            part.replace(file)
        files.append(file)
    return files


def sources() -> list[Path]:
    """Return what the module is made of."""
    return [*sorted((CSRC / "cuda").glob("*.cu")), *sorted((CSRC / "testing").glob("*.cc")), *binding_sources()]


def sanitized() -> bool:
    """Say whether the sanitizers are asked for."""
    return os.environ.get("RECSYS_FAST_EMULATED_SANITIZE", "") not in ("", "0")


def compiler() -> str:
    """Return the C++ compiler."""
    return os.environ.get("CXX", "g++")


def _environment() -> dict[str, str]:
    """Return the environment of a compiler: without the sanitizers that Python may run under."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def _flags(source: Path, sanitize: bool) -> list[str]:
    flags = [*FLAGS, *DEFINES, f"-I{CSRC}"]
    if source.parent.name == "bindings":
        import pybind11

        return [*flags, "-O1", "-isystem", sysconfig.get_paths()["include"], "-isystem", pybind11.get_include()]
    return [*flags, "-O2", *SANITIZERS] if sanitize else [*flags, "-O2"]


def _closure(source: Path, extra: tuple[str, ...]) -> set[Path]:
    """Return a source and all of ours that it includes."""
    folders = [CSRC, *(Path(flag[2:]) for flag in extra if flag.startswith("-I"))]
    found, left = set(), [source]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            names = re.findall(r'^\s*#\s*include "([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
            names = [name for name in names if name not in ON_HARDWARE]
            left += [folder / name for name in names for folder in folders if (folder / name).is_file()]
    return found


def compile_objects(files: list[Path], extra: tuple[str, ...] = (), sanitize: bool = False) -> list[Path]:
    """Compile files as C++ for the emulated grid, several at a time, and return the objects."""
    asked = [compiler(), "--version"]
    version = subprocess.run(asked, env=_environment(), capture_output=True, text=True, check=True).stdout
    CACHE.mkdir(parents=True, exist_ok=True)

    def one(source: Path) -> Path:
        flags = [*_flags(source, sanitize), *extra]
        content = b"".join(path.read_bytes() for path in sorted(_closure(source, extra)))
        named = f"{version} {flags}".replace(str(ROOT), "")  # checkouts may share a cache
        key = hashlib.sha256(named.encode() + content).hexdigest()[:16]
        target = CACHE / f"{source.parent.name}_{source.stem}_{key}.o"
        if not target.exists():
            part = target.with_suffix(f".{os.getpid()}.part")
            command = [compiler(), *flags, "-x", "c++", "-c", str(source), "-o", str(part)]
            done = subprocess.run(command, env=_environment(), capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
            part.replace(target)
        return target

    with ThreadPoolExecutor(backend.granted_cpus()) as pool:
        return list(pool.map(one, files))


def link(objects: list[Path], name: str, flags: list[str], sanitize: bool = False) -> Path:
    """Link objects; the name of the result holds a hash of theirs."""
    key = hashlib.sha256(" ".join([*flags, *(o.name for o in objects)]).encode()).hexdigest()[:16]
    target = CACHE / f"{name}_{key}"
    if not target.exists():
        part = target.with_suffix(f".{os.getpid()}.part")
        more = SANITIZERS if sanitize else []
        command = [compiler(), *more, *map(str, objects), *flags, "-pthread", "-o", str(part)]
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        part.replace(target)
    return target


def build() -> Path:
    """Return the module's file, built where it is not there."""
    sanitize = sanitized()
    return link(compile_objects(sources(), sanitize=sanitize), MODULE, ["-shared"], sanitize)


def load() -> ModuleType:
    """Build and import the module."""
    loader = ExtensionFileLoader(MODULE, str(build()))
    spec = importlib.util.spec_from_loader(MODULE, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
