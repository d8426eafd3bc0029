"""Losses over item scores and of predictions, with their gradients; no matrix of rows x items ever exists.

A row t has an output h_t, a target and other candidates; s_j = h_t . e_j + b_j - log q_j is the score of candidate j,
p the target, N the candidates other than it, n their number, sigma(x) = 1 / (1 + e^-x), w_j the softmax of s over N.

==========  ==========================================================================================================
kind        loss of a row
==========  ==========================================================================================================
softmax     log sum_j e^(s_j) - s_p over all candidates; with log q that of sampled softmax (Bengio & Senecal 2008)
bce         -log sigma(s_p)^beta - sum_N log sigma(-s_j); beta < 1 is that of gBCE (Petrov & Macdonald 2023)
bpr         -(1/n) sum_N log sigma(s_p - s_j) (Rendle et al. 2009; Hidasi et al. 2016)
bpr_max     -log sum_N w_j sigma(s_p - s_j) + regularization sum_N w_j s_j^2 (Hidasi & Karatzoglou 2018)
top1        (1/n) sum_N [sigma(s_j - s_p) + sigma(s_j^2)] (Hidasi et al. 2016)
top1_max    sum_N w_j [sigma(s_j - s_p) + sigma(s_j^2)] (Hidasi & Karatzoglou 2018)
==========  ==========================================================================================================
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import NotSupportedError, message
from recsys_fast.ops.arguments import I32, as_indices, as_number, on_host
from recsys_fast.ops.block_arguments import F32, as_choice, as_rows, as_vector
from recsys_fast.ops.gram import home

KINDS = ("softmax", "bce", "bpr", "bpr_max", "top1", "top1_max")
COMPUTE = ("float32", "bfloat16")
REGRESSION = ("squared", "smooth_l1")
PREDICTION = (*REGRESSION, "logistic")
_NO_IDS = np.empty(0, np.int32)


class ScoreGradients(NamedTuple):
    """A loss and its gradients.

    Attributes:
        loss: sum over the rows, each times its weight.
        dh: ``(T, d) float32``, 0 for rows without a target.
        drows: ``(n, d) float32``, of the table or the candidates.
        dbias: ``(n,) float32``; of length 0 without biases.
    """

    loss: float
    dh: F32
    drows: F32
    dbias: F32


class RowGradients(NamedTuple):
    """A loss with negatives of each row's own, and its gradients.

    Attributes:
        loss: sum over the rows, each times its weight.
        dh: ``(T, d) float32``.
        coef: ``(T, 1 + k) float32``, d loss / d score of target and negatives: the gradient of row i of the table is
            the sum of ``coef[t, j] h[t]`` wherever i is, that of its bias the sum of ``coef[t, j]``.
    """

    loss: float
    dh: F32
    coef: F32


def compute_number(compute: str, device: str) -> int:
    """Return the place of ``compute`` in ``COMPUTE``.

    Raises:
        ValueError: another word.
        NotSupportedError: bfloat16, and backend or processor do not multiply it.
    """
    number = as_choice(compute, "compute", COMPUTE)
    if number and not backend.get(device).has_bfloat16():
        mend = 'it takes device="cuda", or device="cpu" on a processor with AVX512-BF16; use compute="float32"'
        raise NotSupportedError(message("compute='bfloat16' is not available", mend=mend))
    return number


def _places(array: ArrayLike, name: str, shape: tuple[int, ...], n: int) -> I32:
    """Return ids from -1 (none) to n - 1 as int32; raises ValueError for another shape, and as ``as_indices``."""
    given = on_host(array)
    if given.shape != shape:
        raise ValueError(message(f"shape of {name}", given.shape, str(shape)))
    return as_indices(given, name, -1, n)


def _like(array: F32) -> F32:
    """Return an array of the same shape where the other one lies."""
    made: F32 = home(array).empty(array.shape, np.float32)
    return made


def _pair(h: ArrayLike, table: ArrayLike, name: str) -> tuple[F32, F32]:
    left, right = as_rows(h, "h"), as_rows(table, name)
    if left.shape[1] != right.shape[1] or left.shape[1] == 0:
        raise ValueError(message(f"widths of h and {name}", f"{left.shape[1]} and {right.shape[1]}", "one, at least 1"))
    return left, right


def softmax_loss(
    h: ArrayLike,
    table: ArrayLike,
    targets: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    scale: float = 1.0,
    compute: str = "float32",
    device: str = "auto",
    n_threads: int | None = None,
) -> ScoreGradients:
    """Full softmax cross-entropy over all items, sum_t w_t (log sum_j e^(s_tj) - s_t,target), and all its gradients.

    Scores of any size are fine. Rows without a target cost nothing.

    Args:
        h: ``(T, d)`` outputs.
        table: ``(n, d)`` items, n at least 1.
        targets: ``(T,)`` items, -1 for a row without loss.
        bias: ``(n,)`` added to the scores; None for none.
        weights: ``(T,)`` of the rows; None for 1.
        scale: factor of all gradients, not of the loss.
        compute: "float32", or "bfloat16": operands of the products rounded to 8 bits of mantissa, sums in float32
            (relative error of the gradients 0.05 to 1 %, more where scores exceed 10; of the loss below 0.3 %, over
            many rows 0.01 %), up to twice as fast on CPUs with AVX512-BF16; tensor cores with device="cuda".
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Raises:
        TypeError: an array of the wrong kind of numbers.
        ValueError: shapes that do not fit, or numbers that are not finite.
        IndexError: a target out of range.
        NotSupportedError: bfloat16 where backend or processor do not have it.
    """
    device = backend.place(device, h=h, table=table, bias=bias, weights=weights)
    rows, items = _pair(h, table, "table")
    if not len(items):
        raise ValueError(message("rows of table", 0, "at least 1"))
    wanted = _places(targets, "targets", (len(rows),), len(items))
    b, w = as_vector(bias, "bias", len(items)), as_vector(weights, "weights", len(rows))
    number = compute_number(compute, device)
    out = _like(rows), _like(items), home(rows).empty(b.shape, np.float32)
    loss = backend.get(device).softmax_loss(
        *out, rows, items, b, wanted, w, as_number(scale, "scale", None), number, backend.resolve_threads(n_threads)
    )
    return ScoreGradients(loss, *out)


def shared_loss(
    h: ArrayLike,
    candidates: ArrayLike,
    positive: ArrayLike,
    *,
    kind: str = "softmax",
    ids: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    log_q: ArrayLike | None = None,
    beta: float = 1.0,
    mask_equal: bool = False,
    regularization: float = 0.0,
    weights: ArrayLike | None = None,
    scale: float = 1.0,
    compute: str = "float32",
    device: str = "auto",
    n_threads: int | None = None,
) -> ScoreGradients:
    """Loss of rows that all share the same candidates, sampled or the targets of the others; formulas above.

    Args:
        h: ``(T, d)`` outputs.
        candidates: ``(C, d)`` rows of a table, C at least 1; all but a row's own are its negatives.
        positive: ``(T,)`` which of the candidates is the target, -1 for a row without loss.
        kind: loss.
        ids: ``(C,)`` items of the candidates, for ``mask_equal``.
        bias: ``(C,)`` added to the scores; None for none.
        log_q: ``(C,)`` logarithms of the candidates' (expected) frequencies, subtracted from the scores; None for 0.
        beta: exponent of the target's sigmoid in "bce".
        mask_equal: leave out candidates that are the same item as the row's target.
        regularization: of the scores in "bpr_max", 0 or more.
        weights: ``(T,)`` of the rows; None for 1.
        scale: factor of all gradients, not of the loss.
        compute: as in ``softmax_loss``.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Raises:
        TypeError: an array of the wrong kind of numbers.
        ValueError: shapes that do not fit, ``mask_equal`` without ids, or numbers that are not finite.
        IndexError: ``positive`` out of range.
        NotSupportedError: bfloat16 where backend or processor do not have it.
    """
    device = backend.place(device, h=h, candidates=candidates, bias=bias, log_q=log_q, weights=weights)
    rows, cand = _pair(h, candidates, "candidates")
    number = as_choice(kind, "kind", KINDS)
    if not len(cand):
        raise ValueError(message("rows of candidates", 0, "at least 1"))
    if mask_equal and ids is None:
        raise ValueError(message("mask_equal without ids", mend="pass the items of the candidates"))
    at = _places(positive, "positive", (len(rows),), len(cand))
    items = _NO_IDS if ids is None else _places(ids, "ids", (len(cand),), 2**31 - 1)
    b, q, w = (as_vector(a, name, n) for a, name, n in (
        (bias, "bias", len(cand)), (log_q, "log_q", len(cand)), (weights, "weights", len(rows)),
    ))  # fmt: skip
    product = compute_number(compute, device)
    out = _like(rows), _like(cand), home(rows).empty(b.shape, np.float32)
    loss = backend.get(device).shared_loss(
        *out, rows, cand, b, at, items, q, number, as_number(beta, "beta"), int(mask_equal),
        as_number(regularization, "regularization"), w, as_number(scale, "scale", None), product,
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return ScoreGradients(loss, *out)


def row_loss(
    h: ArrayLike,
    table: ArrayLike,
    targets: ArrayLike,
    negatives: ArrayLike,
    *,
    kind: str = "bce",
    bias: ArrayLike | None = None,
    log_q: ArrayLike | None = None,
    beta: float = 1.0,
    regularization: float = 0.0,
    weights: ArrayLike | None = None,
    scale: float = 1.0,
    device: str = "auto",
    n_threads: int | None = None,
) -> RowGradients:
    """Loss of rows with negatives of their own; formulas above.

    Args:
        h: ``(T, d)`` outputs.
        table: ``(n, d)`` items.
        targets: ``(T,)`` items, -1 for a row without loss.
        negatives: ``(T, k)`` items, k at least 0; -1 for one that is left out.
        kind: loss.
        bias: ``(n,)`` added to the scores; None for none.
        log_q: ``(n,)`` logarithms of the items' (expected) frequencies among candidates; None for 0.
        beta: exponent of the target's sigmoid in "bce".
        regularization: of the scores in "bpr_max", 0 or more.
        weights: ``(T,)`` of the rows; None for 1.
        scale: factor of all gradients, not of the loss.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Raises:
        TypeError: an array of the wrong kind of numbers.
        ValueError: shapes that do not fit, or numbers that are not finite.
        IndexError: an item out of range.
    """
    device = backend.place(device, h=h, table=table, bias=bias, log_q=log_q, weights=weights)
    rows, items = _pair(h, table, "table")
    number = as_choice(kind, "kind", KINDS)
    wanted = _places(targets, "targets", (len(rows),), len(items))
    drawn = on_host(negatives)
    if drawn.ndim != 2:
        raise ValueError(message("shape of negatives", drawn.shape, "(T, k)"))
    drawn = _places(drawn, "negatives", (len(rows), drawn.shape[1]), len(items))
    b, q, w = (as_vector(a, name, n) for a, name, n in (
        (bias, "bias", len(items)), (log_q, "log_q", len(items)), (weights, "weights", len(rows)),
    ))  # fmt: skip
    dh, coef = _like(rows), home(rows).empty((len(rows), 1 + drawn.shape[1]), np.float32)
    loss = backend.get(device).row_loss(
        dh, coef, rows, items, b, wanted, drawn, q, number, as_number(beta, "beta"),
        as_number(regularization, "regularization"), w, as_number(scale, "scale", None),
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return RowGradients(loss, dh, coef)


def regression_loss(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    kind: str = "squared",
    weights: ArrayLike | None = None,
    scale: float = 1.0,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[float, F32]:
    """Return sum_t w_t l_t and its gradient; with e = prediction - target:

    "squared": l = e^2. "smooth_l1": l = e^2 / 2 where |e| < 1, |e| - 1/2 elsewhere (Huber 1964). "logistic": l =
    log(1 + e^prediction) - target prediction, the cross-entropy of target, 0 to 1, and sigma(prediction).

    Args:
        prediction: ``(T,)``.
        target: ``(T,)``.
        kind: loss.
        weights: ``(T,)``; None for 1.
        scale: factor of the gradient, not of the loss.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Returns:
        loss and d loss / d prediction, ``(T,) float32``.

    Raises:
        TypeError: not real numbers.
        ValueError: shapes that do not fit, or numbers that are not finite.
    """
    number = as_choice(kind, "kind", PREDICTION)
    device = backend.place(device, prediction=prediction, target=target, weights=weights)
    n = len(prediction) if on_device(prediction) else len(np.atleast_1d(np.asarray(prediction)))  # type: ignore[arg-type]
    x, y, w = as_vector(prediction, "prediction", n), as_vector(target, "target", n), as_vector(weights, "weights", n)
    out = _like(x)
    factor, threads = as_number(scale, "scale", None), backend.resolve_threads(n_threads)
    return float(backend.get(device).regression_loss(out, x, y, w, number, factor, threads)), out
