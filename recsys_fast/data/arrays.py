"""Arrays and sparse matrices in memory to an ``Interactions``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.data.assemble import (
    DUPLICATES,
    IMPUTATIONS,
    MISSING,
    Chunk,
    Cleaning,
    Collector,
    build,
    check_choice,
    impute,
    place_type,
)
from recsys_fast.data.columns import as_timestamps, as_values, raw_ids
from recsys_fast.data.id_map import IdMap
from recsys_fast.data.interactions import Interactions
from recsys_fast.data.report import CleaningReport, Step
from recsys_fast.errors import message

_INT32_MAX = 2**31 - 1


def _map(ids: Any, n: int, name: str) -> IdMap | None:
    """Return ``ids`` as a map of ``n`` ids."""
    if ids is None:
        return None
    id_map = ids if isinstance(ids, IdMap) else IdMap(ids)
    if len(id_map) != n:
        raise ValueError(message(f"length of {name}", len(id_map), f"{n}, one per row or column of the matrix"))
    return id_map


def _times(timestamps: Any, n: int) -> NDArray[np.int64] | None:
    """Return complete timestamps of ``n`` entries."""
    if timestamps is None:
        return None
    times, gone = as_timestamps(timestamps)
    if len(times) != n:
        raise ValueError(message("number of timestamps", len(times), f"{n}, one per stored entry"))
    if gone is not None:
        raise ValueError(message(f"timestamp {int(np.flatnonzero(gone)[0])} is missing", mend="drop the entry first"))
    return times


def from_matrix(matrix: Any, timestamps: Any, user_ids: Any, item_ids: Any, duplicates: str) -> Interactions:
    """Return an ``Interactions`` of a scipy matrix or a ``Csr``; see its constructor."""
    check_choice("duplicates", duplicates, DUPLICATES)
    form = getattr(matrix, "format", "csr")
    if timestamps is not None and form not in ("csr", "coo"):
        mend = "convert it with matrix.tocsr(), and the timestamps with it"
        raise ValueError(message("format of a matrix with timestamps", repr(form), "'csr' or 'coo'", mend))
    is_bool = getattr(getattr(matrix, "dtype", None), "kind", "") == "b"
    if form == "coo" and len(matrix.shape) == 2:  # as it is: a conversion would merge duplicates in its own way
        n_users, n_items = (int(size) for size in matrix.shape)
        rows, cols, csr = matrix.row, matrix.col, None
        values = None if is_bool and np.asarray(matrix.data).all() else as_values(matrix.data)
    else:
        csr = ops.as_csr(matrix, canonical=False)
        (n_users, n_items), cols = csr.shape, csr.col_idx
        values = None if is_bool and csr.values is not None and csr.values.all() else csr.values
        if not ops.validate_csr(csr):
            rows, csr = np.repeat(np.arange(n_users, dtype=np.int32), np.diff(csr.row_ptr)), None
    times = _times(timestamps, len(cols))
    users, items = _map(user_ids, n_users, "user_ids"), _map(item_ids, n_items, "item_ids")
    if csr is None:
        return build(rows, cols, values, times, (n_users, n_items), duplicates, user_ids=users, item_ids=items)
    order = None if times is None else place_type(np.arange(len(cols)), len(cols))
    return Interactions._trusted(
        csr.row_ptr.copy(), cols.copy(), None if values is None else values.copy(), times, (n_users, n_items),
        order=order, user_ids=users, item_ids=items,
    )  # fmt: skip


def _numbers(raw: Any, name: str, bound: int | None) -> NDArray[np.int32]:
    """Return row or column numbers as int32 after a check of their range."""
    column = raw_ids(raw, name)
    if column.missing is not None:
        at = int(np.flatnonzero(column.missing)[0])
        mend = 'pass raw_ids=True and missing="drop", or leave such entries out'
        raise ValueError(message(f"{name}[{at}] is missing", mend=mend))
    numbers = column.values
    if not len(numbers):
        return np.empty(0, np.int32)
    if numbers.dtype.kind != "i":
        got = next(repr(one) for one in numbers.tolist() if isinstance(one, bool) or not isinstance(one, int))
        raise TypeError(message(name, got, "row or column numbers", "pass raw_ids=True to number raw ids"))
    top = _INT32_MAX if bound is None else bound
    if int(numbers.min()) < 0 or int(numbers.max()) >= top:
        at = int(np.flatnonzero((numbers < 0) | (numbers >= top))[0])
        mend = "pass raw_ids=True if these are raw ids"
        raise ValueError(message(f"{name}[{at}]", int(numbers[at]), f"0 <= number < {top}", mend))
    return numbers.astype(np.int32)


def _shape(shape: Any, rows: NDArray[np.int32], cols: NDArray[np.int32]) -> tuple[int, int]:
    if shape is None:
        return (int(rows.max()) + 1, int(cols.max()) + 1) if len(rows) and len(cols) else (0, 0)
    return int(shape[0]), int(shape[1])


def _bounds(shape: Any) -> tuple[int | None, int | None]:
    """Return the bounds of row and column numbers that ``shape`` sets."""
    if shape is None:
        return None, None
    if len(shape) != 2 or not all(0 <= int(size) <= _INT32_MAX for size in shape):
        raise ValueError(message("shape", shape, "(n_users, n_items), each 0 to 2**31 - 1"))
    return int(shape[0]), int(shape[1])


def from_numbers(
    users: Any, items: Any, values: Any, timestamps: Any, shape: tuple[int, int] | None, options: Cleaning
) -> Interactions:
    """Return an ``Interactions`` of row and column numbers; see ``Interactions.from_coo``."""
    known = Cleaning.__annotations__
    for name in options:
        if name not in known:
            raise TypeError(message("from_coo has no option", repr(name), "one of " + ", ".join(known)))
    duplicates, missing = options.get("duplicates", "sum"), options.get("missing", "error")
    check_choice("duplicates", duplicates, DUPLICATES)
    check_choice("missing", missing, MISSING)
    bounds = _bounds(shape)
    rows, cols = _numbers(users, "users", bounds[0]), _numbers(items, "items", bounds[1])
    value = None if values is None else as_values(values)
    times, gone = (None, None) if timestamps is None else as_timestamps(timestamps)
    lengths = [len(part) for part in (rows, cols, value, times) if part is not None]
    if len(set(lengths)) > 1:
        what = "users, items, values and timestamps differ in length"
        raise ValueError(message(what, lengths, "one of each per entry"))
    size, steps = _shape(shape, rows, cols), []
    lost = np.zeros(len(rows), bool) if gone is None else gone.copy()
    if value is not None and missing not in IMPUTATIONS:
        lost |= np.isnan(value)
    if lost.any():
        if missing == "error":
            mend = 'choose missing="drop" or an imputation of values: ' + ", ".join(IMPUTATIONS)
            raise ValueError(message(f"value or time of entry {int(np.flatnonzero(lost)[0])} is missing", mend=mend))
        rows, cols = rows[~lost], cols[~lost]
        value, times = None if value is None else value[~lost], None if times is None else times[~lost]
        steps.append(Step("missing", int(lost.sum()), note="a time or a value was missing"))
    if value is not None and missing in IMPUTATIONS:
        value, n_imputed = impute(value, rows, cols, size, missing)
        if n_imputed:
            steps.append(Step("imputed", note=f"{n_imputed:,} missing values set to {missing}"))
    return build(
        rows, cols, value, times, size, duplicates, report=CleaningReport(tuple(steps)),
        user_ids=_map(options.get("user_ids"), size[0], "user_ids"),
        item_ids=_map(options.get("item_ids"), size[1], "item_ids"),
    )  # fmt: skip


def from_raw(
    users: Any, items: Any, values: Any, timestamps: Any, shape: tuple[int, int] | None, options: Cleaning
) -> Interactions:
    """Return an ``Interactions`` of raw ids; see ``Interactions.from_coo``."""
    if shape is not None:
        mend = "the ids decide: give user_ids and item_ids for a fixed shape"
        raise ValueError(message("shape with raw_ids=True", shape, "None", mend))
    collector = Collector("the arrays", **options)
    times, gone = (None, None) if timestamps is None else as_timestamps(timestamps)
    value = None if values is None else as_values(values)
    collector.add(Chunk(raw_ids(users, "users"), raw_ids(items, "items"), value, times, gone))
    return collector.finish()
