import datetime
import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_fast.data import IdMap

KINDS: list[list[Any]] = [
    [7, 3, 2**62, -5],
    [3, 5, 9],
    ["ann", "bob", "Zoë", ""],
    [(1, "a"), (2, "b")],
    [1, "1", (1,), None.__class__, b"1"],
    [2.5, 3.0],
    [datetime.date(2024, 1, 1), datetime.date(2023, 1, 1)],
    [2**70, 1],
    [frozenset([1]), True],
]


@pytest.mark.parametrize("ids", KINDS, ids=repr)
def test_encode_and_decode_are_inverse(ids: list[Any]) -> None:
    id_map = IdMap(ids)
    n = len(ids)
    dense = id_map.encode(ids)
    assert dense.dtype == np.int32
    assert dense.tolist() == list(range(n))
    assert id_map.decode(dense).tolist() == ids
    for position, raw in enumerate(ids):
        assert id_map.encode(raw) == position
        assert type(id_map.encode(raw)) is int
        assert id_map.decode(position) == raw
        assert raw in id_map
    assert list(id_map) == ids
    assert len(id_map) == n
    assert id_map.encode(ids[::-1] * 2).tolist() == list(range(n))[::-1] * 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=50), st.lists(st.integers(-50, 50)))
def test_integers_agree_with_a_dict(ids: list[int], asked: list[int]) -> None:
    id_map, index = IdMap(ids), {raw: position for position, raw in enumerate(ids)}
    assert id_map.kind == "int" or not ids
    asked = asked + ids
    assert id_map.encode(asked, unknown="mark").tolist() == [index.get(raw, -1) for raw in asked]


@pytest.mark.parametrize(
    "column",
    [
        np.array(["b", "a"]),
        np.array(["b", "a"], object),
        pd.Series(["b", "a"]),
        pd.Series(["b", "a"], dtype="category"),
        pl.Series(["b", "a"]),
        pa.array(["b", "a"]),
    ],
    ids=lambda column: type(column).__module__,
)
def test_takes_columns_of_other_libraries(column: Any) -> None:
    id_map = IdMap(column)
    assert id_map.ids.tolist() == ["b", "a"]
    assert IdMap(["a", "x", "b"]).encode(column).tolist() == [2, 0]


def test_whole_floats_are_integers() -> None:
    assert IdMap([3, 4]).encode(np.array([4.0, 3.0])).tolist() == [1, 0]
    assert IdMap(np.array([4.0, 3.0])).kind == "int"
    assert IdMap(np.array([3], np.uint64)).kind == "int"


def test_lists_do_not_mix_types() -> None:
    id_map = IdMap([1, "1"])
    assert id_map.encode(["1", 1]).tolist() == [1, 0]


def test_unknown_id_is_named() -> None:
    with pytest.raises(
        IndexError, match=r"unknown id 'eve' at position 1.*2 ids such as 'ann', 'bob'.*unknown=\"mark\""
    ):
        IdMap(["ann", "bob"]).encode(["bob", "eve"])
    with pytest.raises(IndexError, match="unknown id 6: expected one of the 3 ids"):
        IdMap([5, 7, 9]).encode(6)
    with pytest.raises(IndexError, match="unknown id 'x'"):
        IdMap([5, 7, 9]).encode("x")
    with pytest.raises(IndexError, match=r"unknown id 1.*\(none\)"):
        IdMap([]).encode([1])
    assert IdMap([5, 7]).encode([7, 6, 5], unknown="mark").tolist() == [1, -1, 0]
    assert "x" not in IdMap([5])
    assert [] not in IdMap([5])
    with pytest.raises(ValueError, match='unknown: got \'drop\', expected "error" or "mark"'):
        IdMap([5]).encode([5], unknown="drop")


@pytest.mark.parametrize("ids", [[1, 2, 1], ["a", "b", "a"], np.array([4, 4]), [(1,), (1,)]], ids=repr)
def test_duplicates_are_refused(ids: Any) -> None:
    with pytest.raises(ValueError, match=r"id .* occurs more than once"):
        IdMap(ids)


@pytest.mark.parametrize("ids", [[1, None], ["a", None], [1.5, float("nan")], np.array([1.0, np.nan])], ids=repr)
def test_missing_ids_are_refused(ids: Any) -> None:
    with pytest.raises(ValueError, match="id 1 is missing"):
        IdMap(ids)


@pytest.mark.parametrize("ids", ["abc", 5, None, [[1], [2]], [{}]], ids=repr)
def test_what_is_no_collection_of_hashables_is_refused(ids: Any) -> None:
    with pytest.raises(TypeError):
        IdMap(ids)


def test_decode_shapes_and_padding() -> None:
    id_map = IdMap([10, 20, 30])
    assert id_map.decode(np.array([[0, 2], [1, 1]])).tolist() == [[10, 30], [20, 20]]
    assert id_map.decode(np.array([[0, 2]])).dtype == np.int64
    assert id_map.decode([[0, -1]]).tolist() == [[10, None]]
    assert id_map.decode([0, -1], fill=(0, 0)).tolist() == [10, (0, 0)]
    assert id_map.decode(-1, fill="none") == "none"
    assert id_map.decode(np.int32(2)) == 30
    assert type(id_map.decode(2)) is int
    assert id_map.decode([]).tolist() == []


def test_decode_refuses_what_is_out_of_range() -> None:
    for bad in ([3], [-2], 3):
        with pytest.raises(IndexError, match=r"0 <= id < 3, or -1 for padding"):
            IdMap([10, 20, 30]).decode(bad)
    with pytest.raises(TypeError, match=r"Use encode\(\)"):
        IdMap(["a"]).decode(["a"])


def test_is_immutable_and_leaves_the_input_alone() -> None:
    ids = np.array([3, 1])
    id_map = IdMap(ids)
    ids[0] = 99
    assert id_map.ids.tolist() == [3, 1]
    with pytest.raises(ValueError, match="read-only"):
        id_map.ids[0] = 5
    assert ids.flags.writeable


def test_equality_subset_pickle_and_repr() -> None:
    id_map = IdMap(["a", "b", "c", "d"])
    assert id_map.subset(np.array([2, 0])) == IdMap(["c", "a"])
    assert id_map != IdMap(["a", "b", "d", "c"])
    assert IdMap([1]) != IdMap(["1"])
    assert hash(IdMap([1])) == hash(IdMap([1]))
    assert (id_map == 3) is False
    copy = pickle.loads(pickle.dumps(id_map))
    assert copy == id_map
    assert not copy.ids.flags.writeable
    assert repr(id_map) == "IdMap(4 ids: 'a', 'b', 'c', ...)"
    assert repr(IdMap([1])) == "IdMap(1 ids: 1)"


def test_it_is_at_hand_where_errors_name_it() -> None:
    import recsys_fast as rf

    assert rf.IdMap is IdMap
    assert "IdMap" in dir(rf)
    with pytest.raises(TypeError, match=r"rf\.IdMap\(ids\)"):
        rf.Interactions.from_coo([1], [2], raw_ids=True, user_ids=[1])
    with pytest.raises(TypeError, match=r"rf\.IdMap"):
        rf.Popularity().fit(rf.Interactions.from_coo([0], [1])).recommend("ann")
