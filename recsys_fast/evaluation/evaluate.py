"""The evaluation of a model on held-out interactions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import ops
from recsys_fast.errors import message
from recsys_fast.evaluation import beyond, sampled
from recsys_fast.evaluation.names import LIST_METRICS, RATING_METRICS, Wanted, parse
from recsys_fast.evaluation.ratings import rating_metric
from recsys_fast.evaluation.report import Report, Value
from recsys_fast.evaluation.rows import as_integers, entries_in, take_rows
from recsys_fast.evaluation.scorers import Scorer, SequenceScorer, as_scorer, pool_auc, rank_lists
from recsys_fast.ops import Csr
from recsys_fast.ops.rank_metrics import RANK_METRICS

Values = dict[Wanted, Value]


class _Task(NamedTuple):
    """What is measured on whom: the users that have test items, and their rows."""

    scorer: Scorer
    users: NDArray[np.int32]
    train: Csr | None  # of all users, None where not given
    test: Csr  # rows of ``users``
    seen: Csr | None  # rows of ``users``, None where seen items may be recommended
    how: dict[str, Any]

    def training(self, purpose: str) -> Csr:
        """Return the training matrix, or say what it is missing for."""
        if self.train is None:
            raise ValueError(message("train", "None", f"the training interactions, needed {purpose}"))
        return self.train


def evaluate(
    model: Any,
    train: Any,
    test: Any,
    metrics: str | Iterable[str] = ("recall", "ndcg"),
    ks: int | Iterable[int] = (10,),
    *,
    users: ArrayLike | None = None,
    negatives: int | ArrayLike | None = None,
    filter_seen: bool = True,
    item_features: Any = None,
    seed: int = 0,
    n_threads: int | None = None,
) -> Report:
    """Measure how well a model ranks, or predicts, the interactions in ``test``.

    By default every item is ranked for every user who has test items, except what the user has in ``train``. Test items
    that are in ``train`` too cannot be found then, and count as missed; the report says how many there are.

    Metrics with a cut k, per user (formulas in ``ops.rank_metrics``): precision (hits / k), recall (hits / number of
    test items), f1, hit_rate, ndcg (ideal cut at k), mrr, map. Equal scores are ranked by ascending item id. Of the
    lists of length k: coverage (share of the catalogue in any list), gini (of how often items are recommended),
    novelty (mean -log2 of the share of training users who have the item), diversity (1 - mean cosine of the pairs of
    a list). Without a cut: auc (``ops.rank_auc``); rmse, mae and accuracy of predicted test values, over ratings.

    Args:
        model: a fitted model, or the pair (queries ``(n_users, d)``, items ``(n_items, d)``) of factor arrays; for
            users that were not in training: ``(model.fold_in(histories), model.item_factors_)``. Other objects need
            ``recommend(users, n=, filter_seen=)`` or ``score(users)`` to rank, ``predict(users, items)`` for ratings
            and sampled negatives.
        train: sparse ``(n_users, n_items)`` or ``Sequences``; None where nothing asked for needs it. A sequence model
            (one that can ``encode``) is asked what follows these histories: ``Sequences``, or ``Interactions`` with
            timestamps, of any users.
        test: sparse ``(n_users, n_items)``, the interactions to find; its values matter for ratings only. Of
            ``Sequences`` each user's distinct items.
        metrics: names, alone or with a cut of their own ("ndcg@20").
        ks: cuts of the metrics named without one; may exceed ``n_items``.
        users: ids of the users to evaluate; None for all.
        negatives: None ranks all items. An int ranks the test items of a user among so many items drawn from those in
            neither ``train`` nor ``test``, without repeats, the same for every model. An integer array
            ``(n_users, k)`` gives the lists (-1 pads). Sampled metrics order models differently from full ones, so
            their names say it: "ndcg@10/sampled100".
        filter_seen: do not rank what the user has in ``train``.
        item_features: ``(n_items, f)`` array or sparse matrix for diversity; None for the model's item factors.
        seed: of drawn negatives.
        n_threads: number of threads; None for the model's. The result does not depend on it.

    Returns:
        A ``Report``: ``report["recall@10"]``, ``report.per_user("recall@10")``, ``report.stderr("recall@10")``. Users
        without test items are left out of every mean, and counted.

    Raises:
        TypeError: not a model, dense matrices, names or cuts of a wrong type.
        ValueError: an unknown metric, shapes that disagree, no user with test items, ``test`` without values where
            ratings are asked for.
        IndexError: an unknown user or item id.
        NotFittedError: the model is not fitted.
    """
    wanted = parse(metrics, ks)
    threads = getattr(model, "n_threads", None) if n_threads is None else n_threads
    how: dict[str, Any] = {"device": getattr(model, "device", "auto"), "n_threads": threads}
    scorer = as_scorer(model, train, how)
    held_out = ops.as_csr(test, "test", **how)
    given = None if train is None else ops.as_csr(train, "train", **how)
    shape = scorer.shape or held_out.shape
    _check_shape(held_out, "test", shape, "that of train" if isinstance(scorer, SequenceScorer) else "the model's")
    if given is not None:
        _check_shape(given, "train", shape, "the model's" if scorer.shape else "that of test")
    requested = _as_users(users, shape[0])
    has_test = np.diff(held_out.row_ptr)[requested] > 0
    active = requested[has_test]
    if not len(active):
        what = "no user has test items" if users is None else "none of the users asked for has test items"
        raise ValueError(message(what, mend="check that test is not empty, and that its rows are the model's users"))
    own_test = take_rows(held_out, active)
    own_train = None if given is None else take_rows(given, active)
    n_seen = 0 if own_train is None else int(entries_in(own_test, own_train).sum())
    task = _Task(scorer, active, given, own_test, own_train if filter_seen else None, how)
    if filter_seen and any(want.name not in RATING_METRICS for want in wanted):
        task.training("to leave out what users have seen; or pass filter_seen=False")

    values, suffix, n_negatives = _rate(task, [want for want in wanted if want.name in RATING_METRICS]), "", None
    ranking = [want for want in wanted if want.name not in RATING_METRICS]
    if negatives is None:
        values |= _rank_all(task, ranking, item_features)
    else:
        lists = _as_negatives(negatives, given, held_out, seed, how)
        n_negatives = lists.shape[1]
        suffix = f"/sampled{n_negatives}"
        values |= _rank_sampled(task, ranking, lists)
    protocol = {
        "ranking": ("all items" if negatives is None else "sampled") if ranking else None,
        "n_negatives": n_negatives,
        "seed": int(seed) if negatives is not None and np.ndim(negatives) == 0 else None,
        "filter_seen": bool(filter_seen),
        "n_items": shape[1],
        "n_test": own_test.nnz,
        "n_test_seen": n_seen,
    }
    return Report({want.key(suffix): values[want] for want in wanted}, requested, has_test, protocol)


def _check_shape(csr: Csr, name: str, shape: tuple[int, int], whose: str) -> None:
    if csr.shape == shape:
        return
    mend = "rows and columns of model, train and test must be the same users and items"
    if csr.shape == shape[::-1]:
        mend = f"it looks transposed: pass {name}.T"
    elif csr.n_cols == shape[1]:
        mend = "for users that the model was not trained on pass (model.fold_in(histories), model.item_factors_)"
    raise ValueError(message(f"shape of {name}", csr.shape, f"{whose} {shape}", mend))


def _as_users(users: ArrayLike | None, n_users: int) -> NDArray[np.int32]:
    if users is None:
        return np.arange(n_users, dtype=np.int32)
    ids = np.atleast_1d(as_integers(users, "users"))
    if ids.ndim != 1:
        raise ValueError(message("users", f"shape {ids.shape}", "a 1-D array of user ids"))
    outside = (ids < 0) | (ids >= n_users)
    if outside.any():
        raise IndexError(message(f"users holds user {ids[outside][0]}", expected=f"0 <= user < {n_users}"))
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise ValueError(message("users", f"user {unique[counts > 1][0]} twice", "each user once"))
    return ids.astype(np.int32)


def _as_negatives(negatives: Any, train: Csr | None, test: Csr, seed: int, how: dict[str, Any]) -> NDArray[np.int32]:
    if np.ndim(negatives) > 0:
        return sampled.given_negatives(negatives, test.shape)
    return sampled.draw_negatives(sampled.known_items(train, test), negatives, seed, how)


def _rate(task: _Task, wanted: list[Wanted]) -> Values:
    """Return the metrics of predicted values."""
    if not wanted:
        return {}
    if task.test.values is None:
        raise ValueError(message(f"{wanted[0].name} needs the values of test", mend="pass test with its ratings"))
    levels = None
    if any(want.name == "accuracy" for want in wanted):
        train = task.training("for the ratings that accuracy rounds to")
        if train.values is None or not train.nnz:
            raise ValueError(message("accuracy needs the values of train", mend="pass train with its ratings"))
        levels = np.unique(train.values).astype(np.float64)
    predicted = task.scorer.pairs(task.users, task.test).astype(np.float64)
    actual = task.test.values.astype(np.float64)
    return {want: rating_metric(want.name, predicted, actual, task.test.row_ptr, levels) for want in wanted}


def _rank_all(task: _Task, wanted: list[Wanted], item_features: Any) -> Values:
    """Return the metrics of rankings of all items; lists are kept only where a metric is about them."""
    about_ranks = [want for want in wanted if want.name in RANK_METRICS]
    about_lists = [want for want in wanted if want.name in LIST_METRICS]
    users, test, seen = task.users, task.test, task.seen
    per_user = {}
    values: Values = {}
    if about_lists:
        ids = task.scorer.lists(users, max(want.k or 0 for want in wanted), seen)
        if about_ranks:
            per_user = rank_lists(ids, test, about_ranks, task.how)
        values = _beyond(task, ids, about_lists, item_features)
    elif about_ranks:
        per_user = task.scorer.rank(users, test, seen, about_ranks)
    if Wanted("auc", None) in wanted:
        per_user[Wanted("auc", None)] = task.scorer.auc(users, test, seen)
    return values | {want: Value.of_users(numbers) for want, numbers in per_user.items()}


def _beyond(task: _Task, ids: NDArray[np.int32], wanted: list[Wanted], item_features: Any) -> Values:
    n_items = task.test.n_cols
    values: Values = {}
    for want in wanted:
        part = ids[:, : want.k]
        if want.name == "coverage":
            values[want] = beyond.coverage(part, n_items)
        elif want.name == "gini":
            values[want] = beyond.gini(part, n_items)
        elif want.name == "novelty":
            train = task.training("to know how popular items are")
            values[want] = Value.of_users(beyond.novelty(part, train))
    ks = [want.k for want in wanted if want.name == "diversity" and want.k]
    if ks:
        features = task.scorer.item_vectors() if item_features is None else item_features
        if features is None:
            raise ValueError(message("diversity needs item features", mend="pass item_features, (n_items, f)"))
        for k, numbers in beyond.diversity(ids, ks, features, n_items).items():
            values[Wanted("diversity", k)] = Value.of_users(numbers)
    return values


def _rank_sampled(task: _Task, wanted: list[Wanted], lists: NDArray[np.int32]) -> Values:
    """Return the metrics of rankings of the test items among given negatives."""
    for want in wanted:
        if want.name in LIST_METRICS:
            what = f"{want.name} is about lists chosen from all items"
            raise ValueError(message(what, mend="ask for it in a call with negatives=None"))
    if not wanted:
        return {}
    pool = sampled.candidates(task.users, lists, task.test, task.seen)
    scores = task.scorer.pairs(task.users, pool)
    per_user = {}
    about_ranks = [want for want in wanted if want.name in RANK_METRICS]
    if about_ranks:
        ids = sampled.ranked(pool, scores, max(want.k or 0 for want in about_ranks))
        per_user = rank_lists(ids, task.test, about_ranks, task.how)
    if Wanted("auc", None) in wanted:
        per_user[Wanted("auc", None)] = pool_auc(pool, scores, task.test)
    return {want: Value.of_users(numbers) for want, numbers in per_user.items()}
