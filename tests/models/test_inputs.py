from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.models import inputs
from recsys_fast.models.autoencoder import Autoencoder
from recsys_fast.ops import Csr
from tests.models.cases import ratings, same_state, snapshot

Make = Callable[..., Any]


def shuffled(matrix: sp.csr_array, seed: int = 0) -> sp.coo_array:
    """The entries in another order, each split into two that add up to it."""
    coo = matrix.tocoo()
    order = np.random.default_rng(seed).permutation(2 * coo.nnz)
    row, col = np.tile(coo.row, 2)[order], np.tile(coo.col, 2)[order]
    return sp.coo_array((np.tile(coo.data / 2, 2)[order], (row, col)), shape=coo.shape)


def unsorted(matrix: sp.csr_array) -> sp.csr_array:
    """Every row backwards, in a matrix that does not know it."""
    rows = [slice(a, b) for a, b in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)]
    indices = np.concatenate([matrix.indices[row][::-1] for row in rows])
    data = np.concatenate([matrix.data[row][::-1] for row in rows])
    return sp.csr_array((data, indices, matrix.indptr), shape=matrix.shape)


def with_int64(matrix: sp.csr_array) -> sp.csr_array:
    matrix = matrix.copy()
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


def read_only(matrix: sp.csr_array) -> sp.csr_array:
    matrix = matrix.copy()
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    return matrix


FORMS: dict[str, Callable[[sp.csr_array], Any]] = {
    "csr_matrix": sp.csr_matrix,
    "csc_array": lambda m: m.tocsc(),
    "coo_array": lambda m: m.tocoo(),
    "lil_array": lambda m: m.tolil(),
    "dok_array": lambda m: m.todok(),
    "bsr_array": lambda m: m.tobsr((1, 1)),
    "float64": lambda m: m.astype(np.float64),
    "int64 values": lambda m: m.astype(np.int64),
    "int64 indices": with_int64,
    "unsorted": unsorted,
    "duplicates": shuffled,
    "read-only": read_only,
    "Interactions": rf.Interactions,
    "Csr": lambda m: Csr(m.indptr.astype(np.int64), m.indices, m.data, *m.shape),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_matrix_gives_the_same_model_and_stays_as_it_was(make: Make, form: str) -> None:
    matrix = FORMS[form](ratings())
    before = snapshot(matrix)
    model = make().fit(matrix)
    model.recommend(user_items=matrix, n=3)
    model.estimate_memory(matrix)
    assert snapshot(matrix) == before
    assert same_state(model, make().fit(ratings()))


def test_a_canonical_matrix_is_not_copied(device: str) -> None:
    matrix = ratings()
    model = rf.ALS(4, n_epochs=1, device=device).fit(matrix)
    assert np.shares_memory(model.training_matrix_.col_idx, matrix.indices)
    assert np.shares_memory(model.training_matrix_.values, matrix.data)


def broken(part: str, at: int, value: Any) -> sp.csr_array:
    matrix = ratings()
    getattr(matrix, part)[at] = value
    return matrix


BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "index too large": (lambda: broken("indices", 7, 50_000_000), "50000000"),
    "negative index": (lambda: broken("indices", 7, -1), "-1"),
    "row pointers go down": (lambda: broken("indptr", 5, 0), "decreases"),
    "row pointers past the end": (lambda: broken("indptr", -1, 10_000), "10000|decreases|number of entries"),
    "row pointers start late": (lambda: broken("indptr", 0, 3), "row_ptr"),
    "NaN": (lambda: broken("data", 3, np.nan), "finite"),
    "infinity": (lambda: broken("data", 3, np.inf), "finite"),
    "beyond float32": (lambda: ratings().astype(np.float64) * 1e60, "finite"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_damaged_matrices_are_refused_and_leave_the_model_alone(make: Make, case: str) -> None:
    matrix, text = BROKEN[case]
    model = make().fit(ratings())
    before = model.score(1).copy()
    for call in (model.fit, model.partial_fit, lambda m: model.recommend(user_items=m)):
        with pytest.raises(ValueError, match=text):
            call(matrix())
    np.testing.assert_array_equal(model.score(1), before)


@pytest.mark.parametrize(
    "matrix",
    [np.ones((3, 4)), [[1, 0], [0, 1]], None, "gowalla", sp.csr_array(np.ones((2, 2), complex))],
    ids=["dense", "lists", "None", "text", "complex"],
)
def test_what_is_no_sparse_matrix_of_numbers_is_a_type_error(make: Make, matrix: Any) -> None:
    with pytest.raises(TypeError, match="user_items"):
        make().fit(matrix)


@pytest.mark.filterwarnings("ignore:.*interacted with every item:UserWarning")
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (3, 50), (50, 3), (5, 5)])
def test_small_shapes_work(make: Make, shape: tuple[int, int]) -> None:
    matrix = sp.csr_array(np.tri(*shape, dtype=np.float32))
    model = make().fit(matrix)
    ids, scores = model.recommend(n=shape[1] + 2)
    assert ids.shape == (shape[0], shape[1] + 2)
    assert not np.isnan(scores).any()
    assert np.isfinite(model.score(0)).all()


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0), (0, 0)])
def test_matrices_without_entries_work(make: Make, shape: tuple[int, int], tmp_path: Any) -> None:
    model = make().fit(sp.csr_array(shape, dtype=np.float32))
    ids, _ = model.recommend(n=4)
    at_random = isinstance(model, rf.Random | Autoencoder)  # networks rank by what they started with
    found = ids if not at_random else np.sort(ids % 5, axis=1) - 5 * (np.sort(ids % 5, axis=1) == 4)
    assert found.tolist() == [list(range(shape[1])) + [-1] * (4 - shape[1])] * shape[0]
    model.save(tmp_path / "x")
    np.testing.assert_array_equal(rf.load(tmp_path / "x").recommend(n=4).ids, ids)


def test_stored_zeros_are_no_interactions_when_implicit(device: str) -> None:
    matrix = ratings()
    zeros = matrix.copy()
    zeros.data[::3] = 0
    clean = zeros.copy()
    clean.eliminate_zeros()
    model = rf.ALS(4, n_epochs=2, random_state=0, device=device).fit(zeros)
    assert same_state(model, rf.ALS(4, n_epochs=2, random_state=0, device=device).fit(clean))
    assert (zeros.data[::3] == 0).all()
    np.testing.assert_array_equal(rf.Popularity().fit(zeros).item_scores_, rf.Popularity().fit(clean).item_scores_)
    zeros.data[:] = 0
    assert (rf.ALS(4, n_epochs=2, device=device).fit(zeros).score(0) == 0).all()


def test_values_that_make_no_sense_are_refused(device: str) -> None:
    matrix = ratings()
    ones = Csr(matrix.indptr.astype(np.int64), matrix.indices, None, *matrix.shape)
    with pytest.raises(ValueError, match="without values"):
        rf.ALS(4, feedback="explicit", device=device).fit(ones)
    with pytest.raises(ValueError, match="alpha"):
        rf.ALS(4, alpha=1e20, device=device).fit(ratings() * 1e30)
    with pytest.raises(ValueError, match="sum"):
        rf.Popularity("sum", device=device).fit(ratings() * np.float32(6e37))


def test_refit_on_another_shape_starts_afresh(make: Make) -> None:
    model = make().fit(ratings(40, 12))
    model.recommend(39)
    model.fit(ratings(20, 25, seed=3))
    assert same_state(model, make().fit(ratings(20, 25, seed=3)))
    assert model.recommend(n=30).ids.shape == (20, 30)
    with pytest.raises(IndexError, match="20"):
        model.recommend(39)


def test_rows_and_columns_are_taken_and_replaced() -> None:
    dense = ratings().toarray()
    csr = inputs.check_matrix(sp.csr_array(dense), "x")

    def back(matrix: Csr) -> np.ndarray[Any, Any]:
        return sp.csr_array((matrix.values, matrix.col_idx, matrix.row_ptr), shape=matrix.shape).toarray()

    rows = np.array([5, 0, 5, 29], np.int32)
    np.testing.assert_array_equal(back(inputs.take_rows(csr, rows)), dense[rows])
    new = ratings(2, 20, seed=4).toarray()
    expected = dense.copy()
    expected[[7, 3]] = new
    replaced = inputs.replace_rows(csr, np.array([7, 3], np.int32), inputs.check_matrix(sp.csr_array(new), "x"))
    np.testing.assert_array_equal(back(replaced), expected)
    columns = ratings(30, 2, seed=5).toarray()
    expected = dense.copy()
    expected[:, [19, 0]] = columns
    part = inputs.check_matrix(sp.csr_array(columns), "x")
    np.testing.assert_array_equal(back(inputs.replace_columns(csr, np.array([19, 0], np.int32), part)), expected)
    grown = np.zeros((32, 21), np.float32)
    grown[:30, :20] = dense
    np.testing.assert_array_equal(back(inputs.add_empty(csr, 32, 21)), grown)
    np.testing.assert_array_equal(inputs.column_counts(csr), (dense > 0).sum(0))
