"""evaluate over all items against plain loops, for every kind of model; and its refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_fast import ops
from recsys_fast.errors import NotFittedError
from recsys_fast.evaluation import METRICS, evaluate
from tests.conftest import devices
from tests.evaluation import reference
from tests.evaluation.problems import Factors, Foreign, OnlyScore, Problem, make

RANKED = reference.NAMES
KS = (1, 5, 20, 100)


def expected_per_user(problem: Problem, filter_seen: bool, k: int) -> dict[str, list[float]]:
    """Return each ranking metric and auc of every user."""
    out: dict[str, list[float]] = {name: [] for name in (*RANKED, "auc")}
    train, test = problem.rows(problem.train), problem.rows(problem.test)
    for scores, seen, relevant in zip(problem.scores.tolist(), train, test, strict=True):
        pool = set(range(len(scores))) - (seen if filter_seen else set())
        for name, value in reference.metrics(reference.ranking(scores, pool), relevant, k).items():
            out[name].append(value)
        out["auc"].append(reference.auc(scores, pool, relevant))
    return out


@pytest.mark.parametrize("filter_seen", [True, False])
@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equals_plain_loops(seed: int, overlap: bool, filter_seen: bool, device: str) -> None:
    problem = make(seed, overlap=overlap)
    model = Factors(problem.queries, problem.items, device)
    report = evaluate(model, problem.train, problem.test, (*RANKED, "auc"), KS, filter_seen=filter_seen)
    assert list(report) == [f"{name}@{k}" for name in RANKED for k in KS] + ["auc"]
    assert report.n_users == 39
    assert report.n_users_without_test == 1
    n_seen = int(((problem.test != 0).multiply(problem.train != 0)).sum())
    assert report.protocol["n_test_seen"] == n_seen
    assert (n_seen > 0) == overlap
    for k in KS:
        for name, values in expected_per_user(problem, filter_seen, k).items():
            key = "auc" if name == "auc" else f"{name}@{k}"
            np.testing.assert_allclose(report.per_user(key), values, rtol=1e-12, err_msg=key)
            defined = [value for value in values if value == value]
            assert report[key] == pytest.approx(sum(defined) / len(defined), rel=1e-12)
            spread = np.std(defined, ddof=1) / len(defined) ** 0.5
            assert report.stderr(key) == pytest.approx(spread, rel=1e-12)


@pytest.mark.parametrize("filter_seen", [True, False])
def test_every_kind_of_model_gives_the_same(filter_seen: bool) -> None:
    problem = make(7, overlap=True)
    models = [
        (problem.queries, problem.items),
        Foreign(problem.scores, problem.train),
        OnlyScore(problem.scores),
    ]
    metrics = (*RANKED, "auc", "coverage", "gini", "novelty")
    reports = [evaluate(m, problem.train, problem.test, metrics, KS, filter_seen=filter_seen) for m in models]
    for report in reports[1:]:
        assert dict(report) == pytest.approx(dict(reports[0]), rel=1e-12)


def test_lists_for_other_metrics_do_not_change_the_ranking_metrics(device: str) -> None:
    problem = make(8)
    model = Factors(problem.queries, problem.items, device)
    alone = evaluate(model, problem.train, problem.test, RANKED, (5, 10))
    beside = evaluate(model, problem.train, problem.test, (*RANKED, "coverage"), (5, 10))
    assert {key: beside[key] for key in alone} == dict(alone)


def test_worked_by_hand(device: str) -> None:
    # Everybody's list is 0 1 2 3. User 0 has seen 0 and looks for 1 and 3; user 1 looks for 2; user 2 for nothing.
    model = Factors(np.ones((3, 1)), np.array([[4.0], [3.0], [2.0], [1.0]]), device)
    train = sp.csr_array([[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    test = sp.csr_array([[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]])
    report = evaluate(model, train, test, ("precision", "recall", "mrr", "auc"), (2,))
    np.testing.assert_array_equal(report.per_user("precision@2"), [0.5, 0, np.nan])
    np.testing.assert_array_equal(report.per_user("recall@2"), [0.5, 0, np.nan])
    np.testing.assert_array_equal(report.per_user("mrr@2"), [1, 0, np.nan])
    np.testing.assert_array_equal(report.per_user("auc"), [0.5, 1 / 3, np.nan])  # user 0: 1 above 2, 3 below 2
    assert report["recall@2"] == 0.25
    assert report.stderr("recall@2") == 0.25


def test_a_subset_of_users(device: str) -> None:
    problem = make(9)
    model = Factors(problem.queries, problem.items, device)
    whole = evaluate(model, problem.train, problem.test, ("ndcg", "auc"), 10)
    users = [17, 0, 4, 30]
    part = evaluate(model, problem.train, problem.test, ("ndcg", "auc"), 10, users=users)
    assert part.users.tolist() == users
    assert (part.n_users, part.n_users_without_test) == (3, 1)
    for name in ("ndcg@10", "auc"):
        np.testing.assert_array_equal(part.per_user(name), whole.per_user(name)[users])
        assert part[name] == pytest.approx(np.nanmean(whole.per_user(name)[users]))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_property_bounds_and_growth_in_k(data: st.DataObject) -> None:
    n_users, n_items = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 10))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    part = rng.integers(0, 3, (n_users, n_items))
    part[0, 0] = 2
    train, test = sp.csr_array(part == 1), sp.csr_array(part == 2)
    queries, items = rng.integers(-1, 2, (n_users, 2)), rng.integers(-1, 2, (n_items, 2))
    ks = (1, 2, 3, 5, 8, 13)
    for device in devices():
        report = evaluate(Factors(queries, items, device), train, test, (*RANKED, "auc", "coverage", "gini"), ks)
        for name, value in report.items():
            assert 0 <= value <= 1 + 1e-12 or (name == "auc" and value != value), name
        for name in ("recall", "hit_rate", "mrr", "coverage"):
            by_k = [report[f"{name}@{k}"] for k in ks]
            assert by_k == sorted(by_k)
        if (part != 1).any(axis=1).all():
            assert report["recall@13"] == 1  # every test item is eligible and the lists hold all items


def test_inputs_of_any_form_give_the_same_and_stay_as_they_are(device: str) -> None:
    problem = make(11)
    model = Factors(problem.queries, problem.items, device)
    expected = dict(evaluate(model, problem.train, problem.test, RANKED, (5, 20)))
    reverse = problem.test.copy()
    for a, b in zip(reverse.indptr, reverse.indptr[1:], strict=False):
        reverse.indices[a:b] = reverse.indices[a:b][::-1]
    reverse.has_sorted_indices = False
    before = reverse.indices.tobytes(), problem.train.indices.tobytes(), problem.train.data.tobytes()
    for train, test in (
        (sp.coo_matrix(problem.train), sp.csc_array(problem.test)),
        (ops.as_csr(problem.train), sp.lil_array(problem.test)),
        (problem.train.astype(np.int8), reverse),
    ):
        assert dict(evaluate(model, train, test, RANKED, (5, 20))) == expected
    assert (reverse.indices.tobytes(), problem.train.indices.tobytes(), problem.train.data.tobytes()) == before


def test_names_with_cuts_of_their_own(device: str) -> None:
    problem = make(12)
    model = Factors(problem.queries, problem.items, device)
    report = evaluate(model, problem.train, problem.test, ("recall@7", "ndcg", "recall", "ndcg@5"), (5, 7))
    assert list(report) == ["recall@7", "ndcg@5", "ndcg@7", "recall@5"]
    assert list(evaluate(model, problem.train, problem.test, "map@3", ())) == ["map@3"]


def test_train_may_be_absent_where_it_is_not_needed(device: str) -> None:
    problem = make(13)
    model = Factors(problem.queries, problem.items, device)
    without = evaluate(model, None, problem.test, "ndcg", filter_seen=False)
    assert dict(without) == dict(evaluate(model, problem.train, problem.test, "ndcg", filter_seen=False))
    with pytest.raises(ValueError, match="filter_seen=False"):
        evaluate(model, None, problem.test, "ndcg")
    with pytest.raises(ValueError, match="train: got None"):
        evaluate(model, None, problem.test, "novelty", filter_seen=False)


@pytest.mark.parametrize(
    ("metrics", "ks", "error", "text"),
    [
        ("recal", 10, ValueError, "one of " + ", ".join(METRICS)),
        ("auc@10", 10, ValueError, "'auc': it has no cut"),
        ("ndcg@x", 10, ValueError, "a cut after the @"),
        ("ndcg@", 10, ValueError, "a cut after the @"),
        ("ndcg@0", 10, ValueError, "k: got 0"),
        ("ndcg", 0, ValueError, "k: got 0"),
        ("ndcg", 2.5, TypeError, "k: got float"),
        ("ndcg", (), ValueError, "ks: got no cut"),
        ((), 10, ValueError, "metrics: got none"),
        ((5,), 10, TypeError, "metric: got int"),
    ],
)
def test_bad_metrics_are_named(metrics: Any, ks: Any, error: type[Exception], text: str) -> None:
    problem = make(1)
    with pytest.raises(error, match=text):
        evaluate((problem.queries, problem.items), problem.train, problem.test, metrics, ks)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"train": lambda p: p.train.T}, ValueError, r"shape of train.*looks transposed: pass train\.T"),
        ({"test": lambda p: p.test.T}, ValueError, r"shape of test.*looks transposed: pass test\.T"),
        ({"test": lambda p: p.test[:10]}, ValueError, r"got \(10, 60\), expected the model's \(40, 60\).*fold_in"),
        ({"train": lambda p: p.train[:, :50]}, ValueError, "must be the same users and items"),
        ({"test": lambda p: p.test.toarray()}, TypeError, "test: got ndarray"),
        ({"test": lambda p: sp.csr_array((40, 60))}, ValueError, "no user has test items"),
        ({"users": lambda p: []}, ValueError, "none of the users asked for has test items"),
        ({"users": lambda p: [0]}, ValueError, "none of the users asked for has test items"),
        ({"users": lambda p: [3, 40]}, IndexError, "users holds user 40"),
        ({"users": lambda p: [-1]}, IndexError, "users holds user -1"),
        ({"users": lambda p: [3, 4, 3]}, ValueError, "user 3 twice"),
        ({"users": lambda p: [1.5]}, TypeError, "users: got dtype float64"),
        ({"users": lambda p: np.ones(40, bool)}, TypeError, r"np.flatnonzero\(users\)"),
        ({"users": lambda p: [[1]]}, ValueError, "users: got shape"),
        ({"model": lambda p: object()}, TypeError, "model: got object"),
        ({"model": lambda p: (p.queries, p.items[:, :2])}, ValueError, "shapes of queries and items"),
        ({"model": lambda p: (p.queries, p.items * np.nan)}, ValueError, "items of the model"),
        ({"model": lambda p: OnlyScore(p.scores * np.nan)}, ValueError, "scores of OnlyScore: got NaN"),
        ({"model": lambda p: OnlyScore(p.scores[:, 0])}, ValueError, "OnlyScore.score returned"),
        ({"n_threads": lambda p: 0}, ValueError, "n_threads"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], error: type[Exception], text: str) -> None:
    problem = make(1)
    arguments: dict[str, Any] = {
        "model": (problem.queries, problem.items),
        "train": problem.train,
        "test": problem.test,
    }
    arguments |= {name: value(problem) for name, value in change.items()}
    with pytest.raises(error, match=text):
        evaluate(**arguments)


def test_lists_of_a_model_are_checked() -> None:
    problem = make(1)

    class Careless(Foreign):
        ids = np.zeros((39, 10), int)

        def recommend(self, users: Any, n: int, filter_seen: bool) -> Any:
            return self.ids

    model = Careless(problem.scores, problem.train)
    with pytest.raises(ValueError, match="twice"):
        evaluate(model, problem.train, problem.test)
    model.ids = np.full((39, 10), 60)
    model.ids[:, 1:] = -1
    with pytest.raises(IndexError, match=r"ids\[0, 0\]: got 60"):
        evaluate(model, problem.train, problem.test)
    model.ids = np.zeros((39, 3), int)
    with pytest.raises(ValueError, match=r"Careless.recommend returned: got \(39, 3\), expected \(39, 10\)"):
        evaluate(model, problem.train, problem.test)


def test_an_unfitted_model_says_so() -> None:
    problem = make(1)

    class Unfitted:
        def _scoring(self) -> Any:
            raise NotFittedError("call fit first")

    with pytest.raises(NotFittedError, match="fit"):
        evaluate(Unfitted(), problem.train, problem.test)
