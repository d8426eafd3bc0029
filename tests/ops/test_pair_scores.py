"""pair_scores against float64 dot products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_fast import ops


@pytest.mark.parametrize(("n", "m", "d"), [(30, 20, 8), (1, 1, 1), (5, 7, 0), (0, 4, 3), (9, 50, 67), (40, 3, 256)])
def test_equals_float64(n: int, m: int, d: int, device: str) -> None:
    rng = np.random.default_rng([n, m, d])
    x, y = rng.standard_normal((n, d)).astype(np.float32), rng.standard_normal((m, d)).astype(np.float32)
    counts = rng.integers(0, 6, n)  # with repeats and in no order, which must both be kept
    row_ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    col_idx = rng.integers(0, m, row_ptr[-1]).astype(np.int32)
    rows = np.repeat(np.arange(n), counts)
    found = ops.pair_scores(x, y, ops.Csr(row_ptr, col_idx, None, n, m), device=device)
    assert found.dtype == np.float32
    exact = np.einsum("ij,ij->i", x[rows].astype(np.float64), y[col_idx].astype(np.float64))
    plain = np.zeros(len(rows), np.float32)
    for k in range(d):
        plain += x[rows, k] * y[col_idx, k]
    np.testing.assert_allclose(found, exact, rtol=0, atol=4 * np.abs(plain - exact).max(initial=0.0))


def test_scores_are_those_of_topk(device: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(-3, 4, (20, 5)), rng.integers(-3, 4, (40, 5))
    ids, scores = ops.topk(y, x, 6, device=device)
    pairs = ops.Csr(np.arange(0, 126, 6, dtype=np.int64), ids.ravel(), None, 20, 40)
    np.testing.assert_array_equal(ops.pair_scores(x, y, pairs, device=device), scores.ravel())


def test_writes_into_out_and_takes_strided_input(device: str) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((6, 8))[:, ::2], np.asfortranarray(rng.standard_normal((5, 4)))
    pairs, out = sp.coo_array(np.ones((6, 5))), np.zeros(30, np.float32)
    assert ops.pair_scores(x, y, pairs, out=out, device=device) is out
    np.testing.assert_allclose(out.reshape(6, 5), x @ y.T, rtol=1e-4, atol=1e-6)


TWO = np.ones((2, 4), np.float32)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"x": np.ones((2, 3))}, ValueError, "width of x and y: got 3 and 4"),
        ({"x": np.full((2, 4), np.nan)}, ValueError, r"x\[0, 0\]: got nan"),
        ({"y": np.ones(4)}, ValueError, "y: got shape"),
        ({"pairs": sp.csr_array((5, 2))}, ValueError, r"It looks transposed: pass pairs\.T"),
        ({"pairs": sp.csr_array((2, 6))}, ValueError, "shape of pairs"),
        ({"pairs": np.ones((2, 5))}, TypeError, "pairs: got ndarray"),
        ({"out": np.zeros(3, np.float32)}, ValueError, "shape of out"),
        ({"out": np.zeros(0)}, TypeError, "out: got float64"),
        ({"x": TWO, "pairs": sp.csr_array(np.eye(2, 5)), "out": TWO[0, :2]}, ValueError, "share memory"),
        ({"y": TWO, "pairs": sp.csr_array(np.eye(2)), "out": TWO[0, :2]}, ValueError, "share memory"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    given = {"x": np.ones((2, 4)), "y": np.ones((5, 4)), "pairs": sp.csr_array((2, 5))} | change
    with pytest.raises(error, match=text):
        ops.pair_scores(**given, device=device)
