"""ALS epochs on a GPU against implicit's there and a composition of PyTorch: same data, factors and regularisation.

"recsys_fast" is an epoch of ``ALS.fit``, with the copy of both tables to the host and the loss; "sweeps" leaves those
out. implicit minimises another loss (Hu et al.'s weights), by three steps of conjugate gradients.

python -m benchmarks.gpu.bench_als --data ml20m-shaped --factors 64 128 256 --solvers cg cholesky
"""

from __future__ import annotations

from typing import Any

import recsys_fast as rf
from benchmarks import data, harness
from benchmarks.gpu import machine
from benchmarks.models import bench_als


class Ours:
    """A model, epoch by epoch; ``sweeps`` is the part on the device."""

    def __init__(self, matrix: Any, d: int, solver: str) -> None:
        loss: dict[str, Any] = {"unobserved_weight": bench_als.UNOBSERVED, "regularization": bench_als.REGULARIZATION}
        model = rf.ALS(d, solver=solver, nu=bench_als.NU, n_epochs=1, random_state=0, device="cuda", **loss).fit(matrix)
        self.model, self.trainer = model, model._resume()

    def epoch(self) -> None:
        self.trainer.epoch()

    def sweeps(self) -> None:
        trainer, problem = self.trainer, self.trainer.problem
        problem.sweep(trainer.users, trainer.items, trainer.spectrum, trainer.by_user)
        problem.sweep(trainer.items, trainer.users, trainer._rotated_to(trainer.users), trainer.by_item)
        trainer.spectrum = trainer._rotated_to(trainer.items)


def floor_seconds(gpu: machine.Gpu, users: Any, items: Any, d: int, solver: str) -> float:
    """Return the least that an epoch costs: its operations, or every table and matrix read once and written once."""
    n_bytes = 2 * (4.0 * d * (users.n_rows + items.n_rows) * 2) + 2 * 4.0 * users.nnz
    return gpu.floor(n_bytes, bench_als.floor_seconds(users, items, d, solver, 1.0) * 1e9)


def implicit(matrix: Any, d: int, options: Any) -> harness.Figure | None:
    """Return the epochs of implicit's ALS on the GPU."""
    kind = machine.implicit_gpu("als", options.dry)
    if kind is None:
        return None
    return machine.implicit_epochs(kind(factors=d, iterations=options.turns + 1), data.for_peer(matrix), "implicit")


def main() -> None:
    parser = harness.arguments(__doc__, data="ml20m-shaped")
    parser.add_argument("--factors", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--solvers", nargs="+", default=["cg", "cholesky"])
    options = machine.arguments(parser)
    gpu, report = machine.Gpu(options.dry), harness.Report(options)
    matrix = data.tiny() if options.dry else data.load(options.data)[0]
    users = rf.ops.as_csr(matrix)._replace(values=None)
    items = rf.ops.csr_transpose(users)
    torch = machine.torch_device(options.dry)
    for d in [8] if options.dry else options.factors:
        peer = implicit(matrix, d, options)
        for solver in options.solvers:
            ours = Ours(matrix, d, solver)
            work = {"recsys_fast": gpu.finished(ours.epoch), "recsys_fast, sweeps": gpu.finished(ours.sweeps)}
            composed = None
            if torch is not None and solver == "cholesky":
                from benchmarks.gpu.torch_factors import TorchAls

                terms = (bench_als.UNOBSERVED, bench_als.REGULARIZATION, bench_als.NU)
                composed = TorchAls(matrix, d, *terms, torch)
                work["torch"] = gpu.finished(composed.epoch)
            figures = harness.alternate(work, options.turns)
            if peer is not None:
                figures["implicit"] = peer
            for name in ("recsys_fast", "recsys_fast, sweeps"):
                figures[name].floor_seconds = floor_seconds(gpu, users, items, d, solver)
            tables = ours.model.user_factors_, ours.model.item_factors_
            figures["recsys_fast"].quality["loss"] = bench_als.loss(users, *tables)
            if composed is not None:
                tables = tuple(table.cpu().numpy() for table in (composed.x, composed.y))
                figures["torch"].quality["loss"] = bench_als.loss(users, *tables)
            report.add(f"ALS {solver} on a GPU", figures, f"{d} factors")
    report.finish()


if __name__ == "__main__":
    main()
