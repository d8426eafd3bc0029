"""Sums by field and factorization machine scores: against NumPy, finite differences, and what they refuse."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import sparse

from recsys_fast import ops
from recsys_fast.blocks.base import Runtime

MODES = [(True, True), (True, False), (False, True), (False, False)]


class Case(NamedTuple):
    """A batch: rows, features, factors, fields; values other than 1 where ``valued``."""

    n: int
    n_features: int
    k: int
    n_fields: int
    valued: bool

    def make(self) -> tuple[Any, np.ndarray, np.ndarray | None]:
        rng = np.random.default_rng([self.n, self.k])
        dense = rng.random((self.n, self.n_features)) < 0.4
        dense[: self.n // 5] = False  # rows without entries
        values = np.where(dense, rng.standard_normal(dense.shape) if self.valued else 1.0, 0.0).astype(np.float32)
        fields = rng.permutation(np.arange(self.n_features) % self.n_fields) if self.n_fields > 1 else None
        return sparse.csr_array(values), rng.standard_normal((self.n_features, self.k + 1)).astype(np.float32), fields


CASES = [Case(0, 3, 2, 1, False), Case(1, 1, 1, 1, True), Case(40, 12, 10, 5, False), Case(300, 31, 17, 3, True),
         Case(50, 9, 33, 4, True), Case(60, 8, 16, 1, True)]  # fmt: skip
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
by_mode = pytest.mark.parametrize(("linear", "pairs"), MODES)


def wanted(
    matrix: Any, table: np.ndarray, fields: np.ndarray | None, linear: bool, pairs: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return x and score in float64, pair by pair."""
    rows, v = matrix.toarray().astype(np.float64), table.astype(np.float64)
    k = table.shape[1] - linear
    place = np.zeros(len(v), int) if fields is None else fields
    n_fields = int(place.max(initial=0)) + 1
    x = np.zeros((len(rows), n_fields, k))
    score = rows @ v[:, -1] if linear else np.zeros(len(rows))
    for j in range(len(v)):
        x[:, place[j]] += rows[:, j : j + 1] * v[j, :k]
        for i in range(j if pairs else 0):
            score = score + rows[:, i] * rows[:, j] * (v[i, :k] @ v[j, :k])
    return x.reshape(len(rows), n_fields * k), score


@by_case
@by_mode
def test_is_what_it_says(case: Case, linear: bool, pairs: bool, device: str) -> None:
    matrix, table, fields = case.make()
    table = table if linear else np.ascontiguousarray(table[:, :-1])
    found = ops.field_sums_forward(matrix, table, fields, linear=linear, pairs=pairs, device=device)
    x, score = wanted(matrix, table, fields, linear, pairs)
    np.testing.assert_allclose(found.x, x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.score, score, rtol=1e-5, atol=2e-5 * (1 + np.abs(score).max(initial=0)))
    assert not linear or (found.sums[:, -1] == 1).all()


@by_mode
def test_gradients_are_those_of_finite_differences(linear: bool, pairs: bool) -> None:
    matrix, table, fields = Case(13, 7, 3, 3, True).make()
    csr, run = ops.as_csr(matrix), Runtime("numba", 2, np.float64).run
    values, table = csr.or_empty().astype(np.float64), table[:, : 3 + linear].astype(np.float64)
    rng, numbers = np.random.default_rng(0), fields.astype(np.int32)
    wx, ws = rng.standard_normal((csr.n_rows, 9)), rng.standard_normal(csr.n_rows)
    x, sums, score = np.empty((csr.n_rows, 9)), np.empty((csr.n_rows, table.shape[1])), np.empty(csr.n_rows)
    how = numbers, 3, linear, pairs

    def total() -> float:
        run("field_sums_forward", x, sums, score, csr.row_ptr, csr.col_idx, values, table, *how)
        return float((x * wx).sum() + score @ ws)

    total()
    plan = ops.id_plan(csr.col_idx, csr.n_cols)
    drows = np.empty((len(plan.rows), table.shape[1]))
    entry_rows = np.repeat(np.arange(csr.n_rows, dtype=np.int32), np.diff(csr.row_ptr))
    run("field_sums_backward", drows, *plan[:3], entry_rows, values, wx, ws, sums, table, *how)
    gradient = np.zeros_like(table)
    gradient[plan.rows] = drows
    for i in range(table.size):
        kept, sides = table.flat[i], []
        for moved in (kept + 1e-6, kept - 1e-6):
            table.flat[i] = moved
            sides.append(total())
        table.flat[i] = kept
        assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(gradient.flat[i], rel=1e-6, abs=1e-6)


@by_case
@by_mode
def test_gradients_are_as_exact_as_plain_loops(case: Case, linear: bool, pairs: bool, device: str) -> None:
    """The readable backend in float32 measures what the others may lose."""
    if device == "numba":
        pytest.skip("the others are held against it")
    matrix, table, fields = case.make()
    table = table if linear else np.ascontiguousarray(table[:, :-1])
    how: dict[str, Any] = {"fields": fields, "linear": linear, "pairs": pairs}
    rng = np.random.default_rng(1)
    forward = ops.field_sums_forward(matrix, table, device=device, **how)
    given = rng.standard_normal(forward.x.shape, np.float32), rng.standard_normal(case.n, np.float32)
    rows, got = ops.field_sums_backward(matrix, table, forward.sums, *given, device=device, **how)
    plain_sums = ops.field_sums_forward(matrix, table, device="numba", **how).sums
    same, plain = ops.field_sums_backward(matrix, table, plain_sums, *given, device="numba", **how)
    assert np.array_equal(rows, same)
    np.testing.assert_allclose(got, plain, rtol=1e-4, atol=1e-5 * (1 + np.abs(plain).max(initial=0)))


def test_bits_do_not_depend_on_threads(device: str) -> None:
    matrix, table, fields = Case(9000, 40, 10, 6, True).make()
    results = []
    for n_threads in (1, 2, 7):
        place: dict[str, Any] = {"device": device, "n_threads": n_threads}
        forward = ops.field_sums_forward(matrix, table, fields, **place)
        backward = ops.field_sums_backward(matrix, table, forward.sums, forward.x, forward.score, fields, **place)
        results.append((*forward, *backward))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert np.array_equal(one, two)


def test_what_it_refuses(device: str) -> None:
    matrix, table, fields = Case(5, 4, 2, 2, True).make()
    for arguments, error, text in [
        ((matrix, table[:3]), ValueError, "shape of table"),
        ((matrix, table[:, :1]), ValueError, "columns of table"),
        ((matrix, table, fields[:2]), ValueError, "shape of fields"),
        ((matrix, table, fields - 1), IndexError, "fields"),
        ((matrix, table * np.nan), ValueError, "table"),
    ]:
        with pytest.raises(error, match=text):
            ops.field_sums_forward(*arguments, device=device)
    with pytest.raises(ValueError, match="shape of dx"):
        ops.field_sums_backward(matrix, table, np.zeros((5, 3)), np.zeros((5, 2)), np.zeros(5), fields, device=device)
