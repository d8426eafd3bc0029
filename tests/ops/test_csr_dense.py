"""The layer over sparse rows against plain loops, its promises, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_fast import backend, ops
from tests.cases.autoencoders import CASES, Case, backward, forward

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
by_kind = pytest.mark.parametrize("kind", ["identity", "tanh", "relu", "sigmoid"])
NUMBERS = {"relu": 0, "tanh": 2, "sigmoid": 3, "identity": 4}


def error(got: Any, exact: Any) -> float:
    """Return the largest error, relative to the largest number."""
    largest = float(np.abs(np.asarray(got, np.float64) - exact).max(initial=0.0))
    return largest / max(float(np.abs(exact).max(initial=0.0)), 0.1)


def run(case: Case, kind: str, device: str, n_threads: int | None = None) -> tuple[Any, Any, Any]:
    """Return y, the whole table's gradient and b's."""
    p, where = case.make(), {"device": device, "n_threads": n_threads}
    y = ops.csr_dense_forward(case.csr(), p["table"], p["b"] if case.bias else None, activation=kind, **where)
    rows, drows, db = ops.csr_dense_backward(p["dy"], y, case.csr(), activation=kind, **where)
    assert np.array_equal(rows, np.unique(p["col_idx"]))
    dtable = np.zeros_like(p["table"])
    dtable[rows] = drows
    return y, dtable, db


@by_case
@by_kind
def test_is_as_exact_as_plain_float32(case: Case, kind: str, device: str) -> None:
    exact, plain = case.make(np.float64), case.make(np.float32)
    wanted = forward(exact, kind), *backward(exact, kind)
    usual = forward(plain, kind), *backward(plain, kind)
    for got, e, p in zip(run(case, kind, device), wanted, usual, strict=True):
        assert error(got, e) <= 4 * error(p, e) + 1e-6


@by_case
def test_bits_do_not_depend_on_threads(case: Case, device: str) -> None:
    one = run(case, "tanh", device, 1)
    for n_threads in (2, 5):
        assert all(np.array_equal(a, b) for a, b in zip(one, run(case, "tanh", device, n_threads), strict=True))


@by_kind
def test_gradients_are_finite_differences(kind: str) -> None:
    case, numba = Case("", 12, 9, 5, most=4), backend.get("numba")
    p, kept = case.make(np.float64), np.empty((case.n, case.d))

    def loss() -> float:
        args = p["row_ptr"], p["col_idx"], p["values"], p["table"], p["b"]
        numba.csr_dense_forward(kept, *args, NUMBERS[kind], 1)
        return float((kept * p["dy"]).sum())

    loss()
    plan = ops.id_plan(p["col_idx"], case.n_cols, device="numba")
    drows, dbias, db = np.empty((len(plan.rows), case.d)), np.empty(len(plan.rows)), np.empty(case.d)
    given = (p["dy"], kept.copy(), p["row_ptr"], p["values"], plan.entry_ptr, plan.entries, NUMBERS[kind])
    numba.csr_dense_backward(drows, dbias, db, np.empty_like(p["dy"]), *given, 1)
    dtable = np.zeros_like(p["table"])
    dtable[plan.rows] = drows
    assert np.allclose(dbias, np.bincount(p["col_idx"], p["values"])[plan.rows])
    for x, gradient in ((p["table"], dtable), (p["b"], db)):
        for at in range(x.size):
            before, values = x.flat[at], []
            for step in (1e-6, -1e-6):
                x.flat[at] = before + step
                values.append(loss())
            x.flat[at] = before
            assert gradient.flat[at] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6, abs=1e-8)


def test_rows_are_scaled_and_dropped_by_counters(device: str) -> None:
    x = sp.random_array((40, 200), density=0.2, rng=np.random.default_rng(0), format="csr", dtype=np.float32)
    unit = ops.csr_scale(x, normalize=True, device=device)
    lengths = np.sqrt(np.add.reduceat(x.data.astype(np.float64) ** 2, x.indptr[:-1]))
    assert np.allclose(unit, x.data / np.repeat(lengths, np.diff(x.indptr)), rtol=1e-6)
    dropped = ops.csr_scale(x, normalize=True, dropout=0.5, seed=3, step=2, site=8, device=device)
    kept = dropped != 0
    assert 0.4 < kept.mean() < 0.6
    assert np.allclose(dropped[kept], 2 * unit[kept])
    again = ops.csr_scale(x, dropout=0.5, seed=3, step=2, site=8, device="numba", n_threads=1) != 0
    assert np.array_equal(kept, again)  # every backend draws the same mask
    assert not np.array_equal(kept, ops.csr_scale(x, dropout=0.5, seed=3, step=3, site=8, device=device) != 0)
    whole = ops.csr_scale(ops.Csr(np.array([0, 0, 4]), np.arange(4, dtype=np.int32), None, 2, 4), normalize=True)
    assert np.array_equal(whole, np.full(4, 0.5, np.float32))


def test_bad_input_is_refused(device: str) -> None:
    x, table = sp.csr_array(np.eye(3, dtype=np.float32)), np.ones((3, 2), np.float32)
    with pytest.raises(ValueError, match="shape of table"):
        ops.csr_dense_forward(x, table[:2], device=device)
    with pytest.raises(ValueError, match="b: got"):
        ops.csr_dense_forward(x, table, np.ones(3), device=device)
    with pytest.raises(ValueError, match="activation"):
        ops.csr_dense_forward(x, table, activation="gelu", device=device)
    with pytest.raises(ValueError, match="finite"):
        ops.csr_dense_forward(x * np.float32(np.nan), table, device=device)
    with pytest.raises(TypeError, match="sparse"):
        ops.csr_dense_forward(np.eye(3), table, device=device)
    with pytest.raises(ValueError, match="shape of dy"):
        ops.csr_dense_backward(np.ones((2, 2)), np.ones((2, 2)), x, device=device)
    with pytest.raises(ValueError, match="dropout"):
        ops.csr_scale(x, dropout=1.0, device=device)
