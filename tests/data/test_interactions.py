import pickle
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings

from recsys_fast import ops
from recsys_fast.data import IdMap, Interactions
from tests.data.helpers import check, entries, interactions

DENSE = np.array([[0, 2, 0], [0, 0, 0], [1, 0, 3]], np.float64)
FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csr_matrix], ids=["array", "matrix"])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int8])
def test_from_any_scipy_matrix(kind: Any, form: str, dtype: type) -> None:
    matrix = kind(DENSE.astype(dtype)).asformat(form)
    data = Interactions.from_scipy(matrix)
    check(data)
    assert data.shape == (3, 3)
    assert (data.n_users, data.n_items, data.nnz, len(data)) == (3, 3, 3, 3)
    assert data.csr.toarray().tolist() == DENSE.tolist()


def test_bool_matrices_have_no_values() -> None:
    assert Interactions(sp.csr_array(DENSE > 0)).values is None
    assert Interactions(sp.coo_array(DENSE > 0)).values is None
    stored_false = sp.csr_array((np.array([True, False]), [0, 1], [0, 2]), shape=(1, 2))
    data = Interactions(stored_false)
    assert data.values is not None
    assert data.values.tolist() == [1, 0]


def test_unsorted_and_repeated_entries_are_put_in_order() -> None:
    matrix = sp.csr_array((np.array([1.0, 2.0, 4.0]), np.array([2, 0, 2]), np.array([0, 3])), shape=(1, 3))
    for duplicates, values in (("sum", [2, 5]), ("max", [2, 4]), ("last", [2, 4])):
        data = Interactions(matrix, duplicates=duplicates)
        check(data)
        assert data.values is not None
        assert data.values.tolist() == values
        assert data.report["duplicates"] == 1
    with pytest.raises(ValueError, match=r"repeats the pair \(0, 2\)"):
        Interactions(matrix, duplicates="error")
    assert matrix.indices.tolist() == [2, 0, 2]


def test_inputs_are_left_alone_and_not_shared() -> None:
    matrix = sp.csr_array(DENSE.astype(np.float32))
    matrix.indptr, matrix.indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
    parts = (matrix.data, matrix.indices, matrix.indptr)
    before = [part.tobytes() for part in parts]
    data = Interactions(matrix)
    assert [part.tobytes() for part in parts] == before
    assert all(part.flags.writeable for part in parts)
    matrix.data[:] = 9
    matrix.indices[:] = 0
    assert data.csr.toarray().tolist() == DENSE.tolist()


def test_read_only_and_strided_arrays_are_read_right() -> None:
    values = np.arange(8, dtype=np.float64)
    values.flags.writeable = False
    indices = np.array([1, 9, 0, 9, 2, 9, 1, 9], np.int64)[::2]
    csr = ops.Csr(np.array([0, 2, 4]), indices, values[1::2], 2, 3)
    data = Interactions(csr)
    check(data)
    assert entries(data) == [(0, 0, 3, None, None), (0, 1, 1, None, None), (1, 1, 7, None, None), (1, 2, 5, None, None)]


BAD = {
    "index past the end": (([1.0], [7], [0, 1]), "got 7, expected 0 <= (index|column) < 3"),
    "negative index": (([1.0], [-1], [0, 1]), "got -1, expected 0 <= (index|column) < 3"),
    "int32 index past the end": (([1.0], np.int32([7]), [0, 1]), "got 7, expected 0 <= (index|column) < 3"),
    "row pointers go down": (([1.0, 1.0], [0, 1], [0, 2, 1, 2]), "decreases at row 1"),
    "row pointers past the end": (([1.0], [0], [0, 5]), r"row_ptr\[-1\]"),
    "first row pointer": (([1.0], [0], [1, 1]), r"row_ptr\[0\]"),
    "NaN": (([np.nan], [0], [0, 1]), "value of entry 0"),
    "infinity": (([np.inf], [0], [0, 1]), "value of entry 0"),
}


@pytest.mark.parametrize(("parts", "text"), BAD.values(), ids=BAD.keys())
def test_bad_matrices_are_refused_before_scipy_sees_them(parts: Any, text: str) -> None:
    values, indices, indptr = (np.asarray(part) for part in parts)
    matrix = sp.csr_array((len(indptr) - 1, 3))
    matrix.data, matrix.indices, matrix.indptr = values, indices, indptr
    with pytest.raises(ValueError, match=text):
        Interactions(matrix)
    with pytest.raises(ValueError, match=text):
        Interactions(ops.Csr(indptr, indices, values, len(indptr) - 1, 3))


def test_bad_coo_matrix() -> None:
    matrix = sp.coo_array((np.ones(2), (np.array([0, 1]), np.array([0, 1]))), shape=(2, 2))
    matrix.coords = (np.array([0, 5]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"rows.*5.*0 <= index < 2"):
        Interactions(matrix)


@pytest.mark.parametrize("bad", [DENSE, [[1, 2]], None, "matrix.npz", 5], ids=type)
def test_what_is_not_sparse_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="sparse matrix"):
        Interactions(bad)


def test_interactions_are_not_wrapped_twice() -> None:
    with pytest.raises(TypeError, match="already"):
        Interactions(Interactions(sp.csr_array(DENSE)))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1), (3, 4)])
def test_empty_matrices(shape: tuple[int, int]) -> None:
    data = Interactions(sp.csr_array(shape))
    check(data)
    assert data.shape == shape
    assert len(data) == 0
    assert data.csr.shape == shape
    assert data.k_core(1, 1).shape == (0, 0)
    assert data[:].shape == shape
    assert data.item_counts.tolist() == [0] * shape[1]
    assert "entries" in repr(data)


def test_timestamps_and_ids_of_a_matrix() -> None:
    matrix = sp.coo_array((np.array([5.0, 6.0, 7.0]), ([1, 0, 1], [0, 1, 1])), shape=(2, 2))
    data = Interactions(matrix, timestamps=[30, 20, 10], user_ids=["u", "v"], item_ids=IdMap([7, 8]))
    check(data)
    assert entries(data) == [(0, 1, 6, 20, 1), (1, 0, 5, 30, 0), (1, 1, 7, 10, 2)]
    assert data.user_ids == IdMap(["u", "v"])
    canonical = Interactions(matrix.tocsr(), timestamps=np.array([20, 30, 10]))
    assert entries(canonical) == [(0, 1, 6, 20, 0), (1, 0, 5, 30, 1), (1, 1, 7, 10, 2)]
    with pytest.raises(ValueError, match="length of user_ids: got 3, expected 2"):
        Interactions(matrix, user_ids=["a", "b", "c"])
    with pytest.raises(ValueError, match="number of timestamps: got 2, expected 3"):
        Interactions(matrix, timestamps=[1, 2])
    with pytest.raises(ValueError, match="timestamp 1 is missing"):
        Interactions(matrix, timestamps=[1, None, 3])
    with pytest.raises(ValueError, match="'csc', expected 'csr' or 'coo'"):
        Interactions(matrix.tocsc(), timestamps=[1, 2, 3])


def test_from_coo() -> None:
    data = Interactions.from_coo([2, 0, 2], [1, 1, 0], [3, 4, 5], [9, 8, 7])
    check(data)
    assert data.shape == (3, 2)
    assert entries(data) == [(0, 1, 4, 8, 1), (2, 0, 5, 7, 2), (2, 1, 3, 9, 0)]
    assert data.user_ids is None
    binary = Interactions.from_coo(np.array([0, 1], np.uint8), np.array([0, 1]), shape=(4, 5), user_ids=list("abcd"))
    assert binary.shape == (4, 5)
    assert binary.values is None
    assert binary.user_ids == IdMap(list("abcd"))
    assert Interactions.from_coo([], []).shape == (0, 0)
    assert Interactions.from_coo([], [], [], [], shape=(2, 3)).timestamps is not None


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        (([0, -1], [0, 0]), {}, ValueError, r"users\[1\]: got -1, expected 0 <= number < 2147483647"),
        (([0], [3]), {"shape": (1, 3)}, ValueError, r"items\[0\]: got 3, expected 0 <= number < 3"),
        (([0, 1], [0]), {}, ValueError, "differ in length"),
        (([0], [0], [1, 2]), {}, ValueError, "differ in length"),
        (([0], [0], None, [1, 2]), {}, ValueError, "differ in length"),
        (([2**40], [0]), {}, ValueError, r"users\[0\]: got 1099511627776"),
        ((["a"], [0]), {}, TypeError, "users: got 'a', expected row or column numbers. Pass raw_ids=True"),
        (([0.5], [0]), {}, TypeError, "users: got 0.5"),
        (([True], [0]), {}, TypeError, "users: got True"),
        (([0, None], [0, 0]), {}, ValueError, r"users\[1\] is missing"),
        (([0], [0], ["x"]), {}, TypeError, "expected a number"),
        (([0], [0], [np.inf]), {}, ValueError, "finite float32"),
        (([0], [0]), {"shape": (1,)}, ValueError, "shape"),
        (([0], [0]), {"shape": (-1, 2)}, ValueError, "shape"),
        (([0], [0]), {"duplicates": "first"}, ValueError, "duplicates: got 'first', expected one of sum, max, last"),
        (([0], [0]), {"missing": "guess"}, ValueError, "missing: got 'guess'"),
        (([0], [0]), {"duplicate": "sum"}, TypeError, "no option"),
        (([0], [0]), {"raw_ids": True, "shape": (1, 1)}, ValueError, "shape with raw_ids=True"),
        (([0], [0]), {"raw_ids": True, "duplicate": "sum"}, TypeError, "duplicate"),
        (([[0]], [[0]]), {}, TypeError, "hashable"),
        ((0, 0), {}, TypeError, "users: got int"),
    ],
    ids=repr,
)
def test_from_coo_refuses(arguments: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Interactions.from_coo(*arguments, **options)


def test_raw_ids() -> None:
    data = Interactions.from_coo(["bob", "ann", "bob"], [(1, 2), (0,), (0,)], raw_ids=True)
    check(data)
    assert data.user_ids == IdMap(["ann", "bob"])
    assert data.item_ids == IdMap([(1, 2), (0,)])
    assert [entry[:2] for entry in entries(data)] == [(0, 1), (1, 0), (1, 1)]


def test_csr_is_a_view_that_cannot_change_the_data() -> None:
    data = Interactions(sp.csr_array(DENSE))
    matrix = data.csr
    assert isinstance(matrix, sp.csr_array)
    assert matrix.dtype == np.float32
    assert np.shares_memory(matrix.data, data.values)
    with pytest.raises(ValueError, match="read-only"):
        matrix.data[0] = 7
    matrix.data = np.zeros(3, np.float32)
    assert data.csr.toarray().tolist() == DENSE.tolist()
    copy = data.csr.copy()
    copy.data *= 2
    assert data.csr.toarray().tolist() == DENSE.tolist()
    binary = Interactions.from_coo([0, 1], [1, 0])
    assert binary.csr.toarray().tolist() == [[0, 1], [1, 0]]
    assert np.shares_memory(binary.csr.data, binary.csr.data)
    assert (data.csr @ data.csr.T).toarray().tolist() == (DENSE @ DENSE.T).tolist()
    assert data.csr.T.tocsr()[1:, [0, 2]].toarray().tolist() == DENSE.T[1:, [0, 2]].tolist()


def test_arrays_are_read_only_after_unpickling_too() -> None:
    data = Interactions.from_coo([0, 1], [1, 0], [1, 2], [3, 4], user_ids=["a", "b"])
    copy = pickle.loads(pickle.dumps(data))
    check(copy)
    assert entries(copy) == entries(data)
    assert copy.user_ids == data.user_ids
    assert copy.shape == data.shape
    assert copy.report == data.report


def test_ops_take_interactions() -> None:
    data = Interactions(sp.csr_array(DENSE))
    csr = ops.as_csr(data)
    assert csr.shape == (3, 3)
    assert np.shares_memory(csr.col_idx, data.col_idx)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            Interactions.from_coo([0, 0, 1], [2, 0, 1], [5.0, 3.0, 4.0], [9, 8, 7], user_ids=["a", "b"]),
            "Interactions(2 users x 3 items, 3 entries, density 50%, values 3 to 5, times 7 to 9, user ids)",
        ),
        (Interactions.from_coo([0], [9]), "Interactions(1 users x 10 items, 1 entries, density 10%)"),
        (Interactions.from_coo([], [], [], []), "Interactions(0 users x 0 items, 0 entries, values, times)"),
    ],
    ids=["full", "plain", "empty"],
)
def test_repr(data: Interactions, text: str) -> None:
    assert repr(data) == text


@settings(max_examples=60, deadline=None)
@given(interactions())
def test_invariants_and_round_trip_through_scipy(data: Interactions) -> None:
    check(data)
    again = Interactions(data.csr)
    check(again)
    assert [entry[:3] for entry in entries(again)] == [entry[:3] for entry in entries(data)]
    assert data.user_counts.tolist() == np.bincount(data.rows(), minlength=data.n_users).tolist()
    assert data.item_counts.sum() == data.nnz


def test_real_data(data_dir: Any) -> None:
    data = Interactions.from_npz(data_dir / "gowalla_train.npz")
    assert data.shape == (29858, 40981)
    assert data.nnz == 810_128
    assert data.values is None


def test_other_values_for_the_same_entries() -> None:
    data = Interactions.from_coo([0, 0, 1], [2, 0, 1], [5.0, 3.0, 4.0], timestamps=[7, 8, 9])
    values = np.array([1.0, 2.0, 3.0], np.float32)
    made = data.with_values(values)
    assert made.csr.toarray().tolist() == [[1, 0, 2], [0, 3, 0]]
    assert made.timestamps is data.timestamps
    assert data.csr.toarray().tolist() == [[3, 0, 5], [0, 4, 0]]
    values[0] = 9
    assert made.values is not None
    assert made.values[0] == 1
    for bad, error in (
        ([1, 2], ValueError),
        ([1, 2, np.nan], ValueError),
        ([1, 2, np.inf], ValueError),
        (["a"] * 3, TypeError),
    ):
        with pytest.raises(error, match="values"):
            data.with_values(bad)
