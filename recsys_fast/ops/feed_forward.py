"""The feed-forward block of a network, forward and backward."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_record
from recsys_fast.ops.block_arguments import (
    ACTIVATIONS,
    NO_ROWS,
    as_choice,
    as_eps,
    as_masks,
    as_norm,
    as_rate,
    as_result,
    as_rows,
    as_vector,
    new_rows,
)

F32 = NDArray[np.float32]


class FeedForwardWeights(NamedTuple):
    """Parameters of the block, or their gradients; None: there is none (an array of length 0 among gradients).

    Attributes:
        w1: ``(d, h) float32``.
        b1: ``(h,) float32`` or None.
        w2: ``(h, d) float32``.
        b2: ``(d,) float32`` or None.
        gamma, beta: ``(d,) float32``, of the layer norm; None where there is no norm.
    """

    w1: ArrayLike
    b1: ArrayLike | None
    w2: ArrayLike
    b2: ArrayLike | None
    gamma: ArrayLike | None = None
    beta: ArrayLike | None = None


class FeedForwardSaved(NamedTuple):
    """What the backward pass needs: hidden ``(T, h)``, stats ``(T, 2)`` with a norm, mid ``(T, d)`` with one behind."""

    hidden: F32
    stats: F32
    mid: F32


class _Weights(NamedTuple):
    w1: F32
    b1: F32
    w2: F32
    b2: F32
    norm: int
    gamma: F32
    beta: F32


def _as_weights(weights: FeedForwardWeights, norm: str, d: int) -> _Weights:
    w1 = as_rows(weights.w1, "w1", (d, None))
    h = w1.shape[1]
    w2 = as_rows(weights.w2, "w2", (h, d))
    if h == 0 or d == 0:
        raise ValueError(message("shape of w1", w1.shape, "at least one row and column"))
    place = as_norm(norm, weights.gamma, weights.beta, d)
    return _Weights(w1, as_vector(weights.b1, "b1", h), w2, as_vector(weights.b2, "b2", d), *place)


def feed_forward_block_forward(
    x: ArrayLike,
    weights: FeedForwardWeights,
    *,
    activation: str = "relu",
    norm: str = "none",
    eps: float = 1e-5,
    dropout_hidden: float = 0.0,
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, FeedForwardSaved]:
    """Return y = x + D(f(x)), f(x) = D'(g(x w1 + b1)) w2 + b2, with the layer norm where ``norm`` says.

    Args:
        x: ``(T, d)``, converted to contiguous float32 where it is not; T may be 0.
        weights: parameters.
        activation: g: "relu", "gelu" (x Phi(x)), "gelu_tanh" (Hendrycks, Gimpel 2016), "tanh", "sigmoid", "identity".
        norm: "none"; "pre": x + D(f(LN x)); "post": LN(x + D(f(x))); "query": LN x + D(f(LN x)).
        eps: added to the layer norm's variances; above 0.
        dropout_hidden: rate of D', in [0, 1).
        dropout: rate of D, in [0, 1).
        seed: of the masks, which are a function of (seed, step, site, row, column).
        step: of the masks.
        site: number of the masks of D' in the step; those of D have the next.
        out: ``(T, d) float32``, C-contiguous, to write into; None for a new array.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Returns:
        y ``(T, d) float32``, and what the backward pass needs.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: shapes that do not fit, numbers that are not finite or out of range, or ``out`` shares memory with
            an input.
    """
    as_record(weights, "weights", FeedForwardWeights, "parameters by name")
    device = backend.place(device, x=x, **weights._asdict(), out=out)
    rows = as_rows(x, "x")
    n, d = rows.shape
    w, kind = _as_weights(weights, norm, d), as_choice(activation, "activation", ACTIVATIONS)
    y = as_result(out, rows.shape, rows, (rows, w.w1, w.b1, w.w2, w.b2, w.gamma, w.beta))
    stats = new_rows(rows, n, 2) if w.norm else NO_ROWS
    mid = new_rows(rows, n, d) if norm == "post" else NO_ROWS
    saved = FeedForwardSaved(new_rows(rows, n, w.w1.shape[1]), stats, mid)
    backend.get(device).feed_forward_block_forward(
        y, *saved, rows, w.gamma, w.beta, w.w1, w.b1, w.w2, w.b2, kind, w.norm, as_eps(eps),
        as_rate(dropout_hidden, "dropout_hidden"), as_rate(dropout, "dropout"), *as_masks(seed, step, site),
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return y, saved


def feed_forward_block_backward(
    dy: ArrayLike,
    x: ArrayLike,
    weights: FeedForwardWeights,
    saved: FeedForwardSaved,
    *,
    activation: str = "relu",
    norm: str = "none",
    dropout_hidden: float = 0.0,
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, FeedForwardWeights]:
    """Return the gradients of ``feed_forward_block_forward``'s x and parameters for that of y.

    Args:
        dy: ``(T, d)``.
        x: ``(T, d)``, as in the forward pass, like all that follows.
        weights: parameters.
        saved: what the forward pass returned.
        activation, norm, dropout_hidden, dropout, seed, step, site, device, n_threads: see there.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: shapes that do not fit, numbers that are not finite or out of range.
    """
    as_record(weights, "weights", FeedForwardWeights, "parameters by name")
    device = backend.place(device, dy=dy, x=x, **weights._asdict())
    rows = as_rows(x, "x")
    n, d = rows.shape
    w, kind = _as_weights(weights, norm, d), as_choice(activation, "activation", ACTIVATIONS)
    given, h = as_rows(dy, "dy", (n, d)), w.w1.shape[1]
    as_record(saved, "saved", FeedForwardSaved, "the second result of feed_forward_block_forward")
    hidden = as_rows(saved.hidden, "saved.hidden", (n, h))
    stats = as_rows(saved.stats, "saved.stats", (n, 2)) if w.norm else NO_ROWS
    mid = as_rows(saved.mid, "saved.mid", (n, d)) if norm == "post" else NO_ROWS
    dx, parameters = new_rows(rows, n, d), (w.w1, w.b1, w.w2, w.b2, w.gamma, w.beta)
    dw1, db1, dw2, db2, dgamma, dbeta = (new_rows(rows, *array.shape) for array in parameters)
    backend.get(device).feed_forward_block_backward(
        dx, dgamma, dbeta, dw1, db1, dw2, db2, given, hidden, stats, mid, rows, w.gamma, w.beta, w.w1, w.w2,
        kind, w.norm, as_rate(dropout_hidden, "dropout_hidden"), as_rate(dropout, "dropout"),
        *as_masks(seed, step, site), backend.resolve_threads(n_threads),
    )  # fmt: skip
    return dx, FeedForwardWeights(dw1, db1, dw2, db2, dgamma, dbeta)
