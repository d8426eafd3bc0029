"""Forward and backward of the convolutional and dense layers against torch's: same numbers in, float32.

python -m benchmarks.ops.bench_conv --work nextitnet caser dense --threads 2

Ours work on packed rows: causal_conv_block_forward, causal_conv_block_backward, caser_forward, caser_backward,
dense_forward, dense_backward. torch has the same layers as its users write them: Conv1d over sequences padded to the
longest, Conv2d with max_pool1d, Linear; all gradients, also of the inputs. "of floor" is the share of the measured
float32 matrix product rate, counting multiplications that a result needs (no padding; behind a maximum one position).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import harness
from recsys_fast.blocks.base import Block, PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.caser import CaserConv
from recsys_fast.blocks.conv import CausalConv
from recsys_fast.blocks.dense import Dense

LENGTHS = {
    "lengths like Beauty's": np.minimum(50, 3 + np.random.default_rng(0).geometric(0.17, 256)),
    "50 items each": np.full(64, 50),
}


def ours(block: Block, x: Any, lengths: Any, n_threads: int) -> Callable[[], object]:
    """Return a forward and backward pass."""
    parameters = ParameterSet({"it": block}, Runtime("cpu", n_threads))
    parameters.initialise(np.random.default_rng(0))
    batch = PackedBatch(np.cumsum([0, *lengths], dtype=np.int64), training=True)
    dy = np.ones_like(block.forward(x, batch))

    def work() -> None:
        block.forward(x, batch)
        block.backward(dy, batch)

    return work


def theirs(module: Any, x: Any) -> Callable[[], object]:
    """Return a forward and backward pass of a torch module."""
    import torch

    rows = torch.tensor(x, requires_grad=True)
    dy = torch.ones_like(module(rows))

    def work() -> None:
        module.zero_grad(set_to_none=True)
        rows.grad = None
        module(rows).backward(dy)

    return work


def torch_conv(d: int, kernel_size: int, dilation: int) -> Any:
    """Return NextItNet's block over (batch, length, d), as a torch module."""
    import torch

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolutions = torch.nn.ModuleList(
                torch.nn.Conv1d(d, d, kernel_size, dilation=places) for places in (dilation, 2 * dilation)
            )
            self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(d, eps=1e-8) for _ in range(2))

        def forward(self, x: Any) -> Any:
            h = x
            for layer, norm, dilated in zip(self.convolutions, self.norms, (dilation, 2 * dilation), strict=True):
                ahead = torch.nn.functional.pad(h.transpose(1, 2), ((kernel_size - 1) * dilated, 0))
                h = torch.relu(norm(layer(ahead).transpose(1, 2)))
            return x + h

    return Block()


def torch_caser(window: int, d: int, n_horizontal: int, n_vertical: int) -> Any:
    """Return Caser's convolutions over (batch, window, d), as a torch module."""
    import torch

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.horizontal = torch.nn.ModuleList(
                torch.nn.Conv2d(1, n_horizontal, (height, d)) for height in range(1, window + 1)
            )
            self.vertical = torch.nn.Conv2d(1, n_vertical, (window, 1))

        def forward(self, x: Any) -> Any:
            image = x[:, None]
            parts = []
            for layer in self.horizontal:
                scores = torch.relu(layer(image).squeeze(3))
                parts.append(torch.nn.functional.max_pool1d(scores, scores.shape[2]).squeeze(2))
            return torch.cat([*parts, self.vertical(image).reshape(len(x), -1)], 1)

    return Block()


def has_torch(n_threads: int) -> bool:
    """Set torch's threads; say whether it is there."""
    try:
        import torch
    except ImportError:
        return False
    torch.set_num_threads(n_threads)
    return True


def compare(
    report: harness.Report, title: str, flops: float, options: Any, own: Callable[[], object], peer: Any
) -> None:
    """Time both in turns, and report how far ours is from the rate of matrix products."""
    contestants = {"recsys_fast": own}
    if has_torch(options.threads):
        contestants["torch"] = peer()
    figures = harness.alternate(contestants, options.turns, warm_up=3)
    figures["recsys_fast"].floor_seconds = flops / options.peak / 1e9
    report.add(title, figures)


def nextitnet(report: harness.Report, options: Any) -> None:
    """Residual blocks of NextItNet."""
    d, taps = 64, 3
    for name, lengths in LENGTHS.items():
        for dilation in (1, 4):
            x = np.random.default_rng(0).standard_normal((int(lengths.sum()), d)).astype(np.float32)
            wide = np.zeros((len(lengths), int(lengths.max()), d), np.float32)
            for s, (row, length) in enumerate(zip(np.cumsum([0, *lengths]), lengths, strict=False)):
                wide[s, :length] = x[row : row + length]
            shifts = [tap * places for tap in range(taps) for places in (dilation, 2 * dilation)]
            pairs = sum(float(np.maximum(0, lengths - shift).sum()) for shift in shifts)
            work = ours(CausalConv(d, taps, dilation), x, lengths, options.threads)
            title = f"NextItNet block, d 64, dilation {dilation}, {len(lengths)} sequences, {name}"

            def peer(wide: Any = wide, dilation: int = dilation) -> Any:
                return theirs(torch_conv(d, taps, dilation), wide)

            compare(report, title, 6.0 * d * d * pairs, options, work, peer)


def caser(report: harness.Report, options: Any) -> None:
    """Caser's convolutions at their published sizes."""
    n, window, d, n_h, n_v = 512, 5, 50, 16, 4
    x = np.random.default_rng(0).standard_normal((n, window, d)).astype(np.float32)
    work = ours(CaserConv(d, window, n_h, n_v), x.reshape(-1, d), np.full(n, window), options.threads)
    heights = np.arange(1, window + 1)
    forward = 2.0 * n_h * d * float((heights * (window + 1 - heights)).sum())
    backward = 4.0 * n_h * d * float(heights.sum())
    flops = n * (forward + backward + 6.0 * n_v * window * d)
    compare(
        report, f"Caser, d {d}, window {window}, {n} windows", flops, options, work,
        lambda: theirs(torch_caser(window, d, n_h, n_v), x),
    )  # fmt: skip


def dense(report: harness.Report, options: Any) -> None:
    """Caser's head, and a wider layer."""
    for n, d_in, d_out in ((512, 280, 50), (2048, 256, 128)):
        x = np.random.default_rng(0).standard_normal((n, d_in)).astype(np.float32)
        work = ours(Dense(d_in, d_out, "relu"), x, [n], options.threads)

        def peer(x: Any = x, d_in: int = d_in, d_out: int = d_out) -> Any:
            import torch

            return theirs(torch.nn.Sequential(torch.nn.Linear(d_in, d_out), torch.nn.ReLU()), x)

        compare(report, f"dense, {n} rows, {d_in} to {d_out}, relu", 6.0 * n * d_in * d_out, options, work, peer)


WORK = {"nextitnet": nextitnet, "caser": caser, "dense": dense}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json")
    options = parser.parse_args()
    options.peak = harness.sgemm_peak(options.threads)
    print(f"matrix product rate {options.peak:.0f} GFLOP/s on {options.threads} thread(s)")
    report = harness.Report(options)
    for name in options.work:
        WORK[name](report, options)
    report.finish()


if __name__ == "__main__":
    main()
