"""What models do with the ids and matrices that callers pass: checks, and rows taken, replaced and added."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.errors import message
from recsys_fast.ops import Csr
from recsys_fast.ops.csr import rows_unchecked


def check_ids(ids: Any, bound: int, name: str, mend: str | None = None) -> tuple[NDArray[np.int32], bool]:
    """Return ids as ``(m,) int32``, and whether a scalar was given.

    Args:
        ids: an int, or a 1-D sequence of ints.
        bound: number of ids there are.
        name: the parameter's name for messages.
        mend: advice for messages about ids out of range.

    Raises:
        IndexError: an id is negative or not below ``bound``.
        TypeError: not integers.
        ValueError: more than one dimension.
    """
    array = np.asarray(ids)
    if array.dtype.kind not in "iu" and (array.size or array.dtype.kind not in "fO"):
        mend = "use np.flatnonzero(mask)" if array.dtype.kind == "b" else "map raw ids with rf.IdMap.encode first"
        raise TypeError(message(name, f"dtype {array.dtype}", "integers", mend))
    if array.ndim > 1:
        raise ValueError(message(name, f"{array.ndim} dimensions", "an int or a 1-D sequence"))
    flat = array.reshape(-1)
    if flat.size and (int(flat.min()) < 0 or int(flat.max()) >= bound):
        bad = int(flat[(flat < 0) | (flat >= bound)][0])
        raise IndexError(message(f"{name} holds id {bad}", expected=f"0 <= id < {bound}", mend=mend))
    return flat.astype(np.int32), array.ndim == 0


def check_chosen(n_items: int, **given: Any) -> dict[str, Any]:
    """Return ``exclude`` and ``include`` as ``ops.topk`` takes them.

    Args:
        n_items: number of ids there are.
        given: ids by parameter; None for no such choice.

    Raises:
        IndexError, TypeError, ValueError: as ``check_ids``.
    """
    return {name: None if ids is None else check_ids(ids, n_items, name)[0] for name, ids in given.items()}


class Pairs(NamedTuple):
    """Checked pairs: ``(m,) int32`` users and items, and whether both were scalars."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    scalar: bool


def check_pairs(users: Any, items: Any, n_users: int, n_items: int) -> Pairs:
    """Return the pairs ``(users[k], items[k])``; a scalar stands for every k.

    Raises:
        IndexError: an id out of range.
        TypeError: not integers.
        ValueError: the lengths differ.
    """
    user_ids, one_user = check_ids(users, n_users, "users")
    item_ids, one_item = check_ids(items, n_items, "items")
    if len(user_ids) != len(item_ids) and not (one_user or one_item):
        got = f"{len(user_ids)} users, {len(item_ids)} items"
        raise ValueError(message("pairs", got, "one item per user", "score(users) gives all combinations"))
    pairs = np.broadcast_arrays(user_ids, item_ids)
    return Pairs(pairs[0], pairs[1], one_user and one_item)


def check_distinct(ids: NDArray[np.int32], name: str) -> None:
    """Raise ValueError when an id occurs twice."""
    if len(np.unique(ids)) < len(ids):
        raise ValueError(message(f"{name} holds an id twice", mend="pass each id once"))


def check_matrix(matrix: Any, name: str, n_rows: int | None = None, n_cols: int | None = None) -> Csr:
    """Return a validated matrix with sorted rows and without duplicates; a 1-D sparse array is one row.

    Args:
        matrix: anything that ``ops.as_csr`` takes, or a 1-D scipy sparse array.
        name: the parameter's name for messages.
        n_rows: expected number of rows, None for any.
        n_cols: expected number of columns, None for any.

    Raises:
        ValueError: another shape (a transposed matrix is named as such), or a defect that ``ops.as_csr`` finds.
        TypeError: not a sparse matrix.
    """
    if hasattr(matrix, "tocsr") and len(matrix.shape) == 1:
        columns = matrix.indices if matrix.format == "csr" else matrix.tocoo().coords[0]
        csr = ops.csr_from_coo(np.zeros(len(columns), np.int32), columns, matrix.data, shape=(1, matrix.shape[0]))[0]
    else:
        csr = ops.as_csr(matrix, name)
    wanted = (csr.n_rows if n_rows is None else n_rows, csr.n_cols if n_cols is None else n_cols)
    if csr.shape == wanted:
        return csr
    got = f"shape {csr.shape}"
    transposed = csr.n_rows == n_cols if n_rows is None else csr.shape == (n_cols, n_rows)
    if transposed and csr.n_rows != csr.n_cols:
        raise ValueError(message(f"{name} looks transposed", got, f"shape {wanted}", f"pass {name}.T"))
    raise ValueError(message(name, got, f"shape {wanted}"))


def run_of(rows: NDArray[np.integer[Any]]) -> slice | None:
    """Return the slice that ``rows`` are when each follows the one before (so that nothing need be copied), or None."""
    if not len(rows) or int(rows[-1]) - int(rows[0]) != len(rows) - 1 or (np.diff(rows) != 1).any():
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1)


def take_rows(csr: Csr, rows: NDArray[np.integer[Any]]) -> Csr:
    """Return the matrix of the given rows, in that order; its arrays are views where the rows follow each other."""
    run = run_of(rows)
    if run is not None:
        begin, end = int(csr.row_ptr[run.start]), int(csr.row_ptr[run.stop])
        values = None if csr.values is None else csr.values[begin:end]
        row_ptr = csr.row_ptr[run.start : run.stop + 1] - begin
        return Csr(row_ptr, csr.col_idx[begin:end], values, len(rows), csr.n_cols)
    return rows_unchecked(csr, rows)


def replace_rows(csr: Csr, ids: NDArray[np.int32], rows: Csr) -> Csr:
    """Return ``csr`` with row ``ids[k]`` replaced by row ``k`` of ``rows`` (new arrays)."""
    values = None
    if csr.values is not None or rows.values is not None:
        values = np.concatenate([_values(csr), _values(rows)])
    both = Csr(
        np.concatenate([csr.row_ptr, rows.row_ptr[1:] + csr.nnz]),
        np.concatenate([csr.col_idx, rows.col_idx]),
        values,
        csr.n_rows + rows.n_rows,
        csr.n_cols,
    )
    source = np.arange(csr.n_rows)
    source[ids] = csr.n_rows + np.arange(len(ids))
    return take_rows(both, source)


def replace_columns(csr: Csr, ids: NDArray[np.int32], columns: Csr) -> Csr:
    """Return ``csr`` with column ``ids[k]`` replaced by column ``k`` of ``columns`` (new arrays)."""
    return ops.csr_transpose(replace_rows(ops.csr_transpose(csr), ids, ops.csr_transpose(columns)))


def _values(csr: Csr) -> NDArray[np.float32]:
    return np.ones(csr.nnz, np.float32) if csr.values is None else csr.values


def add_empty(csr: Csr, n_rows: int, n_cols: int) -> Csr:
    """Return the matrix grown to ``(n_rows, n_cols)`` by empty rows and columns; entries are shared."""
    row_ptr = np.concatenate([csr.row_ptr, np.full(n_rows - csr.n_rows, csr.nnz, np.int64)])
    return Csr(row_ptr, csr.col_idx, csr.values, n_rows, n_cols)


def drop_zeros(csr: Csr) -> Csr:
    """Return the matrix without its stored zeros; itself where there are none."""
    if csr.values is None or csr.values.all():
        return csr
    keep = csr.values != 0
    before = np.concatenate([[0], np.cumsum(keep)])
    return Csr(before[csr.row_ptr], csr.col_idx[keep], csr.values[keep], csr.n_rows, csr.n_cols)


def liked(csr: Csr, name: str) -> Csr:
    """Return the matrix without stored zeros, for a model (``name``) to which every entry is something liked.

    Raises:
        ValueError: a value below 0.
    """
    if csr.values is not None and csr.nnz and float(csr.values.min()) < 0.0:
        mend = "drop what users dislike, or shift the values"
        raise ValueError(message(f"smallest value, which {name} takes for liked", csr.values.min(), "0 or more", mend))
    return drop_zeros(csr)


def column_counts(csr: Csr) -> NDArray[np.int64]:
    """Return the number of entries of each column, with small temporaries."""
    counts = np.zeros(csr.n_cols, np.int64)
    for start in range(0, csr.nnz, 1 << 20):
        counts += np.bincount(csr.col_idx[start : start + (1 << 20)], minlength=csr.n_cols)
    return counts


def same_entries(left: Csr, right: Csr) -> bool:
    """Return whether both matrices of one shape hold entries at the same places."""
    shared = left.row_ptr is right.row_ptr and left.col_idx is right.col_idx
    return shared or (np.array_equal(left.row_ptr, right.row_ptr) and np.array_equal(left.col_idx, right.col_idx))


def all_ones(csr: Csr) -> bool:
    """Return whether every value is 1."""
    return csr.values is None or csr.nnz == 0 or bool(csr.values.min() == 1 == csr.values.max())
