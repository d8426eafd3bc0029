"""Sparse matrices that every operation over rows must take, and straightforward references for them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from recsys_fast.ops import Csr


def make_csr(rows: Sequence[Sequence[int]], n_cols: int, *, values: bool = True, seed: int = 0) -> Csr:
    """Return a matrix whose rows hold the columns listed, as they are listed."""
    row_ptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    col_idx = np.array([c for row in rows for c in row], np.int32)
    data = np.random.default_rng(seed).standard_normal(len(col_idx)).astype(np.float32) if values else None
    return Csr(row_ptr, col_idx, data, len(rows), n_cols)


def random_csr(n_rows: int, n_cols: int, density: float, *, values: bool = True, seed: int = 0) -> Csr:
    """Return a matrix with sorted rows, some of them and some columns empty."""
    rng = np.random.default_rng(seed)
    kept = rng.random((n_rows, n_cols)) < density * rng.random((n_rows, 1)) * 2
    return make_csr([np.flatnonzero(row).tolist() for row in kept], n_cols, values=values, seed=seed)


def long_rows(seed: int = 0) -> Csr:
    """Return two short rows around one of 70,000 unsorted entries: more than a block, a chunk and a radix digit."""
    rng = np.random.default_rng(seed)
    return make_csr([[3, 1], rng.integers(0, 40_000, 70_000).tolist(), [0]], 40_000, seed=seed)


SORTED = {
    "no rows and no columns": make_csr([], 0),
    "no rows": make_csr([], 5),
    "no columns": make_csr([[], [], []], 0),
    "no entries": make_csr([[], []], 4),
    "one entry": make_csr([[0]], 1),
    "one user": make_csr([[0, 2, 3, 7]], 9),
    "one item": make_csr([[0], [], [0], [0]], 1),
    "empty rows and columns": make_csr([[], [1, 5], [], [], [0, 1, 6], []], 9),
    "full": make_csr([list(range(6))] * 4, 6),
    "descending rows of one": make_csr([[4], [3], [2], [1], [0]], 5),
    "without values": make_csr([[1, 2], [0], [0, 3]], 4, values=False),
    "random": random_csr(70, 50, 0.2),
    "many entries": random_csr(600, 300, 0.5),
}
UNSORTED = {
    "unsorted": make_csr([[0, 1], [3, 2], [0]], 4),
    "duplicates": make_csr([[0, 1], [2, 2, 3], [0]], 4),
    "both, without values": make_csr([[3, 1, 3], [], [2, 0]], 4, values=False),
    "long rows": long_rows(),
}
ALL = SORTED | UNSORTED


def reference_validate(csr: Csr) -> tuple[int, int]:
    """Return (code, where) as ``validate_csr`` documents them, one entry at a time."""
    ptr, nnz = csr.row_ptr.tolist(), csr.nnz
    if ptr[0] != 0:
        return 1, 0
    for r in range(csr.n_rows):
        if ptr[r] > ptr[r + 1]:
            return 2, r
    if ptr[-1] != nnz:
        return 3, csr.n_rows
    for j, c in enumerate(csr.col_idx.tolist()):
        if not 0 <= c < csr.n_cols:
            return 4, j
    for j, v in enumerate(csr.or_empty().tolist()):
        if not math.isfinite(v):
            return 5, j
    for r in range(csr.n_rows):
        row = csr.col_idx[ptr[r] : ptr[r + 1]].tolist()
        if any(b <= a for a, b in itertools.pairwise(row)):
            return 6, r
    return 0, 0


def reference_from_coo(
    rows: Sequence[int], cols: Sequence[int], values: Sequence[float], duplicates: str
) -> list[tuple[int, int, float, int]]:
    """Return (row, col, value, source) of each pair in order, by a dict of lists."""
    pairs: dict[tuple[int, int], list[int]] = {}
    for j, pair in enumerate(zip(rows, cols, strict=True)):
        pairs.setdefault(pair, []).append(j)
    out = []
    for (row, col), places in sorted(pairs.items()):
        value, source = values[places[-1]], places[-1]
        if duplicates == "sum":
            value = sum(values[j] for j in places)
        elif duplicates == "max":
            value = max(values[j] for j in places)
            source = max(j for j in places if values[j] == value)
        out.append((row, col, value, source))
    return out


def triples(csr: Csr) -> list[tuple[int, int, float]]:
    """Return (row, col, value) of every entry, in storage order."""
    rows = np.repeat(np.arange(csr.n_rows), np.diff(csr.row_ptr)).tolist()
    values = [1.0] * csr.nnz if csr.values is None else csr.values.tolist()
    return list(zip(rows, csr.col_idx.tolist(), values, strict=True))
