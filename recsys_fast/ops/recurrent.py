"""Recurrent layers over packed sequences, forward and backward: GRU, LSTM and the plain cell."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_record
from recsys_fast.ops.block_arguments import I64, NO_ROWS, as_choice, as_result, as_row_ptr, as_rows, as_vector, new_rows
from recsys_fast.ops.topk import as_count

F32 = NDArray[np.float32]

ACTIVATIONS = ("tanh", "relu")


class RecurrentStates(NamedTuple):
    """What a forward pass returns; the backward pass takes it as it is.

    Attributes:
        h: ``(n_rows, H) float32``, the state after every row, which is also the layer's output.
        c: ``(n_rows, H) float32``, the LSTM's cell state after every row; ``(0, 0)`` for the other cells.
        gates: ``(n_rows, 4H) float32``. GRU: r, z, n, m; LSTM: i, f, g, o. ``(0, 0)`` for the plain cell, and where
            they were not kept.
    """

    h: F32
    c: F32
    gates: F32


class RecurrentGradients(NamedTuple):
    """What a backward pass returns: the gradients of the arguments of those names, float32 and of their shapes.

    Without biases ``db_x`` and ``db_h`` are what they would be. ``dh0`` is that of a state of zeros where none was
    given.
    """

    dx: F32
    dh0: F32
    dw_x: F32
    dw_h: F32
    db_x: F32
    db_h: F32


class _Layer(NamedTuple):
    """The checked arguments that forward and backward share, in the order of the flat signature."""

    x: F32
    h0: F32
    row_ptr: I64
    w_x: F32
    w_h: F32


def _layer(
    n_gates: int, x: ArrayLike, row_ptr: ArrayLike, w_x: ArrayLike, w_h: ArrayLike, h0: ArrayLike | None
) -> _Layer:
    """Check what forward and backward share; ``n_gates`` is the width of the weights in units of H."""
    backend.place("auto", x=x, row_ptr=row_ptr, w_x=w_x, w_h=w_h, h0=h0)  # all of them in one place
    rows, from_x, from_h = as_rows(x, "x"), as_rows(w_x, "w_x"), as_rows(w_h, "w_h")
    n_hidden, width = from_h.shape
    if n_hidden == 0 or width != n_gates * n_hidden:
        raise ValueError(message("shape of w_h", from_h.shape, f"(H, {n_gates} H) with H at least 1"))
    if rows.shape[1] == 0 or from_x.shape != (rows.shape[1], width):
        raise ValueError(message("shape of w_x", from_x.shape, f"({rows.shape[1]}, {width}), a row per column of x"))
    pointers = as_row_ptr(row_ptr, len(rows))
    state = NO_ROWS if h0 is None else as_rows(h0, "h0")
    expected = (len(pointers) - 1, 2 * n_hidden if n_gates == 4 else n_hidden)
    if h0 is not None and state.shape != expected:
        raise ValueError(message("shape of h0", state.shape, f"{expected}, a row per sequence"))
    return _Layer(rows, state, pointers, from_x, from_h)


def _forward(
    cell: str, layer: _Layer, b_x: ArrayLike | None, b_h: ArrayLike | None, keep: bool, out: F32 | None, device: str,
    n_threads: int | None, *hyper: int,
) -> RecurrentStates:  # fmt: skip
    device = backend.place(device, x=layer.x, b_x=b_x, b_h=b_h, out=out)
    n_rows, (n_hidden, width) = len(layer.x), layer.w_h.shape
    biases = as_vector(b_x, "b_x", width), as_vector(b_h, "b_h", width)
    h = as_result(out, (n_rows, n_hidden), layer.x, (*layer, *biases))
    c = new_rows(layer.x, n_rows, n_hidden) if cell == "lstm" else NO_ROWS
    gates = new_rows(layer.x, n_rows, 4 * n_hidden) if keep and cell != "rnn" else NO_ROWS
    written = {"gru": (h, gates), "lstm": (h, c, gates), "rnn": (h,)}[cell]
    operation = getattr(backend.get(device), f"{cell}_forward")
    operation(*written, *layer, *biases, *hyper, backend.resolve_threads(n_threads))
    return RecurrentStates(h, c, gates)


def _backward(
    cell: str, layer: _Layer, dh: ArrayLike, states: RecurrentStates, truncate: int, device: str,
    n_threads: int | None, *hyper: int,
) -> RecurrentGradients:  # fmt: skip
    device = backend.place(device, x=layer.x, dh=dh)
    n_rows, (n_hidden, width) = len(layer.x), layer.w_h.shape
    gradient = as_rows(dh, "dh", (n_rows, n_hidden))
    as_record(states, "states", RecurrentStates, f"what {cell}_forward returned")
    saved = {"gru": ("h", "gates"), "lstm": ("h", "c", "gates"), "rnn": ("h",)}[cell]
    arrays = []
    for name in saved:
        shape = (n_rows, 4 * n_hidden if name == "gates" else n_hidden)
        arrays.append(as_rows(getattr(states, name), f"states.{name}", shape, check_finite=False))
    n_sequences = len(layer.row_ptr) - 1
    shapes: dict[str, Any] = {
        "dx": layer.x.shape,
        "dh0": (n_sequences, 2 * n_hidden if cell == "lstm" else n_hidden),
        "dw_x": layer.w_x.shape,
        "dw_h": layer.w_h.shape,
        "db_x": (width,),
        "db_h": (width,),
    }
    out = RecurrentGradients(**{name: new_rows(layer.x, *shape) for name, shape in shapes.items()})
    operation = getattr(backend.get(device), f"{cell}_backward")
    cut = as_count(truncate, "truncate", 0)
    operation(*out, gradient, *arrays, *layer, *hyper, cut, backend.resolve_threads(n_threads))
    return out


def gru_forward(
    x: ArrayLike,
    row_ptr: ArrayLike,
    w_x: ArrayLike,
    w_h: ArrayLike,
    *,
    b_x: ArrayLike | None = None,
    b_h: ArrayLike | None = None,
    h0: ArrayLike | None = None,
    keep: bool = True,
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> RecurrentStates:
    """Run a GRU along every sequence (Cho et al. 2014, with the reset gate behind the product as in cuDNN and torch).

    With a = x_t w_x + b_x and s = h_{t-1} w_h + b_h, each cut into three parts of H columns,

        r = sigmoid(a_1 + s_1),  z = sigmoid(a_2 + s_2),  m = s_3,  n = tanh(a_3 + r m),  h_t = (1 - z) n + z h_{t-1}.

    Args:
        x: ``(n_rows, d)``, the sequences' rows one behind the other; converted to contiguous float32 where it is not.
        row_ptr: ``(n_sequences + 1,)`` integers; sequence s has rows ``row_ptr[s]`` to ``row_ptr[s + 1]``.
        w_x: ``(d, 3H)``.
        w_h: ``(H, 3H)``.
        b_x: ``(3H,)``; None for none.
        b_h: ``(3H,)``; None for none.
        h0: ``(n_sequences, H)``, the states before the first rows; None for zeros.
        keep: whether a backward pass will follow.
        out: h, ``(n_rows, H) float32``, C-contiguous, to write into; None for a new array.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Returns:
        h and gates; ``states.h[row_ptr[s + 1] - 1]`` is the state after sequence s.

    Raises:
        TypeError: an argument holds no real numbers, ``row_ptr`` no integers, or ``out`` is not float32.
        ValueError: shapes that disagree, values that are not finite, a damaged ``row_ptr``, or ``out`` shares memory
            with an input.
    """
    return _forward("gru", _layer(3, x, row_ptr, w_x, w_h, h0), b_x, b_h, keep, out, device, n_threads)


def gru_backward(
    dh: ArrayLike,
    states: RecurrentStates,
    x: ArrayLike,
    row_ptr: ArrayLike,
    w_x: ArrayLike,
    w_h: ArrayLike,
    *,
    h0: ArrayLike | None = None,
    truncate: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> RecurrentGradients:
    """Return the gradients of everything that ``gru_forward`` took, by backpropagation through time.

    Args:
        dh: ``(n_rows, H)``, the gradient of ``states.h``.
        states: what ``gru_forward`` returned for the same arguments, with ``keep``.
        x: as given to ``gru_forward``.
        row_ptr: likewise.
        w_x: likewise.
        w_h: likewise.
        h0: likewise.
        truncate: k > 0: no gradient flows from the place p of a sequence to p - 1 where p is a multiple of k
            (truncated backpropagation, Williams & Peng 1990); 0 for none such. To ``h0`` it always flows.
        device: backend.
        n_threads: number of threads; the sums over rows have a fixed tree, so the result does not depend on it.

    Returns:
        The gradients by name.

    Raises:
        TypeError: an argument holds no real numbers, ``row_ptr`` no integers, ``truncate`` is no int, or ``states`` is
            no ``RecurrentStates``.
        ValueError: shapes that disagree, values that are not finite, a damaged ``row_ptr``, negative ``truncate``, or
            a forward pass without ``keep``.
    """
    return _backward("gru", _layer(3, x, row_ptr, w_x, w_h, h0), dh, states, truncate, device, n_threads)


def lstm_forward(
    x: ArrayLike,
    row_ptr: ArrayLike,
    w_x: ArrayLike,
    w_h: ArrayLike,
    *,
    b_x: ArrayLike | None = None,
    b_h: ArrayLike | None = None,
    h0: ArrayLike | None = None,
    keep: bool = True,
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> RecurrentStates:
    """Run an LSTM along every sequence (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    With a = x_t w_x + b_x + h_{t-1} w_h + b_h cut into four parts of H columns,

        i, f, o = sigmoid(a_1), sigmoid(a_2), sigmoid(a_4),  g = tanh(a_3),  c_t = f c_{t-1} + i g,  h_t = o tanh(c_t).

    Arguments, errors: as ``gru_forward``, but weights ``(d, 4H)`` and ``(H, 4H)``, biases ``(4H,)``, and ``h0``
    ``(n_sequences, 2H)``, h and c side by side.

    Returns:
        h, c and gates.
    """
    return _forward("lstm", _layer(4, x, row_ptr, w_x, w_h, h0), b_x, b_h, keep, out, device, n_threads)


def lstm_backward(
    dh: ArrayLike,
    states: RecurrentStates,
    x: ArrayLike,
    row_ptr: ArrayLike,
    w_x: ArrayLike,
    w_h: ArrayLike,
    *,
    h0: ArrayLike | None = None,
    truncate: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> RecurrentGradients:
    """Return the gradients of everything that ``lstm_forward`` took; arguments and errors as ``gru_backward``."""
    return _backward("lstm", _layer(4, x, row_ptr, w_x, w_h, h0), dh, states, truncate, device, n_threads)


def rnn_forward(
    x: ArrayLike,
    row_ptr: ArrayLike,
    w_x: ArrayLike,
    w_h: ArrayLike,
    *,
    b_x: ArrayLike | None = None,
    b_h: ArrayLike | None = None,
    h0: ArrayLike | None = None,
    activation: str = "tanh",
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> RecurrentStates:
    """Run the plain recurrent cell (Elman 1990) along every sequence: h_t = f(x_t w_x + b_x + h_{t-1} w_h + b_h).

    Arguments, errors: as ``gru_forward``, but weights ``(d, H)`` and ``(H, H)`` and biases ``(H,)``; ``activation`` f
    is "tanh" or "relu".

    Returns:
        h.
    """
    layer, kind = _layer(1, x, row_ptr, w_x, w_h, h0), as_choice(activation, "activation", ACTIVATIONS)
    return _forward("rnn", layer, b_x, b_h, False, out, device, n_threads, kind)


def rnn_backward(
    dh: ArrayLike,
    states: RecurrentStates,
    x: ArrayLike,
    row_ptr: ArrayLike,
    w_x: ArrayLike,
    w_h: ArrayLike,
    *,
    h0: ArrayLike | None = None,
    activation: str = "tanh",
    truncate: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> RecurrentGradients:
    """Return the gradients of everything that ``rnn_forward`` took; arguments and errors as ``gru_backward``."""
    layer, kind = _layer(1, x, row_ptr, w_x, w_h, h0), as_choice(activation, "activation", ACTIVATIONS)
    return _backward("rnn", layer, dh, states, truncate, device, n_threads, kind)
