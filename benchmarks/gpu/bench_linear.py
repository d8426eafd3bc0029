"""Linear item models: the inverse of EASE against Cholesky in PyTorch, SLIM and SparseEASE against the CPU.

The matrix to invert is X^T X + 500 I of the most popular items, on the device before and after. PyTorch runs
``torch.linalg.cholesky`` and ``torch.cholesky_inverse``. Regressions take the matrix from host memory,
and give weights there.

python -m benchmarks.gpu.bench_linear --data ml20m-shaped --items 5000 15000
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import data, harness
from benchmarks.gpu import machine
from benchmarks.models.bench_linear import popular
from recsys_fast import ops
from recsys_fast.models.products import for_scipy
from recsys_fast.ops import Csr


def torch_inverse(table: np.ndarray, device: str) -> Callable[[], Any]:
    """Return a function that inverts a copy of the table."""
    import torch

    given = torch.from_numpy(table).to(device)
    return lambda: torch.cholesky_inverse(torch.linalg.cholesky(given))


def inverse(csr: Csr, gpu: machine.Gpu, torch: str | None, turns: int) -> dict[str, harness.Figure]:
    """Time the inverse; quality: largest residual of ``A A^-1 x = x`` for four vectors."""
    n = csr.n_cols
    table: np.ndarray = ops.csr_gram(csr, regularization=500.0)
    given, there = gpu.arrays.asarray(table), gpu.arrays.empty((n, n), np.float32)

    def ours() -> None:
        there[...] = given
        ops.spd_invert(there, device="cuda")

    work = {"recsys_fast": gpu.finished(ours)}
    if torch is not None:
        work["torch"] = gpu.finished(torch_inverse(table, torch))
    figures = harness.alternate(work, turns)
    probe = np.random.default_rng(0).standard_normal((n, 4))
    back = table.astype(np.float64) @ (gpu.arrays.to_host(there) @ probe)
    figures["recsys_fast"].quality["residual"] = float(np.abs(back - probe).max())
    figures["recsys_fast"].floor_seconds = gpu.floor(8.0 * n * n, float(n) ** 3)
    return figures


def regressions(csr: Csr, gpu: machine.Gpu, turns: int, solve: Callable[[str], Csr]) -> dict[str, harness.Figure]:
    """Time ``solve(device)`` on the GPU and on the CPU; quality: largest difference of a weight."""
    works = {"recsys_fast": gpu.finished(lambda: solve("cuda")), "the CPU": lambda: solve("auto")}
    figures = harness.alternate(works, turns)
    difference = for_scipy(solve("cuda")) - for_scipy(solve("auto"))
    figures["recsys_fast"].quality["largest difference"] = float(abs(difference).max())
    figures["recsys_fast"].floor_seconds = gpu.floor(4.0 * csr.n_cols**2)  # what they have in common, read once
    return figures


def main() -> None:
    parser = harness.arguments(__doc__, data="ml20m-shaped")
    parser.add_argument("--items", type=int, nargs="+", default=[5000, 15_000])
    options = machine.arguments(parser)
    gpu, report = machine.Gpu(options.dry), harness.Report(options)
    matrix = data.tiny() if options.dry else data.load(options.data)[0]
    torch = machine.torch_device(options.dry)
    for n_items in [12] if options.dry else options.items:
        csr = ops.as_csr(popular(matrix, n_items))._replace(values=None)
        report.add("inverse on a GPU", inverse(csr, gpu, torch, options.turns), f"{n_items} items")
    csr = ops.as_csr(popular(matrix, 12 if options.dry else min(options.items)))._replace(values=None)

    def slim(device: str) -> Csr:
        return ops.slim_solve(csr, l1=5.0, l2=100.0, device=device)[0]

    def ridge(device: str) -> Csr:
        return ops.ridge_solve(csr, regularization=500.0, k=128, device=device)

    for name, solve in (("SLIM", slim), ("SparseEASE", ridge)):
        report.add(f"{name} on a GPU", regressions(csr, gpu, 1 if options.dry else 2, solve), f"{csr.n_cols} items")
    report.finish()


if __name__ == "__main__":
    main()
