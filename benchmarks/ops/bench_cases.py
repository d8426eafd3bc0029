"""Every operation's test cases, timed on the backends side by side: what a call costs, and how far they are apart.

python -m benchmarks.ops.bench_cases --ops als_sweep topk --min-seconds 0.02
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from recsys_fast import backend, ops
from tests.cases import als, csr, gram, linear, product_topk, rank_metrics, sgd, table, topk

Call = Callable[[str], object]


def als_sweep_calls() -> Iterator[tuple[str, Call]]:
    for case in als.CASES:
        for solver in ("cholesky", "cg", "subspace"):
            p = case.make()
            options = {"spectrum": p.spectrum, "solver": solver, **p.options}
            yield (
                f"{case.name}, {solver}",
                lambda d, p=p, o=options: ops.als_sweep(p.x.copy(), p.y, p.matrix, device=d, **o),
            )


def als_loss_calls() -> Iterator[tuple[str, Call]]:
    for case in als.CASES:
        p = case.make()
        yield case.name, lambda d, p=p: ops.als_loss(p.x, p.y, p.matrix, device=d, **p.options)


def gram_calls() -> Iterator[tuple[str, Call]]:
    for case in gram.CASES:
        y = case.make()
        yield case.name, lambda d, y=y: ops.gram(y, device=d)


def gram_eigen_calls() -> Iterator[tuple[str, Call]]:
    for case in gram.CASES:
        g = ops.gram(case.make())
        yield case.name, lambda d, g=g: ops.gram_eigen(g, device=d)


def topk_calls() -> Iterator[tuple[str, Call]]:
    for case in topk.CASES:
        p = case.make()
        masks = {"seen": p.seen, "include": p.include, "exclude": p.exclude}
        yield case.name, lambda d, p=p, m=masks: ops.topk(p.items, p.queries, p.n, device=d, **m)


def rank_metrics_calls() -> Iterator[tuple[str, Call]]:
    for case in rank_metrics.CASES:
        p = case.make()
        masks = {"seen": p.seen, "include": p.include, "exclude": p.exclude}
        yield case.name, lambda d, p=p, m=masks: ops.rank_metrics(p.items, p.queries, p.test, p.ks, device=d, **m)


def csr_transpose_calls() -> Iterator[tuple[str, Call]]:
    for name, matrix in csr.SORTED.items():
        yield name, lambda d, m=matrix: ops.csr_transpose(m, device=d)


def sgd_calls(op: str) -> Iterator[tuple[str, Call]]:
    for case in sgd.CASES:
        if case.op == op:
            p = case.make()
            yield case.name.removeprefix(op.split("_")[0] + " "), lambda d, p=p: p.run(d)


def product_topk_calls() -> Iterator[tuple[str, Call]]:
    for case in product_topk.CASES:
        p = case.make()
        yield case.name, lambda d, p=p: ops.product_topk(p.a, p.b, p.n, device=d, **p.choice)


def csr_gram_calls() -> Iterator[tuple[str, Call]]:
    for case in linear.CASES:
        matrix = case.make()
        yield case.name, lambda d, m=matrix: ops.csr_gram(m, device=d)


def spd_invert_calls() -> Iterator[tuple[str, Call]]:
    for n in linear.SIZES:
        given = linear.positive_definite(n)
        yield f"n = {n}", lambda d, a=given: ops.spd_invert(a.copy(), device=d)


def slim_solve_calls() -> Iterator[tuple[str, Call]]:
    for case in linear.CASES:
        matrix = case.make()
        yield case.name, lambda d, m=matrix: ops.slim_solve(m, l1=0.5, l2=2.0, device=d)


def ridge_solve_calls() -> Iterator[tuple[str, Call]]:
    for case in linear.CASES:
        matrix = case.make()
        yield case.name, lambda d, m=matrix: ops.ridge_solve(m, regularization=3.0, k=20, device=d)


def philox_rows_calls() -> Iterator[tuple[str, Call]]:
    for m, n in ((100_000, 1), (100, 10_000)):
        yield f"{m} samples, {n} words", lambda d, m=m, n=n: ops.philox_rows(np.arange(m), n, device=d)


# A step of SASRec on Beauty: 128 sequences of 6 rows, one negative each.
TABLE_CASES = [
    *table.CASES,
    table.Case("step", (6,) * 128, 12_101, 50),
    table.Case("wide step", (50,) * 128, 12_101, 64),
]


TABLE_OPS = (
    "embedding_forward", "embedding_backward", "dropout_apply", "id_plan", "table_gradient", "table_add",
    "optimizer_step", "optimizer_step_rows", "square_sum",
)  # fmt: skip


def table_calls(op: str) -> Iterator[tuple[str, Call]]:
    for case in TABLE_CASES:
        s = case.make()
        plan = ops.id_plan(s.every_id, case.n)
        drows, _ = ops.table_gradient(plan, case.d, **s.sources())
        moments, dense = np.zeros((2, *s.table.shape), np.float32), np.zeros_like(s.table)
        places = {"positions": s.positions, "dropout": 0.2}
        calls: dict[str, Call] = {
            "embedding_forward": lambda d, s=s, p=places: ops.embedding_forward(
                s.table, s.ids, s.row_ptr, **p, device=d
            ),
            "embedding_backward": lambda d, s=s: ops.embedding_backward(
                s.dx, s.row_ptr, n_positions=len(s.positions), dropout=0.2, device=d
            ),
            "dropout_apply": lambda d, s=s: ops.dropout_apply(s.dx, 0.2, device=d),
            "id_plan": lambda d, s=s, c=case: ops.id_plan(s.every_id, c.n, device=d),
            "table_gradient": lambda d, s=s, c=case, p=plan: ops.table_gradient(p, c.d, **s.sources(), device=d),
            "table_add": lambda d, s=s, g=dense: ops.table_add(g, s.every_id, **s.sources(), device=d),
            "optimizer_step": lambda d, s=s, g=dense, m=moments: ops.optimizer_step(
                s.table.reshape(-1), g.reshape(-1), *m.reshape(2, -1), device=d
            ),
            "optimizer_step_rows": lambda d, s=s, p=plan, g=drows, m=moments: ops.optimizer_step_rows(
                s.table, p.rows, g, *m, device=d
            ),
            "square_sum": lambda d, g=dense: ops.square_sum(g, device=d),
        }
        yield case.name, calls[op]


def negatives_draw_calls() -> Iterator[tuple[str, Call]]:
    weights = np.arange(1.0, 12_102.0) ** -0.5
    for name, chances in (("uniform", None), ("weighted", weights)):
        yield f"2048, {name}", lambda d, w=chances: ops.negatives_draw(2048, 12_101, weights=w, device=d)


CALLS: dict[str, Callable[[], Iterator[tuple[str, Call]]]] = {
    "als_sweep": als_sweep_calls,
    "als_loss": als_loss_calls,
    **{op: functools.partial(sgd_calls, op) for op in ("bpr_epoch", "warp_epoch", "logistic_epoch", "rating_epoch")},
    "gram": gram_calls,
    "gram_eigen": gram_eigen_calls,
    "topk": topk_calls,
    "rank_metrics": rank_metrics_calls,
    "csr_transpose": csr_transpose_calls,
    "csr_gram": csr_gram_calls,
    "spd_invert": spd_invert_calls,
    "slim_solve": slim_solve_calls,
    "ridge_solve": ridge_solve_calls,
    "product_topk": product_topk_calls,
    "philox_rows": philox_rows_calls,
    "negatives_draw": negatives_draw_calls,
    **{op: functools.partial(table_calls, op) for op in TABLE_OPS},
}


def median_seconds(call: Call, device: str, min_seconds: float) -> float:
    """Return the median of calls that together take ``min_seconds``, after one that compiles and warms up."""
    call(device)
    seconds: list[float] = []
    while sum(seconds) < min_seconds or len(seconds) < 5:
        start = time.perf_counter()
        call(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", nargs="+", choices=sorted(CALLS), default=list(CALLS))
    parser.add_argument("--min-seconds", type=float, default=0.02)
    options = parser.parse_args()
    devices: list[Any] = ["cpu", "numba"] if backend.resolve_device() == "cpu" else ["numba"]
    print(f"{'operation and case':<52}" + "".join(f"{device + ', us':>14}" for device in devices))
    for name in options.ops:
        for case, call in CALLS[name]():
            micros = [1e6 * median_seconds(call, device, options.min_seconds) for device in devices]
            print(f"{name + ': ' + case:<52}" + "".join(f"{value:>14.1f}" for value in micros), flush=True)


if __name__ == "__main__":
    main()
