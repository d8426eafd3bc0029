"""Neighbours of all items against implicit and irspack: cosine, and the walks of RP3beta; same data and k.

python -m benchmarks.models.bench_knn --data gowalla --k 100
python -m benchmarks.models.bench_knn --data ml20m-shaped --peers implicit --models cosine --turns 3
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # what implicit asks for

from collections.abc import Callable
from typing import Any

import numpy as np

import recsys_fast as rf
from benchmarks import data, harness

ALPHA, BETA = 0.6, 0.2  # of RP3beta


class Contestant:
    """Fits a model anew at every call, and keeps the last one."""

    def __init__(self, fit: Callable[[], Any]) -> None:
        self.fit, self.fitted = fit, None

    def __call__(self) -> None:
        self.fitted = self.fit()


def implicit_cosine(matrix: Any, k: int, n_threads: int) -> Any:
    """Return implicit's fitted model; its k counts the item itself."""
    from implicit.nearest_neighbours import CosineRecommender

    model = CosineRecommender(K=k + 1, num_threads=n_threads)
    model.fit(matrix, show_progress=False)
    return model.similarity


def irspack_model(matrix: Any, name: str, k: int, n_threads: int) -> Any:
    """Return the item weights of irspack's fitted model."""
    from irspack.recommenders.knn import CosineKNNRecommender
    from irspack.recommenders.rp3 import RP3betaRecommender

    if name == "cosine":
        model = CosineKNNRecommender(matrix, shrinkage=0.0, normalize=True, top_k=k, n_threads=n_threads)
    else:
        model = RP3betaRecommender(matrix, alpha=ALPHA, beta=BETA, top_k=k, normalize_weight=False, n_threads=n_threads)
    return model.learn().W


def multiply_adds(matrix: Any) -> float:
    """Return the products that are not 0 in (items x users) times (users x items)."""
    lengths = np.diff(matrix.indptr).astype(np.float64)
    return float((lengths**2).sum())


def agreement(ours: Any, theirs: Any, n: int = 500) -> float:
    """Return the share of the peer's neighbours of some items that are ours too."""
    neighbours, peer, shared, total = ours.neighbours_, theirs.tocsr(), 0, 0
    for item in np.random.default_rng(0).integers(0, neighbours.n_rows, n):
        own = neighbours.col_idx[neighbours.row_ptr[item] : neighbours.row_ptr[item + 1]]
        other = peer.indices[peer.indptr[item] : peer.indptr[item + 1]]
        other = other[other != item]
        shared += len(np.intersect1d(own, other))
        total += len(other)
    return shared / max(1, total)


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--models", nargs="+", default=["cosine", "rp3beta"])
    parser.add_argument("--peers", nargs="*", default=["implicit", "irspack"])
    parser.add_argument("--numba", action="store_true", help="also run the numba backend")
    options = parser.parse_args()
    matrix, _ = data.load(options.data)
    peers, k, n_threads = data.for_peer(matrix), options.k, options.threads
    report = harness.Report(options)
    peak = harness.sgemm_peak(n_threads)
    print(f"matrix product {peak:.0f} GFLOP/s on {n_threads} threads; {multiply_adds(matrix):.3g} multiply-adds")
    for name in options.models:

        def ours(device: str = "auto", name: str = name) -> Any:
            made = rf.ItemKNN(k) if name == "cosine" else rf.RP3beta(k, ALPHA, BETA)
            return made.set_params(device=device, n_threads=n_threads).fit(matrix)

        contestants = {"recsys_fast": Contestant(ours)}
        if options.numba:
            contestants["recsys_fast numba"] = Contestant(lambda: ours("numba"))
        if "implicit" in options.peers and name == "cosine":
            contestants["implicit"] = Contestant(lambda: implicit_cosine(peers, k, n_threads))
        if "irspack" in options.peers:
            contestants["irspack"] = Contestant(lambda name=name: irspack_model(peers, name, k, n_threads))
        figures = harness.alternate(dict(contestants), options.turns)
        figures["recsys_fast"].floor_seconds = 2.0 * multiply_adds(matrix) / peak / 1e9
        for peer in ("implicit", "irspack"):
            if peer in contestants and name == "cosine":  # the walks are defined in several ways
                figures[peer].quality["agreement"] = agreement(
                    contestants["recsys_fast"].fitted, contestants[peer].fitted
                )
        report.add(name, figures, f"k = {k}")
    report.finish()


if __name__ == "__main__":
    main()
