"""Hybrids: what they add up, how their weights are found, what they refuse, and their files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.errors import NotFittedError, NotSupportedError
from recsys_fast.evaluation import evaluate
from recsys_fast.models import hybrid_scores
from tests.models.cases import ratings, same_state

USERS, ITEMS = 30, 20


class Wrapped(rf.Random):
    """Another model's scores behind the plain interface: no tables, so that nothing is blended as factors."""

    def __init__(self, inner: Any = None, **rest: Any) -> None:
        super().__init__(**rest)
        self.inner = inner

    def score(self, users: Any, items: Any = None) -> Any:
        return self.inner.score(users, items)

    def _rank(self, users: Any, given: Any, n: int, **choice: Any) -> Any:
        return self.inner._rank(users, given, n, **choice)


def members(device: str, matrix: Any = None) -> list[Any]:
    matrix = ratings() if matrix is None else matrix
    return [
        rf.ALS(4, n_epochs=2, random_state=0, device=device).fit(matrix),
        rf.Popularity("sum", device=device).fit(matrix),
        rf.Random(random_state=3, device=device).fit(matrix),
    ]


def validation(seed: int = 11) -> sp.csr_array:
    held = ratings(seed=seed, density=0.15).toarray() * (ratings().toarray() == 0)
    return sp.csr_array(held.astype(np.float32))


def expected_scores(hybrid: rf.Hybrid, weights: Any) -> np.ndarray:
    """The formulas of the docstring in float64."""
    total = np.zeros((USERS, ITEMS))
    for model, weight in zip(hybrid.models, weights, strict=True):
        scores = model.score(np.arange(USERS)).astype(np.float64)
        if hybrid.method == "rank_fusion":
            order = np.argsort(-scores, axis=1, kind="stable")
            ranks = np.argsort(order, axis=1) + 1.0
            part = np.where(ranks <= hybrid.depth, 1 / (hybrid.k + ranks), 0)
        elif hybrid.normalize == "zscore":
            spread = scores.std(axis=1, keepdims=True)
            level = np.abs(scores).max(axis=1, keepdims=True)
            part = np.where(
                spread > 1e-5 * level, (scores - scores.mean(axis=1, keepdims=True)) / np.where(spread, spread, 1), 0
            )
        elif hybrid.normalize == "minmax":
            low, high = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
            part = np.where(high > low, (scores - low) / np.where(high > low, high - low, 1), 0)
        else:
            part = scores
        total += weight * part
    return total


FORMS: dict[str, dict[str, Any]] = {
    "zscore": {},
    "minmax": {"normalize": "minmax"},
    "none": {"normalize": "none"},
    "rank fusion": {"method": "rank_fusion"},
    "short rank fusion": {"method": "rank_fusion", "depth": 5, "k": 1.0},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_random", [True, False])
def test_scores_are_the_formulas_and_lists_their_order(device: str, form: str, with_random: bool) -> None:
    models = members(device)[: 3 if with_random else 2]
    weights = [3, 1, 2][: len(models)]
    hybrid = rf.Hybrid(models, weights=weights, device=device, **FORMS[form]).fit()
    np.testing.assert_allclose(hybrid.weights_, np.array(weights) / sum(weights))
    expected = expected_scores(hybrid, hybrid.weights_)
    scores = hybrid.score(np.arange(USERS))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(
        hybrid.predict([3, 9, 3], [1, 2, 19]), expected[[3, 9, 3], [1, 2, 19]], rtol=1e-4, atol=2e-5
    )
    np.testing.assert_array_equal(hybrid.score(4, [7, 7, 2]), hybrid.score([4])[0, [7, 7, 2]])
    assert isinstance(hybrid.predict(1, 2), float)
    seen = ratings().toarray() > 0
    for choice in ({}, {"filter_seen": False}, {"exclude": [1, 2]}, {"include": [4, 5, 6, 7]}):
        ids, values = hybrid.recommend([0, 7, 7, 15], n=30, **choice)
        for row, user in enumerate([0, 7, 7, 15]):
            allowed = set(range(ITEMS)) - set(choice.get("exclude", ())) & set(range(ITEMS))
            allowed &= set(choice.get("include", range(ITEMS)))
            if choice.get("filter_seen", True):
                allowed -= set(np.flatnonzero(seen[user]))
            found = ids[row][ids[row] >= 0]
            assert set(found) == allowed
            assert len(found) == len(allowed)
            np.testing.assert_allclose(values[row][: len(found)], scores[user][found], rtol=1e-4, atol=2e-5)
            assert (np.diff(values[row][: len(found)]) <= 0).all()


@pytest.mark.parametrize("normalize", ["zscore", "none"])
def test_a_blend_of_factor_models_is_the_same_by_way_of_all_scores(device: str, normalize: str) -> None:
    models = [rf.ALS(d, n_epochs=2, random_state=d, device=device).fit(ratings()) for d in (3, 5)]
    fast = rf.Hybrid(models, weights=[1, 2], normalize=normalize, device=device).fit()
    slow = rf.Hybrid(
        [Wrapped(m).fit(ratings()) for m in models], weights=[1, 2], normalize=normalize, device=device
    ).fit()
    assert fast._linear() is not None
    assert slow._linear() is None
    np.testing.assert_allclose(fast.score(np.arange(USERS)), slow.score(np.arange(USERS)), rtol=1e-4, atol=1e-5)
    new = ratings(5, ITEMS, seed=9)
    left, right = fast.recommend(user_items=new, n=ITEMS), slow.recommend(user_items=new, n=ITEMS)
    np.testing.assert_allclose(left.scores, right.scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_histories_go_through_the_members(device: str, form: str) -> None:
    matrix = ratings()
    models = members(device)[:2]
    hybrid = rf.Hybrid(models, weights=[2, 1], device=device, **FORMS[form]).fit()
    new = ratings(6, ITEMS, seed=9)
    ids = hybrid.recommend(user_items=new, n=ITEMS).ids
    for row in range(6):
        found = ids[row][ids[row] >= 0]
        assert set(found) == set(range(ITEMS)) - set(new[[row]].indices)
    np.testing.assert_array_equal(hybrid.recommend([4, 1], new, n=5).ids, ids[[4, 1]][:, :5])
    stacked = sp.vstack([matrix, new], format="csr")
    grown = [copy.deepcopy(model).resize(n_users=USERS + 6) for model in models]
    for model in grown[:1]:
        model.partial_fit(new, users=np.arange(USERS, USERS + 6))
    grown[1].partial_fit(sp.vstack([matrix, sp.csr_array((6, ITEMS), dtype=np.float32)], format="csr"))
    again = rf.Hybrid(grown, weights=[2, 1], device=device, **FORMS[form]).fit()
    same = again.recommend(np.arange(USERS, USERS + 6), user_items=None, n=ITEMS, filter_seen=False)
    whole = again.recommend(user_items=stacked[USERS:], n=ITEMS, filter_seen=False)
    np.testing.assert_allclose(whole.scores, same.scores, rtol=1e-4, atol=1e-5)


def test_blocks_do_not_matter(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = ratings(300, ITEMS)
    models = members(device, matrix)
    hybrid = rf.Hybrid(models, weights=[1, 1, 1], device=device).fit()
    whole, pairs = hybrid.recommend(n=6), hybrid.predict(np.arange(299, -1, -1), np.arange(300) % ITEMS)
    held = sp.csr_array((ratings(300, ITEMS, seed=4).toarray() * (matrix.toarray() == 0)).astype(np.float32))
    fitted = rf.Hybrid(models, device=device).fit(held)
    monkeypatch.setattr(hybrid_scores, "_BLOCK", 1)
    assert len(hybrid_scores.blocks(300, ITEMS)) == 5
    np.testing.assert_array_equal(hybrid.recommend(n=6).ids, whole.ids)
    np.testing.assert_allclose(hybrid.predict(np.arange(299, -1, -1), np.arange(300) % ITEMS), pairs, rtol=1e-6)
    assert same_state(rf.Hybrid(models, device=device).fit(held), fitted)
    with_one = rf.Hybrid(models, device=device, n_threads=1).fit(held)
    assert same_state(with_one, fitted)


@pytest.mark.parametrize("form", FORMS)
def test_fitted_weights_are_as_good_as_any_on_the_grid(device: str, form: str) -> None:
    models, held = members(device), validation()
    hybrid = rf.Hybrid(models, metric="ndcg@5", n_candidates=ITEMS, device=device, **FORMS[form]).fit(held)
    assert hybrid.weights_.shape == (3,)
    assert hybrid.weights_.min() >= 0
    assert hybrid.weights_.sum() == pytest.approx(1)
    reached = hybrid.history_["validation_ndcg@5"]
    assert reached == sorted(reached)
    assert len(reached) == 5

    def value(weights: Any) -> float:
        given = rf.Hybrid(models, weights=weights, device=device, **FORMS[form]).fit()
        return evaluate(given, ratings(), held, "ndcg@5")["ndcg@5"]

    assert value(hybrid.weights_) == pytest.approx(reached[-1], abs=1e-6)
    for weights in (*np.eye(3), np.ones(3)):
        assert reached[-1] >= value(weights) - 1e-6


def test_search_finds_the_model_that_knows(device: str) -> None:
    data = rf.datasets.synthetic(n_users=400, n_items=150, n_interactions=12_000, random_state=0)
    fit_on, held = rf.splits.random(data.train, 0.2, random_state=0)
    models = [rf.Random(device=device).fit(fit_on), rf.ALS(8, random_state=0, n_epochs=5, device=device).fit(fit_on)]
    hybrid = rf.Hybrid(models, device=device).fit(held)
    assert hybrid.weights_[1] > 0.8
    single = [evaluate(model, fit_on, held, "ndcg@20")["ndcg@20"] for model in models]
    assert evaluate(hybrid, fit_on, held, "ndcg@20")["ndcg@20"] >= max(single) - 1e-6


def test_callbacks_and_given_weights_with_validation(device: str) -> None:
    models, held = members(device), validation()
    seen = []

    class Stop(rf.training.Callback):
        def on_epoch_end(self, state: Any) -> bool:
            seen.append((state.epoch, state.metrics["ndcg@20"], state.model.weights_.copy()))
            return True

    hybrid = rf.Hybrid(models, device=device).fit(held, eval_set=held, callbacks=[Stop()])
    assert len(seen) == 1 == hybrid.n_epochs_
    assert seen[0][1] == hybrid.history_["ndcg@20"][0]
    given = rf.Hybrid(models, weights=hybrid.weights_, device=device).fit(held)
    assert given.history_["validation_ndcg@20"][0] == hybrid.history_["validation_ndcg@20"][0]


def test_what_is_kept_of_the_members_is_renewed_with_them(device: str) -> None:
    models, held = [rf.ALS(d, n_epochs=2, random_state=d, device=device).fit(ratings()) for d in (3, 5)], validation()
    hybrid = rf.Hybrid(models, device=device).fit(held, eval_set=held)
    last = evaluate(rf.Hybrid(models, weights=hybrid.weights_, device=device).fit(), ratings(), held, "ndcg@20")
    assert hybrid.history_["ndcg@20"][-1] == pytest.approx(last["ndcg@20"], abs=1e-9)
    before = hybrid.score(4)
    models[0].partial_fit(ratings(1, ITEMS, seed=8), users=[4])
    fresh = rf.Hybrid(models, weights=hybrid.weights_, device=device).fit()
    np.testing.assert_allclose(hybrid.score(4), fresh.score(4), rtol=1e-5, atol=1e-6)
    assert not np.allclose(hybrid.score(4), before)


def test_few_users_of_many(device: str) -> None:
    models, held = members(device), validation()
    hybrid = rf.Hybrid(models, max_users=3, device=device).fit(held)
    assert hybrid.weights_.sum() == pytest.approx(1)
    one = rf.Hybrid(models[:1], device=device).fit(held)
    assert one.weights_.tolist() == [1.0]


def test_different_catalogues_and_users_are_refused(device: str) -> None:
    als = rf.ALS(3, n_epochs=1, device=device).fit(ratings())
    for shape, side in (((30, 21), "items"), ((31, 20), "users")):
        other = rf.Popularity(device=device).fit(ratings(*shape))
        with pytest.raises(ValueError, match=rf"models\[0\] and models\[1\] were fitted on different {side}.*shapes"):
            rf.Hybrid([als, other], weights=[1, 1]).fit()
    maps = [[f"i{i}" for i in range(20)], [f"i{i}" for i in (1, 0, *range(2, 20))]]
    mapped = [rf.Popularity(device=device).fit(rf.Interactions(ratings(), item_ids=ids)) for ids in maps]
    with pytest.raises(ValueError, match=r"different items: got item 0 is 'i0' and 'i1', expected one id map"):
        rf.Hybrid(mapped, weights=[1, 1]).fit()
    hybrid = rf.Hybrid([als, mapped[0]], weights=[1, 1]).fit()
    assert hybrid.item_ids_ == rf.IdMap(maps[0])
    with pytest.raises(ValueError, match="the models and user_items have different items"):
        rf.Hybrid([als, mapped[0]]).fit(rf.Interactions(validation(), item_ids=maps[1]))
    als.fit(ratings(30, 25))
    for call in (lambda: hybrid.recommend(0), lambda: hybrid.score(0), lambda: hybrid.predict(0, 0)):
        with pytest.raises(ValueError, match="different items"):
            call()


def test_bad_calls_are_refused(device: str) -> None:
    models = members(device)
    calls: list[tuple[type[Exception], str, Any]] = [
        (ValueError, "models: got none", lambda: rf.Hybrid().fit(validation())),
        (ValueError, "models: got one model", lambda: rf.Hybrid(models[0]).fit(validation())),
        (TypeError, "models: got a str", lambda: rf.Hybrid(["als"]).fit(validation())),
        (NotFittedError, "this ALS is not fitted", lambda: rf.Hybrid([models[0], rf.ALS()]).fit(validation())),
        (ValueError, "user_items to fit the weights on: got None", lambda: rf.Hybrid(models).fit()),
        (ValueError, "got no interactions", lambda: rf.Hybrid(models).fit(sp.csr_array((USERS, ITEMS)))),
        (ValueError, "shape", lambda: rf.Hybrid(models).fit(ratings(5, ITEMS))),
        (ValueError, "transposed", lambda: rf.Hybrid(models).fit(validation().T)),
        (ValueError, "method", lambda: rf.Hybrid(models, "average").fit(validation())),
        (ValueError, "normalize", lambda: rf.Hybrid(models, normalize="l2").fit(validation())),
        (ValueError, "metric", lambda: rf.Hybrid(models, metric="rmse").fit(validation())),
        (ValueError, "metric", lambda: rf.Hybrid(models, metric="coverage@5").fit(validation())),
        (ValueError, "metric", lambda: rf.Hybrid(models, metric="ndcg").fit(validation())),
        (ValueError, "weights: got 2 numbers", lambda: rf.Hybrid(models, weights=[1, 2]).fit()),
        (ValueError, "weights", lambda: rf.Hybrid(models, weights=[1, -1, 0]).fit()),
        (ValueError, "weights", lambda: rf.Hybrid(models, weights=[0, 0, 0]).fit()),
        (ValueError, "weights", lambda: rf.Hybrid(models, weights=[1, np.nan, 0]).fit()),
        (TypeError, "weights", lambda: rf.Hybrid(models, weights="equal").fit()),
        (ValueError, "depth", lambda: rf.Hybrid(models, depth=0).fit(validation())),
        (ValueError, "k", lambda: rf.Hybrid(models, k=-1).fit(validation())),
        (ValueError, "n_rounds", lambda: rf.Hybrid(models, n_rounds=0).fit(validation())),
    ]
    for error, text, call in calls:
        with pytest.raises(error, match=text):
            call()
    hybrid = rf.Hybrid(models, weights=[1, 1, 1])
    with pytest.raises(NotFittedError):
        hybrid.recommend(0)
    hybrid.fit()
    for use in (lambda: hybrid.partial_fit(ratings()), lambda: hybrid.resize(40), lambda: hybrid.similar_items(0)):
        with pytest.raises(NotSupportedError):
            use()
    with pytest.raises(IndexError, match="users holds id 30"):
        hybrid.recommend(30)


def test_a_user_without_anything_and_constant_scores(device: str) -> None:
    empty = sp.csr_array((USERS, ITEMS), dtype=np.float32)
    flat = rf.Popularity(device=device).fit(empty)
    als = members(device)[0]
    for form in ({}, {"normalize": "minmax"}):
        hybrid = rf.Hybrid([als, flat], weights=[1, 1], device=device, **form).fit()
        np.testing.assert_allclose(hybrid.score([1]), expected_scores(hybrid, [0.5, 0])[[1]], rtol=1e-4, atol=1e-5)
    ids, _ = hybrid.recommend(USERS // 2, n=3)
    assert ids.tolist() == [0, 1, 2]
    nobody = [rf.Popularity(device=device).fit(sp.csr_array((3, 0), dtype=np.float32)) for _ in range(2)]
    assert rf.Hybrid(nobody, weights=[1, 1], device=device).fit().recommend(n=2).ids.tolist() == [[-1, -1]] * 3


def test_what_any_model_saw_is_seen(device: str) -> None:
    dense = ratings().toarray()
    left, right = dense.copy(), dense.copy()
    left[:, ::2], right[:, 1::2] = 0, 0
    models = [rf.Popularity(device=device).fit(sp.csr_array(part)) for part in (left, right)]
    hybrid = rf.Hybrid(models, weights=[1, 1], device=device).fit()
    np.testing.assert_array_equal(hybrid.training_matrix_.col_idx, ratings().indices)
    assert not set(hybrid.recommend(3, n=ITEMS).ids) & set(np.flatnonzero(dense[3]))


def test_copies(device: str) -> None:
    hybrid = rf.Hybrid(members(device), device=device).fit(validation())
    before = hybrid.recommend(n=5)
    for twin in (copy.deepcopy(hybrid), pickle.loads(pickle.dumps(hybrid))):
        np.testing.assert_array_equal(twin.recommend(n=5).ids, before.ids)
        assert twin.get_params().keys() == hybrid.get_params().keys()
    parts = hybrid.estimate_memory(ratings())
    assert parts["total"] == sum(size for name, size in parts.items() if name != "total")


def test_evaluation_takes_a_hybrid(device: str) -> None:
    hybrid = rf.Hybrid(members(device), device=device).fit(validation())
    report = evaluate(hybrid, ratings(), validation(), ["ndcg@5", "auc", "coverage@5"])
    assert report["ndcg@5"] > 0
    sampled = evaluate(hybrid, ratings(), validation(), ["ndcg@5"], negatives=3)
    assert sampled["ndcg@5/sampled3"] > 0


def test_quality_on_real_data(data_dir: Path) -> None:
    if rf.datasets.describe("ml-100k").found is None:
        pytest.skip("no ml-100k")
    whole = rf.datasets.load("ml-100k").interactions
    assert whole is not None
    rest, test = rf.splits.random(whole, 0.2, random_state=0)
    train, held = rf.splits.random(rest, 0.2, random_state=1)
    models = [
        rf.ALS(16, unobserved_weight=0.1, regularization=0.01, random_state=0).fit(train.normalize("binary")),
        rf.ALS(64, unobserved_weight=0.1, regularization=0.01, random_state=0).fit(train.normalize("binary")),
        rf.Popularity().fit(train),
    ]
    seen = rf.splits.join(train, held)
    single = max(evaluate(model, seen, test, "ndcg@20")["ndcg@20"] for model in models)
    for method in ("blend", "rank_fusion"):
        hybrid = rf.Hybrid(models, method).fit(held)
        assert evaluate(hybrid, seen, test, "ndcg@20")["ndcg@20"] > single
