"""Multi-head self-attention within every sequence, with layer norm, dropout and residual."""

from __future__ import annotations

from dataclasses import dataclass

from recsys_fast.blocks.base import Array, PackedBatch, Parameter
from recsys_fast.blocks.layer_norm import NormedBlock, glorot, norm_number
from recsys_fast.errors import message

MAX_LENGTH = 4096  # rows of a sequence


@dataclass
class AttentionState:
    """Keys and values of the rows of one sequence so far.

    Attributes:
        keys, values: ``(capacity, d)``, of which the first ``n`` rows are there.
        n: number of rows.
    """

    keys: Array
    values: Array
    n: int = 0


class SelfAttention(NormedBlock):
    """y = x + D(f(x, x)), f(q, x) = softmax(q w_q (x w_k)^T / sqrt(d / n_heads)) x w_v w_out (Vaswani et al. 2017).

    Args:
        d: width, a multiple of ``n_heads``.
        n_heads: number of heads.
        causal: whether a row sees itself and earlier rows only.
        norm: "none"; "pre": x + D(f(LN x, LN x)); "post": LN(x + D(f(x, x))); "query": LN x + D(f(LN x, x)), as in
            SASRec (Kang, McAuley 2018).
        dropout: rate of the output.
        attention_dropout: rate of the probabilities; None for ``dropout``.
        projection: whether there is a w_out.
        eps: of the layer norm.
        bias: whether all products have one.
        init: "uniform" or "normal", see ``Parameter``.
        scale: of ``init``; None for Glorot and Bengio's (2010).
    """

    def __init__(
        self,
        d: int,
        n_heads: int = 1,
        *,
        causal: bool = True,
        norm: str = "pre",
        dropout: float = 0.0,
        attention_dropout: float | None = None,
        projection: bool = True,
        eps: float = 1e-5,
        bias: bool = True,
        init: str = "uniform",
        scale: float | None = None,
    ) -> None:
        if n_heads < 1 or d % n_heads:
            raise ValueError(message("n_heads", n_heads, f"a divisor of the width {d}"))
        self.d, self.n_heads, self.causal, self.norm = d, n_heads, causal, norm_number(norm)
        self.dropout = dropout
        self.attention_dropout = dropout if attention_dropout is None else attention_dropout
        self.projection, self.eps, self.bias = projection, eps, bias
        self.init, self.scale = init, glorot(init, d, d) if scale is None else scale

    def parameters(self) -> list[Parameter]:
        """Return the parameters, in the order in which they are stored."""
        own = [Parameter("w_qkv", (self.d, 3 * self.d), self.init, self.scale)]
        own += [Parameter("b_qkv", (3 * self.d,))] if self.bias else []
        own += [Parameter("w_out", (self.d, self.d), self.init, self.scale)] if self.projection else []
        own += [Parameter("b_out", (self.d,))] if self.projection and self.bias else []
        own += [Parameter("gamma", (self.d,), "ones"), Parameter("beta", (self.d,))] if self.norm else []
        return own

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return the outputs ``(n_rows, d)`` for inputs of the same shape."""
        n, v = len(x), self._value
        self._x, self._qkv, self._context = x, self._take("qkv", n, 3 * self.d), self._take("context", n, self.d)
        self._lse = self._take("lse", n, self.n_heads)
        self._stats, self._mid = self._kept_by_norm(self.norm, n, self.d)
        y = self._take("y", n, self.d)
        rates = (self.attention_dropout, self.dropout) if batch.training else (0.0, 0.0)
        self.runtime.run(
            "attention_block_forward", y, self._qkv, self._context, self._lse, self._stats, self._mid, x,
            batch.row_ptr, v("gamma"), v("beta"), v("w_qkv"), v("b_qkv"), v("w_out", 2), v("b_out"), self.n_heads,
            self.causal, self.norm, self.eps, *rates, batch.seed, batch.step, self.site,
        )  # fmt: skip
        return y

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the inputs of the last ``forward``, and write those of the parameters."""
        dx, v, g = self._take("dx", *dy.shape), self._value, self._gradient
        rates = (self.attention_dropout, self.dropout) if batch.training else (0.0, 0.0)
        self.runtime.run(
            "attention_block_backward", dx, g("gamma"), g("beta"), g("w_qkv"), g("b_qkv"), g("w_out", 2), g("b_out"),
            dy, self._qkv, self._context, self._lse, self._stats, self._mid, self._x, batch.row_ptr, v("gamma"),
            v("beta"), v("w_qkv"), v("w_out", 2), self.n_heads, self.causal, self.norm, *rates, batch.seed, batch.step,
            self.site,
        )  # fmt: skip
        return dx

    def start(self, capacity: int, first: int = 0, last: int = 0) -> AttentionState:
        """Return the state of a sequence of at most ``capacity`` rows, after rows ``first`` to ``last`` of the last
        ``forward``, which belong to one sequence.

        Raises:
            ValueError: the block is not causal, so that one more row changes all others.
        """
        if not self.causal:
            raise ValueError(message("causal", False, "True", "compute the whole sequence again"))
        state = AttentionState(self._fresh(capacity, self.d), self._fresh(capacity, self.d), last - first)
        if state.n:
            state.keys[: state.n] = self._qkv[first:last, self.d : 2 * self.d]
            state.values[: state.n] = self._qkv[first:last, 2 * self.d :]
        return state

    def step(self, state: AttentionState, x: Array) -> Array:
        """Return the output ``(d,)`` for one more row ``x`` of a sequence, which sees itself and the rows before.

        Raises:
            ValueError: the state is full.
        """
        if state.n >= len(state.keys):
            raise ValueError(message("state", f"{state.n} rows", f"fewer than its capacity {len(state.keys)}"))
        y, v = self._fresh(self.d), self._value
        self.runtime.run(
            "attention_block_step", y, state.keys, state.values, x, state.n, v("gamma"), v("beta"), v("w_qkv"),
            v("b_qkv"), v("w_out", 2), v("b_out"), self.n_heads, self.norm, self.eps,
        )  # fmt: skip
        state.n += 1
        return y
