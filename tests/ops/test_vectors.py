"""Unit rows, maxima of sequences, mixtures: against NumPy in float64, finite differences, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recsys_fast import backend, ops

SHAPES = [(0, 3), (1, 1), (7, 5), (40, 33), (300, 64)]
LENGTHS = [[0, 3, 1, 0, 4, 0], [], [0, 0], [40, 1, 7] * 9]
MIXTURES = [(0, 2, 3), (9, 3, 4), (50, 1, 33), (70, 40, 5)]


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng([*shape]).standard_normal(shape).astype(np.float32)


def cuts(lengths: list[int]) -> np.ndarray:
    return np.cumsum([0, *lengths], dtype=np.int64)


@pytest.mark.parametrize("shape", SHAPES)
def test_unit_rows(shape: tuple[int, int], device: str) -> None:
    x = numbers(*shape)
    x[::5] = 0.0
    y, scale = ops.unit_rows_forward(x, device=device)
    exact = x.astype(np.float64)
    lengths = np.sqrt((exact**2).sum(1))
    wanted = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    np.testing.assert_allclose(scale, wanted, rtol=1e-6)
    np.testing.assert_allclose(y, exact * wanted[:, None], rtol=1e-6, atol=1e-7)
    dy = numbers(*shape)[::-1]
    dx = ops.unit_rows_backward(dy, y, scale, device=device)
    unit = exact * wanted[:, None]
    slope = (dy - unit * (dy * unit).sum(1, keepdims=True)) * wanted[:, None]
    np.testing.assert_allclose(dx, slope, rtol=1e-5, atol=1e-5)
    assert not dx[::5].any()


@pytest.mark.parametrize("lengths", LENGTHS, ids=lambda one: str(one[:6]))
@pytest.mark.parametrize("d", [1, 5, 40])
def test_maxima_of_sequences(lengths: list[int], d: int, device: str) -> None:
    row_ptr = cuts(lengths)
    x = np.round(numbers(int(row_ptr[-1]), d), 1)  # some are equal
    y, places = ops.sequence_max_forward(x, row_ptr, device=device)
    rows = np.split(x, row_ptr[1:-1]) if lengths else []
    assert y.shape == places.shape == (len(lengths), d)
    assert places.dtype == np.int32
    for got, where, own in zip(y, places, rows, strict=True):
        np.testing.assert_array_equal(got, own.max(0) if len(own) else np.zeros(d))
        np.testing.assert_array_equal(where, own.argmax(0) if len(own) else np.zeros(d))
    dy = numbers(len(lengths), d)
    dx = ops.sequence_max_backward(dy, places, row_ptr, device=device)
    wanted = np.zeros_like(x)
    for s, own in enumerate(rows):
        if len(own):
            wanted[row_ptr[s] + places[s], np.arange(d)] = dy[s]
    np.testing.assert_array_equal(dx, wanted)


def mixed(v: Any, scores: Any, bias: Any, present: Any) -> tuple[Any, Any]:
    """Return y and w in float64."""
    a = np.where(present, scores.astype(np.float64) + bias, -np.inf)
    e = np.exp(a - np.where(present.any(1), a.max(1, initial=-np.inf), 0.0)[:, None])
    w = e / np.maximum(e.sum(1, keepdims=True), 1e-300)
    return (w[:, :, None] * v).sum(1), w


@pytest.mark.parametrize("shape", MIXTURES)
@pytest.mark.parametrize("whole", [False, True])
def test_mixtures(shape: tuple[int, int, int], whole: bool, device: str) -> None:
    n, k, d = shape
    v, scores, bias, dy = numbers(*shape), 20 * numbers(n, k), numbers(k), numbers(n, d)
    present = np.random.default_rng(n).random((n, k)) < (2.0 if whole else 0.5)
    given = (None, None) if whole else (bias, present)
    y, w = ops.mixture_forward(v, scores, *given, device=device)
    wanted, weights = mixed(v, scores, 0.0 if whole else bias, present)
    np.testing.assert_allclose(w, weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)
    assert not y[~present.any(1)].any()
    dv, dscores = ops.mixture_backward(dy, v, w, device=device)
    np.testing.assert_allclose(dv, weights[:, :, None] * dy[:, None], rtol=1e-4, atol=1e-5)
    slope = (v.astype(np.float64) * dy[:, None]).sum(2)
    mean = (weights * slope).sum(1, keepdims=True)
    np.testing.assert_allclose(dscores, weights * (slope - mean), rtol=1e-4, atol=2e-5)


def test_gradients_of_a_mixture_are_finite_differences() -> None:
    numba, (n, k, d) = backend.get("numba"), (4, 3, 5)
    rng = np.random.default_rng(0)
    v, scores, bias, dy = (rng.standard_normal(shape) for shape in ((n * k, d), (n, k), (k,), (n, d)))
    present = np.array([1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0], np.uint8)
    y, w, dv, dscores = np.empty((n, d)), np.empty((n, k)), np.empty((n * k, d)), np.empty((n, k))

    def loss() -> float:
        numba.mixture_forward(y, w, v, scores, bias, present, 1)
        return float((y * dy).sum())

    loss()
    numba.mixture_backward(dv, dscores, dy, v, w, 1)
    for x, gradient in ((v, dv), (scores, dscores), (bias, dscores.sum(0))):
        for at in range(x.size):
            before, sides = x.flat[at], []
            for moved in (before + 1e-6, before - 1e-6):
                x.flat[at] = moved
                sides.append(loss())
            x.flat[at] = before
            assert gradient.flat[at] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-6, abs=1e-8)


X, PTR, V, S = numbers(9, 4), cuts([2, 0, 7]), numbers(6, 3, 4), numbers(6, 3)
CALLS: dict[str, Callable[..., Any]] = {
    "unit forward": lambda put, **how: ops.unit_rows_forward(put(X), **how),
    "unit backward": lambda put, **how: (ops.unit_rows_backward(put(X), put(X), put(X[:, 0].copy()), **how),),
    "max forward": lambda put, **how: ops.sequence_max_forward(put(X), PTR, **how),
    "max backward": lambda put, **how: (
        ops.sequence_max_backward(put(X[:3]), put(np.zeros((3, 4), np.int32)), PTR, **how),
    ),
    "mixture forward": lambda put, **how: ops.mixture_forward(put(V), put(S), put(S[0]), put(S > 0), **how),
    "mixture backward": lambda put, **how: ops.mixture_backward(put(X[:6]), put(V), put(S), **how),
}
by_call = pytest.mark.parametrize("name", CALLS)


def test_bits_do_not_depend_on_threads(device: str) -> None:
    x, v, scores, row_ptr = numbers(3000, 30), numbers(900, 5, 40), numbers(900, 5), cuts([5] * 600)
    found = []
    for n_threads in (1, 4):
        how: dict[str, Any] = {"device": device, "n_threads": n_threads}
        unit, best = ops.unit_rows_forward(x, **how), ops.sequence_max_forward(x, row_ptr, **how)
        mixture = ops.mixture_forward(v, scores, **how)
        backward = ops.unit_rows_backward(x, *unit, **how), ops.sequence_max_backward(*best, row_ptr, **how)
        found.append([*unit, *best, *mixture, *backward, *ops.mixture_backward(mixture[0], v, mixture[1], **how)])
    assert all(np.array_equal(one, four) for one, four in zip(*found, strict=True))


@pytest.mark.cuda_emulated
@by_call
def test_arrays_on_the_device_stay_there(name: str, emulated_arrays: Any) -> None:
    for want, got in zip(CALLS[name](np.asarray), CALLS[name](emulated_arrays.asarray), strict=True):
        assert emulated_arrays.is_array(got)
        np.testing.assert_allclose(got.get(), want, rtol=1e-5, atol=1e-6)
        assert got.dtype == want.dtype


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda d: ops.unit_rows_forward(X[:, :0], device=d), ValueError, "columns of x"),
        (lambda d: ops.unit_rows_forward(X * np.nan, device=d), ValueError, "finite"),
        (lambda d: ops.unit_rows_forward(X.astype(str), device=d), TypeError, "dtype"),
        (lambda d: ops.unit_rows_backward(X[1:], X, X[:, 0], device=d), ValueError, "shape of dy"),
        (lambda d: ops.unit_rows_backward(X, X, X[:3, 0], device=d), ValueError, "shape of scale"),
        (lambda d: ops.sequence_max_forward(X, [0, 4], device=d), ValueError, "row_ptr: got 0 to 4, expected 0 to 9"),
        (lambda d: ops.sequence_max_forward(X, [0, 6, 4, 9], device=d), ValueError, r"row_ptr\[2\]: got 4"),
        (lambda d: ops.sequence_max_forward(X, [0.0, 9.0], device=d), TypeError, "integer"),
        (lambda d: ops.sequence_max_backward(X[:2], S[:2], PTR, device=d), ValueError, "a row for each sequence"),
        (
            lambda d: ops.sequence_max_backward(X[:3], np.full((3, 4), 2), PTR, device=d),
            IndexError,
            r"places\[0, 0\]: got 2, expected below 2, the sequence's rows",
        ),
        (lambda d: ops.sequence_max_backward(X[:3], X[:3], PTR, device=d), TypeError, "integer"),
        (lambda d: ops.mixture_forward(X, S, device=d), ValueError, "shape of v"),
        (lambda d: ops.mixture_forward(V, S.T, device=d), ValueError, "shape of scores"),
        (lambda d: ops.mixture_forward(V, S, [1.0], device=d), ValueError, "shape of bias"),
        (lambda d: ops.mixture_forward(V, S, present=S, device=d), TypeError, "dtype of present: got float32"),
        (lambda d: ops.mixture_forward(V, S, present=S[1:] > 0, device=d), ValueError, "shape of present"),
        (lambda d: ops.mixture_backward(X, V, S, device=d), ValueError, "shape of dy"),
        (lambda d: ops.mixture_backward(X[:6], V, S * np.inf, device=d), ValueError, "finite"),
    ],
)
def test_refuses(call: Callable[[str], Any], error: type[Exception], text: str, device: str) -> None:
    with np.errstate(invalid="ignore"), pytest.raises(error, match=text):
        call(device)
