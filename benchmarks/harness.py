"""Side-by-side timing: contestants take turns in one process, and the table shows ratios, quality and floor shares.

An absolute figure of a shared machine drifts by tens of per cent; the ratio of two figures from alternating turns does
not. Every contestant is a callable that does one unit of work (an epoch, a pass over all users).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
PEERS = ("implicit", "irspack", "faiss-cpu", "cornac", "lightfm", "libmf", "torch", "xlearn", "gensim", "cupy-cuda13x")
PACKAGES = ("recsys-fast", "numpy", "scipy", "numba", *PEERS)


@dataclass
class Figure:
    """What one contestant reached on one piece of work."""

    name: str
    seconds: list[float] = field(default_factory=list)
    quality: dict[str, float] = field(default_factory=dict)
    floor_seconds: float | None = None

    @property
    def median(self) -> float:
        """Median of the timed turns, in seconds."""
        return statistics.median(self.seconds)


def arguments(description: str | None, data: str = "gowalla") -> argparse.ArgumentParser:
    """Return a parser of what every benchmark takes: ``--data``, ``--threads``, ``--turns`` and ``--save``.

    Args:
        description: the script's docstring, whose last line is a command.
        data: default of ``--data``, see ``benchmarks.data.load``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json")
    return parser


def setting(text: str) -> tuple[str, Any]:
    """Return the name and the value of "name=value": what JSON makes of it, else the text."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value.lower())
    except json.JSONDecodeError:
        return name, value


def over_seeds(
    found: Sequence[dict[str, float]], seconds: list[float], published: dict[str, float] | None = None
) -> Figure:
    """Return the mean and the deviation of every metric over seeds, and what is published of it.

    Args:
        found: metrics of each seed.
        seconds: that each fit took.
        published: by the same names; None for nothing.
    """
    figure = Figure("recsys_fast", seconds)
    for name in found[0]:
        numbers = [one[name] for one in found]
        figure.quality |= {name: statistics.fmean(numbers), f"{name} std": statistics.pstdev(numbers)}
        if published and name in published:
            figure.quality[f"{name} published"] = published[name]
    return figure


def shown(found: dict[str, float]) -> str:
    """Return metrics by name, as text."""
    return "  ".join(f"{metric} {number:.4f}" for metric, number in found.items())


def seed_line(name: str, seed: int, found: dict[str, float], seconds: float) -> str:
    """Return what one seed reached, as a line."""
    return f"{name:<12} seed {seed}  {shown(found)}  fit {seconds:.0f} s"


class Report:
    """The figures of a run, piece of work by piece: printed as they come, saved at the end where that is asked for.

    Args:
        options: what a parser of ``arguments``, or one with ``--save`` and no ``--data``, found.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._data, self._save = Path(getattr(options, "data", "")).stem, options.save
        self.work: dict[str, dict[str, Figure]] = {}

    def add(self, what: str, figures: dict[str, Figure], details: str = "", *, of_data: bool = True) -> None:
        """Print and keep the figures of one piece of work, under the title "what, data, details".

        Work that ``--data`` has no part in (``of_data`` False) goes without it.
        """
        title = ", ".join(part for part in (what, self._data if of_data else "", details) if part)
        print(table(title, figures), flush=True)
        self.work[title] = figures

    def finish(self) -> None:
        """Write the results and print where, with ``--save``."""
        if self._save:
            print(save(self._save, self.work))


def alternate(contestants: dict[str, Callable[[], object]], turns: int = 5, warm_up: int = 1) -> dict[str, Figure]:
    """Give every contestant ``turns`` timed turns, one after the other, after ``warm_up`` turns that do not count."""
    figures = {name: Figure(name) for name in contestants}
    for turn in range(-warm_up, turns):
        for name, work in contestants.items():
            elapsed = _seconds(work)
            if turn >= 0:
                figures[name].seconds.append(elapsed)
    return figures


def sgemm_peak(n_threads: int, turns: int = 5) -> float:
    """Return the best rate of this package's float32 matrix product, in GFLOP/s on ``n_threads`` threads."""
    from recsys_fast import ops

    rng = np.random.default_rng(0)
    x = rng.standard_normal((1 << 16, 256)).astype(np.float32)
    q = np.linalg.qr(rng.standard_normal((256, 256)))[0].astype(np.float32)
    seconds = [_seconds(lambda: ops.rows_rotate(x, q, n_threads=n_threads)) for _ in range(turns)]
    return 2.0 * x.size * 256 / min(seconds) / 1e9


def blas_peak(n: int = 1536, turns: int = 5) -> float:
    """Return the best rate of NumPy's sgemm, in GFLOP/s on the threads that BLAS is set to."""
    a = np.random.default_rng(0).standard_normal((n, n)).astype(np.float32)
    return 2.0 * n**3 / min(_seconds(lambda: a @ a) for _ in range(turns)) / 1e9


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def machine() -> dict[str, Any]:
    """Return what a reader needs to know about this run: processor, GPU with its driver, commit, versions."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        wanted = ("model name", "cpu family", "model\t")
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith(wanted)]
        model = ", ".join(line.split(":", 1)[1].strip() for line in lines[:3])
    commit = os.environ.get("RECSYS_FAST_COMMIT") or _said("git", "rev-parse", "--short", "HEAD")
    gpu = _said("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": model,
        "cpus": len(os.sched_getaffinity(0)),
        **({"gpu": gpu} if gpu else {}),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "commit": commit,
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python -m", *_module_command()]),
    }


def _said(*command: str) -> str:
    """Return what a command prints, nothing where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _module_command() -> list[str]:
    """Return the command line: the script as the module it is run as, files by their names."""
    root = Path(__file__).resolve().parents[1]
    script = Path(sys.argv[0]).resolve()
    name = ".".join(script.relative_to(root).with_suffix("").parts) if script.is_relative_to(root) else script.name
    return [name, *(Path(word).name if word.startswith("/") else word for word in sys.argv[1:])]


def table(title: str, figures: dict[str, Figure], ours: str = "recsys_fast") -> str:
    """Return the figures as text: seconds, how many times ours is faster, share of the floor, quality."""
    lines = [title]
    for figure in figures.values():
        line = f"  {figure.name:<28}{figure.median:>10.4g} s"
        line += "            " if figure.name == ours else f"{figure.median / figures[ours].median:>9.2f} x "
        if figure.floor_seconds is not None:
            line += f"  {100.0 * figure.floor_seconds / figure.median:5.1f} % of floor"
        line += "".join(f"  {key} {value:.6g}" for key, value in figure.quality.items())
        lines.append(line)
    return "\n".join(lines)


def save(name: str, work: dict[str, dict[str, Figure]]) -> Path:
    """Write ``results/<name>.json``: the machine, and the figures of each piece of work."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    body = {
        "machine": machine(),
        "work": {title: {key: asdict(figure) for key, figure in figures.items()} for title, figures in work.items()},
    }
    path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return path
