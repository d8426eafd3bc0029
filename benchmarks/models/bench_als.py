"""ALS epochs against implicit and irspack: same data, factors, regularisation and number of epochs.

python -m benchmarks.models.bench_als --data gowalla --factors 64 128 256 --solvers cg cholesky subspace
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # what implicit asks for

from typing import Any

import numpy as np

from benchmarks import data, harness
from recsys_fast import ops
from recsys_fast.ops import Csr

UNOBSERVED, REGULARIZATION, NU = 0.01, 0.003, 1.0
BLOCK = {64: 64}  # columns of a subspace; 32 otherwise


class Ours:
    """One epoch at a time through the public operations, exactly as ``ALS.fit`` does it."""

    def __init__(
        self, matrix: Any, d: int, solver: str, n_threads: int, device: str = "auto", items: Any = None
    ) -> None:
        self.users = ops.as_csr(matrix)._replace(values=None)
        self.items = ops.csr_transpose(self.users)
        if items is None:
            items = 0.1 / np.sqrt(d) * np.random.default_rng(0).standard_normal((matrix.shape[1], d))
        self.x = np.zeros((matrix.shape[0], d), np.float32)
        self.y = np.array(items, np.float32, order="C")
        self.options: dict[str, Any] = {
            "solver": solver, "n_steps": 3 if solver == "cg" else 1, "block_size": BLOCK.get(d, 32),
            "unobserved_weight": UNOBSERVED, "regularization": REGULARIZATION, "nu": NU,
            "n_threads": n_threads, "device": device,
        }  # fmt: skip

    def half(self, x: np.ndarray, y: np.ndarray, matrix: Csr) -> None:
        place = {"device": self.options["device"], "n_threads": self.options["n_threads"]}
        vectors, spectrum = ops.gram_eigen(ops.gram(y, **place), **place)
        ops.rows_rotate(y, vectors, **place)
        ops.rows_rotate(x, vectors, **place)
        ops.als_sweep(x, y, matrix, spectrum=spectrum, **self.options)

    def epoch(self) -> None:
        self.half(self.x, self.y, self.users)
        self.half(self.y, self.x, self.items)


def loss(users: Csr, x: np.ndarray, y: np.ndarray) -> float:
    """Return the objective that all three minimise, in one implementation for all."""
    x, y = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, np.float32)
    return ops.als_loss(x, y, users, unobserved_weight=UNOBSERVED, regularization=REGULARIZATION, nu=NU)


def irspack_model(matrix: Any, d: int, solver: str, n_threads: int, seed: int = 0) -> Any:
    """Return an irspack trainer, initialised and ready to run epochs."""
    from irspack.recommenders.ials import IALSRecommender

    kind = {"cg": "CG", "cholesky": "CHOLESKY", "subspace": "IALSPP"}[solver]
    model = IALSRecommender(
        data.for_peer(matrix), n_components=d, alpha0=UNOBSERVED, reg=REGULARIZATION, nu=NU,
        n_threads=n_threads, solver_type=kind, loss_type="IALSPP", random_seed=seed, max_cg_steps=3,
        ialspp_subspace_dimension=BLOCK.get(d, 32),
    )  # fmt: skip
    model.start_learning()
    return model


def implicit_epoch(matrix: Any, d: int, solver: str, n_threads: int) -> Any:
    """Return a function that runs one epoch of implicit's solver (Hu et al.'s weights: speed only, another loss)."""
    from implicit.als import AlternatingLeastSquares

    users = data.for_peer(matrix)
    items = users.T.tocsr()
    model = AlternatingLeastSquares(
        factors=d, use_cg=solver == "cg", iterations=0, num_threads=n_threads, random_state=0
    )
    model.fit(users, show_progress=False)

    def epoch() -> None:
        model.solver(users, model.user_factors, model.item_factors, model.regularization, num_threads=n_threads)
        model.solver(items, model.item_factors, model.user_factors, model.regularization, num_threads=n_threads)

    return epoch


def floor_seconds(users: Csr, items: Csr, d: int, solver: str, peak: float) -> float:
    """Return the operations of an epoch over the measured matrix product rate.

    Exact rows count the cheaper of the primal (n d (d + 1) + d^3 / 3) and dual (n^2 d + n^3 / 3) forms, cg four passes
    of 4 n d, subspace its block systems; all add the Gram matrices and rotations.
    """
    operations = 0.0
    block = BLOCK.get(d, 32)
    for matrix in (users, items):
        n = np.diff(matrix.row_ptr).astype(float)
        operations += matrix.n_rows * d * d * (1 + 2 * 2)
        if solver == "cg":
            operations += 16.0 * d * n.sum()
        else:
            width = d if solver == "cholesky" else block
            primal = (n * width * (width + 1) + width**3 / 3) * (d / width) + (0 if width == d else 6.0 * n * d)
            operations += np.minimum(primal, n * n * d + n**3 / 3).sum()
    return operations / peak / 1e9


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--factors", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--solvers", nargs="+", default=["cg", "cholesky", "subspace"])
    parser.add_argument("--peers", nargs="*", default=["irspack", "implicit"])
    parser.add_argument("--numba", action="store_true", help="also run the numba backend")
    options = parser.parse_args()
    matrix, _ = data.load(options.data)
    peak = harness.sgemm_peak(options.threads)
    blas = harness.blas_peak()
    print(
        f"matrix product {peak:.0f} GFLOP/s on {options.threads} threads (the floor), NumPy's sgemm {blas:.0f} on one"
    )
    report = harness.Report(options)
    for d in options.factors:
        for solver in options.solvers:
            model = irspack_model(matrix, d, solver, options.threads) if "irspack" in options.peers else None
            start = None if model is None else model.get_item_embedding()  # the same for all, so that losses compare
            ours = Ours(matrix, d, solver, options.threads, items=start)
            contestants = {"recsys_fast": ours.epoch}
            if options.numba:
                numba = Ours(matrix, d, solver, options.threads, "numba", start)
                contestants["recsys_fast numba"] = numba.epoch
            if model is not None:
                contestants["irspack"] = model.run_epoch
            if "implicit" in options.peers and solver != "subspace":
                contestants["implicit"] = implicit_epoch(matrix, d, solver, options.threads)
            figures = harness.alternate(contestants, options.turns)
            figures["recsys_fast"].floor_seconds = floor_seconds(ours.users, ours.items, d, solver, peak)
            floor = figures["recsys_fast"].floor_seconds or 0.0
            figures["recsys_fast"].quality["GFLOP/s"] = floor * peak / figures["recsys_fast"].median
            figures["recsys_fast"].quality["loss"] = loss(ours.users, ours.x, ours.y)
            if model is not None:
                factors = model.get_user_embedding(), model.get_item_embedding()
                figures["irspack"].quality["loss"] = loss(ours.users, *factors)
            report.add(f"ALS {solver}", figures, f"{d} factors")
    report.finish()


if __name__ == "__main__":
    main()
