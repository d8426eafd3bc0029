"""fm_epoch, ffm_epoch, fm_predict and ffm_predict against dense float64, on every backend."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from recsys_fast import ops
from recsys_fast.ops import Csr
from recsys_fast.ops.fm_data import Pairs
from tests.cases.fm import CASES, Case, Problem, dense, gradients, losses, reference, samples, scores
from tests.conftest import devices

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def run(problem: Problem, device: str, **how: Any) -> tuple[Any, Any, Any, float]:
    """Return (table, state, bias, loss) after one epoch."""
    table, state, steps, bias = (part.copy() for part in problem[:4])
    options = {"state": state, "steps": steps, "device": device, **problem.options, **how}
    if problem.fields is None:
        loss = ops.fm_epoch(table, bias, problem.matrix, problem.targets, **options)
    else:
        loss = ops.ffm_epoch(table, bias, problem.matrix, problem.targets, problem.fields, **options)
    return table, state, bias, loss


@functools.cache
def truth(case: Case) -> tuple[tuple[Any, Any, Any, float], tuple[float, float]]:
    """Return the epoch in float64, and what an operation may be off in table and state: 4 times plain float32."""
    exact, plain = reference(case.make(), np.float64), reference(case.make(), np.float32)
    allowed = [4 * float(np.abs(a - b).max(initial=0.0)) + 4e-6 for a, b in zip(exact[:2], plain[:2], strict=True)]
    return exact, (allowed[0], allowed[1])


@by_case
def test_an_epoch_is_what_the_definition_says(case: Case, device: str) -> None:
    problem = case.make()
    exact, allowed = truth(case)
    table, state, bias, loss = run(problem, device)
    np.testing.assert_allclose(table, exact[0], rtol=0, atol=allowed[0])
    np.testing.assert_allclose(state, exact[1], rtol=0, atol=allowed[1])
    np.testing.assert_allclose(bias, exact[2], rtol=1e-4, atol=1e-6)
    assert loss == pytest.approx(exact[3], rel=1e-5)
    assert np.array_equal(table[-1], problem.table[-1]), "a feature without rows must rest"
    assert not np.array_equal(table[0], problem.table[0])


@by_case
def test_bits_do_not_depend_on_threads(case: Case, device: str) -> None:
    problem = case.make()
    first = run(problem, device, n_threads=1)
    for n_threads in (2, 3):
        again = run(problem, device, n_threads=n_threads)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@by_case
def test_gradients_are_those_of_finite_differences(case: Case, device: str) -> None:
    """A step of descent over all rows at once gives the gradient away."""
    problem = case.make()
    rate, x = 1e-2, dense(problem.matrix)
    rows = np.array(samples(problem))
    plain = {"optimizer": "sgd", "learning_rate": rate, "weight_regularization": 0.0, "factor_regularization": 0.0}
    problem = problem._replace(options={**problem.options, **plain, "batch_size": 10**6})
    problem = problem._replace(state=np.empty((case.m, 0), np.float32))
    moved = run(problem, device)[0]
    counts = (x[rows.ravel()] != 0).sum(0)
    found = (problem.table.astype(np.float64) - moved) / rate * np.maximum(counts, 1)[:, None]
    table = problem.table.astype(np.float64)

    def loss(change: Any) -> float:
        s = scores(table + change, problem.bias[0], x[rows.ravel()], problem.fields)
        return float(losses(problem, s.reshape(rows.shape), rows)[0].sum())

    rng = np.random.default_rng(0)
    size = max(1.0, float(np.abs(found).max()))
    for _ in range(12):
        direction = np.zeros_like(table)
        direction[rng.integers(case.m, size=3), rng.integers(table.shape[1], size=3)] = rng.standard_normal(3)
        slope = (loss(1e-5 * direction) - loss(-1e-5 * direction)) / 2e-5
        assert slope == pytest.approx(float((found * direction).sum()), abs=2e-3 * size)


def test_the_reference_gradient_is_that_of_finite_differences() -> None:
    problem = Case("small", n=12, m=7, d=2, n_fields=3).make()
    x, table = dense(problem.matrix), problem.table.astype(np.float64)
    for fields in (None, problem.fields):
        width = 3 if fields is None else 7
        part = np.ascontiguousarray(table[:, :width])
        slopes = np.random.default_rng(1).standard_normal(12)
        exact = gradients(part, x, slopes, fields)
        for j, k in np.ndindex(part.shape):
            change = np.zeros_like(part)
            change[j, k] = 1e-6
            up, down = (float(slopes @ scores(part + c, 0.0, x, fields)) for c in (change, -change))
            assert exact[j, k] == pytest.approx((up - down) / 2e-6, abs=1e-7)


@by_case
def test_scores_are_sums_over_pairs(case: Case, device: str) -> None:
    problem = case.make()
    x = dense(problem.matrix)
    exact = scores(problem.table.astype(np.float64), 0.3, x, problem.fields)
    size = np.abs(x).sum(1).max() ** 2
    for n_threads in (1, 2):
        if problem.fields is None:
            found = ops.fm_predict(problem.table, 0.3, problem.matrix, device=device, n_threads=n_threads)
        else:
            found = ops.ffm_predict(problem.table, 0.3, problem.matrix, problem.fields, device=device)
        np.testing.assert_allclose(found, exact, rtol=0, atol=4e-7 * max(size, 1.0))
    assert found[0] == np.float32(0.3)


def test_a_field_machine_of_one_field_is_a_plain_one(device: str) -> None:
    problem = Case("plain", d=6).make()
    plain = run(problem, device)
    fielded = run(problem._replace(fields=np.zeros(30, np.int32)), device)
    np.testing.assert_allclose(plain[0], fielded[0], rtol=0, atol=1e-6)


def test_every_row_comes_once_and_epochs_differ() -> None:
    for n in (1, 2, 3, 17, 64, 1000):
        problem = Case("order", n=max(n, 3)).make()
        orders = []
        for epoch in (0, 1):
            problem.options["epoch"] = epoch
            orders.append([r for (r,) in samples(problem)])
            assert sorted(orders[-1]) == list(range(max(n, 3)))
        assert n < 17 or orders[0] != orders[1]


def test_the_order_is_about_random() -> None:
    """Neighbours in the order are no neighbours in the data, and places do not correlate."""
    from tests.cases.fm import order

    n = 3000
    for epoch in range(3):
        places = np.array(order(5, epoch, n))
        assert abs(np.corrcoef(places, np.arange(n))[0, 1]) < 0.08
        assert abs(np.corrcoef(places[1:], places[:-1])[0, 1]) < 0.08
        assert (np.abs(np.diff(places)) < 30).mean() < 0.04


def test_backends_agree() -> None:
    if devices() != ["cpu", "numba"]:
        pytest.skip("only one backend is here")
    problem = Case("agree", n=300, loss="bpr", optimizer="adagrad").make()
    native, readable = (run(problem, device) for device in devices())
    np.testing.assert_allclose(native[0], readable[0], rtol=0, atol=1e-5)


def test_no_rows(device: str) -> None:
    problem = Case("none").make()
    empty = Csr(np.zeros(1, np.int64), np.empty(0, np.int32), None, 0, 30)
    nothing = problem._replace(matrix=empty, targets=np.empty(0, np.float32))
    table, _, bias, loss = run(nothing, device)
    assert loss == 0
    assert np.array_equal(table, problem.table)
    assert np.array_equal(bias, problem.bias)
    assert len(ops.fm_predict(problem.table, 0.0, empty, device=device)) == 0


GOOD = Case("good", n=40, m=9, d=2, optimizer="adam", loss="logistic")
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"table": np.zeros((9, 3))}, TypeError, "float32"),
    ({"table": np.zeros((8, 3), np.float32)}, ValueError, "columns of matrix"),
    ({"table": np.zeros((9, 0), np.float32)}, ValueError, "columns of table"),
    ({"bias": np.zeros(4, np.float32)}, TypeError, "bias"),
    ({"bias": 0.0}, TypeError, "bias"),
    ({"matrix": np.zeros((40, 9))}, TypeError, "sparse"),
    ({"targets": np.zeros(39)}, ValueError, "one per row"),
    ({"targets": np.full(40, np.nan)}, ValueError, r"targets\[0\]"),
    ({"targets": np.arange(40)}, ValueError, "0 and 1, or -1 and 1"),
    ({"targets": np.array([0, -1, 1] + [0] * 37)}, ValueError, "0 and 1, or -1 and 1"),
    ({"targets": ["a"] * 40}, TypeError, "numbers"),
    ({"weights": -np.ones(40)}, ValueError, r"weights\[0\]"),
    ({"state": None}, ValueError, "state is missing"),
    ({"state": np.zeros((9, 5), np.float32)}, ValueError, "shape of state"),
    ({"steps": None}, TypeError, "steps"),
    ({"steps": np.zeros(9)}, TypeError, "steps"),
    ({"loss": "hinge"}, ValueError, "loss"),
    ({"loss": "bpr"}, ValueError, "groups are missing"),
    ({"loss": "bpr", "groups": np.arange(40)}, ValueError, "no group has both"),
    ({"loss": "bpr", "groups": np.zeros(40)}, TypeError, "integers"),
    ({"optimizer": "lbfgs"}, ValueError, "optimizer"),
    ({"learning_rate": float("nan")}, ValueError, "learning_rate"),
    ({"factor_regularization": -1}, ValueError, "factor_regularization"),
    ({"batch_size": 0}, ValueError, "batch_size"),
    ({"seed": -1}, ValueError, "seed"),
    ({"epoch": 2**32}, ValueError, "epoch"),
    ({"fields": np.zeros(8, int)}, ValueError, "shape of fields"),
    ({"fields": np.full(9, -1)}, IndexError, r"fields\[0\]: got -1"),
    ({"fields": np.full(9, 2), "n_fields": 2}, IndexError, "0 <= id < 2"),
    ({"fields": np.full(9, 2**32)}, IndexError, r"fields\[0\]: got 4294967296"),
    ({"fields": np.zeros(9, int), "n_fields": 0}, ValueError, "n_fields: got 0"),
    ({"fields": np.zeros(9, int), "n_fields": 1.5}, TypeError, "n_fields: got float"),
    ({"learning_rate": 1 + 0j}, TypeError, "learning_rate: got complex"),
    ({"fields": np.full(9, 2)}, ValueError, "columns of table"),
    ({"fields": np.zeros(9)}, TypeError, "fields"),
    ({"device": "gpu"}, ValueError, "device"),
    ({"n_threads": 0}, ValueError, "n_threads"),
]


@pytest.mark.parametrize(("change", "error", "text"), BAD)
def test_an_epoch_refuses(change: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    problem = GOOD.make()
    arguments = {**problem._asdict(), **problem.options, "device": device, **change}
    del arguments["options"]
    before = problem.table.copy()
    with pytest.raises(error, match=text):
        ops.fm_epoch(**arguments)
    assert np.array_equal(problem.table, before)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"positives": [40]}, IndexError, r"positives of the pairs\[0\]: got 40"),
        ({"positives": [2**32]}, IndexError, r"positives of the pairs\[0\]: got 4294967296"),
        ({"positives": [5.0]}, TypeError, "positives"),
        ({"negatives": [0, -1, 2, 3]}, IndexError, r"negatives of the pairs\[1\]: got -1"),
        ({"negatives": [0, 2**32 + 1, 2, 3]}, IndexError, "got 4294967297"),
        ({"negatives": [[0, 1], [2, 3]]}, ValueError, "shapes of"),
        ({"negative_ptr": [0, 5, 4]}, ValueError, "negative_ptr"),
        ({"negative_ptr": [0, 2**63 - 1, -2, 4]}, ValueError, "negative_ptr"),
        ({"negative_ptr": [0.0, 2.0, 4.0]}, TypeError, "negative_ptr"),
        ({"negative_ptr": 4}, ValueError, "negative_ptr"),
        ({"groups": [0, 0]}, ValueError, "the same number"),
        ({"groups": [2]}, IndexError, r"groups of the pairs\[0\]: got 2, expected 0 <= id < 2"),
        ({"groups": [2**32]}, IndexError, "got 4294967296"),
        ({"negative_ptr": [0, 0, 4], "groups": [0]}, ValueError, "groups that have"),
    ],
)
def test_pairs_out_of_range_are_refused(change: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    pairs = Pairs(*(np.array(part) for part in ([5], [1], [0, 2, 4], [0, 1, 2, 3])))
    problem = GOOD._replace(loss="bpr", optimizer="sgd").make()
    run(problem, device, groups=pairs)
    bad = pairs._replace(**{name: np.array(value) for name, value in change.items()})
    with pytest.raises(error, match=text):
        run(problem, device, groups=bad)


def test_predictions_refuse(device: str) -> None:
    problem = GOOD.make()
    for table, error in ((problem.table[:8], "columns of matrix"), (problem.table * np.nan, r"table\[0, 0\]")):
        with pytest.raises(ValueError, match=error):
            ops.fm_predict(table, 0.0, problem.matrix, device=device)
    with pytest.raises(ValueError, match="bias"):
        ops.fm_predict(problem.table, float("nan"), problem.matrix, device=device)
    with pytest.raises(ValueError, match="columns of table"):
        ops.ffm_predict(problem.table, 0.0, problem.matrix, np.arange(9), device=device)
