"""What two towers over features are besides their parameters: network, use, cold users and items, files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Block, Runtime
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.blocks.embedding_bag import EmbeddingBag
from recsys_fast.blocks.losses import ItemLoss
from recsys_fast.blocks.mlp import MLP
from recsys_fast.blocks.tower import Tower
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.factors import FactorModel, unit_rows
from recsys_fast.models.network_model import NetworkModel
from recsys_fast.models.network_state import ASKING
from recsys_fast.models.sgd_features import Side, as_scipy, check_features, without_interactions
from recsys_fast.models.sgd_tables import pack_features, read_features
from recsys_fast.models.two_tower_training import Inputs, PairBatches, TwoTowerNetwork
from recsys_fast.ops import Csr

F32 = NDArray[np.float32]
_SIDES = ("user", "item")


class TowerModel(NetworkModel, FactorModel):
    """Common part of models with a tower for users and one for items; ``TwoTower`` describes it."""

    n_factors: int
    hidden: Sequence[int]
    activation: str
    dropout: float
    layer_norm: bool
    normalize: bool
    temperature: float
    pooling: str
    identity: bool
    id_dropout: float
    n_negatives: int
    negative: str
    negative_alpha: float
    log_q: float
    init_scale: float

    _user_features: Csr | None = None
    _item_features: Csr | None = None

    # ---- the network

    def _mlp(self) -> MLP:
        widths = (*self.hidden, self.n_factors) if self.hidden else ()
        return MLP(self.n_factors, widths, self.activation, self.dropout, self.layer_norm)

    def _sides(self, n_users: int, n_items: int) -> tuple[Side, Side]:
        blocks = [() if features is None else (features,) for features in (self._user_features, self._item_features)]
        return Side(n_users, self.identity, blocks[0]), Side(n_items, self.identity, blocks[1])

    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        users, items = (
            EmbeddingBag(side.n_rows, self.n_factors, scale=self.init_scale, name=name)
            for side, name in zip(self._sides(n_users, n_items), ("users", "items"), strict=True)
        )
        return [items, users], {"user_mlp": self._mlp(), "item_mlp": self._mlp()}

    def _make_network(self, runtime: Runtime) -> TwoTowerNetwork:
        tables, blocks = self._parts(*self._matrix.shape)
        items, users = (table for table in tables if isinstance(table, EmbeddingBag))
        mlps = [block for block in blocks.values() if isinstance(block, MLP)]
        towers = Tower(users, mlps[0], self.normalize), Tower(items, mlps[1], self.normalize)
        given = tuple(Inputs(side, self.pooling == "mean") for side in self._sides(*self._matrix.shape))
        return TwoTowerNetwork(
            towers, (given[0], given[1]), self._loss(), self._optimizer(), runtime, seed=self.seed_,
            temperature=self.temperature, id_dropout=self.id_dropout,
        )  # fmt: skip

    def _loss(self) -> ItemLoss | None:
        counts = inputs.column_counts(self._matrix)
        if not counts.any():
            return None
        uniform, described = self.negative == "uniform", self._item_features is not None
        how: dict[str, Any] = {"negatives": "in_batch"}
        if self.n_negatives:
            how = {"negatives": "uniform" if uniform and not described else "popularity"}
            how |= {"n_negatives": self.n_negatives, "alpha": 0.0 if uniform else self.negative_alpha}
        return ItemLoss("sampled_ce", len(counts), counts=counts, shared=True, log_q=self.log_q, **how)

    def _batches(self) -> PairBatches:
        return PairBatches(self._matrix, self.batch_size, self.seed_)

    def _begin(self) -> Any:
        trainer = super()._begin()
        if self.identity:  # what has no interactions is described by its features alone
            for table, empty in zip(self._towers(), without_interactions(self._matrix), strict=True):
                table[: len(empty)][empty] = 0.0
        return trainer

    def _resume(self) -> Any:
        trainer = super()._resume()
        if self.identity:
            generator = np.random.Generator(np.random.Philox(key=np.array([self.seed_, self.n_epochs_], np.uint64)))
            for table, empty in zip(self._towers(), without_interactions(self._matrix), strict=True):
                own = table[: len(empty)]
                first = ~empty & ~own.any(axis=1)
                own[first] = self.init_scale * generator.standard_normal((int(first.sum()), self.n_factors))
        return trainer

    def _towers(self) -> tuple[F32, F32]:
        """Return the tables of users and items."""
        network: Any = self._network
        return network.towers[0].table.values, network.towers[1].table.values

    # ---- training

    def fit(
        self,
        user_items: Any,
        *,
        user_features: Any = None,
        item_features: Any = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
    ) -> Self:
        """Train from scratch.

        Args:
            user_items: ``(n_users, n_items)`` interactions; stored zeros are none, other values count as 1.
            user_features: ``(n_users, n_user_features)`` sparse; None for none.
            item_features: ``(n_items, n_item_features)``, likewise.
            eval_set: test matrix, or the pair (train, test); its metrics join ``history_`` after every epoch.
            callbacks: objects with ``on_epoch_end(state) -> bool | None``; see ``recsys_fast.training``.
            verbose: show a progress bar, or a line per epoch where standard error is not a terminal.

        Returns:
            The model.

        Raises:
            ValueError, TypeError: a parameter, the matrix or features are not usable; the model is left as it was.
            DivergedError: the loss or a parameter is not finite; the last finite epoch is kept.

        An exception, Ctrl-C included, leaves the model at the last finished epoch; unfitted if there was none.
        """
        features = {"user_features": user_features, "item_features": item_features}
        return self._fit(user_items, eval_set, callbacks, verbose, **features)

    def _prepare(self, matrix: Csr) -> Csr:
        if matrix.values is None or matrix.nnz == 0:
            return matrix._replace(values=None)
        if float(matrix.values.min()) < 0.0:
            what = "smallest value, which TwoTower takes for liked"
            mend = "drop what users dislike, or shift the values"
            raise ValueError(message(what, matrix.values.min(), "0 or more", mend))
        return inputs.drop_zeros(matrix)._replace(values=None)

    def _check_given(self, matrix: Csr, **given: Any) -> dict[str, Any]:
        kept = {}
        for name, n in zip(_SIDES, matrix.shape, strict=True):
            kept[f"_{name}_features"] = check_features(given.get(f"{name}_features"), f"{name}_features", name, n)
            if kept[f"_{name}_features"] is None and not self.identity:
                what = f"{name}s have no features, and identity=False"
                raise ValueError(message(what, mend=f"pass {name}_features to fit, or set identity=True"))
        return kept

    def _partial_fit_all(self, user_items: Any, n_epochs: int) -> Self:
        if not self.is_fitted:
            self._check_given(self._prepare(inputs.check_matrix(user_items, "user_items")))
            self._user_features = self._item_features = None
        return super()._partial_fit_all(user_items, n_epochs)

    # ---- use

    def _vectors(self, side: int) -> F32:
        self._check_fitted()
        network: Any = self._net()

        def make() -> F32:
            with ASKING:
                found: F32 = network.vectors(side)
                return found

        vectors: F32 = self._cached(f"{_SIDES[side]}_vectors", make)
        return vectors

    @property
    def user_factors_(self) -> F32:
        """Vectors of the users, ``(n_users, n_factors) float32``."""
        return self._vectors(0)

    @property
    def item_factors_(self) -> F32:
        """Vectors of the items, ``(n_items, n_factors) float32``."""
        return self._vectors(1)

    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        return self.user_factors_ if users is None else self.user_factors_[users]

    def _item_table(self) -> F32:
        return self.item_factors_

    def _user_vectors(self) -> F32:
        return self.user_factors_

    def _item_vectors(self) -> F32:
        return self.item_factors_

    def encode_users(self, user_features: Any) -> F32:
        """Return the vectors of users of whom nothing is known but their features, ``(m, n_factors) float32``.

        Args:
            user_features: ``(m, n_user_features)`` sparse, as in ``fit``.

        Raises:
            ValueError: the model was trained without such features, or with another number of them.
        """
        return self._encoded(0, user_features)

    def encode_items(self, item_features: Any) -> F32:
        """Return the vectors of items of which nothing is known but their features; see ``encode_users``."""
        return self._encoded(1, item_features)

    def _encoded(self, side: int, features: Any) -> F32:
        checked = self._more_features(_SIDES[side], features)
        old = self._sides(*self._shape())[side]
        shifted = checked._replace(col_idx=checked.col_idx + np.int32(old.sizes[0]), n_cols=old.n_rows)
        rows = Inputs(Side(checked.n_rows, False, (shifted,)), self.pooling == "mean")
        network: Any = self._net()
        with ASKING:
            found: F32 = network.vectors(side, rows)
        return found

    def _more_features(self, side: str, features: Any) -> Csr:
        """Return checked features of new users or items."""
        known = getattr(self, f"_{side}_features")
        if known is None:
            mend = f"pass {side}_features to fit as well"
            raise ValueError(message(f"{side}_features of a model that was trained without", mend=mend))
        return inputs.check_matrix(features, f"{side}_features", None, known.n_cols)

    def extend(self, *, user_features: Any = None, item_features: Any = None) -> Self:
        """Append users and items that nothing is known of but their features; they can be recommended at once.

        Args:
            user_features: ``(n_new_users, n_user_features)`` sparse; None for no new users.
            item_features: ``(n_new_items, n_item_features)``, likewise.

        Returns:
            The model. Id maps that came with the training data are dropped where their side grows.

        Raises:
            ValueError: the model was trained without such features, or with another number of them.
        """
        old = dict(zip(_SIDES, self._shape(), strict=True))
        given = {"user": user_features, "item": item_features}
        new = {side: self._more_features(side, some) for side, some in given.items() if some is not None}
        sizes = {side: n + (new[side].n_rows if side in new else 0) for side, n in old.items()}
        self.resize(sizes["user"], sizes["item"])
        for side, csr in new.items():
            ids = np.arange(old[side], sizes[side], dtype=np.int32)
            setattr(self, f"_{side}_features", inputs.replace_rows(getattr(self, f"_{side}_features"), ids, csr))
        self._take_network(self._restored(*self._held()))
        return self

    def _grow(self, n_users: int, n_items: int) -> None:
        before = self._user_features, self._item_features
        old = [len(vectors) for vectors in (self.user_factors_, self.item_factors_)]
        grown = (n_users, n_items)
        try:
            for side, features, n in zip(_SIDES, before, grown, strict=True):
                more = None if features is None else inputs.add_empty(features, n, features.n_cols)
                setattr(self, f"_{side}_features", more)
            super()._grow(n_users, n_items)
        except BaseException:
            self._user_features, self._item_features = before
            raise
        if self.identity:
            for table, first, last in zip(self._towers(), old, grown, strict=True):
                table[first:last] = 0.0

    def fold_in(self, user_items: Any) -> F32:
        """Return vectors of new users from their histories: the mean of the items' vectors.

        It is scaled to length 1 with ``normalize``. The users' tower has no part in it: what it takes of a user are id
        and features (``encode_users``).

        Args:
            user_items: ``(m, n_items)``.

        Returns:
            ``(m, n_factors) float32``; zeros for a user without items.
        """
        _, n_items = self._shape()
        return self._new_queries(self._prepare(inputs.check_matrix(user_items, "user_items", None, n_items)))

    def _new_queries(self, given: Csr) -> F32:
        lengths = np.maximum(np.diff(given.row_ptr), 1).astype(np.float32)
        mean: F32 = (as_scipy(given) @ self.item_factors_) / lengths[:, None]
        return unit_rows(mean) if self.normalize else np.ascontiguousarray(mean)

    # ---- memory and files

    def estimate_memory(
        self, user_items: Any, *, user_features: Any = None, item_features: Any = None
    ) -> dict[str, int]:
        """Return the bytes that ``fit`` with these arguments needs at its peak, by purpose and as "total"."""
        self._check_params()
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items"))
        sketch = type(self)(**self.get_params())
        given = {"user_features": user_features, "item_features": item_features}
        vars(sketch).update(self._check_given(matrix, **given))
        parts = NetworkModel.estimate_memory(sketch, user_items)
        parts.pop("total")
        known = [csr for csr in (sketch._user_features, sketch._item_features) if csr is not None]
        parts["features"] = sum(24 * csr.nnz + 16 * csr.n_rows for csr in known) + 16 * len(known) * sum(matrix.shape)
        parts["vectors"] = 4 * self.n_factors * sum(matrix.shape)
        return {**parts, "total": sum(parts.values())}

    def _step_rows(self, data: Csr) -> tuple[int, int]:
        batch = min(self.batch_size, max(1, data.nnz))
        return 2 * batch + self.n_negatives, batch

    def _loss_bytes(self, n_rows: int, width: int) -> int:
        return 24 * (n_rows + self.n_negatives) * width + (1 << 20)

    def _batch_bytes(self, data: Csr) -> int:
        return 24 * data.nnz

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays, values = super()._pack()
        for side in _SIDES:
            pack_features(arrays, values, side, getattr(self, f"_{side}_features"))
        return arrays, values

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        try:
            self._matrix = self._prepare(self._matrix)
        except ValueError as error:
            raise reader.fail(str(error)) from None
        for side, n in zip(_SIDES, self._matrix.shape, strict=True):
            setattr(self, f"_{side}_features", read_features(reader, values, side, n))
        super()._unpack(reader, values)
