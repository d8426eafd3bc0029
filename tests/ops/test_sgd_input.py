"""What the SGD epochs accept and convert, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from recsys_fast import ops
from recsys_fast.ops import Csr
from tests.ops.test_sgd import OPS, by_op

MATRIX = sparse.csr_array(np.array([[1, 0, 2, 0], [0, 0, 0, 0], [0, 3, 0, 1]], np.float32))
USERS = np.arange(6, dtype=np.float32).reshape(3, 2) / 8
ITEMS = np.arange(8, dtype=np.float32).reshape(4, 2) / 9
FEATURES = sparse.csr_array(np.ones((4, 4), np.float32))


def arguments(**change: Any) -> dict[str, Any]:
    """Return fresh arguments of an epoch, some of them changed."""
    return {
        "users": USERS.copy(),
        "items": ITEMS.copy(),
        "matrix": MATRIX,
        "item_bias": np.ones(4, np.float32),
        **change,
    }


def frozen(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix", "csc_array", "coo_array", "lil_array"])
@by_op
def test_any_sparse_matrix_gives_the_same_result(op: str, kind: str, device: str) -> None:
    expected, mine = arguments(), arguments(matrix=getattr(sparse, kind)(MATRIX.astype(np.float64)))
    for given in (expected, mine):
        getattr(ops, op)(**given, device=device)
    assert np.array_equal(mine["users"], expected["users"])
    assert not np.array_equal(mine["users"], USERS)


@by_op
def test_unsorted_rows_and_duplicates_are_sorted_in_a_copy(op: str, device: str) -> None:
    columns = np.array([2, 0, 2, 3, 1], np.int32)
    loose = Csr(np.array([0, 3, 3, 5]), columns.copy(), np.array([1.5, 1, 0.5, 1, 3], np.float32), 3, 4)
    expected, mine = arguments(), arguments(matrix=loose)
    for given in (expected, mine):
        getattr(ops, op)(**given, device=device)
    assert np.array_equal(mine["items"], expected["items"])
    assert np.array_equal(loose.col_idx, columns)


@pytest.mark.parametrize("op", OPS[:3])
def test_weights_are_the_matrix_or_an_array(op: str, device: str) -> None:
    results = []
    for weights in (True, MATRIX.data, MATRIX.data.tolist(), None, False, np.ones(4)):
        given = arguments(weights=weights)
        getattr(ops, op)(**given, device=device)
        results.append(given["users"])
    assert all(np.array_equal(results[k], results[0]) for k in (1, 2))
    assert all(np.array_equal(results[k], results[3]) for k in (4, 5))
    assert not np.array_equal(results[0], results[3])


def test_states_have_the_shapes_of_their_optimizer() -> None:
    bias = np.ones(4, np.float32)
    for optimizer, s in (("sgd", 0), ("adagrad", 1), ("adam", 2)):
        state = ops.make_state(optimizer, USERS, ITEMS, item_bias=bias, initial=0.5)
        assert (state.users.shape, state.items.shape) == ((3, 2 * s), (4, 2 * s))
        assert (state.user_bias.shape, state.item_bias.shape) == ((0, 0), (4, s))
        assert state.item_steps.shape == ((4,) if optimizer == "adam" else (0,))
        assert (state.items == (0.5 if optimizer == "adagrad" else 0.0)).all()
    with pytest.raises(ValueError, match="sgd, adagrad, adam"):
        ops.make_state("rmsprop", USERS, ITEMS)
    with pytest.raises(ValueError, match=r"shape of user_bias: got \(4,\)"):
        ops.make_state("sgd", USERS, ITEMS, bias)
    with pytest.raises(ValueError, match="2 dimensions"):
        ops.make_state("sgd", USERS[0], ITEMS)
    with pytest.raises(ValueError, match="initial"):
        ops.make_state("adagrad", USERS, ITEMS, initial=-1.0)


ADAM = ops.make_state("adam", USERS, ITEMS, item_bias=np.ones(4, np.float32))
BOTH = np.ones((7, 2), np.float32)
UNSORTED = Csr(np.array([0, 2, 2, 2]), np.array([2, 0], np.int32), None, 3, 4)

BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "float64": ({"users": USERS.astype(np.float64)}, TypeError, "dtype of users: got float64, expected float32"),
    "list": ({"items": ITEMS.tolist()}, TypeError, "items: got list, expected a NumPy array"),
    "Fortran": ({"users": np.asfortranarray(USERS)}, ValueError, "users is not C-contiguous"),
    "read-only": ({"items": frozen(ITEMS)}, ValueError, "items is read-only"),
    "vector": ({"users": USERS[0]}, ValueError, "2 dimensions"),
    "widths": ({"users": np.ones((3, 3), np.float32)}, ValueError, "columns of users and items"),
    "no width": ({"users": USERS[:, :0].copy(), "items": ITEMS[:, :0].copy()}, ValueError, "at least 1"),
    "NaN": ({"users": USERS * np.nan}, ValueError, r"users\[0, 0\]: got nan"),
    "infinite bias": ({"item_bias": np.full(4, np.inf, np.float32)}, ValueError, "item_bias.* got inf"),
    "short bias": ({"item_bias": np.ones(3, np.float32)}, ValueError, r"shape of item_bias: got \(3,\)"),
    "float64 bias": ({"item_bias": np.ones(4)}, TypeError, "dtype of item_bias"),
    "transposed": ({"matrix": MATRIX.T}, ValueError, "looks transposed"),
    "rows": ({"matrix": MATRIX[:2]}, ValueError, r"shape of matrix: got \(2, 4\), expected \(3, 4\)"),
    "dense": ({"matrix": MATRIX.toarray()}, TypeError, "sparse"),
    "NaN in the matrix": ({"matrix": MATRIX * np.nan}, ValueError, "finite"),
    "user features' rows": ({"user_features": FEATURES[:, :3]}, ValueError, r"shape of user_features.*\(3, 3\)"),
    "item features' columns": ({"item_features": FEATURES[:, :3]}, ValueError, r"shape of item_features.*\(4, 4\)"),
    "feature out of range": (
        {"item_features": Csr(np.array([0, 1, 1, 1, 1]), np.array([4], np.int32), None, 4, 4)}, ValueError, "< 4",
    ),
    "NaN feature": ({"item_features": FEATURES * np.nan}, ValueError, "item_features.*finite"),
    "dense features": ({"item_features": FEATURES.toarray()}, TypeError, "item_features"),
    "shared tables": ({"users": BOTH[:3], "items": BOTH[2:6]}, ValueError, "share memory"),
    "state of another shape": ({"state": ops.make_state("adam", ITEMS, ITEMS)}, ValueError, "shape of state.users"),
    "state without bias": ({"state": ops.make_state("adam", USERS, ITEMS)}, ValueError, "shape of state.item_bias"),
    "no state": ({"state": "adam"}, TypeError, "make_state"),
    "unknown optimizer": ({"state": ADAM._replace(optimizer="lion")}, ValueError, "state.optimizer"),
    "float steps": ({"state": ADAM._replace(item_steps=np.zeros(4))}, ValueError, "state.item_steps"),
    "negative steps": ({"state": ADAM._replace(user_steps=np.full(3, -1, np.int32))}, ValueError, "got -1"),
    "float64 state": ({"state": ADAM._replace(items=np.zeros((4, 4)))}, TypeError, "dtype of state.items"),
    "rates' length": ({"rates": [1.0]}, ValueError, r"shape of rates: got \(1,\), expected \(4,\)"),
    "negative rate": ({"rates": [1, 1, -1, 1]}, ValueError, r"rates\[2\]"),
    "NaN rate": ({"rates": [1, 1, 1, np.nan]}, ValueError, r"rates\[3\]: got nan"),
    "huge rate": ({"rates": [1e7, 1, 1, 1]}, ValueError, "0 to 1000000"),
    "text rates": ({"rates": list("abcd")}, TypeError, "rates"),
    "rates of unsorted rows": ({"matrix": UNSORTED, "rates": [1, 1]}, ValueError, "as_csr"),
    "negative learning rate": ({"learning_rate": -0.1}, ValueError, "learning_rate"),
    "NaN learning rate": ({"learning_rate": np.nan}, ValueError, "learning_rate"),
    "text learning rate": ({"learning_rate": "fast"}, TypeError, "learning_rate"),
    "infinite penalty": ({"regularization": np.inf}, ValueError, "regularization"),
    "frozen": ({"frozen": "all"}, ValueError, "none, items, users"),
    "seed": ({"seed": -1}, ValueError, "seed"),
    "epoch": ({"epoch": 2**32}, ValueError, "epoch"),
    "deterministic": ({"deterministic": 1}, TypeError, "deterministic"),
    "device": ({"device": "gpu"}, ValueError, "device"),
    "threads": ({"n_threads": 0}, ValueError, "n_threads"),
}  # fmt: skip
BAD_BY_OP: dict[str, dict[str, tuple[dict[str, Any], type[Exception], str]]] = {
    "bpr_epoch": {
        "candidates": ({"n_candidates": 0}, ValueError, "n_candidates"),
        "many candidates": ({"n_candidates": 10**7}, ValueError, "at most 1000000"),
        "negative weights": ({"negative_weights": [1, 1, 1, -1]}, ValueError, r"negative_weights\[3\]"),
        "zero weights": ({"negative_weights": np.zeros(4)}, ValueError, "only zeros"),
        "weights' length": ({"weights": [1.0]}, ValueError, r"shape of weights: got \(1,\)"),
        "negative weight": ({"weights": [1, -1, 1, 1]}, ValueError, r"weights\[1\]"),
        "negative value": ({"weights": True, "matrix": -1 * MATRIX}, ValueError, r"value of entry\[0\]"),
        "weights of unsorted rows": ({"matrix": UNSORTED, "weights": [1, 1]}, ValueError, "sorted"),
    },
    "warp_epoch": {
        "trials": ({"max_trials": 0}, ValueError, "max_trials"),
        "k without n": ({"k_os": 1}, ValueError, "0 where n_os is 0"),
        "n without k": ({"n_os": 3}, ValueError, "1 to n_os = 3"),
        "k above n": ({"k_os": 4, "n_os": 3}, ValueError, "1 to n_os = 3"),
    },
    "logistic_epoch": {
        "negatives": ({"n_negatives": -1}, ValueError, "n_negatives"),
        "float negatives": ({"n_negatives": 2.0}, TypeError, "n_negatives"),
        "user bias": ({"user_bias": np.ones(4, np.float32)}, ValueError, r"shape of user_bias: got \(4,\)"),
    },
    "rating_epoch": {
        "loss": ({"loss": "hinge"}, ValueError, "squared, smooth_l1, logistic"),
        "mean": ({"mean": np.nan}, ValueError, "mean"),
        "labels": ({"loss": "logistic"}, ValueError, r"value of entry\[1\]: got 2.0, expected 0 to 1"),
    },
}
ALL_BAD = [(op, kind) for op in OPS for kind in [*BAD, *BAD_BY_OP[op]]]


@pytest.mark.parametrize(("op", "kind"), ALL_BAD)
def test_bad_arguments_are_refused_and_nothing_is_changed(op: str, kind: str, device: str) -> None:
    change, error, text = (BAD | BAD_BY_OP[op])[kind]
    given = arguments(**({"device": device} | change))
    before = {name: array.copy() for name, array in given.items() if isinstance(array, np.ndarray)}
    with pytest.raises(error, match=text):
        getattr(ops, op)(**given)
    for name, array in before.items():
        np.testing.assert_array_equal(given[name], array)


def test_inputs_that_are_only_read_may_be_read_only(device: str) -> None:
    matrix = MATRIX.copy()
    features = sparse.csr_array(np.eye(4, dtype=np.float32))
    for part in (matrix.indptr, matrix.indices, matrix.data, features.indptr, features.indices, features.data):
        part.flags.writeable = False
    rates, weights = frozen(np.ones(4, np.float32)), frozen(np.arange(1.0, 5.0))
    given = arguments(matrix=matrix, rates=rates, weights=True, negative_weights=weights)
    given |= {} if device == "cuda" else {"item_features": features}  # which has no kernel for them
    assert ops.bpr_epoch(**given, device=device).n_trained == 4
