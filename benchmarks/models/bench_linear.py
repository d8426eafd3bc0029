"""EASE's inverse against bare LAPACK, SLIM against irspack, top-n of dense item weights against NumPy.

python -m benchmarks.models.bench_linear --work inverse slim topk --sizes 8000 12000
python -m benchmarks.models.bench_linear --work inverse --sizes 40981 --turns 1 --save linear_inverse_gowalla
"""

from __future__ import annotations

import os
import sys

# BLAS reads it once, when it is loaded: LAPACK gets as many threads as we do.
os.environ["OPENBLAS_NUM_THREADS"] = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv[:-1] else "2"

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import data, harness
from recsys_fast import ops
from recsys_fast.ops import Csr


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def inverse(n: int, turns: int, n_threads: int, peak: float) -> dict[str, harness.Figure]:
    """Time the inverse of one (n, n) matrix in place; filling it again is not timed, and both use the same memory."""
    from scipy.linalg import lapack

    rng = np.random.default_rng(0)
    y = rng.standard_normal((n, 32)).astype(np.float32)
    a = np.empty((n, n), np.float32)

    def fill() -> None:
        for start in range(0, n, 512):
            np.matmul(y[start : start + 512], y.T, out=a[start : start + 512])
        np.einsum("ii->i", a)[:] += 80.0

    def bare_lapack() -> None:
        _, failed = lapack.spotrf(a.T, lower=0, clean=0, overwrite_a=1)
        assert not failed
        lapack.spotri(a.T, lower=0, overwrite_c=1)

    works = {"recsys_fast": lambda: ops.spd_invert(a, n_threads=n_threads), "LAPACK spotrf + spotri": bare_lapack}
    figures = {name: harness.Figure(name) for name in works}
    for _ in range(turns):
        for name, work in works.items():
            fill()
            figures[name].seconds.append(seconds_of(work))
    fill()
    ops.spd_invert(a, n_threads=n_threads)
    probe = rng.standard_normal((n, 4))
    inverse_times = a @ probe.astype(np.float32)
    back = y @ (y.T @ inverse_times) + 80.0 * inverse_times
    figures["recsys_fast"].quality["residual"] = float(np.abs(back - probe).max())
    for figure in figures.values():
        figure.floor_seconds = float(n) ** 3 / peak / 1e9
    return figures


def popular(matrix: Any, n_items: int | None) -> Any:
    """Return the columns of the most popular items, all ones, as what irspack takes."""
    out = data.for_peer(matrix)
    out.data[:] = 1.0
    if n_items is None or n_items >= out.shape[1]:
        return out
    counts = np.bincount(out.indices, minlength=out.shape[1])
    return data.for_peer(out[:, np.sort(np.argsort(-counts, kind="stable")[:n_items])])


def slim_objective(x: Any, weights: Any, l1: float, l2: float) -> float:
    """Return 1/2 |X - X W|^2 + l1 |W| + l2/2 |W|^2 in float64."""
    from scipy import sparse

    x, weights = sparse.csr_matrix(x, dtype=np.float64), sparse.csr_matrix(weights, dtype=np.float64)
    residual = 0.0
    for start in range(0, x.shape[0], 1000):
        part = x[start : start + 1000]
        difference = part - part @ weights
        residual += difference.multiply(difference).sum()
    return float(0.5 * residual + l1 * abs(weights).sum() + 0.5 * l2 * weights.multiply(weights).sum())


def slim(x: Any, l1: float, l2: float, turns: int, n_threads: int) -> dict[str, harness.Figure]:
    """Time SLIM with weights >= 0 and the same tolerance."""
    from scipy import sparse

    csr, found = ops.as_csr(x)._replace(values=None), {}

    def ours() -> None:
        weights, _ = ops.slim_solve(csr, l1=l1, l2=l2, tolerance=1e-4, n_threads=n_threads)
        found["recsys_fast"] = sparse.csr_matrix((weights.values, weights.col_idx, weights.row_ptr), weights.shape).T

    def irspack() -> None:
        from irspack.utils._util_cpp import slim_weight_positive_only

        found["irspack"] = slim_weight_positive_only(x, n_threads, 100, l2, l1, 1e-4, -1)

    figures = harness.alternate({"recsys_fast": ours, "irspack": irspack}, turns, warm_up=0)
    for name, weights in found.items():
        figures[name].quality = {"objective": slim_objective(x, weights, l1, l2), "weights": float(weights.nnz)}
    return figures


def topk(matrix: Any, turns: int, n_threads: int) -> dict[str, harness.Figure]:
    """Time top 20 of all users from dense weights (here the Gram matrix: the work does not depend on them)."""
    csr: Csr = ops.as_csr(matrix)._replace(values=None)
    weights = ops.csr_gram(csr, n_threads=n_threads)
    x = data.for_peer(matrix)

    def ours() -> None:
        ops.product_topk(csr, weights, 20, seen=csr, check=False, n_threads=n_threads)

    def numpy() -> None:
        for start in range(0, x.shape[0], 1000):
            part = x[start : start + 1000]
            scores = part @ weights
            scores[part.nonzero()] = -np.inf
            best = np.argpartition(-scores, 20, axis=1)[:, :20]
            np.take_along_axis(scores, best, axis=1).sort(axis=1)

    figures = harness.alternate({"recsys_fast": ours, "SciPy product, argpartition": numpy}, turns, warm_up=0)
    figures["recsys_fast"].floor_seconds = weights.nbytes / 37e9  # to read W once, at the copy rate of two threads
    return figures


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.set_defaults(turns=3)
    parser.add_argument("--work", nargs="+", choices=("inverse", "slim", "topk"), default=["inverse", "slim", "topk"])
    parser.add_argument("--items", type=int, help="only so many of the most popular items")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8000, 12000], help="of matrices to invert")
    parser.add_argument("--l1", type=float, default=1.0)
    parser.add_argument("--l2", type=float, default=100.0)
    options = parser.parse_args()
    report = harness.Report(options)
    if "inverse" in options.work:
        peak = harness.sgemm_peak(options.threads)
        print(f"matrix product {peak:.0f} GFLOP/s on {options.threads} threads (the floor)")
        for n in options.sizes:
            figures = inverse(n, options.turns, options.threads, peak)
            report.add("inverse of a symmetric matrix", figures, f"n = {n}", of_data=False)
    if options.work != ["inverse"]:
        x = popular(data.load(options.data)[0], options.items)
        shape = f"{x.shape[0]} users, {x.shape[1]} items"
        if "slim" in options.work:
            figures = slim(x, options.l1, options.l2, options.turns, options.threads)
            report.add("SLIM", figures, f"{shape}, l1 {options.l1:g}, l2 {options.l2:g}")
        if "topk" in options.work:
            report.add("top 20 of all users from dense weights", topk(x, options.turns, options.threads), shape)
    report.finish()


if __name__ == "__main__":
    main()
