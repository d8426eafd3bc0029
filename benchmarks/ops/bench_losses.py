"""Losses with their gradients: full softmax cross-entropy, shared candidates, negatives of each row's own.

The floor counts the products at this package's best float32 rate; PyTorch, where it is installed, runs the same loss
forward and backward.

python -m benchmarks.ops.bench_losses --threads 2 --turns 9
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import harness
from recsys_fast import backend

FLAT = np.empty(0, np.float32)
NO_IDS = np.empty(0, np.int32)


def normal(rng: np.random.Generator, *shape: int) -> Any:
    return (0.5 * rng.standard_normal(shape)).astype(np.float32)


def softmax_contestants(n_rows: int, n: int, d: int, threads: int) -> dict[str, Callable[[], object]]:
    """softmax_loss"""
    rng = np.random.default_rng(0)
    h, table, targets = normal(rng, n_rows, d), normal(rng, n, d), rng.integers(0, n, n_rows).astype(np.int32)
    out = np.empty_like(h), np.empty_like(table), FLAT
    cpu = backend.get("cpu")

    def ours(compute: int) -> object:
        return cpu.softmax_loss(*out, h, table, FLAT, targets, FLAT, 1.0 / n_rows, compute, threads)

    found: dict[str, Callable[[], object]] = {"recsys_fast": lambda: ours(0)}
    if cpu.has_bfloat16():
        found["recsys_fast bfloat16"] = lambda: ours(1)
    try:
        import torch
    except ImportError:
        return found
    torch.set_num_threads(threads)
    x, e = torch.from_numpy(h).requires_grad_(), torch.from_numpy(table).requires_grad_()
    wanted = torch.from_numpy(targets.astype(np.int64))

    def theirs(cast: bool) -> None:
        x.grad = e.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            scores = x @ e.T
        torch.nn.functional.cross_entropy(scores.float(), wanted).backward()

    found["torch"] = lambda: theirs(False)
    found["torch bfloat16"] = lambda: theirs(True)
    return found


def shared_contestants(n_rows: int, n: int, d: int, kind: int, threads: int) -> dict[str, Callable[[], object]]:
    """shared_loss"""
    rng = np.random.default_rng(0)
    h, cand, at = normal(rng, n_rows, d), normal(rng, n, d), np.arange(n_rows, dtype=np.int32)
    bias, ids = normal(rng, n), rng.integers(0, 12_101, n).astype(np.int32)
    out, cpu = (np.empty_like(h), np.empty_like(cand), np.empty_like(bias)), backend.get("cpu")

    def ours(compute: int) -> object:
        rest = (kind, 1.0, 1, 0.5, FLAT, 1.0 / n_rows, compute, threads)
        return cpu.shared_loss(*out, h, cand, bias, at, ids, FLAT, *rest)

    found: dict[str, Callable[[], object]] = {"recsys_fast": lambda: ours(0)}
    if cpu.has_bfloat16():
        found["recsys_fast bfloat16"] = lambda: ours(1)
    try:
        import torch
    except ImportError:
        return found
    torch.set_num_threads(threads)
    x, e, b = (torch.from_numpy(a).requires_grad_() for a in (h, cand, bias))
    wanted = torch.from_numpy(at.astype(np.int64))

    def theirs() -> None:
        x.grad = e.grad = b.grad = None
        s = x @ e.T + b
        if kind == 0:
            torch.nn.functional.cross_entropy(s, wanted).backward()
            return
        positive = s.gather(1, wanted[:, None])
        mask = torch.ones_like(s).scatter_(1, wanted[:, None], 0.0)
        shifted = torch.exp(s - s.max(dim=1, keepdim=True)[0]) * mask
        w = shifted / shifted.sum(dim=1, keepdim=True)
        inner = (torch.sigmoid(positive - s) * w).sum(dim=1) + 1e-24
        (-torch.log(inner) + 0.5 * (s * s * w).sum(dim=1)).mean().backward()

    found["torch"] = theirs
    return found


def row_contestants(n_rows: int, n: int, d: int, k: int, threads: int) -> dict[str, Callable[[], object]]:
    """row_loss"""
    rng = np.random.default_rng(0)
    h, table, targets = normal(rng, n_rows, d), normal(rng, n, d), rng.integers(0, n, n_rows).astype(np.int32)
    negatives = rng.integers(0, n, (n_rows, k)).astype(np.int32)
    out, cpu = (np.empty_like(h), np.empty((n_rows, 1 + k), np.float32)), backend.get("cpu")
    rest = (1, 1.0, 0.0, FLAT, 1.0 / n_rows, threads)
    found: dict[str, Callable[[], object]] = {
        "recsys_fast": lambda: cpu.row_loss(*out, h, table, FLAT, targets, negatives, FLAT, *rest)
    }
    try:
        import torch
    except ImportError:
        return found
    torch.set_num_threads(threads)
    x, e = torch.from_numpy(h).requires_grad_(), torch.from_numpy(table)
    ids = torch.from_numpy(np.c_[targets, negatives].astype(np.int64))
    labels = torch.zeros(ids.shape)
    labels[:, 0] = 1.0

    def theirs() -> None:  # without the gradient of the table, which row_loss leaves to another operation
        x.grad = None
        scores = (e[ids] @ x[:, :, None])[:, :, 0]
        torch.nn.functional.binary_cross_entropy_with_logits(scores, labels, reduction="sum").backward()

    found["torch"] = theirs
    return found


def main() -> None:
    options = harness.arguments(__doc__, data="made").parse_args()
    report, threads = harness.Report(options), options.threads
    peak = harness.sgemm_peak(threads)
    print(f"best float32 product: {peak:.0f} GFLOP/s on {threads} threads")
    work: list[tuple[str, dict[str, Callable[[], object]], float]] = []
    for n_rows in (760, 2000):
        made = softmax_contestants(n_rows, 12_101, 64, threads)
        work.append((f"softmax_loss, {n_rows} rows x 12,101 items, d 64", made, 6.0 * n_rows * 12_101 * 64))
    for kind, name in ((0, "softmax"), (3, "bpr_max")):
        for n_rows in (64, 512):
            made = shared_contestants(n_rows, n_rows + 2048, 100, kind, threads)
            work.append((f"shared_loss, {name}, {n_rows} rows, 2,048 + {n_rows} candidates, d 100", made,
                         6.0 * n_rows * (n_rows + 2048) * 100))  # fmt: skip
    for n_rows, k in ((2000, 1), (2000, 256)):
        made = row_contestants(n_rows, 12_101, 64, k, threads)
        work.append((f"row_loss, {n_rows} rows, {k} negatives, d 64", made, 4.0 * n_rows * (1 + k) * 64))
    for title, contestants, operations in work:
        figures = harness.alternate(contestants, options.turns, warm_up=2)
        for figure in figures.values():
            figure.floor_seconds = operations / peak / 1e9
            figure.quality["GFLOP/s"] = operations / figure.median / 1e9
        report.add(title, figures, of_data=False)
    report.finish()


if __name__ == "__main__":
    main()
