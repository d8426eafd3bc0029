"""Matrix factorization of ratings by gradient descent, with biases; SVD++."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import message
from recsys_fast.models.parameters import check_choice
from recsys_fast.models.sgd_factors import SgdFactorModel, check_flag
from recsys_fast.models.sgd_training import SgdTrainer
from recsys_fast.ops import Csr

LOSSES = {"squared": 0, "smooth_l1": 1, "logistic": 2}


class MF(SgdFactorModel):
    """Matrix factorization of ratings.

    With ``s_ui = mean + b_u + b_i + x_u . y_i`` every rating r is trained on once per epoch; a step goes down the
    gradient of

        loss(r, s_ui) + regularization / 2 (|x_u|^2 + |y_i|^2 + b_u^2 + b_i^2)

    where loss is (r - s)^2 / 2, smooth L1 (that up to an error of 1, |r - s| - 1/2 beyond), or
    - r log sigmoid(s) - (1 - r) log sigmoid(-s) for r from 0 to 1. With ``implicit_feedback`` the user's vector is
    ``x_u + |N(u)|^-1/2 sum_{j in N(u)} z_j`` over the rated items N(u), and the bias likewise (SVD++, Koren 2008).
    With features the vectors are sums too, see ``fit``. A stored zero is a rating. Results are the same bits for any
    number of threads, unless ``deterministic`` is False; with features or SVD++ they come from one thread.

    Args:
        n_factors: length of a factor vector.
        learning_rate: size of a step; around 0.02 for ratings of 1 to 5.
        regularization: see above; of every step, so that rows that are visited often are held back as often.
        n_epochs: passes over all interactions.
        optimizer: "sgd", "adagrad" (Duchi et al. 2011; the sums of squares start at 1) or "adam" (Kingma and Ba 2015,
            of the rows that a sample touches only).
        schedule: "constant", "linear" or "cosine"; the latter two fall to 0 just after the last epoch.
        init_scale: vectors start as N(0, init_scale / sqrt(n_factors)), those without interactions as zeros.
        loss: "squared", "smooth_l1" or "logistic"; scores of the last are log odds, 1 / (1 + exp(-s)) probabilities.
        biases: whether users and items have biases.
        implicit_feedback: SVD++: which items a user has rated, whatever the ratings, describes the user.
        balance: "none"; "users" visits interactions of users with n of them at a rate proportional to
            n^-balance_exponent; "items" likewise. The rates add up to the number of interactions: with exponent 1
            every user (item) is visited equally often.
        balance_exponent: of ``balance``, from 0 to 1.
        identity: whether users (items) with features also have vectors of their own.
        deterministic: False lets threads update without regard to each other, which depends on their timing.
        device: "auto", "cpu", "numba" or "cuda"; on a GPU without features or SVD++.
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        user_factors_, item_factors_: ``(n_users, n_factors)`` and ``(n_items, n_factors) float32``, features included.
        user_biases_, item_biases_: ``(n_users,)`` and ``(n_items,) float32``, with ``biases``.
        global_mean_: mean rating, its log odds with the logistic loss.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch; the loss is the mean per rating,
            without the penalty.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    References:
        Koren, Bell, Volinsky: Matrix Factorization Techniques for Recommender Systems, 2009. Koren: Factorization Meets
        the Neighborhood: a Multifaceted Collaborative Filtering Model, 2008. Kula: Metadata Embeddings for User and
        Item Cold-start Recommendations, 2015.
    """

    _learned: ClassVar[tuple[str, ...]] = (*SgdFactorModel._learned, "global_mean_")
    _operation: ClassVar[str] = "rating_epoch"

    global_mean_: float

    def __init__(
        self,
        n_factors: int = 64,
        *,
        learning_rate: float = 0.02,
        regularization: float = 0.08,
        n_epochs: int = 40,
        optimizer: str = "sgd",
        schedule: str = "linear",
        init_scale: float = 0.2,
        loss: str = "squared",
        biases: bool = True,
        implicit_feedback: bool = False,
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
        self.loss = loss
        self.biases = biases
        self.implicit_feedback = implicit_feedback
        self.balance = balance
        self.balance_exponent = balance_exponent
        self.identity = identity
        self.deterministic = deterministic
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        check_choice("loss", self.loss, tuple(LOSSES))
        check_flag("biases", self.biases)
        check_flag("implicit_feedback", self.implicit_feedback)

    def _user_biased(self) -> bool:
        return self.biases

    def _item_biased(self) -> bool:
        return self.biases

    def _interacted(self) -> bool:
        return self.implicit_feedback

    def _mean(self) -> float:
        return self.global_mean_

    def _prepare(self, matrix: Csr) -> Csr:
        if matrix.values is None and matrix.nnz:
            mend = "pass ratings, or use BPR for interactions without values"
            raise ValueError(message("user_items without values", expected="ratings", mend=mend))
        if matrix.values is None:
            return matrix._replace(values=np.empty(0, np.float32))
        if self.loss == "logistic" and matrix.nnz and not 0.0 <= matrix.values.min() <= matrix.values.max() <= 1.0:
            got = f"{matrix.values.min():g} to {matrix.values.max():g}"
            raise ValueError(
                message('ratings with loss="logistic"', got, "0 to 1", 'scale them, or use loss="squared"')
            )
        return matrix

    def _begin(self) -> SgdTrainer:
        values = self._matrix.values
        mean = float(values.mean(dtype=np.float64)) if values is not None and len(values) else 0.0
        if self.loss == "logistic":
            mean = min(max(mean, 1e-6), 1.0 - 1e-6)
            mean = math.log(mean / (1.0 - mean)) if self._matrix.nnz else 0.0
        self.global_mean_ = mean
        return super()._begin()

    def _arguments(self, cdf: NDArray[np.float64], purpose: int) -> tuple[Any, ...]:
        return self.global_mean_, LOSSES[self.loss]

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays, values = super()._pack()
        return arrays, {**values, "global_mean": self.global_mean_}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import take_number

        self.global_mean_ = take_number(reader, values, "global_mean")
        super()._unpack(reader, values)
