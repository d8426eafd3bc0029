"""The self-attention block of a network over ragged sequences: forward, backward, and one row at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_integer, as_record, check_apart
from recsys_fast.ops.block_arguments import (
    NO_ROWS,
    as_eps,
    as_masks,
    as_norm,
    as_rate,
    as_result,
    as_row_ptr,
    as_rows,
    as_vector,
    new_rows,
)
from recsys_fast.ops.gram import as_writable, home

F32 = NDArray[np.float32]

MAX_LENGTH = 4096  # rows of a sequence


class AttentionWeights(NamedTuple):
    """Parameters of the block, or their gradients; None: there is none (an array of length 0 among gradients).

    Attributes:
        w_qkv: ``(d, 3 d) float32``; the columns of queries, keys, values, and in each those of head after head.
        b_qkv: ``(3 d,) float32`` or None.
        w_out: ``(d, d) float32`` or None: the heads' results are taken as they are.
        b_out: ``(d,) float32`` or None.
        gamma, beta: ``(d,) float32``, of the layer norm; None where there is no norm.
    """

    w_qkv: ArrayLike
    b_qkv: ArrayLike | None = None
    w_out: ArrayLike | None = None
    b_out: ArrayLike | None = None
    gamma: ArrayLike | None = None
    beta: ArrayLike | None = None


class AttentionSaved(NamedTuple):
    """What the backward pass needs.

    Attributes:
        qkv: ``(T, 3 d)``, queries, keys, values.
        context: ``(T, d)``, the heads' results.
        lse: ``(T, n_heads)``, log of the sum of the exponentials of a query's scores.
        stats: ``(T, 2)`` with a norm, mean and 1 / deviation.
        mid: ``(T, d)`` with a norm behind the residual, what it was made from.
    """

    qkv: F32
    context: F32
    lse: F32
    stats: F32
    mid: F32


class _Weights(NamedTuple):
    w_qkv: F32
    b_qkv: F32
    w_out: F32
    b_out: F32
    norm: int
    gamma: F32
    beta: F32

    def arrays(self) -> tuple[F32, ...]:
        return (self.w_qkv, self.b_qkv, self.w_out, self.b_out, self.gamma, self.beta)


def _as_weights(weights: AttentionWeights, norm: str, d: int, n_heads: int) -> _Weights:
    w_qkv = as_rows(weights.w_qkv, "w_qkv", (d, 3 * d))
    w_out = NO_ROWS if weights.w_out is None else as_rows(weights.w_out, "w_out", (d, d))
    if weights.w_out is None and weights.b_out is not None:
        raise ValueError(message("b_out without w_out", mend="pass both, or neither"))
    n_heads = as_integer(n_heads, "n_heads")
    if d == 0 or n_heads < 1 or d % n_heads:
        raise ValueError(message("n_heads", n_heads, f"a divisor of the width {d}"))
    b_qkv, b_out = as_vector(weights.b_qkv, "b_qkv", 3 * d), as_vector(weights.b_out, "b_out", d)
    return _Weights(w_qkv, b_qkv, w_out, b_out, *as_norm(norm, weights.gamma, weights.beta, d))


def attention_block_forward(
    x: ArrayLike,
    row_ptr: ArrayLike,
    weights: AttentionWeights,
    *,
    n_heads: int = 1,
    causal: bool = True,
    norm: str = "none",
    eps: float = 1e-5,
    attention_dropout: float = 0.0,
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, AttentionSaved]:
    """Return y = x + D(f(x, x)) for multi-head attention f within every sequence (Vaswani et al. 2017).

    f(q, x) = D'(softmax(q w_q (x w_k)^T / sqrt(d / n_heads))) x w_v w_out, by heads, plus the biases. Probabilities
    exist for a tile at a time (Dao et al. 2022).

    Args:
        x: ``(T, d)``, converted to contiguous float32 where it is not: the rows of all sequences, one behind the other.
        row_ptr: ``(n_sequences + 1,)`` integers; sequence s has rows ``row_ptr[s]`` to ``row_ptr[s + 1]``, none to
            4,096.
        weights: parameters.
        n_heads: number of heads, a divisor of d.
        causal: whether a row sees itself and earlier rows only.
        norm: "none"; "pre": x + D(f(LN x, LN x)); "post": LN(x + D(f(x, x))); "query": LN x + D(f(LN x, x)), as in
            SASRec (Kang, McAuley 2018).
        eps: added to the layer norm's variances; above 0.
        attention_dropout: rate of D', in [0, 1).
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
    as_record(weights, "weights", AttentionWeights, "parameters by name")
    device = backend.place(device, x=x, row_ptr=row_ptr, **weights._asdict(), out=out)
    rows = as_rows(x, "x")
    n, d = rows.shape
    w, pointers = _as_weights(weights, norm, d, n_heads), as_row_ptr(row_ptr, n, MAX_LENGTH)
    y = as_result(out, rows.shape, rows, (rows, pointers, *w.arrays()))
    stats, mid = (n, 2) if w.norm else (0, 0), (n, d) if norm == "post" else (0, 0)
    shapes = ((n, 3 * d), (n, d), (n, n_heads), stats, mid)
    saved = AttentionSaved(*(new_rows(rows, *shape) for shape in shapes))
    backend.get(device).attention_block_forward(
        y, *saved, rows, pointers, w.gamma, w.beta, w.w_qkv, w.b_qkv, w.w_out, w.b_out, int(n_heads), bool(causal),
        w.norm, as_eps(eps), as_rate(attention_dropout, "attention_dropout"), as_rate(dropout, "dropout"),
        *as_masks(seed, step, site), backend.resolve_threads(n_threads),
    )  # fmt: skip
    return y, saved


def attention_block_backward(
    dy: ArrayLike,
    x: ArrayLike,
    row_ptr: ArrayLike,
    weights: AttentionWeights,
    saved: AttentionSaved,
    *,
    n_heads: int = 1,
    causal: bool = True,
    norm: str = "none",
    attention_dropout: float = 0.0,
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, AttentionWeights]:
    """Return the gradients of ``attention_block_forward``'s x and parameters for that of y.

    Args:
        dy: ``(T, d)``.
        x: ``(T, d)``, as in the forward pass, like all that follows.
        row_ptr: ``(n_sequences + 1,)`` integers.
        weights: parameters.
        saved: what the forward pass returned.
        n_heads, causal, norm, attention_dropout, dropout, seed, step, site, device, n_threads: see there.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: shapes that do not fit, numbers that are not finite or out of range.
    """
    as_record(weights, "weights", AttentionWeights, "parameters by name")
    device = backend.place(device, dy=dy, x=x, row_ptr=row_ptr, **weights._asdict())
    rows = as_rows(x, "x")
    n, d = rows.shape
    w, pointers = _as_weights(weights, norm, d, n_heads), as_row_ptr(row_ptr, n, MAX_LENGTH)
    given = as_rows(dy, "dy", (n, d))
    shapes = ((n, 3 * d), (n, d), (n, n_heads), (n, 2) if w.norm else None, (n, d) if norm == "post" else None)
    as_record(saved, "saved", AttentionSaved, "the second result of attention_block_forward")
    kept = [
        NO_ROWS if shape is None else as_rows(array, f"saved.{name}", shape)
        for array, name, shape in zip(saved, AttentionSaved._fields, shapes, strict=True)
    ]
    dx = new_rows(rows, n, d)
    dw_qkv, db_qkv, dw_out, db_out, dgamma, dbeta = (new_rows(rows, *array.shape) for array in w.arrays())
    backend.get(device).attention_block_backward(
        dx, dgamma, dbeta, dw_qkv, db_qkv, dw_out, db_out, given, *kept, rows, pointers, w.gamma, w.beta, w.w_qkv,
        w.w_out, int(n_heads), bool(causal), w.norm, as_rate(attention_dropout, "attention_dropout"),
        as_rate(dropout, "dropout"), *as_masks(seed, step, site), backend.resolve_threads(n_threads),
    )  # fmt: skip
    return dx, AttentionWeights(dw_qkv, db_qkv, dw_out, db_out, dgamma, dbeta)


def attention_block_step(
    x: ArrayLike,
    keys: F32,
    values: F32,
    place: int,
    weights: AttentionWeights,
    *,
    n_heads: int = 1,
    norm: str = "none",
    eps: float = 1e-5,
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Return the causal block's output for one more row of a sequence, and keep its key and value; nothing is dropped.

    Args:
        x: ``(d,)``, the row.
        keys: ``(P, d) float32``, C-contiguous, writable: those of rows 0 to place - 1; row ``place`` is written.
        values: ``(P, d) float32``, likewise.
        place: number of the row in its sequence, below P.
        weights: parameters.
        n_heads, norm, eps, device, n_threads: see ``attention_block_forward``.

    Returns:
        ``(d,) float32``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: shapes that do not fit, numbers that are not finite or out of range, caches that share memory with
            each other, the row or a parameter.
        IndexError: ``place`` is not below P.
    """
    as_record(weights, "weights", AttentionWeights, "parameters by name")
    device = backend.place(device, x=x, keys=keys, values=values, **weights._asdict())
    row = as_rows(home(x).asarray(x).reshape(1, -1), "x")
    d = row.shape[1]
    row = row.reshape(d)
    w = _as_weights(weights, norm, d, n_heads)
    caches = as_writable(keys, "keys"), as_writable(values, "values")
    check_apart(caches[0], "keys", caches[1], "values")
    if caches[0].shape[1] != d or caches[0].shape != caches[1].shape:
        got = f"{caches[0].shape} and {caches[1].shape}"
        raise ValueError(message("shapes of keys and values", got, f"both (P, {d})"))
    for name, cache in zip(("keys", "values"), caches, strict=True):
        for given in (row, *w.arrays()):
            check_apart(cache, name, given, "an input", f"pass {name}.copy() and keep it: it is changed in place")
    at = as_integer(place, "place")
    if not 0 <= at < len(caches[0]):
        raise IndexError(message("place", at, f"0 <= place < {len(caches[0])}"))
    y = new_rows(row, d)
    backend.get(device).attention_block_step(
        y, *caches, row, at, w.gamma, w.beta, w.w_qkv, w.b_qkv, w.w_out, w.b_out, int(n_heads), w.norm,
        as_eps(eps), backend.resolve_threads(n_threads),
    )  # fmt: skip
    return y
