"""Errors of predicted ratings."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys_fast.evaluation.report import Value

F64 = NDArray[np.float64]


def rating_metric(name: str, predicted: F64, actual: F64, row_ptr: NDArray[np.int64], levels: F64 | None) -> Value:
    """Return rmse, mae or accuracy over all test ratings.

    - rmse = sqrt(mean of (predicted - actual)^2);
    - mae = mean of |predicted - actual|;
    - accuracy = share of ratings whose prediction, moved to the nearest rating that occurs in the training data (the
      lower of two that are equally near), is the actual rating.

    The mean is over ratings, not over users; so is the standard error (of rmse by the delta method).

    Args:
        name: the metric.
        predicted: ``(n,)``.
        actual: ``(n,)``.
        row_ptr: where the ratings of each user begin, for the values per user.
        levels: sorted ratings of the training data, for accuracy.
    """
    if name == "accuracy":
        assert levels is not None
        loss = (nearest(predicted, levels) == actual).astype(np.float64)
    else:
        loss = np.abs(predicted - actual)
        loss = loss * loss if name == "rmse" else loss
    n = len(loss)
    mean = float(loss.mean())
    stderr = float(loss.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    per_user = np.add.reduceat(loss, row_ptr[:-1]) / np.diff(row_ptr)  # only users with ratings get here
    if name != "rmse":
        return Value(mean, stderr, per_user)
    root = math.sqrt(mean)
    return Value(root, stderr / (2.0 * root) if root > 0 else stderr, np.sqrt(per_user))


def nearest(values: F64, levels: F64) -> F64:
    """Return the level nearest to each value, the lower of two equally near; levels sorted, at least one."""
    above = np.clip(np.searchsorted(levels, values), 1, max(1, len(levels) - 1))
    if len(levels) == 1:
        return np.full(len(values), levels[0])
    low, high = levels[above - 1], levels[above]
    return np.where(values - low <= high - values, low, high)
