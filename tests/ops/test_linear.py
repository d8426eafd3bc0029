"""csr_gram, spd_invert, slim_solve and ridge_solve against float64, and what they refuse."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_fast import ops
from recsys_fast.ops import Csr
from tests.cases.linear import CASES, SIZES, Case, dense, positive_definite
from tests.conftest import devices

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def rows(weights: Csr) -> Any:
    """Return the weights as a dense float64 array; checks that they are in order and without zeros or diagonal."""
    assert ops.validate_csr(weights)
    return dense(weights)


# ---- csr_gram


@by_case
def test_gram_is_rounded_once(case: Case, device: str) -> None:
    matrix = case.make()
    x = dense(matrix)
    got = ops.csr_gram(matrix, device=device, n_threads=2)
    np.testing.assert_allclose(got, x.T @ x, rtol=1.2e-7, atol=1e-13)
    assert np.array_equal(got, got.T)
    assert np.array_equal(got, ops.csr_gram(matrix, device=device, n_threads=1))


def test_gram_writes_into_out_and_refuses(device: str) -> None:
    matrix = CASES[3].make()
    out = np.full((13, 13), np.nan, np.float32)
    assert ops.csr_gram(matrix, out=out, device=device) is out
    assert np.isfinite(out).all()
    more = ops.csr_gram(matrix, regularization=2.5, device=device)
    assert np.array_equal(more, out + np.float32(2.5) * np.eye(13, dtype=np.float32))
    with pytest.raises(ValueError, match=r"regularization: got -1\.0"):
        ops.csr_gram(matrix, regularization=-1.0, device=device)
    with pytest.raises(ValueError, match="shape of out"):
        ops.csr_gram(matrix, out=out[:5], device=device)
    with pytest.raises(TypeError, match="float32"):
        ops.csr_gram(matrix, out=np.zeros((13, 13)), device=device)
    with pytest.raises(TypeError):
        ops.csr_gram(np.eye(3), device=device)
    memory = np.ones(16, np.float32)
    row = Csr(np.array([0, 4]), np.arange(4, dtype=np.int32), memory[:4], 1, 4)
    with pytest.raises(ValueError, match="share memory"):
        ops.csr_gram(row, out=memory.reshape(4, 4), device=device)
    with pytest.raises(ValueError, match="exceeds float32"):
        ops.csr_gram(sp.csr_array(np.full((2, 2), 1e25, np.float32)), device=device)


# ---- spd_invert


@pytest.mark.parametrize("n", SIZES)
def test_inverse_is_as_exact_as_lapack(n: int, device: str) -> None:
    from scipy.linalg import lapack

    a = positive_definite(n)
    exact = np.linalg.inv(a.astype(np.float64))
    plain = np.tril(lapack.spotri(lapack.spotrf(a, lower=1)[0], lower=1)[0])
    got = a.copy()
    assert ops.spd_invert(got, device=device, n_threads=2) is got
    allowed = 4 * np.abs(plain - np.tril(exact)).max() + 2e-7 * np.abs(exact).max()
    assert np.abs(got - exact).max() <= allowed
    assert np.array_equal(got, got.T)


@pytest.mark.parametrize("n", [17, 449])
def test_inverse_reads_the_lower_triangle_only_whatever_the_threads(n: int, device: str) -> None:
    a = positive_definite(n)
    results = []
    for n_threads in (1, 2, 3):
        given = np.tril(a) + np.triu(np.full((n, n), np.nan, np.float32), 1)
        results.append(ops.spd_invert(np.ascontiguousarray(given, np.float32), device=device, n_threads=n_threads))
    for result in results[1:]:
        assert np.array_equal(results[0], result)
    assert np.isfinite(results[0]).all()


@pytest.mark.parametrize("n", [1, 40, 700])
def test_what_is_not_positive_definite_is_refused(n: int, device: str) -> None:
    negative, singular, not_finite = np.eye(n, dtype=np.float32), np.ones((n, n), np.float32), positive_definite(n)
    negative[n - 1, n - 1] = -1.0
    not_finite[n - 1, 0] = np.nan
    for a in (negative, not_finite, *([singular] if n > 1 else [])):
        with pytest.raises(ValueError, match=r"not positive definite.*regularization"):
            ops.spd_invert(a, device=device)


def test_inverse_refuses_other_arrays(device: str) -> None:
    frozen = np.eye(3, dtype=np.float32)
    frozen.flags.writeable = False
    for a, error in (
        (np.eye(3), TypeError),
        (np.ones((2, 3), np.float32), ValueError),
        (frozen, ValueError),
        (np.asfortranarray(positive_definite(4))[:, :3], ValueError),
    ):
        with pytest.raises(error):
            ops.spd_invert(a, device=device)
    assert ops.spd_invert(np.empty((0, 0), np.float32), device=device).shape == (0, 0)


@pytest.mark.skipif("cpu" not in devices(), reason="LAPACK does not look at signals")
def test_a_signal_stops_the_inverse() -> None:
    a = np.eye(4000, dtype=np.float32)  # its own inverse
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()

    def invert_for_ever() -> None:
        while True:
            ops.spd_invert(a, device="cpu", n_threads=2)

    with pytest.raises(KeyboardInterrupt):
        invert_for_ever()
    timer.join()


@pytest.mark.cuda_emulated
def test_tables_on_the_device_stay_there(emulated_arrays: Any) -> None:
    matrix = CASES[3].make()
    out = emulated_arrays.empty((13, 13), np.float32)
    assert ops.csr_gram(matrix, regularization=3.0, out=out) is out
    a = out.get()
    assert ops.spd_invert(out) is out
    np.testing.assert_allclose(out.get() @ a, np.eye(13), atol=1e-5)
    with pytest.raises(TypeError, match=r"a with device=.cpu.: got an array on the device"):
        ops.spd_invert(out, device="cpu")
    huge = sp.csr_array(np.full((2, 2), 1e25, np.float32))
    with pytest.raises(ValueError, match="exceeds float32"):
        ops.csr_gram(huge, out=emulated_arrays.empty((2, 2), np.float32))


# ---- slim_solve


def gradients(matrix: Csr, weights: Any, l2: float) -> Any:
    """Return x_i . (x_j - x w_j) - l2 w_ij at [j, i]."""
    x = dense(matrix)
    return (x - x @ weights.T).T @ x - l2 * weights


@by_case
@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize(("l1", "l2"), [(0.5, 2.0), (2.0, 0.5), (0.0, 5.0)])
def test_weights_meet_the_optimality_conditions(
    case: Case, nonnegative: bool, l1: float, l2: float, device: str
) -> None:
    matrix = case.make()
    options: dict[str, Any] = {"l1": l1, "l2": l2, "nonnegative": nonnegative, "device": device}
    found, unfinished = ops.slim_solve(matrix, tolerance=1e-6, n_passes=5000, n_threads=2, **options)
    assert unfinished == 0
    w = rows(found)
    assert np.all(w.diagonal() == 0)
    slope = gradients(matrix, w, l2)
    off = ~np.eye(len(w), dtype=bool)
    slack = 1e-4 * (1.0 + float((dense(matrix) ** 2).sum(axis=0).max(initial=0.0)))
    assert np.abs(slope - l1 * np.sign(w))[off & (w != 0)].max(initial=0.0) <= slack
    zero = slope[off & (w == 0)] if nonnegative else np.abs(slope[off & (w == 0)])
    assert zero.max(initial=0.0) <= l1 + slack
    if nonnegative:
        assert (w >= 0).all()
    if device == "cuda":  # which ignores n_threads
        return
    again, _ = ops.slim_solve(matrix, tolerance=1e-6, n_passes=5000, n_threads=1, **options)
    assert np.array_equal(found.col_idx, again.col_idx)
    assert np.array_equal(found.values, again.values)


def test_slim_for_chosen_items_and_with_fewer_weights(device: str) -> None:
    matrix = CASES[7].make()
    options: dict[str, Any] = {"l1": 0.5, "l2": 1.0, "device": device}
    w = rows(ops.slim_solve(matrix, **options)[0])
    items = np.array([7, 3, 149, 3])
    assert np.array_equal(rows(ops.slim_solve(matrix, items, **options)[0]), w[items])
    few, _ = ops.slim_solve(matrix, k=4, **options)
    assert np.diff(few.row_ptr).max() == 4
    for row, kept in enumerate(rows(few)):
        best = np.argsort(-np.abs(w[row]), kind="stable")[:4]
        best = best[w[row][best] != 0]
        assert np.array_equal(np.flatnonzero(kept), np.sort(best))
        assert np.array_equal(kept[best], w[row][best])
    _, unfinished = ops.slim_solve(matrix, n_passes=1, tolerance=0.0, **options)
    assert unfinished > 100


# ---- ridge_solve


@by_case
@pytest.mark.parametrize("k", [1, 3, 10, 10_000])
def test_regressions_are_exact_on_the_chosen_items(case: Case, k: int, device: str) -> None:
    matrix, penalty = case.make(), 3.0
    x = dense(matrix)
    gram = x.T @ x
    found = ops.ridge_solve(matrix, regularization=penalty, k=k, device=device, n_threads=2)
    w = rows(found)
    if device != "cuda":  # which ignores n_threads
        again = ops.ridge_solve(matrix, regularization=penalty, k=k, device=device, n_threads=1)
        assert np.array_equal(found.values, again.values)
    for j in range(matrix.n_cols):
        chosen = found.col_idx[found.row_ptr[j] : found.row_ptr[j + 1]]
        others = np.delete(np.arange(matrix.n_cols), j)
        if k >= matrix.n_cols - 1:
            assert np.array_equal(chosen, others)
        else:
            keys = gram[j] / np.sqrt(gram.diagonal() + penalty)
            shared = others[(np.abs(x[:, others]) * np.abs(x[:, [j]])).sum(axis=0) > 0]
            assert len(chosen) == min(k, len(shared))
            left_out = np.setdiff1d(shared, chosen)
            assert keys[chosen].min(initial=np.inf) >= keys[left_out].max(initial=-np.inf) - 1e-5
        exact = np.linalg.solve(gram[np.ix_(chosen, chosen)] + penalty * np.eye(len(chosen)), gram[chosen, j])
        np.testing.assert_allclose(w[j, chosen], exact, atol=2e-5 * max(1.0, np.abs(exact).max(initial=0.0)))


def test_all_items_give_the_closed_form(device: str) -> None:
    matrix = CASES[7].make()
    inverse = np.linalg.inv(ops.csr_gram(matrix).astype(np.float64) + 5.0 * np.eye(150))
    exact = -inverse / inverse.diagonal()
    np.fill_diagonal(exact, 0.0)
    w = rows(ops.ridge_solve(matrix, regularization=5.0, k=149, device=device))
    np.testing.assert_allclose(w.T, exact, atol=2e-5)


def test_bad_arguments_are_refused(device: str) -> None:
    matrix = CASES[3].make()
    with pytest.raises(ValueError, match="l1"):
        ops.slim_solve(matrix, l1=-1.0, l2=1.0, device=device)
    with pytest.raises(ValueError, match="l2"):
        ops.slim_solve(matrix, l1=1.0, l2=np.nan, device=device)
    with pytest.raises(ValueError, match="n_passes"):
        ops.slim_solve(matrix, l1=1.0, l2=1.0, n_passes=0, device=device)
    with pytest.raises(ValueError, match="k"):
        ops.ridge_solve(matrix, regularization=1.0, k=0, device=device)
    with pytest.raises(ValueError, match="regularization"):
        ops.ridge_solve(matrix, regularization=-1.0, k=3, device=device)
    with pytest.raises(IndexError, match=r"items\[0\]: got 13, expected 0 <= id < 13"):
        ops.ridge_solve(matrix, [13], regularization=1.0, k=3, device=device)
    with pytest.raises(TypeError, match="integer"):
        ops.slim_solve(matrix, [0.5], l1=1.0, l2=1.0, device=device)
    same = sp.csr_array(np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"4 items.*Raise the regularization"):
        ops.ridge_solve(same, regularization=0.0, k=3, device=device)
