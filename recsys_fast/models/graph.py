"""Random walks of three steps on the graph of users and items."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_fast import ops
from recsys_fast.models import inputs
from recsys_fast.models.item_knn import neighbour_bytes
from recsys_fast.models.item_weights import ItemWeightModel
from recsys_fast.models.parameters import check_float, check_int
from recsys_fast.models.similarity import check_positive, identity, positive, row_sums, sorted_rows
from recsys_fast.ops import Csr


class RP3beta(ItemWeightModel):
    """Popularity-corrected walk from an item over a user to another item (Paudel et al. 2017).

    ``W_ij = sum over users u of (p_iu)^alpha (p_uj)^alpha / degree_j^beta`` with the transition probabilities
    ``p_iu = x_ui / sum_u x_ui`` and ``p_uj = x_uj / sum_j x_uj``, and degree_j the users of item j; each row keeps its
    k largest weights, the item itself left out. ``score(u, j) = sum over i in history(u) of value_ui W_ij``: the first
    step of the walk, from the user to one of its items. Values must be above 0.

    Results are the same bits for any number of threads.

    Args:
        k: weights kept per item; may exceed the number of items.
        alpha: exponent of the transition probabilities.
        beta: how much popular items are held back.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.

    Attributes:
        weights_: ``Csr (n_items, n_items)``, W.

    ``partial_fit`` recomputes W; items added by ``resize`` have no weights until then.
    """

    def __init__(
        self,
        k: int = 100,
        alpha: float = 0.7,
        beta: float = 0.2,
        *,
        device: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        self.k = k
        self.alpha = alpha
        self.beta = beta
        self.device = device
        self.n_threads = n_threads

    def _check_params(self) -> None:
        check_int("k", self.k, 1)
        check_float("alpha", self.alpha, 0.0, above=True)
        check_float("beta", self._exponent(), 0.0)

    def _exponent(self) -> float:
        return self.beta

    def _prepare(self, matrix: Csr) -> Csr:
        return check_positive(matrix, "(they become probabilities)")

    def _compute(self) -> None:
        where: dict[str, Any] = {"device": self.device, "n_threads": self.n_threads}
        users = self._matrix._replace(values=None) if inputs.all_ones(self._matrix) else self._matrix
        items = ops.csr_transpose(users, **where)
        # Sums of rows are factors of whole rows: users' go to the left values, items' to the norms.
        user_weights = _power(row_sums(users), -self.alpha)[items.col_idx]
        if users.values is not None and items.values is not None:
            users = users._replace(values=users.values ** np.float32(self.alpha))
            user_weights *= items.values ** np.float32(self.alpha)
        degrees = np.diff(items.row_ptr).astype(np.float64)
        ids, scores = ops.product_topk(
            items._replace(values=user_weights), users, min(self.k, items.n_rows), seen=identity(items.n_rows),
            normalize="product", row_norms=_power(row_sums(items), self.alpha),
            col_norms=_power(degrees, self._exponent()), zeros=False, check=False, **where,
        )  # fmt: skip
        self._take_weights(sorted_rows(positive(ids, scores, items.n_rows), where))

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose and as "total"."""
        self._check_params()
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items"))
        return neighbour_bytes(matrix, matrix.n_cols, self.k, plain=False)


class P3alpha(RP3beta):
    """Walk from an item over a user to another item (Cooper et al. 2014): ``RP3beta`` with beta = 0.

    ``W_ij = sum over users u of (p_iu)^alpha (p_uj)^alpha``; see ``RP3beta``.

    Args:
        k: weights kept per item; may exceed the number of items.
        alpha: exponent of the transition probabilities.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.

    Attributes:
        weights_: ``Csr (n_items, n_items)``, W.
    """

    def __init__(self, k: int = 100, alpha: float = 0.7, *, device: str = "auto", n_threads: int | None = None) -> None:
        self.k = k
        self.alpha = alpha
        self.device = device
        self.n_threads = n_threads

    def _exponent(self) -> float:
        return 0.0


def _power(sums: Any, exponent: float) -> Any:
    """Return sums^exponent as float32, 1 where nothing was summed."""
    return np.where(sums > 0, np.where(sums > 0, sums, 1.0) ** exponent, 1.0).astype(np.float32)
