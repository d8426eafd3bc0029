"""Compressed sparse rows: the gate that every matrix passes, transposition, and assembly from coordinates."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_indices

_INT32_MAX = 2**31 - 1
_DUPLICATES = {"sum": 0, "max": 1, "last": 2, "error": 3}
_IMPUTE = "drop or impute missing values first"
_EMPTY_F32 = np.empty(0, np.float32)


class Csr(NamedTuple):
    """A sparse matrix in compressed sparse rows.

    Attributes:
        row_ptr: ``(n_rows + 1,) int64``; row ``r`` holds entries ``row_ptr[r]:row_ptr[r + 1]``.
        col_idx: ``(nnz,) int32`` column of each entry.
        values: ``(nnz,) float32``, or None when every entry counts 1.
        n_rows: number of rows.
        n_cols: number of columns.
    """

    row_ptr: NDArray[np.int64]
    col_idx: NDArray[np.int32]
    values: NDArray[np.float32] | None
    n_rows: int
    n_cols: int

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return len(self.col_idx)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_cols)."""
        return self.n_rows, self.n_cols

    def or_empty(self) -> NDArray[np.float32]:
        """Return the values, or an array of length 0 where every entry counts 1 (the flat signatures' way)."""
        return _EMPTY_F32 if self.values is None else self.values


def _contiguous(array: Any, dtype: Any) -> NDArray[Any]:
    """Return ``array`` itself where it is contiguous, aligned and of ``dtype``, else a copy that is."""
    contiguous: NDArray[Any] = np.require(array, dtype, ["C", "A", "E"])
    return contiguous


def _vector(array: Any, name: str, kinds: str, expected: str) -> NDArray[Any]:
    vector: NDArray[Any] = np.asarray(array)
    if vector.ndim != 1:
        raise ValueError(message(f"dimensions of {name}", vector.ndim, "1"))
    if vector.dtype.kind not in kinds and vector.size:  # an empty list is float64 to NumPy
        raise TypeError(message(f"dtype of {name}", vector.dtype, expected))
    return vector


def _indices(array: Any, part: str, name: str, upper: int) -> NDArray[np.int32]:
    """Return ``array`` as int32; what int32 cannot hold is refused here, and the range is the gate's to check."""
    array = _vector(array, f"{part} of {name}", "iu", "an integer dtype")
    if array.size and not np.can_cast(array.dtype, np.int32) and array.dtype.kind in "iu":
        for extreme in (array.min(), array.max()):
            if not 0 <= int(extreme) < upper:
                at = int(np.flatnonzero(array == extreme)[0])
                raise ValueError(message(f"{part}[{at}] of {name}", int(extreme), f"0 <= index < {upper}"))
    return _contiguous(array, np.int32)


def _values(array: Any, name: str) -> NDArray[np.float32]:
    array = _vector(array, name, "biuf", "bool, integer or floating point")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which the gate names
        return _contiguous(array, np.float32)


def _row_ptr(array: Any, name: str) -> NDArray[np.int64]:
    return _contiguous(_vector(array, f"row_ptr of {name}", "iu", "an integer dtype"), np.int64)


def _shape(shape: Any, name: str) -> tuple[int, int]:
    n_rows, n_cols = (int(s) for s in shape)
    if n_rows < 0 or not 0 <= n_cols <= _INT32_MAX or n_rows > _INT32_MAX:
        raise ValueError(message(f"shape of {name}", (n_rows, n_cols), "0 to 2**31 - 1 rows and columns"))
    return n_rows, n_cols


def _explain(code: int, where: int, csr: Csr, name: str) -> str:
    """Return the message for a defect that ``validate_csr`` found."""
    if code == 1:
        return message(f"row_ptr[0] of {name}", int(csr.row_ptr[0]), "0")
    if code == 2:
        got = f"{csr.row_ptr[where]} then {csr.row_ptr[where + 1]}"
        return message(f"row_ptr of {name} decreases at row {where}", got, "a non-decreasing sequence")
    if code == 3:
        return message(f"row_ptr[-1] of {name}", int(csr.row_ptr[-1]), f"the number of entries, {csr.nnz}")
    row = int(np.searchsorted(csr.row_ptr, where, side="right")) - 1
    if code == 4:
        what = f"column of entry {where} of {name}, in row {row}"
        return message(what, int(csr.col_idx[where]), f"0 <= column < {csr.n_cols}")
    assert csr.values is not None
    what = f"value of entry {where} of {name}, in row {row}"
    return message(what, csr.values[where], "a finite float32", _IMPUTE)


def validate_csr(csr: Csr, name: str = "matrix", *, device: str = "auto", n_threads: int | None = None) -> bool:
    """Check shape, row pointers, column range and finiteness; about 1 ns per entry.

    Args:
        csr: the matrix; arrays of the dtypes that ``Csr`` names, contiguous.
        name: what error messages call it.
        device: backend.
        n_threads: number of threads; None for every CPU granted.

    Returns:
        True when every row's columns are strictly increasing (sorted, no duplicates), else False.

    Raises:
        ValueError: the first defect, with its place.
        TypeError: an array of another dtype.
    """
    _shape(csr.shape, name)
    parts = {"row_ptr": (csr.row_ptr, np.int64), "col_idx": (csr.col_idx, np.int32), "values": (csr.values, np.float32)}
    for part, (array, dtype) in parts.items():
        if array is None and part == "values":
            continue
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
            got = f"{array.ndim}-D {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(
                message(f"{part} of {name}", got, f"1-D {np.dtype(dtype)}", "call ops.as_csr(matrix) first")
            )
        if not (array.flags.c_contiguous and array.flags.aligned):
            mend = "call ops.as_csr(matrix) first"
            raise ValueError(message(f"{part} of {name}", "strided or unaligned memory", "a contiguous array", mend))
    if len(csr.row_ptr) != csr.n_rows + 1:
        raise ValueError(message(f"length of row_ptr of {name}", len(csr.row_ptr), f"n_rows + 1 = {csr.n_rows + 1}"))
    if csr.values is not None and len(csr.values) != csr.nnz:
        raise ValueError(message(f"number of values of {name}", len(csr.values), f"one per column index, {csr.nnz}"))
    code, where = backend.get(device).validate_csr(
        csr.row_ptr, csr.col_idx, csr.or_empty(), csr.n_cols, backend.resolve_threads(n_threads)
    )
    if code in (0, 6):
        return bool(code == 0)
    raise ValueError(_explain(code, where, csr, name))


def _compressed(matrix: Any, name: str, n_rows: int, n_cols: int) -> Csr:
    """Return the arrays of a scipy csr or csc, without the room that scipy allows after the last entry."""
    row_ptr = _row_ptr(matrix.indptr, name)
    n = int(row_ptr[-1]) if len(row_ptr) else 0
    used = slice(n if 0 <= n <= len(matrix.indices) else None)
    col_idx = _indices(matrix.indices[used], "indices", name, n_cols)
    return Csr(row_ptr, col_idx, _values(matrix.data[used], f"data of {name}"), n_rows, n_cols)


def _from_scipy(matrix: Any, name: str, device: str, n_threads: int | None) -> Csr:
    """Return a scipy matrix or array as ``Csr``; scipy's compiled code never sees an index that nobody checked."""
    if len(matrix.shape) != 2:
        raise ValueError(message(f"dimensions of {name}", len(matrix.shape), "2"))
    n_rows, n_cols = _shape(matrix.shape, name)
    if matrix.format == "csr":
        return _compressed(matrix, name, n_rows, n_cols)
    if matrix.format == "csc":
        transposed = _compressed(matrix, f"{name} (csc: its columns are rows here)", n_cols, n_rows)
        return csr_transpose(transposed, name, device=device, n_threads=n_threads)
    if matrix.format == "bsr":
        height, width = matrix.blocksize
        col_idx = _indices(matrix.indices, "indices", name, n_cols // width)
        blocks = Csr(_row_ptr(matrix.indptr, name), col_idx, None, n_rows // height, n_cols // width)
        validate_csr(blocks, f"{name} (in blocks)", device=device, n_threads=n_threads)
    coo = matrix if matrix.format == "coo" else matrix.tocoo()
    return csr_from_coo(
        coo.row, coo.col, coo.data, shape=(n_rows, n_cols), name=name, device=device, n_threads=n_threads
    )[0]


def as_csr(
    matrix: Any,
    name: str = "matrix",
    *,
    canonical: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> Csr:
    """Return ``matrix`` as a validated ``Csr``; the arrays are shared with the input where they already fit.

    Args:
        matrix: ``Csr``, scipy sparse matrix or array of any format, ``Interactions``, or ``Sequences`` (the distinct
            items of each user). Dense arrays are refused.
        name: what error messages call it.
        canonical: also sort each row by column and sum duplicates (in a copy, only where needed). Values None stay None
            unless there are duplicates, whose value is then their number.
        device: backend.
        n_threads: number of threads; None for every CPU granted.

    Raises:
        TypeError: not a sparse matrix, or of a dtype that is not a number.
        ValueError: indices out of range, bad row pointers, values that are not finite.
    """
    if isinstance(getattr(matrix, "seen", None), Csr):  # Sequences
        matrix = matrix.seen
    if hasattr(matrix, "row_ptr") and hasattr(matrix, "col_idx") and hasattr(matrix, "values"):
        n_rows, n_cols = _shape(matrix.shape, name)
        values = None if matrix.values is None else _values(matrix.values, f"values of {name}")
        col_idx = _indices(matrix.col_idx, "col_idx", name, n_cols)
        csr = Csr(_row_ptr(matrix.row_ptr, name), col_idx, values, n_rows, n_cols)
    elif hasattr(matrix, "tocsr") and hasattr(matrix, "format"):
        csr = _from_scipy(matrix, name, device, n_threads)
    else:
        mend = "pass scipy.sparse.csr_array(array), or Interactions.from_coo(users, items)"
        raise TypeError(message(name, type(matrix).__name__, "a sparse matrix", mend))
    sorted_unique = validate_csr(csr, name, device=device, n_threads=n_threads)
    if canonical and not sorted_unique:
        rows = np.repeat(np.arange(csr.n_rows, dtype=np.int32), np.diff(csr.row_ptr))
        merged = csr_from_coo(
            rows, csr.col_idx, csr.values, shape=csr.shape, name=name, device=device, n_threads=n_threads
        )[0]
        csr = merged._replace(values=None) if csr.values is None and merged.nnz == csr.nnz else merged
    return csr


def csr_transpose(matrix: Csr, name: str = "matrix", *, device: str = "auto", n_threads: int | None = None) -> Csr:
    """Return the transpose; entries of a column keep the order of their rows (stable), so rows come out sorted.

    Args:
        matrix: ``(n_rows, n_cols)``; validated first.
        name: what error messages call it.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ``(n_cols, n_rows)`` with new arrays; values None where the input's are.
    """
    validate_csr(matrix, name, device=device, n_threads=n_threads)
    row_ptr = np.empty(matrix.n_cols + 1, np.int64)
    col_idx = np.empty(matrix.nnz, np.int32)
    values = None if matrix.values is None else np.empty(matrix.nnz, np.float32)
    out = Csr(row_ptr, col_idx, values, matrix.n_cols, matrix.n_rows)
    backend.get(device).csr_transpose(
        out.row_ptr, out.col_idx, out.or_empty(),
        matrix.row_ptr, matrix.col_idx, matrix.or_empty(), matrix.n_cols, backend.resolve_threads(n_threads),
    )  # fmt: skip
    return out


def csr_take_rows(
    matrix: Csr,
    rows: ArrayLike,
    name: str = "matrix",
    *,
    device: str = "auto",
    n_threads: int | None = None,
) -> Csr:
    """Return the matrix of some rows, in their order.

    Args:
        matrix: ``(n_rows, n_cols)``; validated first.
        rows: ``(n,)`` integers, repeats allowed.
        name: what error messages call the matrix.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ``(n, n_cols)`` with new arrays; values None where the input's are.

    Raises:
        TypeError: ``rows`` are not integers.
        ValueError: a defect of the matrix, or more than one dimension.
        IndexError: a row that the matrix does not have.
    """
    validate_csr(matrix, name, device=device, n_threads=n_threads)
    checked = _vector(rows, "rows", "iu", "an integer dtype")
    return rows_unchecked(matrix, as_indices(checked, "rows", 0, matrix.n_rows), device, n_threads)


def rows_unchecked(matrix: Csr, rows: NDArray[Any], device: str = "auto", n_threads: int | None = None) -> Csr:
    """Return what ``csr_take_rows`` does, of a matrix and of rows that have been checked."""
    place = rows.astype(np.int64, copy=False)
    starts = matrix.row_ptr[place]
    row_ptr = np.zeros(len(place) + 1, np.int64)
    np.cumsum(matrix.row_ptr[place + 1] - starts, out=row_ptr[1:])
    nnz = int(row_ptr[-1])
    values = None if matrix.values is None else np.empty(nnz, np.float32)
    out = Csr(row_ptr, np.empty(nnz, np.int32), values, len(place), matrix.n_cols)
    backend.get(device).csr_take_rows(
        out.col_idx, out.or_empty(), out.row_ptr, starts, matrix.col_idx, matrix.or_empty(),
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return out


def csr_from_coo(
    rows: ArrayLike,
    cols: ArrayLike,
    values: ArrayLike | None = None,
    *,
    shape: tuple[int, int] | None = None,
    duplicates: str = "sum",
    name: str = "matrix",
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[Csr, NDArray[np.int64]]:
    """Assemble a matrix from coordinates; rows come out sorted by column, without duplicates.

    Args:
        rows: ``(n,)`` integers.
        cols: ``(n,)`` integers.
        values: ``(n,)`` numbers; None counts each entry 1.
        shape: (n_rows, n_cols); None takes the largest index + 1.
        duplicates: "sum" (in float64, rounded once), "max", "last" (in input order) or "error".
        name: what error messages call the matrix.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        The matrix and ``source (nnz,) int64``: the input position that each entry comes from (the last one of a sum;
        the last one of the largest for "max").

    Raises:
        TypeError: indices that are not integers, values that are not numbers.
        ValueError: lengths differ, an index is negative or outside ``shape``, a value is not finite, or a pair
            occurs twice with ``duplicates="error"``.
    """
    if duplicates not in _DUPLICATES:
        raise ValueError(message("duplicates", repr(duplicates), "one of " + ", ".join(_DUPLICATES)))
    n_rows, n_cols = (_INT32_MAX, _INT32_MAX) if shape is None else _shape(shape, name)
    row, col = _indices(rows, "rows", name, n_rows), _indices(cols, "cols", name, n_cols)
    value = np.ones(len(row), np.float32) if values is None else _values(values, f"values of {name}")
    n = len(row)
    if not n == len(col) == len(value):
        got = f"{n} rows, {len(col)} cols, {len(value)} values"
        raise ValueError(message(f"coordinates of {name}", got, "one of each per entry"))
    module, n_threads = backend.get(device), backend.resolve_threads(n_threads)
    one_row = np.array([0, n], np.int64)  # the gate checks a list of indices as it checks a matrix of one row
    if shape is None:
        n_rows, n_cols = _shape([max(0, int(index.max()) + 1) if n else 0 for index in (row, col)], name)
    for part, index, upper in (("rows", row, n_rows), ("cols", col, n_cols)):
        code, at = module.validate_csr(one_row, index, value if index is col else _EMPTY_F32, upper, n_threads)
        if code == 4:
            raise ValueError(message(f"{part}[{at}] of {name}", int(index[at]), f"0 <= index < {upper}"))
        if code == 5:
            raise ValueError(message(f"values[{at}] of {name}", value[at], "a finite float32", _IMPUTE))
    row_ptr, source = np.empty(n_rows + 1, np.int64), np.empty(n, np.int64)
    col_idx, out = np.empty(n, np.int32), np.empty(n, np.float32)
    nnz = module.csr_from_coo(
        row_ptr, col_idx, out, source, row, col, value, n_rows, n_cols, _DUPLICATES[duplicates], n_threads
    )
    if nnz < 0:
        at = -1 - nnz
        what = f"entry {at} of {name} repeats the pair ({row[at]}, {col[at]})"
        raise ValueError(message(what, expected="every pair once", mend='choose duplicates="sum", "max" or "last"'))
    if nnz < n:
        col_idx, out, source = col_idx[:nnz].copy(), out[:nnz].copy(), source[:nnz].copy()
        if duplicates == "sum" and not np.isfinite(out).all():
            at = int(source[np.flatnonzero(~np.isfinite(out))[0]])
            what = f"sum of the duplicates of the pair ({row[at]}, {col[at]}) of {name}"
            raise ValueError(message(what, "more than float32 holds", "a finite float32", "scale the values down"))
    return Csr(row_ptr, col_idx, out, n_rows, n_cols), source
