"""What als_sweep and als_loss accept and convert, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from recsys_fast import ops
from recsys_fast.ops import Csr

X = np.zeros((3, 2), np.float32)
Y = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
MATRIX = sparse.csr_array(np.array([[1, 0, 2, 0], [0, 0, 0, 0], [0, 3, 0, 1]], np.float32))


def frozen(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix", "csc_array", "coo_array", "lil_array", "dok_array"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_any_sparse_matrix_gives_the_same_result(kind: str, dtype: type, device: str) -> None:
    expected, x = X.copy(), X.copy()
    loss = ops.als_sweep(expected, Y, MATRIX, device=device)
    assert loss == ops.als_sweep(x, Y, getattr(sparse, kind)(MATRIX.astype(dtype)), device=device)
    assert np.array_equal(x, expected)


def test_y_is_converted_and_kept(device: str) -> None:
    expected, wide = X.copy(), np.asfortranarray(Y, np.float64)
    ops.als_sweep(expected, Y, MATRIX, device=device)
    for y in (wide, np.repeat(Y, 2, axis=0)[::2], frozen(Y), Y.tolist()):
        x = X.copy()
        ops.als_sweep(x, y, MATRIX, device=device)
        assert np.array_equal(x, expected)


def test_unsorted_rows_and_duplicates_are_summed_in_a_copy(device: str) -> None:
    expected, x = X.copy(), X.copy()
    ops.als_sweep(expected, Y, MATRIX, device=device)
    row_ptr, col_idx = np.array([0, 3, 3, 5]), np.array([2, 0, 2, 3, 1], np.int32)
    values = np.array([1.5, 1, 0.5, 1, 3], np.float32)
    before = col_idx.copy()
    ops.als_sweep(x, Y, Csr(row_ptr, col_idx, values, 3, 4), device=device)
    assert np.array_equal(x, expected)
    assert np.array_equal(col_idx, before)


def test_targets_array_goes_by_the_place_of_the_entries(device: str) -> None:
    expected, x = X.copy(), X.copy()
    forward = Csr(np.array([0, 2, 2, 4]), np.array([0, 2, 1, 3], np.int32), None, 3, 4)
    backward = forward._replace(col_idx=np.array([2, 0, 3, 1], np.int32))
    ops.als_sweep(expected, Y, forward, targets=[1, 2, 3, 4], device=device)
    ops.als_sweep(x, Y, backward, targets=[2, 1, 4, 3], device=device)
    assert np.allclose(x, expected, rtol=1e-6)
    assert x[0].any()


def test_no_rows_and_no_entries(device: str) -> None:
    nothing = np.empty((0, 2), np.float32)
    assert ops.als_sweep(nothing, Y, sparse.csr_array((0, 4)), device=device) == 0.0
    x = np.ones((3, 2), np.float32)
    assert ops.als_sweep(x, Y, sparse.csr_array((3, 4)), device=device) == 0.0
    assert not x.any()
    assert ops.als_sweep(x, nothing, sparse.csr_array((3, 0)), device=device) == 0.0
    assert ops.als_loss(x, nothing, sparse.csr_array((3, 0)), device=device) == 0.0


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"y": np.ones((4, 3))}, ValueError, "columns of x and y"),
    ({"y": np.ones(4)}, ValueError, "2 dimensions"),
    ({"y": Y * np.nan}, ValueError, r"y\[0, 0\]"),
    ({"matrix": MATRIX.T}, ValueError, "transposed"),
    ({"matrix": MATRIX[:2]}, ValueError, "shape of matrix"),
    ({"matrix": MATRIX.toarray()}, TypeError, "sparse"),
    ({"matrix": MATRIX * np.nan}, ValueError, "finite"),
    ({"matrix": Csr(np.array([0, 1, 1, 1]), np.array([4], np.int32), None, 3, 4)}, ValueError, "0 <= column < 4"),
    ({"matrix": Csr(np.array([0, 1, 0, 1]), np.array([0], np.int32), None, 3, 4)}, ValueError, "decreases at row 1"),
    ({"unobserved_weight": -0.1}, ValueError, "unobserved_weight"),
    ({"regularization": float("nan")}, ValueError, "regularization"),
    ({"regularization": "strong"}, TypeError, "regularization"),
    ({"regularization": np.array([1.0, 2.0])}, TypeError, "regularization: got ndarray"),
    ({"regularization": np.complex64(1)}, TypeError, "regularization: got complex64"),
    ({"y": np.full((4, 2), 1e30)}, ValueError, r"y\^T y exceeds float32.*[Ss]cale y down"),
    ({"nu": -1}, ValueError, "nu"),
    ({"target_offset": float("inf")}, ValueError, "target_offset"),
    ({"targets": [1.0, 2.0]}, ValueError, "one per entry"),
    ({"targets": [1, 2, 3, np.nan]}, ValueError, r"targets\[3\]"),
    ({"targets": "values"}, TypeError, "targets"),
    ({"targets": True, "target_offset": 1.0}, ValueError, "target_offset"),
    ({"biased": True}, ValueError, "targets=True"),
    ({"biased": True, "targets": True}, ValueError, "unobserved_weight=0"),
    ({"biased": 1, "targets": True, "unobserved_weight": 0}, TypeError, "biased"),
    ({"device": "gpu"}, ValueError, "device"),
    ({"n_threads": 0}, ValueError, "n_threads"),
]
BAD_SWEEP: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": X.astype(np.float64)}, TypeError, "float32"),
    ({"x": X.tolist()}, TypeError, "NumPy array"),
    ({"x": np.zeros((2, 3), np.float32).T}, ValueError, "C-contiguous"),
    ({"x": frozen(X)}, ValueError, "read-only"),
    ({"x": np.zeros(3, np.float32)}, ValueError, "2 dimensions"),
    ({"x": np.zeros((3, 0), np.float32), "y": np.zeros((4, 0))}, ValueError, "at least 1"),
    ({"x": X * np.nan, "solver": "cg"}, ValueError, r"x\[0, 0\]"),
    ({"spectrum": [1.0]}, ValueError, "shape of spectrum"),
    ({"spectrum": [1.0, -1.0]}, ValueError, "none negative"),
    ({"spectrum": [1.0, np.inf]}, ValueError, "finite"),
    ({"solver": "lu"}, ValueError, "cholesky, cg, subspace"),
    ({"n_steps": 0}, ValueError, "n_steps"),
    ({"block_size": 2.5}, TypeError, "block_size"),
]


@pytest.mark.parametrize(("change", "error", "text"), BAD + BAD_SWEEP)
def test_sweep_refuses(change: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    arguments = {"x": X.copy(), "y": Y, "matrix": MATRIX, "device": device, **change}
    with pytest.raises(error, match=text):
        ops.als_sweep(**arguments)


@pytest.mark.parametrize(("change", "error", "text"), BAD)
def test_loss_refuses(change: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    arguments = {"x": X, "y": Y, "matrix": MATRIX, "device": device, **change}
    with pytest.raises(error, match=text):
        ops.als_loss(**arguments)


def test_loss_names_the_table_that_is_too_large(device: str) -> None:
    with pytest.raises(ValueError, match=r"x\^T x exceeds float32.*Scale x down"):
        ops.als_loss(np.full((3, 2), 1e30), Y, MATRIX, device=device)


def test_sweep_refuses_shared_memory(device: str) -> None:
    both = np.ones((7, 2), np.float32)
    with pytest.raises(ValueError, match="share memory"):
        ops.als_sweep(both[:3], both[2:6], MATRIX, device=device)
