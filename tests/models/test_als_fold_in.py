from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from tests.models.cases import ratings, same_state
from tests.models.reference import Reference

CASES: dict[str, dict[str, Any]] = {
    "ials++": {"alpha": 2.0},
    "hu2008": {"objective": "hu2008", "unobserved_weight": 1.0, "alpha": 4.0},
    "explicit": {"feedback": "explicit", "regularization": 0.05},
}


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest, device: str) -> rf.ALS:
    return rf.ALS(5, n_epochs=3, random_state=0, device=device, **CASES[request.param]).fit(ratings(60, 40))


def whole(model: rf.ALS) -> tuple[Any, Any, Any, Any]:
    """Factors and biases of both sides in float64, zeros where there are no biases."""
    x, y = model.user_factors_.astype(np.float64), model.item_factors_.astype(np.float64)
    if model.feedback == "explicit":
        return x, model.user_biases_.astype(np.float64), y, model.item_biases_.astype(np.float64)
    return x, np.zeros(len(x)), y, np.zeros(len(y))


def test_new_users_get_the_exact_solution(model: rf.ALS) -> None:
    new, state = ratings(7, 40, seed=5), model.copy_state()
    got = model.fold_in(new)
    assert got.dtype == np.float32
    _, _, y, y_bias = whole(model)
    reference = Reference(new.toarray().astype(np.float64), model)
    if model.feedback == "explicit":
        reference.linear += (reference.mean - model.global_mean_) * reference.observed
    x, x_bias = reference.solve(y, y_bias, users=True)
    expected = np.column_stack([x, x_bias]) if model.feedback == "explicit" else x
    np.testing.assert_allclose(got, expected, atol=2e-4 * np.abs(expected).max())
    assert (got[3] == 0).all()  # the one without history
    for name, value in state.items():
        np.testing.assert_array_equal(getattr(model, name), value)


def test_new_items_get_the_exact_solution(model: rf.ALS) -> None:
    new = ratings(60, 7, seed=6)
    got = model.fold_in_items(new.T)
    x, x_bias, _, _ = whole(model)
    reference = Reference(new.toarray().astype(np.float64), model)
    if model.feedback == "explicit":
        reference.linear += (reference.mean - model.global_mean_) * reference.observed
    y, y_bias = reference.solve(x, x_bias, users=False)
    expected = np.column_stack([y, y_bias]) if model.feedback == "explicit" else y
    np.testing.assert_allclose(got, expected, atol=2e-4 * np.abs(expected).max())
    np.testing.assert_array_equal(model.fold_in_items(new.T), got)


def test_recommendations_for_histories_are_those_of_the_folded_factors(model: rf.ALS) -> None:
    new = ratings(4, 40, seed=8)
    ids, scores = model.recommend(user_items=new, n=5)
    folded = model.fold_in(new)
    if model.feedback == "explicit":
        expected = folded[:, :-1] @ model.item_factors_.T + folded[:, -1:] + model.item_biases_ + model.global_mean_
    else:
        expected = folded @ model.item_factors_.T
    expected[new.toarray() > 0] = -np.inf
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :5], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(expected, ids, 1), scores, rtol=1e-4, atol=1e-5)


def test_shapes_are_checked(model: rf.ALS) -> None:
    with pytest.raises(ValueError, match="looks transposed"):
        model.fold_in(ratings(40, 3))
    with pytest.raises(ValueError, match="item_users looks transposed"):
        model.fold_in_items(ratings(60, 3))
    with pytest.raises(ValueError, match="shape"):
        model.fold_in(ratings(3, 41))


def test_contributions_add_up_to_the_score(model: rf.ALS) -> None:
    matrix = ratings(60, 40)
    matrix.data[::4] *= -1
    folded = model.fold_in(matrix)
    for user, item in ((0, 1), (5, 39), (59, 20)):
        items, contributions, total = model.explain(user, item, user_items=matrix)
        assert (items.dtype, contributions.dtype) == (np.int32, np.float32)
        assert sorted(items) == sorted(matrix[[user]].indices)
        assert (np.diff(contributions) <= 0).all()
        assert contributions.sum() == pytest.approx(total, abs=1e-4)
        score = folded[user, :5] @ model.item_factors_[item]
        if model.feedback == "explicit":
            score += folded[user, 5]
        assert total == pytest.approx(float(score), rel=1e-3, abs=1e-4)
    new = model.explain(1, 2, user_items=matrix[[9, 5]])
    np.testing.assert_array_equal(new.items, model.explain(5, 2, user_items=matrix).items)
    empty = model.explain(30, 2)
    assert (len(empty.items), empty.total) == (0, 0.0)


def test_a_contribution_is_what_the_score_loses_without_its_target(device: str) -> None:
    matrix = ratings(60, 40)
    model = rf.ALS(5, n_epochs=3, random_state=0, device=device).fit(matrix)
    found = model.explain(2, 7)
    y, history = model.item_factors_.astype(np.float64), matrix[[2]]
    c = history.data.astype(np.float64)
    size = len(c) + model.unobserved_weight * 40
    seen = y[history.indices]
    a = model.unobserved_weight * y.T @ y + (seen.T * c) @ seen + model.regularization * size * np.eye(5)
    for item, value in zip(found.items, found.contributions, strict=True):
        only = np.where(history.indices == item, c, 0.0)  # the least squares problem is linear in its targets
        assert value == pytest.approx(y[7] @ np.linalg.solve(a, seen.T @ only), rel=1e-3, abs=1e-6)


def test_explain_checks_its_ids(model: rf.ALS) -> None:
    with pytest.raises(IndexError, match="user holds id 60"):
        model.explain(60, 0)
    with pytest.raises(IndexError, match="item holds id -1"):
        model.explain(0, -1)
    with pytest.raises(ValueError, match="one user"):
        model.explain([0, 1], 0)  # type: ignore[arg-type]


def test_explain_without_regularization(device: str) -> None:
    matrix = sp.csr_array(np.eye(6, 5, dtype=np.float32) + np.eye(6, 5, -1, dtype=np.float32))
    model = rf.ALS(4, regularization=0.0, unobserved_weight=0.05, n_epochs=2, random_state=0, device=device).fit(matrix)
    assert np.isfinite(model.explain(1, 3).total)


def test_more_epochs_go_on_where_fit_stopped(model: rf.ALS) -> None:
    params = model.get_params()
    model.partial_fit(ratings(60, 40), n_epochs=2)
    assert model.n_epochs_ == 5
    assert len(model.history_["loss"]) == 5
    assert same_state(model, rf.ALS(**{**params, "n_epochs": 5}).fit(ratings(60, 40)))


def test_new_histories_of_some_users(model: rf.ALS) -> None:
    before, new = model.copy_state(), ratings(3, 40, seed=11)
    model.partial_fit(new, users=[8, 2, 59])
    np.testing.assert_array_equal(model._users[[8, 2, 59]], model.fold_in(new))
    others = np.setdiff1d(np.arange(60), [8, 2, 59])
    np.testing.assert_array_equal(model._users[others], before["_users"][others])
    np.testing.assert_array_equal(model._items, before["_items"])
    ids, _ = model.recommend([8, 2, 59], n=40)
    for row in range(3):
        assert set(ids[row][ids[row] >= 0]) == set(range(40)) - set(new[[row]].indices)


def test_new_columns_of_some_items(model: rf.ALS) -> None:
    before, new = model.score(np.arange(60)), ratings(60, 2, seed=12)
    folded = model.fold_in_items(new.T)
    explicit = model.feedback == "explicit"
    users = model._with_biases(model._users) if explicit else model._users
    table = np.column_stack([folded[:, :-1], np.ones(2), folded[:, -1]]) if explicit else folded
    expected = users @ table.T
    model.partial_fit(new, items=[39, 4])
    after = model.score(np.arange(60))
    np.testing.assert_allclose(after[:, [39, 4]], expected, rtol=1e-3, atol=1e-4)
    others = np.setdiff1d(np.arange(40), [39, 4])
    np.testing.assert_allclose(after[:, others], before[:, others], rtol=1e-3, atol=1e-4)
    if not explicit:  # the items are in their own basis again, as fold_in needs
        gram = model._items.astype(np.float64).T @ model._items
        np.testing.assert_allclose(gram, np.diag(model._spectrum), atol=1e-4 * gram.max())
    rows, _ = model._matrix.col_idx, model._matrix.row_ptr
    assert (rows == 39).sum() == (new.toarray()[:, 0] > 0).sum()
