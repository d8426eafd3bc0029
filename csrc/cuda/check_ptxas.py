"""Read a build log with ptxas -v: no kernel may spill registers, or need more of them than its blocks can have.

python csrc/cuda/check_ptxas.py BUILD_LOG
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

REGISTERS = 65536  # of a multiprocessor, sm_80 and sm_90
MOST_THREADS = 1024
STATIC_SHARED = 48 << 10


class Kernel(NamedTuple):
    """What ptxas says of one kernel for one architecture."""

    name: str
    architecture: str
    spilled: int
    registers: int
    shared: int
    stack: int


def kernels(log: str) -> list[Kernel]:
    """Return every kernel of a log, by name and architecture."""
    found, name, architecture, frame = [], "", "", (0, 0)
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            name, architecture = match.groups()
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack, stores, loads = map(int, match.groups())
            frame = (stack, stores + loads)
        elif name and (match := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            size = int(shared[1]) if shared else 0
            found.append(Kernel(_short(name), architecture, frame[1], int(match[1]), size, frame[0]))
            name = ""
    return sorted(found)


def _short(mangled: str) -> str:
    """Return the kernel's own name, with its template arguments still mangled.

    Mangling writes a name's length before it, namespaces first: "_ZN11recsys_fast22find_not_finite_kernelEPy". The name
    of an unnamed namespace ends in digits of its own, so that lengths have to be followed from the beginning.
    """
    at, name = len("_ZN" if mangled.startswith("_ZN") else "_Z"), ""
    while length := re.match(r"\d+", mangled[at:]):
        begin = at + length.end()
        at = begin + int(length[0])
        name = mangled[begin:at]
    arguments = re.match(r"I\w*?E(?=E?v)", mangled[at:])
    return name + (arguments[0] if arguments else "") if name else mangled


def bounds(folder: Path) -> dict[str, bool]:
    """Return which kernels of the .cu files and headers say their largest block with __launch_bounds__."""
    pattern = r"__global__\s+void\s+(__launch_bounds__\((?:[^()]|\([^()]*\))*\)\s+)?(\w+)\("
    files = [*folder.glob("*.cu"), *folder.glob("*.h")]
    return {name: bool(bound) for file in files for bound, name in re.findall(pattern, file.read_text("utf-8"))}


def faults(found: list[Kernel], bounded: dict[str, bool]) -> list[str]:
    """Return one line per kernel that breaks a rule."""
    wrong = []
    for kernel in found:
        where = f"{kernel.name} for {kernel.architecture}"
        if kernel.spilled:
            wrong.append(f"{where} spills {kernel.spilled} bytes of registers")
        own = re.match(r"\w+?_kernel", kernel.name)
        if kernel.registers * MOST_THREADS > REGISTERS and not bounded.get(own[0] if own else kernel.name, False):
            wrong.append(f"{where} takes {kernel.registers} registers and has no __launch_bounds__")
        if kernel.shared > STATIC_SHARED:
            wrong.append(f"{where} takes {kernel.shared} bytes of static shared memory")
    return wrong


def main(log: str) -> int:
    """Print a table and the faults; return the exit status."""
    found = kernels(Path(log).read_text(encoding="utf-8"))
    print(f"{'kernel':60} {'for':6} {'registers':>9} {'shared':>7} {'stack':>6} {'spilled':>7}")
    for name, architecture, spilled, registers, shared, stack in found:
        print(f"{name:60.60} {architecture:6} {registers:9} {shared:7} {stack:6} {spilled:7}")
    wrong = faults(found, bounds(Path(__file__).parent)) if found else ["no kernel in the log"]
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
