"""product_topk with a dense right side against float64, for many rows (packed panels) and few."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from recsys_fast import ops
from recsys_fast.ops import Csr
from tests.cases.linear import Case, dense
from tests.cases.topk import sparse_rows


class Shape(NamedTuple):
    """A product ``(m, k) @ (k, n_cols)`` and the length of its lists."""

    m: int
    k: int
    n_cols: int
    n: int
    values: str = "none"


SHAPES = [
    Shape(40, 9, 64, 5),
    Shape(40, 30, 65, 20, "ratings"),
    Shape(200, 70, 1100, 10, "signed"),
    Shape(3, 70, 1100, 10, "signed"),
    Shape(60, 25, 7, 30),
    Shape(1, 5, 1, 1),
    Shape(90, 20, 130, 300, "ratings"),
]
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def problem(shape: Shape) -> tuple[Csr, Any]:
    """Return a and b of small integers, whose sums float32 makes exactly."""
    rng = np.random.default_rng([shape.m, shape.n_cols])
    a = Case("", shape.m, shape.k, 0.5, shape.values).make()
    if shape.values == "signed":
        assert a.values is not None
        a = a._replace(values=np.round(a.values).astype(np.float32))
    return a, rng.integers(-3, 4, (shape.k, shape.n_cols)).astype(np.float32)


def expected(scores: Any, seen: Csr | None, columns: Any, n: int) -> tuple[Any, Any]:
    """Return lists by sorting all of it."""
    allowed = np.zeros(scores.shape, bool)
    allowed[:, columns] = True
    if seen is not None:
        allowed &= dense(seen) == 0
    scores = np.where(allowed, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    best = np.take_along_axis(scores, order, axis=1)
    ids = np.where(np.isneginf(best), -1, order)
    pad = ((0, 0), (0, n - ids.shape[1]))
    return np.pad(ids, pad, constant_values=-1), np.pad(best, pad, constant_values=-np.inf)


@by_shape
@pytest.mark.parametrize("masked", [False, True])
def test_lists_are_those_of_the_whole_product(shape: Shape, masked: bool, device: str) -> None:
    a, b = problem(shape)
    rng = np.random.default_rng(1)
    seen = sparse_rows(rng, shape.m, shape.n_cols, 0.2) if masked else None
    include = np.flatnonzero(rng.random(shape.n_cols) < 0.7) if masked else None
    columns = np.arange(shape.n_cols) if include is None else include
    ids, scores = expected(dense(a) @ b, seen, columns, shape.n)
    for n_threads in (1, 2):
        found = ops.product_topk(a, b, shape.n, seen=seen, include=include, device=device, n_threads=n_threads)
        np.testing.assert_array_equal(found[0], ids)
        np.testing.assert_array_equal(found[1], scores)


def test_a_row_has_the_same_bits_alone_and_among_many(device: str) -> None:
    rng = np.random.default_rng(0)
    a = Case("", 500, 60, 0.4, "signed").make()
    b = rng.standard_normal((60, 777)).astype(np.float32)
    ids, scores = ops.product_topk(a, b, 12, device=device)
    for row in (0, 7, 499):
        part = slice(a.row_ptr[row], a.row_ptr[row + 1])
        assert a.values is not None
        one = Csr(np.array([0, part.stop - part.start]), a.col_idx[part], a.values[part], 1, 60)
        alone = ops.product_topk(one, b, 12, device=device)
        np.testing.assert_array_equal(alone[0][0], ids[row])
        np.testing.assert_array_equal(alone[1][0], scores[row])


def test_numbers_that_are_none_are_never_given(device: str) -> None:
    a = Csr(np.array([0, 1, 1]), np.zeros(1, np.int32), None, 2, 1)
    b = np.array([[np.nan, 1.0, np.inf, np.nan, -2.0]], np.float32)
    ids, scores = ops.product_topk(a, b, 4, check=False, device=device)
    assert ids.tolist() == [[2, 1, 4, -1], [0, 1, 2, 3]]
    assert scores[1].tolist() == [0.0] * 4


@pytest.mark.cuda_emulated
def test_arrays_on_the_device_stay_there(emulated_arrays: Any) -> None:
    a, b = problem(SHAPES[1])
    expected, there = ops.product_topk(a, b, 7), emulated_arrays.asarray(b)
    found = ops.product_topk(a, there, 7)
    out = emulated_arrays.empty((40, 7), np.int32), emulated_arrays.empty((40, 7), np.float32)
    assert ops.product_topk(a, there, 7, out=out)[0] is out[0]
    nothing = ops.product_topk(a, there, 7, include=[])
    for place, want in enumerate(expected):
        assert emulated_arrays.is_array(found[place])
        np.testing.assert_array_equal(found[place].get(), want)
        np.testing.assert_array_equal(out[place].get(), want)
        assert (nothing[place].get() < 0).all()
    with pytest.raises(TypeError, match=r"b on the device and out\[0\] \(ndarray\) in host memory"):
        ops.product_topk(a, there, 7, out=expected)
