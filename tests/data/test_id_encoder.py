from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_fast.data import IdMap
from recsys_fast.data.columns import RawColumn, raw_ids
from recsys_fast.data.id_encoder import IdEncoder

INTS = st.integers(-20, 20) | st.integers(-(2**62), 2**62)
COLUMNS = st.lists(INTS) | st.lists(st.text(max_size=3)) | st.lists(st.tuples(st.integers(0, 3), st.text(max_size=1)))


def encode(chunks: list[list[Any]], **options: Any) -> tuple[IdMap, list[int]]:
    encoder = IdEncoder("user", **options)
    codes = [encoder.add(raw_ids(chunk, "ids")) for chunk in chunks]
    id_map, final = encoder.finish()
    joined = np.concatenate([np.empty(0, np.int32), *codes])
    return id_map, (joined if final is None else final[joined]).tolist()


@settings(max_examples=100, deadline=None)
@given(COLUMNS, st.integers(1, 7))
def test_the_result_does_not_depend_on_the_chunks(raw: list[Any], size: int) -> None:
    whole, dense = encode([raw])
    chunked, dense_chunked = encode([raw[start : start + size] for start in range(0, len(raw), size)])
    assert whole.ids.tolist() == chunked.ids.tolist()
    assert dense == dense_chunked
    assert [whole.ids.tolist()[code] for code in dense] == raw


def test_order_is_ascending_or_first_seen() -> None:
    assert encode([[5, 3], [9, 3, 1]])[0].ids.tolist() == [1, 3, 5, 9]
    assert encode([["b"], ["a", "b"]])[0].ids.tolist() == ["a", "b"]
    assert encode([[(2,)], [(1,), (2,)]])[0].ids.tolist() == [(2,), (1,)]
    assert encode([[2**70], [1]])[0].ids.tolist() == [1, 2**70]


def test_kinds_may_change_between_chunks() -> None:
    id_map, dense = encode([[5, 3], ["x", 5], [3]])
    assert id_map.ids.tolist() == [3, 5, "x"]
    assert dense == [1, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        (["10", "9", "-3", "0"], [-3, 0, 9, 10]),
        (["10", "9", "09"], ["09", "10", "9"]),
        (["1", "-0"], ["-0", "1"]),
        (["1", "x"], ["1", "x"]),
        (["1", "²"], ["1", "²"]),
        (["1", "9" * 19], ["1", "9" * 19]),
        (["1", " 2"], [" 2", "1"]),
        (["1", "-"], ["-", "1"]),
    ],
    ids=repr,
)
def test_text_becomes_integers_only_if_every_id_is_one(texts: list[str], ids: list[Any]) -> None:
    id_map, dense = encode([[text] for text in texts], text=True)
    assert id_map.ids.tolist() == ids
    assert [str(id_map.ids[code]) for code in dense] == texts


def test_a_given_map_never_grows() -> None:
    encoder = IdEncoder("item", IdMap([4, 2]))
    assert not encoder.grows
    assert encoder.add(raw_ids([2, 3, 4, 2], "ids")).tolist() == [1, -1, 0, 1]
    assert encoder.finish()[0].ids.tolist() == [4, 2]
    text = IdEncoder("item", IdMap([4, 2]), text=True)
    assert text.add(raw_ids(["2", "02", "4", "x"], "ids")).tolist() == [1, -1, 0, -1]


def test_coded_columns() -> None:
    encoder = IdEncoder("item")
    column = RawColumn(np.array(["b", "a"], object), None, np.array([1, 0, 1, 1], np.int32))
    assert encoder.add(column).tolist() == [1, 0, 1, 1]
    assert len(column) == 4
    kept = column.keep(np.array([True, False, True, False]))
    assert kept.values.tolist() == ["a"]
    assert kept.codes is not None
    assert kept.codes.tolist() == [0, 0]
