"""Sequences: what goes in, what is refused, parts and other forms."""

from __future__ import annotations

import copy
import datetime
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recsys_fast as rf
from recsys_fast import ops
from recsys_fast.data import IdMap, Interactions, Sequences

LISTS = st.lists(st.lists(st.integers(0, 6), max_size=6), max_size=7)


def lists(data: Sequences) -> list[list[int]]:
    return [row.tolist() for row in data]


def check(data: Sequences) -> None:
    """Assert what every ``Sequences`` promises about its arrays."""
    assert data.row_ptr.dtype == np.int64
    assert data.items.dtype == np.int32
    assert data.row_ptr[0] == 0
    assert data.row_ptr[-1] == len(data.items) == data.n_events
    assert (np.diff(data.row_ptr) >= 0).all()
    assert data.n_events == 0 or 0 <= data.items.min() <= data.items.max() < data.n_items
    for array in (data.row_ptr, data.items, data.timestamps):
        assert array is None or not array.flags.writeable
    if data.timestamps is not None:
        assert data.timestamps.shape == data.items.shape
        for begin, end in pairwise(data.row_ptr):
            assert (np.diff(data.timestamps[begin:end]) >= 0).all()
    assert data.user_ids is None or len(data.user_ids) == data.n_users


@settings(max_examples=50, deadline=None)
@given(LISTS)
def test_ragged_lists_come_back(rows: list[list[int]]) -> None:
    for given_rows in (rows, tuple(map(tuple, rows)), [np.array(row, np.int16) for row in rows]):
        data = Sequences(given_rows, n_items=7)
        check(data)
        assert lists(data) == rows
        assert len(data) == data.n_users == len(rows)
        assert data.shape == (len(rows), 7)
    assert lists(Sequences.from_arrays(data.row_ptr, data.items, n_items=7)) == rows


def test_arrays_of_all_integer_types_go_together() -> None:
    signed, unsigned = np.array([1, 2], np.int64), np.array([3], np.uint64)
    for rows in ([signed, unsigned], [unsigned, signed], [[1, 2], unsigned], [unsigned], [signed, [3], unsigned]):
        assert lists(Sequences(rows)) == [list(row) for row in rows]


def test_empty_histories_and_histories_of_one() -> None:
    data = Sequences([[], [3], []])
    check(data)
    assert (data.n_items, data.n_events, data.lengths.tolist()) == (4, 1, [0, 1, 0])
    assert len(data[0]) == 0
    assert data.prefixes()[0].n_users == 0
    nobody = Sequences([])
    check(nobody)
    assert nobody.shape == (0, 0)
    assert repr(nobody) == "Sequences(0 users x 0 items, 0 events)"
    assert nobody.seen.nnz == nobody.to_interactions().nnz == 0


@pytest.mark.parametrize(
    ("rows", "options", "error", "text"),
    [
        ([[1], [0, -1]], {}, ValueError, "item at place 1 of row 1 of lists: got -1, expected 0 <= item"),
        ([[], [9]], {"n_items": 9}, ValueError, "item at place 0 of row 1 of lists: got 9, expected 0 <= item < 9"),
        ([[2**31 - 2]], {}, ValueError, "0 <= item < 2147483646"),
        ([[1.0]], {}, TypeError, "item numbers"),
        ([["a"]], {}, TypeError, "raw_ids=True"),
        ([[True]], {}, TypeError, "True"),
        ([1, 2], {}, TypeError, "wrap a single list"),
        (np.zeros((2, 2), int), {}, TypeError, "2-D"),
        ("abc", {}, TypeError, "one list or array per user"),
        ([[1]], {"n_items": 2.0}, TypeError, "n_items"),
        ([[1]], {"n_items": -1}, ValueError, "n_items"),
        ([[1, 2]], {"timestamps": [[1]]}, ValueError, "timestamps differ"),
        ([[1, 2]], {"timestamps": [[1, None]]}, ValueError, "timestamp 1 is missing"),
        ([[1, 2]], {"timestamps": [[1.0, float("nan")]]}, ValueError, "timestamp 1 is missing"),
        ([[1, 2]], {"timestamps": [[1.0, 0.5]]}, (ValueError, TypeError), "whole numbers"),
        ([[1]], {"user_ids": ["a", "b"]}, ValueError, "length of user_ids"),
        ([np.zeros((1, 2), int)], {}, ValueError, "several dimensions"),
        ([np.array(3)], {}, TypeError, "lists holds: got array"),
        ([[1], np.array(3)], {}, TypeError, "lists holds: got array"),
        ([np.array([2**63], np.uint64), np.array([1])], {}, ValueError, "item at place 0 of row 0"),
    ],
)
def test_bad_lists_are_refused(rows: Any, options: dict[str, Any], error: Any, text: str) -> None:
    with pytest.raises(error, match="(?i)" + text.replace("(", "\\(").replace("<", "<")):
        Sequences(rows, **options)


def test_bad_packed_arrays_are_refused() -> None:
    for row_ptr, items in (([0, 2, 1, 3], [1, 1, 1]), ([0, 2], [1]), ([1, 2], [1, 1]), ([0, 1, 0], [])):
        with pytest.raises(ValueError, match="row_ptr"):
            Sequences.from_arrays(row_ptr, np.array(items, int))
    with pytest.raises(TypeError, match="row_ptr"):
        Sequences.from_arrays([], [])
    with pytest.raises(TypeError, match="a Sequences already"):
        Sequences(Sequences([[1]]))


def test_unsorted_times_are_sorted_and_equal_ones_keep_their_order() -> None:
    data = Sequences([[1, 2, 3, 4], [5], [6, 7]], timestamps=[[5, 3, 5, 3], [0], [1, 1]])
    check(data)
    assert lists(data) == [[2, 4, 1, 3], [5], [6, 7]]
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [3, 3, 5, 5, 0, 1, 1]
    far = Sequences([[1, 2, 3]], timestamps=[[2**62, -(2**62), 0]])
    assert lists(far) == [[2, 3, 1]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 3)), max_size=20))
def test_events_in_any_order(events: list[tuple[int, int, int]]) -> None:
    users, items, times = ([event[k] for event in events] for k in range(3))
    data = Sequences.from_coo(users, items, times, shape=(4, 5))
    check(data)
    for user in range(4):
        mine = sorted((event for event in events if event[0] == user), key=lambda event: event[2])
        assert data[user].tolist() == [item for _, item, _ in mine]
    by_place = Sequences.from_coo(users, items, shape=(4, 5))
    assert [row.tolist() for row in by_place] == [[i for u, i, _ in events if u == user] for user in range(4)]


def test_raw_ids_and_missing_times() -> None:
    data = Sequences.from_coo(["b", "a", "b"], ["x", "y", "x"], [3, 2, 1], raw_ids=True)
    assert data.user_ids is not None
    assert data.item_ids is not None
    assert data.item_ids.decode(data[data.user_ids.encode("b")]).tolist() == ["x", "x"]
    with pytest.raises(ValueError, match="missing"):
        Sequences.from_coo([0, 0], [1, 2], [1.0, float("nan")])
    kept = Sequences.from_coo([0, 0], [1, 2], [1.0, float("nan")], missing="drop")
    assert (lists(kept), kept.report["missing"]) == ([[1]], 1)
    with pytest.raises(TypeError, match="duplicates"):
        Sequences.from_coo([0], [1], duplicates="sum")
    with pytest.raises(ValueError, match="missing"):
        Sequences.from_coo([0], [1], missing="zero")
    with pytest.raises(TypeError, match="no option"):
        Sequences.from_coo([0], [1], unknown="drop")
    with pytest.raises(IndexError, match="unknown item"):
        Sequences.from_coo(["a"], ["z"], raw_ids=True, item_ids=data.item_ids)
    with pytest.raises(ValueError, match="differ in length"):
        Sequences.from_coo([0, 1], [1])


def test_from_interactions() -> None:
    data = Interactions.from_coo([1, 0, 1, 1], [4, 2, 0, 3], timestamps=[7, 1, 7, 2], shape=(3, 5))
    made = Sequences.from_interactions(data)
    check(made)
    assert lists(made) == [[2], [3, 4, 0], []]
    assert made.shape == (3, 5)
    with pytest.raises(ValueError, match="no timestamps"):
        Sequences.from_interactions(Interactions.from_coo([0], [1]))
    with pytest.raises(TypeError, match="Interactions"):
        Sequences.from_interactions([[1]])  # type: ignore[arg-type]


def test_tables_and_files(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("narwhals")
    day = datetime.datetime(2024, 1, 1)
    times = [day + datetime.timedelta(days=k) for k in (2, 0, 1)]
    frame = pandas.DataFrame({"user": ["a", "a", "a"], "item": ["x", "y", "x"], "timestamp": times})
    data = Sequences.from_frame(frame)
    assert data.item_ids is not None
    assert data.item_ids.decode(data[0]).tolist() == ["y", "x", "x"]
    file = tmp_path / "log.csv"
    file.write_text("who,what,when\n7,30,5\n7,10,4\n9,10,1\n7,30,4\n", encoding="utf-8")
    read = Sequences.from_csv(file, user="who", item="what", timestamp="when")
    assert read.item_ids is not None
    assert [read.item_ids.decode(row).tolist() for row in read] == [[10, 30, 30], [10]]
    with pytest.raises(TypeError, match="value"):
        Sequences.from_csv(file, value=2)


def test_parts() -> None:
    data = Sequences([[1, 2], [], [3, 4, 5], [6]], timestamps=[[1, 2], [], [3, 4, 5], [6]], user_ids=list("abcd"))
    assert data[-1].tolist() == [6]
    assert data[np.int32(2)].tolist() == [3, 4, 5]
    for chosen, rows in (
        (slice(1, 3), [[], [3, 4, 5]]),
        ([3, 0], [[6], [1, 2]]),
        (data.lengths > 1, [[1, 2], [3, 4, 5]]),
    ):
        part = data[chosen]
        check(part)
        assert lists(part) == rows
        assert part.user_ids is not None
    assert data[[3, 0]].user_ids == IdMap(["d", "a"])
    assert lists(data.take(np.array([2, 2]))) == [[3, 4, 5]] * 2
    assert lists(data.last(2)) == [[1, 2], [], [4, 5], [6]]
    assert data.last(3) is data
    assert lists(data.last(0)) == [[]] * 4
    for bad in (4, -5):
        with pytest.raises(IndexError, match="user"):
            data[bad]
    with pytest.raises(IndexError, match="0 <= user < 4"):
        data.take(np.array([4]))
    with pytest.raises(ValueError, match="more than once"):
        data[[1, 1]]


def test_prefixes() -> None:
    data = Sequences([[1, 2, 3], [4], [], [5, 5]])
    histories, targets = data.prefixes()
    assert lists(histories) == [[1], [1, 2], [5]]
    assert lists(targets) == [[2], [3], [5]]
    assert lists(data.prefixes(max_history=1)[0]) == [[1], [2], [5]]
    with pytest.raises(ValueError, match="max_history"):
        data.prefixes(max_history=0)


@settings(max_examples=50, deadline=None)
@given(LISTS)
def test_seen_items_and_matrix(rows: list[list[int]]) -> None:
    data = Sequences(rows, n_items=7)
    seen = data.seen
    assert ops.validate_csr(seen)
    assert seen.shape == data.shape
    expected = [sorted(set(row)) for row in rows]
    assert [seen.col_idx[a:b].tolist() for a, b in pairwise(seen.row_ptr)] == expected
    assert ops.as_csr(data) is seen or ops.as_csr(data).nnz == seen.nnz
    assert data.csr.sum() == seen.nnz
    matrix = data.to_interactions()
    repeats = any(len(set(row)) < len(row) for row in rows)
    assert (matrix.values is None) == (not repeats)
    back = Sequences.from_interactions(matrix)
    last_visits = [[x for k, x in enumerate(row) if x not in row[k + 1 :]] for row in rows]
    assert lists(back) == last_visits


def test_files_and_copies(tmp_path: Path) -> None:
    data = Sequences([[1, 0], [2]], timestamps=[[1, 1], [9]], n_items=5, user_ids=["é", "b"], item_ids=[9, 8, 7, 6, 5])
    for compress in (True, False):
        data.to_npz(tmp_path / "s.npz", compress=compress)
        for other in (Sequences.from_npz(tmp_path / "s.npz"), pickle.loads(pickle.dumps(data)), copy.deepcopy(data)):
            check(other)
            assert lists(other) == lists(data)
            assert other.timestamps is not None
            assert other.timestamps.tolist() == [1, 1, 9]
            assert other.shape == (2, 5)
            assert (other.user_ids, other.item_ids) == (data.user_ids, data.item_ids)
    np.savez(tmp_path / "f.npz", indptr=[0, 2, 3], indices=[3, 3, 0], n_items=4)
    assert lists(Sequences.from_npz(tmp_path / "f.npz")) == [[3, 3], [0]]
    with pytest.raises(FileNotFoundError):
        Sequences.from_npz(tmp_path / "none.npz")
    bad: dict[str, dict[str, Any]] = {
        "range": {"items": [9]}, "pointers": {"row_ptr": [0, 2]}, "type": {"items": [1.5]},
        "format": {"format": "recsys_fast.interactions/1"}, "n_items": {"n_items": [1, 2]},
    }  # fmt: skip
    for name, change in bad.items():
        arrays = {"format": "recsys_fast.sequences/1", "row_ptr": [0, 1], "items": [1], "n_items": 3, **change}
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(ValueError, match=r"row_ptr|item|format"):
            Sequences.from_npz(tmp_path / f"{name}.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "s.npz").read_bytes()[:200])
    with pytest.raises(ValueError, match="damaged"):
        Sequences.from_npz(tmp_path / "cut.npz")
    Interactions.from_coo([0], [1]).to_npz(tmp_path / "m.npz")
    with pytest.raises(ValueError, match=r"Interactions\.from_npz"):
        Sequences.from_npz(tmp_path / "m.npz")


def test_models_of_matrices_take_sequences() -> None:
    data = Sequences([[1, 2, 1], [0], [2, 0]], n_items=3)
    model = rf.Popularity().fit(data)
    assert model.recommend(1, n=3).ids.tolist() == [2, 1, -1]
