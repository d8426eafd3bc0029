"""Metrics of models that score rows: log loss, AUC, errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.errors import message

F64 = NDArray[np.float64]

ROW_METRICS = ("log_loss", "auc", "group_auc", "accuracy", "rmse", "mae")
_LABELS = ("log_loss", "auc", "group_auc", "accuracy")


def row_metrics(
    targets: ArrayLike, predictions: ArrayLike, metrics: Sequence[str], *, groups: ArrayLike | None = None
) -> dict[str, float]:
    """Return metrics of predictions for rows.

    - log_loss: mean of -log p of the true label, p cut to [1e-15, 1 - 1e-15]; predictions are probabilities.
    - auc: share of pairs of a positive and a negative row that are in the right order, ties count half.
    - group_auc: mean over groups with both kinds of rows of their auc.
    - accuracy: share of rows whose probability is on the right side of 0.5.
    - rmse, mae: root of the mean squared error, mean absolute error.

    Args:
        targets: ``(n,)``; 0 and 1 (or -1 and 1) except for rmse and mae.
        predictions: ``(n,)``.
        metrics: names.
        groups: ``(n,)`` integers, for group_auc.

    Returns:
        One number per name; NaN where it is not defined (an auc of one class).

    Raises:
        ValueError: an unknown name, arrays of different lengths or empty, values that are not finite, other labels,
            groups missing.
    """
    y, p = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    if y.ndim != 1 or y.shape != p.shape or not len(y):
        raise ValueError(message("shapes of targets and predictions", (y.shape, p.shape), "the same (n,), n > 0"))
    if not np.isfinite(y).all() or not np.isfinite(p).all():
        raise ValueError(message("targets or predictions are not finite"))
    check_row_metrics(metrics)
    if not set(metrics).isdisjoint(_LABELS):
        if not np.isin(y, (-1.0, 0.0, 1.0)).all():
            raise ValueError(message("targets", "other values", "0 and 1, or -1 and 1"))
        label = y > 0
    if "group_auc" in metrics and groups is None:
        raise ValueError(message("group_auc needs groups", mend="pass the group of each row"))
    found = {}
    for name in metrics:
        if name == "log_loss":
            right = np.where(label, p, 1.0 - p)
            found[name] = float(-np.log(np.clip(right, 1e-15, 1.0)).mean())
        elif name == "auc":
            found[name] = _auc(label, p, np.zeros(len(y), np.int64))
        elif name == "group_auc":
            found[name] = _auc(label, p, np.unique(np.asarray(groups), return_inverse=True)[1])
        elif name == "accuracy":
            found[name] = float(((p > 0.5) == label).mean())
        elif name == "rmse":
            found[name] = float(np.sqrt(((p - y) ** 2).mean()))
        else:
            found[name] = float(np.abs(p - y).mean())
    return found


def check_row_metrics(metrics: Sequence[str]) -> None:
    """Raise ValueError for a name that ``row_metrics`` does not know."""
    for name in metrics:
        if name not in ROW_METRICS:
            raise ValueError(message("metric", repr(name), "one of " + ", ".join(ROW_METRICS)))


def _auc(label: NDArray[np.bool_], scores: F64, groups: NDArray[Any]) -> float:
    """Return the mean over groups of the Mann-Whitney statistic; NaN where no group has both classes."""
    order = np.lexsort((scores, groups))
    sorted_groups, sorted_scores, sorted_label = groups[order], scores[order], label[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(sorted_groups) != 0) | (np.diff(sorted_scores) != 0)
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(order))
    ranks = np.repeat((starts + ends + 1) / 2, ends - starts)  # of ties: the mean rank
    n_groups = int(sorted_groups[-1]) + 1
    sizes = np.bincount(sorted_groups, minlength=n_groups)
    n_positive = np.bincount(sorted_groups, sorted_label, n_groups)
    first = np.cumsum(sizes) - sizes
    sums = np.bincount(sorted_groups, np.where(sorted_label, ranks - first[sorted_groups], 0.0), n_groups)
    both = (n_positive > 0) & (n_positive < sizes)
    if not both.any():
        return float("nan")
    p, n = n_positive[both], sizes[both] - n_positive[both]
    return float(((sums[both] - p * (p + 1) / 2) / (p * n)).mean())
