"""What the operations of factorization machines take besides their parameters: targets, weights, pairs, fields."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.errors import message

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

EMPTY = np.empty(0, np.float32)


class Pairs(NamedTuple):
    """Rows to train against each other: each positive row against any negative row of its group.

    Attributes:
        positives: ``(n,) int32`` rows.
        groups: ``(n,) int32`` group of each.
        negative_ptr: ``(n_groups + 1,) int64``; ``negatives[negative_ptr[g]:negative_ptr[g + 1]]`` belong to group g.
        negatives: int32 rows.
    """

    positives: I32
    groups: I32
    negative_ptr: I64
    negatives: I32

    @classmethod
    def none(cls) -> Pairs:
        """Return arrays of length 0."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int32), np.zeros(1, np.int64), np.empty(0, np.int32))

    @classmethod
    def of(cls, targets: ArrayLike, groups: ArrayLike) -> Pairs:
        """Return the pairs of rows by their targets (1, or 0 or -1) and groups (any integers, such as user ids).

        Positive rows of groups without a negative one are left out.

        Raises:
            TypeError, ValueError: targets of another kind, groups that are not one integer per row, or no group that
                has both kinds of rows.
        """
        positive = as_labels(targets, "targets") > 0
        ids = np.asarray(groups)
        if ids.dtype.kind not in "iu":
            raise TypeError(message("groups", f"dtype {ids.dtype}", "integers", "map ids with IdMap.encode first"))
        if ids.shape != positive.shape:
            raise ValueError(message("shape of groups", ids.shape, f"{positive.shape}, one per row"))
        names, place = np.unique(ids, return_inverse=True)
        counts = np.bincount(place[~positive], minlength=len(names))
        used = np.flatnonzero(positive & (counts[place] > 0))
        if not len(used):
            mend = "pass negative rows, and as groups what their scores are compared in, such as user ids"
            raise ValueError(message("no group has both a positive and a negative row", mend=mend))
        negatives = np.flatnonzero(~positive)
        negatives = negatives[np.argsort(place[negatives], kind="stable")]
        negative_ptr = np.concatenate([[0], np.cumsum(counts)])
        return cls(used.astype(np.int32), place[used].astype(np.int32), negative_ptr, negatives.astype(np.int32))

    def checked(self, n_rows: int) -> Pairs:
        """Return contiguous arrays of the right types.

        Raises:
            ValueError: a row or group out of range, or a group without negatives that has a positive row.
        """
        dtypes = (np.int32, np.int32, np.int64, np.int32)
        pairs = Pairs(*(np.require(part, kind, ["C", "A"]) for part, kind in zip(self, dtypes, strict=True)))
        for name in ("positives", "negatives"):
            rows = getattr(pairs, name)
            if rows.ndim != 1 or (len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < n_rows):
                raise ValueError(message(f"{name} of the pairs", expected=f"rows below {n_rows}"))
        sizes = np.diff(pairs.negative_ptr)
        whole = pairs.negative_ptr.ndim == 1 and len(pairs.negative_ptr) and pairs.negative_ptr[0] == 0
        if not whole or (sizes < 0).any() or pairs.negative_ptr[-1] != len(pairs.negatives):
            raise ValueError(message(f"negative_ptr of the pairs does not ascend from 0 to {len(pairs.negatives)}"))
        groups = pairs.groups
        if groups.shape != pairs.positives.shape or not len(groups):
            raise ValueError(message("positives and groups of the pairs", expected="the same number, at least 1"))
        if not 0 <= int(groups.min()) <= int(groups.max()) < len(sizes) or not sizes[groups].all():
            raise ValueError(message("groups of the pairs", expected="groups that have negatives"))
        return pairs


def as_numbers(array: ArrayLike, name: str, n: int | None = None, *, lowest: float | None = None) -> F32:
    """Return ``(n,) float32``, finite.

    Raises:
        TypeError: not numbers.
        ValueError: another shape, a value that is not a finite float32, or one below ``lowest``.
    """
    values = np.asarray(array)
    if values.dtype.kind not in "biuf":
        raise TypeError(message(name, f"dtype {values.dtype}", "numbers"))
    if values.ndim != 1 or (n is not None and len(values) != n):
        raise ValueError(
            message(f"shape of {name}", values.shape, "(n_rows,)" if n is None else f"({n},), one per row")
        )
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, which is named below
        numbers: F32 = np.require(values, np.float32, ["C", "A"])
    wrong = ~np.isfinite(numbers)
    if lowest is not None:
        wrong |= numbers < lowest
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        expected = "a finite float32" + ("" if lowest is None else f", at least {lowest:g}")
        raise ValueError(message(f"{name}[{at}]", values[at], expected))
    return numbers


def as_labels(array: ArrayLike, name: str, n: int | None = None) -> F32:
    """Return labels as ``(n,) float32`` of 0 and 1; -1 counts as 0.

    Raises:
        TypeError, ValueError: as ``as_numbers``, or labels that are neither of 0 and 1 nor of -1 and 1.
    """
    numbers = as_numbers(array, name, n)
    positive = numbers == 1
    rest = numbers[~positive]
    if len(rest) and not ((rest == 0).all() or (rest == -1).all()):
        wrong = ~positive & (numbers != 0) if (rest == 0).any() else ~positive & (numbers != -1)
        at = int(np.flatnonzero(wrong)[0])
        mend = 'pass (y > threshold), or use loss="squared" for ratings'
        raise ValueError(message(f"{name}[{at}]", f"{numbers[at]:g}", "0 and 1, or -1 and 1", mend))
    labels: F32 = positive.astype(np.float32)
    return labels


def as_fields(fields: ArrayLike, n_features: int, n_fields: int | None = None) -> tuple[I32, int]:
    """Return the field of each feature, ``(n_features,) int32``, and the number of fields.

    Raises:
        TypeError: not integers.
        ValueError: another length, a negative field, or one not below ``n_fields``.
    """
    array = np.asarray(fields)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(message("fields", f"dtype {array.dtype}", "integers"))
    if array.shape != (n_features,):
        raise ValueError(message("shape of fields", array.shape, f"({n_features},), the field of each column"))
    highest = int(array.max(initial=0)) + 1
    bound = highest if n_fields is None else n_fields
    if n_features and (int(array.min()) < 0 or highest > bound):
        at = int(np.flatnonzero((array < 0) | (array >= bound))[0])
        expected = "0 or more" if n_fields is None else f"0 <= field < {bound}"
        raise ValueError(message(f"fields[{at}]", int(array[at]), expected))
    return np.require(array, np.int32, ["C", "A"]), bound
