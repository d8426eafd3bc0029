"""A fully connected layer over sparse rows: its cost is that of the entries, not of the columns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import I32
from recsys_fast.ops.block_arguments import (
    F32,
    NO_ROWS,
    NONE,
    activation_number,
    as_dropout,
    as_result,
    as_rows,
    as_vector,
    new_rows,
)
from recsys_fast.ops.csr import Csr, as_csr
from recsys_fast.ops.gram import home
from recsys_fast.ops.table import id_plan


class CsrDenseGradients(NamedTuple):
    """What ``csr_dense_backward`` returns.

    Attributes:
        rows: ``(R,) int32``, the columns of x that have an entry, ascending.
        drows: ``(R, d) float32``, the gradients of those rows of the table; the others have none.
        db: ``(d,) float32``.
    """

    rows: I32
    drows: F32
    db: F32


def csr_dense_forward(
    x: Any,
    table: ArrayLike,
    b: ArrayLike | None = None,
    *,
    activation: str = "identity",
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Return activation(x table + b) for sparse x: every row adds up the rows of the table that it names.

    An embedding bag is the same: row_ptr and col_idx are its offsets and ids, the values its weights.

    Args:
        x: sparse ``(n, n_cols)``; columns of a row may be unsorted and repeated. Without values every entry counts 1;
            entries of value 0 cost nothing.
        table: ``(n_cols, d)``, converted to contiguous float32 where it is not.
        b: ``(d,)``; None for none.
        activation: "relu", "tanh", "sigmoid" or "identity".
        out: ``(n, d) float32``, C-contiguous, to write into; None for a new array.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Returns:
        ``(n, d) float32``; a row without entries gives activation(b).

    Raises:
        TypeError: x is not sparse, an array holds no real numbers, or ``out`` is not float32.
        ValueError: shapes do not fit, a number is not finite, an unknown activation, or ``out`` shares memory with an
            input.
    """
    device = backend.place(device, table=table, b=b, out=out)
    csr = as_csr(x, "x", canonical=False, device=device, n_threads=n_threads)
    rows = _as_table(table, csr)
    bias = as_vector(b, "b", rows.shape[1])
    y = as_result(out, (csr.n_rows, rows.shape[1]), rows, (rows, bias, csr.row_ptr, csr.col_idx))
    backend.get(device).csr_dense_forward(
        y,
        csr.row_ptr,
        csr.col_idx,
        csr.or_empty(),
        rows,
        bias,
        activation_number(activation),
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return y


def csr_dense_backward(
    dy: ArrayLike,
    y: ArrayLike,
    x: Any,
    *,
    activation: str = "identity",
    device: str = "auto",
    n_threads: int | None = None,
) -> CsrDenseGradients:
    """Return the gradients of ``csr_dense_forward``: of the bias, and of the rows of the table that x names.

    Args:
        dy: ``(n, d)``, gradient of y.
        y: what ``csr_dense_forward`` returned.
        x: what it was given.
        activation: as there.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Raises:
        TypeError: x is not sparse, or an array holds no real numbers.
        ValueError: shapes do not fit, a number is not finite, or an unknown activation.
    """
    device = backend.place(device, dy=dy, y=y)
    csr = as_csr(x, "x", canonical=False, device=device, n_threads=n_threads)
    upper = as_rows(dy, "dy", (csr.n_rows, None))
    result, kind = as_rows(y, "y", (csr.n_rows, upper.shape[1])), activation_number(activation)
    plan = id_plan(csr.col_idx, csr.n_cols, device=device, n_threads=n_threads)
    d = upper.shape[1]
    rows = home(upper).asarray(plan.rows)
    found = CsrDenseGradients(rows, new_rows(upper, len(rows), d), new_rows(upper, d))
    g = new_rows(upper, *upper.shape) if activation != "identity" else NO_ROWS
    backend.get(device).csr_dense_backward(
        found.drows, NONE, found.db, g, upper, result, csr.row_ptr, csr.or_empty(), plan.entry_ptr, plan.entries, kind,
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return found


def csr_scale(
    x: Any,
    *,
    normalize: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> NDArray[np.float32]:
    """Return the values of D(x / |x|_2) by rows: what goes into an autoencoder (Liang et al. 2018).

    Args:
        x: sparse ``(n, n_cols)``; without values every entry counts 1.
        normalize: divide each row by its Euclidean length; rows of zeros stay.
        dropout: share of the entries that D sets to 0, in [0, 1); the others are scaled up.
        seed, step, site: which mask; it is a function of the row, the column and these.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Returns:
        ``(nnz,) float32``, in the order of the entries.

    Raises:
        TypeError: x is not sparse, or seed, step or site is no integer.
        ValueError: a damaged x, a value that is not finite, or a rate outside [0, 1).
    """
    device = backend.place(device)
    csr = as_csr(x, "x", canonical=False, device=device, n_threads=n_threads)
    masks, out = as_dropout(dropout, seed, step, site), np.empty(csr.nnz, np.float32)
    backend.get(device).csr_scale(
        out, csr.row_ptr, csr.col_idx, csr.or_empty(), csr.n_cols, bool(normalize), *masks,
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return out


def _as_table(table: ArrayLike, csr: Csr) -> F32:
    rows = as_rows(table, "table")
    if len(rows) != csr.n_cols or rows.shape[1] == 0:
        expected = f"({csr.n_cols}, d) with d at least 1: a row per column of x"
        raise ValueError(message("shape of table", rows.shape, expected))
    return rows
