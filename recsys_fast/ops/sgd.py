"""Stochastic gradient descent over the entries of a sparse matrix, an epoch per call: BPR, WARP, logistic, ratings.

What the four have in common - the schedule, the negatives, features, optimizers - is described in ``bpr_epoch``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.errors import NotSupportedError, message
from recsys_fast.ops.arguments import as_number
from recsys_fast.ops.sgd_problem import (
    EpochResult,
    OptimizerState,
    check_labels,
    check_weights,
    prepare,
    run,
    running_sums,
)
from recsys_fast.ops.topk import as_count

F32 = NDArray[np.float32]

RATING_LOSSES = {"squared": 0, "smooth_l1": 1, "logistic": 2}
_MAX_DRAWS = 1_000_000  # negatives of one visit; their random words are numbered in 32 bits


def _draws(value: Any, name: str, lowest: int) -> int:
    count = as_count(value, name, lowest)
    if count > _MAX_DRAWS:
        raise ValueError(message(name, count, f"at most {_MAX_DRAWS}"))
    return count


def bpr_epoch(
    users: F32,
    items: F32,
    matrix: Any,
    *,
    item_bias: F32 | None = None,
    state: OptimizerState | None = None,
    weights: bool | ArrayLike | None = None,
    rates: ArrayLike | None = None,
    user_features: Any = None,
    item_features: Any = None,
    negative_weights: ArrayLike | None = None,
    n_candidates: int = 1,
    learning_rate: float = 0.05,
    regularization: float = 0.01,
    frozen: str = "none",
    seed: int = 0,
    epoch: int = 0,
    deterministic: bool = True,
    check_finite: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> EpochResult:
    """Visit every entry (u, i) once, draw an item j that is not in the user's row, and rank i above j; in place.

    With x = p_u . (q_i - q_j) + b_i - b_j a visit ascends w log sigmoid(x): g = w sigmoid(-x), and

        p_u += lr (g (q_i - q_j) - reg p_u),  q_i += lr (g p_u - reg q_i),  q_j += lr (-g p_u - reg q_j),

    the biases likewise; all gradients are taken before the first of these steps. With Adagrad or Adam the sum in
    brackets is scaled per parameter (``make_state``). The loss is -w log sigmoid(x).

    Features, as in LightFM: with ``user_features`` the rows of ``users`` belong to features, and p_u = sum_f value_uf *
    users[f]; the gradient goes to each of these rows times its value. ``item_features`` likewise, biases included. For
    an own vector beside the features add a column per user or item.

    Order of the visits: users and items fall at random, anew in each epoch, into B blocks each, B = min(n_users,
    n_items) / 64, at least 1, at most 16; with features B = 1. In round r the cells (user block b, item block b + r mod
    B) share no row, and run in parallel; a cell takes its users, and each user's entries, in ascending order, and draws
    negatives from its own items. So the bits do not depend on ``n_threads``.

    Args:
        users: ``(n_user_rows, d) float32``, C-contiguous, writable; a row per user, or per column of
            ``user_features``. Changed.
        items: ``(n_item_rows, d) float32``, likewise, of items. Changed.
        matrix: ``(n_users, n_items)`` sparse, anything that ``as_csr`` takes: the positives.
        item_bias: ``(n_item_rows,) float32``, changed; None for scores without biases.
        state: what ``make_state`` returned for these tables, changed; None for plain SGD.
        weights: w of every entry: None for 1, True for the matrix's values, or ``(nnz,)`` numbers, 0 or more, in the
            order of the entries of ``as_csr(matrix)``.
        rates: ``(nnz,)`` visits of every entry, in the same order, 0 to 1e6; of a fraction the rest is a probability.
            None for 1. So positives are sampled more or less often.
        user_features: ``(n_users, n_user_rows)`` sparse; None where every user has a row of its own.
        item_features: ``(n_items, n_item_rows)`` sparse; None where every item has a row of its own.
        negative_weights: ``(n_items,)`` numbers, 0 or more, such as ``popularity**0.75``; j is drawn with a probability
            as its weight. None is uniform.
        n_candidates: j is the best scored of that many draws: dynamic negative sampling (Zhang et al. 2013).
        learning_rate: lr.
        regularization: reg, the strength of the penalty reg/2 |row|^2, at every visit of a row.
        frozen: "none"; "items" leaves ``items`` and ``item_bias`` as they are, to fold users in: negatives then come
            from all items, and a user's result depends on its own row alone; "users" moves nothing but the positives'
            rows, to fold items in (choose them by ``rates``). A frozen table may be of any real dtype, and read-only.
        seed: 0 to 2^64 - 1.
        epoch: 0 to 2^32 - 1; another epoch gives other blocks and negatives of the same seed.
        deterministic: False lets threads change rows at the same time, without locks, and draws negatives from all
            items; the bits then depend on chance where ``n_threads`` is above 1.
        check_finite: look for NaN and infinity in the tables first.
        device: backend. All make the same visits and draw the same negatives.
        n_threads: number of threads; None for every CPU granted.

    Returns:
        The sum of the losses in float64, the number of visits trained on, and the number of visits without a step
        because the user has every item that could be drawn.

    Raises:
        TypeError: a table that is changed is not a float32 array, or another argument is of a wrong type.
        ValueError: shapes disagree (a transposed matrix is named as such), values out of range or not finite, tables
            that are read-only, not contiguous or share memory, ``weights`` or ``rates`` for a matrix whose rows are not
            sorted. Nothing has been changed then.
        DivergedError: the loss is not finite; the tables hold what led there.

    References:
        Rendle, Freudenthaler, Gantner, Schmidt-Thieme: BPR: Bayesian Personalized Ranking from Implicit Feedback, 2009.
        Zhang, Chen, Wang, Yu: Optimizing Top-N Collaborative Filtering via Dynamic Negative Item Sampling, 2013. Kula:
        Metadata Embeddings for User and Item Cold-start Recommendations, 2015. Gemulla, Nijkamp, Haas, Sismanis:
        Large-scale Matrix Factorization with Distributed Stochastic Gradient Descent, 2011 (the blocks).
    """
    candidates = _draws(n_candidates, "n_candidates", 1)
    problem = prepare(
        users, items, matrix, None, item_bias, state, weights, rates, user_features, item_features, learning_rate,
        regularization, frozen, seed, epoch, deterministic, check_finite, device, n_threads,
    )  # fmt: skip
    check_weights(problem)
    return run("bpr_epoch", problem, running_sums(negative_weights, problem.n_items), candidates)


def warp_epoch(
    users: F32,
    items: F32,
    matrix: Any,
    *,
    item_bias: F32 | None = None,
    state: OptimizerState | None = None,
    weights: bool | ArrayLike | None = None,
    rates: ArrayLike | None = None,
    user_features: Any = None,
    item_features: Any = None,
    negative_weights: ArrayLike | None = None,
    max_trials: int = 10,
    k_os: int = 0,
    n_os: int = 0,
    learning_rate: float = 0.05,
    regularization: float = 0.0,
    frozen: str = "none",
    seed: int = 0,
    epoch: int = 0,
    deterministic: bool = True,
    check_finite: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> EpochResult:
    """Visit every entry (u, i) once and draw items j outside the user's row until one violates the margin; in place.

    s_j > s_i - 1 is a violation, with s_i = p_u . q_i + b_i. The number t of draws that it took estimates the rank of
    i, hence its weight W = w max(1, log(max(1, (n_items - 1) // t))), and the hinge loss W (1 - s_i + s_j) is
    descended: g = W in the steps of ``bpr_epoch``. Without a violation among ``max_trials`` draws nothing moves. In the
    schedule B = min(n_users, n_items) / 1024, since negatives of small blocks tell ranks too coarsely.

    Args:
        users: ``(n_user_rows, d) float32``, changed; this and all arguments that are not listed are as in
            ``bpr_epoch``.
        items: ``(n_item_rows, d) float32``, changed.
        matrix: ``(n_users, n_items)`` sparse: the positives.
        max_trials: draws at most, 1 to 1,000,000.
        k_os: with ``n_os``: 1 to ``n_os``.
        n_os: above 0 for WARP with the k-order statistic (Weston et al. 2013): at each visit the positive is the
            ``k_os``-th best scored of ``n_os`` draws (with replacement) from the user's row, at its own weight,
            whatever entry is visited. Needs B = 1 in the schedule.

    Returns:
        The sum of the losses, visits with and without a possible negative. A visit without violation counts as trained.

    Raises:
        TypeError, ValueError, DivergedError: as in ``bpr_epoch``.

    References:
        Weston, Bengio, Usunier: WSABIE: Scaling Up to Large Vocabulary Image Annotation, 2011. Weston, Yee, Weiss:
        Learning to Rank Recommendations with the k-Order Statistic Loss, 2013.
    """
    trials, of = _draws(max_trials, "max_trials", 1), _draws(n_os, "n_os", 0)
    k = as_count(k_os, "k_os", 0)
    if k > of or (of and not k):
        raise ValueError(message("k_os", k, f"1 to n_os = {of}" if of else "0 where n_os is 0"))
    problem = prepare(
        users, items, matrix, None, item_bias, state, weights, rates, user_features, item_features, learning_rate,
        regularization, frozen, seed, epoch, deterministic, check_finite, device, n_threads,
    )  # fmt: skip
    check_weights(problem)
    if of and problem.device.startswith("cuda"):
        raise NotSupportedError(message("n_os has no CUDA kernel in this version", mend='use device="cpu"'))
    return run("warp_epoch", problem, running_sums(negative_weights, problem.n_items), trials, k, of)


def logistic_epoch(
    users: F32,
    items: F32,
    matrix: Any,
    *,
    user_bias: F32 | None = None,
    item_bias: F32 | None = None,
    state: OptimizerState | None = None,
    weights: bool | ArrayLike | None = None,
    rates: ArrayLike | None = None,
    user_features: Any = None,
    item_features: Any = None,
    negative_weights: ArrayLike | None = None,
    n_negatives: int = 4,
    learning_rate: float = 0.05,
    regularization: float = 0.01,
    frozen: str = "none",
    seed: int = 0,
    epoch: int = 0,
    deterministic: bool = True,
    check_finite: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> EpochResult:
    """Visit every entry (u, i) once, as label 1 beside label 0 for ``n_negatives`` items outside the row; in place.

    With s_i = p_u . q_i + b_u + b_i a visit ascends w log sigmoid(s_i) + sum_j log sigmoid(-s_j) for the positive i and
    the negatives j: g_i = w sigmoid(-s_i), g_j = -sigmoid(s_j), and

        p_u += lr (sum_k g_k q_k - reg p_u),  q_k += lr (g_k p_u - reg q_k) for k = i and every j,

    the biases likewise (b_u += lr (sum_k g_k - reg b_u)); all gradients are taken before the first of these steps. w is
    the entry's weight, the confidence of the paper. The loss is the negative of what is ascended.

    Args:
        users: ``(n_user_rows, d) float32``, changed; this and all arguments that are not listed are as in
            ``bpr_epoch``.
        items: ``(n_item_rows, d) float32``, changed.
        matrix: ``(n_users, n_items)`` sparse: the positives.
        user_bias: ``(n_user_rows,) float32``, changed, or None.
        item_bias: ``(n_item_rows,) float32``, changed, or None.
        n_negatives: negatives of each visit, 0 to 1,000,000.

    Returns:
        The sum of the losses, the number of labels trained on (positives and negatives; with ``frozen="users"`` only
        positives), and the number of visits without a step because no negative could be drawn.

    Raises:
        TypeError, ValueError, DivergedError: as in ``bpr_epoch``.

    References:
        Johnson: Logistic Matrix Factorization for Implicit Feedback Data, 2014.
    """
    negatives = _draws(n_negatives, "n_negatives", 0)
    problem = prepare(
        users, items, matrix, user_bias, item_bias, state, weights, rates, user_features, item_features, learning_rate,
        regularization, frozen, seed, epoch, deterministic, check_finite, device, n_threads,
    )  # fmt: skip
    check_weights(problem)
    return run("logistic_epoch", problem, running_sums(negative_weights, problem.n_items), negatives)


def rating_epoch(
    users: F32,
    items: F32,
    matrix: Any,
    *,
    user_bias: F32 | None = None,
    item_bias: F32 | None = None,
    state: OptimizerState | None = None,
    mean: float = 0.0,
    loss: str = "squared",
    rates: ArrayLike | None = None,
    user_features: Any = None,
    item_features: Any = None,
    learning_rate: float = 0.01,
    regularization: float = 0.02,
    frozen: str = "none",
    seed: int = 0,
    epoch: int = 0,
    deterministic: bool = True,
    check_finite: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> EpochResult:
    """Visit every rating r of the matrix once and move its user and item towards it; in place.

    With s = mean + b_u + b_i + p_u . q_i and e = r - s the loss is e^2 / 2 ("squared", g = e); the same where |e| < 1
    and |e| - 1/2 beyond ("smooth_l1", g = e cut to -1..1); or, for r in 0..1, log(1 + exp(s)) - r s ("logistic",
    g = r - sigmoid(s)). p_u += lr (g q_i - reg p_u), q_i += lr (g p_u - reg q_i), and the biases likewise.

    SVD++ (Koren 2008) is this operation with user features: rows of ``users`` for the users, and behind them rows for
    the items; the features of a user are its own row with value 1 and the rows of the items N(u) that it has rated with
    value |N(u)|^-1/2. With SGD a run of samples of one user costs d for each of them and d |N(u)| once.

    Args:
        users: ``(n_user_rows, d) float32``, changed; this and all arguments that are not listed are as in
            ``bpr_epoch``.
        items: ``(n_item_rows, d) float32``, changed.
        matrix: ``(n_users, n_items)`` sparse; its values are the ratings, 1 where it has none.
        user_bias: ``(n_user_rows,) float32``, changed, or None.
        item_bias: ``(n_item_rows,) float32``, changed, or None.
        mean: what scores start from, usually the mean rating.
        loss: "squared", "smooth_l1" or "logistic".

    Returns:
        The sum of the losses, the number of visits, and 0.

    Raises:
        TypeError, ValueError, DivergedError: as in ``bpr_epoch``; also ratings outside 0..1 for ``loss="logistic"``.

    References:
        Koren, Bell, Volinsky: Matrix Factorization Techniques for Recommender Systems, 2009. Koren: Factorization Meets
        the Neighborhood: a Multifaceted Collaborative Filtering Model, 2008.
    """
    if loss not in RATING_LOSSES:
        raise ValueError(message("loss", repr(loss), "one of " + ", ".join(RATING_LOSSES)))
    offset = as_number(mean, "mean", None)
    problem = prepare(
        users, items, matrix, user_bias, item_bias, state, True, rates, user_features, item_features, learning_rate,
        regularization, frozen, seed, epoch, deterministic, check_finite, device, n_threads,
    )  # fmt: skip
    if loss == "logistic":
        check_labels(problem)
    return run("rating_epoch", problem, offset, RATING_LOSSES[loss])
