"""Neural collaborative filtering: GMF, an MLP over pairs, and both together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import message
from recsys_fast.models.factors import F32, FactorModel
from recsys_fast.models.ncf_model import NcfModel, PairScoring, check_layers
from recsys_fast.models.parameters import check_float, check_int
from recsys_fast.ops import Csr
from recsys_fast.training.network import NetworkTrainer


class GMF(NcfModel, FactorModel):
    """Generalised matrix factorization: s_ui = h . (p_u * q_i) + c, trained by binary cross-entropy (He et al. 2017).

    Every interaction is a positive, with ``n_negatives`` items that the user has not, drawn anew for every step and
    verified. A score is the log-odds that the user wants the item. Results are the same bits for any number of threads.

    Args:
        d: length of p and q.
        n_negatives: per interaction.
        negative: "uniform"; or "popularity", in proportion to (number of interactions)^negative_exponent.
        negative_exponent: of "popularity".
        init_scale: standard deviation of the start values of p and q.
        optimizer: "adam", "adamw", "sgd" or "adagrad".
        learning_rate: at its highest.
        weight_decay: added to the gradient (of the rows of a step only with ``lazy_moments``); with "adamw" apart.
        clip_norm: the gradient is scaled down to this length; None for never.
        lazy_moments: whether "adam" and "adamw" leave rows of users and items that a step does not touch as they are,
            as PyTorch's SparseAdam does. False moves all rows at every step, which takes far longer where there are
            many.
        warmup_steps: steps over which the learning rate rises.
        schedule: "constant", or "linear" or "cosine" down to 0 after ``n_epochs``.
        batch_size: pairs of a step, positives and negatives; a positive is in one step with its negatives.
        n_epochs: passes over all interactions.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        user_factors_: ``(n_users, d + 1) float32``, h * p_u and c.
        item_factors_: ``(n_items, d + 1) float32``, q_i and 1.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch; the loss is the mean per pair.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    References:
        He, Liao, Zhang, Nie, Hu, Chua: Neural Collaborative Filtering, WWW 2017.
    """

    _training_only: ClassVar[frozenset[str]] = NcfModel._training_only
    activation, dropout = "relu", 0.0  # of layers, of which there are none

    def __init__(
        self,
        d: int = 8,
        *,
        n_negatives: int = 4,
        negative: str = "uniform",
        negative_exponent: float = 0.75,
        init_scale: float = 0.01,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        lazy_moments: bool = True,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 1024,
        n_epochs: int = 20,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.d = d
        self.n_negatives = n_negatives
        self.negative = negative
        self.negative_exponent = negative_exponent
        self.init_scale = init_scale
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
        check_int("d", self.d, 1, 4096)
        super()._check_params()

    def _sizes(self) -> tuple[int, tuple[int, ...]]:
        return self.d, (0,)

    @property
    def user_factors_(self) -> F32:
        """h * p_u and c, ``(n_users, d + 1) float32``."""
        self._check_fitted()
        return self._queries(None)

    @property
    def item_factors_(self) -> F32:
        """q_i and 1, ``(n_items, d + 1) float32``."""
        self._check_fitted()
        return self._item_table()

    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        p = self._host("users")[slice(None) if users is None else users]
        return np.column_stack([p * self._host("tower.h"), np.full(len(p), self._host("tower.c")[0])])

    def _item_table(self) -> F32:
        items = self._host("items")
        table: F32 = self._cached("table", lambda: np.column_stack([items, np.ones(len(items), np.float32)]))
        return table

    def _new_queries(self, given: Csr) -> F32:
        raise self._refuse_histories()


class MLPRec(PairScoring):
    """A multi-layer perceptron over pairs: s_ui = h . z_L + c, z_0 = [p_u, q_i] (He et al. 2017).

    Trained as ``GMF``, with which it shares all parameters but these; results are the same bits for any number of
    threads.

    Args:
        layers: width of z_0, twice that of p and q, then of one to eight layers.
        activation: of the layers: "relu", "tanh", "sigmoid" or "identity".
        dropout: share of a layer's outputs that training sets to 0.

    ``similar_items`` compares q, ``similar_users`` p.
    """

    def __init__(
        self,
        layers: Sequence[int] = (64, 32, 16, 8),
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        n_negatives: int = 4,
        negative: str = "uniform",
        negative_exponent: float = 0.75,
        init_scale: float = 0.01,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        lazy_moments: bool = True,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 1024,
        n_epochs: int = 20,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.layers = layers
        self.activation = activation
        self.dropout = dropout
        self.n_negatives = n_negatives
        self.negative = negative
        self.negative_exponent = negative_exponent
        self.init_scale = init_scale
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
        check_layers(self.layers)
        super()._check_params()

    def _sizes(self) -> tuple[int, tuple[int, ...]]:
        return 0, tuple(self.layers)


class NeuMF(PairScoring):
    """Neural matrix factorization: s_ui = h . [p_u * q_i, z_L] + c, z_0 = [p'_u, q'_i] (He et al. 2017).

    Trained as ``GMF`` and ``MLPRec``, whose parameters it has: together from the start, or from those two fitted, see
    ``fit``. Results are the same bits for any number of threads.

    Args:
        d: length of p and q.
        layers: as of ``MLPRec``.
        alpha: share of the GMF in h and c of a network that starts from fitted models.

    ``similar_items`` compares [q, q'], ``similar_users`` [p, p'].
    """

    _given: tuple[GMF, MLPRec] | None = None

    def __init__(
        self,
        d: int = 8,
        layers: Sequence[int] = (64, 32, 16, 8),
        *,
        alpha: float = 0.5,
        activation: str = "relu",
        dropout: float = 0.0,
        n_negatives: int = 4,
        negative: str = "uniform",
        negative_exponent: float = 0.75,
        init_scale: float = 0.01,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        lazy_moments: bool = True,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 1024,
        n_epochs: int = 20,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.d = d
        self.layers = layers
        self.alpha = alpha
        self.activation = activation
        self.dropout = dropout
        self.n_negatives = n_negatives
        self.negative = negative
        self.negative_exponent = negative_exponent
        self.init_scale = init_scale
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

    _training_only: ClassVar[frozenset[str]] = NcfModel._training_only | {"alpha"}

    def _check_params(self) -> None:
        check_int("d", self.d, 1, 4096)
        check_layers(self.layers)
        check_float("alpha", self.alpha, 0.0, high=1.0)
        super()._check_params()

    def _sizes(self) -> tuple[int, tuple[int, ...]]:
        return self.d, tuple(self.layers)

    def fit(
        self,
        user_items: Any,
        *,
        pretrained: tuple[GMF, MLPRec] | None = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
    ) -> Self:
        """Train from scratch, or from two fitted models.

        Args:
            user_items: ``(n_users, n_items)`` interactions.
            pretrained: a ``GMF`` of the same ``d`` and an ``MLPRec`` of the same ``layers`` and ``activation``, fitted
                to as many users and items: tables and layers start as theirs, h as [alpha h_GMF, (1 - alpha) h_MLP], c
                likewise. The paper goes on with ``optimizer="sgd"`` then.
            eval_set: as of ``Recommender.fit``.
            callbacks: as of ``Recommender.fit``.
            verbose: as of ``Recommender.fit``.

        Returns:
            The model.

        Raises:
            ValueError, TypeError: a parameter, the matrix or ``pretrained`` is not usable; the model is left as it was.
            NotFittedError: a model of ``pretrained`` is not fitted.
            DivergedError: the loss is not finite; the last finite epoch is kept.
        """
        try:
            return self._fit(user_items, eval_set, callbacks, verbose, pretrained=pretrained)
        finally:
            vars(self).pop("_given", None)

    def _check_given(self, matrix: Csr, **given: Any) -> dict[str, Any]:
        models = given.get("pretrained")
        if models is None:
            return {"_given": None}
        if not isinstance(models, tuple | list) or [type(model) for model in models] != [GMF, MLPRec]:
            got = [type(model).__name__ for model in (models if isinstance(models, tuple | list) else [models])]
            raise TypeError(message("pretrained", got, "a pair (GMF, MLPRec)"))
        gmf, mlp = models
        activation = {"activation of": (mlp.activation, self.activation)}
        sizes = {"d of": (gmf.d, self.d), "layers of": (tuple(mlp.layers), tuple(self.layers))}
        shapes = {"users and items of GMF in": (gmf._shape(), matrix.shape)}
        shapes["users and items of MLPRec in"] = mlp._shape(), matrix.shape
        for name, (have, expected) in {**sizes, **activation, **shapes}.items():
            if have != expected:
                raise ValueError(message(f"{name} pretrained", have, str(expected)))
        return {"_given": (gmf, mlp)}

    def _begin(self) -> NetworkTrainer:
        trainer = super()._begin()
        if self._given is not None:
            network, fill, (gmf, mlp) = self._pairs(), self._pairs().runtime.fill, self._given
            for table, name in zip(network.tables, ("items", "users"), strict=True):
                fill(table.values, np.concatenate([gmf._host(name), mlp._host(name)], axis=1))
            layers = mlp._pairs().parameters.names[:-2]
            heads = self.alpha * gmf._host("tower.h"), (1.0 - self.alpha) * mlp._host("tower.h")
            bias = self.alpha * gmf._host("tower.c") + (1.0 - self.alpha) * mlp._host("tower.c")
            parts = [*(mlp._host(name).reshape(-1) for name in layers), *heads, bias]
            fill(network.parameters.values, np.concatenate(parts))
        return trainer
