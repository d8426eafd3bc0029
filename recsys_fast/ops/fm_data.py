"""What the operations of factorization machines take besides their parameters: targets, weights, pairs, fields."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.errors import message
from recsys_fast.ops.arguments import I32, as_indices
from recsys_fast.ops.topk import as_count

F32 = NDArray[np.float32]
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
            TypeError: not integers.
            ValueError: arrays that do not fit each other, or a group without negatives that has a positive row.
            IndexError: a row or group out of range.
        """
        given = np.asarray(self.negative_ptr)
        if given.dtype.kind not in "iu":
            raise TypeError(message("dtype of negative_ptr of the pairs", given.dtype, "an integer dtype"))
        pointers, n = np.require(given, np.int64, ["C", "A"]), np.size(self.negatives)
        whole = pointers.ndim == 1 and len(pointers) and pointers[0] == 0 and pointers[-1] == n
        if not whole or (pointers[1:] < pointers[:-1]).any():  # not by differences, which may wrap around
            raise ValueError(message(f"negative_ptr of the pairs does not ascend from 0 to {n}"))
        shapes = [np.shape(part) for part in (self.positives, self.groups, self.negatives)]
        if shapes[0] != shapes[1] or len(shapes[0]) != 1 or shapes[0] == (0,) or len(shapes[2]) != 1:
            got = ", ".join(map(str, shapes))
            expected = "1-D arrays, the first two of the same number, at least 1"
            raise ValueError(message("shapes of positives, groups and negatives of the pairs", got, expected))
        positives = as_indices(self.positives, "positives of the pairs", 0, n_rows)
        negatives = as_indices(self.negatives, "negatives of the pairs", 0, n_rows)
        groups = as_indices(self.groups, "groups of the pairs", 0, len(pointers) - 1)
        if not np.diff(pointers)[groups].all():
            raise ValueError(message("groups of the pairs", expected="groups that have negatives"))
        return Pairs(positives, groups, pointers, negatives)


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
        ValueError: another length, or ``n_fields`` is not positive.
        IndexError: a negative field, or one not below ``n_fields``.
    """
    array = np.asarray(fields)
    if array.shape != (n_features,):
        raise ValueError(message("shape of fields", array.shape, f"({n_features},), the field of each column"))
    bound = 2**31 - 1 if n_fields is None else as_count(n_fields, "n_fields", 1)
    field = as_indices(array, "fields", 0, bound)
    return field, int(field.max(initial=0)) + 1 if n_fields is None else bound
