"""One face for everything that can be evaluated: models with factors, other models, pairs of factor arrays."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.data import Interactions, Sequences
from recsys_fast.errors import message
from recsys_fast.evaluation.names import Wanted
from recsys_fast.evaluation.rows import entries_in, row_of_entry, take_rows
from recsys_fast.ops import Csr
from recsys_fast.ops.rank_metrics import RANK_METRICS
from recsys_fast.ops.topk import as_factors

I32 = NDArray[np.int32]
F64 = NDArray[np.float64]
_BLOCK_SCORES = 1 << 23  # scores of a model without factors that are alive at once


class Scorer(Protocol):
    """What the protocols need. ``users`` are ids; rows of the matrices belong to them in that order."""

    shape: tuple[int, int] | None

    def rank(self, users: I32, test: Csr, seen: Csr | None, wanted: list[Wanted]) -> dict[Wanted, F64]:
        """Return metrics of the ranking of all items per user."""

    def auc(self, users: I32, test: Csr, seen: Csr | None) -> F64:
        """Return the area under the ROC curve per user."""

    def lists(self, users: I32, n: int, seen: Csr | None) -> I32:
        """Return the best n items of each user, ``(len(users), n)``, -1 where a list has ended."""

    def pairs(self, users: I32, pairs: Csr) -> NDArray[Any]:
        """Return the score of each entry of ``pairs``."""

    def item_vectors(self) -> NDArray[Any] | None:
        """Return what items can be compared by, ``(n_items, k)``, or None."""


class FactorScorer:
    """Scores are inner products: the fused operations do everything."""

    def __init__(self, queries: Any, items: Any, item_vectors: Any, how: dict[str, Any]) -> None:
        self._queries = as_factors(queries, "queries of the model")
        self._items = as_factors(items, "items of the model")
        if self._queries.shape[1] != self._items.shape[1]:
            got = f"{self._queries.shape} and {self._items.shape}"
            raise ValueError(message("shapes of queries and items", got, "(n_users, d) and (n_items, d)"))
        self.shape: tuple[int, int] | None = (len(self._queries), len(self._items))
        self._item_vectors = item_vectors
        self._how = how

    def _of(self, users: I32) -> NDArray[np.float32]:
        everybody = len(users) == len(self._queries) and np.array_equal(users, np.arange(len(users)))
        return self._queries if everybody else self._queries[users]

    def rank(self, users: I32, test: Csr, seen: Csr | None, wanted: list[Wanted]) -> dict[Wanted, F64]:
        """Return metrics of the ranking of all items per user, found in one pass."""
        ks = sorted({want.k for want in wanted if want.k})
        found = ops.rank_metrics(self._items, self._of(users), test, ks, seen=seen, check_finite=False, **self._how)
        return {want: found[want.name][:, ks.index(want.k)] for want in wanted if want.k}

    def auc(self, users: I32, test: Csr, seen: Csr | None) -> F64:
        """Return the area under the ROC curve per user."""
        return ops.rank_auc(self._items, self._of(users), test, seen=seen, check_finite=False, **self._how)

    def lists(self, users: I32, n: int, seen: Csr | None) -> I32:
        """Return the best n items of each user."""
        return ops.topk(self._items, self._of(users), n, seen=seen, check_finite=False, **self._how)[0]

    def pairs(self, users: I32, pairs: Csr) -> NDArray[Any]:
        """Return the score of each entry of ``pairs``."""
        return ops.pair_scores(self._of(users), self._items, pairs, check_finite=False, **self._how)

    def item_vectors(self) -> NDArray[Any] | None:
        """Return the item factors, without what only the scores need (such as biases)."""
        return None if self._item_vectors is None else np.asarray(self._item_vectors)


class SequenceScorer(FactorScorer):
    """A sequence model: queries are encoded from the histories given, not from those it was trained on."""

    def __init__(self, model: Any, histories: Sequences, how: dict[str, Any]) -> None:
        if hasattr(model, "_check_fitted"):
            model._check_fitted()
        self._model, self._histories, self._how = model, histories, how
        self._items = as_factors(model.item_factors_, "items of the model")
        if histories.n_items != len(self._items):
            what = "number of items of train"
            raise ValueError(message(what, histories.n_items, f"{len(self._items)}, that of the model"))
        self._item_vectors = model._item_vectors() if hasattr(model, "_item_vectors") else self._items
        self.shape = histories.shape
        # rows are the users that the model was trained on, where there are as many
        self._known = getattr(model, "_has_user_vectors", False) and histories.shape == model._shape()
        self._last: tuple[I32, NDArray[np.float32]] | None = None

    def _of(self, users: I32) -> NDArray[np.float32]:
        if self._last is None or not np.array_equal(self._last[0], users):
            whose = {"users": users} if self._known else {}
            queries = as_factors(self._model.encode(self._histories.take(users), **whose), "what encode returned")
            if queries.shape != (len(users), self._items.shape[1]):
                what = f"shape of what {type(self._model).__name__}.encode returned"
                raise ValueError(message(what, queries.shape, f"({len(users)}, {self._items.shape[1]})"))
            self._last = users, queries
        return self._last[1]


class ModelScorer:
    """A model without factors, by its own ``recommend``, ``score`` and ``predict``, as far as it has them."""

    def __init__(self, model: Any, how: dict[str, Any]) -> None:
        self._model = model
        self._how = how
        self.shape: tuple[int, int] | None = model._shape() if hasattr(model, "_shape") else None

    def rank(self, users: I32, test: Csr, seen: Csr | None, wanted: list[Wanted]) -> dict[Wanted, F64]:
        """Return metrics of the model's lists per user."""
        return rank_lists(self.lists(users, max(want.k or 0 for want in wanted), seen), test, wanted, self._how)

    def lists(self, users: I32, n: int, seen: Csr | None) -> I32:
        """Return the model's lists; those of an object that has only ``score`` are sorted here."""
        if hasattr(self._model, "_rank"):
            found = self._model._rank(users, None, n, seen=seen)
        elif hasattr(self._model, "recommend"):
            found = self._model.recommend(users, n=n, filter_seen=seen is not None)
        else:
            return np.concatenate([best_of(scores, n) for scores, _, _ in self._blocks(users, seen)])
        ids = np.asarray(found[0] if isinstance(found, tuple) else found)
        if ids.shape != (len(users), n):
            what = f"shape of what {type(self._model).__name__}.recommend returned"
            raise ValueError(message(what, ids.shape, f"({len(users)}, {n})", "pad short lists with -1"))
        return ids

    def auc(self, users: I32, test: Csr, seen: Csr | None) -> F64:
        """Return the area under the ROC curve per user, from the model's scores of all items."""
        out = np.empty(len(users))
        for scores, begin, end in self._blocks(users, seen):
            eligible = np.isfinite(scores)
            rows, cols = np.nonzero(eligible)
            row_ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(eligible.sum(axis=1))])
            pool = Csr(row_ptr, cols.astype(np.int32), None, *scores.shape)
            out[begin:end] = pool_auc(pool, scores[rows, cols], take_rows(test, np.arange(begin, end, dtype=np.int32)))
        return out

    def _blocks(self, users: I32, seen: Csr | None) -> Any:
        """Yield (scores ``(m, n_items)`` with seen items at -inf, first row, row behind the last)."""
        score = self._method("score", "to rank all items")
        begin, n = 0, 1
        while begin < len(users):
            end = min(len(users), begin + n)
            scores = np.array(score(users[begin:end]), dtype=np.float64)
            if scores.ndim != 2 or len(scores) != end - begin:
                what = f"shape of what {type(self._model).__name__}.score returned"
                raise ValueError(message(what, scores.shape, f"({end - begin}, n_items)"))
            _check_scores(scores, self._model)
            if seen is not None:
                own = take_rows(seen, np.arange(begin, end, dtype=np.int32))
                scores[row_of_entry(own), own.col_idx] = -np.inf
            yield scores, begin, end
            begin, n = end, max(1, _BLOCK_SCORES // max(1, scores.shape[1]))

    def pairs(self, users: I32, pairs: Csr) -> NDArray[Any]:
        """Return the model's prediction of each entry of ``pairs``."""
        predict = self._method("predict", "to score chosen items")
        scores = np.asarray(predict(users[row_of_entry(pairs)], pairs.col_idx)) if pairs.nnz else np.empty(0)
        if scores.shape != (pairs.nnz,):
            what = f"shape of what {type(self._model).__name__}.predict returned"
            raise ValueError(message(what, scores.shape, f"({pairs.nnz},)"))
        _check_scores(scores, self._model)
        return scores

    def item_vectors(self) -> NDArray[Any] | None:
        """Return the model's item factors if it has some after all."""
        vectors = getattr(self._model, "item_factors_", None)
        return None if vectors is None else np.asarray(vectors)

    def _method(self, name: str, purpose: str) -> Any:
        method = getattr(self._model, name, None)
        if method is None:
            raise TypeError(message(f"{type(self._model).__name__} has no {name}(), needed {purpose}"))
        return method


def as_scorer(model: Any, train: Any, how: dict[str, Any]) -> Scorer:
    """Return the face of a model, or of the pair (queries, items); ``how`` goes to the operations.

    A model that can ``encode`` is asked about the histories ``train`` where those are in time order.

    Raises:
        TypeError: nothing that can rank or score.
        NotFittedError: the model is not fitted.
    """
    if isinstance(model, tuple) and len(model) == 2:
        queries, items = model
        return FactorScorer(queries, items, items, how)
    if hasattr(model, "encode"):
        if isinstance(train, Interactions) and train.timestamps is not None:
            train = Sequences.from_interactions(train)
        if isinstance(train, Sequences):
            return SequenceScorer(model, train, how)
        if not hasattr(model, "_scoring"):
            mend = "pass what each user did, rf.Sequences(lists) or an rf.Interactions with timestamps"
            raise TypeError(message("train", type(train).__name__, "the histories to encode, in time order", mend))
    if hasattr(model, "_scoring"):
        queries, items = model._scoring()
        return FactorScorer(queries, items, getattr(model, "item_factors_", None), how)
    if any(hasattr(model, name) for name in ("recommend", "score", "predict")):
        return ModelScorer(model, how)
    expected = "a model with recommend, score or predict, or a pair (queries, items) of arrays"
    raise TypeError(message("model", type(model).__name__, expected))


def _check_scores(scores: NDArray[Any], model: Any) -> None:
    if not np.isfinite(scores).all():
        raise ValueError(message(f"scores of {type(model).__name__}", "NaN or infinity", "finite numbers"))


def best_of(scores: F64, n: int) -> I32:
    """Return the columns of the n largest scores per row, equal ones by column; -1 where only -inf is left."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    ids = np.full((len(scores), n), -1, np.int32)
    ids[:, : order.shape[1]] = np.where(np.isneginf(np.take_along_axis(scores, order, axis=1)), -1, order)
    return ids


def rank_lists(ids: I32, test: Csr, wanted: list[Wanted], how: dict[str, Any]) -> dict[Wanted, F64]:
    """Return metrics of given lists per user."""
    ks = sorted({want.k for want in wanted if want.k and want.name in RANK_METRICS})
    found = ops.list_metrics(ids, test, ks, **how)
    return {want: found[want.name][:, ks.index(want.k)] for want in wanted if want.k in ks}


def pool_auc(pool: Csr, scores: NDArray[Any], test: Csr) -> F64:
    """Return the AUC per user where only the entries of ``pool`` are ranked; as ``ops.rank_auc``.

    Args:
        pool: ``(m, n_items)``, the items to rank, sorted rows.
        scores: one per entry of ``pool``.
        test: ``(m, n_items)``, relevant items; those outside the pool count as below everything.
    """
    rows, relevant = row_of_entry(pool), entries_in(pool, test)
    order = np.lexsort((scores, rows))
    rows, relevant, ordered = rows[order], relevant[order], scores[order]
    others = np.concatenate([np.zeros(1, np.int64), np.cumsum(~relevant)])  # others among the first so many entries
    starts = np.ones(len(rows), np.bool_)  # where another user or another score begins
    starts[1:] = (rows[1:] != rows[:-1]) | (ordered[1:] != ordered[:-1])
    first = np.flatnonzero(starts)
    group = np.cumsum(starts) - 1
    below = others[first][group] - others[pool.row_ptr[rows]]
    equal = np.append(others[first[1:]], others[-1])[group] - others[first][group] if len(first) else below
    twice = np.bincount(rows[relevant], 2 * below[relevant] + equal[relevant], pool.n_rows)
    n_others = others[pool.row_ptr[1:]] - others[pool.row_ptr[:-1]]
    pairs = 2.0 * np.diff(test.row_ptr) * n_others
    out = np.full(pool.n_rows, np.nan)
    np.divide(twice, pairs, out=out, where=pairs > 0)
    return out
