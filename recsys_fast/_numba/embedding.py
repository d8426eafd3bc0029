"""Rows of an embedding table for packed sequences, with learned positions and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.block_rows import cut_sequences, cut_slots, sum_slots
from recsys_fast._numba.dropout import dropout_at, dropout_key, dropout_rows
from recsys_fast._numba.parallel import inputs, parallel, serial, threads
from recsys_fast._numba.rng import Int

F = NDArray[Any]  # float32, or float64 to check gradients
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@serial
def place_of(t: Int, begin: Int, end: Int, n_positions: Int, from_end: bool) -> Int:
    """Return the position of row t of the sequence [begin, end)."""
    return n_positions - (end - t) if from_end else t - begin


@parallel
def _forward(  # type: ignore[no-untyped-def]
    out: F, table: F, positions: F, ids: I32, row_ptr: I64, scale, from_end: bool, rate: float, seed: Int, step: Int,
    site: Int,
) -> None:  # fmt: skip
    drop = dropout_key(rate, seed, step, site)
    d = out.shape[1]
    for s in prange(len(row_ptr) - 1):
        for t in range(row_ptr[s], row_ptr[s + 1]):
            if ids[t] >= 0:
                for c in range(d):
                    out[t, c] = scale * table[ids[t], c]
            else:
                out[t] = 0.0
            if len(positions):
                place = place_of(t, row_ptr[s], row_ptr[s + 1], len(positions), from_end)
                for c in range(d):
                    out[t, c] += positions[place, c]
        dropout_rows(out[row_ptr[s] : row_ptr[s + 1]], drop, row_ptr[s])


def embedding_forward(
    out: F, table: F, positions: F, ids: I32, row_ptr: I64, scale: float, from_end: bool, dropout: float, seed: int,
    step: int, site: int, n_threads: int,
) -> None:  # fmt: skip
    """out[t] = D(scale table[ids[t]] + positions[place of t]); overwrites; an id of -1 is a row of zeros."""
    table, positions, ids, row_ptr = inputs(table, positions, ids, row_ptr)
    with threads(n_threads):
        _forward(
            out, table, positions, ids, row_ptr, out.dtype.type(scale), bool(from_end), dropout, np.uint64(seed), step,
            site,
        )  # fmt: skip


@parallel
def _backward(  # type: ignore[no-untyped-def]
    dout: F, parts: F, row_ptr: I64, bounds: I64, scale, from_end: bool, rate: float, seed: Int, step: Int, site: Int
) -> None:
    drop = dropout_key(rate, seed, step, site)
    n_positions, d = parts.shape[1], dout.shape[1]
    for slot in prange(len(bounds) - 1):
        for s in range(bounds[slot], bounds[slot + 1]):
            begin, end = row_ptr[s], row_ptr[s + 1]
            dropout_rows(dout[begin:end], drop, begin)
            for t in range(begin, end):
                if n_positions:
                    place = place_of(t, begin, end, n_positions, from_end)
                    for c in range(d):
                        parts[slot, place, c] += dout[t, c]
                for c in range(d):
                    dout[t, c] *= scale


def embedding_backward(
    dout: F, dpositions: F, row_ptr: I64, scale: float, from_end: bool, dropout: float, seed: int, step: int,
    site: int, n_threads: int,
) -> None:  # fmt: skip
    """dout *= mask; dpositions[p] = sum of dout at place p, overwritten; dout *= scale.

    The sums' tree depends on ``row_ptr`` alone.
    """
    (row_ptr,) = inputs(row_ptr)
    bounds = cut_sequences(row_ptr, cut_slots(int(row_ptr[-1])))
    parts = np.zeros((len(bounds) - 1, *dpositions.shape), dout.dtype)
    with threads(n_threads):
        _backward(
            dout, parts, row_ptr, bounds, dout.dtype.type(scale), bool(from_end), dropout, np.uint64(seed), step, site
        )
    sum_slots(dpositions, parts)


@parallel
def _apply(x: F, rate: float, seed: Int, step: Int, site: Int) -> None:
    drop = dropout_key(rate, seed, step, site)
    n_rows, d = x.shape
    for t in prange(n_rows):
        for c in range(d):
            x[t, c] *= x.dtype.type(dropout_at(drop, t, c, d))


def dropout_apply(x: F, rate: float, seed: int, step: int, site: int, n_threads: int) -> None:
    """x[t, c] *= 0 or 1 / (1 - rate), by the mask of (seed, step, site, t, c); forward and backward alike."""
    with threads(n_threads):
        _apply(x, rate, np.uint64(seed), step, site)
