"""Recurrent layers, forward and backward, against torch on packed and padded batches; steps of one event.

That is gru_forward and gru_backward, lstm_forward and lstm_backward, rnn_forward and rnn_backward, through their block.
The floor is the time that the multiplications of all products would take at the rate of a large one.

python -m benchmarks.ops.bench_recurrent --threads 2 --cells gru lstm rnn
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import harness
from recsys_fast.blocks.base import PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.recurrent import Recurrent

GATES = {"gru": 3, "lstm": 4, "rnn": 1}
UNITS = {"gru": 100, "lstm": 64, "rnn": 100}


def shapes() -> dict[str, np.ndarray]:
    """Return the lengths of the batches: geometric ones as of Beauty, long ones as of ML-1M, one event each."""
    rng = np.random.default_rng(0)
    return {
        "128 sequences of about 7": np.minimum(rng.geometric(1 / 7, 128), 50),
        "128 sequences of about 165": np.minimum(rng.geometric(1 / 400, 128), 200),
        "512 events": np.ones(512, np.int64),
        "64 events": np.ones(64, np.int64),
    }


def ours(cell: str, lengths: np.ndarray, x: np.ndarray, dy: np.ndarray, device: str, n_threads: int) -> Any:
    """Return a function that runs the block forward and backward; batches of single events start from a state."""
    block = Recurrent(x.shape[1], dy.shape[1], cell)
    ParameterSet({"layer": block}, Runtime(device, n_threads)).initialise(np.random.default_rng(0))
    batch = PackedBatch(np.concatenate([[0], np.cumsum(lengths)]), training=True)
    if lengths.max() == 1:
        block.state = np.zeros((len(lengths), block.state_width), np.float32)

    def run() -> np.ndarray:
        block.forward(x, batch)
        return block.backward(dy, batch)

    return run


def torch_runs(cell: str, lengths: np.ndarray, x: np.ndarray, dy: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return torch's layer, forward and backward, on a packed and on a padded batch; packing is not timed."""
    import torch

    pieces = torch.split(torch.from_numpy(x), lengths.tolist())
    gradients = torch.split(torch.from_numpy(dy), lengths.tolist())
    layer = getattr(torch.nn, cell.upper())(x.shape[1], dy.shape[1], batch_first=True)
    packed = torch.nn.utils.rnn.pack_sequence(pieces, enforce_sorted=False)
    packed.data.requires_grad_()
    packed_dy = torch.nn.utils.rnn.pack_sequence(gradients, enforce_sorted=False).data
    padded = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True).requires_grad_()
    padded_dy = torch.nn.utils.rnn.pad_sequence(gradients, batch_first=True)

    def run_packed() -> None:
        layer.zero_grad()
        layer(packed)[0].data.backward(packed_dy)

    def run_padded() -> None:
        layer.zero_grad()
        layer(padded)[0].backward(padded_dy)

    return {"torch packed": run_packed, "torch padded": run_padded}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--cells", nargs="+", choices=GATES, default=["gru", "lstm"])
    parser.add_argument("--numba", action="store_true", help="also run the numba backend")
    options = parser.parse_args()
    try:
        import torch

        torch.set_num_threads(options.threads)
        peers = torch_runs
    except ImportError:
        peers = lambda *_: {}  # noqa: E731
    peak = harness.sgemm_peak(options.threads)
    report = harness.Report(options)
    rng = np.random.default_rng(1)
    for cell in options.cells:
        d = UNITS[cell]
        for name, lengths in shapes().items():
            n = int(lengths.sum())
            x, dy = rng.standard_normal((2, n, d)).astype(np.float32)
            contestants = {"recsys_fast": ours(cell, lengths, x, dy, "auto", options.threads)}
            if options.numba:
                contestants["recsys_fast numba"] = ours(cell, lengths, x, dy, "numba", options.threads)
            contestants |= peers(cell, lengths, x, dy)
            repeats = max(1, 20_000 // n)
            work = {who: _repeated(run, repeats) for who, run in contestants.items()}
            figures = harness.alternate(work, options.turns)
            # Products: three with the input, three with the state; none of these at a first place without a state, two
            # where batches of single events start from one, whose gradient nobody asks for.
            n_products = 5 * n if lengths.max() == 1 else 3 * (n + n - len(lengths))
            figures["recsys_fast"].floor_seconds = 2e-9 * GATES[cell] * d * d * n_products * repeats / peak
            rate = n * repeats / figures["recsys_fast"].median
            report.add(f"{cell}({d}), {name}", figures, f"{rate / 1e3:.0f}k rows/s", of_data=False)
        block = Recurrent(d, d, cell)
        ParameterSet({"layer": block}, Runtime("auto", 1)).initialise(rng)
        state, row = block.start(), np.zeros((1, d), np.float32)
        step = {"recsys_fast": _repeated(lambda b=block, s=state, r=row: b.step(s, r), 1000)}
        report.add(f"{cell}({d}), 1000 steps of one event", harness.alternate(step, options.turns), of_data=False)
    report.finish()


def _repeated(run: Callable[[], object], times: int) -> Callable[[], None]:
    def work() -> None:
        for _ in range(times):
            run()

    return work


if __name__ == "__main__":
    main()
