"""Classes of unequal size: weights for a loss, and rows drawn again or left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.errors import message

_METHODS = ("balanced", "sqrt")


def _labels(labels: ArrayLike) -> NDArray[Any]:
    array = np.asarray(labels)
    if array.ndim != 1 or not len(array):
        raise ValueError(message("shape of labels", array.shape, "one label per row, at least one row"))
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(message(f"labels[{int(np.flatnonzero(np.isnan(array))[0])}]", "nan", "a class"))
    return array


def class_weights(labels: ArrayLike, *, classes: ArrayLike | None = None, method: str = "balanced") -> NDArray[Any]:
    """Return a weight for each class, such that the mean weight of a row is 1.

    Args:
        labels: ``(n,)`` class of each row: numbers or text.
        classes: ``(k,)`` distinct classes in the order wanted; None for those that occur, ascending.
        method: "balanced": weights proportional to 1 / rows of the class, so that all classes weigh the same together;
            "sqrt": proportional to the root of that.

    Returns:
        ``(k,) float64``.

    Raises:
        ValueError: a class without a row, a row of another class, or no rows.

    Examples:
        >>> class_weights(["a", "a", "a", "b"])
        array([0.66666667, 2.        ])
    """
    given = _labels(labels)
    if method not in _METHODS:
        raise ValueError(message("method", repr(method)[:80], "one of " + ", ".join(_METHODS)))
    known, counts = np.unique(given, return_counts=True)
    order = np.arange(len(known))
    if classes is not None:
        wanted = np.asarray(classes)
        place = {value: at for at, value in enumerate(known.tolist())}
        gone = [value for value in wanted.tolist() if value not in place]
        if gone:
            raise ValueError(message(f"class {gone[0]!r} has no row", mend="leave the class out, or add rows of it"))
        if len(set(wanted.tolist())) != len(wanted):
            raise ValueError(message("classes", "one twice", "distinct classes"))
        other = set(place) - set(wanted.tolist())
        if other:
            raise ValueError(message("labels hold", repr(sorted(other, key=str)[0]), "classes that are listed"))
        order = np.array([place[value] for value in wanted.tolist()])
    size = counts[order].astype(np.float64)
    weights = 1.0 / (size if method == "balanced" else np.sqrt(size))
    return np.asarray(weights * (len(given) / float(weights @ size)))


def resample(labels: ArrayLike, *, how: str = "over", ratio: float = 1.0, seed: int = 0) -> NDArray[np.int64]:
    """Return rows that make classes more alike in size, a function of the labels and the seed alone.

    Args:
        labels: ``(n,)`` class of each row.
        how: "over": rows of classes smaller than ``ratio`` times the largest are drawn again, with replacement, until
            they are that large; every row stays. "under": of classes larger than the smallest over ``ratio`` only so
            many rows stay, drawn without replacement.
        ratio: smallest class over largest that is wanted, above 0 and at most 1.
        seed: 0 to 2^64 - 1.

    Returns:
        Row numbers, ``int64``, ascending; with "over" a row may occur often.

    Examples:
        >>> resample(["a", "a", "a", "b"]).tolist()
        [0, 1, 2, 3, 3, 3]
    """
    given = _labels(labels)
    if how not in ("over", "under"):
        raise ValueError(message("how", repr(how)[:80], "one of over, under"))
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float, np.number)) or not 0 < ratio <= 1:
        raise ValueError(message("ratio", repr(ratio)[:80], "above 0, at most 1"))
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise ValueError(message("seed", repr(seed)[:80], "0 to 2**64 - 1"))
    known, codes, counts = np.unique(given, return_inverse=True, return_counts=True)
    generator = np.random.Generator(np.random.Philox(int(seed)))
    chosen = []
    for code in range(len(known)):
        rows = np.flatnonzero(codes == code)
        if how == "over":
            more = max(0, int(np.ceil(ratio * counts.max())) - len(rows))
            chosen += [rows, generator.choice(rows, more)]
        else:
            most = min(len(rows), int(counts.min() / ratio))
            chosen.append(generator.choice(rows, most, replace=False))
    return np.sort(np.concatenate(chosen)).astype(np.int64)
