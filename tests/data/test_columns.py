import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys_fast.data.columns import as_timestamps, as_values, raw_ids

DAY = 86_400_000_000
NAN = float("nan")


@pytest.mark.parametrize(
    ("raw", "values", "missing"),
    [
        ([1, 2], [1, 2], None),
        ([1, None], [1, 0], [False, True]),
        ([1.0, NAN, 3], [1, 0, 3], [False, True, False]),
        (np.array([2.0, NAN]), [2, 0], [False, True]),
        (np.array([2.5, NAN]), [2.5, None], [False, True]),
        (["a", pd.NA, "c"], ["a", None, "c"], [False, True, False]),
        (pd.array([1, None], dtype="Int64"), [1, 0], [False, True]),
        (np.array([2**64 - 1], np.uint64), [2**64 - 1], None),
        ([True, False], [True, False], None),
        (np.array(["x"]), ["x"], None),
        ([], [], None),
    ],
    ids=repr,
)
def test_raw_ids(raw: Any, values: list[Any], missing: list[bool] | None) -> None:
    column = raw_ids(raw, "ids")
    assert column.values.tolist() == values
    assert (None if column.missing is None else column.missing.tolist()) == missing
    assert column.codes is None


@pytest.mark.parametrize("raw", ["abc", 3, None, [[1]], [set()]], ids=repr)
def test_raw_ids_refuse(raw: Any) -> None:
    with pytest.raises(TypeError, match="ids"):
        raw_ids(raw, "ids")
    with pytest.raises(ValueError, match="ids: got 2 dimensions, expected 1"):
        raw_ids(np.zeros((2, 2), int), "ids")


def test_values() -> None:
    assert as_values([1, 2.5, None, True]).tolist()[:2] == [1, 2.5]
    assert np.isnan(as_values([1, None])[1])
    assert as_values(np.array([True, False])).tolist() == [1, 0]
    assert as_values(np.array([3], np.int8)).dtype == np.float32
    assert as_values([]).tolist() == []
    assert np.isnan(as_values(np.array([np.nan]))[0])


@pytest.mark.parametrize(
    ("raw", "error", "text"),
    [
        ([1, float("inf")], ValueError, r"values\[1\]: got inf, expected a finite float32"),
        (np.array([1, -1e39]), ValueError, r"values\[1\]: got -1e\+39"),
        (["3"], TypeError, r"values\[0\]: got '3', expected a number"),
        (np.array(["3"]), TypeError, "values: got dtype <U1"),
        (np.array([1j]), TypeError, "complex128"),
        (np.zeros((1, 1)), ValueError, "2 dimensions"),
    ],
    ids=repr,
)
def test_values_refuse(raw: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        as_values(raw)


@pytest.mark.parametrize(
    ("raw", "times", "missing"),
    [
        ([3, 1], [3, 1], None),
        (np.array([3.0, 1.0]), [3, 1], None),
        (np.array([3.0, NAN]), [3, 0], [False, True]),
        ([3, None], [3, 0], [False, True]),
        ([np.int32(3), 2.0], [3, 2], None),
        (np.array(["1970-01-02", "NaT"], "datetime64[D]"), [DAY, 0], [False, True]),
        (np.array(["1970-01-02"], "datetime64[ns]"), [DAY], None),
        ([datetime.datetime(1970, 1, 2), datetime.date(1970, 1, 3)], [DAY, 2 * DAY], None),
        (
            [datetime.datetime(1970, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))],
            [DAY * 23 // 24],
            None,
        ),
        ([pd.Timestamp("1970-01-02"), pd.NaT], [DAY, 0], [False, True]),
        ([np.datetime64("1970-01-02")], [DAY], None),
    ],
    ids=repr,
)
def test_timestamps(raw: Any, times: list[int], missing: list[bool] | None) -> None:
    got, gone = as_timestamps(raw)
    assert got.dtype == np.int64
    assert got.tolist() == times
    assert (None if gone is None else gone.tolist()) == missing


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (np.array([1.5]), ValueError),
        (np.array([np.inf]), ValueError),
        (np.array([2**64 - 1], np.uint64), ValueError),
        (["yesterday"], TypeError),
        ([1.5], TypeError),
        ([2**64], TypeError),
        ([True], TypeError),
        (np.array([True]), TypeError),
    ],
    ids=repr,
)
def test_timestamps_refuse(raw: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="timestamps"):
        as_timestamps(raw)


def test_inputs_are_left_alone() -> None:
    array = np.array([1.0, np.nan, 3.0])
    before = array.tobytes()
    raw_ids(array, "ids")
    as_values(array)[0] = 7
    as_timestamps(array)[0][0] = 7
    as_timestamps(ints := np.array([1, 2]))[0][0] = 7
    assert array.tobytes() == before
    assert ints.tolist() == [1, 2]
