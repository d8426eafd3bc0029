"""AutoRec: autoencoders of ratings, which look at observed entries only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.blocks.base import Array, Block, PackedBatch, Runtime
from recsys_fast.blocks.csr_dense import CsrDense
from recsys_fast.blocks.csr_losses import EntryLoss
from recsys_fast.blocks.dense import Dense
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.autoencoder import WIDEST, SparseBatch, UserAutoencoder, uniform_table
from recsys_fast.models.factors import F32
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.ops import Csr
from recsys_fast.ops.block_arguments import FROM_RESULT
from recsys_fast.ops.losses import REGRESSION
from recsys_fast.training.network import Network


class EntryObjective:
    """The error at the entries of the batch's rows."""

    def __init__(self, kind: str) -> None:
        self.entries = EntryLoss(kind)

    def __call__(self, network: Network, h: Array, batch: SparseBatch, packed: PackedBatch) -> tuple[float, int, Array]:
        """Return the sum over the entries, their number, and the gradient of h of the mean."""
        n = len(batch.items.col_idx)
        loss, dh = self.entries.loss(network.items, h, batch.items, 1.0 / n)
        return loss, n, dh


class AutoRec(UserAutoencoder):
    """Autoencoder of ratings (Sedhain et al. 2015).

    The ratings of an item by all users (``side="items"``), or of a user (``side="users"``), 0 where there is none, pass
    layers of widths ``hidden`` and ``n_factors``; a linear layer gives back

        r_ui = h_i . w_u + b_u    or    r_ui = h_u . w_i + b_i

    and training goes down the mean error at the ratings that are there. ``predict`` returns ratings. Results are the
    same bits for any number of threads. Ratings of the value 0 count as ratings.

    With ``side="users"`` new users are one pass through the network (``fold_in``, ``recommend(user_items=...)``), and
    known ones are what they rated. With "items", which is more exact on MovieLens, that holds for items
    (``fold_in_items``), and users are rows of the last layer: for new ones it is fitted to their ratings by least
    squares, with the penalty that ``weight_decay`` is in training.

    Args:
        n_factors: width of the layer whose products are the ratings.
        hidden: widths of layers before it, from the ratings on.
        side: "items" or "users".
        activation: "sigmoid", "tanh", "relu" or "identity".
        loss: "squared" or "smooth_l1" (less moved by outliers).
        dropout: rate at which ratings that go in are dropped in training; 0 as published.
        optimizer: "adam", "adamw", "adagrad" or "sgd".
        learning_rate: at its highest.
        weight_decay: see ``recsys_fast.training.optimizers.Optimizer``; what keeps it from learning by heart.
        clip_norm, lazy_moments, warmup_steps, schedule: as of ``MultDAE``; with ``lazy_moments`` weights of columns
            that a step does not touch neither move nor decay.
        batch_size: items (users) of a step.
        n_epochs: passes over all items (users).
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        item_factors_: ``(n_items, n_factors + 1) float32``: [w_i, b_i], or with ``side="items"`` [h_i, 1].
        history_: ``{"loss": [...], metrics ...}``, one number per epoch; the loss is the mean per rating.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    References:
        Sedhain, Menon, Sanner, Xie: AutoRec: Autoencoders Meet Collaborative Filtering, WWW 2015 companion.
    """

    def __init__(
        self,
        n_factors: int = 500,
        hidden: Sequence[int] = (),
        *,
        side: str = "items",
        activation: str = "sigmoid",
        loss: str = "squared",
        dropout: float = 0.0,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-3,
        clip_norm: float | None = None,
        lazy_moments: bool = False,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 128,
        n_epochs: int = 30,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_factors = n_factors
        self.hidden = hidden
        self.side = side
        self.activation = activation
        self.loss = loss
        self.dropout = dropout
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.lazy_moments = lazy_moments
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        check_int("n_factors", self.n_factors, 1, WIDEST)
        self._check_hidden()
        check_choice("side", self.side, ("items", "users"))
        check_choice("activation", self.activation, FROM_RESULT)
        check_choice("loss", self.loss, REGRESSION)
        check_float("dropout", self.dropout, 0.0, high=0.99)

    def _prepare(self, matrix: Csr) -> Csr:
        if matrix.values is None and matrix.nnz:
            mend = "pass ratings, or use MultVAE for interactions without values"
            raise ValueError(message("user_items without values", expected="ratings", mend=mend))
        return matrix if matrix.values is not None else matrix._replace(values=np.empty(0, np.float32))

    @property
    def _by_items(self) -> bool:
        return self.side == "items"

    def _side(self, name: str) -> int:
        return 0 if self._by_items else 1

    def _rows(self) -> Csr:
        if not self._by_items:
            return self._matrix
        where: dict[str, Any] = {"device": self.device, "n_threads": self.n_threads}
        rows: Csr = self._cached("rows", lambda: ops.csr_transpose(self._matrix, **where))
        return rows

    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        n_columns, widths = n_users if self._by_items else n_items, [*self.hidden, self.n_factors]
        out = uniform_table("columns", n_columns, self.n_factors, bias=True)
        table = uniform_table("inputs", n_columns, widths[0])
        blocks: dict[str, Block] = {"encoder": CsrDense(table, self.activation, dropout=self.dropout)}
        for k in range(len(self.hidden)):
            blocks[f"dense{k}"] = Dense(widths[k], widths[k + 1], self.activation)
        return [out, table], blocks

    def _make_network(self, runtime: Runtime) -> Network:
        network = super()._make_network(runtime)
        network.items.bias_value = self._mean()
        return network

    def _objective(self) -> EntryObjective:
        return EntryObjective(self.loss)

    def _data_bytes(self, data: Csr) -> dict[str, int]:
        found = super()._data_bytes(data)
        return {**found, "transposed": 8 * (data.n_cols + data.nnz)} if self._by_items else found

    # ---- use

    def fold_in_items(self, item_users: Any) -> F32:
        """Return the vectors of new items from the ratings of known users, with ``side="items"``.

        Args:
            item_users: ``(m, n_users)``, one row per new item.

        Returns:
            ``(m, n_factors + 1) float32``, in the form of ``item_factors_``.

        Raises:
            NotSupportedError: with ``side="users"``.
        """
        n_users, _ = self._shape()
        if not self._by_items:
            raise self._unsupported('fold_in_items with side="users"')
        return self._encode(self._prepare(inputs.check_matrix(item_users, "item_users", None, n_users)))

    def _fit_users(self, given: Csr) -> F32:
        """Return [w, b] of users by ridge regression on the vectors of what they rated, b near the mean rating."""
        rows, vectors, mean = self._matrix, self._item_table().astype(np.float64), self._mean()
        penalty = max(1e-3, 0.5 * self.weight_decay * rows.nnz)  # the loss is a mean over so many ratings
        out = np.zeros((given.n_rows, vectors.shape[1]))
        out[:, -1] = mean
        for u in np.flatnonzero(np.diff(given.row_ptr)):
            own = slice(given.row_ptr[u], given.row_ptr[u + 1])
            a, errors = vectors[given.col_idx[own]], given.or_empty()[own] - mean
            if len(a) < a.shape[1]:
                out[u] += a.T @ np.linalg.solve(a @ a.T + penalty * np.eye(len(a)), errors)
            else:
                out[u] += np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ errors)
        return out.astype(np.float32)

    def _mean(self) -> float:
        """Return the mean rating."""
        values = self._matrix.or_empty()
        return float(values.mean(dtype=np.float64)) if len(values) else 0.0

    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        if not self._by_items:
            return super()._queries(users)
        table = self._table()
        return table if users is None else table[users]

    def _new_queries(self, given: Csr) -> F32:
        return self._fit_users(given) if self._by_items else super()._new_queries(given)

    def _item_table(self) -> F32:
        if not self._by_items:
            return super()._item_table()
        vectors: F32 = self._cached("items", lambda: self._encode(self._rows()))
        return vectors

    def _item_vectors(self) -> F32:
        return self._item_table()[:, :-1]

    def _user_vectors(self) -> F32:
        return self._out_values()[0] if self._by_items else super()._user_vectors()

    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        if not self._by_items:
            return super()._update(users, items)
        self._changed()  # items are what they were rated
        if users is not None:
            fitted = self._fit_users(inputs.take_rows(self._matrix, users))
            values, bias = self._out_values()
            values[users], bias[users] = fitted[:, :-1], fitted[:, -1]
            network = self._net()
            network.runtime.fill(network.items.values, values)
            network.runtime.fill(network.items.bias, bias)
            self._changed()
        return None
