"""The gate, transposition and assembly, held against one-entry-at-a-time references on every backend."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_fast import backend, ops
from recsys_fast.ops import Csr
from tests.cases.csr import ALL, SORTED, UNSORTED, random_csr, reference_from_coo, reference_validate, triples

by_property = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
THREADS = (1, 2, 5)


def assert_same(a: Csr, b: Csr) -> None:
    assert a.shape == b.shape
    np.testing.assert_array_equal(a.row_ptr, b.row_ptr)
    np.testing.assert_array_equal(a.col_idx, b.col_idx)
    assert (a.values is None) == (b.values is None)
    np.testing.assert_array_equal(a.or_empty().view(np.int32), b.or_empty().view(np.int32))


def flat_validate(csr: Csr, device: str, n_threads: int = 2) -> tuple[int, int]:
    code, where = backend.get(device).validate_csr(csr.row_ptr, csr.col_idx, csr.or_empty(), csr.n_cols, n_threads)
    return int(code), int(where)


@pytest.mark.parametrize("name", ALL)
def test_gate_lets_good_matrices_pass_and_says_whether_they_are_sorted(name: str, device: str) -> None:
    for n_threads in THREADS:
        assert ops.validate_csr(ALL[name], device=device, n_threads=n_threads) is (name in SORTED)
        assert flat_validate(ALL[name], device, n_threads) == reference_validate(ALL[name])


CORRUPTIONS: dict[str, tuple[str, Any, str]] = {
    "first pointer": ("row_ptr", lambda m, at: (0, 1), r"row_ptr\[0\] of matrix: got 1, expected 0"),
    "negative pointer": ("row_ptr", lambda m, at: (0, -1), r"row_ptr\[0\] of matrix: got -1, expected 0"),
    "pointer far past the end": ("row_ptr", lambda m, at: (1 + at % (m.n_rows - 1), 2**62), "decreases at row"),
    "pointer below zero": ("row_ptr", lambda m, at: (1 + at % (m.n_rows - 1), -(2**62)), "decreases at row"),
    "last pointer": ("row_ptr", lambda m, at: (m.n_rows, m.nnz + 1), r"row_ptr\[-1\] .* the number of entries"),
    "negative column": ("col_idx", lambda m, at: (at, -1), "column of entry .* got -1, expected 0 <= column < "),
    "column one too large": ("col_idx", lambda m, at: (at, m.n_cols), "column of entry .* expected 0 <= column < "),
    "largest column": ("col_idx", lambda m, at: (at, 2**31 - 1), "got 2147483647, expected 0 <= column < "),
    "NaN": ("values", lambda m, at: (at, np.nan), "value of entry .* got nan, expected a finite float32. Drop or"),
    "inf": ("values", lambda m, at: (at, np.inf), "value of entry .* got inf"),
    "-inf": ("values", lambda m, at: (at, -np.inf), "value of entry .* got -inf"),
}


def corrupted(csr: Csr, kind: str, at: int) -> Csr:
    field, change, _ = CORRUPTIONS[kind]
    place, value = change(csr, at)
    array = getattr(csr, field).copy()
    array[place] = value
    return csr._replace(**{field: array})


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("name", ["random", "many entries"])
def test_gate_names_the_defect_and_every_operation_has_the_gate(kind: str, name: str, device: str) -> None:
    for at in (0, ALL[name].nnz // 2, ALL[name].nnz - 1):
        csr = corrupted(ALL[name], kind, at)
        text = CORRUPTIONS[kind][2]
        for operation in (ops.validate_csr, ops.csr_transpose, ops.as_csr):
            with pytest.raises(ValueError, match=text):
                operation(csr, device=device, n_threads=2)
        with pytest.raises(ValueError, match=text):
            ops.sample_negatives(csr, [0], 1, device=device)
        assert flat_validate(csr, device) == reference_validate(csr)


@by_property
@given(data=st.data())
def test_gate_finds_the_first_of_many_defects(data: st.DataObject, device: str) -> None:
    csr = ALL[data.draw(st.sampled_from(["random", "unsorted", "duplicates", "many entries", "long rows"]))]
    for _ in range(data.draw(st.integers(1, 3))):
        kinds = data.draw(st.sampled_from(sorted(CORRUPTIONS)))
        csr = corrupted(csr, kinds, data.draw(st.integers(0, csr.nnz - 1)))
    expected = reference_validate(csr)
    assert expected[0] in range(1, 6)
    for n_threads in THREADS:
        assert flat_validate(csr, device, n_threads) == expected


@by_property
@given(rows=st.lists(st.lists(st.integers(0, 6), max_size=6), max_size=8))
def test_gate_finds_the_first_unsorted_row(rows: list[list[int]], device: str) -> None:
    col_idx = np.array([c for row in rows for c in row], np.int32)
    csr = Csr(np.cumsum([0, *map(len, rows)], dtype=np.int64), col_idx, None, len(rows), 7)
    assert flat_validate(csr, device) == reference_validate(csr)


GOOD = ALL["random"]
REFUSED = {
    "int32 row_ptr": (GOOD._replace(row_ptr=GOOD.row_ptr.astype(np.int32)), TypeError, "row_ptr .* 1-D int64"),
    "int64 col_idx": (GOOD._replace(col_idx=GOOD.col_idx.astype(np.int64)), TypeError, "col_idx .* 1-D int32"),
    "float64 values": (GOOD._replace(values=GOOD.or_empty().astype(np.float64)), TypeError, "values .* 1-D float32"),
    "a list": (GOOD._replace(col_idx=GOOD.col_idx.tolist()), TypeError, "col_idx .* got list"),
    "two dimensions": (GOOD._replace(col_idx=GOOD.col_idx[:, None]), TypeError, "2-D int32"),
    "strided": (
        GOOD._replace(values=np.repeat(GOOD.or_empty(), 2)[::2]),
        ValueError,
        "call ops.as_csr|Call ops.as_csr",
    ),
    "short row_ptr": (GOOD._replace(row_ptr=GOOD.row_ptr[:-1]), ValueError, r"expected n_rows \+ 1 = 71"),
    "no row_ptr": (GOOD._replace(row_ptr=GOOD.row_ptr[:0]), ValueError, "got 0, expected n_rows"),
    "few values": (GOOD._replace(values=GOOD.or_empty()[1:]), ValueError, "number of values"),
    "negative shape": (GOOD._replace(n_cols=-1), ValueError, "shape of matrix"),
    "too many columns": (GOOD._replace(n_cols=2**31), ValueError, "shape of matrix"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_gate_refuses_wrong_arrays(kind: str, device: str) -> None:
    csr, error, text = REFUSED[kind]
    with pytest.raises(error, match=text):
        ops.validate_csr(csr, device=device)


@pytest.mark.parametrize("name", ALL)
def test_transpose_is_stable_and_knows_no_threads(name: str, device: str) -> None:
    csr = ALL[name]
    expected = sorted(((col, row, value) for row, col, value in triples(csr)), key=lambda entry: entry[:2])
    for n_threads in THREADS:
        result = ops.csr_transpose(csr, device=device, n_threads=n_threads)
        assert result.shape == csr.shape[::-1]
        assert (result.values is None) == (csr.values is None)
        assert triples(result) == expected
        assert flat_validate(result, device)[0] in ((0,) if name in SORTED else (0, 6))
    if name in SORTED:
        assert_same(ops.csr_transpose(result, device=device), csr)


@by_property
@given(
    entries=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(-3, 3)), max_size=40),
    duplicates=st.sampled_from(["sum", "max", "last"]),
)
def test_assembly_of_a_few_entries(entries: list[tuple[int, int, int]], duplicates: str, device: str) -> None:
    rows, cols, values = ([e[i] for e in entries] for i in range(3))
    csr, source = ops.csr_from_coo(rows, cols, values, shape=(6, 5), duplicates=duplicates, device=device)
    assert ops.validate_csr(csr, device=device)
    result = [(*entry, place) for entry, place in zip(triples(csr), source.tolist(), strict=True)]
    assert result == reference_from_coo(rows, cols, values, duplicates)


@pytest.mark.parametrize("duplicates", ["sum", "max", "last"])
@pytest.mark.parametrize("order", ["shuffled", "by row", "by column"])
def test_assembly_of_many_entries_knows_no_threads(duplicates: str, order: str, device: str) -> None:
    rng = np.random.default_rng(1)
    n = 80_000
    rows = np.minimum(rng.geometric(0.02, n) - 1, 300)  # a few rows take most: radix digits, and short rows beside
    cols, values = rng.integers(0, 5000, n), rng.standard_normal(n).astype(np.float32)
    if order != "shuffled":
        by = np.lexsort((rows, cols) if order == "by column" else (cols, rows))
        rows, cols, values = rows[by], cols[by], values[by]
    expected = reference_from_coo(rows.tolist(), cols.tolist(), values.tolist(), duplicates)
    one = ops.csr_from_coo(rows, cols, values, duplicates=duplicates, device=device, n_threads=1)
    assert one[0].nnz < n
    assert one[1].tolist() == [entry[3] for entry in expected]
    assert [entry[:2] for entry in triples(one[0])] == [entry[:2] for entry in expected]
    np.testing.assert_array_equal(one[0].or_empty(), np.array([entry[2] for entry in expected], np.float32))
    for n_threads in THREADS[1:]:
        many = ops.csr_from_coo(rows, cols, values, duplicates=duplicates, device=device, n_threads=n_threads)
        assert_same(many[0], one[0])
        np.testing.assert_array_equal(many[1], one[1])


def test_assembly_sums_in_float64(device: str) -> None:
    csr, _ = ops.csr_from_coo([0, 0, 0], [0, 0, 0], [2.0**30, 1.0, -(2.0**30)], device=device)
    assert triples(csr) == [(0, 0, 1.0)]


def test_assembly_names_the_first_repeated_pair(device: str) -> None:
    rows, cols = [5, 1, 0, 1, 5, 0], [2, 1, 0, 1, 2, 0]
    with pytest.raises(ValueError, match=r"entry 3 of matrix repeats the pair \(1, 1\).*\"sum\", \"max\" or \"last\""):
        ops.csr_from_coo(rows, cols, duplicates="error", device=device)
    csr, source = ops.csr_from_coo(rows[:3], cols[:3], duplicates="error", device=device)
    assert csr.shape == (6, 3)
    assert source.tolist() == [2, 1, 0]


def test_assembly_of_very_wide_matrices_takes_no_memory_per_column(device: str) -> None:
    wide = 2**31 - 1
    csr, source = ops.csr_from_coo([1, 0, 1], [wide - 1, 5, 0], shape=(2, wide), device=device)
    assert triples(csr) == [(0, 5, 1.0), (1, 0, 1.0), (1, wide - 1, 1.0)]
    assert source.tolist() == [1, 2, 0]


COORDINATES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "lengths": ({"cols": [0, 1]}, ValueError, "3 rows, 2 cols, 3 values"),
    "negative row": ({"rows": [0, -2, 1]}, ValueError, r"rows\[1\].*got -2, expected 0 <= index"),
    "negative int32 row": ({"rows": np.array([0, -2, 1], np.int32)}, ValueError, r"rows\[1\] of matrix: got -2"),
    "column at the bound": ({"cols": [0, 1, 3], "shape": (3, 3)}, ValueError, r"cols\[2\].*got 3, expected .* < 3"),
    "beyond int32": ({"rows": [0, 2**31, 1]}, ValueError, r"rows\[1\] of matrix: got 2147483648"),
    "2^32 is not 0": ({"cols": [0, 2**32, 1], "shape": (3, 3)}, ValueError, "got 4294967296"),
    "float indices": ({"rows": [0.0, 1.0, 2.0]}, TypeError, "expected an integer dtype"),
    "bool indices": ({"rows": [True, False, True]}, TypeError, "expected an integer dtype"),
    "two dimensions": ({"rows": [[0, 1, 2]]}, ValueError, "dimensions of rows of matrix: got 2"),
    "NaN": ({"values": [1.0, 2.0, np.nan]}, ValueError, r"values\[2\].*got nan.* Drop or impute"),
    "beyond float32": ({"values": [1.0, 1e39, 2.0]}, ValueError, r"values\[1\].*got inf"),
    "complex values": ({"values": [1j, 0, 0]}, TypeError, "complex128"),
    "text values": ({"values": ["a", "b", "c"]}, TypeError, "dtype of values"),
    "sum beyond float32": ({"values": [3e38] * 3, "rows": [1] * 3, "cols": [0] * 3}, ValueError, r"pair \(1, 0\)"),
    "policy": ({"duplicates": "first"}, ValueError, "'first', expected one of sum, max, last, error"),
    "shape": ({"shape": (-1, 3)}, ValueError, "shape of matrix"),
    "n_threads": ({"n_threads": 0}, ValueError, "n_threads: got 0"),
}


@pytest.mark.parametrize("kind", COORDINATES)
def test_assembly_refuses_bad_coordinates(kind: str, device: str) -> None:
    change, error, text = COORDINATES[kind]
    arguments = {"rows": [0, 2, 1], "cols": [0, 1, 2], "values": [1.0, 2.0, 3.0], "device": device} | change
    with pytest.raises(error, match=text):
        ops.csr_from_coo(**arguments)


FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("make", [sp.csr_array, sp.csr_matrix])
@pytest.mark.parametrize("form", FORMATS)
def test_every_scipy_format_is_taken(form: str, make: Any, index: Any, device: str) -> None:
    expected = random_csr(24, 36, 0.3, seed=3)
    matrix = make((expected.values, expected.col_idx, expected.row_ptr), expected.shape).asformat(form)
    for part in ("indices", "indptr"):
        if hasattr(matrix, part):
            setattr(matrix, part, getattr(matrix, part).astype(index))
    before = copy.deepcopy(matrix)
    for n_threads in THREADS:
        result = ops.as_csr(matrix, device=device, n_threads=n_threads)
        kept = [entry for entry in triples(result) if entry[2]]  # bsr stores whole blocks, with their zeros
        assert kept == triples(expected)
        assert ops.validate_csr(result)
    for field, old in vars(before).items():
        new = vars(matrix)[field]
        assert type(new) is type(old)
        assert getattr(new, "dtype", None) == getattr(old, "dtype", None)
        np.testing.assert_array_equal(new, old)
    if form == "csr":
        assert np.shares_memory(result.or_empty(), matrix.data)


def test_room_that_scipy_keeps_after_the_last_entry_is_ignored(device: str) -> None:
    matrix = sp.csr_array((np.array([1.0, 2.0, 9.0]), np.array([1, 0, 77]), np.array([0, 1, 2])), (2, 2))
    assert triples(ops.as_csr(matrix, device=device)) == [(0, 1, 1.0), (1, 0, 2.0)]


@pytest.mark.parametrize("bad", [-1, 36, 2**40])
@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo"])
def test_unchecked_indices_never_reach_scipy(form: str, bad: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = random_csr(36, 36, 0.3, seed=3)
    matrix = sp.csr_array((good.values, good.col_idx.astype(np.int64), good.row_ptr), good.shape).asformat(form)
    indices = matrix.coords[1] if form == "coo" else matrix.indices
    indices = indices.astype(np.int64)
    indices[7] = bad
    if form == "coo":
        matrix.coords = (matrix.coords[0], indices)
    else:
        matrix.indices = indices

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("scipy was asked to work on indices that nobody checked")

    for method in ("tocsr", "tocsc", "tocoo", "sum_duplicates", "sort_indices", "transpose", "copy"):
        if hasattr(matrix, method) and not (form == "coo" and method == "tocoo"):
            monkeypatch.setattr(type(matrix), method, fail)
    with pytest.raises(ValueError, match=f"got {bad}, expected 0 <= "):
        ops.as_csr(matrix, device=device)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_values_that_are_not_finite_are_refused_in_every_format(form: str, bad: float, device: str) -> None:
    dense = np.eye(6)
    dense[3, 3] = bad
    with pytest.raises(ValueError, match=r"value.*(nan|inf), expected a finite float32"):
        ops.as_csr(sp.csr_array(dense).asformat(form), device=device)


@pytest.mark.parametrize("name", UNSORTED)
def test_canonical_form_sorts_and_sums_a_copy(name: str, device: str) -> None:
    csr = UNSORTED[name]
    before = copy.deepcopy(csr)
    rows, cols, values = zip(*triples(csr), strict=True)
    expected = [entry[:3] for entry in reference_from_coo(rows, cols, values, "sum")]
    result = ops.as_csr(csr, device=device)
    assert [entry[:2] for entry in triples(result)] == [entry[:2] for entry in expected]
    np.testing.assert_array_equal([e[2] for e in triples(result)], np.float32([e[2] for e in expected]))
    assert_same(csr, before)
    assert_same(ops.as_csr(csr, canonical=False, device=device), csr)


def test_canonical_form_keeps_values_none_unless_it_has_to_count(device: str) -> None:
    unsorted = Csr(np.array([0, 3]), np.array([2, 0, 1], np.int32), None, 1, 3)
    assert ops.as_csr(unsorted, device=device).values is None
    twice = unsorted._replace(col_idx=np.array([2, 0, 2], np.int32))
    assert triples(ops.as_csr(twice, device=device)) == [(0, 0, 1.0), (0, 2, 2.0)]


@pytest.mark.parametrize("name", ["random", "many entries"])
def test_rows_are_taken_in_any_order(name: str, device: str) -> None:
    csr = ALL[name]
    rows = np.random.default_rng(0).integers(0, csr.n_rows, 2 * csr.n_rows)
    entries = [np.arange(*csr.row_ptr[r : r + 2]) for r in rows]
    expected = Csr(
        np.cumsum([0, *map(len, entries)]), csr.col_idx[np.concatenate(entries)],
        csr.or_empty()[np.concatenate(entries)], len(rows), csr.n_cols,
    )  # fmt: skip
    for n_threads in THREADS:
        assert_same(ops.csr_take_rows(csr, rows, device=device, n_threads=n_threads), expected)
    unit = csr._replace(values=None)
    assert_same(ops.csr_take_rows(unit, rows, device=device), expected._replace(values=None))
    none = ops.csr_take_rows(csr, [], device=device)
    assert none.shape == (0, csr.n_cols)
    assert none.nnz == 0
    for bad, error, text in (
        ([0, csr.n_rows], IndexError, r"rows\[1\]: got"),
        ([-1], IndexError, r"rows\[0\]: got -1"),
        ([0.5], TypeError, "dtype of rows"),
        ([[0]], ValueError, "dimensions of rows"),
    ):
        with pytest.raises(error, match=text):
            ops.csr_take_rows(csr, bad, device=device)


def test_dense_and_other_things_are_refused() -> None:
    for thing in (np.eye(3), [[1, 2]], None, "matrix"):
        with pytest.raises(TypeError, match=r"expected a sparse matrix\. Pass scipy"):
            ops.as_csr(thing)
    with pytest.raises(ValueError, match="dimensions of matrix: got 1, expected 2"):
        ops.as_csr(sp.coo_array(np.array([1.0, 0.0, 2.0])))
    with pytest.raises(TypeError, match="dtype of data of train: got complex128"):
        ops.as_csr(sp.csr_array(np.eye(2) * 1j), "train")


@pytest.mark.parametrize("layout", ["read-only", "strided", "unaligned", "big-endian", "int64"])
def test_any_memory_layout_gives_the_same_and_stays_untouched(layout: str, device: str) -> None:
    csr = ALL["random"]
    change = {
        "read-only": lambda a: a.copy(),
        "strided": lambda a: np.repeat(a, 3)[::3],
        "unaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), a.dtype, offset=1),
        "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
        "int64": lambda a: a.astype(np.int64) if a.dtype == np.int32 else a.copy(),
    }[layout]
    arrays = [change(a) for a in (csr.row_ptr, csr.col_idx, csr.or_empty())]
    for array in arrays:
        array.flags.writeable = False
    odd = Csr(*arrays, *csr.shape)
    assert_same(ops.as_csr(odd, device=device), csr)
    transposed = ops.csr_transpose(ops.as_csr(odd, device=device), device=device)
    assert_same(transposed, ops.csr_transpose(csr, device=device))
    cols, values = arrays[1:]
    rows = change(np.repeat(np.arange(csr.n_rows, dtype=np.int32), np.diff(csr.row_ptr)))
    assert_same(ops.csr_from_coo(rows, cols, values, shape=csr.shape, device=device)[0], csr)
    for array, original in zip(arrays, (csr.row_ptr, csr.col_idx, csr.values), strict=True):
        np.testing.assert_array_equal(array, original)
