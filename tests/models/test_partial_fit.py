from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.errors import NotSupportedError
from tests.models.cases import ratings, same_state

Make = Callable[..., Any]


def test_an_unfitted_model_starts(make: Make) -> None:
    model = make().partial_fit(ratings())
    assert model.n_epochs_ == 1
    model.partial_fit(ratings(), n_epochs=2)
    assert model.n_epochs_ == 3
    assert model.recommend(0, n=3).ids.shape == (3,)


def test_another_matrix_of_the_same_shape_takes_over(make: Make) -> None:
    model, new = make().fit(ratings()), ratings(seed=7)
    before = model.score(np.arange(30)).copy()
    model.partial_fit(new)
    assert np.array_equal(model.score(np.arange(30)), before) == isinstance(model, rf.Random)
    ids, _ = model.recommend(4, n=20)
    assert set(ids[ids >= 0]) == set(range(20)) - set(new[[4]].indices)


def test_popularity_counts_again() -> None:
    dense = ratings().toarray()
    model = rf.Popularity().fit(ratings())
    model.partial_fit(ratings(2, 20, seed=3), users=[4, 9])
    dense[[4, 9]] = ratings(2, 20, seed=3).toarray()
    np.testing.assert_array_equal(model.item_scores_, (dense > 0).sum(0))
    model.partial_fit(ratings(30, 1, seed=4), items=[6])
    dense[:, 6] = ratings(30, 1, seed=4).toarray()[:, 0]
    np.testing.assert_array_equal(model.item_scores_, (dense > 0).sum(0))
    by_sum = rf.Popularity("sum").fit(ratings())
    np.testing.assert_array_equal(by_sum.item_scores_, ratings().toarray().sum(0))


def test_wrong_calls_are_refused_and_change_nothing(make: Make) -> None:
    model = make().fit(ratings())
    before, matrix = model.copy_state(), model.training_matrix_
    calls: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (ValueError, "users and items", lambda: model.partial_fit(ratings(2, 2), users=[0, 1], items=[0, 1])),
        (ValueError, "twice", lambda: model.partial_fit(ratings(2, 20), users=[3, 3])),
        (ValueError, "twice", lambda: model.partial_fit(ratings(30, 2), items=[3, 3])),
        (IndexError, "users holds id 30.*resize", lambda: model.partial_fit(ratings(1, 20), users=[30])),
        (IndexError, "items holds id 20.*resize", lambda: model.partial_fit(ratings(30, 1), items=[20])),
        (ValueError, "looks transposed", lambda: model.partial_fit(ratings(20, 30))),
        (ValueError, "looks transposed", lambda: model.partial_fit(ratings(20, 2), users=[0, 1])),
        (ValueError, "shape", lambda: model.partial_fit(ratings(3, 20), users=[0, 1])),
        (ValueError, "n_epochs", lambda: model.partial_fit(ratings(), n_epochs=0)),
        (TypeError, "n_epochs", lambda: model.partial_fit(ratings(), n_epochs=1.5)),
    ]
    for error, text, call in calls:
        with pytest.raises(error, match=text):
            call()
    assert model.training_matrix_ is matrix
    np.testing.assert_equal(model.copy_state(), before)


def test_room_for_new_users_and_items(make: Make) -> None:
    model = make().fit(rf.Interactions(ratings(), user_ids=list("abcdefghijklmnopqrstuvwxyzABCD")))
    before = model.score(np.arange(30))
    assert list(model.user_ids_)[:2] == ["a", "b"]
    assert model.resize(n_users=33, n_items=22) is model
    assert model.user_ids_ is None
    np.testing.assert_array_equal(model.score(np.arange(30))[:, :20], before)
    model.partial_fit(ratings(2, 22, seed=3), users=[32, 31])
    with contextlib.suppress(NotSupportedError):  # networks whose items are weights
        model.partial_fit(ratings(33, 1, seed=4), items=[21])
    assert np.isfinite(model.score(np.arange(33))).all()
    assert model.recommend(32, n=30).ids.max() <= 21
    assert model.training_matrix_.shape == (33, 22)
    with pytest.raises(ValueError, match="n_users"):
        model.resize(n_users=5)
    assert same_state(model.resize(), model)


def test_a_failing_update_keeps_the_old_matrix(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make().fit(ratings())
    matrix = model.training_matrix_

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model), "_update", fail)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(ratings(1, 20), users=[0])
    assert model.training_matrix_ is matrix
