"""A recurrent layer: GRU, LSTM or the plain cell."""

from __future__ import annotations

import numpy as np

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter
from recsys_fast.ops.block_arguments import as_choice
from recsys_fast.ops.recurrent import ACTIVATIONS

_N_GATES = {"gru": 3, "lstm": 4, "rnn": 1}


class Recurrent(Block):
    """One layer along every sequence, from a state of zeros or a given one; models stack several.

    Args:
        d_in: width of the inputs.
        d: number of units H, the width of the outputs.
        cell: "gru", "lstm" or "rnn".
        activation: of the plain cell: "tanh" or "relu".
        bias: whether the two products have biases.
        truncate: k > 0 cuts backpropagation between the places p - 1 and p of a sequence where p is a multiple of k.
        scale: initial weights and biases are uniform between -scale and scale; None for 1/sqrt(H), as in torch.
        bias_scale: the same of the biases; None for ``scale``.
        first: whether nobody wants the gradient of the inputs; ``backward`` then returns an empty array.

    Attributes:
        state_width: columns of a state: H, or 2H for the LSTM (h and c side by side).
        state: ``(n_sequences, state_width)``, the states before the first rows of the next ``forward``; None for zeros.
            Batches that continue their sequences set it to ``final_state()`` of the batch before.
        want_d_state: whether ``backward`` computes the gradient of ``state``; False for states that are carried over
            from the batch before, at which backpropagation stops.
        d_state: that gradient, likewise; None where it was not computed.
    """

    def __init__(
        self,
        d_in: int,
        d: int,
        cell: str = "gru",
        activation: str = "tanh",
        *,
        bias: bool = True,
        truncate: int = 0,
        scale: float | None = None,
        bias_scale: float | None = None,
        first: bool = False,
    ) -> None:
        as_choice(cell, "cell", tuple(_N_GATES))
        kind = as_choice(activation, "activation", ACTIVATIONS)
        self.d_in, self.d, self.cell, self.bias, self.truncate = d_in, d, cell, bias, truncate
        self.first = first
        self.scale = d**-0.5 if scale is None else scale
        self.bias_scale = self.scale if bias_scale is None else bias_scale
        self.state_width = 2 * d if cell == "lstm" else d
        self.state: Array | None = None
        self.want_d_state = False
        self.d_state: Array | None = None
        self._hyper = (kind,) if cell == "rnn" else ()

    def parameters(self) -> list[Parameter]:
        """Return w_x ``(d_in, G H)``, w_h ``(H, G H)`` and the biases b_x and b_h ``(G H,)``; G gates."""
        width = _N_GATES[self.cell] * self.d
        specs = [
            Parameter("w_x", (self.d_in, width), "uniform", self.scale),
            Parameter("w_h", (self.d, width), "uniform", self.scale),
        ]
        if self.bias:
            specs += [Parameter(name, (width,), "uniform", self.bias_scale) for name in ("b_x", "b_h")]
        return specs

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return the states h after every row, ``(n_rows, H)``."""
        self._x, self._batch = x, batch
        self._h = self._take("h", len(x), self.d)
        c = self._take("c", len(x) if self.cell == "lstm" else 0, self.d)
        gates = self._take("gates", len(x) if batch.training else 0, 4 * self.d)
        self._states = {"gru": (self._h, gates), "lstm": (self._h, c, gates), "rnn": (self._h,)}[self.cell]
        self._run_forward(self._states, x, self._before(), batch.row_ptr)
        return self._h

    def _run_forward(self, states: tuple[Array, ...], x: Array, h0: Array, row_ptr: Array) -> None:
        weights = self.values["w_x"], self.values["w_h"]
        biases = (self.values["b_x"], self.values["b_h"]) if self.bias else (self._take("no_bias", 0),) * 2
        operation = f"{self.cell}_forward"
        self.runtime.run(operation, *states, x, h0, row_ptr, *weights, *biases, *self._hyper)

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the inputs of the last ``forward``, and write those of the parameters."""
        dx, h0 = self._take("dx", 0 if self.first else len(self._x), self.d_in), self._before()
        wanted = self.want_d_state and self.state is not None
        dh0 = self._take("dh0", len(h0) if wanted else 0, self.state_width)
        self.d_state = dh0 if wanted else None
        gradients = self.gradients["w_x"], self.gradients["w_h"]
        biases = (self.gradients["b_x"], self.gradients["b_h"]) if self.bias else (self._take("no_bias", 0),) * 2
        weights = self.values["w_x"], self.values["w_h"]
        self.runtime.run(
            f"{self.cell}_backward",
            *(dx, dh0, *gradients, *biases, dy, *self._states, self._x, h0, batch.row_ptr, *weights, *self._hyper),
            self.truncate,
        )
        return dx

    def _before(self) -> Array:
        return self._take("zero_state", 0, self.state_width) if self.state is None else self.state

    def final_state(self) -> Array:
        """Return the states after the last rows of the last ``forward``, ``(n_sequences, state_width)``.

        An empty sequence keeps the state it had. The array is the caller's.
        """
        row_ptr = self._batch.cuts
        last, filled = row_ptr[1:] - 1, row_ptr[1:] > row_ptr[:-1]
        out = np.zeros((len(last), self.state_width), self.runtime.dtype)
        if self.state is not None:
            out[:] = self.state
        out[filled, : self.d] = self._h[last[filled]]
        if self.cell == "lstm":
            out[filled, self.d :] = self._states[1][last[filled]]
        return out

    def row_states(self) -> list[Array]:
        """Return the states after every row of the last ``forward``: h ``(n_rows, H)`` and the LSTM's c; no copies."""
        return list(self._states[: self.state_width // self.d])

    def start(self) -> Array:
        """Return the state ``(1, state_width)`` before a sequence's first row, to be given to ``step``."""
        return np.zeros((1, self.state_width), self.runtime.dtype)

    def step(self, state: Array, x: Array) -> Array:
        """Return the states ``(n, state_width)`` after one more row ``(n, d_in)`` each; what they begin with, h
        ``(n, H)``, is the output. Neither the arguments nor what ``forward`` kept change."""
        out = np.empty((2, len(x), self.d), self.runtime.dtype)
        gates = self._take("no_gates", 0, 4 * self.d)
        states = {"gru": (out[0], gates), "lstm": (out[0], out[1], gates), "rnn": (out[0],)}[self.cell]
        self._run_forward(states, x, state, np.arange(len(x) + 1))
        return np.concatenate(out, axis=1) if self.cell == "lstm" else out[0]
