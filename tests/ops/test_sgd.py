"""The SGD epochs against a step-by-step float64 reference, on every backend; bits, negatives, and edges."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.errors import DivergedError, NotSupportedError
from recsys_fast.ops import OptimizerState
from tests.cases.csr import make_csr, random_csr
from tests.cases.sgd import CASES, Case, Problem
from tests.cases.sgd_reference import Reference

OPS = ["bpr_epoch", "warp_epoch", "logistic_epoch", "rating_epoch"]
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
by_op = pytest.mark.parametrize("op", OPS)

EPS = float(np.finfo(np.float32).eps)


def run(problem: Problem, device: str, **how: Any) -> tuple[dict[str, NDArray[Any]], ops.EpochResult]:
    """Return all arrays after the epoch, and what it returned."""
    tables, state, result = problem.run(device, **how)
    return {**tables, **{f"state.{name}": getattr(state, name) for name in state._fields[1:]}}, result


def start(problem: Problem) -> dict[str, NDArray[Any]]:
    """Return all arrays before the epoch."""
    state = problem.state
    return {**problem.tables, **{f"state.{name}": getattr(state, name) for name in state._fields[1:]}}


def same(a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def check(problem: Problem, arrays: dict[str, NDArray[Any]], result: ops.EpochResult, exact: Reference) -> None:
    """Compare with float64, allowing a few times the error that plain float32 steps make."""
    plain = Reference(problem, np.float32).train().arrays()
    for name, expected in exact.arrays().items():
        if not expected.size:
            continue
        error = float(np.abs(plain[name] - expected).max())
        np.testing.assert_allclose(
            arrays[name], expected, rtol=0, atol=4 * error + 8 * EPS * float(np.abs(expected).max()), err_msg=name
        )
    assert (result.n_trained, result.n_skipped) == (exact.n_trained, exact.n_skipped)
    assert result.loss == pytest.approx(exact.loss, rel=1e-6)


def refused(case: Case, device: str) -> bool:
    """Say whether CUDA has no kernel for a case, after checking that it says so."""
    if device != "cuda":
        return False
    if not case.options.get("deterministic", True):
        pytest.skip("warps race, whatever n_threads says")
    if not case.features and "n_os" not in case.options:
        return False
    with pytest.raises(NotSupportedError, match="no CUDA kernel"):
        case.make().run(device)
    return True


@functools.cache
def truth(name: str) -> Reference:
    return Reference(next(case for case in CASES if case.name == name).make()).train()


@by_case
def test_an_epoch_is_the_reference(case: Case, device: str) -> None:
    if refused(case, device):
        return
    problem = case.make()
    arrays, result = run(problem, device, n_threads=1)
    check(problem, arrays, result, truth(case.name))


@pytest.mark.parametrize("name", ["bpr adam", "warp features", "logistic adagrad", "rating bag"])
def test_a_second_epoch_goes_on_from_the_first(name: str, device: str) -> None:
    case = next(case for case in CASES if case.name == name)
    if refused(case, device):
        return
    first = case.make()
    tables, state, _ = first.run(device)
    second = first._replace(tables=tables, state=state, options={**first.options, "epoch": 4, "learning_rate": 0.02})
    arrays, result = run(second, device)
    check(second, arrays, result, Reference(second).train())


@by_case
def test_bits_do_not_depend_on_threads(case: Case, device: str) -> None:
    if not case.options.get("deterministic", True):
        pytest.skip("lock-free")
    if refused(case, device):
        return
    problem = case.make()
    expected, result = run(problem, device, n_threads=1)
    for n_threads in (2, 3):
        arrays, again = run(problem, device, n_threads=n_threads)
        assert same(arrays, expected)
        assert again == result


@pytest.mark.parametrize("d", [1, 3, 15, 16, 17, 31, 33, 48, 65, 128, 130])
@by_op
def test_any_width_is_the_reference(op: str, d: int, device: str) -> None:
    case = Case("width", op, n_users=20, n_items=30, d=d, length=3, optimizer=("sgd", "adagrad", "adam")[d % 3])
    problem = case.make(d)
    arrays, result = run(problem, device)
    check(problem, arrays, result, Reference(problem).train())


def test_one_step_by_hand(device: str) -> None:
    # One user with the first of two items, so that the negative is the second.
    one, how = make_csr([[0]], 2, values=False), {"learning_rate": 0.5, "regularization": 0.0, "device": device}
    start_users, start_items = np.array([[2, 0]], np.float32), np.array([[1, 1], [0.5, -1]], np.float32)
    x = 2.0 * (1 - 0.5)
    g = 1 / (1 + np.exp(x))
    users, items = start_users.copy(), start_items.copy()
    assert ops.bpr_epoch(users, items, one, **how) == (pytest.approx(np.log1p(np.exp(-x))), 1, 0)
    np.testing.assert_allclose(users, [[2 + 0.5 * g * 0.5, 0.5 * g * 2]], rtol=1e-6)
    np.testing.assert_allclose(items, [[1 + g, 1], [0.5 - g, -1]], rtol=1e-6)
    users, items = start_users.copy(), start_items.copy()
    assert ops.warp_epoch(users, items, one, **how) == (0, 1, 0)  # 1 is not above 2 - 1
    assert np.array_equal(items, start_items)
    assert ops.warp_epoch(users, items[::-1].copy(), one, **how) == (pytest.approx(2), 1, 0)
    np.testing.assert_allclose(users, [[2 - 0.25, -1]], rtol=1e-6)
    users = start_users.copy()
    scores = np.array([2.0, 1.0])
    loss = np.log1p(np.exp(-scores[0])) + np.log1p(np.exp(scores[1]))
    assert ops.logistic_epoch(users, items, one, n_negatives=1, **how) == (pytest.approx(loss), 2, 0)
    np.testing.assert_allclose(items[:, 0], [1 + 1 / (1 + np.exp(2)), 0.5 - 1 / (1 + np.exp(-1))], rtol=1e-6)
    users, items, bias = start_users.copy(), start_items.copy(), np.zeros(1, np.float32)
    assert ops.rating_epoch(users, items, one, user_bias=bias, mean=1.0, **how) == (2.0, 1, 0)
    np.testing.assert_allclose(users, [[2 - 0.5 * 2, -0.5 * 2]], rtol=1e-6)
    assert bias == -1.0


@by_op
def test_seeds_and_epochs_differ(op: str, device: str) -> None:
    problem = Case("", op).make()
    expected, _ = run(problem, device)
    assert same(run(problem, device)[0], expected)
    for change in ({"seed": 1}, {"epoch": 4}):
        assert not np.array_equal(run(problem, device, **change)[0]["items"], expected["items"])


def train(problem: Problem, device: str, n_epochs: int, **how: Any) -> list[float]:
    """Return the losses of epochs that go on from one another."""
    losses = []
    for epoch in range(n_epochs):
        tables, state, result = problem.run(device, epoch=epoch, **how)
        problem = problem._replace(tables=tables, state=state)
        losses.append(result.loss)
    return losses


def planted(op: str) -> Problem:
    """Return a problem in which each of three groups of users likes most items of its own group."""
    kept = np.random.default_rng(1).random((140, 150)) < 0.8
    groups = np.arange(140)[:, None] % 3 == np.arange(150) % 3
    matrix = make_csr([np.flatnonzero(row).tolist() for row in kept & groups], 150, values=False)
    problem = Case("", op, {"regularization": 0.0}, n_users=140, n_items=150).make()
    tables = {name: np.float32(0.2) * table for name, table in problem.tables.items()}
    return problem._replace(matrix=matrix, tables=tables)


@by_op
def test_training_lowers_the_loss(op: str, device: str) -> None:
    losses = train(planted(op), device, 8, learning_rate=0.01 if op == "warp_epoch" else 0.05)
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_blocks", [1, 3])
@pytest.mark.parametrize("op", OPS[:3])
def test_negatives_are_never_positives(op: str, n_blocks: int, weighted: bool, device: str) -> None:
    # All users have the same items, so a positive's bias can only rise, and any other item's only fall.
    n = 64 * n_blocks
    positive = np.arange(n) % 3 > 0
    matrix = make_csr([np.flatnonzero(positive).tolist()] * n, n, values=False)
    users, items, bias = np.zeros((n, 2), np.float32), np.zeros((n, 2), np.float32), np.zeros(n, np.float32)
    weights = np.where(positive, 1e3, np.linspace(0, 1, n)) if weighted else None  # tries fail, the exact way is taken
    how: dict[str, Any] = {"negative_weights": weights, "regularization": 0.0, "device": device}
    result = getattr(ops, op)(users, items, matrix, item_bias=bias, **how)
    assert result.n_skipped == 0
    assert (bias[positive] > 0).all()
    assert (bias[~positive] <= 0).all()
    assert (bias[~positive] < 0).mean() > 0.9


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("op", OPS[:3])
def test_users_who_have_everything_are_skipped(op: str, weighted: bool, device: str) -> None:
    n_users, n_items = 130, 140
    full = make_csr([list(range(n_items))] * n_users, n_items, values=False)
    if weighted:  # everything that has a weight
        full = make_csr([list(range(0, n_items, 2))] * n_users, n_items, values=False)
    problem = Case("", op, n_users=n_users, n_items=n_items).make()._replace(matrix=full)
    weights = np.arange(n_items) % 2 == 0 if weighted else None
    arrays, result = run(problem, device, negative_weights=weights)
    assert same(arrays, start(problem))
    assert result == (0.0, 0, full.nnz)


@by_op
@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0), (1, 1), (1, 9), (9, 1), (70, 65)])
def test_matrices_without_entries_change_nothing(op: str, shape: tuple[int, int], device: str) -> None:
    problem = Case("", op, n_users=shape[0], n_items=shape[1]).make()
    empty = make_csr([[]] * shape[0], shape[1], values=False)
    for optimizer in ("sgd", "adam"):
        state = ops.make_state(optimizer, **problem.tables)
        arrays, result = run(problem._replace(matrix=empty, state=state), device)
        assert same(arrays, start(problem._replace(state=state)))
        assert result == (0.0, 0, 0)


@by_op
def test_one_user_and_few_items(op: str, device: str) -> None:
    problem = Case("", op, n_users=1, n_items=3, d=2).make()._replace(matrix=make_csr([[0, 2]], 3, values=False))
    arrays, result = run(problem, device, n_threads=3)
    check(problem, arrays, result, Reference(problem).train())
    assert result.n_skipped == 0


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@by_op
def test_folding_in_does_not_depend_on_the_batch(op: str, optimizer: str, device: str) -> None:
    problem = Case("", op, {"frozen": "items"}, optimizer=optimizer, d=17).make()
    together, _ = run(problem, device)
    assert np.array_equal(together["items"], problem.tables["items"])
    for user in (2, 77):
        begin, end = problem.matrix.row_ptr[user : user + 2]
        row = make_csr([problem.matrix.col_idx[begin:end].tolist()], problem.matrix.n_cols, values=False)
        own = {name: table[user : user + 1] if "user" in name else table for name, table in problem.tables.items()}
        alone, _ = run(problem._replace(tables=own, matrix=row, state=ops.make_state(optimizer, **own)), device)
        expected = problem._replace(state=ops.make_state(optimizer, **problem.tables))
        assert np.array_equal(alone["users"][0], run(expected, device)[0]["users"][user])


@pytest.mark.parametrize("frozen", ["items", "users"])
@by_op
def test_frozen_tables_may_be_read_only_and_of_any_dtype(op: str, frozen: str, device: str) -> None:
    problem = Case("", op, {"frozen": frozen}, rates=True).make()
    expected, result = run(problem, device)
    tables = {name: table.copy() for name, table in problem.tables.items()}
    for name in tables:
        if name.startswith(frozen[:-1]):
            tables[name] = np.asfortranarray(tables[name], np.float64)
            tables[name].flags.writeable = False
    users, items, biases = tables["users"], tables["items"], {k: v for k, v in tables.items() if "bias" in k}
    again = getattr(ops, op)(users, items, problem.matrix, **biases, **problem.options, device=device)
    assert again == result
    assert all(np.array_equal(tables[name], expected[name]) for name in tables)


@by_op
def test_lock_free_training_is_as_good(op: str, device: str) -> None:
    mine, other = (train(planted(op), device, 6, deterministic=how, n_threads=2)[-1] for how in (False, True))
    assert mine == pytest.approx(other, rel=0.25)


@by_op
def test_divergence_is_named(op: str, device: str) -> None:
    with pytest.raises(DivergedError, match="learning_rate"):
        train(planted(op), device, 20, learning_rate=1e18, check_finite=False)


@by_op
def test_rates_visit_as_often_as_they_say(op: str, device: str) -> None:
    matrix = random_csr(90, 80, 0.2, values=False)
    problem = Case("", op, n_users=90, n_items=80).make()._replace(matrix=matrix)
    per_visit = 5 if op == "logistic_epoch" else 1
    for rates, n in (
        (np.zeros(matrix.nnz), 0),
        (np.ones(matrix.nnz), matrix.nnz),
        (np.full(matrix.nnz, 3), 3 * matrix.nnz),
    ):
        assert run(problem, device, rates=rates)[1].n_trained == per_visit * n
    half = run(problem, device, rates=np.full(matrix.nnz, 0.5))[1].n_trained / per_visit / matrix.nnz
    assert abs(half - 0.5) < 4 * 0.5 / matrix.nnz**0.5


@pytest.mark.cuda_emulated
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@by_op
def test_tables_on_the_device_are_trained_where_they_lie(op: str, optimizer: str, emulated_arrays: Any) -> None:
    case = Case("", op, n_users=30, n_items=20, optimizer=optimizer)
    problem = case.make()
    expected, result = run(problem, "cuda")
    there = {name: emulated_arrays.asarray(table) for name, table in problem.tables.items()}
    state = OptimizerState(optimizer, *map(emulated_arrays.asarray, problem.state[1:]))
    users, items, biases = there["users"], there["items"], {k: v for k, v in there.items() if "bias" in k}
    assert getattr(ops, op)(users, items, problem.matrix, **biases, **problem.options, state=state) == result
    for name, table in there.items():
        assert np.array_equal(table.get(), expected[name])
    with pytest.raises(TypeError, match="items on the device and users"):
        getattr(ops, op)(problem.tables["users"], items, problem.matrix)
    fresh = ops.make_state(optimizer, users, items)
    assert emulated_arrays.is_array(fresh.users)
    with pytest.raises(TypeError, match="on the device"):
        getattr(ops, op)(users, items, problem.matrix, state=problem.state)
