"""topk against sorting a dense float64 score matrix, and its behaviour on unusual and bad input."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys_fast import ops
from tests.cases.topk import CASES, Case, Problem
from tests.conftest import devices


def eligible_items(problem: Problem) -> NDArray[np.bool_]:
    """Return which items may be returned for each query, ``(m, n_items)``."""
    m, n_items = len(problem.queries), len(problem.items)
    eligible = np.ones((m, n_items), bool)
    if problem.include is not None:
        eligible &= np.isin(np.arange(n_items), problem.include)
    if problem.exclude is not None:
        eligible[:, problem.exclude] = False
    if problem.seen is not None:
        for user in range(m):
            eligible[user, problem.seen.col_idx[problem.seen.row_ptr[user] : problem.seen.row_ptr[user + 1]]] = False
    return eligible


def call(problem: Problem, device: str, n_threads: int | None = None) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    return ops.topk(
        problem.items, problem.queries, problem.n, seen=problem.seen, include=problem.include,
        exclude=problem.exclude, device=device, n_threads=n_threads,
    )  # fmt: skip


def allowed_error(problem: Problem, exact: NDArray[np.float64]) -> float:
    """Return four times the largest error that plain float32 loops make on this problem."""
    plain = np.zeros(exact.shape, np.float32)
    for k in range(problem.items.shape[1]):
        plain += problem.queries[:, k, None] * problem.items[None, :, k]
    return 4.0 * float(np.abs(plain - exact).max(initial=0.0))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_matches_a_dense_sort(case: Case, device: str) -> None:
    problem = case.make()
    ids, scores = call(problem, device)
    assert ids.dtype == np.int32
    assert scores.dtype == np.float32
    assert ids.shape == scores.shape == (case.m, case.n)
    exact = problem.queries.astype(np.float64) @ problem.items.astype(np.float64).T
    eligible, error = eligible_items(problem), allowed_error(problem, exact)
    for user in range(case.m):
        n_found = min(case.n, int(eligible[user].sum()))
        found = ids[user, :n_found]
        assert (ids[user, n_found:] == -1).all()
        assert np.isneginf(scores[user, n_found:]).all()
        assert len(set(found.tolist())) == n_found
        assert eligible[user, found].all()
        np.testing.assert_allclose(scores[user, :n_found], exact[user, found], rtol=0, atol=error)
        assert np.array_equal(np.lexsort((found, -scores[user, :n_found])), np.arange(n_found))
        if problem.exact:
            order = np.lexsort((np.arange(case.n_items), -exact[user]))
            np.testing.assert_array_equal(found, order[eligible[user, order]][:n_found])
        elif n_found:
            left_out = np.setdiff1d(np.flatnonzero(eligible[user]), found)
            assert exact[user, left_out].max(initial=-np.inf) <= exact[user, found].min() + 2 * error


@pytest.mark.parametrize("name", ["plain", "ties, seen", "norms that end the search", "norms, long lists"])
def test_threads_do_not_change_the_result(name: str, device: str) -> None:
    problem = next(case for case in CASES if case.name == name).make()
    one, two = call(problem, device, 1), call(problem, device, 2)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_query_at_a_time_gives_the_same_as_all_at_once(device: str) -> None:
    problem = Case("", 300, 400, 6, 12, "integer", seen=0.1).make()
    ids, scores = call(problem, device)
    seen = sp.csr_array(
        (np.ones(problem.seen.nnz), problem.seen.col_idx, problem.seen.row_ptr), shape=problem.seen.shape
    )
    for user in range(0, 300, 17):
        one = ops.topk(problem.items, problem.queries[user], 12, seen=seen[[user]], device=device)
        assert one[0].shape == one[1].shape == (12,)
        np.testing.assert_array_equal(one[0], ids[user])
        np.testing.assert_array_equal(one[1], scores[user])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_property_equals_brute_force_on_integers(data: st.DataObject) -> None:
    m, n_items, d, n = (data.draw(st.integers(0, high)) for high in (4, 12, 3, 15))
    values = st.integers(-1, 1)
    items = np.array(data.draw(st.lists(values, min_size=n_items * d, max_size=n_items * d)), float).reshape(n_items, d)
    queries = np.array(data.draw(st.lists(values, min_size=m * d, max_size=m * d)), float).reshape(m, d)
    seen = np.array(data.draw(st.lists(st.booleans(), min_size=m * n_items, max_size=m * n_items)), bool)
    seen = seen.reshape(m, n_items)
    some_ids = st.lists(st.integers(0, n_items - 1), max_size=15) if n_items else st.just([])
    include, exclude = data.draw(st.none() | some_ids), data.draw(st.none() | some_ids)
    for device in devices():
        ids, scores = ops.topk(
            items, queries, n, seen=sp.csr_array(seen), include=include, exclude=exclude, device=device
        )
        for user in range(m):
            pool = set(range(n_items) if include is None else include) - set(exclude or [])
            pool -= set(np.flatnonzero(seen[user]).tolist())
            best = sorted((-float(queries[user] @ items[item]), item) for item in pool)[:n]
            padding = n - len(best)
            assert ids[user].tolist() == [item for _, item in best] + [-1] * padding
            assert scores[user].tolist() == [-score for score, _ in best] + [-np.inf] * padding


def test_equal_items_tie_by_id_whatever_their_place(device: str) -> None:
    rng = np.random.default_rng(3)
    items = np.tile(rng.standard_normal((1, 19)), (333, 1)).astype(np.float32)
    ids, _ = ops.topk(items, rng.standard_normal((280, 19)), 40, device=device)
    np.testing.assert_array_equal(ids, np.tile(np.arange(40), (280, 1)))


def test_results_are_written_into_out(device: str) -> None:
    problem = CASES[0].make()
    out = np.zeros((37, 10), np.int32), np.zeros((37, 10), np.float32)
    ids, scores = ops.topk(problem.items, problem.queries, 10, out=out, device=device)
    assert ids is out[0]
    assert scores is out[1]
    np.testing.assert_array_equal(ids, call(problem, device)[0])
    row = np.zeros(10, np.int32), np.zeros(10, np.float32)
    ops.topk(problem.items, problem.queries[4], 10, out=row, device=device)
    np.testing.assert_array_equal(row[0], out[0][4])


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.zeros((2, 3), np.int32), TypeError),
        ((np.zeros((2, 3), np.int64), np.zeros((2, 3), np.float32)), TypeError),
        ((np.zeros((2, 3), np.int32), np.zeros((2, 3))), TypeError),
        ((np.zeros((3, 2), np.int32), np.zeros((2, 3), np.float32)), ValueError),
        ((np.zeros((3, 2), np.int32).T, np.zeros((2, 3), np.float32)), ValueError),
    ],
)
def test_bad_out_is_refused(out: object, error: type[Exception], device: str) -> None:
    with pytest.raises(error, match="out"):
        ops.topk(np.ones((5, 2)), np.ones((2, 2)), 3, out=out, device=device)


def test_read_only_out_is_refused(device: str) -> None:
    out = np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32)
    out[1].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        ops.topk(np.ones((5, 2)), np.ones((2, 2)), 3, out=out, device=device)


def test_out_among_the_inputs_is_refused(device: str) -> None:
    memory = np.ones((5, 3), np.float32)
    ids, scores = np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32)
    for items, queries, out in (
        (memory, np.ones((2, 3)), (ids, memory[:2])),
        (np.ones((5, 3)), memory[:2], (ids, memory[1:3])),
        (memory, np.ones((2, 3)), (memory[:2].view(np.int32), scores)),
        (np.ones((5, 3)), np.ones((2, 3)), (ids, ids.view(np.float32))),
    ):
        with pytest.raises(ValueError, match="share memory"):
            ops.topk(items, queries, 3, out=out, device=device)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.int8, np.bool_, ">f4"])
def test_other_dtypes_are_converted(dtype: str, device: str) -> None:
    rng = np.random.default_rng(0)
    items, queries = rng.integers(0, 2, (50, 6)), rng.integers(0, 2, (4, 6))
    expected = ops.topk(items.astype(np.float32), queries.astype(np.float32), 7, device=device)
    for a, b in zip(ops.topk(items.astype(dtype), queries.astype(dtype), 7, device=device), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_strided_and_read_only_inputs_work_and_nothing_is_changed(device: str) -> None:
    problem = CASES[19].make()
    expected = call(problem, device)
    items = np.asfortranarray(problem.items)
    queries = np.repeat(problem.queries, 2, axis=1)[:, ::2]
    indices = problem.seen.col_idx.astype(np.int64).copy()
    for user in range(60):
        indices[problem.seen.row_ptr[user] : problem.seen.row_ptr[user + 1]] = indices[
            problem.seen.row_ptr[user] : problem.seen.row_ptr[user + 1]
        ][::-1]
    seen = sp.csr_array((np.ones(len(indices)), indices, problem.seen.row_ptr), shape=problem.seen.shape)
    arrays = [items, queries, seen.indices, seen.indptr, seen.data]
    for array in arrays:
        array.flags.writeable = False
    before = [array.tobytes() for array in arrays]
    ids, scores = ops.topk(items, queries, 20, seen=seen, device=device)
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(scores, expected[1])
    assert [array.tobytes() for array in arrays] == before


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil"])
def test_seen_may_be_of_any_sparse_format(kind: str, device: str) -> None:
    problem = CASES[19].make()
    seen = sp.csr_matrix(
        (np.ones(problem.seen.nnz), problem.seen.col_idx, problem.seen.row_ptr), shape=problem.seen.shape
    ).asformat(kind)
    ids = ops.topk(problem.items, problem.queries, 20, seen=seen, device=device)[0]
    np.testing.assert_array_equal(ids, call(problem, device)[0])


def test_nothing_eligible_gives_padding(device: str) -> None:
    for choice in ({"include": []}, {"exclude": np.arange(5)}, {"include": [2], "exclude": [2]}):
        ids, scores = ops.topk(np.ones((5, 2)), np.ones((3, 2)), 4, device=device, **choice)
        assert (ids == -1).all()
        assert np.isneginf(scores).all()


def test_scores_beyond_float32_are_ranked_without_repeats(device: str) -> None:
    items = np.array([[1e30], [1.0], [-1e30], [2e30]], np.float32)
    ids, scores = ops.topk(items, np.array([[1e30]], np.float32), 6, device=device)
    assert ids[0, :3].tolist() == [0, 3, 1]
    assert scores[0, :2].tolist() == [np.inf, np.inf]
    assert (ids[0, 4:] == -1).all()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"items": np.full((5, 2), np.nan)}, ValueError, r"items\[0, 0\]: got nan"),
        ({"queries": np.array([[0, 1], [np.inf, 0]])}, ValueError, r"queries\[1, 0\]: got inf"),
        ({"items": np.full((5, 2), 1e300)}, ValueError, r"items\[0, 0\]: got 1e\+300, expected a finite float32"),
        ({"items": np.ones((5, 3))}, ValueError, "items of 3 factors, queries of 2"),
        ({"items": np.ones(5)}, ValueError, "items: got shape"),
        ({"queries": np.ones((2, 2, 2))}, ValueError, "queries: got shape"),
        ({"items": np.ones((5, 2), complex)}, TypeError, "items: got dtype complex128"),
        ({"items": np.full((5, 2), "a")}, TypeError, "items: got dtype <U1"),
        ({"items": sp.csr_array(np.ones((5, 2)))}, TypeError, "items: got csr_array"),
        ({"queries": sp.csr_array(np.ones((2, 2)))}, TypeError, "queries: got csr_array"),
        ({"n": -1}, ValueError, "n: got -1"),
        ({"n": 2.0}, TypeError, "n: got float"),
        ({"n": True}, TypeError, "n: got bool"),
        ({"n": np.array(2.7)}, TypeError, "n: got ndarray, expected an int"),
        ({"include": [0, 5]}, IndexError, r"include\[1\]: got 5, expected 0 <= id < 5"),
        ({"exclude": [-1]}, IndexError, r"exclude\[0\]: got -1"),
        ({"exclude": [2**40]}, IndexError, r"exclude\[0\]: got 1099511627776"),
        ({"include": [0.5]}, TypeError, "dtype of include: got float64"),
        ({"include": np.ones(5, bool)}, TypeError, r"np.flatnonzero\(include\)"),
        ({"include": [[0]]}, ValueError, "include: got shape"),
        ({"seen": np.ones((2, 5))}, TypeError, "seen: got ndarray"),
        ({"seen": sp.csr_array(np.ones((5, 2)))}, ValueError, r"It looks transposed: pass seen\.T"),
        ({"seen": sp.csr_array(np.ones((3, 5)))}, ValueError, "shape of seen"),
        ({"n_threads": 0}, ValueError, "n_threads"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], error: type[Exception], text: str, device: str) -> None:
    arguments = {"items": np.ones((5, 2)), "queries": np.ones((2, 2)), "n": 3, "device": device} | change
    with pytest.raises(error, match=text):
        ops.topk(**arguments)


def test_a_damaged_mask_is_named_before_it_is_used(device: str) -> None:
    seen = sp.csr_array(np.ones((2, 5)))
    seen.indices[3] = 77
    with pytest.raises(ValueError, match="77"):
        ops.topk(np.ones((5, 2)), np.ones((2, 2)), 3, seen=seen, device=device)


def test_without_the_check_values_that_are_not_finite_are_never_returned(device: str) -> None:
    items = np.array([[1.0], [np.nan], [3.0]], np.float32)
    for m in (1, 300):
        ids, _ = ops.topk(items, np.ones((m, 1), np.float32), 3, check_finite=False, device=device)
        assert ids.tolist() == [[2, 0, -1]] * m


def test_python_threads_may_call_at_once(device: str) -> None:
    problem = CASES[19].make()
    expected = call(problem, device)[0]
    with ThreadPoolExecutor(4) as pool:
        for ids, _ in pool.map(lambda _: call(problem, device, 2), range(12)):
            np.testing.assert_array_equal(ids, expected)


@pytest.mark.cuda_emulated
def test_arrays_on_the_device_stay_there(emulated_arrays: Any) -> None:
    problem = CASES[0].make()
    expected = call(problem, "numba")
    items, queries = emulated_arrays.asarray(problem.items), emulated_arrays.asarray(problem.queries)
    out = emulated_arrays.empty((37, 10), np.int32), emulated_arrays.empty((37, 10), np.float32)
    for ids, scores in (ops.topk(items, queries, 10), ops.topk(items, queries, 10, out=out)):
        np.testing.assert_array_equal(ids.get(), expected[0])
        np.testing.assert_allclose(scores.get(), expected[1], rtol=1e-5)
    single = ops.topk(items, emulated_arrays.asarray(problem.queries[3]), 10, exclude=[int(expected[0][3, 0])])
    assert single[0].get()[:9].tolist() == expected[0][3, 1:].tolist()
    nothing = ops.topk(items, queries, 2, include=[])
    assert (nothing[0].get() == -1).all()
    assert np.isneginf(nothing[1].get()).all()
    with pytest.raises(TypeError, match=r"items on the device and queries \(ndarray\) in host memory"):
        ops.topk(items, problem.queries, 10)
    with pytest.raises(TypeError, match=r"items with device='cpu'"):
        ops.topk(items, queries, 10, device="cpu")
    with pytest.raises(ValueError, match=r"items\[2, 0\]: got inf"):
        ops.topk(*(emulated_arrays.asarray(np.array(rows)) for rows in ([[1.0], [2.0], [np.inf]], [[1.0]])), 1)


@pytest.mark.cuda_emulated
def test_lists_too_long_for_shared_memory_are_sorted_in_device_memory(emulated_arrays: Any) -> None:
    rng = np.random.default_rng(8)
    items, queries = (rng.integers(-9, 10, (n, 2)).astype(np.float32) for n in (6000, 2))
    ids, scores = ops.topk(items, queries, 5000, device="cuda")
    exact = queries @ items.T
    for user in range(2):
        order = np.lexsort((np.arange(6000), -exact[user]))[:5000]
        np.testing.assert_array_equal(ids[user], order)
        np.testing.assert_array_equal(scores[user], exact[user, order])


@pytest.mark.cuda_emulated
def test_splits_of_the_items_are_merged(emulated_arrays: Any) -> None:
    rng = np.random.default_rng(9)
    items, queries = (rng.integers(-3, 4, (n, 3)).astype(np.float32) for n in (5000, 3))
    seen = sp.csr_array(rng.random((3, 5000)) < 0.2)
    exact = np.where(seen.toarray(), -np.inf, queries @ items.T)
    for n in (1, 40, 1000):
        ids, _ = ops.topk(items, queries, n, seen=seen, device="cuda")
        for user in range(3):
            np.testing.assert_array_equal(ids[user], np.lexsort((np.arange(5000), -exact[user]))[:n])
