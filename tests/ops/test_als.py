"""als_sweep and als_loss against dense float64, on every backend."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_fast import ops
from recsys_fast.errors import DivergedError
from tests.cases.als import CASES, Case, Problem, column_penalty, reference, row_loss, worst_row
from tests.conftest import devices

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
by_solver = pytest.mark.parametrize("solver", ["cholesky", "cg", "subspace"])

EPS = float(np.finfo(np.float32).eps)


def solve(problem: Problem, device: str, x: Any = None, **how: Any) -> tuple[Any, float]:
    """Return the solution and the loss of a sweep that starts at ``x``, or at the problem's start."""
    x = (problem.x if x is None else x).copy()
    options = {"spectrum": problem.spectrum, "device": device, **problem.options, **how}
    return x, ops.als_sweep(x, problem.y, problem.matrix, **options)


def allowance(problem: Problem, exact: Any) -> float:
    """Return four times the error that plain float32 loops make, and no less than a few roundings."""
    return 4 * worst_row(reference(problem, np.float32), exact) + 4 * EPS


@functools.cache
def truth(case: Case) -> tuple[Any, float]:
    """Return the solution in float64, and what an operation may be off."""
    exact = reference(case.make(), np.float64)
    return exact, allowance(case.make(), exact)


@by_case
def test_cholesky_is_as_exact_as_plain_float32(case: Case, device: str) -> None:
    problem = case.make()
    x, _ = solve(problem, device, np.full_like(problem.x, np.nan))  # what was there before is not read
    exact, allowed = truth(case)
    assert worst_row(x, exact) <= allowed
    assert not x[0].any(), "a row without entries must be zero"


@by_case
@by_solver
def test_returned_loss_is_that_of_the_solution(case: Case, solver: str, device: str) -> None:
    problem = case.make()
    x, loss = solve(problem, device, solver=solver)
    size = row_loss(problem, np.zeros_like(x))  # the terms that cancel are of this order
    assert abs(loss - row_loss(problem, x)) <= 1e-6 * size


@by_case
@by_solver
def test_bits_do_not_depend_on_threads(case: Case, solver: str, device: str) -> None:
    problem = case.make()
    x, loss = solve(problem, device, solver=solver, n_threads=1)
    for n_threads in (2, 3):
        again, same = solve(problem, device, solver=solver, n_threads=n_threads)
        assert np.array_equal(x, again)
        assert loss == same


@by_case
def test_cg_converges_to_the_exact_solution(case: Case, device: str) -> None:
    problem = case.make()
    x, _ = solve(problem, device, solver="cg", n_steps=500)
    exact, allowed = truth(case)
    assert worst_row(x, exact) <= 3 * allowed


@by_case
def test_cg_never_raises_the_loss(case: Case, device: str) -> None:
    problem = case.make()
    losses = [row_loss(problem, problem.x)]
    losses += [row_loss(problem, solve(problem, device, solver="cg", n_steps=k)[0]) for k in (1, 2, 3, 5, 8)]
    best = row_loss(problem, truth(case)[0])
    gaps = np.array(losses) - best
    assert (np.diff(gaps) <= 1e-6 * gaps[0]).all()
    assert gaps[-1] < 0.2 * gaps[0]


@by_case
def test_cg_stays_at_the_solution(case: Case, device: str) -> None:
    problem = case.make()
    exact, _ = truth(case)
    x, _ = solve(problem, device, exact.astype(np.float32), solver="cg", n_steps=2)
    assert np.isfinite(x).all()
    assert row_loss(problem, x) <= row_loss(problem, exact) * (1 + 1e-6) + 1e-6


@pytest.mark.parametrize("solver", ["cg", "subspace"])
def test_takes_long_rows_in_any_order_of_entries(solver: str, device: str) -> None:
    problem = Case("shuffled", 7, 700, 256, 690, targets="array").make()
    matrix, targets = problem.matrix, problem.options["targets"]
    order = np.arange(matrix.nnz)
    last = int(matrix.row_ptr[-2])
    order[last:] = np.random.default_rng(0).permutation(order[last:])
    shuffled = problem._replace(
        matrix=matrix._replace(col_idx=matrix.col_idx[order]), options={**problem.options, "targets": targets[order]}
    )
    expected, loss = solve(problem, device, solver=solver, block_size=32)
    x, same = solve(shuffled, device, solver=solver, block_size=32)
    assert np.allclose(x, expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max()))
    assert same == pytest.approx(loss, rel=1e-5)


@by_case
def test_subspace_never_raises_the_loss(case: Case, device: str) -> None:
    problem = case.make()
    x, losses = problem.x, [row_loss(problem, problem.x)]
    for _ in range(6):
        x, _ = solve(problem, device, x, solver="subspace", n_steps=1, block_size=16)
        losses.append(row_loss(problem, x))
    gaps = np.array(losses) - row_loss(problem, truth(case)[0])
    assert (np.diff(gaps) <= 1e-6 * gaps[0]).all()
    assert gaps[-1] < 0.2 * gaps[0]


@by_case
def test_subspace_of_one_block_is_exact(case: Case, device: str) -> None:
    problem = case.make()
    x, _ = solve(problem, device, solver="subspace", n_steps=1, block_size=case.d + 5)
    exact, allowed = truth(case)
    assert worst_row(x, exact) <= 3 * allowed


@pytest.mark.parametrize("block_size", [1, 3, 8, 13])
def test_subspace_converges_to_the_exact_solution(block_size: int, device: str) -> None:
    case = Case("well conditioned", 30, 80, 20, 15, "counts", unobserved_weight=0.5, regularization=0.1)
    x, _ = solve(case.make(), device, solver="subspace", n_steps=200, block_size=block_size)
    exact, allowed = truth(case)
    assert worst_row(x, exact) <= 3 * allowed


@by_case
@pytest.mark.parametrize(("solver", "n_steps"), [("cg", 1), ("cg", 3), ("subspace", 1)])
def test_backends_take_the_same_steps(case: Case, solver: str, n_steps: int) -> None:
    if devices() != ["cpu", "numba"]:
        pytest.skip("only one backend is here")
    problem = case.make()
    how: dict[str, Any] = {"solver": solver, "n_steps": n_steps, "block_size": 16}
    native, readable = (solve(problem, device, **how)[0] for device in devices())
    assert worst_row(native, readable.astype(np.float64)) < 3e-5


@by_case
def test_without_spectrum_any_basis_will_do(case: Case, device: str) -> None:
    problem = case.make()
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((case.d, case.d)))[0]
    if case.biased or case.unobserved_weight == 0:
        turn = np.eye(case.d)  # no Gram matrix in the objective, so no basis to look for
    problem = problem._replace(y=np.ascontiguousarray(problem.y @ turn, np.float32))
    gram = problem.y.astype(np.float64).T @ problem.y
    exact = reference(problem, np.float64, gram)
    plain = worst_row(reference(problem, np.float32, gram.astype(np.float32)), exact)
    before = problem.y.copy()
    for solver, n_steps in (("cholesky", 1), ("cg", 500)):
        x, loss = solve(problem, device, spectrum=None, solver=solver, n_steps=n_steps)
        assert worst_row(x, exact) <= 16 * plain + 16 * EPS  # two rotations more than the plain way
        size = row_loss(problem, np.zeros_like(x), gram)
        assert abs(loss - row_loss(problem, x, gram)) <= 2e-6 * size
    assert np.array_equal(problem.y, before)


@by_case
def test_als_loss_is_the_dense_loss(case: Case, device: str) -> None:
    problem = case.make()
    gram = problem.y.astype(np.float64).T @ problem.y
    expected = row_loss(problem, problem.x, gram) + column_penalty(problem)
    results = {
        ops.als_loss(problem.x, problem.y, problem.matrix, **problem.options, device=device, n_threads=n)
        for n in (1, 2, 3)
    }
    assert len(results) == 1, "the loss must not depend on the number of threads"
    assert abs(results.pop() - expected) <= 1e-6 * (abs(expected) + row_loss(problem, np.zeros_like(problem.x)))


@by_case
def test_inputs_are_left_alone(case: Case, device: str) -> None:
    problem, twin = case.make(), case.make()
    for frozen in (problem.x, problem.y, problem.spectrum, *problem.matrix[:2]):
        frozen.flags.writeable = False
    solve(problem, device)
    solve(problem, device, solver="subspace", spectrum=None)
    ops.als_loss(problem.x, problem.y, problem.matrix, **problem.options, device=device)
    assert np.array_equal(problem.y, twin.y)
    assert np.array_equal(problem.x, twin.x)
    assert np.array_equal(problem.spectrum, twin.spectrum)
    for mine, theirs in zip(problem.matrix[:3], twin.matrix[:3], strict=True):
        assert np.array_equal(mine, theirs) if mine is not None else theirs is None


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(0, 12), m=st.integers(1, 60), d=st.integers(1, 70), length=st.integers(0, 60),
    values=st.sampled_from(["none", "counts", "signed"]), seed=st.integers(0, 1000),
    nu=st.sampled_from([0.0, 0.5, 1.0]), unobserved_weight=st.sampled_from([0.01, 0.1, 1.0]),
)  # fmt: skip
def test_any_shape_matches_the_reference(
    device: str, n: int, m: int, d: int, length: int, values: str, seed: int, nu: float, unobserved_weight: float
) -> None:
    case = Case("any", n, m, d, length, values, regularization=0.02, nu=nu, unobserved_weight=unobserved_weight)
    problem = case.make(seed)
    exact = reference(problem, np.float64)
    for solver in ("cholesky", "subspace"):
        x, loss = solve(problem, device, solver=solver, block_size=d)
        assert worst_row(x, exact) <= 3 * allowance(problem, exact)
        assert abs(loss - row_loss(problem, x)) <= 1e-6 * (row_loss(problem, np.zeros_like(x)) + 1)


@by_solver
@pytest.mark.parametrize("length", [3, 40])
def test_underdetermined_rows_without_penalty_stay_finite(solver: str, length: int, device: str) -> None:
    case = Case("no penalty", 20, 60, 24, length, "ratings", True, unobserved_weight=0.0, regularization=0.0)
    problem = case.make()
    x, loss = solve(problem, device, solver=solver, n_steps=60, block_size=24)
    assert np.isfinite(x).all()
    assert np.abs(x).max() < 1e4
    best = sum(np.linalg.lstsq(problem.y[c], t, rcond=None)[1].sum() for c, t in _rows(problem) if len(c) > 24)
    assert loss <= 1.05 * best + 0.01 * row_loss(problem, np.zeros_like(x))


def _rows(problem: Problem) -> list[tuple[Any, Any]]:
    row_ptr, cols, values, *_ = problem.matrix
    assert values is not None
    return [(cols[a:b], values[a:b].astype(np.float64)) for a, b in itertools.pairwise(row_ptr)]


@by_solver
def test_duplicate_items_are_solved(solver: str, device: str) -> None:
    # Two equal columns of y and no unobserved part: the system is singular but for the penalty.
    y = np.ones((3, 2), np.float32)
    matrix = ops.csr_from_coo([0, 0, 0], [0, 1, 2])[0]
    x = np.zeros((1, 2), np.float32)
    ops.als_sweep(x, y, matrix, unobserved_weight=0, regularization=0.01, solver=solver, n_steps=20, device=device)
    assert np.allclose(x, 3 / (6 + 0.03), rtol=1e-4)


@by_solver
def test_overflow_is_named(solver: str, device: str) -> None:
    y = np.full((4, 6), 1e30, np.float32)
    matrix = ops.csr_from_coo([0, 0, 0], [0, 1, 3])[0]
    x = np.ones((1, 6), np.float32)
    with pytest.raises(DivergedError, match="finite"):
        ops.als_sweep(x, y, matrix, unobserved_weight=0, solver=solver, device=device)
