"""Rows put side by side and taken apart: what NumPy would do, also where it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast.blocks.base import Runtime
from recsys_fast.blocks.columns import added, apart, beside, repeated, scale, sum_lists, summed, transpose

RANDOM = np.random.default_rng(0)
A, B = (RANDOM.standard_normal((5, 3)).astype(np.float32) for _ in range(2))


class Owner:
    """Somebody whose memory it is."""


def check(runtime: Runtime) -> None:
    owner, up, down = Owner(), runtime.upload, runtime.to_host
    both = beside(runtime, owner, "both", [up(A), up(B)])
    np.testing.assert_array_equal(down(both), np.hstack([A, B]))
    rows = np.array([4, -1, 0, 4])
    some = down(beside(runtime, owner, "some", [up(A), up(B)], rows))
    np.testing.assert_array_equal(some, np.where(rows[:, None] < 0, 0, np.hstack([A, B])[rows]))
    np.testing.assert_array_equal(down(beside(runtime, owner, "one", [up(A)], rows[:3])), [A[4], 0 * A[0], A[0]])
    none = runtime.empty(0, 3)
    np.testing.assert_array_equal(
        down(beside(runtime, owner, "none", [none, none], np.array([-1, -1]))), np.zeros((2, 6))
    )
    for found, expected in zip(apart(runtime, owner, "apart", both, 2), (A, B), strict=True):
        np.testing.assert_array_equal(down(found), expected)
    many = repeated(runtime, owner, "many", up(A), 3)
    np.testing.assert_array_equal(down(many), np.repeat(A, 3, axis=0))
    np.testing.assert_allclose(down(summed(runtime, owner, "sum", many, 3)), 3 * A, rtol=1e-6)
    assert summed(runtime, owner, "sum", many, 15).shape == (1, 3)
    np.testing.assert_array_equal(down(added(runtime, owner, "more", up(A), up(B))), A + B)
    less = down(added(runtime, owner, "less", up(A), up(B[:2].copy()), np.array([-1, 3], np.int32)))
    np.testing.assert_array_equal(less, [B[0], A[3] + B[1]])
    doubled = runtime.copy(A)
    scale(runtime, doubled, 2.0)
    np.testing.assert_array_equal(down(doubled), 2 * A)
    turned, lists = runtime.empty(3, 5), runtime.empty(3, 3)
    transpose(runtime, turned, up(A))
    np.testing.assert_array_equal(down(turned), A.T)
    sum_lists(runtime, lists, up(A), np.array([0, 2, 2, 3]), np.array([4, 0, 4], np.int32))
    np.testing.assert_array_equal(down(lists), [A[4] + A[0], 0 * A[0], A[4]])
    sum_lists(runtime, lists[:1], up(A), np.array([0, 1]), np.array([2], np.int32), np.full(1, 0.5, np.float32))
    np.testing.assert_array_equal(down(lists[:1]), [A[2] / 2])


def test_rows_in_host_memory(device: str) -> None:
    check(Runtime(device, 2))


@pytest.mark.cuda_emulated
def test_rows_on_a_device(emulated_arrays: Any) -> None:
    check(Runtime("cuda"))
