"""Targets of networks of content, and weights of their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import message

F32 = NDArray[np.float32]


def as_targets(y: Any, n: int, head: str, n_outputs: int | None, *, every: bool) -> NDArray[Any]:
    """Return checked targets: ``(n,) int32`` classes for "softmax", else ``(n, k) float32``.

    Args:
        y: as given.
        n: rows that there must be.
        head: "softmax", "sigmoid" or "linear".
        n_outputs: number of classes, or of columns; None where y says it.
        every: whether each class has to be there.

    Raises:
        TypeError: not numbers, or for classes not integers.
        ValueError: another shape, not finite, labels out of range, or a class without a row.
    """
    given = np.asarray(y)
    if given.dtype.kind not in "biuf":
        mend = "number the classes: np.unique(y, return_inverse=True)[1]" if given.dtype.kind in "OSU" else None
        raise TypeError(message("dtype of y", given.dtype, "numbers", mend))
    if given.ndim not in ((1,) if head == "softmax" else (1, 2)) or len(given) != n or 0 in given.shape:
        expected = f"({n},), one per row of X" if head == "softmax" else f"({n},) or ({n}, k), one row per row of X"
        raise ValueError(message("shape of y", given.shape, expected))
    if not np.isfinite(given).all():
        raise ValueError(message("y holds values that are not finite"))
    if head == "softmax":
        return _as_classes(given, n_outputs, every)
    with np.errstate(over="ignore"):
        columns = np.ascontiguousarray(given.reshape(n, -1), np.float32)
    if n_outputs is not None and columns.shape[1] != n_outputs:
        raise ValueError(message("columns of y", columns.shape[1], f"{n_outputs}, as in fit"))
    if head == "linear":
        if not np.isfinite(columns).all():
            raise ValueError(message("y holds numbers beyond float32"))
        return columns
    odd = (columns != 0) & (columns != 1)
    if odd.any():
        at = int(np.argmax(odd.any(1)))
        raise ValueError(message(f"y[{at}]", given[at], "0 or 1", 'use head="softmax" for more than two classes'))
    if every and (columns.min(0) == columns.max(0)).any():
        at = int(np.argmax(columns.min(0) == columns.max(0)))
        got, where = f"all {columns[0, at]:g}", "y" if columns.shape[1] == 1 else f"column {at} of y"
        raise ValueError(message(f"{where} holds one class only", got, "both", "add rows of the other class"))
    return columns


def _as_classes(given: NDArray[Any], n_classes: int | None, every: bool) -> NDArray[np.int32]:
    if given.dtype.kind == "f" and (given != np.floor(given)).any():
        raise ValueError(message("y holds fractions", mend='for numbers use head="linear"'))
    limit = 1 << 24 if n_classes is None else n_classes
    out = (given < 0) | (given >= limit)
    if out.any():
        at = int(np.argmax(out))
        raise ValueError(message(f"y[{at}]", given[at], f"a class from 0 to {limit - 1}", "set n_classes, or mend y"))
    classes: NDArray[np.int32] = given.astype(np.int32)
    if every:
        counts = np.bincount(classes, minlength=n_classes or 0)
        if len(counts) < 2:
            raise ValueError(message("classes in y", len(counts), "at least 2"))
        if not counts.all():
            mend = "number the classes without gaps: np.unique(y, return_inverse=True)[1]"
            raise ValueError(message(f"class {int(np.argmin(counts > 0))} has no row", mend=mend))
    return classes


def class_weights(given: Any, targets: NDArray[Any], head: str) -> F32 | None:
    """Return the weight of every row by its class, or None.

    Args:
        given: None, "balanced" (n / (n_classes * rows of the class)), or a weight for each class.
        targets: of ``as_targets``, of one column.
        head: "softmax" or "sigmoid".

    Raises:
        TypeError: not numbers.
        ValueError: another number of them, one that is negative or not finite, or several columns.
    """
    if given is None:
        return None
    if targets.ndim == 2 and targets.shape[1] > 1:
        raise ValueError(message("class_weight with several columns of y", mend="pass sample_weight to fit"))
    classes = targets.reshape(-1).astype(np.int64)
    counts = np.bincount(classes, minlength=2)
    if isinstance(given, str):
        if given != "balanced":
            raise ValueError(message("class_weight", repr(given), 'None, "balanced", or a weight for each class'))
        weights = len(classes) / (len(counts) * np.maximum(counts, 1.0))
    else:
        try:
            weights = np.asarray(given, np.float64)
        except (TypeError, ValueError):
            raise TypeError(message("class_weight", repr(given)[:80], "numbers, one for each class")) from None
        if weights.shape != (max(len(counts), len(weights) if weights.ndim == 1 and head == "softmax" else 0),):
            raise ValueError(message("shape of class_weight", weights.shape, f"({len(counts)},), one for each class"))
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ValueError(message("class_weight", repr(given)[:80], "finite, 0 or more, not all 0"))
    own: F32 = weights[classes].astype(np.float32)
    return own
