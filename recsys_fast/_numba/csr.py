"""Compressed sparse rows: the gate, transposition, assembly from coordinates."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, parallel, serial, threads

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
F32 = NDArray[np.float32]

_BLOCK = 1 << 16  # entries a thread takes at once in the gate
_INFINITY = 0x7F800000  # its bits; those of |x| order as |x| does, and NaN comes after infinity
_MIN_CHUNK = 1 << 15  # entries under which another histogram does not pay
_HISTOGRAM_BYTES = 32 << 20


@serial
def _check_row_ptr(row_ptr: I64, nnz: int) -> tuple[int, int]:
    """Return (code, where) of the first defect of the row pointers, (0, 0) if there is none."""
    if row_ptr[0] != 0:
        return 1, 0
    for r in range(len(row_ptr) - 1):
        if row_ptr[r] > row_ptr[r + 1]:
            return 2, r
    if row_ptr[-1] != nnz:
        return 3, len(row_ptr) - 1
    return 0, 0


@parallel
def _summarize(summary: I64, col_idx: I32, value_bits: I32, block: int) -> None:
    """summary (n_blocks, 4): least and largest column, largest bits of |value|, columns not above the one before them.

    Loops over slices and of 32 bits, so that the compiler makes vectors of them.
    """
    for b in prange(len(summary)):
        columns, bits = col_idx[b * block : (b + 1) * block], value_bits[b * block : (b + 1) * block]
        least, largest, largest_bits, not_above = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
        for j in range(len(columns)):
            least, largest = min(least, columns[j]), max(largest, columns[j])
        for j in range(len(bits)):
            largest_bits = max(largest_bits, bits[j] & np.int32(0x7FFFFFFF))
        before, after = columns[:-1], columns[1:]
        for j in range(len(after)):
            not_above += np.int32(after[j] <= before[j])
        if b > 0 and columns[0] <= col_idx[b * block - 1]:
            not_above += np.int32(1)
        summary[b, 0], summary[b, 1], summary[b, 2], summary[b, 3] = least, largest, largest_bits, not_above


@serial
def _first_defect(row_ptr: I64, col_idx: I32, values: F32, n_cols: int, code: int) -> int:
    """Return the first entry (codes 4, 5) or row (code 6) with the defect, -1 if there is none."""
    if code == 4:
        for j in range(len(col_idx)):
            if col_idx[j] < 0 or col_idx[j] >= n_cols:
                return j
    elif code == 5:
        for j in range(len(values)):
            if values[j] - values[j] != 0:
                return j
    else:
        for r in range(len(row_ptr) - 1):
            for j in range(row_ptr[r] + 1, row_ptr[r + 1]):
                if col_idx[j] <= col_idx[j - 1]:
                    return r
    return -1


@serial
def _count_row_starts_not_above(row_ptr: I64, col_idx: I32) -> int:
    """Return how many rows start with a column not above the last one of the rows before (which is allowed)."""
    n = 0
    for r in range(len(row_ptr) - 1):
        begin = row_ptr[r]
        if 0 < begin < row_ptr[r + 1]:
            n += col_idx[begin] <= col_idx[begin - 1]
    return n


def validate_csr(row_ptr: I64, col_idx: I32, values: F32, n_cols: int, n_threads: int) -> tuple[int, int]:
    """Return (code, where); codes in the order in which they are reported, ``where`` the first such place."""
    row_ptr, col_idx, values = inputs(row_ptr, col_idx, values)
    code, where = _check_row_ptr(row_ptr, len(col_idx))
    if code:
        return code, where
    summary = np.zeros((-(-len(col_idx) // _BLOCK), 4), np.int64)
    with threads(n_threads):
        _summarize(summary, col_idx, values.view(np.int32), _BLOCK)
    if summary[:, 0].min(initial=0) < 0 or summary[:, 1].max(initial=-1) >= n_cols:
        return 4, _first_defect(row_ptr, col_idx, values, n_cols, 4)
    if summary[:, 2].max(initial=0) >= _INFINITY:
        return 5, _first_defect(row_ptr, col_idx, values, n_cols, 5)
    not_above = int(summary[:, 3].sum())
    if not_above and not_above != _count_row_starts_not_above(row_ptr, col_idx):
        return 6, _first_defect(row_ptr, col_idx, values, n_cols, 6)
    return 0, 0


@parallel
def _histogram(counts: I64, keys: I32, chunk_ptr: I64) -> None:
    """counts (n_chunks, n_keys) = how often each key occurs in each chunk of ``keys``."""
    for c in prange(len(counts)):
        counts[c, :] = 0
        for j in range(chunk_ptr[c], chunk_ptr[c + 1]):
            counts[c, keys[j]] += 1


@serial
def _histogram_to_starts(ptr: I64, counts: I64) -> None:
    """counts[c, key] = place of the first entry of that key in chunk c; ptr (n_keys + 1,) = where each key starts."""
    place = 0
    for key in range(counts.shape[1]):
        ptr[key] = place
        for c in range(len(counts)):
            n = counts[c, key]
            counts[c, key] = place
            place += n
    ptr[-1] = place


def _key_starts(ptr: I64, keys: I32, n_threads: int) -> tuple[I64, I64]:
    """Return where each chunk puts its entries of each key, and the chunks' bounds, for a stable counting sort."""
    n_keys = len(ptr) - 1
    by_memory = _HISTOGRAM_BYTES // (8 * max(1, n_keys))
    n_chunks = max(1, min(n_threads, by_memory, len(keys) // max(_MIN_CHUNK, n_keys)))
    chunk_ptr = np.array([len(keys) * c // n_chunks for c in range(n_chunks + 1)], np.int64)
    starts = np.empty((n_chunks, n_keys), np.int64)
    _histogram(starts, keys, chunk_ptr)
    _histogram_to_starts(ptr, starts)
    return starts, chunk_ptr


@parallel
def _scatter_rows(
    t_col_idx: I32, t_values: F32, row_ptr: I64, col_idx: I32, values: F32, starts: I64, chunk_ptr: I64
) -> None:
    """Put (row, value) of each entry where its column's next place is; stable; ``starts`` is used up."""
    for c in prange(len(starts)):
        row = np.searchsorted(row_ptr, chunk_ptr[c], side="right") - 1
        for j in range(chunk_ptr[c], chunk_ptr[c + 1]):
            while row_ptr[row + 1] <= j:
                row += 1
            place = starts[c, col_idx[j]]
            starts[c, col_idx[j]] += 1
            t_col_idx[place] = row
            if len(values):
                t_values[place] = values[j]


def csr_transpose(
    t_row_ptr: I64, t_col_idx: I32, t_values: F32, row_ptr: I64, col_idx: I32, values: F32, n_cols: int, n_threads: int
) -> None:
    """Write the transpose into the ``t_`` arrays; a stable counting sort by column, so its bits know no threads."""
    assert len(t_row_ptr) == n_cols + 1
    row_ptr, col_idx, values = inputs(row_ptr, col_idx, values)
    with threads(n_threads):
        starts, chunk_ptr = _key_starts(t_row_ptr, col_idx, n_threads)
        _scatter_rows(t_col_idx, t_values, row_ptr, col_idx, values, starts, chunk_ptr)


@parallel
def _scatter_entries(
    col_idx: I32, values: F32, source: I64, rows: I32, cols: I32, values_in: F32, starts: I64, chunk_ptr: I64
) -> None:
    """Put (column, value, input position) of each entry where its row's next place is; stable."""
    for c in prange(len(starts)):
        for j in range(chunk_ptr[c], chunk_ptr[c + 1]):
            place = starts[c, rows[j]]
            starts[c, rows[j]] += 1
            col_idx[place], values[place], source[place] = cols[j], values_in[j], j


@serial
def _merge_run(values: F32, source: I64, begin: int, end: int, duplicates: int) -> tuple[np.float32, np.int64]:
    """Return (value, source) of the entries begin..end of one pair: 0 sum, 1 max, 2 last; ties go to the last."""
    value, at = values[begin], source[begin]
    if duplicates == 0:
        total = np.float64(0)
        for j in range(begin, end):
            total += values[j]
        return np.float32(total), source[end - 1]
    for j in range(begin + 1, end):
        if duplicates == 2 or values[j] >= value:
            value, at = values[j], source[j]
    return value, at


@serial
def _sort_row(col_idx: I32, values: F32, source: I64) -> None:
    """Sort one row by column in place, stable."""
    for j in range(1, len(col_idx)):
        if col_idx[j] < col_idx[j - 1]:
            order = np.argsort(col_idx, kind="mergesort")
            col_idx[:], values[:], source[:] = col_idx[order], values[order], source[order]
            return


@parallel
def _sort_rows(
    lengths: I64, repeats: I64, col_idx: I32, values: F32, source: I64, row_ptr: I64, duplicates: int
) -> None:
    """Sort each row and merge its duplicates at its front.

    lengths (n_rows,) = entries left; repeats (n_rows,) = input position of the row's first repeated pair, or -1.
    """
    for r in prange(len(lengths)):
        begin, end = row_ptr[r], row_ptr[r + 1]
        _sort_row(col_idx[begin:end], values[begin:end], source[begin:end])
        repeats[r] = -1
        left, j = begin, begin
        while j < end:
            run = j + 1
            while run < end and col_idx[run] == col_idx[j]:
                if repeats[r] < 0 or source[run] < repeats[r]:
                    repeats[r] = source[run]
                run += 1
            if run > j + 1:
                values[left], source[left] = _merge_run(values, source, j, run, duplicates)
            else:
                values[left], source[left] = values[j], source[j]
            col_idx[left] = col_idx[j]
            left, j = left + 1, run
        lengths[r] = left - begin


@serial
def _compact(row_ptr: I64, col_idx: I32, values: F32, source: I64, lengths: I64) -> int:
    """Close the gaps that merged duplicates left at the rows' ends; returns the number of entries."""
    place = 0
    for r in range(len(lengths)):
        begin = row_ptr[r]
        row_ptr[r] = place
        for j in range(begin, begin + lengths[r]):
            col_idx[place], values[place], source[place] = col_idx[j], values[j], source[j]
            place += 1
    row_ptr[-1] = place
    return place


def csr_from_coo(
    row_ptr: I64,
    col_idx: I32,
    values: F32,
    source: I64,
    rows: I32,
    cols: I32,
    values_in: F32,
    n_rows: int,
    n_cols: int,
    duplicates: int,
    n_threads: int,
) -> int:
    """Stable counting sort by row, then each row by column; returns the number of entries, or -1 - position."""
    assert len(row_ptr) == n_rows + 1
    rows, cols, values_in = inputs(rows, cols, values_in)
    lengths, repeats = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64)
    with threads(n_threads):
        starts, chunk_ptr = _key_starts(row_ptr, rows, n_threads)
        _scatter_entries(col_idx, values, source, rows, cols, values_in, starts, chunk_ptr)
        _sort_rows(lengths, repeats, col_idx, values, source, row_ptr, duplicates)
    repeated = repeats[repeats >= 0]
    if duplicates == 3 and len(repeated):
        return -1 - int(repeated.min())
    return int(_compact(row_ptr, col_idx, values, source, lengths)) if len(repeated) else len(rows)


@serial
def _take_rows(col_idx: I32, values: F32, row_ptr: I64, starts: I64, from_col_idx: I32, from_values: F32) -> None:
    for r in range(len(starts)):
        shift = starts[r] - row_ptr[r]
        for e in range(row_ptr[r], row_ptr[r + 1]):
            col_idx[e] = from_col_idx[e + shift]
            if len(from_values):
                values[e] = from_values[e + shift]


def csr_take_rows(
    col_idx: I32, values: F32, row_ptr: I64, starts: I64, from_col_idx: I32, from_values: F32, n_threads: int
) -> None:
    """Row r, entries row_ptr[r] to row_ptr[r + 1], is what begins at entry starts[r] of another matrix."""
    _take_rows(col_idx, values, *inputs(row_ptr, starts, from_col_idx, from_values))
