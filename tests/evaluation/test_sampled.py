"""The sampled protocol: drawn and given negatives, against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_fast.evaluation import evaluate
from recsys_fast.evaluation.sampled import draw_negatives, known_items
from recsys_fast.ops import as_csr
from tests.evaluation import reference
from tests.evaluation.problems import Factors, Foreign, Problem, make

NAMES = (*reference.NAMES, "auc")


def check(problem: Problem, model: Any, lists: np.ndarray, filter_seen: bool = True, **options: Any) -> None:
    """Compare a report with metrics of explicit rankings of the test items among ``lists``."""
    report = evaluate(model, problem.train, problem.test, NAMES, (1, 5, 200), filter_seen=filter_seen, **options)
    suffix = f"/sampled{lists.shape[1]}"
    assert all(key.endswith(suffix) for key in report)
    train, test = problem.rows(problem.train), problem.rows(problem.test)
    for user, (scores, seen, relevant) in enumerate(zip(problem.scores.tolist(), train, test, strict=True)):
        pool = ({item for item in lists[user].tolist() if item >= 0} | relevant) - (seen if filter_seen else set())
        found = report.per_user("auc" + suffix)[user]
        assert found == pytest.approx(reference.auc(scores, pool, relevant), rel=1e-12, nan_ok=True)
        for k in (1, 5, 200):
            for name, value in reference.metrics(reference.ranking(scores, pool), relevant, k).items():
                found = report.per_user(f"{name}@{k}{suffix}")[user]
                assert found == pytest.approx(value, rel=1e-12, nan_ok=True)


def drawn(problem: Problem, n: int, seed: int) -> np.ndarray:
    known = known_items(as_csr(problem.train), as_csr(problem.test))
    return draw_negatives(known, n, seed, {})


@pytest.mark.parametrize("n", [1, 7, 30, 100])
@pytest.mark.parametrize("overlap", [True, False])
def test_drawn_negatives_equal_plain_loops(n: int, overlap: bool, device: str) -> None:
    problem = make(20, overlap=overlap)
    model = Factors(problem.queries, problem.items, device)
    check(problem, model, drawn(problem, n, 5), negatives=n, seed=5)


@pytest.mark.parametrize("filter_seen", [True, False])
def test_given_negatives_equal_plain_loops(filter_seen: bool, device: str) -> None:
    problem = make(21, overlap=True)
    model = Factors(problem.queries, problem.items, device)
    rng = np.random.default_rng(0)  # with repeats, padding, seen items and test items among them
    lists = rng.integers(-1, 60, (40, 12))
    check(problem, model, lists, filter_seen, negatives=lists)


def test_a_model_without_factors_is_asked_for_predictions() -> None:
    problem = make(22)
    check(problem, Foreign(problem.scores, problem.train), drawn(problem, 9, 1), negatives=9, seed=1)


@pytest.mark.parametrize("n", [1, 10, 25, 40, 59])
def test_drawn_lists_are_distinct_and_unknown_to_the_user(n: int) -> None:
    problem = make(23)
    lists = drawn(problem, n, 3)
    assert lists.shape == (40, n)
    for own, seen, relevant in zip(lists, problem.rows(problem.train), problem.rows(problem.test), strict=True):
        items = own[own >= 0].tolist()
        assert len(set(items)) == len(items) == min(n, 60 - len(seen | relevant))
        assert not set(items) & (seen | relevant)
        assert (own[len(items) :] == -1).all()


def test_draws_are_spread_over_all_items() -> None:
    known = as_csr(sp.csr_array((3000, 20)))
    counts = np.bincount(draw_negatives(known, 4, 0, {}).ravel(), minlength=20)
    # 3000 draws of 4 out of 20: 600 each, variance 3000 * .2 * .8; five standard deviations
    assert np.abs(counts - 600).max() < 5 * 480**0.5
    shuffled = np.bincount(draw_negatives(known, 15, 0, {}).ravel(), minlength=20)
    assert np.abs(shuffled - 2250).max() < 5 * (3000 * 0.75 * 0.25) ** 0.5


def test_the_seed_decides(device: str) -> None:
    problem = make(24)
    model = Factors(problem.queries, problem.items, device)
    reports = [evaluate(model, problem.train, problem.test, "ndcg", negatives=5, seed=seed) for seed in (1, 1, 2)]
    per_user = [report.per_user("ndcg@10/sampled5") for report in reports]
    np.testing.assert_array_equal(per_user[0], per_user[1])
    assert not np.array_equal(per_user[0], per_user[2], equal_nan=True)
    assert [report.seed for report in reports] == [1, 1, 2]


def test_a_users_negatives_do_not_depend_on_who_else_is_evaluated(device: str) -> None:
    problem = make(25)
    model = Factors(problem.queries, problem.items, device)
    whole = evaluate(model, problem.train, problem.test, "map", negatives=6)
    part = evaluate(model, problem.train, problem.test, "map", negatives=6, users=[31, 5])
    np.testing.assert_array_equal(part.per_user("map@10/sampled6"), whole.per_user("map@10/sampled6")[[31, 5]])


def test_worked_by_hand(device: str) -> None:
    # Scores fall with the id. The test item 2 is ranked among 1 and 3, whatever else there is.
    model = Factors(np.ones((1, 1)), np.arange(9.0, 0.0, -1.0)[:, None], device)
    test = sp.csr_array(([1.0], [2], [0, 1]), shape=(1, 9))
    report = evaluate(model, sp.csr_array((1, 9)), test, ("mrr", "hit_rate", "auc"), (1, 2), negatives=[[3, 1]])
    assert dict(report) == {
        "mrr@1/sampled2": 0, "mrr@2/sampled2": 0.5, "hit_rate@1/sampled2": 0, "hit_rate@2/sampled2": 1,
        "auc/sampled2": 0.5,
    }  # fmt: skip
    assert report.seed is None
    assert "given" in str(report)


@pytest.mark.parametrize(
    ("negatives", "error", "text"),
    [
        (0, ValueError, "negatives: got 0"),
        (-3, ValueError, "negatives: got -3"),
        (1.5, TypeError, "negatives: got float"),
        (np.zeros((40, 3)), TypeError, "negatives: got dtype float64"),
        (np.zeros((3, 40), int), ValueError, r"expected \(40, k\)"),
        (np.zeros(40, int), ValueError, r"expected \(40, k\)"),
        (np.zeros((40, 0), int), ValueError, r"expected \(40, k\)"),
        (np.full((40, 2), 60), IndexError, "negatives hold item 60"),
        (np.full((40, 2), -2), IndexError, "negatives hold item -2"),
    ],
)
def test_bad_negatives_are_named(negatives: Any, error: type[Exception], text: str) -> None:
    problem = make(1)
    with pytest.raises(error, match=text):
        evaluate((problem.queries, problem.items), problem.train, problem.test, negatives=negatives)


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**64, ValueError), (0.5, TypeError), (True, TypeError)]
)
def test_bad_seeds_are_named(seed: Any, error: type[Exception]) -> None:
    problem = make(1)
    with pytest.raises(error, match="seed: got"):
        evaluate((problem.queries, problem.items), problem.train, problem.test, negatives=5, seed=seed)


@pytest.mark.parametrize("name", ["coverage", "gini", "novelty", "diversity"])
def test_metrics_of_whole_lists_are_refused(name: str) -> None:
    problem = make(1)
    with pytest.raises(ValueError, match=f"{name} is about lists chosen from all items.*negatives=None"):
        evaluate((problem.queries, problem.items), problem.train, problem.test, name, negatives=5)
