"""Cases of the attention, feed-forward and layer norm blocks, for their tests and benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.attention import SelfAttention
from recsys_fast.blocks.base import Block, PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.feed_forward import FeedForward
from recsys_fast.blocks.layer_norm import LayerNorm

Array = NDArray[Any]


class Case(NamedTuple):
    """A block and the lengths of the sequences that pass through it."""

    name: str
    make: Callable[[], Block]
    d: int
    lengths: tuple[int, ...]

    @property
    def steps(self) -> float:
        """What attention takes forward and back in whole tiles of 64 x 64 x 64, for tests on the emulated grid."""
        return 3.0 * sum((-(-n // 64) * 64) ** 2 * 64 for n in self.lengths)


class Pass(NamedTuple):
    """What comes out of a forward and a backward pass."""

    y: Array
    dx: Array
    gradients: Array


class Trial:
    """A case connected to a backend: parameters, inputs and gradients of the outputs, the same for every backend."""

    def __init__(self, case: Case, device: str, dtype: Any = np.float32, n_threads: int = 2) -> None:
        rng = np.random.default_rng([case.d, sum(case.lengths)])
        self.block = case.make()
        self.parameters = ParameterSet({"block": self.block}, Runtime(device, n_threads, dtype))
        self.parameters.initialise(rng)
        noise = 0.1 * rng.standard_normal(len(self.parameters.values))
        self.parameters.values[...] = np.float32(self.parameters.values + noise)
        row_ptr = np.concatenate([[0], np.cumsum(case.lengths)]).astype(np.int64)
        self.batch = PackedBatch(row_ptr, seed=3, step=5, training=True)
        self.x, self.dy = (rng.standard_normal((self.batch.n_rows, case.d), np.float32).astype(dtype) for _ in range(2))

    def run(self) -> Pass:
        """Return one pass, forward and back."""
        y = self.block.forward(self.x, self.batch).copy()
        dx = self.block.backward(self.dy, self.batch).copy()
        return Pass(y, dx, self.parameters.gradients.copy())

    def loss(self) -> float:
        """Return the sum of outputs times ``dy``, whose gradient ``run`` computes."""
        return float((self.block.forward(self.x, self.batch) * self.dy).sum())


RAGGED = (3, 0, 5, 1, 17, 0)
_SHORT = tuple(np.random.default_rng(0).poisson(6, 150).tolist())

ATTENTION = [
    Case("no norm", lambda: SelfAttention(6, 2, norm="none", dropout=0.3), 6, RAGGED),
    Case("pre", lambda: SelfAttention(50, 2, norm="pre", dropout=0.3), 50, RAGGED),
    Case("post, both directions", lambda: SelfAttention(50, 1, causal=False, norm="post", dropout=0.2), 50, RAGGED),
    Case("query", lambda: SelfAttention(32, 1, norm="query", dropout=0.2, attention_dropout=0.0), 32, RAGGED),
    Case("no projection", lambda: SelfAttention(7, 1, norm="query", projection=False, bias=False), 7, RAGGED),
    Case("one column", lambda: SelfAttention(1, 1, norm="none"), 1, (2, 9)),
    Case("three heads of 8", lambda: SelfAttention(24, 3, norm="pre", attention_dropout=0.4), 24, (70, 3, 200, 64, 65)),
    Case("several key tiles", lambda: SelfAttention(64, 1, causal=False, dropout=0.5), 64, (150, 1, 129)),
    Case("width 100", lambda: SelfAttention(100, 4, norm="post", dropout=0.1), 100, (40, 30, 1, 90)),
    Case("batch of short ones", lambda: SelfAttention(50, 1, norm="pre", dropout=0.2), 50, _SHORT),
    Case("no rows", lambda: SelfAttention(6, 2), 6, (0, 0)),
    Case("no sequences", lambda: SelfAttention(6, 2), 6, ()),
]

FEED_FORWARD = [
    Case("no norm", lambda: FeedForward(6, 9, norm="none", dropout=0.3), 6, RAGGED),
    Case("pre", lambda: FeedForward(50, 67, norm="pre", dropout=0.3, bias=False), 50, RAGGED),
    Case("post", lambda: FeedForward(50, 200, activation="gelu", norm="post", dropout=0.2), 50, RAGGED),
    Case("query", lambda: FeedForward(32, norm="query", dropout=0.2, dropout_hidden=0.0), 32, RAGGED),
    Case("tanh of GELU", lambda: FeedForward(7, 33, activation="gelu_tanh"), 7, RAGGED),
    Case("tanh", lambda: FeedForward(7, 33, activation="tanh"), 7, RAGGED),
    Case("sigmoid", lambda: FeedForward(7, 33, activation="sigmoid"), 7, RAGGED),
    Case("identity", lambda: FeedForward(1, 1, activation="identity", norm="none"), 1, RAGGED),
    Case("batch of short ones", lambda: FeedForward(50, 50, norm="pre", dropout=0.2), 50, _SHORT),
    Case("no rows", lambda: FeedForward(6, 2), 6, (0,)),
]

LAYER_NORM = [
    Case("odd", lambda: LayerNorm(7), 7, RAGGED),
    Case("width 50", lambda: LayerNorm(50, eps=1e-8), 50, _SHORT),
    Case("width 64", lambda: LayerNorm(64), 64, (700,)),
    Case("no rows", lambda: LayerNorm(6), 6, ()),
]

CASES = {"attention": ATTENTION, "feed_forward": FEED_FORWARD, "layer_norm": LAYER_NORM}
