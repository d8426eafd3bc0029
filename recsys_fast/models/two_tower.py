"""Two towers: users and items as vectors of neural networks over their ids and features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from recsys_fast.errors import message
from recsys_fast.models.network_structure import Structured
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.models.tower_model import TowerModel
from recsys_fast.ops.block_arguments import ACTIVATIONS


class TwoTower(TowerModel):
    """Neural content filtering: ``score(u, i) = user tower(u) . item tower(i)`` (Covington 2016, Yi et al. 2019).

    A tower is ``MLP(embedding of the id + embeddings of the features)``, scaled to length 1 with ``normalize``.
    Features are sparse rows, categories and numbers alike (``rf.FeatureBuilder``): each has an embedding, times its
    value. Users and items without interactions have no embedding of their own, and are scored from their features
    alone.

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
        device: "auto", "cpu" or "numba".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        user_factors_, item_factors_: the towers' vectors, ``(n_users, n_factors)`` and ``(n_items, n_factors)
            float32``: for an index of nearest neighbours as they are.
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
