"""Coverage, Gini, novelty and diversity against plain loops and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_fast.evaluation import beyond, evaluate
from tests.evaluation import reference
from tests.evaluation.problems import Factors, Foreign, Problem, make

KS = (1, 4, 100)


def lists(problem: Problem, k: int) -> dict[int, list[int]]:
    """Return the lists of the users with test items, without what they have seen."""
    out = {}
    train, test = problem.rows(problem.train), problem.rows(problem.test)
    for user, scores in enumerate(problem.scores.tolist()):
        if test[user]:
            out[user] = reference.ranking(scores, set(range(len(scores))) - train[user])[:k]
    return out


@pytest.mark.parametrize("seed", [31, 32])
def test_equal_plain_loops(seed: int, device: str) -> None:
    problem = make(seed)
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((60, 7)) * (rng.random((60, 7)) < 0.4)  # some items have none
    model = Factors(problem.queries, problem.items, device)
    names = ("coverage", "gini", "novelty", "diversity")
    report = evaluate(model, problem.train, problem.test, names, KS, item_features=features)
    owners = {item: int(count) for item, count in enumerate((problem.train != 0).sum(axis=0))}
    for k in KS:
        ranked = lists(problem, k)
        assert report[f"coverage@{k}"] == pytest.approx(reference.coverage(list(ranked.values()), 60))
        assert report[f"gini@{k}"] == pytest.approx(reference.gini(list(ranked.values()), 60))
        assert math.isnan(report.stderr(f"gini@{k}"))
        for user, own in ranked.items():
            if own:
                novelty = reference.novelty(own, owners, 40)
                assert report.per_user(f"novelty@{k}")[user] == pytest.approx(novelty, rel=1e-12)
            diversity = reference.diversity(own, features.astype(np.float32).tolist())
            assert report.per_user(f"diversity@{k}")[user] == pytest.approx(diversity, rel=1e-9, nan_ok=True)
    sparse = evaluate(model, problem.train, problem.test, "diversity", KS, item_features=sp.csr_array(features))
    assert dict(sparse) == pytest.approx({key: report[key] for key in sparse}, nan_ok=True)


def test_diversity_uses_the_factors_of_the_model(device: str) -> None:
    problem = make(33)
    model: Any = Factors(problem.queries, problem.items, device)
    with pytest.raises(ValueError, match="Pass item_features"):
        evaluate(model, problem.train, problem.test, "diversity")
    model.item_factors_ = problem.items
    own = evaluate(model, problem.train, problem.test, "diversity")["diversity@10"]
    assert own == evaluate((problem.queries, problem.items), problem.train, problem.test, "diversity")["diversity@10"]
    foreign: Any = Foreign(problem.scores, problem.train)
    with pytest.raises(ValueError, match="Pass item_features"):
        evaluate(foreign, problem.train, problem.test, "diversity")
    foreign.item_factors_ = problem.items
    assert evaluate(foreign, problem.train, problem.test, "diversity")["diversity@10"] == own


def test_by_hand() -> None:
    ids = np.array([[0, 1], [0, 2], [0, -1]], np.int32)
    assert beyond.coverage(ids, 4).mean == 0.75
    # counts 0 1 1 3 of 4 items: (-3 * 0 - 1 * 1 + 1 * 1 + 3 * 3) / (4 * 5)
    assert beyond.gini(ids, 4).mean == pytest.approx(9 / 20)
    assert beyond.gini(np.array([[0, 1], [2, 3]], np.int32), 4).mean == 0
    assert math.isnan(beyond.gini(np.full((2, 3), -1, np.int32), 4).mean)
    features = np.array([[2.0, 0], [0, 1], [3, 0], [0, 0]])
    found = beyond.diversity(np.array([[0, 1, 3], [0, 2, -1], [1, -1, -1]], np.int32), [2, 3], features, 4)
    np.testing.assert_allclose(found[2], [1, 0, np.nan])
    np.testing.assert_allclose(found[3], [1, 0, np.nan])


def test_novelty_by_hand() -> None:
    from recsys_fast.ops import as_csr

    train = as_csr(sp.csr_array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]))  # owned by 4, 1, 0 of 4 users
    ids = np.array([[0, 1], [2, -1], [-1, -1]], np.int32)
    np.testing.assert_array_equal(beyond.novelty(ids, train), [1, 2, np.nan])


def test_large_lists_are_worked_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    ids = np.array([rng.permutation(30)[:8] for _ in range(50)], np.int32)
    features = rng.standard_normal((30, 5))
    whole = beyond.diversity(ids, [3, 8], features, 30)
    monkeypatch.setattr(beyond, "_BLOCK_FLOATS", 200)
    parts = beyond.diversity(ids, [3, 8], features, 30)
    for k in (3, 8):
        np.testing.assert_allclose(parts[k], whole[k], rtol=1e-12)


def test_features_of_another_catalogue_are_refused() -> None:
    problem = make(1)
    for features in (np.ones((59, 2)), sp.csr_array((59, 2))):
        with pytest.raises(ValueError, match="rows of item_features: got 59, expected one per item, 60"):
            evaluate((problem.queries, problem.items), problem.train, problem.test, "diversity", item_features=features)
