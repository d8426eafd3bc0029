"""The blocks of networks, forward and backward: share of the FMA peak, beside the best torch version of the same block.

python -m benchmarks.ops.bench_blocks --threads 1 2 --shapes short long

Operations: attention_block_forward, attention_block_backward, feed_forward_block_forward, feed_forward_block_backward,
layer_norm_forward, layer_norm_backward. A family joins by a function that yields its ``Work`` for a shape, in FAMILIES.
Torch is timed where it is installed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys_fast.blocks.attention import SelfAttention
from recsys_fast.blocks.base import Block, PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.feed_forward import FeedForward
from recsys_fast.blocks.layer_norm import LayerNorm

try:
    import torch
except ImportError:
    torch = None

# Sequences of one batch: lengths as in Beauty (mean 6), and as in an ML-1M-shaped set cut at 200.
SHAPES = {
    "short": np.minimum(np.random.default_rng(0).geometric(1 / 6.0, 128), 49),
    "long": np.clip(np.random.default_rng(1).normal(165, 40, 128).astype(int), 20, 200),
}


@dataclass
class Work:
    """One block on one shape.

    Attributes:
        name: what is printed.
        forward, backward: ours, on ``n_threads``.
        flops: of the forward pass, counted without padding and, where causal, without masked pairs; the backward pass
            has twice as many.
        peer: makes torch's forward pass and returns it; its backward pass is torch.autograd's.
    """

    name: str
    forward: Callable[[], object]
    backward: Callable[[], object]
    flops: float
    peer: Callable[[], Callable[[], Any]] | None = None


def connected(block: Block, n_threads: int) -> Block:
    """Return the block with parameters of a network's size."""
    parameters = ParameterSet({"block": block}, Runtime("cpu", n_threads))
    parameters.initialise(np.random.default_rng(0))
    return block


def block_work(name: str, block: Block, d: int, lengths: Any, flops: float, n_threads: int, peer: Any) -> Work:
    """Return a block with inputs, in training."""
    connected(block, n_threads)
    batch = PackedBatch(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), seed=1, step=1, training=True)
    x = np.random.default_rng(1).standard_normal((batch.n_rows, d)).astype(np.float32)
    return Work(name, lambda: block.forward(x, batch), lambda: block.backward(x, batch), flops, peer)


def attention_work(lengths: Any, d: int, n_heads: int, dropout: float, n_threads: int) -> Iterator[Work]:
    n, pairs = int(np.sum(lengths)), float(np.sum(lengths * (lengths + 1) / 2))
    block = SelfAttention(d, n_heads, norm="pre", dropout=dropout)

    def peer() -> Callable[[], Any]:
        length = int(np.max(lengths))  # torch pads to the longest of the batch
        x = torch.randn(len(lengths), length, d, requires_grad=True)
        norm, qkv, out = torch.nn.LayerNorm(d), torch.nn.Linear(d, 3 * d), torch.nn.Linear(d, d)

        def forward() -> Any:
            q, k, v = qkv(norm(x)).view(len(lengths), length, 3, n_heads, d // n_heads).permute(2, 0, 3, 1, 4)
            heads = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
            mixed = out(heads.transpose(1, 2).reshape(len(lengths), length, d))
            return x + torch.nn.functional.dropout(mixed, dropout)

        return forward

    yield block_work("attention", block, d, lengths, 8.0 * n * d * d + 4.0 * pairs * d, n_threads, peer)


def feed_forward_work(lengths: Any, d: int, n_heads: int, dropout: float, n_threads: int) -> Iterator[Work]:
    n = int(np.sum(lengths))
    block = FeedForward(d, d, norm="pre", dropout=dropout)

    def peer() -> Callable[[], Any]:
        x = torch.randn(n, d, requires_grad=True)  # rows alone: torch need not pad here
        norm, first, second = torch.nn.LayerNorm(d), torch.nn.Linear(d, d), torch.nn.Linear(d, d)

        def forward() -> Any:
            inner = torch.nn.functional.dropout(torch.relu(first(norm(x))), dropout)
            return x + torch.nn.functional.dropout(second(inner), dropout)

        return forward

    yield block_work("feed-forward", block, d, lengths, 4.0 * n * d * d, n_threads, peer)


def layer_norm_work(lengths: Any, d: int, n_heads: int, dropout: float, n_threads: int) -> Iterator[Work]:
    n = int(np.sum(lengths))

    def peer() -> Callable[[], Any]:
        x, norm = torch.randn(n, d, requires_grad=True), torch.nn.LayerNorm(d)
        return lambda: norm(x)

    yield block_work("layer norm", LayerNorm(d), d, lengths, 8.0 * n * d, n_threads, peer)


FAMILIES: dict[str, Callable[..., Iterator[Work]]] = {
    "attention": attention_work,
    "feed_forward": feed_forward_work,
    "layer_norm": layer_norm_work,
}


def time_calls(calls: list[Callable[[], object]], turns: int, clock: Callable[[], float]) -> list[float]:
    """Return each call's median time over turns that alternate, each of about 5 ms."""
    repeats = []
    for call in calls:
        call()
        start = time.perf_counter()
        call()
        repeats.append(max(1, int(0.005 / (time.perf_counter() - start))))
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(turns):
        for at, call in enumerate(calls):
            start = clock()
            for _ in range(repeats[at]):
                call()
            seconds[at].append((clock() - start) / repeats[at])
    return [statistics.median(s) for s in seconds]


def fma_peak(n_threads: int, clock: Callable[[], float]) -> float:
    """Return the best rate of a product whose operands stay in the caches, in GFLOP/s."""
    from recsys_fast import ops

    x, q = np.ones((1 << 14, 256), np.float32), np.eye(256, dtype=np.float32)
    best = np.inf
    for _ in range(15):
        start = clock()
        ops.rows_rotate(x, q, n_threads=n_threads)
        best = min(best, clock() - start)
    return 2.0 * x.size * 256 / best / 1e9


def torch_calls(work: Work) -> list[Callable[[], object]]:
    """Return torch's forward pass, and forward with backward."""
    if torch is None or work.peer is None:
        return []
    forward = work.peer()
    gradient = torch.ones_like(forward())
    return [forward, lambda: forward().backward(gradient)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=sorted(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), default=list(SHAPES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--d", type=int, default=50)
    parser.add_argument("--n-heads", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.2, help="at 0 torch has a faster kernel for attention")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="least processor time instead of median time: one thread on a busy machine",
    )
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    for n_threads in options.threads:
        if torch is not None:
            torch.set_num_threads(n_threads)
        peak = fma_peak(n_threads, clock)
        setting = f"d {options.d}, {options.n_heads} heads, dropout {options.dropout}"
        print(f"{n_threads} threads, peak {peak:.0f} GFLOP/s, {setting}")
        for shape in options.shapes:
            for family in options.families:
                for work in FAMILIES[family](SHAPES[shape], options.d, options.n_heads, options.dropout, n_threads):
                    calls = [work.forward, work.backward, *torch_calls(work)]
                    forward, backward, *peer = time_calls(calls, options.turns, clock)
                    rates = work.flops / forward / 1e9, 2 * work.flops / backward / 1e9
                    line = f"  {shape + ', ' + work.name:<22}"
                    for name, seconds, rate in (("forward", forward, rates[0]), ("backward", backward, rates[1])):
                        line += f"{name}{seconds * 1e6:>9.1f} us{rate:>7.1f} GFLOP/s{100 * rate / peak:>5.0f} %   "
                    if peer:
                        line += f"torch forward {peer[0] / forward:.1f} x, both {peer[1] / (forward + backward):.1f} x"
                    print(line, flush=True)


if __name__ == "__main__":
    main()
