import datetime
import sys
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from recsys_fast.data import IdMap, Interactions
from tests.data.helpers import check, raw_entries

COLUMNS: dict[str, list[Any]] = {
    "user": ["b", "a", "b"],
    "item": [30, 10, 20],
    "rating": [4.0, 5.0, 3.0],
    "time": [300, 100, 200],
}
ENTRIES = [("a", 10, 5, 100), ("b", 20, 3, 200), ("b", 30, 4, 300)]
NULLABLE = {"user": "string", "item": "Int64", "rating": "Float64", "time": "Int64"}
LIBRARIES: dict[str, Any] = {
    "pandas": pd.DataFrame,
    "pandas-arrow": lambda columns: pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype),
    "pandas-nullable": lambda columns: pd.DataFrame({n: pd.array(c, dtype=NULLABLE[n]) for n, c in columns.items()}),
    "polars": pl.DataFrame,
    "arrow": pa.table,
}


@pytest.fixture(params=LIBRARIES)
def frame_of(request: pytest.FixtureRequest) -> Any:
    return LIBRARIES[request.param]


def test_from_frame(frame_of: Any) -> None:
    data = Interactions.from_frame(frame_of(COLUMNS), value="rating", timestamp="time")
    check(data)
    assert raw_entries(data) == ENTRIES
    assert data.user_ids == IdMap(["a", "b"])
    assert data.item_ids == IdMap([10, 20, 30])
    plain = Interactions.from_frame(frame_of(COLUMNS), user="item", item="user")
    assert plain.values is None
    assert plain.timestamps is None
    assert plain.shape == (3, 2)


def test_nulls(frame_of: Any) -> None:
    columns = {
        "user": ["b", None, "a", "c", "d"],
        "item": [2**60 + 1, 10, None, 30, 40],
        "rating": [4.0, 5.0, 3.0, None, 2.0],
        "time": [1, 2, 3, 4, None],
    }
    with pytest.raises(ValueError, match="missing user id in row 1 of the table"):
        Interactions.from_frame(frame_of(columns), value="rating", timestamp="time")
    dropped = Interactions.from_frame(frame_of(columns), value="rating", timestamp="time", missing="drop")
    check(dropped)
    if frame_of is not pd.DataFrame:  # plain pandas has made the item a float already
        assert raw_entries(dropped) == [("b", 2**60 + 1, 4, 1)]
    assert dropped.report["missing"] == 4
    imputed = Interactions.from_frame(frame_of(columns), value="rating", timestamp="time", missing="mean")
    assert imputed.report["missing"] == 3
    assert sorted(entry[2] for entry in raw_entries(imputed)) == [4, 4]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_datetimes_become_microseconds(frame_of: Any, zone: str | None) -> None:
    when = datetime.datetime(2024, 1, 1, 1, tzinfo=datetime.UTC)
    times = pa.array([when, None], pa.timestamp("us", zone))
    table = pa.table({"user": ["a", "b"], "item": ["x", "y"], "time": times})
    frame: Any = table
    if frame_of is pl.DataFrame:
        frame = pl.from_arrow(table)
    elif frame_of is not pa.table:
        frame = table.to_pandas()
    data = Interactions.from_frame(frame, timestamp="time", missing="drop")
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [1_704_070_800_000_000]


def test_dates_and_categories() -> None:
    frame = pl.DataFrame({"user": ["a"], "item": ["x"], "day": [datetime.date(1970, 1, 3)]})
    data = Interactions.from_frame(frame.with_columns(pl.col("item").cast(pl.Categorical)), timestamp="day")
    assert raw_entries(data) == [("a", "x", 1, 2 * 86_400_000_000)]
    categories = pd.DataFrame({"user": pd.Categorical(["b", "a"]), "item": [1, 2]})
    assert Interactions.from_frame(categories).user_ids == IdMap(["a", "b"])


def test_nan_is_missing_beside_null() -> None:
    nan = float("nan")
    frame = pl.DataFrame({"user": [1.0, nan, None, 4.0], "item": [1, 2, 3, 4], "time": [5.0, 6.0, 7.0, nan]})
    frame = frame.with_columns(pl.Series("time2", [5.0, None, 7.0, nan]))
    for time in ("time", "time2"):
        data = Interactions.from_frame(frame, timestamp=time, missing="drop")
        assert raw_entries(data) == [(1, 1, 1, 5)]
        assert data.report["missing"] == 3


def test_refused(frame_of: Any) -> None:
    frame = frame_of(COLUMNS)
    with pytest.raises(ValueError, match="column 'score' is not in the table: expected one of 'user', 'item'"):
        Interactions.from_frame(frame, value="score")
    with pytest.raises(TypeError, match="user"):
        Interactions.from_frame(frame, value="user")
    with pytest.raises(TypeError, match="user"):
        Interactions.from_frame(frame, timestamp="user")
    with pytest.raises(TypeError, match="duplicate"):
        Interactions.from_frame(frame, duplicate="sum")


@pytest.mark.parametrize("frame", [pl.LazyFrame(COLUMNS), COLUMNS, None], ids=type)
def test_only_tables_in_memory(frame: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a pandas, polars or Arrow table. Collect a lazy frame"):
        Interactions.from_frame(frame)


def test_empty_frame(frame_of: Any) -> None:
    frame = frame_of(COLUMNS)[:0]
    data = Interactions.from_frame(frame, value="rating", timestamp="time")
    check(data)
    assert data.shape == (0, 0)
    assert data.values is not None
    assert data.timestamps is not None


def test_the_frame_is_left_alone() -> None:
    frame = pd.DataFrame(COLUMNS)
    before = frame.copy(deep=True)
    Interactions.from_frame(frame, value="rating", timestamp="time")
    pd.testing.assert_frame_equal(frame, before)


def test_missing_narwhals_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("narwhals", "narwhals.stable", "narwhals.stable.v1"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'from_frame needs narwhals.*pip install "recsys_fast\[data\]"'):
        Interactions.from_frame(pd.DataFrame(COLUMNS))
