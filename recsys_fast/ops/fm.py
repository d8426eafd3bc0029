"""Factorization machines: an epoch of gradient descent, a sweep of alternating least squares, scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_number
from recsys_fast.ops.csr import Csr, as_csr, csr_transpose
from recsys_fast.ops.fm_data import EMPTY, Pairs, as_fields, as_labels, as_numbers
from recsys_fast.ops.gram import as_writable, home
from recsys_fast.ops.negatives import counter
from recsys_fast.ops.topk import as_count, as_factors

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

LOSSES = {"squared": 0, "logistic": 1, "bpr": 2}
OPTIMIZERS = {"sgd": 0, "adagrad": 1, "adam": 2}
_NO_STEPS = np.empty(0, np.int32)


def _place(device: str, n_threads: int | None) -> dict[str, Any]:
    """Return where to run, checked once, as keyword arguments of the operations that this one calls."""
    return {"device": backend.resolve_device(device), "n_threads": backend.resolve_threads(n_threads)}


def _code(value: Any, name: str, codes: dict[str, int]) -> int:
    if not isinstance(value, str) or value not in codes:
        raise ValueError(message(name, repr(value), "one of " + ", ".join(map(repr, codes))))
    return codes[value]


def _bias(bias: Any) -> F64:
    if not isinstance(bias, np.ndarray) or bias.dtype != np.float64 or bias.shape != (4,):
        raise TypeError(message("bias", type(bias).__name__, "a float64 array of shape (4,), changed in place"))
    if not bias.flags.writeable or not bias.flags.c_contiguous:
        raise ValueError(message("bias is read-only or not contiguous", mend="pass np.zeros(4) and keep it"))
    return bias


def _matrix(matrix: Any, table: NDArray[Any], place: dict[str, Any]) -> Csr:
    csr = as_csr(matrix, **place)
    if csr.n_cols != len(table):
        raise ValueError(message("columns of matrix", csr.n_cols, f"{len(table)}, one per row of table"))
    return csr


def _memory(table: F32, state: F32 | None, steps: I32 | None, optimizer: int) -> tuple[F32, I32]:
    """Return the optimizer's arrays after checking that they fit."""
    shape = (len(table), optimizer * table.shape[1])
    if state is None:
        if optimizer:
            raise ValueError(message("state is missing", mend=f"pass np.zeros({shape}, np.float32) and keep it"))
        state = np.empty(shape, np.float32)
    elif as_writable(state, "state").shape != shape:
        raise ValueError(message("shape of state", state.shape, f"{shape}"))
    if OPTIMIZERS["adam"] != optimizer:
        return state, _NO_STEPS
    given: Any = steps
    there = on_device(given)
    if not (there or isinstance(given, np.ndarray)) or given.dtype != np.int32 or given.shape != (len(table),):
        mend = f"pass np.zeros({len(table)}, np.int32) and keep it"
        raise TypeError(message("steps", getattr(given, "shape", None), f"int32 of shape ({len(table)},)", mend))
    if not there and not (given.flags.writeable and given.flags.c_contiguous):
        raise ValueError(message("steps is read-only or not contiguous"))
    return state, given


def fm_epoch(
    table: F32,
    bias: F64,
    matrix: Any,
    targets: ArrayLike,
    *,
    state: F32 | None = None,
    steps: I32 | None = None,
    weights: ArrayLike | None = None,
    groups: ArrayLike | Pairs | None = None,
    fields: ArrayLike | None = None,
    n_fields: int | None = None,
    loss: str = "squared",
    optimizer: str = "adagrad",
    learning_rate: float = 0.05,
    weight_regularization: float = 0.0,
    factor_regularization: float = 0.0,
    batch_size: int = 256,
    seed: int = 0,
    epoch: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> float:
    """Train a factorization machine on every row once, in place; return the sum of the losses.

    score(x) = bias + sum_j w_j x_j + sum_{j < i} v_j . v_i x_j x_i  (Rendle 2010)

    Rows come in an order drawn from (seed, epoch), in batches. A batch's gradients are taken from the values before it.
    Each feature that occurs in it then steps once, along the mean over its rows of the loss's derivative plus
    regularization times its values. With ``batch_size=1`` that is the stochastic gradient descent of libFM; with more,
    rare features step as they would there and frequent ones along a smoother direction. The bits do not depend on
    ``n_threads``.

    Args:
        table: ``(n_features, d + 1) float32``, C-contiguous: row j holds v_j and then w_j. Changed in place.
        bias: ``(4,) float64``: the bias, two numbers of the optimizer, its number of updates; in host memory, also
            where the others lie on a device. Changed in place; bpr, in which it cancels out, leaves it alone.
        matrix: ``(n_rows, n_features)`` sparse, anything that ``as_csr`` takes; empty rows train the bias only.
        targets: ``(n_rows,)`` numbers for squared; 0 and 1, or -1 and 1, for logistic and bpr.
        state: ``(n_features, s (d + 1)) float32``, what the optimizer remembers: s = 0, 1, 2 for sgd, adagrad, adam;
            begin with zeros. Changed in place.
        steps: ``(n_features,) int32`` updates of each feature, for adam; begin with zeros. Changed in place.
        weights: ``(n_rows,)`` weight of each row's loss, 0 or more; None for 1. Of a pair the positive row's counts.
        groups: bpr: ``(n_rows,)`` integers, or the ``Pairs`` made of them.
        fields: only of ``ffm_epoch``.
        n_fields: only of ``ffm_epoch``.
        loss: "squared", (score - y)^2 / 2; "logistic", log(1 + exp(-+score)); "bpr", -log sigmoid(score of a positive
            row - score of a negative row of the same group), one negative row drawn for each positive one.
        optimizer: "sgd"; "adagrad" (Duchi et al. 2011); "adam" (Kingma, Ba 2015; moments and step count of a feature
            rest while it does not occur).
        learning_rate: step width.
        weight_regularization: penalty of w, each time its feature steps; the bias has none.
        factor_regularization: penalty of v, likewise.
        batch_size: rows (pairs for bpr) per batch.
        seed: 0 to 2^64 - 1.
        epoch: 0 to 2^32 - 1, number of the pass.
        device: backend.
        n_threads: number of threads; None for every CPU granted.

    Returns:
        The sum over rows of weight times loss, each before its batch's step; not finite where training diverged.

    Raises:
        TypeError, ValueError: arrays of wrong types or shapes, targets of another kind, values out of range.
        IndexError: a row or group of ``Pairs``, or a field, out of range.

    References:
        Rendle: Factorization Machines, 2010, and Factorization Machines with libFM, 2012. Rendle et al.: BPR, 2009.
    """
    run = prepare_epoch(
        table, bias, matrix, targets, state=state, steps=steps, weights=weights, groups=groups, fields=fields,
        n_fields=n_fields, loss=loss, optimizer=optimizer, learning_rate=learning_rate,
        weight_regularization=weight_regularization, factor_regularization=factor_regularization,
        batch_size=batch_size, seed=seed, device=device, n_threads=n_threads,
    )  # fmt: skip
    return run(counter(epoch, "epoch", 32))


def prepare_epoch(
    table: F32, bias: F64, matrix: Any, targets: ArrayLike, *, state: F32 | None, steps: I32 | None,
    weights: ArrayLike | None, groups: ArrayLike | Pairs | None, fields: ArrayLike | None = None,
    n_fields: int | None = None, loss: str, optimizer: str, learning_rate: float, weight_regularization: float,
    factor_regularization: float, batch_size: int, seed: int, device: str, n_threads: int | None,
) -> Callable[[int], float]:  # fmt: skip
    """Check the arguments of ``fm_epoch`` once, and return a function of the epoch's number that runs it.

    What training only reads goes to a GPU once.
    """
    device = backend.place(device, table=table, state=state, steps=steps)
    rows, memory = as_writable(table, "table"), _bias(bias)
    place = _place(device, n_threads)
    csr = _matrix(matrix, rows, place)
    kind, method = _code(loss, "loss", LOSSES), _code(optimizer, "optimizer", OPTIMIZERS)
    aware: tuple[Any, ...] = ()
    if fields is not None:
        aware = as_fields(fields, len(rows), n_fields)
    n_vectors = aware[1] if aware else 1
    if rows.shape[1] < 1 or (rows.shape[1] - 1) % n_vectors:
        raise ValueError(message("columns of table", rows.shape[1], f"{n_vectors} d + 1"))
    moments, counts = _memory(rows, state, steps, method)
    pairs = Pairs.none()
    if loss == "bpr":
        if groups is None:
            raise ValueError(message("groups are missing", mend="pass the group of each row, such as its user"))
        y = as_labels(targets, "targets", csr.n_rows) if not isinstance(groups, Pairs) else EMPTY
        pairs = groups.checked(csr.n_rows) if isinstance(groups, Pairs) else Pairs.of(y, groups)
    else:
        y = (as_labels if loss == "logistic" else as_numbers)(targets, "targets", csr.n_rows)
    weight = EMPTY if weights is None else as_numbers(weights, "weights", csr.n_rows, lowest=0.0)
    module = backend.get(place["device"])
    run = module.ffm_epoch if aware else module.fm_epoch
    read = (csr.row_ptr, csr.col_idx, csr.or_empty(), *aware, y, weight, *pairs)
    there = backend.arrays(place["device"])
    arrays = (rows, moments, counts, memory, *(there.asarray(x) if isinstance(x, np.ndarray) else x for x in read))
    numbers = (
        kind, method, as_number(learning_rate, "learning_rate"),
        as_number(weight_regularization, "weight_regularization"),
        as_number(factor_regularization, "factor_regularization"), as_count(batch_size, "batch_size", 1),
        counter(seed, "seed", 64),
    )  # fmt: skip
    return lambda epoch: float(run(*arrays, *numbers, epoch, place["n_threads"]))


def ffm_epoch(
    table: F32,
    bias: F64,
    matrix: Any,
    targets: ArrayLike,
    fields: ArrayLike,
    n_fields: int | None = None,
    **options: Any,
) -> float:
    """Train a field-aware factorization machine on every row once, in place; return the sum of the losses.

    score(x) = bias + sum_j w_j x_j + sum_{j < i} v_{j, f(i)} . v_{i, f(j)} x_j x_i  (Juan et al. 2016)

    Args:
        table: ``(n_features, n_fields d + 1) float32``: row j holds v_{j, 0}, v_{j, 1}, ... and then w_j.
        bias: ``(4,) float64``.
        matrix: ``(n_rows, n_features)`` sparse.
        targets: ``(n_rows,)``.
        fields: ``(n_features,)`` integers, field of each feature.
        n_fields: number of fields; None for the largest of ``fields`` and one.
        **options: everything else as in ``fm_epoch``. A batch takes ``batch_size n_fields^2 d`` floats of memory.

    Returns:
        The sum of the losses.

    Raises:
        TypeError, ValueError, IndexError: as ``fm_epoch``, or fields out of range.

    References:
        Juan, Zhuang, Chin, Lin: Field-aware Factorization Machines for CTR Prediction, 2016.
    """
    return fm_epoch(table, bias, matrix, targets, fields=fields, n_fields=n_fields, **options)


def fm_predict(
    table: ArrayLike, bias: float, matrix: Any, *, device: str = "auto", n_threads: int | None = None
) -> F32:
    """Return the scores of rows under a factorization machine, see ``fm_epoch``.

    Args:
        table: ``(n_features, d + 1)``, converted to contiguous float32 where it is not.
        bias: the bias.
        matrix: ``(n_rows, n_features)`` sparse.
        device: backend.
        n_threads: number of threads; None for every CPU granted.

    Returns:
        ``(n_rows,) float32``; the bias for an empty row.

    Raises:
        TypeError, ValueError: shapes disagree, or values are not finite.
    """
    device = backend.place(device, table=table)
    rows = _table(table, 1)
    place = _place(device, n_threads)
    csr = _matrix(matrix, rows, place)
    out: F32 = home(rows).empty((csr.n_rows,), np.float32)
    start = as_number(bias, "bias", None)
    backend.get(place["device"]).fm_predict(
        out, rows, start, csr.row_ptr, csr.col_idx, csr.or_empty(), place["n_threads"]
    )
    return out


def _table(table: ArrayLike, n_fields: int) -> F32:
    rows = as_factors(table, "table")
    if rows.shape[1] < 1 or (rows.shape[1] - 1) % n_fields:
        raise ValueError(message("columns of table", rows.shape[1], f"{n_fields} d + 1"))
    return rows


def ffm_predict(
    table: ArrayLike,
    bias: float,
    matrix: Any,
    fields: ArrayLike,
    n_fields: int | None = None,
    *,
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Return the scores of rows under a field-aware factorization machine, see ``ffm_epoch``.

    Args:
        table: ``(n_features, n_fields d + 1)``, converted to contiguous float32 where it is not.
        bias: the bias.
        matrix: ``(n_rows, n_features)`` sparse.
        fields: ``(n_features,)`` integers.
        n_fields: number of fields; None for the largest of ``fields`` and one.
        device: backend.
        n_threads: number of threads; None for every CPU granted.

    Returns:
        ``(n_rows,) float32``; the bias for an empty row.

    Raises:
        TypeError, ValueError: shapes disagree, or values are not finite.
        IndexError: a field is out of range.
    """
    device = backend.place(device, table=table)
    field, n = as_fields(fields, np.shape(table)[0] if np.ndim(table) else 0, n_fields)
    rows = _table(table, n)
    place = _place(device, n_threads)
    csr = _matrix(matrix, rows, place)
    out: F32 = home(rows).empty((csr.n_rows,), np.float32)
    start = as_number(bias, "bias", None)
    backend.get(place["device"]).ffm_predict(
        out, rows, start, csr.row_ptr, csr.col_idx, csr.or_empty(), field, n, place["n_threads"]
    )
    return out


def fm_als_sweep(
    table: F32,
    bias: F64,
    matrix: Any,
    targets: ArrayLike,
    *,
    columns: Csr | None = None,
    weights: ArrayLike | None = None,
    weight_regularization: float = 0.0,
    factor_regularization: float = 0.0,
    device: str = "auto",
    n_threads: int | None = None,
) -> float:
    """Solve the bias and then every feature of a factorization machine once, in place; return the objective.

    Minimises 1/2 sum_r c_r (score_r - y_r)^2 + 1/2 sum_j n_j (wreg w_j^2 + freg |v_j|^2), n_j the number of entries of
    column j, which is what ``fm_epoch`` with the squared loss does, too. The score is linear in a feature's weight and
    factors together, so both are solved exactly given everything else (libFM's solver, Rendle 2012, takes one number
    at a time): the objective never rises. Runs of neighbouring columns that share no row, such as the one-hot columns
    of a category, are solved at the same time; the bits do not depend on ``n_threads``.

    Args:
        table: ``(n_features, d + 1) float32``, C-contiguous: factors and weight. Changed in place; all-zero factors
            stay zero.
        bias: ``(4,) float64``, of which only the first number is used. Changed in place.
        matrix: ``(n_rows, n_features)`` sparse.
        targets: ``(n_rows,)`` numbers.
        columns: the transpose of ``matrix`` where it is at hand (``csr_transpose``).
        weights: ``(n_rows,)``, 0 or more; None for 1.
        weight_regularization: wreg; with 0, columns that do not determine their system keep a small ridge.
        factor_regularization: freg.
        device: backend.
        n_threads: number of threads; None for every CPU granted.

    Returns:
        The objective after the sweep. Needs ``4 n_rows (d + 1)`` bytes of scratch memory.

    Raises:
        TypeError, ValueError: as ``fm_epoch``.

    References:
        Rendle: Factorization Machines with libFM, 2012.
    """
    device = backend.place(device, table=table)
    rows, memory = as_writable(table, "table"), _bias(bias)
    place = _place(device, n_threads)
    csr = _matrix(matrix, rows, place)
    if rows.shape[1] < 1:
        raise ValueError(message("columns of table", 0, "d + 1"))
    y = as_numbers(targets, "targets", csr.n_rows)
    weight = EMPTY if weights is None else as_numbers(weights, "weights", csr.n_rows, lowest=0.0)
    turned = csr_transpose(csr, **place) if columns is None else columns
    if turned.shape != csr.shape[::-1] or turned.nnz != csr.nnz:
        raise ValueError(message("columns", f"shape {turned.shape}", "the transpose of matrix"))
    there = backend.arrays(place["device"])  # where the sweep runs, as nobody else looks at these two
    residual = there.empty((csr.n_rows,), np.float32)
    sums = there.empty((csr.n_rows, rows.shape[1] - 1), np.float32)
    total = backend.get(place["device"]).fm_als_sweep(
        rows, memory, residual, sums, csr.row_ptr, csr.col_idx, csr.or_empty(), turned.row_ptr, turned.col_idx,
        turned.or_empty(), y, weight, as_number(weight_regularization, "weight_regularization"),
        as_number(factor_regularization, "factor_regularization"), place["n_threads"],
    )  # fmt: skip
    return float(total)
