"""product_topk with a sparse right side against a dense float64 product, and its behaviour on unusual and bad input."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.ops import Csr
from tests.cases.product_topk import CASES, Case, Problem, from_dense, to_dense
from tests.conftest import devices

Lists = tuple[NDArray[np.int32], NDArray[np.float32]]


def call(problem: Problem, device: str, n_threads: int | None = None) -> Lists:
    return ops.product_topk(problem.a, problem.b, problem.n, device=device, n_threads=n_threads, **problem.choice)


def case(name: str) -> Problem:
    return next(one for one in CASES if one.name == name).make()


def allowed_error(problem: Problem) -> float:
    """Return four times what float32 loops may be off: their roundings relative to the sum of absolute products."""
    sizes = np.abs(to_dense(problem.a)) @ np.abs(to_dense(problem.b))
    return 4.0 * float(sizes.max(initial=0.0)) * problem.a.n_cols * 2.0**-24 + 1e-6


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_matches_a_dense_product(one: Case, device: str) -> None:
    problem = one.make()
    ids, scores = call(problem, device)
    assert ids.dtype == np.int32
    assert scores.dtype == np.float32
    assert ids.shape == scores.shape == (one.m, one.n)
    exact, eligible = problem.dense()
    error = allowed_error(problem)
    for row in range(one.m):
        n_found = min(one.n, int(eligible[row].sum()))
        found = ids[row, :n_found]
        assert (ids[row, n_found:] == -1).all()
        assert np.isneginf(scores[row, n_found:]).all()
        assert len(set(found.tolist())) == n_found
        assert eligible[row, found].all()
        np.testing.assert_allclose(scores[row, :n_found], exact[row, found], rtol=1e-5, atol=error)
        assert np.array_equal(np.lexsort((found, -scores[row, :n_found])), np.arange(n_found))
        if problem.exact:
            order = np.lexsort((np.arange(one.n_cols), -exact[row]))
            np.testing.assert_array_equal(found, order[eligible[row, order]][:n_found])
        elif n_found:
            left_out = np.setdiff1d(np.flatnonzero(eligible[row]), found)
            assert exact[row, left_out].max(initial=-np.inf) <= exact[row, found].min() + 2 * error


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_threads_do_not_change_the_result(one: Case, device: str) -> None:
    problem = one.make()
    for a, b in zip(call(problem, device, 1), call(problem, device, 2), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["bits, weighted", "bits, similarities", "normal", "sums that cancel"])
def test_a_row_alone_gives_the_same_bits_as_among_others(name: str, device: str) -> None:
    problem = case(name)
    ids, scores = call(problem, device)
    for row in range(0, problem.a.n_rows, 9):
        begin, end = problem.a.row_ptr[row : row + 2]
        values = None if problem.a.values is None else problem.a.values[begin:end]
        a = Csr(np.array([0, end - begin]), problem.a.col_idx[begin:end], values, 1, problem.a.n_cols)
        choice = dict(problem.choice)
        if "row_norms" in choice:
            choice["row_norms"] = choice["row_norms"][[row]]
        alone = ops.product_topk(a, problem.b, problem.n, device=device, **choice)
        np.testing.assert_array_equal(alone[0][0], ids[row])
        np.testing.assert_array_equal(alone[1][0], scores[row])


def test_columns_of_equal_values_tie_by_id_whatever_their_place(device: str) -> None:
    rng = np.random.default_rng(0)
    column = rng.random((80, 1)) < 0.5
    b = from_dense(np.tile(column, (1, 700)).astype(float), False)
    a = from_dense((rng.random((90, 80)) < 0.5).astype(float), False)
    ids, _ = ops.product_topk(a, b, 40, device=device)
    np.testing.assert_array_equal(ids, np.tile(np.arange(40), (90, 1)))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_property_equals_brute_force_on_integers(data: st.DataObject) -> None:
    m, k, n_cols, n = (data.draw(st.integers(0, high)) for high in (4, 4, 9, 11))
    values = st.integers(-1, 1)
    a = np.array(data.draw(st.lists(values, min_size=m * k, max_size=m * k)), float).reshape(m, k)
    b = np.array(data.draw(st.lists(values, min_size=k * n_cols, max_size=k * n_cols)), float).reshape(k, n_cols)
    seen = np.array(data.draw(st.lists(st.booleans(), min_size=m * n_cols, max_size=m * n_cols)), bool)
    seen, zeros = seen.reshape(m, n_cols), data.draw(st.booleans())
    for device in devices():
        ids, scores = ops.product_topk(
            sp.csr_array(a), sp.csr_array(b), n, seen=sp.csr_array(seen), zeros=zeros, device=device
        )
        for row in range(m):
            exact = a[row] @ b
            pool = [c for c in range(n_cols) if not seen[row, c] and (zeros or exact[c] != 0)]
            best = sorted((-exact[c], c) for c in pool)[:n]
            padding = n - len(best)
            assert ids[row].tolist() == [c for _, c in best] + [-1] * padding
            assert scores[row].tolist() == [-score for score, _ in best] + [-np.inf] * padding


def test_results_are_written_into_out(device: str) -> None:
    problem = case("ratings")
    out = np.zeros((40, 15), np.int32), np.zeros((40, 15), np.float32)
    ids, scores = ops.product_topk(problem.a, problem.b, 15, out=out, device=device, **problem.choice)
    assert ids is out[0]
    assert scores is out[1]
    np.testing.assert_array_equal(ids, call(problem, device)[0])


def test_scipy_matrices_of_every_form_work_and_stay_as_they_were(device: str) -> None:
    problem = case("sums that cancel")
    a, b = sp.csr_array(to_dense(problem.a)), sp.csr_array(to_dense(problem.b))
    expected = call(problem, device)
    for kind in ("csr", "csc", "coo", "lil"):
        left, right = a.asformat(kind), b.asformat(kind)
        for x, y in zip(ops.product_topk(left, right, problem.n, device=device), expected, strict=True):
            np.testing.assert_array_equal(x, y)
        assert (left != a).nnz == (right != b).nnz == 0


def test_read_only_arrays_work(device: str) -> None:
    problem = case("bits")
    expected = call(problem, device)
    for csr in (problem.a, problem.b):
        for array in (csr.row_ptr, csr.col_idx):
            array.flags.writeable = False
    np.testing.assert_array_equal(call(problem, device)[0], expected[0])


A, B = sp.csr_array(np.ones((2, 3))), sp.csr_array(np.ones((3, 5)))
SHARED, TABLE = sp.csr_array(np.ones((2, 3), np.float32)), np.ones((3, 5), np.float32)
IDS = np.zeros((2, 3), np.int32)
NORMS = {"normalize": "product", "row_norms": np.ones(2), "col_norms": np.ones(5)}


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"a": np.ones((2, 3))}, TypeError, "a: got ndarray|dense"),
        ({"a": sp.csr_array(np.ones((2, 4)))}, ValueError, r"shapes of a and b: got a of \(2, 4\), b of \(3, 5\)"),
        ({"a": sp.csr_array(np.full((2, 3), np.nan))}, ValueError, "value of entry 0 of a"),
        ({"b": sp.csr_array(np.full((3, 5), np.inf))}, ValueError, "value of entry 0 of b"),
        ({"n": -1}, ValueError, "n: got -1"),
        ({"n": 2.0}, TypeError, "n: got float"),
        ({"normalize": "l2"}, ValueError, "normalize: got 'l2'"),
        ({"row_norms": np.ones(2)}, ValueError, "row_norms"),
        ({"normalize": "product"}, ValueError, "row_norms: expected"),
        ({**NORMS, "col_norms": np.ones(4)}, ValueError, "shape of col_norms"),
        ({**NORMS, "row_norms": np.array([1.0, -1.0])}, ValueError, r"row_norms\[1\]: got -1"),
        ({**NORMS, "row_norms": np.array([np.nan, 1.0])}, ValueError, r"row_norms\[0\]: got nan"),
        ({**NORMS, "col_norms": np.array(list("abcde"))}, TypeError, "col_norms: got dtype"),
        ({**NORMS, "shrinkage": -1.0}, ValueError, "shrinkage: got -1"),
        ({**NORMS, "shrinkage": float("nan")}, ValueError, "shrinkage: got nan"),
        ({"include": [5]}, IndexError, r"include\[0\]: got 5"),
        ({"exclude": [-1]}, IndexError, r"exclude\[0\]: got -1"),
        ({"seen": sp.csr_array(np.ones((5, 2)))}, ValueError, "looks transposed"),
        ({"out": np.zeros((2, 3), np.int32)}, TypeError, "out"),
        ({"out": (IDS, IDS.view(np.float32))}, ValueError, "share memory"),
        ({"a": SHARED, "out": (IDS, SHARED.data.reshape(2, 3))}, ValueError, "share memory"),
        ({"b": TABLE, "out": (IDS, TABLE.reshape(-1)[:6].reshape(2, 3))}, ValueError, "share memory"),
        ({**NORMS, "shrinkage": "1"}, TypeError, "shrinkage: got str"),
        ({"n_threads": 0}, ValueError, "n_threads"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], error: type[Exception], text: str, device: str) -> None:
    arguments = {"a": A, "b": B, "n": 3, "device": device} | change
    with pytest.raises(error, match=text):
        ops.product_topk(**arguments)


def test_a_damaged_matrix_is_named_before_it_is_used(device: str) -> None:
    b = sp.csr_array(np.ones((3, 5)))
    b.indices[4] = 77
    with pytest.raises(ValueError, match="77"):
        ops.product_topk(A, b, 3, device=device)


def test_nothing_eligible_gives_padding(device: str) -> None:
    for choice in ({"include": []}, {"exclude": np.arange(5)}, {"include": [2], "exclude": [2]}):
        ids, scores = ops.product_topk(A, B, 4, device=device, **choice)
        assert (ids == -1).all()
        assert np.isneginf(scores).all()


def test_python_threads_may_call_at_once(device: str) -> None:
    problem = case("bits, weighted")
    expected = call(problem, device)[0]
    with ThreadPoolExecutor(4) as pool:
        for ids, _ in pool.map(lambda _: call(problem, device, 2), range(12)):
            np.testing.assert_array_equal(ids, expected)


def test_an_interruption_is_honoured(device: str) -> None:
    rng = np.random.default_rng(0)
    a = sp.random_array((8000, 4000), density=0.05, rng=rng, format="csr", dtype=np.float32)
    ops.product_topk(a[:5], a[:5].T, 5, device=device)  # compiled beforehand
    timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()

    def many_times() -> None:
        for _ in range(200):
            ops.product_topk(a, a.T, 5, device=device, n_threads=2)

    with pytest.raises(KeyboardInterrupt):
        many_times()
    timer.join()
