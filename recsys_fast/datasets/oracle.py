"""The best score there is: rank by the planted preferences themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CELLS = 1 << 21


class Lists:
    """Rows of item ids: ``row_ptr (n_users + 1,) int64`` and ``col_idx (nnz,) int32``, memory-mapped or not."""

    def __init__(self, row_ptr: NDArray[np.int64], col_idx: NDArray[np.int32]) -> None:
        self.row_ptr, self.col_idx = row_ptr, col_idx

    def __getitem__(self, user: int) -> NDArray[np.int32]:
        return self.col_idx[self.row_ptr[user] : self.row_ptr[user + 1]]


def ranking_scores(
    queries: NDArray[np.floating],
    items: NDArray[np.floating],
    users: NDArray[np.int64],
    train: Lists,
    test: Lists,
    ks: Sequence[int],
) -> dict[str, NDArray[np.float64]]:
    """Return recall and NDCG of each user when items (but those of ``train``) are ranked by ``queries @ items.T``.

    Straightforward float64 code on purpose: it is what models are held against.

    Args:
        queries: ``(m, d)``, one row per user of ``users``.
        items: ``(n_items, d)``.
        users: ``(m,)``, all with test items.
        train: items left out of the ranking.
        test: relevant items.
        ks: cuts.

    Returns:
        ``{"recall@k": (m,), "ndcg@k": (m,)}`` for each k.
    """
    n_items, deepest = len(items), min(max(ks), len(items))
    scores = {f"{metric}@{k}": np.zeros(len(users)) for k in ks for metric in ("recall", "ndcg")}
    gains = 1 / np.log2(np.arange(2, deepest + 2))
    factors = items.T.astype(np.float64)
    step = max(1, _CELLS // n_items)
    for start in range(0, len(users), step):
        block = queries[start : start + step].astype(np.float64) @ factors
        for row, user in enumerate(users[start : start + step].tolist()):
            line = block[row]
            line[train[user]] = -np.inf
            top = np.argpartition(-line, deepest - 1)[:deepest]
            top = top[np.lexsort((top, -line[top]))]
            relevant = test[user]
            hits = np.isin(top, relevant) & (line[top] > -np.inf)
            for k in ks:
                cut = min(k, deepest)
                ideal = gains[: min(cut, len(relevant))].sum()
                scores[f"recall@{k}"][start + row] = hits[:cut].sum() / len(relevant)
                scores[f"ndcg@{k}"][start + row] = (hits[:cut] * gains[:cut]).sum() / ideal
    return scores
