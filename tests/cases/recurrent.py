"""Cases of the recurrent layers, for their tests and benchmarks, and the layers written down once more."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast import backend

Array = NDArray[Any]

CELLS = {"gru": (3, ()), "lstm": (4, ()), "rnn": (1, (0,)), "relu": (1, (1,))}  # gates, activation of the flat call
SAVED = {"gru": ("h", "gates"), "lstm": ("h", "c", "gates"), "rnn": ("h",), "relu": ("h",)}
GRADIENTS = ("dx", "dh0", "dw_x", "dw_h", "db_x", "db_h")


class Problem(NamedTuple):
    """The inputs of a forward pass in the order of the flat signature, and the gradient of its output."""

    x: Array
    h0: Array
    row_ptr: NDArray[np.int64]
    w_x: Array
    w_h: Array
    b_x: Array
    b_h: Array
    dh: Array


class Case(NamedTuple):
    """A batch by the lengths of its sequences."""

    name: str
    lengths: tuple[int, ...]
    d: int
    n_hidden: int
    state: bool = False
    bias: bool = True
    truncate: int = 0

    def make(self, cell: str, seed: int = 0, dtype: Any = np.float32) -> Problem:
        """Return the arrays; the same numbers for the same seed, whatever the dtype."""
        rng = np.random.default_rng([seed, len(self.lengths), self.d, self.n_hidden])
        n_gates = CELLS[cell][0]
        row_ptr = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
        n, width, wide = int(row_ptr[-1]), n_gates * self.n_hidden, 2 if cell == "lstm" else 1
        shapes = {
            "x": (n, self.d),
            "h0": (len(self.lengths), wide * self.n_hidden) if self.state else (0, wide * self.n_hidden),
            "w_x": (self.d, width),
            "w_h": (self.n_hidden, width),
            "b_x": (width if self.bias else 0,),
            "b_h": (width if self.bias else 0,),
            "dh": (n, self.n_hidden),
        }
        scales = {"x": 1.0, "h0": 0.5, "w_x": self.d**-0.5, "w_h": self.n_hidden**-0.5, "b_x": 0.3, "b_h": 0.3, "dh": 1}
        made = {name: (scales[name] * rng.standard_normal(shape)).astype("f") for name, shape in shapes.items()}
        return Problem(row_ptr=row_ptr, **{name: array.astype(dtype) for name, array in made.items()})


def _ragged(n: int, mean: float, longest: int) -> tuple[int, ...]:
    lengths = np.random.default_rng(n).geometric(1 / mean, n)
    return tuple(int(length) for length in np.minimum(lengths, longest))


CASES = [
    Case("one row", (1,), 3, 4),
    Case("width 1", (4, 2, 3), 1, 1),
    Case("no sequence", (), 3, 5),
    Case("no row", (0, 0), 3, 5, state=True),
    Case("empty between", (0, 3, 0, 0, 5, 1, 0), 5, 7, state=True),
    Case("without bias", (3, 9, 2), 6, 16, bias=False),
    Case("from a state", (2, 7, 7, 1), 16, 17, state=True),
    Case("truncated", (9, 4, 1, 23, 8), 9, 20, state=True, truncate=4),
    Case("every place cut", (6, 2), 4, 4, truncate=1),
    Case("long", (300, 5, 170), 10, 12, truncate=50),
    Case("one event each", (1,) * 70, 33, 48, state=True),
    Case("ragged", _ragged(60, 7, 50), 50, 64),
    Case("even", (40,) * 20, 24, 100, state=True),
    Case("many", _ragged(400, 4, 30), 12, 10),
]


def forward(device: str, cell: str, problem: Problem, n_threads: int = 1) -> dict[str, Array]:
    """Run the flat forward operation and return what it saved, by name."""
    n, n_hidden, dtype = len(problem.x), len(problem.w_h), problem.x.dtype
    saved = {name: np.full((n, (4 if name == "gates" else 1) * n_hidden), np.nan, dtype) for name in SAVED[cell]}
    operation = getattr(backend.get(device), f"{'rnn' if cell == 'relu' else cell}_forward")
    operation(*saved.values(), *problem[:-1], *CELLS[cell][1], n_threads)
    return saved


def backward(
    device: str, cell: str, problem: Problem, saved: dict[str, Array], truncate: int = 0, n_threads: int = 1
) -> dict[str, Array]:
    """Run the flat backward operation and return all gradients, by name."""
    inputs = (problem.x, problem.h0, problem.w_x, problem.w_h, problem.b_x, problem.b_h)
    out = {name: np.full_like(array, np.nan) for name, array in zip(GRADIENTS, inputs, strict=True)}
    operation = getattr(backend.get(device), f"{'rnn' if cell == 'relu' else cell}_backward")
    arguments = (problem.dh, *saved.values(), *problem[:-3], *CELLS[cell][1], truncate, n_threads)
    operation(*out.values(), *arguments)
    return out


def written_down(cell: str, problem: Problem) -> tuple[Array, Array]:
    """Return h and the LSTM's c (or h again) in float64, row by row, as the formulas say."""
    x, h0, row_ptr, w_x, w_h, b_x, b_h, _ = problem
    n_hidden = len(w_h)
    h, c = np.zeros((2, len(x), n_hidden))

    def sigmoid(a: Array) -> Array:
        return 1 / (1 + np.exp(-a))

    for s in range(len(row_ptr) - 1):
        state = h0[s].astype(float) if len(h0) else np.zeros(2 * n_hidden)
        for t in range(row_ptr[s], row_ptr[s + 1]):
            a = np.split(x[t].astype(float) @ w_x + (b_x if len(b_x) else 0), w_x.shape[1] // n_hidden)
            u = np.split(state[:n_hidden] @ w_h.astype(float) + (b_h if len(b_h) else 0), len(a))
            if cell == "gru":
                z, n = sigmoid(a[1] + u[1]), np.tanh(a[2] + sigmoid(a[0] + u[0]) * u[2])
                h[t] = (1 - z) * n + z * state[:n_hidden]
            elif cell == "lstm":
                i, f, g, o = (
                    squash(p + q) for squash, p, q in zip((sigmoid, sigmoid, np.tanh, sigmoid), a, u, strict=True)
                )
                c[t] = f * state[n_hidden:] + i * g
                h[t] = o * np.tanh(c[t])
            else:
                h[t] = np.tanh(a[0] + u[0]) if cell == "rnn" else np.maximum(a[0] + u[0], 0)
            state = np.concatenate([h[t], c[t]])
    return h, c
