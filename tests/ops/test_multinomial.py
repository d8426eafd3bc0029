"""The multinomial likelihood of sparse rows, and latent normal variables, against formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_fast import backend, ops
from recsys_fast.errors import NotSupportedError
from tests.cases.autoencoders import CASES, Case, multinomial
from tests.ops.test_csr_dense import error
from tests.ops.test_losses import distance, needs_bfloat16, on_cuda

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
by_modest_case = pytest.mark.parametrize(
    "case", CASES[1:], ids=lambda case: case.name
)  # of one item every error is relative to 0


def run(case: Case, device: str, **options: Any) -> tuple[Any, ...]:
    p = case.make()
    bias = p["bias"] if case.bias else None
    return tuple(ops.multinomial_loss(p["h"], p["table"], case.csr(), bias=bias, scale=0.5, device=device, **options))


@by_case
def test_is_as_exact_as_plain_float32(case: Case, device: str) -> None:
    exact, plain = multinomial(case.make(np.float64), 0.5), multinomial(case.make(np.float32), 0.5)
    for got, e, p in zip(run(case, device), exact, plain, strict=True):
        assert error(got, e) <= 4 * error(p, e) + 2e-6


@by_case
def test_bits_do_not_depend_on_threads(case: Case, device: str) -> None:
    one = run(case, device, n_threads=1)
    for n_threads in (2, 5):
        assert all(np.array_equal(a, b) for a, b in zip(one, run(case, device, n_threads=n_threads), strict=True))


@pytest.mark.parametrize(("n", "d"), [(300, 20), (700, 264)])
def test_one_target_is_softmax_loss(n: int, d: int, device: str) -> None:
    """Wide rows are done in larger blocks than narrow ones."""
    rng = np.random.default_rng(0)
    h, table = rng.standard_normal((n, d)).astype(np.float32) / 8, rng.standard_normal((60, d)).astype(np.float32)
    targets, weights = rng.integers(0, 60, n), rng.random(n).astype(np.float32)
    rows = ops.Csr(np.arange(n + 1), targets.astype(np.int32), weights, n, 60)
    one = ops.softmax_loss(h, table, targets, weights=weights, device=device)
    several = ops.multinomial_loss(h, table, rows, device=device)
    assert several.loss == pytest.approx(one.loss, rel=1e-6)
    assert error(several.dh, one.dh) < 1e-6
    assert error(several.drows, one.drows) < 1e-6


def test_gradients_are_finite_differences() -> None:
    p, numba = Case("", 20, 30, 6, most=7).make(np.float64), backend.get("numba")
    out = {name: np.empty_like(p[name]) for name in ("h", "table", "bias")}

    def loss() -> float:
        args = (p["h"], p["table"], p["bias"], p["row_ptr"], p["col_idx"], p["values"])
        return float(numba.multinomial_loss(*out.values(), *args, 1.0, 0, 2))

    loss()
    for name, gradient in {name: array.copy() for name, array in out.items()}.items():
        x = p[name]
        for at in np.random.default_rng(1).permutation(x.size)[:15]:
            before, values = x.flat[at], []
            for step in (1e-6, -1e-6):
                x.flat[at] = before + step
                values.append(loss())
            x.flat[at] = before
            assert gradient.flat[at] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-6)


@by_modest_case
def test_bfloat16_errors_are_as_documented(case: Case, device: str) -> None:
    needs_bfloat16(device)
    exact, got = multinomial(case.make(np.float64), 0.5), run(case, device, compute="bfloat16")
    assert abs(got[0] - exact[0]) <= 3e-3 * abs(exact[0]) + 1e-6
    for g, e in zip(got[1:], exact[1:], strict=True):
        assert distance(g, e) <= 1e-2


@on_cuda
@by_modest_case
def test_bfloat16_on_cuda_is_that_of_the_cpu(case: Case, device: str) -> None:
    needs_bfloat16("cpu")
    here, there = (run(case, name, compute="bfloat16") for name in ("cpu", device))
    assert there[0] == pytest.approx(here[0], rel=1e-5, abs=1e-6)
    for got, want in zip(there[1:], here[1:], strict=True):
        assert distance(got, want) <= 5e-3


def test_rows_without_targets_cost_nothing_and_scores_may_be_huge(device: str) -> None:
    h, table = np.array([[3000.0], [1e30], [-2000.0]], np.float32), np.array([[-1.0], [0.5], [1.0]], np.float32)
    x = sp.csr_array(np.array([[1, 0, 2], [0, 0, 0], [0, 3, 0]], np.float32))
    loss, dh, drows, _ = ops.multinomial_loss(h, table, x, device=device)
    assert loss == pytest.approx(1 * 6000 + 3 * 3000, rel=1e-6)
    assert np.allclose(dh[:, 0], [2.0, 0.0, -4.5])
    assert np.allclose(drows[:, 0], [-3000 - 6000, 6000, 3000])


def test_bad_input_is_refused(device: str) -> None:
    h, table = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match="shape of targets"):
        ops.multinomial_loss(h, table, sp.csr_array((2, 5)), device=device)
    with pytest.raises(ValueError, match="0 or more"):
        ops.multinomial_loss(h, table, sp.csr_array(-np.eye(2, 4)), device=device)
    with pytest.raises(ValueError, match="finite"):
        ops.multinomial_loss(h * np.inf, table, sp.csr_array((2, 4)), device=device)
    with pytest.raises(ValueError, match="shapes of h and table"):
        ops.multinomial_loss(h, table[:, :2], sp.csr_array((2, 4)), device=device)
    if device == "numba":
        with pytest.raises(NotSupportedError, match="float32"):
            ops.multinomial_loss(h, table, sp.csr_array((2, 4)), compute="bfloat16", device=device)


# ---- latent normal variables


def test_samples_are_normal_and_the_same_everywhere(device: str) -> None:
    mu, v = np.full((400, 25), 3.0, np.float32), np.full((400, 25), 2 * np.log(0.5), np.float32)
    stats = np.c_[mu, v]
    z, divergence = ops.gaussian_forward(stats, seed=5, step=3, site=16, device=device)
    noise = (z - 3.0) / 0.5
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1.0) < 0.03
    assert abs((noise**4).mean() - 3.0) < 0.25
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.03
    assert divergence == pytest.approx(0.5 * z.size * (0.25 + 9.0 - 1.0 - 2 * np.log(0.5)), rel=1e-5)
    for n_threads in (1, 3):
        again = ops.gaussian_forward(stats, seed=5, step=3, site=16, device=device, n_threads=n_threads)
        assert np.array_equal(z, again[0])
        assert divergence == again[1]
    assert np.allclose(z, ops.gaussian_forward(stats, seed=5, step=3, site=16, device="numba")[0], atol=1e-6)
    assert not np.allclose(z, ops.gaussian_forward(stats, seed=5, step=4, site=16, device=device)[0], atol=0.1)
    assert np.array_equal(ops.gaussian_forward(stats, noise=False, device=device)[0], mu)


def test_latent_gradients_are_finite_differences(device: str) -> None:
    numba, rng = backend.get("numba"), np.random.default_rng(0)
    stats, dz, z = rng.normal(0, 1, (7, 10)), rng.normal(0, 1, (7, 5)), np.empty((7, 5))
    key = True, 5, 3, 16

    def loss() -> float:
        divergence = numba.gaussian_forward(z, stats, *key, 1)
        return float((z * dz).sum()) + 0.3 * divergence

    gradient = np.empty_like(stats)
    numba.gaussian_backward(gradient, dz, stats, 0.3, *key, 1)
    for at in range(stats.size):
        before, values = stats.flat[at], []
        for step in (1e-6, -1e-6):
            stats.flat[at] = before + step
            values.append(loss())
        stats.flat[at] = before
        assert gradient.flat[at] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-7)
    got = ops.gaussian_backward(dz, stats, kl_weight=0.3, seed=5, step=3, site=16, device=device)
    assert np.allclose(got, gradient, rtol=1e-5, atol=1e-5)


def test_a_divergence_that_explodes_is_infinite(device: str) -> None:
    assert ops.gaussian_forward(np.array([[0.0, 800.0]], np.float32), device=device)[1] == np.inf


def test_latent_input_is_checked(device: str) -> None:
    with pytest.raises(ValueError, match="even"):
        ops.gaussian_forward(np.ones((2, 3)), device=device)
    with pytest.raises(ValueError, match="shape of dz"):
        ops.gaussian_backward(np.ones((2, 2)), np.ones((2, 2)), device=device)
    with pytest.raises(ValueError, match="finite"):
        ops.gaussian_forward(np.array([[0.0, np.nan]]), device=device)
