"""What the vectors of one side are made of: own rows, rows of a user's items (SVD++), rows of given features."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.ops import Csr

F32 = NDArray[np.float32]
_NO_I64, _NO_I32, _NO_F32 = np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)

#: the flat signatures' "no features": row_ptr, col_idx, values
NO_FEATURES = (_NO_I64, _NO_I32, _NO_F32)


class Side(NamedTuple):
    """The users or the items: row k of the side is the sum of its own table row and of its features' rows.

    A table holds the blocks one behind the other: own rows (where ``own``), then those of each block of features.

    Attributes:
        n: users or items.
        own: whether each has a row of its own.
        blocks: ``(n, n_features)`` matrices.
    """

    n: int
    own: bool
    blocks: tuple[Csr, ...]

    @property
    def plain(self) -> bool:
        """Whether table rows are the vectors themselves."""
        return self.own and not self.blocks

    @property
    def sizes(self) -> tuple[int, ...]:
        """Table rows of each block, the own ones first (0 where there are none)."""
        return (self.n if self.own else 0, *(block.n_cols for block in self.blocks))

    @property
    def n_rows(self) -> int:
        """Rows of the table."""
        return sum(self.sizes)

    def flat(self) -> tuple[NDArray[np.int64], NDArray[np.int32], F32]:
        """Return the matrix from table rows to vectors as the flat signatures take it; empty arrays where plain."""
        if self.plain:
            return NO_FEATURES
        from scipy import sparse

        parts = [sparse.eye_array(self.n, dtype=np.float32, format="csr")] if self.own else []
        whole = ops.as_csr(sparse.hstack([*parts, *map(as_scipy, self.blocks)], format="csr"), "features")
        return whole.row_ptr, whole.col_idx, whole.or_empty()

    def described(self, table: F32) -> F32:
        """Return what the features add to each vector, ``(n, d) float32``: the vectors without their own rows.

        Args:
            table: its last rows are those of the blocks.
        """
        out, start = np.zeros((self.n, *table.shape[1:]), np.float32), len(table) - sum(self.sizes[1:])
        for block in self.blocks:
            out += as_scipy(block) @ table[start : start + block.n_cols]
            start += block.n_cols
        return out

    def composed(self, table: F32) -> F32:
        """Return the vectors ``(n, d) float32``, or ``(n,)`` of biases; the table itself where plain."""
        if self.plain or not len(table):
            return table
        vectors = self.described(table)
        if self.own:
            vectors += table[: self.n]
        return vectors


def grown(table: NDArray[Any], old: tuple[int, ...], new: tuple[int, ...], fill: float) -> NDArray[Any]:
    """Return a table with rows of ``fill`` at the end of each of its blocks, whose sizes go from ``old`` to ``new``."""
    if old == new or len(table) != sum(old):  # nothing new, or a table that this model does without
        return table
    parts, start = [], 0
    for before, after in zip(old, new, strict=True):
        parts += [table[start : start + before], np.full((after - before, *table.shape[1:]), fill, table.dtype)]
        start += before
    return np.concatenate(parts)


def as_scipy(csr: Csr) -> Any:
    """Return a matrix as a scipy csr array that shares its memory, where there are values."""
    from scipy import sparse

    values = np.ones(csr.nnz, np.float32) if csr.values is None else csr.values
    return sparse.csr_array((values, csr.col_idx, csr.row_ptr), shape=csr.shape)


def check_features(features: Any, name: str, rows: str, n_rows: int, n_cols: int | None = None) -> Csr | None:
    """Return validated features ``(n_rows, n_features)``, None for None.

    Args:
        features: what the caller gave.
        name: the parameter's name.
        rows: what a row is, "user" or "item".
        n_rows: how many there must be.
        n_cols: how many features there must be; None for any number.

    Raises:
        ValueError: another shape, or a defect that ``ops.as_csr`` finds.
        TypeError: not a sparse matrix.
    """
    if features is None:
        return None
    csr = ops.as_csr(features, name)
    if csr.n_rows != n_rows:
        mend = f"a {rows} without features is an empty row"
        if csr.n_cols == n_rows:
            mend = f"it looks transposed: pass {name}.T"
        raise ValueError(message(f"rows of {name}", csr.n_rows, f"one per {rows}, {n_rows}", mend))
    if n_cols is not None and csr.n_cols != n_cols:
        raise ValueError(message(f"columns of {name}", csr.n_cols, f"the features of fit, {n_cols}"))
    return csr


def interacted(matrix: Csr) -> Csr:
    """Return each user's items N(u) as features of value ``|N(u)|^-1/2`` (Koren 2008, SVD++)."""
    lengths = np.diff(matrix.row_ptr)
    scale = 1.0 / np.sqrt(np.maximum(lengths, 1))
    return matrix._replace(values=np.repeat(scale.astype(np.float32), lengths))


def without_interactions(matrix: Csr) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which users and which items have no entry, ``(n_users,)`` and ``(n_items,) bool``."""
    return np.diff(matrix.row_ptr) == 0, inputs.column_counts(matrix) == 0
