"""Sparse rows of features in fields: what deep models over features take from their table, and its gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import I32
from recsys_fast.ops.block_arguments import F32, as_rows, as_vector, new_rows
from recsys_fast.ops.csr import Csr, as_csr
from recsys_fast.ops.fm_data import as_fields
from recsys_fast.ops.gram import home
from recsys_fast.ops.table import id_plan

_ONE_FIELD = np.empty(0, np.int32)


class FieldSums(NamedTuple):
    """What ``field_sums_forward`` returns.

    Attributes:
        x: ``(n, n_fields * k) float32``, the sums by field, behind each other.
        sums: ``(n, d) float32``, the sums over all fields; with ``linear`` a 1 behind them. For the backward pass.
        score: ``(n,) float32``.
    """

    x: F32
    sums: F32
    score: F32


def _arguments(
    matrix: Any, table: ArrayLike, fields: ArrayLike | None, linear: bool, device: str, n_threads: int | None
) -> tuple[Csr, F32, I32, int]:
    """Return rows, table, fields and their number, checked."""
    csr = as_csr(matrix, device=backend.resolve_device(device), n_threads=n_threads)
    values = as_rows(table, "table", (csr.n_cols, None))
    if values.shape[1] < 1 + linear:
        raise ValueError(message("columns of table", values.shape[1], f"at least {1 + linear}"))
    if fields is None:
        return csr, values, _ONE_FIELD, 1
    numbers, n_fields = as_fields(fields, csr.n_cols)
    return csr, values, numbers, n_fields


def field_sums_forward(
    matrix: Any,
    table: ArrayLike,
    fields: ArrayLike | None = None,
    *,
    linear: bool = True,
    pairs: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> FieldSums:
    """Return the vectors of each row's fields, and the score of a factorization machine over its features.

    x[r, f] = sum over the entries of row r in field f of value v_j; score[r] = sum value w_j + sum of
    v_i . v_j value_i value_j over pairs of entries (Rendle 2010).

    Args:
        matrix: ``(n, n_features)`` sparse, anything that ``as_csr`` takes; rows may be empty.
        table: ``(n_features, d)``: row j holds v_j of length k, and with ``linear`` then w_j.
        fields: ``(n_features,)`` the field of each feature, from 0 on; None for one field of all.
        linear: whether the table has weights, and the score their sum.
        pairs: whether the score has the products.
        device: backend.
        n_threads: number of threads; the bits do not depend on it.

    Returns:
        ``FieldSums``.

    Raises:
        TypeError: no sparse matrix, or arrays of wrong types.
        ValueError: shapes that do not fit, or numbers that are not finite.
        IndexError: a negative field.
    """
    device = backend.place(device, table=table)
    csr, values, numbers, n_fields = _arguments(matrix, table, fields, linear, device, n_threads)
    n, d = csr.n_rows, values.shape[1]
    out = FieldSums(new_rows(values, n, n_fields * (d - linear)), new_rows(values, n, d), new_rows(values, n))
    backend.get(device).field_sums_forward(
        *out, csr.row_ptr, csr.col_idx, csr.or_empty(), values, numbers, n_fields, linear, pairs,
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return out


def field_sums_backward(
    matrix: Any,
    table: ArrayLike,
    sums: ArrayLike,
    dx: ArrayLike,
    dscore: ArrayLike,
    fields: ArrayLike | None = None,
    *,
    linear: bool = True,
    pairs: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[I32, F32]:
    """Return the gradient of the table of ``field_sums_forward``, by the rows that the matrix names.

    Args:
        matrix, table, fields, linear, pairs: as there.
        sums: its second result.
        dx: ``(n, n_fields * k)``, gradient of its first one.
        dscore: ``(n,)``, gradient of its third one.
        device: backend.
        n_threads: number of threads; the bits do not depend on it.

    Returns:
        The features that occur, ascending, ``(R,) int32``, and their gradients ``(R, d) float32``.

    Raises:
        TypeError, ValueError, IndexError: as there.
    """
    device = backend.place(device, table=table, sums=sums, dx=dx, dscore=dscore)
    csr, values, numbers, n_fields = _arguments(matrix, table, fields, linear, device, n_threads)
    n, d = csr.n_rows, values.shape[1]
    given = as_rows(dx, "dx", (n, n_fields * (d - linear))), as_vector(dscore, "dscore", n)
    totals = as_rows(sums, "sums", (n, d))
    plan = id_plan(csr.col_idx, csr.n_cols, device=device, n_threads=n_threads)
    entry_rows = np.repeat(np.arange(n, dtype=np.int32), np.diff(csr.row_ptr))
    drows = new_rows(values, len(plan.rows), d)
    backend.get(device).field_sums_backward(
        drows, plan.rows, plan.entry_ptr, plan.entries, entry_rows, csr.or_empty(), *given, totals, values, numbers,
        n_fields, linear, pairs, backend.resolve_threads(n_threads),
    )  # fmt: skip
    return home(values).asarray(plan.rows), drows
