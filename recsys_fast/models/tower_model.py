"""What two towers are besides their parameters: network, use, cold users, files; over features of users and items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
from recsys_fast.models.memory import with_device
from recsys_fast.models.network_model import NetworkModel
from recsys_fast.models.network_state import ASKING
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.models.sgd_features import Side, as_scipy, without_interactions
from recsys_fast.models.sgd_tables import pack_features, read_features
from recsys_fast.models.two_tower_training import BLOCK, AnyTower, Inputs, PairBatches, TwoTowerNetwork, parts_of
from recsys_fast.ops import Csr
from recsys_fast.ops.block_arguments import ACTIVATIONS

F32 = NDArray[np.float32]
SIDES = ("user", "item")
# What a GPU has of scores at a time, or those of 64 rows, and of the parts of a product that are added up.
_SCORES, _PARTS = 8 << 20, 2 << 20


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

    def _check_params(self) -> None:
        super()._check_params()
        check_int("n_factors", self.n_factors, 1, 65535)
        if isinstance(self.hidden, str) or not isinstance(self.hidden, Sequence):
            raise TypeError(message("hidden", type(self.hidden).__name__, "a tuple of widths, such as (128,)"))
        for width in self.hidden:
            check_int("hidden", width, 1, 65536)
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        for name in ("dropout", "id_dropout"):
            if check_float(name, getattr(self, name), 0.0, high=1.0) == 1.0:
                raise ValueError(message(name, 1.0, f"0 <= {name} < 1"))
        for name in ("layer_norm", "normalize", "identity"):
            check_flag(name, getattr(self, name))
        check_float("temperature", self.temperature, 0.0, above=True, high=1e6)
        check_choice("pooling", self.pooling, ("mean", "sum"))
        check_int("n_negatives", self.n_negatives, 0, 1 << 20)
        check_choice("negative", self.negative, ("uniform", "popularity"))
        check_float("negative_alpha", self.negative_alpha, 0.0, high=10.0)
        check_float("log_q", self.log_q, 0.0, high=1.0)
        check_float("init_scale", self.init_scale, 0.0, above=True, high=1e6)
        self._mlp()

    # ---- the network

    def _has_kernels(self) -> bool:
        return True

    def _mlp(self) -> MLP:
        widths = (*self.hidden, self.n_factors) if self.hidden else ()
        return MLP(self.n_factors, widths, self.activation, self.dropout, self.layer_norm)

    def _sides(self, n_users: int, n_items: int) -> tuple[Side, Side]:
        blocks = [() if features is None else (features,) for features in (self._user_features, self._item_features)]
        return Side(n_users, self.identity, blocks[0]), Side(n_items, self.identity, blocks[1])

    def _make_towers(self, n_users: int, n_items: int) -> tuple[AnyTower, AnyTower]:
        """Return the towers of users and items, not connected yet."""
        users, items = (
            EmbeddingBag(side.n_rows, self.n_factors, scale=self.init_scale, name=name, biased=biased)
            for side, name, biased in zip(
                self._sides(n_users, n_items), ("users", "items"), (False, self._biased()), strict=True
            )
        )
        return self._user_tower(users, items), Tower(items, self._mlp(), self.normalize)

    def _user_tower(self, users: EmbeddingBag, items: EmbeddingBag) -> Tower:
        """Return the tower over the table of users; ``items`` is the table of the other one."""
        return Tower(users, self._mlp(), self.normalize)

    def _biased(self) -> bool:
        """Return whether items have biases: a last number of their vectors, which meets a 1 of the users'."""
        return False

    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        return parts_of(*self._make_towers(n_users, n_items))

    def _make_network(self, runtime: Runtime) -> TwoTowerNetwork:
        users, items = (Inputs(side, self.pooling == "mean") for side in self._sides(*self._matrix.shape))
        network: TwoTowerNetwork = self._network_of(
            self._make_towers(*self._matrix.shape), (users, items), self._loss(), self._optimizer(), runtime,
            seed=self.seed_, temperature=self.temperature, id_dropout=self.id_dropout, biased=self._biased(),
        )  # fmt: skip
        return network

    def _network_of(self, towers: Any, sides: tuple[Inputs, Inputs], *arguments: Any, **options: Any) -> Any:
        """Return the network of these towers."""
        return TwoTowerNetwork(towers, sides, *arguments, **options)

    def _loss(self) -> ItemLoss | None:
        counts = inputs.column_counts(self._matrix)
        if not counts.any():
            return None
        uniform = self.negative == "uniform"
        how: dict[str, Any] = {"negatives": "in_batch"}
        if self.n_negatives:
            how = {"negatives": "uniform" if uniform and not self._described() else "popularity"}
            how |= {"n_negatives": self.n_negatives, "alpha": 0.0 if uniform else self.negative_alpha}
        return ItemLoss(self._loss_kind(), len(counts), counts=counts, shared=True, log_q=self._log_q(), **how)

    def _described(self) -> bool:
        """Return whether items without interactions have vectors: they must not be drawn as negatives."""
        return self._item_features is not None

    def _loss_kind(self) -> str:
        return "sampled_ce"

    def _log_q(self) -> float:
        return self.log_q

    def _batches(self) -> PairBatches:
        return PairBatches(self._matrix, self.batch_size, self.seed_)

    def _begin(self) -> Any:
        trainer = super()._begin()
        empty = without_interactions(self._matrix)  # what has none is described by its features alone

        def clear(side: int, rows: F32) -> None:
            rows[: len(empty[side])][empty[side]] = 0.0

        self._change_own(clear)
        return trainer

    def _resume(self) -> Any:
        trainer = super()._resume()
        empty = without_interactions(self._matrix)
        generator = np.random.Generator(np.random.Philox(key=np.array([self.seed_, self.n_epochs_], np.uint64)))

        def start(side: int, rows: F32) -> None:
            own = rows[: len(empty[side])]
            first = ~empty[side] & ~own.any(axis=1)
            drawn = self.init_scale * generator.standard_normal((int(first.sum()), self.n_factors))
            own[first, : self.n_factors] = drawn

        self._change_own(start)
        return trainer

    def _change_own(self, change: Callable[[int, F32], None]) -> None:
        """Call ``change(side, rows)`` for the tables that begin with embeddings of the users (0) and of the items (1)
        themselves; it may write into the rows."""
        network: Any = self._network
        runtime: Runtime = network.runtime
        for side, tower in enumerate(network.towers):
            if network.sides[side].own:
                rows = runtime.to_host(tower.table.values)
                change(side, rows)
                if runtime.on_device:
                    runtime.fill(tower.table.values, rows)

    def _prepare(self, matrix: Csr) -> Csr:
        if matrix.values is None or matrix.nnz == 0:
            return matrix._replace(values=None)
        if float(matrix.values.min()) < 0.0:
            what = f"smallest value, which {type(self).__name__} takes for liked"
            mend = "drop what users dislike, or shift the values"
            raise ValueError(message(what, matrix.values.min(), "0 or more", mend))
        return inputs.drop_zeros(matrix)._replace(values=None)

    # ---- use

    def _vectors(self, side: int) -> F32:
        self._check_fitted()
        network: Any = self._net()

        def make() -> F32:
            with ASKING:
                found: F32 = network.vectors(side)
                return found

        vectors: F32 = self._cached(f"{SIDES[side]}_vectors", make)
        return vectors

    @property
    def user_factors_(self) -> F32:
        """Vectors of the users, ``(n_users, n_factors) float32``; with biases of items a 1 behind them."""
        return self._vectors(0)

    @property
    def item_factors_(self) -> F32:
        """Vectors of the items, ``(n_items, n_factors) float32``; with biases these behind them."""
        return self._vectors(1)

    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        return self.user_factors_ if users is None else self.user_factors_[users]

    def _item_table(self) -> F32:
        return self.item_factors_

    def _user_vectors(self) -> F32:
        return self.user_factors_[:, : self.n_factors]

    def _item_vectors(self) -> F32:
        return self.item_factors_[:, : self.n_factors]

    def encode_users(self, user_features: Any) -> F32:
        """Return the vectors of users of whom nothing is known but their features, ``(m, n_factors) float32``.

        Args:
            user_features: ``(m, n_user_features)`` sparse, as in ``fit``.

        Raises:
            ValueError: the model was trained without such features, or with another number of them.
        """
        return self._encoded(0, user_features)

    def _encoded(self, side: int, features: Any) -> F32:
        checked = self._more_features(SIDES[side], features)
        old = self._sides(*self._shape())[side]
        shifted = checked._replace(col_idx=checked.col_idx + np.int32(old.sizes[0]), n_cols=old.n_rows)
        return self._vectors_of(side, Inputs(Side(checked.n_rows, False, (shifted,)), self.pooling == "mean"))

    def _vectors_of(self, side: int, rows: Any) -> F32:
        """Return the vectors of what ``rows`` describe."""
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

    def _append(self, **features: Any) -> None:
        """Append users and items ("user", "item") that nothing is known of but these features; None for none."""
        new = {side: self._more_features(side, some) for side, some in features.items() if some is not None}
        old = dict(zip(SIDES, self._shape(), strict=True))
        sizes = {side: n + (new[side].n_rows if side in new else 0) for side, n in old.items()}
        self.resize(sizes["user"], sizes["item"])
        for side, csr in new.items():
            ids = np.arange(old[side], sizes[side], dtype=np.int32)
            setattr(self, f"_{side}_features", inputs.replace_rows(getattr(self, f"_{side}_features"), ids, csr))
        self._take_network(self._restored(*self._held()))

    def _grow(self, n_users: int, n_items: int) -> None:
        before, grown, held = (self._user_features, self._item_features), (n_users, n_items), self._held()[0]
        rows = [len(held.get(name, ())) for name in ("users", "items")]
        old = [n - (0 if features is None else features.n_cols) for n, features in zip(rows, before, strict=True)]
        try:
            for side, features, n in zip(SIDES, before, grown, strict=True):
                more = None if features is None else inputs.add_empty(features, n, features.n_cols)
                setattr(self, f"_{side}_features", more)
            super()._grow(n_users, n_items)
        except BaseException:
            self._user_features, self._item_features = before
            raise

        def clear(side: int, table: F32) -> None:
            table[old[side] : grown[side]] = 0.0

        self._change_own(clear)

    def fold_in(self, user_items: Any) -> F32:
        """Return vectors of new users from their histories: the mean of the items' vectors.

        It is scaled to length 1 with ``normalize``. The users' tower has no part in it: what it takes of a user are id
        and features (``encode_users``).

        Args:
            user_items: ``(m, n_items)``.

        Returns:
            ``(m, n_factors) float32``, as ``user_factors_``; zeros for a user without items.
        """
        _, n_items = self._shape()
        return self._new_queries(self._prepare(inputs.check_matrix(user_items, "user_items", None, n_items)))

    def _new_queries(self, given: Csr) -> F32:
        lengths = np.maximum(np.diff(given.row_ptr), 1).astype(np.float32)
        mean: F32 = (as_scipy(given) @ self._item_vectors()) / lengths[:, None]
        mean = unit_rows(mean) if self.normalize else mean
        return np.column_stack([mean, np.ones(len(mean), np.float32)]) if self._biased() else np.ascontiguousarray(mean)

    # ---- memory and files

    def _estimate(self, user_items: Any, **given: Any) -> dict[str, int]:
        """Return what ``estimate_memory`` does, for further inputs of ``fit``."""
        self._check_params()
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items"))
        sketch = self._sketch(**self._check_given(matrix, **given))
        parts = NetworkModel.estimate_memory(sketch, user_items)
        on_device = parts.pop("device", 0)
        parts.pop("total")
        known = [csr for csr in (sketch._user_features, sketch._item_features) if csr is not None]
        parts["features"] = sum(24 * csr.nnz + 16 * csr.n_rows for csr in known) + 16 * len(known) * sum(matrix.shape)
        parts["vectors"] = 4 * self.n_factors * sum(matrix.shape)
        parts |= sketch._content_bytes(matrix)
        return with_device(parts, on_device)

    def _content_bytes(self, matrix: Csr) -> dict[str, int]:
        """Return what content of items takes besides."""
        return {}

    def _step_rows(self, data: Csr) -> tuple[int, int]:
        batch = min(self.batch_size, max(1, data.nnz))
        return 2 * batch + self.n_negatives, batch

    def _loss_bytes(self, n_rows: int, width: int) -> int:
        return 24 * (n_rows + self.n_negatives) * width + (1 << 20)

    def _device_work(self, data: Csr) -> int:
        d, batch = self.n_factors, min(self.batch_size, max(1, data.nnz))
        n, total = batch + self.n_negatives, 0
        for side, count in zip(self._sides(*data.shape), data.shape, strict=True):
            rows = max(n, min(BLOCK, count))  # of a step, or of the vectors of all
            entries = int(side.own) + sum(block.nnz for block in side.blocks) // max(1, count) + 1
            total += rows * (32 * (d + sum(self.hidden)) + entries * (32 + 4 * d))
        scores, parts = min(max(_SCORES, 64 * n), batch * n), max(n * d, min(_PARTS, n * d * (n // 128)))
        return total + 4 * scores + 8 * parts

    def _batch_bytes(self, data: Csr) -> int:
        return 24 * data.nnz

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays, values = super()._pack()
        for side in SIDES:
            pack_features(arrays, values, side, getattr(self, f"_{side}_features"))
        return arrays, values

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        try:
            self._matrix = self._prepare(self._matrix)
        except ValueError as error:
            raise reader.fail(str(error)) from None
        for side, n in zip(SIDES, self._matrix.shape, strict=True):
            setattr(self, f"_{side}_features", read_features(reader, values, side, n))
        super()._unpack(reader, values)
