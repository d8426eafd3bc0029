"""RMSE, MAE and accuracy of predicted ratings."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_fast.evaluation import evaluate
from recsys_fast.evaluation.ratings import nearest
from recsys_fast.ops import as_csr
from tests.evaluation.problems import Factors, Foreign, make


def test_equal_plain_loops(device: str) -> None:
    problem = make(41)
    rng = np.random.default_rng(41)
    queries, items = rng.uniform(0.5, 1.5, (40, 3)).astype(np.float32), rng.uniform(0.5, 1.5, (60, 3))
    scores = queries.astype(float) @ items.astype(np.float32).astype(float).T
    errors: dict[int, list[float]] = {}
    right = []
    levels = sorted(set(problem.train.data.tolist()))
    for user in range(40):
        for item in problem.test.indices[problem.test.indptr[user] : problem.test.indptr[user + 1]]:
            errors.setdefault(user, []).append(scores[user, item] - problem.test[user, item])
            best = min(levels, key=lambda level: (abs(level - scores[user, item]), level))
            right.append(float(best == problem.test[user, item]))
    flat = np.concatenate(list(errors.values()))
    report = evaluate(Factors(queries, items, device), problem.train, problem.test, ("rmse", "mae", "accuracy"))
    assert report["rmse"] == pytest.approx(np.sqrt(np.mean(flat**2)), rel=1e-6)
    assert report["mae"] == pytest.approx(np.mean(np.abs(flat)), rel=1e-6)
    assert report["accuracy"] == pytest.approx(np.mean(right), rel=1e-12)
    assert report.stderr("mae") == pytest.approx(np.abs(flat).std(ddof=1) / len(flat) ** 0.5, rel=1e-5)
    square_error = (flat**2).std(ddof=1) / len(flat) ** 0.5
    assert report.stderr("rmse") == pytest.approx(square_error / (2 * report["rmse"]), rel=1e-5)
    for user in range(40):
        own = np.array(errors.get(user, [np.nan]))
        assert report.per_user("rmse")[user] == pytest.approx(np.sqrt(np.mean(own**2)), rel=1e-5, nan_ok=True)
        assert report.per_user("mae")[user] == pytest.approx(np.mean(np.abs(own)), rel=1e-5, nan_ok=True)
    other = evaluate(Foreign(scores, problem.train), problem.train, problem.test, ("rmse", "mae", "accuracy"))
    assert dict(other) == pytest.approx(dict(report), rel=1e-6)


def test_perfect_predictions(device: str) -> None:
    test = sp.csr_array([[3.0, 0], [0, 5.0]])
    model = Factors(np.array([[3.0], [5.0]]), np.ones((2, 1)), device)
    report = evaluate(model, test, test, ("rmse", "mae", "accuracy"))
    assert dict(report) == {"rmse": 0, "mae": 0, "accuracy": 1}
    assert report.stderr("rmse") == 0


def test_ratings_may_stand_beside_rankings_and_sampling(device: str) -> None:
    problem = make(42)
    model = Factors(problem.queries, problem.items, device)
    report = evaluate(model, problem.train, problem.test, ("rmse", "ndcg"), negatives=5)
    assert list(report) == ["rmse", "ndcg@10/sampled5"]
    assert list(evaluate(model, None, problem.test, "rmse")) == ["rmse"]


@pytest.mark.parametrize(
    ("value", "level"), [(-9.0, 1.0), (1.4, 1.0), (1.5, 1.0), (1.51, 2.0), (3.0, 2.0), (3.1, 4.0), (99.0, 4.0)]
)
def test_nearest_level(value: float, level: float) -> None:
    assert nearest(np.array([value]), np.array([1.0, 2.0, 4.0])).tolist() == [level]
    assert nearest(np.array([value]), np.array([7.0])).tolist() == [7.0]


def test_missing_ratings_are_named() -> None:
    problem = make(1)
    model = problem.queries, problem.items
    plain = as_csr(problem.test)._replace(values=None)
    with pytest.raises(ValueError, match="rmse needs the values of test"):
        evaluate(model, problem.train, plain, "rmse")
    with pytest.raises(ValueError, match="train: got None"):
        evaluate(model, None, problem.test, "accuracy")
    with pytest.raises(ValueError, match="accuracy needs the values of train"):
        evaluate(model, as_csr(problem.train)._replace(values=None), problem.test, "accuracy")
