"""Steps of the optimizers against the formulas in float64 and against torch, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast import ops
from tests.cases.table import adapt

FORMS: list[dict[str, Any]] = [
    {"kind": "sgd", "beta1": 0.0},
    {"kind": "sgd", "beta1": 0.9, "weight_decay": 0.01},
    {"kind": "sgd", "beta1": 0.5, "weight_decay": 0.01, "decoupled": True},
    {"kind": "adagrad", "beta1": 0.0},
    {"kind": "adagrad", "beta1": 0.3, "weight_decay": 0.01},
    {"kind": "adagrad_root", "beta1": 0.0, "eps": 1e-6},
    {"kind": "adagrad_root", "beta1": 0.3, "eps": 1e-6},
    {"kind": "adam"},
    {"kind": "adam", "weight_decay": 0.01, "grad_scale": 0.3},
    {"kind": "adam", "weight_decay": 0.1, "decoupled": True},
]
DEFAULTS: dict[str, Any] = {
    "lr": 0.05, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "decoupled": False, "grad_scale": 1.0,
}  # fmt: skip
by_form = pytest.mark.parametrize("form", FORMS, ids=lambda f: " ".join(f"{k}={v}" for k, v in f.items()))


def close(got: np.ndarray, exact: np.ndarray, plain: np.ndarray) -> bool:
    return bool(np.abs(got - exact).max(initial=0.0) <= 4 * np.abs(plain - exact).max(initial=0.0) + 2e-7)


@by_form
@pytest.mark.parametrize("n", [0, 1, 37, 40_003])
def test_steps_are_the_formulas(form: dict[str, Any], n: int, device: str) -> None:
    rng, given = np.random.default_rng(n), DEFAULTS | form
    start = rng.standard_normal(n)
    exact, plain = (
        [start.astype(np.float32).astype(dtype), np.zeros(n, dtype), np.zeros(n, dtype)]
        for dtype in (np.float64, np.float32)
    )
    threads = 1, 2, 3, 7
    got = [[start.astype(np.float32), np.zeros(n, np.float32), np.zeros(n, np.float32)] for _ in threads]
    for step in (1, 2, 3):
        grad = rng.standard_normal(n).astype(np.float32)
        rest = {name: value for name, value in given.items() if name != "kind"}
        for state in (exact, plain):
            adapt(state[0], grad.astype(state[0].dtype), *state[1:], given["kind"], step, **rest)
        for n_threads, state in zip(threads, got, strict=True):
            ops.optimizer_step(state[0], grad, *state[1:], **given, step=step, device=device, n_threads=n_threads)
    assert close(got[0][0], exact[0], plain[0])
    for other in got[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(got[0], other, strict=True))


@by_form
@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize(("n", "d"), [(40, 1), (3, 7), (50, 50), (900, 64)])
def test_row_steps_are_the_formulas(form: dict[str, Any], lazy: bool, n: int, d: int, device: str) -> None:
    rng, given = np.random.default_rng([n, d]), DEFAULTS | form
    start = rng.standard_normal((n, d)).astype(np.float32)
    exact, plain = (
        [start.astype(dtype), np.zeros((n, d), dtype), np.zeros((n, d), dtype)] for dtype in (np.float64, np.float32)
    )
    threads = 1, 2, 3, 7
    got = [[start.copy(), np.zeros((n, d), np.float32), np.zeros((n, d), np.float32)] for _ in threads]
    for step in (1, 2, 3):
        rows = np.flatnonzero(rng.random(n) < 0.3).astype(np.int32)
        drows = rng.standard_normal((len(rows), d)).astype(np.float32)
        rest = {name: value for name, value in given.items() if name != "kind"}
        for state in (exact, plain):
            dense = np.zeros((n, d), state[0].dtype)
            dense[rows] = drows
            moved = rows if lazy else np.arange(n)
            pieces = [array[moved] for array in state]
            adapt(pieces[0], dense[moved], *pieces[1:], given["kind"], step, **rest)
            for array, piece in zip(state, pieces, strict=True):
                array[moved] = piece
        for n_threads, state in zip(threads, got, strict=True):
            ops.optimizer_step_rows(
                state[0], rows, drows, *state[1:], lazy=lazy, **given, step=step, device=device, n_threads=n_threads
            )
    assert close(got[0][0], exact[0], plain[0])
    for other in got[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(got[0], other, strict=True))


def test_all_rows_move_as_a_flat_step_does(device: str) -> None:
    rng = np.random.default_rng(0)
    table, drows = rng.standard_normal((2, 30, 10)).astype(np.float32)
    rows = np.arange(0, 30, 3, dtype=np.int32)
    dense = np.zeros_like(table)
    dense[rows] = drows[: len(rows)]
    flat, m, v = table.reshape(-1).copy(), *np.zeros((2, 300), np.float32)
    by_row, m_rows, v_rows = table.copy(), *np.zeros((2, 30, 10), np.float32)
    for step in (1, 2):
        ops.optimizer_step(flat, dense.reshape(-1), m, v, step=step, device=device)
        ops.optimizer_step_rows(
            by_row, rows, drows[: len(rows)], m_rows, v_rows, lazy=False, step=step, device=device
        )  # fmt: skip
    assert np.array_equal(flat, by_row.reshape(-1))


@pytest.mark.parametrize("form", ["adam", "adam decay", "adamw", "sgd", "adagrad"])
def test_steps_are_torchs(form: str, device: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    param = rng.standard_normal(300).astype(np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(param.copy()))
    optimizer, given = {
        "adam": (torch.optim.Adam([theirs], lr=0.01), {"kind": "adam"}),
        "adam decay": (torch.optim.Adam([theirs], lr=0.01, weight_decay=0.1), {"kind": "adam", "weight_decay": 0.1}),
        "adamw": (
            torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1),
            {"kind": "adam", "weight_decay": 0.1, "decoupled": True},
        ),
        "sgd": (torch.optim.SGD([theirs], lr=0.01, momentum=0.9), {"kind": "sgd"}),
        "adagrad": (torch.optim.Adagrad([theirs], lr=0.01), {"kind": "adagrad", "beta1": 0.0, "eps": 1e-10}),
    }[form]
    m, v = np.zeros((2, 300), np.float32)
    for step in range(1, 20):
        grad = rng.standard_normal(300).astype(np.float32)
        theirs.grad = torch.from_numpy(grad.copy())
        optimizer.step()
        ops.optimizer_step(param, grad, m, v, lr=0.01, **given, step=step, device=device)
    assert np.abs(param - theirs.detach().numpy()).max() < 2e-6


@pytest.mark.parametrize("n", [0, 1, 15, 1000, 16_384, 100_003])
def test_square_sums(n: int, device: str) -> None:
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32) * 3
    exact = float(np.sum(x.astype(np.float64) ** 2))
    found = {ops.square_sum(x, device=device, n_threads=n_threads) for n_threads in (1, 2, 3, 7)}
    assert len(found) == 1
    assert found.pop() == pytest.approx(exact, rel=2e-7)


def test_sums_of_squares_beyond_float32(device: str) -> None:
    x = np.ones(40_000, np.float32)
    x[[5, 20_000]] = [3e38, -2e19]
    assert ops.square_sum(x, device=device) == pytest.approx(float(np.sum(x.astype(np.float64) ** 2)), rel=1e-12)


def test_sgd_divides_by_no_eps(device: str) -> None:
    param = ops.optimizer_step(
        np.ones(3, np.float32), np.ones(3), kind="sgd", beta1=0.0, eps=0.0, lr=1.0, device=device
    )
    assert not param.any()


BOTH = np.zeros((1, 3), np.float32)


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"kind": "lion"}, ValueError, "one of sgd"),
        ({"param": np.ones(3)}, TypeError, "float32"),
        ({"grad": np.ones(2)}, ValueError, "shape of grad"),
        ({"grad": np.ones((1, 3))}, ValueError, "shape of grad"),
        ({"grad": [1.0, np.inf, 0.0]}, ValueError, r"grad\[0, 1\]"),
        ({"m": None}, ValueError, "m of adam"),
        ({"v": np.ones(2, np.float32)}, ValueError, "shape of v"),
        ({"beta1": 1.0}, ValueError, "beta1"),
        ({"lr": -1.0}, ValueError, "lr"),
        ({"lr": 1e39}, ValueError, r"lr: got 1e\+39, expected a finite float32"),
        ({"lr": "1e-3"}, TypeError, "lr: got str"),
        ({"weight_decay": np.inf}, ValueError, "weight_decay"),
        ({"grad_scale": None}, TypeError, "grad_scale"),
        ({"eps": np.nan}, ValueError, "eps"),
        ({"eps": 0.0}, ValueError, "eps: got 0.0, expected a finite number above 0 in float32"),
        ({"eps": 1e-46, "kind": "adagrad"}, ValueError, "eps: got 1e-46"),
        ({"step": np.array(1.5)}, TypeError, "step: got ndarray"),
        ({"m": BOTH[0], "v": BOTH[0]}, ValueError, "m and v share memory"),
        ({"param": BOTH[0], "m": BOTH[0]}, ValueError, "m and param share memory"),
        ({"param": BOTH[0], "v": BOTH[0]}, ValueError, "v and param share memory"),
        ({"grad": BOTH[0], "v": BOTH[0]}, ValueError, "v and grad share memory"),
        ({"param": BOTH[0], "grad": BOTH[0]}, ValueError, "param and grad share memory"),
        ({"step": 0}, ValueError, "step"),
    ],
)
def test_steps_refuse(changed: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    given: dict[str, Any] = {"param": np.ones(3, np.float32), "grad": np.ones(3)}
    given |= {"m": np.zeros(3, np.float32), "v": np.zeros(3, np.float32)}
    with pytest.raises(error, match=text):
        ops.optimizer_step(**(given | changed), device=device)


BOTH_ROWS = np.zeros((4, 2), np.float32)


def test_row_steps_refuse(device: str) -> None:
    table = np.ones((4, 2), np.float32)
    for rows, drows, error, text in (
        ([1, 1], np.ones((2, 2)), ValueError, "strictly ascending"),
        ([2, 1], np.ones((2, 2)), ValueError, "strictly ascending"),
        ([-1, 1], np.ones((2, 2)), IndexError, r"rows\[0\]: got -1, expected 0 <= id < 4"),
        ([4], np.ones((1, 2)), IndexError, r"rows\[0\]: got 4"),
        ([1], np.ones((2, 2)), ValueError, "shape of drows"),
        ([1], np.ones((1, 3)), ValueError, "shape of drows"),
        ([1], table[:1], ValueError, "share memory"),
    ):
        with pytest.raises(error, match=text):
            ops.optimizer_step_rows(table, rows, drows, kind="sgd", beta1=0.0, device=device)
    for moments, text in (
        ((table, np.zeros_like(table)), "m and table share memory"),
        ((np.zeros_like(table), table), "v and table share memory"),
        ((BOTH_ROWS, BOTH_ROWS), "m and v share memory"),
    ):
        with pytest.raises(ValueError, match=text):
            ops.optimizer_step_rows(table, [1], np.ones((1, 2)), *moments, device=device)
