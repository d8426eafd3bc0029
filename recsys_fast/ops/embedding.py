"""Rows of an embedding table for packed sequences, with learned positions, and dropout from a counter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_indices, as_number, on_host
from recsys_fast.ops.block_arguments import F32, I64, NO_ROWS, as_dropout, as_row_ptr, as_rows
from recsys_fast.ops.gram import as_writable, home
from recsys_fast.ops.negatives import counter
from recsys_fast.ops.topk import as_out


def _as_row_ptr(row_ptr: ArrayLike | None, n_rows: int) -> I64:
    """Return checked row pointers in host memory; None is one sequence."""
    return np.array([0, n_rows], np.int64) if row_ptr is None else as_row_ptr(on_host(row_ptr), n_rows)


def _check_places(row_ptr: I64, n_positions: int) -> None:
    longest = int(np.diff(row_ptr).max(initial=0))
    if longest > n_positions:
        mend = "cut the sequence to its last events"
        raise ValueError(message("length of the longest sequence", longest, f"at most {n_positions} positions", mend))


def embedding_forward(
    table: ArrayLike,
    ids: ArrayLike,
    row_ptr: ArrayLike | None = None,
    *,
    positions: ArrayLike | None = None,
    scale: float = 1.0,
    from_end: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    out: F32 | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Return out[t] = D(scale * table[ids[t]] + positions[place of t]) for the rows of packed sequences.

    The place of row t of sequence s is t - row_ptr[s], or, with ``from_end``, n_positions - (row_ptr[s + 1] - t). D
    multiplies by a dropout mask, a function of (seed, step, site, t, column) alone (``dropout_apply``).

    Args:
        table: ``(n, d)``.
        ids: ``(n_rows,)`` integers; -1 stands for a row of zeros, to which its position is still added.
        row_ptr: ``(n_sequences + 1,)`` integers; None is one sequence.
        positions: ``(n_positions, d)``; None for none. No sequence may be longer.
        scale: of the table's rows, any finite number.
        from_end: whether places count from the sequence's end.
        dropout: rate, in [0, 1).
        seed: 0 to 2^64 - 1.
        step: 0 to 2^32 - 1, of the training.
        site: 0 to 2^32 - 1, tells apart the masks of one step.
        out: ``(n_rows, d) float32``, C-contiguous, to write into; None for a new array.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ``(n_rows, d) float32``; ``out`` where it was given.

    Raises:
        TypeError: not numbers, ids that are not integers, or ``out`` is not float32.
        ValueError: a sequence longer than the positions, shapes that do not fit, a number that is not finite, a rate
            outside [0, 1), ``out`` shares memory with an input.
        IndexError: an id beyond the table.
    """
    device = backend.place(device, table=table, positions=positions, out=out)
    rows = as_rows(table, "table")
    id_array = as_indices(ids, "ids", -1, len(rows))
    if id_array.ndim != 1:
        raise ValueError(message("dimensions of ids", id_array.ndim, "1"))
    pointers = _as_row_ptr(row_ptr, len(id_array))
    places = NO_ROWS if positions is None else as_rows(positions, "positions")
    if positions is not None:
        if places.shape[1] != rows.shape[1]:
            raise ValueError(message("columns of positions", places.shape[1], f"those of the table, {rows.shape[1]}"))
        _check_places(pointers, len(places))
    shape = len(id_array), rows.shape[1]
    if out is None:
        out = home(rows).empty(shape, np.float32)
    out = as_out(out, "out", shape, np.float32, (rows, places, id_array, pointers))
    backend.get(device).embedding_forward(
        out, rows, places, id_array, pointers, as_number(scale, "scale", None), bool(from_end),
        *as_dropout(dropout, seed, step, site), backend.resolve_threads(n_threads),
    )  # fmt: skip
    return out


def embedding_backward(
    dout: F32,
    row_ptr: ArrayLike | None = None,
    *,
    n_positions: int = 0,
    scale: float = 1.0,
    from_end: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Turn the gradient of ``embedding_forward``'s result into that of the table's rows, in place.

    dout *= mask; dpositions[p] = sum of dout at place p; dout *= scale. ``table_gradient`` then sums rows of one id.

    Args:
        dout: ``(n_rows, d) float32``, C-contiguous, writable; changed.
        row_ptr: ``(n_sequences + 1,)`` integers; None is one sequence.
        n_positions: number of learned positions, 0 for none.
        scale, from_end, dropout, seed, step, site: as in ``embedding_forward``.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        dpositions ``(n_positions, d) float32``.

    Raises:
        TypeError: ``dout`` is not a float32 array, or an argument is no number.
        ValueError: ``dout`` is not 2-D, not contiguous or read-only, or an argument is out of its range.
    """
    device = backend.place(device, dout=dout)
    rows = as_writable(dout, "dout")
    pointers = _as_row_ptr(row_ptr, len(rows))
    n_positions = counter(n_positions, "n_positions", 31)
    if n_positions:
        _check_places(pointers, n_positions)
    dpositions: F32 = home(rows).empty((n_positions, rows.shape[1]), np.float32)
    backend.get(device).embedding_backward(
        rows, dpositions, pointers, as_number(scale, "scale", None), bool(from_end),
        *as_dropout(dropout, seed, step, site), backend.resolve_threads(n_threads),
    )  # fmt: skip
    return dpositions


def dropout_apply(
    x: F32,
    rate: float,
    *,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    device: str = "auto",
    n_threads: int | None = None,
) -> F32:
    """Set a share ``rate`` of the elements to 0 and scale the others by 1 / (1 - rate), in place.

    The mask is a function of (seed, step, site, row, column, columns of a row), so that the backward pass applies it
    to the gradient by the same call. ``rate`` is rounded to a multiple of 2^-16. Srivastava, Hinton, Krizhevsky,
    Sutskever, Salakhutdinov, "Dropout", JMLR 2014.

    Args:
        x: ``(n, d) float32``, C-contiguous, writable; changed.
        rate: in [0, 1).
        seed: 0 to 2^64 - 1.
        step: 0 to 2^32 - 1.
        site: 0 to 2^32 - 1.
        device: backend; all give the same bits.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ``x``.

    Raises:
        TypeError: ``x`` is not a float32 array.
        ValueError: ``x`` is not 2-D, not contiguous or read-only, or an argument is out of its range.
    """
    device = backend.place(device, x=x)
    rows: Any = as_writable(x, "x")
    backend.get(device).dropout_apply(
        rows, *as_dropout(rate, seed, step, site, "rate"), backend.resolve_threads(n_threads)
    )
    return x
