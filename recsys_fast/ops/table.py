"""Gradients of an embedding table by its rows: only those that a batch touches are looked at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import I32, as_indices, as_record, check_apart, on_host
from recsys_fast.ops.block_arguments import F32, I64, NO_ROWS, NONE, as_row_ptr, as_rows, as_vector
from recsys_fast.ops.gram import as_writable, home
from recsys_fast.ops.negatives import counter
from recsys_fast.ops.topk import as_out

_MOST = 2**31 - 1  # entries, which are numbered in 32 bits


class IdPlan(NamedTuple):
    """Which rows of a table ids name, and where.

    Attributes:
        rows: ``(R,) int32``, distinct, ascending.
        entry_ptr: ``(R + 1,) int64``.
        entries: ``(entry_ptr[R],) int32``: where rows[r] occurs, ascending, from entry_ptr[r] on.
        n: number of ids, those of -1 included.
    """

    rows: I32
    entry_ptr: I64
    entries: I32
    n: int


def _as_ids(ids: ArrayLike, n_table: int) -> I32:
    """Return checked ids, one behind the other; -1 stands for none."""
    given = on_host(ids)
    if given.size > _MOST:
        raise ValueError(message("number of ids", given.size, f"at most {_MOST}"))
    return as_indices(given, "ids", -1, n_table).reshape(-1)


def _as_plan(plan: IdPlan) -> IdPlan:
    """Return a plan whose entries lie within its ids, and whose pointers within its entries."""
    given = as_record(plan, "plan", IdPlan, "what ops.id_plan returned")
    n = counter(given.n, "plan.n", 31)
    given = given._replace(rows=on_host(given.rows))
    entries = as_indices(given.entries, "plan.entries", 0, n)
    pointers = as_row_ptr(on_host(given.entry_ptr), entries.size, name="plan.entry_ptr")
    if entries.ndim != 1 or np.shape(given.rows) != (len(pointers) - 1,):
        got = f"rows {np.shape(given.rows)}, entry_ptr {pointers.shape}, entries {entries.shape}"
        raise ValueError(message("shapes of the plan", got, "(R,), (R + 1,) and one dimension"))
    return IdPlan(given.rows, pointers, entries, n)


def id_plan(ids: ArrayLike, n_table: int, *, device: str = "auto", n_threads: int | None = None) -> IdPlan:
    """Return the distinct ids in ascending order, and for each the places where it occurs, in ascending order.

    Args:
        ids: integers of any shape, read row by row; -1 (none) is left out.
        n_table: number of rows of the table, below 2^31.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ``IdPlan``.

    Raises:
        TypeError: not integers.
        ValueError: 2^31 ids and more, or ``n_table`` out of its range.
        IndexError: an id beyond the table.
    """
    device, n_table = backend.place(device, ids=ids), counter(n_table, "n_table", 31)
    array, there = _as_ids(ids, n_table), home(ids)
    rows, entries = np.empty(len(array), np.int32), np.empty(len(array), np.int32)
    entry_ptr = np.empty(len(array) + 1, np.int64)
    n_threads = backend.resolve_threads(n_threads)
    n_rows = backend.get(device).id_plan(rows, entry_ptr, entries, array, n_table, n_threads)
    entries = entries[: entry_ptr[n_rows]]
    rows, entry_ptr, entries = (there.asarray(part) for part in (rows[:n_rows], entry_ptr[: n_rows + 1], entries))
    return IdPlan(rows, entry_ptr, entries, len(array))


class _Sources(NamedTuple):
    """Gradients of rows, behind each other: entry e is dx[e], then dcand, then coef times its row of h."""

    dx: F32
    dcand: F32
    dcand_bias: F32
    coef: F32
    h: F32
    width: int


def _sources(
    d: int,
    n: int,
    dx: ArrayLike | None,
    dcand: ArrayLike | None,
    dcand_bias: ArrayLike | None,
    coef: ArrayLike | None,
    h: ArrayLike | None,
) -> _Sources:
    """Return checked sources of ``n`` entries in all, whose rows are of width ``d``."""
    tables = {"dx": dx, "dcand": dcand, "h": h}
    rows = {name: NO_ROWS if given is None else as_rows(given, name) for name, given in tables.items()}
    for name, given in rows.items():
        if len(given) and given.shape[1] != d:
            raise ValueError(message(f"columns of {name}", given.shape[1], f"{d}"))
    factors = NO_ROWS if coef is None else as_rows(coef, "coef")
    if coef is not None and len(factors) != len(rows["h"]):
        expected = f"({len(rows['h'])}, width), one row per row of h"
        raise ValueError(message("shape of coef", factors.shape, expected))
    total = len(rows["dx"]) + len(rows["dcand"]) + factors.size
    if total != n:
        mend = "the ids are those of dx, dcand and coef, behind each other"
        raise ValueError(message("number of entries", total, f"one per id, {n}", mend))
    bias = as_vector(dcand_bias, "dcand_bias", len(rows["dcand"]))
    return _Sources(rows["dx"], rows["dcand"], bias, factors.reshape(-1), rows["h"], max(1, factors.shape[1]))


def table_gradient(
    plan: IdPlan,
    d: int,
    *,
    dx: ArrayLike | None = None,
    dcand: ArrayLike | None = None,
    dcand_bias: ArrayLike | None = None,
    coef: ArrayLike | None = None,
    h: ArrayLike | None = None,
    bias: bool = False,
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, F32]:
    """Return the gradients of the rows of ``plan``: each the sum of its entries, in their order.

    Entry e is row e of ``dx`` for e < N1; then row e - N1 of ``dcand`` for e < N1 + N2; and from there on coef[t, j]
    h[t], read row by row.

    Args:
        plan: of the ids of all entries (``id_plan``).
        d: width of a row.
        dx: ``(N1, d)``, gradients of rows that went in.
        dcand: ``(N2, d)``, gradients of candidates of a loss.
        dcand_bias: ``(N2,)``, of their biases.
        coef: ``(T, width)``, derivatives of a loss by scores h[t] . row + bias.
        h: ``(T, d)``.
        bias: whether to return gradients of the biases: sums of dcand_bias and coef.
        out: drows, ``(R, d) float32``, C-contiguous, to write into; None for a new array.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        drows ``(R, d) float32`` and dbias ``(R,) float32``, of length 0 without ``bias``.

    Raises:
        TypeError: not numbers, ``plan`` is no ``IdPlan``, or ``out`` is not float32.
        ValueError: shapes that do not fit each other or the plan, a damaged plan, a number that is not finite, or
            ``out`` shares memory with an input.
        IndexError: an entry of the plan beyond its ids.
    """
    given = {"dx": dx, "dcand": dcand, "dcand_bias": dcand_bias, "coef": coef, "h": h, "out": out}
    device = backend.place(device, **given)
    there = home(next((array for array in given.values() if array is not None), None))
    d, checked = counter(d, "d", 31), _as_plan(plan)
    sources = _sources(d, checked.n, dx, dcand, dcand_bias, coef, h)
    read = (checked.entry_ptr, checked.entries, *sources[:-1])
    shape = len(checked.rows), d
    drows = as_out(there.empty(shape, np.float32) if out is None else out, "out", shape, np.float32, read)
    dbias: F32 = there.empty(len(checked.rows) if bias else 0, np.float32)
    backend.get(device).table_gradient(
        drows, dbias, checked.entry_ptr, checked.entries, *sources, backend.resolve_threads(n_threads)
    )
    return drows, dbias


def table_add(
    dtable: F32,
    ids: ArrayLike,
    *,
    dbias: F32 | None = None,
    dx: ArrayLike | None = None,
    dcand: ArrayLike | None = None,
    dcand_bias: ArrayLike | None = None,
    coef: ArrayLike | None = None,
    h: ArrayLike | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Add gradients of single rows to the gradient of a whole table, in place: dtable[ids[e]] += entry e.

    No plan is needed, and no row but those named is read. Entries are those of ``table_gradient``.

    Args:
        dtable: ``(n, d) float32``, C-contiguous, writable; changed.
        ids: integers, one per entry; -1 (none) is left out.
        dbias: ``(n,) float32``, changed; None where there are no biases.
        dx, dcand, dcand_bias, coef, h: as in ``table_gradient``.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ``dtable``.

    Raises:
        TypeError: not numbers, or what is changed is not float32.
        ValueError: 2^31 ids and more, shapes that do not fit, a number that is not finite, or what is changed shares
            memory with anything else.
        IndexError: an id beyond the table.
    """
    given = {"dx": dx, "dcand": dcand, "dcand_bias": dcand_bias, "coef": coef, "h": h}
    device = backend.place(device, dtable=dtable, dbias=dbias, **given)
    table = as_writable(dtable, "dtable")
    array = _as_ids(ids, len(table))
    total_bias = NONE if dbias is None else as_writable(dbias, "dbias", 1)
    if dbias is not None and len(total_bias) != len(table):
        raise ValueError(message("length of dbias", len(total_bias), f"the rows of dtable, {len(table)}"))
    sources = _sources(table.shape[1], len(array), dx, dcand, dcand_bias, coef, h)
    read = {"ids": array, "dx": sources.dx, "dcand": sources.dcand, "dcand_bias": sources.dcand_bias}
    for name, array_read in (read | {"coef": sources.coef, "h": sources.h}).items():
        check_apart(table, "dtable", array_read, name)
        check_apart(total_bias, "dbias", array_read, name)
    check_apart(table, "dtable", total_bias, "dbias")
    backend.get(device).table_add(table, total_bias, array, *sources, backend.resolve_threads(n_threads))
    return dtable
