"""The gate, transposition and assembly of a large matrix against scipy, and negative sampling.

python -m benchmarks.ops.bench_csr --data ml20m-shaped
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import data, harness
from recsys_fast import ops


def main() -> None:
    options = harness.arguments(__doc__).parse_args()
    from scipy import sparse

    peer = data.for_peer(data.load(options.data)[0])
    matrix = ops.as_csr(peer)
    coo = peer.tocoo()
    shuffled = np.random.default_rng(0).permutation(peer.nnz)
    rows, cols, values = coo.row[shuffled], coo.col[shuffled], coo.data[shuffled]
    users = np.random.default_rng(0).integers(0, matrix.n_rows, 1_000_000).astype(np.int32)
    place: dict[str, Any] = {"n_threads": options.threads}
    contests: dict[str, dict[str, Any]] = {
        "validate": {
            "recsys_fast": lambda: ops.validate_csr(matrix, **place),
            "scipy check_format": lambda: peer.check_format(full_check=True),
        },
        "transpose": {
            "recsys_fast": lambda: ops.csr_transpose(matrix, **place),
            "scipy": lambda: peer.T.tocsr(),
        },
        "assemble shuffled coordinates": {
            "recsys_fast": lambda: ops.csr_from_coo(rows, cols, values, shape=matrix.shape, **place),
            "scipy": lambda: sparse.coo_array((values, (rows, cols)), shape=matrix.shape).tocsr().sum_duplicates(),
        },
        "1M verified negatives": {
            "recsys_fast": lambda: ops.sample_negatives(matrix, users, 1, seed=0, **place),
        },
    }
    report = harness.Report(options)
    for name, contestants in contests.items():
        report.add(name, harness.alternate(contestants, options.turns))
    report.finish()


if __name__ == "__main__":
    main()
