"""gram, gram_eigen and rows_rotate against float64, their promises, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_fast import ops
from tests.cases.gram import CASES, Case

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def relative(error: NDArray[Any], size: NDArray[Any]) -> float:
    """Return the largest error relative to the largest entry, 0 where both are 0."""
    largest = float(np.abs(error).max(initial=0.0))
    return largest / float(np.abs(size).max()) if largest else 0.0


@by_case
def test_gram_is_as_exact_as_plain_float32(case: Case, device: str) -> None:
    y = case.make()
    exact = y.astype(np.float64).T @ y
    plain = np.zeros(exact.shape, np.float32)
    for row in y:
        plain += np.outer(row, row)
    got = ops.gram(y, device=device)
    assert relative(got - exact, exact) <= 4 * relative(plain - exact, exact) + 1e-7
    assert np.array_equal(got, got.T)


@by_case
def test_results_do_not_depend_on_threads(case: Case, device: str) -> None:
    y = case.make()
    gram = ops.gram(y, device=device, n_threads=1)
    vectors, values = ops.gram_eigen(gram, device=device, n_threads=1)
    rotated = ops.rows_rotate(y.copy(), vectors, device=device, n_threads=1)
    for n_threads in (2, 3):
        assert np.array_equal(gram, ops.gram(y, device=device, n_threads=n_threads))
        again = ops.gram_eigen(gram, device=device, n_threads=n_threads)
        assert np.array_equal(vectors, again[0])
        assert np.array_equal(values, again[1])
        assert np.array_equal(rotated, ops.rows_rotate(y.copy(), vectors, device=device, n_threads=n_threads))


@by_case
def test_eigenpairs_rebuild_the_matrix(case: Case, device: str) -> None:
    gram = ops.gram(case.make(), device=device)
    before = gram.copy()
    vectors, values = ops.gram_eigen(gram, device=device)
    assert np.array_equal(gram, before)
    wide = vectors.astype(np.float64)
    assert np.abs(wide.T @ wide - np.eye(case.d)).max() < 1e-6
    assert relative((wide * values) @ wide.T - gram, gram) < 1e-6
    expected = np.linalg.eigvalsh(gram.astype(np.float64))[::-1]
    assert np.abs(values - expected).max() <= 1e-6 * abs(expected[0])


@by_case
def test_eigenpairs_have_a_fixed_order_and_sign(case: Case, device: str) -> None:
    vectors, values = ops.gram_eigen(ops.gram(case.make(), device=device), device=device)
    assert (np.diff(values) <= 0).all()
    assert (values >= 0).all()
    largest = np.abs(vectors).max(axis=0)
    assert np.array_equal(largest, vectors.max(axis=0)), "the component of largest magnitude must be positive"


@by_case
def test_rotation_into_the_eigenbasis_diagonalises(case: Case, device: str) -> None:
    y = case.make()
    vectors, values = ops.gram_eigen(ops.gram(y, device=device), device=device)
    exact = y.astype(np.float64) @ vectors
    rotated = y.copy()
    assert ops.rows_rotate(rotated, vectors, device=device) is rotated
    assert relative(rotated - exact, exact) < 1e-6
    assert relative(ops.gram(rotated, device=device) - np.diag(values), np.diag(values)) < 2e-6


def test_gram_of_diagonal_matrix_keeps_its_axes(device: str) -> None:
    vectors, values = ops.gram_eigen(np.diag([2.0, 5.0, 3.0]), device=device)
    assert np.allclose(values, [5, 3, 2], rtol=1e-6)
    assert np.allclose(vectors, [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-6)


def test_gram_writes_into_out(device: str) -> None:
    y = np.arange(12, dtype=np.float32).reshape(4, 3)
    out = np.full((3, 3), 7, np.float32)
    assert ops.gram(y, out=out, device=device) is out
    assert np.array_equal(out, y.T @ y)


def test_gram_converts_what_is_not_float32(device: str) -> None:
    y = np.arange(24).reshape(4, 6)
    expected = (y[:, ::2].T @ y[:, ::2]).astype(np.float32)
    assert np.array_equal(ops.gram(y[:, ::2], device=device), expected)
    assert np.array_equal(ops.gram(np.asfortranarray(y[:, ::2], dtype=np.float64), device=device), expected)


GOOD = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("y", "error", "text"),
    [
        (np.ones(3), ValueError, "2 dimensions"),
        (np.ones((3, 0)), ValueError, "at least 1"),
        (np.array([["a"]]), TypeError, "dtype"),
        (np.array([[1.0, np.nan]]), ValueError, r"y\[0, 1\]"),
        (np.full((2, 2), 1e30), ValueError, "exceeds float32"),
    ],
)
def test_gram_refuses(y: Any, error: type[Exception], text: str, device: str) -> None:
    with pytest.raises(error, match=text):
        ops.gram(y, device=device)


@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        (np.empty((2, 2), np.float32), ValueError, "shape of out"),
        (np.empty((3, 3)), TypeError, "float32"),
        (np.empty((6, 3), np.float32)[::2], ValueError, "C-contiguous"),
        (np.broadcast_to(np.float32(0), (3, 3)).copy().view(), ValueError, "read-only"),
    ],
)
def test_gram_refuses_out(out: NDArray[Any], error: type[Exception], text: str, device: str) -> None:
    if text == "read-only":
        out.flags.writeable = False
    with pytest.raises(error, match=text):
        ops.gram(GOOD, out=out, device=device)
    with pytest.raises(ValueError, match="share memory"):
        ops.gram(same := GOOD.copy(), out=same, device=device)


@pytest.mark.parametrize(
    ("gram", "text"),
    [
        (np.ones((2, 3)), "shape of gram"),
        (np.ones((0, 0)), "shape of gram"),
        (np.array([[1.0, 2.0], [0.0, 1.0]]), "not symmetric"),
        (np.array([[1.0, np.inf], [np.inf, 1.0]]), r"gram\[0, 1\]"),
        (np.diag([1.0, -1.0]), "positive semidefinite"),
    ],
)
def test_gram_eigen_refuses(gram: Any, text: str, device: str) -> None:
    with pytest.raises(ValueError, match=text):
        ops.gram_eigen(gram, device=device)


def test_rows_rotate_refuses(device: str) -> None:
    frozen = np.ones((4, 3), np.float32)
    frozen.flags.writeable = False
    bad: list[tuple[Any, Any, type[Exception], str]] = [
        (np.ones((4, 3)), GOOD, TypeError, "float32"),
        ([[1.0, 2.0, 3.0]], GOOD, TypeError, "NumPy array"),
        (frozen, GOOD, ValueError, "read-only"),
        (np.ones((3, 4), np.float32).T, GOOD, ValueError, "C-contiguous"),
        (np.ones((4, 2), np.float32), GOOD, ValueError, "shape of q"),
        (np.ones(3, np.float32), GOOD, ValueError, "2 dimensions"),
        (same := GOOD.copy(), same, ValueError, "share memory"),
        (np.ones((4, 3), np.float32), GOOD * np.nan, ValueError, "finite"),
    ]
    for x, q, error, text in bad:
        with pytest.raises(error, match=text):
            ops.rows_rotate(x, q, device=device)
