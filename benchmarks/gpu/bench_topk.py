"""Exact top-n of all users with seen items left out, against a matrix product and a selection in PyTorch and CuPy.

Factors are random. The peers score ``--batch`` users at a time, set the scores of seen items to minus infinity, and
select; where seen items are in a batch is worked out beforehand.

python -m benchmarks.gpu.bench_topk --data ml20m-shaped --factors 64 128 --n 10 100
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import data, harness
from benchmarks.gpu import machine
from recsys_fast import ops


def places(matrix: Any, batch: int) -> list[tuple[slice, np.ndarray, np.ndarray]]:
    """Return the rows of each batch, and the rows and columns of what is seen in it."""
    found = []
    for at in range(0, matrix.shape[0], batch):
        part = matrix[at : at + batch].tocoo()
        found.append((slice(at, at + batch), part.row.astype(np.int64), part.col.astype(np.int64)))
    return found


def torch_topk(users: np.ndarray, items: np.ndarray, seen: list[Any], n: int, device: str) -> Callable[[], Any]:
    """Return a function that ranks with ``torch.topk`` over scores."""
    import torch

    x, y = (torch.from_numpy(table).to(device) for table in (users, items))
    where = [(rows, *(torch.from_numpy(part).to(device) for part in parts)) for rows, *parts in seen]

    def run() -> list[Any]:
        out = []
        for rows, u, i in where:
            scores = x[rows] @ y.T
            scores[u, i] = -torch.inf
            out.append(torch.topk(scores, n, dim=1))
        return out

    return run


def cupy_topk(cupy: Any, users: np.ndarray, items: np.ndarray, seen: list[Any], n: int) -> Callable[[], Any]:
    """Return a function that ranks with ``cupy.argpartition`` over scores, and sorts what it finds."""
    x, y = cupy.asarray(users), cupy.asarray(items)
    where = [(rows, *map(cupy.asarray, parts)) for rows, *parts in seen]

    def run() -> list[Any]:
        out = []
        for rows, u, i in where:
            scores = -(x[rows] @ y.T)
            scores[u, i] = cupy.inf
            ids = cupy.argpartition(scores, n, axis=1)[:, :n]
            order = cupy.argsort(cupy.take_along_axis(scores, ids, axis=1), axis=1)
            out.append(cupy.take_along_axis(ids, order, axis=1))
        return out

    return run


def main() -> None:
    parser = harness.arguments(__doc__, data="ml20m-shaped")
    parser.add_argument("--factors", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--n", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--batch", type=int, default=8192)
    options = machine.arguments(parser)
    gpu, report = machine.Gpu(options.dry), harness.Report(options)
    matrix = data.tiny() if options.dry else data.load(options.data)[0]
    torch, rng = machine.torch_device(options.dry), np.random.default_rng(0)
    seen = places(matrix, options.batch)
    mask = ops.as_csr(matrix)._replace(values=None)
    for d in [8] if options.dry else options.factors:
        users, items = (rng.standard_normal((n, d)).astype(np.float32) for n in matrix.shape)
        there = gpu.arrays.asarray(users), gpu.arrays.asarray(items)
        for n in [5] if options.dry else options.n:

            def ours(n: int = n, there: Any = there) -> Any:
                return ops.topk(there[1], there[0], n, seen=mask, check_finite=False, device="cuda")

            work = {"recsys_fast": gpu.finished(ours)}
            if torch is not None:
                work["torch"] = gpu.finished(torch_topk(users, items, seen, n, torch))
            if not options.dry:
                work["CuPy"] = gpu.finished(cupy_topk(gpu.arrays.module, users, items, seen, n))
            figures = harness.alternate(work, options.turns)
            n_bytes = 4.0 * (users.size + items.size + matrix.nnz) + 8.0 * n * len(users)
            figures["recsys_fast"].floor_seconds = gpu.floor(n_bytes, 2.0 * users.size * len(items))
            if torch is not None:
                theirs = np.concatenate(
                    [found[0].cpu().numpy() for found in torch_topk(users, items, seen, n, torch)()]
                )
                same = gpu.arrays.to_host(ours()[0]) == theirs
                figures["recsys_fast"].quality["ids equal"] = float(same.mean())
            report.add(f"top {n} on a GPU", figures, f"{d} factors")
    report.finish()


if __name__ == "__main__":
    main()
