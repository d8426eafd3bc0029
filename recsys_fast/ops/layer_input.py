"""Checks that the operations of dense and convolutional layers share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.errors import message
from recsys_fast.ops.topk import as_factors

F32 = NDArray[np.float32]


def as_matrix(array: ArrayLike, name: str, shape: tuple[int | None, int | None]) -> F32:
    """Return ``array`` as a contiguous float32 matrix of ``shape``, where None is any size."""
    matrix = as_factors(array, name)
    if any(want is not None and got != want for got, want in zip(matrix.shape, shape, strict=True)):
        expected = "(" + ", ".join("any" if want is None else str(want) for want in shape) + ")"
        raise ValueError(message(f"shape of {name}", matrix.shape, expected))
    return matrix


def as_vector(array: ArrayLike | None, name: str, size: int) -> F32:
    """Return ``array`` as ``(size,) float32``, or an array of length 0 for None."""
    if array is None:
        return np.empty(0, np.float32)
    given = np.asarray(array)
    if given.ndim != 1:
        raise ValueError(message(name, f"shape {given.shape}", f"({size},)"))
    vector: F32 = as_matrix(given[None, :], name, (1, size)).reshape(-1)
    return vector


def as_packed_ptr(row_ptr: ArrayLike, n_rows: int) -> NDArray[np.int64]:
    """Return ``row_ptr`` as ``(n_sequences + 1,) int64`` after checking that it cuts n_rows rows into sequences."""
    given = np.asarray(row_ptr)
    if given.dtype.kind not in "iu":
        raise TypeError(message("dtype of row_ptr", given.dtype, "int64"))
    if given.ndim != 1 or len(given) == 0:
        raise ValueError(message("shape of row_ptr", given.shape, "(n_sequences + 1,)"))
    pointers = np.ascontiguousarray(given, np.int64)
    if pointers[0] != 0 or pointers[-1] != n_rows or (np.diff(pointers) < 0).any():
        got = f"{pointers[0]} to {pointers[-1]}"
        raise ValueError(message("row_ptr", got, f"ascending from 0 to the {n_rows} rows of x"))
    return pointers


def as_dropout(dropout: float, seed: int, step: int, site: int) -> tuple[float, int, int, int]:
    """Return the four arguments that decide on masks, checked."""
    rate = float(dropout)
    if not 0.0 <= rate < 1.0:
        raise ValueError(message("dropout", dropout, "a rate in [0, 1)"))
    for name, value, bits in (("seed", seed, 64), ("step", step, 32), ("site", site, 32)):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(message(name, type(value).__name__, "an int"))
        if not 0 <= int(value) < 1 << bits:
            raise ValueError(message(name, value, f"0 to 2^{bits} - 1"))
    return rate, int(seed), int(step), int(site)


def as_positive(value: Any, name: str, least: int = 1) -> int:
    """Return ``value`` as an int that is at least ``least``."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(message(name, type(value).__name__, "an int"))
    if int(value) < least:
        raise ValueError(message(name, value, f"at least {least}"))
    return int(value)
