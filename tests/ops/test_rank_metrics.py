"""rank_metrics, list_metrics and rank_auc against plain loops and against numbers worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys_fast import ops
from tests.cases.rank_metrics import CASES, Case, Problem
from tests.conftest import devices
from tests.evaluation import reference


def rows(csr: ops.Csr) -> list[set[int]]:
    return [set(csr.col_idx[csr.row_ptr[u] : csr.row_ptr[u + 1]].tolist()) for u in range(csr.n_rows)]


def pools(problem: Problem) -> list[set[int]]:
    """Return what may be ranked for each user."""
    everything = set(range(len(problem.items)))
    if problem.include is not None:
        everything = set(problem.include.tolist())
    if problem.exclude is not None:
        everything -= set(problem.exclude.tolist())
    seen = rows(problem.seen) if problem.seen is not None else [set()] * len(problem.queries)
    return [everything - own for own in seen]


def options(problem: Problem) -> dict[str, Any]:
    return {"seen": problem.seen, "include": problem.include, "exclude": problem.exclude}


def scores(problem: Problem) -> list[list[float]]:
    dense: list[list[float]] = (problem.queries.astype(float) @ problem.items.astype(float).T).tolist()
    return dense


def expected(problem: Problem) -> dict[str, NDArray[np.float64]]:
    out = {name: np.full((len(problem.queries), len(problem.ks)), np.nan) for name in reference.NAMES}
    for user, (own, pool, relevant) in enumerate(zip(scores(problem), pools(problem), rows(problem.test), strict=True)):
        ranked = reference.ranking(own, pool)
        for c, k in enumerate(problem.ks):
            for name, value in reference.metrics(ranked, relevant, k).items():
                out[name][user, c] = value
    return out


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rank_metrics_equal_plain_loops(case: Case, device: str) -> None:
    problem = case.make()
    found = ops.rank_metrics(
        problem.items, problem.queries, problem.test, problem.ks, **options(problem), device=device
    )
    assert tuple(found) == reference.NAMES
    for name, values in expected(problem).items():
        assert found[name].dtype == np.float64
        np.testing.assert_allclose(found[name], values, rtol=1e-12, atol=0, err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_list_metrics_of_topk_equal_rank_metrics(case: Case, device: str) -> None:
    problem = case.make()
    ids, _ = ops.topk(problem.items, problem.queries, max(problem.ks), **options(problem), device=device)
    lists = ops.list_metrics(ids.astype(np.int64), problem.test, problem.ks, device=device)
    fused = ops.rank_metrics(
        problem.items, problem.queries, problem.test, problem.ks, **options(problem), device=device
    )
    for name in reference.NAMES:
        np.testing.assert_array_equal(lists[name], fused[name])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rank_auc_equals_plain_loops(case: Case, device: str) -> None:
    problem = case.make()
    found = ops.rank_auc(problem.items, problem.queries, problem.test, **options(problem), device=device)
    values = [
        reference.auc(own, pool, relevant)
        for own, pool, relevant in zip(scores(problem), pools(problem), rows(problem.test), strict=True)
    ]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.array(values, float), rtol=1e-12, atol=0)


def test_every_case_list_covers_what_it_names() -> None:
    """Seen test items, users without test items and ties do occur in the cases, or the tests above would say little."""
    seen_and_relevant = without_test = ties = 0
    for case in CASES:
        problem = case.make()
        test = rows(problem.test)
        without_test += sum(not relevant for relevant in test)
        if problem.seen is not None:
            seen_and_relevant += sum(bool(a & b) for a, b in zip(rows(problem.seen), test, strict=True))
        ties += sum(len(set(own)) < len(own) for own in scores(problem))
    assert min(seen_and_relevant, without_test, ties) > 20


def test_worked_by_hand(device: str) -> None:
    # Scores 5 4 3 2 1 0 for items 0 to 5; items 1, 3 and 5 are relevant; item 0 is seen. The list is 1 2 3 4 5.
    items, queries = np.arange(5, -1, -1, dtype=np.float32)[:, None], np.ones((1, 1), np.float32)
    test, seen = sp.csr_array([[0, 1, 0, 1, 0, 1]]), sp.csr_array([[1, 0, 0, 0, 0, 0]])
    found = ops.rank_metrics(items, queries, test, (2, 3, 10), seen=seen, device=device)
    by_k = {name: values[0].tolist() for name, values in found.items()}
    assert by_k["precision"] == pytest.approx([1 / 2, 2 / 3, 3 / 10])
    assert by_k["recall"] == pytest.approx([1 / 3, 2 / 3, 1])
    assert by_k["f1"] == pytest.approx([0.4, 2 / 3, 6 / 13])
    assert by_k["hit_rate"] == [1, 1, 1]
    ideal = 1 + 1 / math.log2(3) + 0.5
    assert by_k["ndcg"] == pytest.approx([1 / (1 + 1 / math.log2(3)), 1.5 / ideal, (1.5 + 1 / math.log2(6)) / ideal])
    assert by_k["mrr"] == [1, 1, 1]
    assert by_k["map"] == pytest.approx([1 / 2, (1 + 2 / 3) / 3, (1 + 2 / 3 + 3 / 5) / 3])
    # Eligible and not relevant: 2 and 4. Item 1 beats both, 3 beats one, 5 none.
    assert ops.rank_auc(items, queries, test, seen=seen, device=device).tolist() == [0.5]


def test_a_relevant_item_that_is_seen_counts_as_missed(device: str) -> None:
    items, queries = np.array([[3.0], [2.0], [1.0]]), np.ones((1, 1))
    test, seen = sp.csr_array([[1, 1, 0]]), sp.csr_array([[1, 0, 0]])
    found = ops.rank_metrics(items, queries, test, 2, seen=seen, device=device)
    assert found["recall"].tolist() == [[0.5]]
    assert ops.rank_auc(items, queries, test, seen=seen, device=device).tolist() == [0.5]


def test_equal_scores_count_half_in_auc(device: str) -> None:
    test = sp.csr_array([[1, 0, 0, 0]])
    assert ops.rank_auc(np.zeros((4, 2)), np.ones((1, 2)), test, device=device).tolist() == [0.5]


def test_precision_divides_by_k_also_beyond_the_catalogue(device: str) -> None:
    found = ops.rank_metrics(np.ones((3, 1)), np.ones((1, 1)), sp.csr_array([[1, 1, 1]]), (30,), device=device)
    assert found["precision"].tolist() == [[0.1]]


def test_nothing_eligible(device: str) -> None:
    test = sp.csr_array([[1, 0], [0, 0]])
    found = ops.rank_metrics(np.ones((2, 1)), np.ones((2, 1)), test, 5, include=[], device=device)
    for values in found.values():
        np.testing.assert_array_equal(values, [[0], [np.nan]])
    area = ops.rank_auc(np.ones((2, 1)), np.ones((2, 1)), test, exclude=[0, 1], device=device)
    np.testing.assert_array_equal(area, [np.nan, np.nan])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_property_bounds_and_growth(data: st.DataObject) -> None:
    m, n_items, n = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12)), data.draw(st.integers(1, 20))
    bits = data.draw(st.lists(st.booleans(), min_size=m * n_items, max_size=m * n_items))
    relevant = np.array(bits).reshape(m, n_items)
    ids = np.full((m, n), -1)
    for user in range(m):
        ranked = data.draw(st.lists(st.integers(0, n_items - 1), unique=True, max_size=n))
        ids[user, : len(ranked)] = ranked
    ks = tuple(range(1, n + 1))
    for device in devices():
        found = ops.list_metrics(ids, sp.csr_array(relevant), ks, device=device)
        for user in range(m):
            if not relevant[user].any():
                assert all(np.isnan(values[user]).all() for values in found.values())
                continue
            wanted = set(np.flatnonzero(relevant[user]).tolist())
            for c, k in enumerate(ks):
                by_hand = reference.metrics([i for i in ids[user].tolist() if i >= 0], wanted, k)
                for name, values in found.items():
                    assert 0 <= values[user, c] <= 1 + 1e-12
                    assert values[user, c] == pytest.approx(by_hand[name], rel=1e-12)
            for name in ("recall", "hit_rate", "mrr"):
                assert (np.diff(found[name][user]) >= 0).all()


def test_threads_do_not_change_the_result(device: str) -> None:
    problem = CASES[-1].make()
    one, two = (
        ops.rank_metrics(
            problem.items, problem.queries, problem.test, problem.ks, seen=problem.seen, device=device, n_threads=n
        )
        for n in (1, 2)
    )
    for name in reference.NAMES:
        np.testing.assert_array_equal(one[name], two[name])
    a, b = (
        ops.rank_auc(problem.items, problem.queries, problem.test, seen=problem.seen, device=device, n_threads=n)
        for n in (1, 2)
    )
    np.testing.assert_array_equal(a, b)


def test_stored_zeros_and_unsorted_rows_are_test_items(device: str) -> None:
    test = sp.csr_array((np.zeros(3), np.array([3, 0, 2]), np.array([0, 3])), shape=(1, 4))
    found = ops.rank_metrics(np.ones((4, 1)), np.ones((1, 1)), test, 1, device=device)
    assert found["precision"].tolist() == [[1]]
    assert found["recall"].tolist() == [[1 / 3]]
    assert test.indices.tolist() == [3, 0, 2]


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"test": sp.csr_array((5, 2))}, ValueError, r"It looks transposed: pass test\.T"),
        ({"test": sp.csr_array((3, 5))}, ValueError, "shape of test"),
        ({"test": np.ones((2, 5))}, TypeError, "test: got ndarray"),
        ({"seen": sp.csr_array((2, 4))}, ValueError, "shape of seen"),
        ({"items": np.full((5, 2), np.inf)}, ValueError, r"items\[0, 0\]"),
        ({"ks": 0}, ValueError, "k: got 0"),
        ({"ks": ()}, ValueError, "ks: got no cut"),
        ({"ks": (5, 2.5)}, TypeError, "k: got float"),
        ({"ks": (True,)}, TypeError, "k: got bool"),
        ({"include": [9]}, IndexError, r"include\[0\]: got 9"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    given = {"items": np.ones((5, 2)), "queries": np.ones((2, 2)), "test": sp.csr_array((2, 5)), "ks": 3} | change
    with pytest.raises(error, match=text):
        ops.rank_metrics(**given, device=device)
    if "ks" not in change:
        del given["ks"]
        with pytest.raises(error, match=text):
            ops.rank_auc(**given, device=device)


@pytest.mark.parametrize(
    ("ids", "ks", "error", "text"),
    [
        (np.array([0, 1]), 1, ValueError, "ids: got shape"),
        (np.array([[0.0, 1.0]]), 1, TypeError, "dtype of ids: got float64"),
        (np.array([[0, 1], [1, 0]]), 1, ValueError, "rows of test: got 1, expected one per list, 2"),
        (np.array([[0, 1]]), 3, ValueError, "k: got 3, expected at most the length of the lists, 2"),
        (np.array([[0, 4]]), 1, IndexError, r"ids\[0, 1\]: got 4, expected -1 .none. or 0 <= id < 4"),
        (np.array([[0, -2]]), 1, IndexError, r"ids\[0, 1\]: got -2"),
        (np.array([[1, 0, 1]]), 1, ValueError, "ids of row 0 hold item 1 twice"),
    ],
)
def test_bad_lists_are_named(ids: Any, ks: int, error: type[Exception], text: str, device: str) -> None:
    with pytest.raises(error, match=text):
        ops.list_metrics(ids, sp.csr_array((1, 4)), ks, device=device)
