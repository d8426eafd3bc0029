"""Two towers: users and items as vectors of neural networks over their ids and features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from recsys_fast.blocks.embedding_bag import EmbeddingBag
from recsys_fast.blocks.tower import HistoryTower, Tower
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.network_structure import Structured
from recsys_fast.models.parameters import check_int
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.models.sgd_features import Side, check_features
from recsys_fast.models.tower_model import F32, SIDES, TowerModel
from recsys_fast.models.two_tower_history import HistoryInputs, HistoryNetwork
from recsys_fast.models.two_tower_training import Inputs
from recsys_fast.ops import Csr


class TwoTower(TowerModel):
    """Neural content filtering: ``score(u, i) = user tower(u) . item tower(i)`` (Covington 2016, Yi et al. 2019).

    A tower is ``MLP(embedding of the id + embeddings of the features)``, scaled to length 1 with ``normalize``. With
    ``history`` the mean of the embeddings of the user's items is added to that of the user. Features are sparse rows,
    categories and numbers alike (``rf.FeatureBuilder``): each has an embedding, times its value. Users and items
    without interactions have no embedding of their own, and are scored from their features alone.

    Each interaction (u, i) of a batch is told from the other items of the batch, and from ``n_negatives`` that are
    drawn for all of its rows (Yang et al. 2020), by a softmax of the scores over ``temperature``, corrected by the
    logarithm of how often an item is expected among these candidates (Yi et al. 2019).

    Results are the same bits for any number of threads.

    Args:
        n_factors: length of embeddings and vectors.
        hidden: widths of the layers between them in both towers; () makes the sum of embeddings the vector.
        activation: of these layers: "relu", "gelu", "gelu_tanh", "tanh", "sigmoid" or "identity".
        dropout: share of their outputs that training sets to 0.
        layer_norm: whether a layer norm follows each of them.
        normalize: whether vectors have length 1, so that scores are cosines.
        item_bias: whether items have biases, which are added to the scores: popularity needs no part of the vectors.
        history: how many items of a user's history are part of its vector in training, drawn for each interaction out
            of the user's others; then all are. 0 for none. Needs ``identity``.
        temperature: that training divides scores by.
        pooling: "mean" or "sum" of the features' embeddings times their values.
        identity: whether users and items have embeddings of their own. Without, a side needs features.
        id_dropout: share of a batch's rows that go without their own embedding, so that features learn to stand alone
            (Volkovs et al. 2017); only of sides with features.
        n_negatives: items drawn for each batch besides those of its interactions.
        negative: "uniform" or "popularity", by counts^negative_alpha. Items without interactions are never drawn where
            items have features.
        negative_alpha: see there.
        log_q: share of the correction, 0 for none.
        optimizer: "adam", "adamw", "adagrad" or "sgd".
        learning_rate: step width at its highest.
        weight_decay: of the layers and of the embeddings that a step touches.
        clip_norm: length that the gradient is scaled down to; None for never.
        lazy_moments: whether embeddings that a step does not touch rest, instead of following their moments.
        warmup_steps: steps over which the rate grows from 0.
        schedule: "constant", "linear" or "cosine".
        batch_size: interactions of a step; the larger, the more candidates.
        n_epochs: passes over the interactions.
        init_scale: standard deviation of the first embeddings.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        user_factors_, item_factors_: the towers' vectors, ``(n_users, n_factors)`` and ``(n_items, n_factors)
            float32``: for an index of nearest neighbours as they are. With ``item_bias`` they have one number more:
            1, and the bias.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch: the mean loss per interaction.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    References:
        Covington, Adams, Sargin: Deep Neural Networks for YouTube Recommendations, 2016. Yi et al.: Sampling-Bias-
        Corrected Neural Modeling for Large Corpus Item Recommendations, 2019. Yang et al.: Mixed Negative Sampling for
        Learning Two-tower Neural Networks in Recommendations, 2020. Volkovs, Yu, Poutanen: DropoutNet, 2017.
    """

    _training_only: ClassVar[frozenset[str]] = Structured._training_only | {
        "id_dropout", "negative", "temperature",
    }  # fmt: skip

    def __init__(
        self,
        n_factors: int = 64,
        *,
        hidden: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
        normalize: bool = True,
        item_bias: bool = False,
        history: int = 0,
        temperature: float = 0.1,
        pooling: str = "mean",
        identity: bool = True,
        id_dropout: float = 0.0,
        n_negatives: int = 0,
        negative: str = "uniform",
        negative_alpha: float = 0.75,
        log_q: float = 1.0,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        lazy_moments: bool = True,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 2048,
        n_epochs: int = 20,
        init_scale: float = 0.1,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_factors = n_factors
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.layer_norm = layer_norm
        self.normalize = normalize
        self.item_bias = item_bias
        self.history = history
        self.temperature = temperature
        self.pooling = pooling
        self.identity = identity
        self.id_dropout = id_dropout
        self.n_negatives = n_negatives
        self.negative = negative
        self.negative_alpha = negative_alpha
        self.log_q = log_q
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.lazy_moments = lazy_moments
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.init_scale = init_scale
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        check_flag("item_bias", self.item_bias)
        if check_int("history", self.history, 0, 1 << 20) and not self.identity:
            raise ValueError(message("history with identity=False", mend="it is made of the items' own embeddings"))

    def _structure(self) -> dict[str, Any]:
        return {**super()._structure(), "history": self.history > 0}

    # ---- the network

    def _biased(self) -> bool:
        return self.item_bias

    def _user_tower(self, users: EmbeddingBag, items: EmbeddingBag) -> Tower:
        if not self.history:
            return super()._user_tower(users, items)
        return HistoryTower(users, items, self._mlp(), self.normalize)

    def _network_of(self, towers: Any, sides: tuple[Inputs, Inputs], *arguments: Any, **options: Any) -> Any:
        if not self.history:
            return super()._network_of(towers, sides, *arguments, **options)
        with_items = HistoryInputs(sides[0], self._matrix, self.seed_), sides[1]
        return HistoryNetwork(towers, with_items, *arguments, history=self.history, **options)

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

    def _check_given(self, matrix: Csr, **given: Any) -> dict[str, Any]:
        kept = {}
        for name, n in zip(SIDES, matrix.shape, strict=True):
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

    def _vectors_of(self, side: int, rows: Any) -> F32:
        if side == 0 and self.history and isinstance(rows, Inputs):
            nothing = Csr(np.zeros(rows.n + 1, np.int64), np.empty(0, np.int32), None, rows.n, self._shape()[1])
            rows = HistoryInputs(rows, nothing, self.seed_)
        return super()._vectors_of(side, rows)

    def _new_queries(self, given: Csr) -> F32:
        if not self.history:
            return super()._new_queries(given)
        nobody = Csr(np.zeros(given.n_rows + 1, np.int64), np.empty(0, np.int32), None, given.n_rows, 1)
        unknown = Inputs(Side(given.n_rows, False, (nobody,)), mean=False)
        return self._vectors_of(0, HistoryInputs(unknown, given, self.seed_))

    def encode_items(self, item_features: Any) -> F32:
        """Return the vectors of items of which nothing is known but their features; see ``encode_users``."""
        return self._encoded(1, item_features)

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
        self._append(user=user_features, item=item_features)
        return self

    def estimate_memory(
        self, user_items: Any, *, user_features: Any = None, item_features: Any = None
    ) -> dict[str, int]:
        """Return the bytes that ``fit`` with these arguments needs at its peak, by purpose and as "total"."""
        return self._estimate(user_items, user_features=user_features, item_features=item_features)

    def _content_bytes(self, matrix: Csr) -> dict[str, int]:
        """Return what histories take: their order, and the windows of a step with their gradient."""
        if not self.history:
            return {}
        windows = min(self.batch_size, matrix.nnz) * min(self.history + 1, int(np.diff(matrix.row_ptr).max(initial=0)))
        touched = min(windows, matrix.n_cols) + 2 * self.batch_size + self.n_negatives
        return {"history": 4 * matrix.nnz + 80 * windows + 12 * touched * (self.n_factors + 1)}
