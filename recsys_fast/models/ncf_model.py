"""What the models of neural collaborative filtering share: the network, its parameters, and use over pairs."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import ops
from recsys_fast.blocks.base import Array, Block, Runtime
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models import inputs
from recsys_fast.models.base import Recommendations
from recsys_fast.models.factors import F32, VectorModel
from recsys_fast.models.ncf_network import PairBatches, PairNetwork, PairTower
from recsys_fast.models.network_model import NetworkModel
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.models.sgd_training import negative_cdf
from recsys_fast.ops import Csr
from recsys_fast.ops.block_arguments import FROM_RESULT
from recsys_fast.ops.ncf import MAX_LAYERS

_SCORES = 1 << 22  # scores that are alive at once where all items are ranked
_PAIRS = 1 << 16  # pairs that go through the layers at once


class NcfModel(NetworkModel, VectorModel):
    """Base class of ``GMF``, ``MLPRec`` and ``NeuMF``."""

    _training_only: ClassVar[frozenset[str]] = NetworkModel._training_only | {"negative", "negative_exponent"}

    activation: str
    dropout: float
    n_negatives: int
    negative: str
    negative_exponent: float
    init_scale: float

    @abstractmethod
    def _sizes(self) -> tuple[int, tuple[int, ...]]:
        """Return how many columns are multiplied, and the widths of the tower's inputs and layers; (0,) for none."""

    def _check_params(self) -> None:
        super()._check_params()
        check_choice("activation", self.activation, FROM_RESULT)
        check_float("dropout", self.dropout, 0.0)
        if self.dropout >= 1.0:
            raise ValueError(message("dropout", self.dropout, "0 <= dropout < 1"))
        check_int("n_negatives", self.n_negatives, 1, 1000)
        check_choice("negative", self.negative, ("uniform", "popularity"))
        check_float("negative_exponent", self.negative_exponent, 0.0, high=10.0)
        check_float("init_scale", self.init_scale, 0.0, above=True, high=1e6)

    def _prepare(self, matrix: Csr) -> Csr:
        return inputs.liked(matrix, type(self).__name__)._replace(values=None)

    # ---- training

    def _has_kernels(self) -> bool:
        return True

    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        d_product, widths = self._sizes()
        d = d_product + widths[0] // 2
        kind: dict[str, Any] = {"init": "normal", "scale": self.init_scale}
        tables = [ItemTable(n_items, d, **kind), ItemTable(n_users, d, name="users", **kind)]
        return tables, {"tower": PairTower(widths, d_product)}

    def _make_network(self, runtime: Runtime) -> PairNetwork:
        tables, blocks = self._parts(*self._matrix.shape)
        tower: Any = blocks["tower"]
        cdf = negative_cdf(self._matrix, self.negative_exponent if self.negative == "popularity" else None, False)
        return PairNetwork(
            tables, tower, self.activation, self.dropout, self.n_negatives, self._matrix, cdf, self._optimizer(),
            runtime, seed=self.seed_,
        )  # fmt: skip

    def _batches(self) -> PairBatches:
        return PairBatches(self._matrix, self._n_positives(), self.seed_, self.device, self.n_threads)

    def _n_positives(self) -> int:
        return max(1, self.batch_size // (1 + self.n_negatives))

    def _step_rows(self, data: Csr) -> tuple[int, int]:
        rows = self._n_positives() * (1 + self.n_negatives)
        return rows, rows

    def _batch_bytes(self, data: Csr) -> int:
        return 4 * data.nnz + 24 * data.nnz  # whose each entry is; the order of an epoch while it is sorted

    # ---- vectors

    def _pairs(self) -> PairNetwork:
        network = self._net()
        assert isinstance(network, PairNetwork)
        return network

    def _host(self, name: str) -> F32:
        """Return the table "items" or "users", or a parameter such as "tower.h", in host memory."""
        network = self._pairs()
        tables = {"items": network.items, "users": network.users}
        array = tables[name].values if name in tables else network.parameters.view(name)
        if not network.runtime.on_device:
            return array
        copy: F32 = self._cached(f"host {name}", lambda: network.runtime.to_host(array))
        return copy

    def _item_vectors(self) -> F32:
        return self._host("items")

    def _user_vectors(self) -> F32:
        return self._host("users")

    def _refuse_histories(self) -> NotSupportedError:
        mend = "resize(n_users) and train with partial_fit, or use a model that folds in, such as EASE or MultVAE"
        return NotSupportedError(message(f"{type(self).__name__} knows users by their id only", mend=mend))

    def fold_in(self, user_items: Any) -> F32:
        """Raise NotSupportedError: what is known of a user is a row that training moves with all others."""
        self._check_fitted()
        raise self._refuse_histories()


class PairScoring(NcfModel):
    """Ranking where a score is no inner product: a tile of users at a time, never users x items x width."""

    def _rank(self, users: NDArray[np.int32] | None, given: Csr | None, n: int, **choice: Any) -> Recommendations:
        if given is not None:
            raise self._refuse_histories()
        network, (n_users, n_items) = self._pairs(), self._shape()
        rows = np.arange(n_users, dtype=np.int32) if users is None else users
        seen, block = choice.pop("seen", None), max(1, _SCORES // max(1, n_items))
        where: dict[str, Any] = {"n_threads": self.n_threads, "check": False, "zeros": True}
        where["device"] = network.runtime.device  # where the scores are
        ids, scores = np.empty((len(rows), n), np.int32), np.empty((len(rows), n), np.float32)
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            table = network.scores(self._host("users")[part], network.items.values)
            place = np.arange(len(part), dtype=np.int32)
            itself = Csr(np.arange(len(part) + 1, dtype=np.int64), place, None, len(part), len(part))
            own = None if seen is None else inputs.take_rows(seen, start + place)
            found = ops.product_topk(itself, table, n, seen=own, **where, **choice)
            ids[start : start + block], scores[start : start + block] = map(network.runtime.to_host, found)
        return Recommendations(ids, scores)

    def score(self, users: ArrayLike, items: ArrayLike | None = None) -> F32:
        """Return the scores of items for users; see ``Recommender.score``."""
        n_users, n_items = self._shape()
        user_ids, one = inputs.check_ids(users, n_users, "users")
        chosen = None if items is None else inputs.check_ids(items, n_items, "items")[0]
        network = self._pairs()
        rows = self._host("users")[user_ids], network.items.values if items is None else self._host("items")[chosen]
        scores: F32 = network.runtime.to_host(network.scores(*rows))
        return scores[0] if one else scores

    def predict(self, users: ArrayLike, items: ArrayLike) -> Any:
        """Return the score of each pair ``(users[k], items[k])``, the log-odds that it is wanted; a scalar stands for
        every k.

        Returns:
            ``(m,) float32``, or a float where both are scalars.

        Raises:
            IndexError: an id out of range.
            ValueError: the lengths differ.
        """
        n_users, n_items = self._shape()
        user_ids, item_ids, scalar = inputs.check_pairs(users, items, n_users, n_items)
        out = np.empty(len(user_ids), np.float32)
        for start in range(0, len(out), _PAIRS):
            part = slice(start, start + _PAIRS)
            out[part] = self._through(user_ids[part], item_ids[part])
        return float(out[0]) if scalar else out

    def _through(self, users: NDArray[np.int32], items: NDArray[np.int32]) -> Array:
        """Return the scores of pairs, layer by layer."""
        (d_product, widths), view = self._sizes(), self._host
        p, q = view("users")[users], view("items")[items]
        z = np.concatenate([p[:, d_product:], q[:, d_product:]], axis=1)
        for layer in range(1, len(widths)):
            z = z @ view(f"tower.w{layer}") + view(f"tower.b{layer}")
            if self.activation == "relu":
                np.maximum(z, 0.0, out=z)
            elif self.activation != "identity":
                z = np.tanh(z) if self.activation == "tanh" else 0.5 + 0.5 * np.tanh(0.5 * z)
        both = np.concatenate([p[:, :d_product] * q[:, :d_product], z], axis=1)
        scores: Array = both @ view("tower.h") + view("tower.c")[0]
        return scores


def check_layers(layers: Any) -> None:
    """Raise unless ``layers`` are widths of a tower's inputs, which are even, and of one to eight layers."""
    if not isinstance(layers, list | tuple) or not 2 <= len(layers) <= 1 + MAX_LAYERS:
        raise ValueError(message("layers", repr(layers), f"2 to {1 + MAX_LAYERS} widths, such as (64, 32, 16, 8)"))
    for width in layers:
        check_int("a width of layers", width, 1, 4096)
    if layers[0] % 2:
        mend = "half of it is the width of an embedding"
        raise ValueError(message("first width of layers", layers[0], "an even number", mend))
