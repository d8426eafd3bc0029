"""Weighted approximate-rank pairwise loss: the further down an item is ranked, the larger its step."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models.parameters import check_int
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.models.sgd_sampled import SampledModel
from recsys_fast.models.sgd_training import FIT, FOLD_USERS, PUSH_ITEMS, on_cuda


class WARP(SampledModel):
    """Matrix factorization by the weighted approximate-rank pairwise loss, and its k-order-statistic form.

    For every interaction (u, i), once per epoch, items j that u has not are drawn until one violates the margin,
    ``s_uj > s_ui - 1`` with ``s_ui = x_u . y_i + b_i``, at most ``max_trials`` times. The number of trials N tells
    where i is ranked, and a step goes down the gradient of

        w log(max(e, (n_items - 1) // N)) (1 - s_ui + s_uj) + regularization / 2 (squares of what it touches)

    (Weston, Bengio, Usunier 2011). No violation, no step. With ``n_os`` > 0 the positive of a sample is the
    ``k_os``-th best scored of ``n_os`` drawn from the user's items (k-OS, Weston, Yee, Weiss 2013). Negatives are
    verified: never an item of the user. With features the vectors are sums, see ``fit``. Results are the same bits for
    any number of threads, unless ``deterministic`` is False; with features or k-OS they come from one thread.

    Args:
        n_factors: length of a factor vector.
        learning_rate: size of a step; around 0.01 for "sgd", 0.05 for "adagrad", 0.002 for
            "adam".
        regularization: see above; of every step, so that rows that are visited often are held back as often.
        n_epochs: passes over all interactions.
        optimizer: "sgd", "adagrad" (Duchi et al. 2011; the sums of squares start at 1) or "adam" (Kingma and Ba 2015,
            of the rows that a sample touches only).
        schedule: "constant", "linear" or "cosine"; the latter two fall to 0 just after the last epoch.
        init_scale: vectors start as N(0, init_scale / sqrt(n_factors)), those without interactions as zeros.
        item_bias: whether items have biases.
        max_trials: negatives drawn per sample at most.
        k_os: which of the ``n_os`` positives is trained on, 1 the best scored.
        n_os: positives drawn per sample; 0 for plain WARP.
        negative: "uniform", or "popularity", proportional to (number of interactions)^negative_exponent.
        negative_exponent: of "popularity".
        sample_weight: "none", or "values" for w = value of the interaction; w = 1 otherwise.
        balance: "none"; "users" visits interactions of users with n of them at a rate proportional to
            n^-balance_exponent; "items" likewise. The rates add up to the number of interactions: with exponent 1
            every user (item) is visited equally often.
        balance_exponent: of ``balance``, from 0 to 1.
        identity: whether users (items) with features also have vectors of their own.
        deterministic: False lets threads update without regard to each other, which depends on their timing.
        device: "auto", "cpu", "numba" or "cuda"; on a GPU without features, ``n_os`` or the folding in of items.
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
        Weston, Bengio, Usunier: WSABIE: Scaling Up To Large Vocabulary Image Annotation, 2011. Weston, Yee, Weiss:
        Learning to Rank Recommendations with the k-Order Statistic Loss, 2013. Kula: Metadata Embeddings for User and
        Item Cold-start Recommendations, 2015.
    """

    _operation: ClassVar[str] = "warp_epoch"

    def __init__(
        self,
        n_factors: int = 64,
        *,
        learning_rate: float = 0.01,
        regularization: float = 0.1,
        n_epochs: int = 40,
        optimizer: str = "sgd",
        schedule: str = "linear",
        init_scale: float = 0.1,
        item_bias: bool = True,
        max_trials: int = 10,
        k_os: int = 5,
        n_os: int = 0,
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
        self.item_bias = item_bias
        self.max_trials = max_trials
        self.k_os = k_os
        self.n_os = n_os
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
        check_flag("item_bias", self.item_bias)
        check_int("max_trials", self.max_trials, 1, 64)
        check_int("n_os", self.n_os, 0, 64)
        check_int("k_os", self.k_os, 1, max(64 if self.n_os == 0 else self.n_os, 1))

    def _item_biased(self) -> bool:
        return self.item_bias

    def _arguments(self, cdf: NDArray[np.float64], purpose: int) -> tuple[Any, ...]:
        # folding items in: the positive has to be the item itself
        n_os = self.n_os if purpose in (FIT, FOLD_USERS) else 0
        if n_os and on_cuda(self):
            raise NotSupportedError(message("n_os has no CUDA kernel in this version", mend='use device="cpu"'))
        return cdf, 1 if purpose == PUSH_ITEMS else self.max_trials, self.k_os, n_os

    def _draws(self) -> int:
        return self.max_trials
