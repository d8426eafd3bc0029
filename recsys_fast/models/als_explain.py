"""Which items of a user's history make up a score: the linear algebra of ALS read backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.ops import Csr

if TYPE_CHECKING:
    from recsys_fast.models.als import ALS


class Explanation(NamedTuple):
    """Contributions to one score.

    Attributes:
        items: ``(k,) int32``, the items of the user's history, the largest contribution first.
        contributions: ``(k,) float32``.
        total: their sum.
    """

    items: NDArray[np.int32]
    contributions: NDArray[np.float32]
    total: float


def explain(model: ALS, history: Csr, item: int) -> Explanation:
    """Split the score of ``item``: x = A^-1 sum_j t_j z_j, so x . z_i = sum_j t_j (z_j . A^-1 z_i).

    ``history`` is one row ``(1, n_items)``, z are item factors (when explicit with a 1 for the user's bias), and A is
    the matrix of the user's least squares problem, in float64. Hu, Koren and Volinsky 2008, section 5.
    """
    problem = model._problem()
    items = history.col_idx
    features, target = model._items[items].astype(np.float64), model._items[item].astype(np.float64)
    stored = problem.weighted(history).values
    confidence = np.ones(len(items))
    if problem.explicit:
        assert stored is not None
        linear = stored.astype(np.float64) - model.global_mean_ - features[:, -1]
        features[:, -1] = target[-1] = 1.0
    else:
        signed = confidence if stored is None else stored.astype(np.float64)
        confidence, linear = np.abs(signed), np.where(signed > 0, signed + problem.target_offset, 0.0)
    size = len(items) + problem.unobserved_weight * len(model._items)
    penalty = float(problem.regularization * size**problem.nu)
    matrix = (features.T * confidence) @ features
    matrix += np.diag(problem.unobserved_weight * model._spectrum.astype(np.float64) + penalty)
    try:
        direction = np.linalg.solve(matrix, target)
    except np.linalg.LinAlgError:  # no regularization and fewer items than factors: the smallest solution
        direction = np.linalg.lstsq(matrix, target, rcond=None)[0]
    contributions = linear * (features @ direction)
    order = np.lexsort((items, -contributions))
    total = float(contributions.sum())
    return Explanation(items[order].copy(), contributions[order].astype(np.float32), total)
