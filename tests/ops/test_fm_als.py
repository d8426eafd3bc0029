"""fm_als_sweep against least squares of dense float64, on every backend."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from recsys_fast import ops
from recsys_fast.ops import Csr, csr_transpose
from tests.cases.fm import dense, scores


class Case(NamedTuple):
    """Rows of one-hot groups of columns (which can be solved together) and of columns that occur anywhere."""

    name: str
    n: int = 80
    groups: tuple[int, ...] = (6, 9)
    mixed: int = 4
    d: int = 3
    valued: bool = True
    weighted: bool = False
    weight_regularization: float = 0.05
    factor_regularization: float = 0.02

    def make(self) -> tuple[Any, Any, Csr, Any, dict[str, Any]]:
        """Return (table, bias, matrix, targets, options)."""
        rng = np.random.default_rng([self.n, self.d])
        hot = [np.eye(size)[rng.integers(size, size=self.n)] for size in self.groups]
        anywhere = rng.random((self.n, self.mixed)) < 0.4
        x = np.hstack([*hot, anywhere, np.zeros((self.n, 1))])
        x[0] = 0
        if self.valued:
            x *= rng.uniform(0.5, 1.5, x.shape)
        rows, cols = np.nonzero(x)
        values = x[rows, cols].astype(np.float32) if self.valued else None
        row_ptr = np.concatenate([[0], np.cumsum((x != 0).sum(1))]).astype(np.int64)
        matrix = Csr(row_ptr, cols.astype(np.int32), values, *x.shape)
        table = (0.3 * rng.standard_normal((x.shape[1], self.d + 1))).astype(np.float32)
        options: dict[str, Any] = {
            "weight_regularization": self.weight_regularization,
            "factor_regularization": self.factor_regularization,
        }
        if self.weighted:
            options["weights"] = rng.exponential(1.0, self.n).astype(np.float32)
        return table, np.array([0.5, 0, 0, 0]), matrix, rng.normal(1.0, 1.0, self.n).astype(np.float32), options


CASES = [
    Case("plain"),
    Case("weights of 1", valued=False),
    Case("weighted rows", weighted=True, d=8),
    Case("linear", d=0),
    Case("width 16", d=15),
    Case("width 34", d=33, n=200),
    Case("one column in every row", groups=(1, 12), mixed=0),
    Case("long columns", n=20_000, groups=(2, 50), mixed=2, d=4),
]
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def objective(table: Any, bias: float, x: Any, y: Any, options: dict[str, Any]) -> float:
    table = table.astype(np.float64)
    weights = options.get("weights", np.ones(len(y)))
    counts = (x != 0).sum(0)
    squares = options["factor_regularization"] * np.square(table[:, :-1]).sum(1)
    squares += options["weight_regularization"] * np.square(table[:, -1])
    return 0.5 * float(weights @ (scores(table, bias, x, None) - y) ** 2 + counts @ squares)


def reference(table: Any, bias: float, x: Any, y: Any, options: dict[str, Any]) -> tuple[Any, float]:
    """Return the table and bias after a sweep: each feature by ``lstsq`` on the scores as a function of its row."""
    table = table.astype(np.float64)
    weights = options.get("weights", np.ones(len(y))).astype(np.float64)
    bias += float(weights @ (y - scores(table, bias, x, None)) / weights.sum())
    for j in range(len(table)):
        used = np.flatnonzero(x[:, j])
        if not len(used):
            continue
        own = x[used, j][:, None]
        z = np.hstack([own * (x[used] @ table[:, :-1] - own * table[j, :-1]), own])
        rest = y[used] - scores(table, bias, x[used], None) + z @ table[j]
        d = table.shape[1] - 1
        penalty = len(used) * np.array([options["factor_regularization"]] * d + [options["weight_regularization"]])
        left = np.vstack([np.sqrt(weights[used])[:, None] * z, np.diag(np.sqrt(penalty))])
        right = np.concatenate([np.sqrt(weights[used]) * rest, np.zeros(d + 1)])
        table[j] = np.linalg.lstsq(left, right, rcond=None)[0]
    return table, bias


@by_case
def test_a_sweep_solves_feature_after_feature(case: Case, device: str) -> None:
    table, bias, matrix, y, options = case.make()
    x = dense(matrix)
    if case.n > 1000:  # too many rows for the reference: its conditions instead
        pytest.skip("see test_the_last_feature_is_optimal")
    exact, start = reference(table, 0.5, x, y, options)
    before = table.copy()
    loss = ops.fm_als_sweep(table, bias, matrix, y, device=device, **options)
    np.testing.assert_allclose(table, exact, rtol=0, atol=2e-3)
    assert bias[0] == pytest.approx(start, abs=1e-5)
    assert loss == pytest.approx(objective(table, bias[0], x, y, options), rel=1e-5)
    assert np.array_equal(table[-1], before[-1]), "a feature without rows must rest"


@by_case
def test_the_last_feature_is_optimal(case: Case, device: str) -> None:
    """Nothing moves after it, so the objective's derivatives in its direction are 0."""
    table, bias, matrix, y, options = case.make()
    loss = ops.fm_als_sweep(table, bias, matrix, y, device=device, **options)
    x, last = dense(matrix), len(table) - 2
    assert loss == pytest.approx(objective(table, bias[0], x, y, options), rel=1e-5)
    for k in range(0, table.shape[1], 5):
        change = np.zeros(table.shape)
        change[last, k] = 1e-4
        up, down = (objective(table + c, bias[0], x, y, options) for c in (change, -change))
        assert abs(up - down) / 2e-4 < 2e-4 * loss


@by_case
def test_the_objective_never_rises(case: Case, device: str) -> None:
    table, bias, matrix, y, options = case.make()
    found = [ops.fm_als_sweep(table, bias, matrix, y, device=device, **options) for _ in range(8)]
    assert (np.diff(found) <= 1e-5 * found[0]).all()
    assert found[-1] < found[0]


@by_case
def test_bits_do_not_depend_on_threads(case: Case, device: str) -> None:
    results = []
    for n_threads in (1, 2, 3):
        table, bias, matrix, y, options = case.make()
        columns = csr_transpose(matrix)
        loss = ops.fm_als_sweep(table, bias, matrix, y, device=device, n_threads=n_threads, columns=columns, **options)
        results.append((table.tobytes(), bias.tobytes(), loss))
    assert results[0] == results[1] == results[2]


def test_without_penalty_it_stays_finite(device: str) -> None:
    case = Case("free", weight_regularization=0.0, factor_regularization=0.0, d=12)
    table, bias, matrix, y, options = case.make()
    found = [ops.fm_als_sweep(table, bias, matrix, y, device=device, **options) for _ in range(5)]
    assert np.isfinite(table).all()
    assert found[-1] <= found[0]


def test_refuses(device: str) -> None:
    table, bias, matrix, y, _ = CASES[0].make()
    for change, error, text in [
        ({"table": table.astype(np.float64)}, TypeError, "float32"),
        ({"bias": np.zeros(1)}, TypeError, "bias"),
        ({"targets": y[:-1]}, ValueError, "one per row"),
        ({"targets": np.full(80, np.inf)}, ValueError, r"targets\[0\]"),
        ({"columns": matrix}, ValueError, "transpose"),
        ({"weights": -y}, ValueError, "weights"),
        ({"weight_regularization": -1.0}, ValueError, "weight_regularization"),
        ({"table": table[:-1]}, ValueError, "columns of matrix"),
    ]:
        arguments: dict[str, Any] = {"table": table, "bias": bias, "matrix": matrix, "targets": y, "device": device}
        with pytest.raises(error, match=text):
            ops.fm_als_sweep(**{**arguments, **change})
