"""Plans of ids and gradients of tables: against NumPy and float64, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast import ops
from tests.cases.table import CASES, Case, by_name

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def plan_of(ids: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
    rows = np.unique(ids[ids >= 0])
    return rows, [np.flatnonzero(ids == row).tolist() for row in rows]


def check_plan(ids: np.ndarray, n_table: int, device: str) -> None:
    rows, entries = plan_of(ids)
    for n_threads in (1, 2, 3, 7):
        plan = ops.id_plan(ids, n_table, device=device, n_threads=n_threads)
        assert np.array_equal(plan.rows, rows)
        found = [plan.entries[a:b].tolist() for a, b in zip(plan.entry_ptr[:-1], plan.entry_ptr[1:], strict=True)]
        assert found == entries


@by_case
def test_plans_are_numpys(case: Case, device: str) -> None:
    check_plan(case.make().every_id, case.n, device)


@pytest.mark.parametrize("n_table", [1, 2, 255, 256, 257, 65_537, 2**20 + 3, 2**31 - 1])
def test_plans_of_any_table(n_table: int, device: str) -> None:
    """Few ids or many, of one row or of all, the last row among them."""
    rng = np.random.default_rng(n_table)
    for n in (0, 1, 2, 700):
        check_plan(rng.integers(-1, n_table, n).astype(np.int32), n_table, device)
    check_plan(np.full(50, n_table - 1, np.int32), n_table, device)
    check_plan(np.full(50, -1, np.int32), n_table, device)


def test_plans_of_many_ids(device: str) -> None:
    ids = (np.random.default_rng(1).random(30_000) ** 3 * 2000).astype(np.int32)
    plan = ops.id_plan(ids, 2000, device=device)
    assert np.array_equal(plan.rows, np.unique(ids))
    assert np.array_equal(plan.entries, np.argsort(ids, kind="stable"))
    assert np.array_equal(np.diff(plan.entry_ptr), np.unique(ids, return_counts=True)[1])


@by_case
def test_gradients_are_the_sums_of_their_entries(case: Case, device: str) -> None:
    s = case.make()
    (exact, exact_bias), (plain, plain_bias) = s.gradient(), s.gradient(np.float32)
    plan = ops.id_plan(s.every_id, case.n, device=device)
    base = np.random.default_rng(0).standard_normal(s.table.shape).astype(np.float32)
    drows, dbias = ops.table_gradient(plan, case.d, **s.sources(), bias=True, device=device, n_threads=1)
    for got, right, loops in ((drows, exact, plain), (dbias, exact_bias, plain_bias)):
        assert np.abs(got - right[plan.rows]).max(initial=0.0) <= 4 * np.abs(loops - right).max(initial=0.0) + 1e-6
    added, added_bias = base.copy(), base[:, 0].copy()
    ops.table_add(added, s.every_id, dbias=added_bias, **s.sources(), device=device, n_threads=1)
    assert np.abs(added - base - exact).max() <= 4 * np.abs(plain - exact).max() + 1e-5
    assert np.abs(added_bias - base[:, 0] - exact_bias).max() <= 4 * np.abs(plain_bias - exact_bias).max() + 1e-5
    for n_threads in (2, 3, 7):
        again = ops.table_gradient(plan, case.d, **s.sources(), bias=True, device=device, n_threads=n_threads)
        assert np.array_equal(drows, again[0])
        assert np.array_equal(dbias, again[1])
        total, total_bias = base.copy(), base[:, 0].copy()
        ops.table_add(total, s.every_id, dbias=total_bias, **s.sources(), device=device, n_threads=n_threads)
        assert np.array_equal(added, total)
        assert np.array_equal(added_bias, total_bias)


def test_one_kind_of_entries_alone(device: str) -> None:
    s = by_name["width 50"].make()
    only = {"dx": s.ids, "dcand": s.ids, "coef": s.pair_ids}
    for name, ids in only.items():
        given = {"dx": {"dx": s.dx}, "dcand": {"dcand": s.dx}, "coef": {"coef": s.coef, "h": s.h}}[name]
        plan = ops.id_plan(ids, len(s.table), device=device)
        drows, dbias = ops.table_gradient(plan, 50, **given, bias=name == "dcand", device=device)
        rows = s.dx if name != "coef" else (s.coef[:, :, None] * s.h[:, None, :]).reshape(-1, 50)
        sums = [rows[plan.entries[a:b]].sum(axis=0) for a, b in zip(plan.entry_ptr, plan.entry_ptr[1:], strict=False)]
        assert np.allclose(drows, sums, atol=1e-5)
        assert np.array_equal(dbias, np.zeros(len(plan.rows) if name == "dcand" else 0))
        total = ops.table_add(np.zeros_like(s.table), ids, **given, device=device)
        assert np.allclose(total[plan.rows], drows, atol=1e-6)


def test_plan_refuses(device: str) -> None:
    bad: list[tuple[Any, Any, type[Exception], str]] = [
        ([5], 5, IndexError, r"ids\[0\]: got 5"),
        ([[0, -2]], 5, IndexError, r"ids\[0, 1\]: got -2"),
        ([2**32], 5, IndexError, r"ids\[0\]: got 4294967296"),
        (np.broadcast_to(np.int32(0), 2**31), 5, ValueError, "number of ids: got 2147483648"),
        ([0], np.array(2.7), TypeError, "n_table: got ndarray, expected an int"),
        ([0.5], 5, TypeError, "integer"),
        ([0], -1, ValueError, "n_table"),
        ([0], 2**31, ValueError, "n_table"),
    ]
    for ids, n_table, error, text in bad:
        with pytest.raises(error, match=text):
            ops.id_plan(ids, n_table, device=device)


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"dx": np.ones((3, 3))}, ValueError, "number of entries: got 3, expected one per id, 4"),
        ({"dx": np.ones((4, 2))}, ValueError, "columns of dx: got 2"),
        ({"dx": np.full((4, 3), np.nan)}, ValueError, r"dx\[0, 0\]"),
        ({"coef": np.ones((2, 2)), "h": np.ones((4, 3))}, ValueError, "shape of coef"),
        ({"coef": np.ones(4), "h": np.ones((4, 3))}, ValueError, r"coef: got shape \(4,\)"),
        ({"coef": np.ones((4, 1)), "h": np.ones((4, 0))}, ValueError, "columns of h: got 0"),
        ({"dx": np.ones((4, 0))}, ValueError, "columns of dx: got 0"),
        ({"dcand": np.ones((4, 0))}, ValueError, "columns of dcand: got 0"),
        ({"coef": np.full((4, 1), "1"), "h": np.ones((4, 3))}, TypeError, "coef: got dtype <U1"),
        ({"coef": np.ones((4, 1), complex), "h": np.ones((4, 3))}, TypeError, "coef: got dtype complex128"),
        ({"coef": np.ones((2, 2))}, ValueError, "shape of coef"),
        ({"dcand": np.ones((4, 3)), "dcand_bias": np.ones(3)}, ValueError, r"shape of dcand_bias: got \(3,\)"),
    ],
)
def test_gradients_refuse(changed: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    plan = ops.id_plan([0, 1, 1, 0], 2, device=device)
    with pytest.raises(error, match=text):
        ops.table_gradient(plan, 3, **changed, device=device)
    with pytest.raises(error, match=text):
        ops.table_add(np.zeros((2, 3), np.float32), [0, 1, 1, 0], **changed, device=device)


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"entries": np.array([0, 3, 1, 10**6], np.int32)}, IndexError, r"plan\.entries\[3\]: got 1000000"),
        ({"entries": np.array([0, 3, 1, -1], np.int32)}, IndexError, r"plan\.entries\[3\]: got -1"),
        ({"entries": np.array([0, 3, 1], np.int32)}, ValueError, r"plan\.entry_ptr: got 0 to 4, expected 0 to 3"),
        ({"entries": np.array([[0, 3, 1, 2]], np.int32)}, ValueError, "shapes of the plan"),
        ({"entries": np.array([0.0, 3.0, 1.0, 2.0])}, TypeError, r"plan\.entries"),
        ({"entry_ptr": np.array([1, 2, 4])}, ValueError, r"plan\.entry_ptr: got 1 to 4"),
        ({"entry_ptr": np.array([0, 6, 4])}, ValueError, r"plan\.entry_ptr\[2\]: got 4"),
        ({"entry_ptr": np.array([0, 2**63 - 1, -2, 4])}, ValueError, r"plan\.entry_ptr\[2\]: got -2"),
        ({"entry_ptr": np.array([0, 4])}, ValueError, "shapes of the plan"),
        ({"entry_ptr": np.array([0.0, 2.0, 4.0])}, TypeError, r"plan\.entry_ptr"),
        ({"rows": np.array([0, 1, 1], np.int32)}, ValueError, "shapes of the plan"),
        ({"n": 3}, IndexError, r"plan\.entries\[1\]: got 3"),
        ({"n": -1}, ValueError, r"plan\.n: got -1"),
    ],
)
def test_damaged_plans_are_refused(changed: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    plan, dx = ops.id_plan([0, 1, 1, 0], 2, device=device), np.ones((4, 3))
    with pytest.raises(error, match=text):
        ops.table_gradient(plan._replace(**changed), 3, dx=dx, device=device)
    with pytest.raises(TypeError, match="plan: got tuple, expected IdPlan"):
        ops.table_gradient(tuple(plan), 3, dx=dx, device=device)


def test_gradients_are_written_into_out(device: str) -> None:
    plan, dx = ops.id_plan([0, 2, 2, 0], 3, device=device), np.arange(12, dtype=np.float32).reshape(4, 3)
    out = np.full((2, 3), np.nan, np.float32)
    drows, _ = ops.table_gradient(plan, 3, dx=dx, out=out, device=device)
    assert drows is out
    assert np.array_equal(out, [dx[0] + dx[3], dx[1] + dx[2]])
    with pytest.raises(ValueError, match="shape of out"):
        ops.table_gradient(plan, 3, dx=dx, out=dx, device=device)
    with pytest.raises(ValueError, match="share memory"):
        ops.table_gradient(plan, 3, dx=dx, out=dx[1:3], device=device)


def test_adding_refuses(device: str) -> None:
    table = np.zeros((2, 3), np.float32)
    with pytest.raises(IndexError, match=r"ids\[0\]"):
        ops.table_add(table, [2], dx=np.ones((1, 3)), device=device)
    with pytest.raises(ValueError, match="length of dbias"):
        ops.table_add(table, [1], dx=np.ones((1, 3)), dbias=np.zeros(3, np.float32), device=device)
    with pytest.raises(ValueError, match="number of ids: got 2147483648"):
        ops.table_add(table, np.broadcast_to(np.int32(0), 2**31), dx=np.ones((1, 3)), device=device)
    memory = np.zeros(12, np.float32)
    whole, bias, one = memory[:6].reshape(2, 3), memory[6:8], np.ones((1, 3), np.float32)
    for given, text in (
        ({"dx": whole[:1]}, "dtable and dx share memory"),
        ({"dcand": one, "dcand_bias": memory[:1]}, "dtable and dcand_bias share memory"),
        ({"coef": memory[:1].reshape(1, 1), "h": one}, "dtable and coef share memory"),
        ({"dx": memory[6:9].reshape(1, 3)}, "dbias and dx share memory"),
        ({"dcand": one, "dcand_bias": bias[:1]}, "dbias and dcand_bias share memory"),
        ({"coef": bias[:1].reshape(1, 1), "h": one}, "dbias and coef share memory"),
        ({"dx": one, "dbias": memory[5:7]}, "dtable and dbias share memory"),
        ({"dx": one, "ids": memory[:1].view(np.int32)}, "dtable and ids share memory"),
    ):
        with pytest.raises(ValueError, match=text):
            ops.table_add(whole, **({"ids": [1], "dbias": bias} | given), device=device)
    with pytest.raises(TypeError, match="float32"):
        ops.table_add(table.astype(np.float64), [1], dx=np.ones((1, 3)), device=device)
