"""Top-n of all users with seen items filtered, exact, against implicit (filtered) and faiss IndexFlatIP (unfiltered).

python -m benchmarks.ops.bench_topk --data gowalla --factors 64 --n 20 100
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import data, factors, harness
from recsys_fast import ops

IMPLICIT_BATCHES = (1_000, 10_000)


def implicit_topk(users: np.ndarray, items: np.ndarray, seen: Any, n: int, n_threads: int, batch: int) -> Any:
    """Return a function that ranks all users in batches with implicit's C++ selection over BLAS scores."""
    from implicit.cpu.topk import topk

    def run() -> list[np.ndarray]:
        return [
            topk(items, users[b : b + batch], n, filter_query_items=seen[b : b + batch], num_threads=n_threads)[0]
            for b in range(0, len(users), batch)
        ]

    return run


def faiss_search(users: np.ndarray, items: np.ndarray, n: int, n_threads: int) -> Any:
    """Return a function that searches all users in faiss's exact inner product index."""
    import faiss

    faiss.omp_set_num_threads(n_threads)
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    return lambda: index.search(users, n)[1]


def agreement(users: np.ndarray, items: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the share of rows whose n scores agree to rounding (ids may differ in ties)."""

    def scores(ids: np.ndarray) -> np.ndarray:
        return np.einsum("mnd,md->mn", items[ids], users)

    sample = np.random.default_rng(0).choice(len(users), min(2_000, len(users)), replace=False)
    ours, theirs, users = ours[sample], theirs[sample], users[sample]
    close = np.isclose(np.sort(scores(ours)), np.sort(scores(theirs)), rtol=1e-4, atol=1e-5)
    return float(close.all(axis=1).mean())


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--factors", type=int, nargs="+", default=[64])
    parser.add_argument("--n", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--kinds", nargs="+", choices=("als", "bpr"), default=["als", "bpr"])
    parser.add_argument("--numba", action="store_true", help="also run the numba backend")
    options = parser.parse_args()

    matrix, _ = data.load(options.data)
    seen, seen_csr = ops.as_csr(matrix), data.for_peer(matrix)
    threads = options.threads
    peak = harness.sgemm_peak(threads)
    report = harness.Report(options)
    for d in options.factors:
        for kind in options.kinds:
            users, items = factors.als(matrix, d) if kind == "als" else factors.bpr(matrix, d)
            for n in options.n:

                def ours(device: str = "auto", n: int = n, u: Any = users, i: Any = items) -> np.ndarray:
                    return ops.topk(i, u, n, seen=seen, device=device, n_threads=threads)[0]

                contestants: dict[str, Any] = {"recsys_fast": ours}
                if options.numba:
                    contestants["recsys_fast numba"] = lambda f=ours: f("numba")
                for batch in IMPLICIT_BATCHES:
                    label = f"implicit, batch {batch}"
                    contestants[label] = implicit_topk(users, items, seen_csr, n, threads, batch)
                contestants["faiss, unfiltered"] = faiss_search(users, items, n, threads)
                figures = harness.alternate(contestants, options.turns)
                # What scoring every pair costs; a share above 100 % means that the bound skipped work.
                figures["recsys_fast"].floor_seconds = 2.0 * users.size * len(items) / peak / 1e9
                theirs = np.concatenate(contestants[f"implicit, batch {IMPLICIT_BATCHES[0]}"]())
                figures["recsys_fast"].quality["rows equal"] = agreement(users, items, ours(), theirs)
                report.add(f"top {n}", figures, f"{kind}, {d} factors")
    report.finish()


if __name__ == "__main__":
    main()
