from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.errors import NotFittedError, NotSupportedError
from tests.models.cases import ratings

Make = Callable[..., Any]


def best(model: Any, user: int, allowed: set[int], n: int) -> list[int]:
    """Ids by score descending, then id, straight from the dense scores."""
    scores = model.score(user)
    order = sorted(allowed, key=lambda item: (-float(scores[item]), item))
    return (order + [-1] * n)[:n]


def close(model: Any, user: int, ids: np.ndarray[Any, Any], expected: list[int]) -> None:
    """Equal, but for neighbours whose scores agree to rounding."""
    scores = np.append(model.score(user), -np.inf)
    assert [i == -1 for i in ids] == [i == -1 for i in expected]
    np.testing.assert_allclose(scores[ids], scores[expected], rtol=1e-4, atol=1e-5)


def test_recommendations_are_the_best_eligible_items(make: Make) -> None:
    matrix = ratings()
    model = make().fit(matrix)
    everything = set(range(20))
    for choice in ({}, {"filter_seen": False}, {"exclude": [3, 4, 3]}, {"include": [1, 2, 5, 7]}):
        ids, scores = model.recommend([0, 7, 7, 29], n=6, **choice)
        assert (ids.dtype, scores.dtype, ids.shape, scores.shape) == (np.int32, np.float32, (4, 6), (4, 6))
        for row, user in enumerate([0, 7, 7, 29]):
            allowed = everything - set(choice.get("exclude", ()))
            allowed &= set(choice.get("include", everything))
            if choice.get("filter_seen", True):
                allowed -= set(matrix[[user]].indices)
            close(model, user, ids[row], best(model, user, allowed, 6))
            np.testing.assert_allclose(
                scores[row], np.append(model.score(user), -np.inf)[ids[row]], rtol=1e-4, atol=1e-5
            )


def test_short_rows_end_in_padding_and_nothing_comes_twice(make: Make) -> None:
    matrix = ratings()
    model = make().fit(matrix)
    ids, scores = model.recommend(n=50)
    assert ids.shape == (30, 50)
    for user in range(30):
        found = ids[user][ids[user] >= 0].tolist()
        unseen = set(range(20)) - set(matrix[[user]].indices)
        assert len(found) == len(unseen)
        assert set(found) == unseen
        assert (ids[user][len(found) :] == -1).all()
        assert np.isneginf(scores[user][len(found) :]).all()
        assert np.isfinite(scores[user][: len(found)]).all()
        assert (np.diff(scores[user][: len(found)]) <= 0).all()


def test_scalar_user_gives_one_dimension(make: Make) -> None:
    model = make().fit(ratings())
    ids, scores = model.recommend(3, n=4)
    assert ids.shape == scores.shape == (4,)
    rows = model.recommend([3], n=4)
    np.testing.assert_array_equal(rows.ids[0], ids)
    np.testing.assert_array_equal(model.recommend(np.int64(3), n=4).ids, ids)
    assert model.recommend([], n=4).ids.shape == (0, 4)
    assert model.recommend([1, 2], n=0).ids.shape == (2, 0)


def test_nothing_eligible(make: Make) -> None:
    model = make().fit(ratings())
    ids, scores = model.recommend(0, n=3, exclude=np.arange(20))
    assert ids.tolist() == [-1, -1, -1]
    assert np.isneginf(scores).all()
    assert model.recommend(0, n=3, include=[]).ids.tolist() == [-1, -1, -1]


def test_histories_of_new_users(make: Make) -> None:
    matrix = ratings()
    model = make().fit(matrix)
    new = ratings(5, 20, seed=9)
    ids, _ = model.recommend(user_items=new, n=20)
    assert ids.shape == (5, 20)
    for row in range(5):
        assert not set(ids[row][ids[row] >= 0]) & set(new[[row]].indices)
    some = model.recommend([4, 1], new, n=20)
    np.testing.assert_array_equal(some.ids, ids[[4, 1]])
    np.testing.assert_array_equal(model.recommend(4, new, n=20).ids, ids[4])
    np.testing.assert_array_equal(model.recommend(user_items=new[4], n=20).ids[0], ids[4])
    with pytest.raises(IndexError, match=r"users holds id 5.*rows of user_items"):
        model.recommend([5], new)


def test_ids_out_of_range_are_named(make: Make) -> None:
    model = make().fit(ratings())
    for bad in (-1, 30, [0, 30], [0, -7], np.array([2**40]), np.uint64(2**63)):
        with pytest.raises(IndexError, match=r"users holds id (-1|30|-7|1099511627776|9223372036854775808).*30"):
            model.recommend(bad)
    for name in ("include", "exclude"):
        with pytest.raises(IndexError, match=f"{name} holds id 20.*20"):
            model.recommend(0, **{name: [20]})
    with pytest.raises(IndexError, match="users holds id -1"):
        model.predict(-1, 0)
    with pytest.raises(IndexError, match="items holds id 20"):
        model.predict(0, 20)
    with pytest.raises(IndexError, match="items holds id -1"):
        model.score(0, [-1])


@pytest.mark.parametrize("bad", ["a", [0.5], [True, False], [None], {"a": 1}])
def test_ids_of_another_kind_are_refused(make: Make, bad: Any) -> None:
    model = make().fit(ratings())
    with pytest.raises(TypeError, match="users"):
        model.recommend(bad)


def test_bad_n(make: Make) -> None:
    model = make().fit(ratings())
    for bad, error in ((-1, ValueError), (2.5, TypeError), (True, TypeError), ("3", TypeError)):
        with pytest.raises(error, match="n"):
            model.recommend(0, n=bad)


def test_ids_of_two_dimensions_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="dimensions"):
        make().fit(ratings()).recommend([[0, 1]])


def test_matrices_of_the_wrong_shape_are_named(make: Make) -> None:
    model = make().fit(ratings())
    with pytest.raises(ValueError, match=r"looks transposed.*pass user_items.T|Pass user_items.T"):
        model.recommend(user_items=ratings().T)
    with pytest.raises(ValueError, match="20"):
        model.recommend(user_items=ratings(3, 19))


def test_pairs_and_dense_scores_agree(make: Make) -> None:
    model = make().fit(ratings())
    scores = model.score([1, 2, 3])
    assert (scores.dtype, scores.shape) == (np.float32, (3, 20))
    pairs = model.predict([1, 2, 3], [5, 6, 7])
    assert (pairs.dtype, pairs.shape) == (np.float32, (3,))
    np.testing.assert_allclose(pairs, scores[[0, 1, 2], [5, 6, 7]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict(1, [5, 6]), scores[0, [5, 6]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.score(2, [4, 4]), scores[1, [4, 4]], rtol=1e-5, atol=1e-6)
    assert isinstance(model.predict(1, 5), float)
    with pytest.raises(ValueError, match="one item per user"):
        model.predict([1, 2], [1, 2, 3])


def test_scoring_tables_give_the_scores(make: Make) -> None:
    model = make().fit(ratings())
    if not hasattr(model, "_scoring"):
        pytest.skip("has no tables")
    queries, items = model._scoring()
    assert queries.flags.c_contiguous
    assert queries.dtype == items.dtype == np.float32
    np.testing.assert_allclose(queries @ items.T, model.score(np.arange(30)), rtol=1e-4, atol=1e-5)


def test_similar(make_als: Make) -> None:
    model = make_als().fit(ratings())
    for side, vectors in (("items", model.item_factors_), ("users", model.user_factors_)):
        similar = getattr(model, f"similar_{side}")
        ids, scores = similar([3, 5], n=len(vectors) + 2)
        lengths = np.linalg.norm(vectors, axis=1)
        unit = vectors / np.where(lengths > 0, lengths, 1)[:, None]
        for row, query in enumerate([3, 5]):
            found = ids[row][ids[row] >= 0]
            assert set(found) == set(range(len(vectors))) - {query}
            np.testing.assert_allclose(scores[row][: len(found)], (unit @ unit[query])[found], atol=1e-5)
        assert similar(3, n=2).ids.tolist() == ids[0][:2].tolist()
        dot = similar(3, n=1, metric="dot", include=[3, 4])
        assert dot.ids.tolist() == [4]
        np.testing.assert_allclose(dot.scores[0], vectors[3] @ vectors[4], rtol=1e-4, atol=1e-6)
        assert similar(3, n=2, include=[3], exclude=[1]).ids.tolist() == [-1, -1]
        with pytest.raises(IndexError, match=side):
            similar(len(vectors))
        with pytest.raises(ValueError, match="metric"):
            similar(0, metric="euclid")


def test_popularity_has_nothing_to_compare() -> None:
    model = rf.Popularity().fit(ratings())
    for call in (lambda: model.similar_items(0), lambda: model.similar_users(0), lambda: model.fold_in(ratings())):
        with pytest.raises(NotSupportedError, match="Popularity has no"):
            call()


def test_nothing_works_before_fit(make: Make, tmp_path: Any) -> None:
    model = make()
    calls: list[Callable[[], Any]] = [
        lambda: model.recommend(0),
        lambda: model.predict(0, 0),
        lambda: model.score(0),
        lambda: model.save(tmp_path / "x"),
        lambda: model.resize(5, 5),
        lambda: model.partial_fit(ratings(), users=[0]),
        lambda: model.training_matrix_,
        lambda: model.copy_state(),
    ]
    if hasattr(type(model), "_scoring"):
        calls.append(lambda: model._scoring())
    if hasattr(type(model), "explain"):
        calls += [
            lambda: model.explain(0, 0),
            lambda: model.fold_in(ratings()),
            lambda: model.fold_in_items(ratings()),
            lambda: model.similar_items(0),
            lambda: model.similar_users(0),
            lambda: model.user_factors_,
            lambda: model.item_factors_,
        ]
    for call in calls:
        with pytest.raises(NotFittedError, match="not fitted"):
            call()
    assert not hasattr(model, "user_factors_")
    assert not model.is_fitted
    assert not list(tmp_path.iterdir())
