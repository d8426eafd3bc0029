"""Evaluation with sequences: of sequence models, and of models of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import recsys_fast as rf
from recsys_fast.data import Interactions, Sequences, splits
from recsys_fast.errors import NotFittedError
from recsys_fast.evaluation import evaluate

N_ITEMS = 30


class LastItems:
    """The least that a sequence model has: a query is the weighted sum of the last items' vectors."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.item_factors_ = rng.integers(-3, 4, (N_ITEMS, 6)).astype(np.float32)
        self.n_encoded = 0

    def encode(self, histories: Sequences) -> NDArray[np.float32]:
        self.n_encoded += histories.n_users
        out = np.zeros((histories.n_users, 6), np.float32)
        for row, items in zip(out, histories, strict=True):
            for weight, item in enumerate(items[-3:].tolist()):
                row += (weight + 1) * self.item_factors_[item]
        return out


def data(seed: int = 0, n: int = 60) -> Sequences:
    rng = np.random.default_rng(seed)
    return Sequences([rng.integers(0, N_ITEMS, rng.integers(0, 9)) for _ in range(n)], n_items=N_ITEMS)


def by_hand(model: LastItems, history: Sequences, test: Sequences, k: int, filter_seen: bool) -> dict[int, list[float]]:
    """Return (recall, reciprocal rank) at k of each user with test items."""
    found = {}
    for user in range(test.n_users):
        wanted = set(test[user].tolist())
        if not wanted:
            continue
        scores = (model.encode(history.take(np.array([user]))) @ model.item_factors_.T)[0].astype(np.float64)
        if filter_seen:
            scores[history[user]] = -np.inf
        best = [item for item in np.lexsort((np.arange(N_ITEMS), -scores))[:k].tolist() if np.isfinite(scores[item])]
        hits = [rank for rank, item in enumerate(best, 1) if item in wanted]
        found[user] = [len(hits) / len(wanted), 1 / hits[0] if hits else 0.0]
    return found


@pytest.mark.parametrize("filter_seen", [True, False])
def test_queries_come_from_the_history_given(filter_seen: bool) -> None:
    train, valid, test = splits.leave_one_out(data())
    model = LastItems()
    for history, held_out in ((train, valid), (splits.join(train, valid), test)):
        report = evaluate(model, history, held_out, ("recall", "mrr"), (5,), filter_seen=filter_seen)
        expected = by_hand(model, history, held_out, 5, filter_seen)
        users = list(expected)
        for column, name in enumerate(("recall@5", "mrr@5")):
            assert np.allclose(report.per_user(name)[users], [values[column] for values in expected.values()])
        assert report.n_users == len(users)


def test_only_users_with_test_items_are_encoded_once() -> None:
    train, _, test = splits.leave_one_out(data())
    model = LastItems()
    n = int((test.lengths > 0).sum())
    evaluate(model, train, test, ("ndcg", "auc", "coverage", "diversity"))
    assert model.n_encoded == n < train.n_users
    model.n_encoded = 0
    report = evaluate(model, train, test, ("ndcg",), users=np.flatnonzero(test.lengths > 0)[:4])
    assert (model.n_encoded, report.n_users) == (4, 4)


def test_all_prefixes_of_sessions() -> None:
    histories, targets = data(3).prefixes()
    model = LastItems()
    assert histories.n_users > 100
    report = evaluate(model, histories, targets, metrics=("recall", "mrr"), ks=(20,), filter_seen=False)
    expected = by_hand(model, histories, targets, 20, filter_seen=False)
    assert report.n_users == histories.n_users == len(expected)
    assert report["recall@20"] == pytest.approx(np.mean([recall for recall, _ in expected.values()]))
    assert report["mrr@20"] == pytest.approx(np.mean([rank for _, rank in expected.values()]))


def test_repeats_in_the_test_part_are_one_item() -> None:
    history = Sequences([[1, 2], [3, 4]], n_items=N_ITEMS)
    once, twice = Sequences([[5, 6], [7]], n_items=N_ITEMS), Sequences([[6, 5, 6, 6], [7, 7]], n_items=N_ITEMS)
    reports = [evaluate(LastItems(), history, test, ("recall", "ndcg"), (3, 10)) for test in (once, twice)]
    assert reports[0].to_dict() == reports[1].to_dict()
    assert reports[1].protocol["n_test"] == 3


def test_empty_histories_are_encoded_too() -> None:
    report = evaluate(LastItems(), Sequences([[], [1]], n_items=N_ITEMS), Sequences([[0], [2]], n_items=N_ITEMS))
    assert report.n_users == 2


def test_interactions_with_times_are_put_in_order() -> None:
    train, _, test = splits.leave_one_out(data())
    model = LastItems()
    ordered = evaluate(model, Sequences.from_interactions(train.to_interactions()), test)
    assert evaluate(model, train.to_interactions(), test.to_interactions()).to_dict() == ordered.to_dict()


def test_sampled_negatives() -> None:
    train, _, test = splits.leave_one_out(data())
    report = evaluate(LastItems(), train, test, ("ndcg",), (5,), negatives=10, seed=1)
    assert 0 < report["ndcg@5/sampled10"] < 1


def test_models_of_matrices_take_sequences() -> None:
    train, valid, test = splits.leave_one_out(data(1, 200))
    known = splits.join(train, valid)
    for model in (rf.ALS(n_factors=4, n_epochs=2, random_state=0), rf.ItemKNN(), rf.Popularity()):
        fitted: Any = model.fit(known)
        report = evaluate(fitted, known, test, ("recall", "ndcg"), (5,))
        matrices: list[Interactions] = [
            part.to_interactions().with_values(np.ones(part.seen.nnz)) for part in (known, test)
        ]
        assert report.to_dict() == evaluate(fitted, *matrices, ("recall", "ndcg"), (5,)).to_dict()


def test_bad_input_is_named() -> None:
    train, _, test = splits.leave_one_out(data())
    model = LastItems()
    with pytest.raises(TypeError, match="histories to encode"):
        evaluate(model, None, test, filter_seen=False)
    with pytest.raises(TypeError, match="in time order"):
        evaluate(model, train.csr, test)
    with pytest.raises(ValueError, match=r"number of items of train: got 31, expected 30, that of the model"):
        evaluate(model, Sequences([[30]]), test)
    with pytest.raises(ValueError, match=r"shape of test: got \(1, 30\), expected that of train \(60, 30\)"):
        evaluate(model, train, Sequences([[1]], n_items=N_ITEMS))
    model.encode = lambda histories: np.zeros((1, 6), np.float32)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"LastItems.encode returned: got \(1, 6\)"):
        evaluate(model, train, test)
    model.encode = lambda histories: np.full((histories.n_users, 6), np.nan)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="what encode returned"):
        evaluate(model, train, test)

    class Unfitted(LastItems):
        def _check_fitted(self) -> None:
            raise NotFittedError("call fit first")

    with pytest.raises(NotFittedError, match="fit"):
        evaluate(Unfitted(), train, test)
