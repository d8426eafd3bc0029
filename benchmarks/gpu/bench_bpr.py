"""BPR epochs on a GPU against implicit's there and a composition of PyTorch; seconds per million samples.

The floor is the memory traffic of the rows that a sample reads and writes, as if none of them stayed in a cache.

python -m benchmarks.gpu.bench_bpr --data ml20m-shaped --factors 64 128
"""

from __future__ import annotations

from typing import Any

import recsys_fast as rf
from benchmarks import data, harness
from benchmarks.gpu import machine
from benchmarks.models.sgd_peers import Ours

RATE, PENALTY = 0.05, 0.01


def implicit(matrix: Any, d: int, options: Any) -> harness.Figure | None:
    """Return the epochs of implicit's BPR on the GPU."""
    kind = machine.implicit_gpu("bpr", options.dry)
    if kind is None:
        return None
    model = kind(factors=d, learning_rate=RATE, regularization=PENALTY, iterations=options.turns + 1, random_state=0)
    return machine.implicit_epochs(model, data.for_peer(matrix), "implicit")


def main() -> None:
    parser = harness.arguments(__doc__, data="ml20m-shaped")
    parser.add_argument("--factors", type=int, nargs="+", default=[64, 128])
    options = machine.arguments(parser)
    gpu, report = machine.Gpu(options.dry), harness.Report(options)
    matrix = data.tiny() if options.dry else data.load(options.data)[0]
    torch = machine.torch_device(options.dry)
    for d in [8] if options.dry else options.factors:
        common: dict[str, Any] = {"learning_rate": RATE, "regularization": PENALTY, "random_state": 0, "device": "cuda"}
        ours = {
            "recsys_fast": Ours(rf.BPR(d, deterministic=False, **common), matrix),
            "recsys_fast, deterministic": Ours(rf.BPR(d, **common), matrix),
        }
        work = {name: gpu.finished(one.epoch) for name, one in ours.items()}
        if torch is not None:
            from benchmarks.gpu.torch_factors import TorchBpr

            work["torch"] = gpu.finished(TorchBpr(matrix, d, RATE, PENALTY, torch).epoch)
        figures = harness.alternate(work, options.turns)
        peer = implicit(matrix, d, options)
        if peer is not None:
            figures["implicit"] = peer
        for figure in figures.values():
            figure.seconds = [seconds / matrix.nnz * 1e6 for seconds in figure.seconds]
        for name in ours:
            figures[name].floor_seconds = gpu.floor(2 * 3 * 4.0 * d * 1e6)
            figures[name].quality["samples/s"] = 1e6 / figures[name].median
        report.add("BPR on a GPU", figures, f"{d} factors")
    report.finish()


if __name__ == "__main__":
    main()
