"""Two layers on every row, with layer norm, dropout and residual."""

from __future__ import annotations

from typing import Any

from recsys_fast.blocks.base import Array, PackedBatch, Parameter
from recsys_fast.blocks.layer_norm import NormedBlock, glorot, norm_number
from recsys_fast.ops.block_arguments import ACTIVATIONS, as_choice


class FeedForward(NormedBlock):
    """y = x + D(f(x)), f(x) = D(g(x w1 + b1)) w2 + b2, with the layer norm where ``norm`` says.

    Args:
        d: width.
        hidden: width between the layers; None for d.
        activation: g: "relu", "gelu" (x Phi(x)), "gelu_tanh" (its approximation), "tanh", "sigmoid", "identity".
        norm: "none"; "pre": x + D(f(LN x)); "post": LN(x + D(f(x))); "query": LN x + D(f(LN x)), as in SASRec.
        dropout: rate behind the second layer.
        dropout_hidden: rate behind the activation; None for ``dropout``.
        eps: of the layer norm.
        bias: whether the layers have one.
        init: "uniform" or "normal", see ``Parameter``.
        scale: of ``init``; None for Glorot and Bengio's (2010).
    """

    def __init__(
        self,
        d: int,
        hidden: int | None = None,
        *,
        activation: str = "relu",
        norm: str = "pre",
        dropout: float = 0.0,
        dropout_hidden: float | None = None,
        eps: float = 1e-5,
        bias: bool = True,
        init: str = "uniform",
        scale: float | None = None,
    ) -> None:
        self.d, self.hidden, self.norm, self.eps, self.bias = d, hidden or d, norm_number(norm), eps, bias
        self.activation = as_choice(activation, "activation", ACTIVATIONS)
        self.dropout = dropout
        self.dropout_hidden = dropout if dropout_hidden is None else dropout_hidden
        self.init, self.scale = init, glorot(init, d, self.hidden) if scale is None else scale

    def parameters(self) -> list[Parameter]:
        """Return the parameters, in the order in which they are stored."""
        own = [Parameter("w1", (self.d, self.hidden), self.init, self.scale)]
        own += [Parameter("b1", (self.hidden,))] if self.bias else []
        own += [Parameter("w2", (self.hidden, self.d), self.init, self.scale)]
        own += [Parameter("b2", (self.d,))] if self.bias else []
        own += [Parameter("gamma", (self.d,), "ones"), Parameter("beta", (self.d,))] if self.norm else []
        return own

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return the outputs ``(n_rows, d)`` for inputs of the same shape."""
        n = len(x)
        self._x, self._hidden = x, self._take("hidden", n, self.hidden)
        self._stats, self._mid = self._kept_by_norm(self.norm, n, self.d)
        y = self._take("y", n, self.d)
        rates = (self.dropout_hidden, self.dropout) if batch.training else (0.0, 0.0)
        self._run(y, self._hidden, self._stats, self._mid, x, *rates, batch.seed, batch.step)
        return y

    def _run(self, y: Array, hidden: Array, stats: Array, mid: Array, x: Array, *random: Any) -> None:
        v = self._value
        self.runtime.run(
            "feed_forward_block_forward", y, hidden, stats, mid, x, v("gamma"), v("beta"), v("w1"), v("b1"), v("w2"),
            v("b2"), self.activation, self.norm, self.eps, *random, self.site,
        )  # fmt: skip

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the inputs of the last ``forward``, and write those of the parameters."""
        dx, v, g = self._take("dx", *dy.shape), self._value, self._gradient
        rates = (self.dropout_hidden, self.dropout) if batch.training else (0.0, 0.0)
        self.runtime.run(
            "feed_forward_block_backward", dx, g("gamma"), g("beta"), g("w1"), g("b1"), g("w2"), g("b2"), dy,
            self._hidden, self._stats, self._mid, self._x, v("gamma"), v("beta"), v("w1"), v("w2"), self.activation,
            self.norm, *rates, batch.seed, batch.step, self.site,
        )  # fmt: skip
        return dx

    def start(self, capacity: int) -> None:
        """Return the state before the first row of a sequence: there is none to keep."""

    def step(self, state: Any, x: Array) -> Array:
        """Return the output ``(d,)`` for one more row ``x`` of a sequence; nothing is dropped."""
        y, hidden, stats, mid = (self._fresh(1, n) for n in (self.d, self.hidden, 2, self.d))
        self._run(y, hidden, stats, mid, x.reshape(1, -1), 0.0, 0.0, 0, 0)
        row: Array = y[0]
        return row
