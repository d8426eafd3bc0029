"""Bayesian personalised ranking: the items that a user has before those that the user has not."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys_fast.models.parameters import check_int
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.models.sgd_sampled import SampledModel
from recsys_fast.models.sgd_training import PUSH_ITEMS


class BPR(SampledModel):
    """Matrix factorization by Bayesian personalised ranking.

    Every interaction (u, i) is compared once per epoch with an item j that u has not: with ``s_ui = x_u . y_i + b_i``
    a step goes down the gradient of

        - w log sigmoid(s_ui - s_uj) + regularization / 2 (|x_u|^2 + |y_i|^2 + |y_j|^2 + b_i^2 + b_j^2)

    (Rendle et al. 2009). Negatives are verified: never an item of the user. With features the vectors are sums, see
    ``fit``. Results are the same bits for any number of threads, unless ``deterministic`` is False.

    Args:
        n_factors: length of a factor vector.
        learning_rate: size of a step; around 0.05 for "sgd" and "adagrad", 0.002 for "adam".
        regularization: see above; of every step, so that rows that are visited often are held back as often.
        n_epochs: passes over all interactions.
        optimizer: "sgd", "adagrad" (Duchi et al. 2011; the sums of squares start at 1) or "adam" (Kingma and Ba 2015,
            of the rows that a sample touches only).
        schedule: "constant", "linear" or "cosine"; the latter two fall to 0 just after the last epoch.
        init_scale: vectors start as N(0, init_scale / sqrt(n_factors)), those without interactions as zeros.
        item_bias: whether items have biases.
        negative: "uniform"; "popularity", proportional to (number of interactions)^negative_exponent; "adaptive", the
            highest scored of ``n_candidates`` uniform ones (Zhang et al. 2013).
        negative_exponent: of "popularity".
        n_candidates: of "adaptive".
        sample_weight: "none", or "values" for w = value of the interaction; w = 1 otherwise.
        balance: "none"; "users" visits interactions of users with n of them at a rate proportional to
            n^-balance_exponent; "items" likewise. The rates add up to the number of interactions: with exponent 1
            every user (item) is visited equally often.
        balance_exponent: of ``balance``, from 0 to 1.
        identity: whether users (items) with features also have vectors of their own.
        deterministic: False lets threads update without regard to each other, which depends on their timing.
        device: "auto", "cpu", "numba" or "cuda"; on a GPU without features or the folding in of items.
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        user_factors_, item_factors_: ``(n_users, n_factors)`` and ``(n_items, n_factors) float32``, features included.
        item_biases_: ``(n_items,) float32``, with ``item_bias``.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch; the loss is the mean per sample, without the
            penalty.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    References:
        Rendle, Freudenthaler, Gantner, Schmidt-Thieme: BPR: Bayesian Personalized Ranking from Implicit Feedback, 2009.
        Zhang, Chen, Wang, Yu: Optimizing Top-N Collaborative Filtering via Dynamic Negative Item Sampling, 2013.
        Kula: Metadata Embeddings for User and Item Cold-start Recommendations, 2015.
    """

    _operation: ClassVar[str] = "bpr_epoch"
    _negatives: ClassVar[tuple[str, ...]] = ("uniform", "popularity", "adaptive")

    def __init__(
        self,
        n_factors: int = 64,
        *,
        learning_rate: float = 0.05,
        regularization: float = 0.01,
        n_epochs: int = 100,
        optimizer: str = "sgd",
        schedule: str = "linear",
        init_scale: float = 0.1,
        item_bias: bool = True,
        negative: str = "uniform",
        negative_exponent: float = 0.75,
        n_candidates: int = 8,
        sample_weight: str = "none",
        balance: str = "none",
        balance_exponent: float = 0.5,
        identity: bool = True,
        deterministic: bool = True,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_factors = n_factors
        self.learning_rate = learning_rate
        self.regularization = regularization
        self.n_epochs = n_epochs
        self.optimizer = optimizer
        self.schedule = schedule
        self.init_scale = init_scale
        self.item_bias = item_bias
        self.negative = negative
        self.negative_exponent = negative_exponent
        self.n_candidates = n_candidates
        self.sample_weight = sample_weight
        self.balance = balance
        self.balance_exponent = balance_exponent
        self.identity = identity
        self.deterministic = deterministic
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        check_flag("item_bias", self.item_bias)
        check_int("n_candidates", self.n_candidates, 1, 64)

    def _item_biased(self) -> bool:
        return self.item_bias

    def _arguments(self, cdf: NDArray[np.float64], purpose: int) -> tuple[Any, ...]:
        return cdf, self.n_candidates if self.negative == "adaptive" and purpose != PUSH_ITEMS else 1
