"""Logistic matrix factorization: the probability that a user interacts with an item."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys_fast.models.parameters import check_float, check_int
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.models.sgd_sampled import SampledModel
from recsys_fast.models.sgd_training import PUSH_ITEMS
from recsys_fast.ops import Csr


class LogisticMF(SampledModel):
    """Matrix factorization whose scores are log odds of an interaction.

    With ``s_ui = x_u . y_i + b_u + b_i`` every interaction (u, i) is trained on once per epoch, together with
    ``n_negatives`` items j that u has not; a step goes down the gradient of

        - alpha w log sigmoid(s_ui) - sum_j log sigmoid(-s_uj) + regularization / 2 (squares of what it touches)

    (Johnson 2014, whose sum over all absent items is sampled here). All gradients of one interaction are taken before
    its step; the user moves once, and is regularised once. Negatives are verified: never an item of the user. With
    features the vectors are sums, see ``fit``. Results are the same bits for any number of threads, unless
    ``deterministic`` is False.

    Args:
        n_factors: length of a factor vector.
        learning_rate: size of a step; around 0.05 for "sgd" and "adagrad", 0.002 for "adam".
        regularization: see above; of every step, so that rows that are visited often are held back as often.
        n_epochs: passes over all interactions.
        optimizer: "sgd", "adagrad" (Duchi et al. 2011; the sums of squares start at 1) or "adam" (Kingma and Ba 2015,
            of the rows that a sample touches only).
        schedule: "constant", "linear" or "cosine"; the latter two fall to 0 just after the last epoch.
        init_scale: vectors start as N(0, init_scale / sqrt(n_factors)), those without interactions as zeros.
        biases: whether users and items have biases.
        n_negatives: negatives per interaction.
        alpha: weight of an interaction, beside the 1 of each negative.
        negative: "uniform", or "popularity", proportional to (number of interactions)^negative_exponent.
        negative_exponent: of "popularity".
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
        user_biases_, item_biases_: ``(n_users,)`` and ``(n_items,) float32``, with ``biases``.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch; the loss is the mean per interaction,
            without the penalty.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    References:
        Johnson: Logistic Matrix Factorization for Implicit Feedback Data, 2014. Kula: Metadata Embeddings for User and
        Item Cold-start Recommendations, 2015.
    """

    _operation: ClassVar[str] = "logistic_epoch"

    def __init__(
        self,
        n_factors: int = 64,
        *,
        learning_rate: float = 0.05,
        regularization: float = 0.01,
        n_epochs: int = 40,
        optimizer: str = "sgd",
        schedule: str = "linear",
        init_scale: float = 0.1,
        biases: bool = True,
        n_negatives: int = 8,
        alpha: float = 1.0,
        negative: str = "uniform",
        negative_exponent: float = 0.75,
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
        self.biases = biases
        self.n_negatives = n_negatives
        self.alpha = alpha
        self.negative = negative
        self.negative_exponent = negative_exponent
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
        check_flag("biases", self.biases)
        check_int("n_negatives", self.n_negatives, 1, 100)
        check_float("alpha", self.alpha, 0.0, above=True, high=1e6)

    def _user_biased(self) -> bool:
        return self.biases

    def _item_biased(self) -> bool:
        return self.biases

    def _weighted(self, matrix: Csr) -> Csr:
        if self.alpha == 1.0:
            return matrix
        alpha = np.float32(self.alpha)
        return matrix._replace(values=np.full(matrix.nnz, alpha) if matrix.values is None else matrix.values * alpha)

    def _weight_bytes(self, matrix: Csr) -> int:
        return 0 if self.alpha == 1.0 else 4 * matrix.nnz

    def _arguments(self, cdf: NDArray[np.float64], purpose: int) -> tuple[Any, ...]:
        return cdf, 1 if purpose == PUSH_ITEMS else self.n_negatives

    def _draws(self) -> int:
        return self.n_negatives
