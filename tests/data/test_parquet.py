import datetime
import decimal
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_fast.data import IdMap, Interactions
from tests.data.helpers import check, entries, raw_entries

N = 500


def table() -> pa.Table:
    users = [f"user {(place * 7919) % 23}" for place in range(N)]
    items = [(place * 104729) % 17 for place in range(N)]
    return pa.table(
        {"user": users, "item": items, "rating": [i / 4 for i in range(N)], "time": [i // 3 for i in range(N)]}
    )


@pytest.mark.parametrize("chunk_rows", [1, 7, 100, 10**6])
@pytest.mark.parametrize("row_group", [13, N])
def test_chunks_do_not_matter(tmp_path: Path, chunk_rows: int, row_group: int) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(table(), path, row_group_size=row_group)
    options: dict[str, Any] = {"value": "rating", "timestamp": "time", "duplicates": "last"}
    data = Interactions.from_parquet(path, chunk_rows=chunk_rows, **options)
    check(data)
    frame = Interactions.from_frame(table(), **options)
    assert entries(data) == entries(frame)
    assert data.user_ids == frame.user_ids
    assert data.item_ids == frame.item_ids
    assert data.report["duplicates"] == frame.report["duplicates"] > 0


def test_several_files(tmp_path: Path) -> None:
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for path, part in zip(paths, (table()[:200], table()[200:]), strict=True):
        pq.write_table(part, path)
    data = Interactions.from_parquet(list(paths), value="rating")
    assert entries(data) == entries(Interactions.from_frame(table(), value="rating"))
    assert "0.parquet and 1 more files" in str(data.report)


TYPES: dict[str, tuple[pa.Array, pa.Array, pa.Array, list[Any]]] = {
    "dictionary, int8, datetime": (
        pa.array(["b", "a"]).dictionary_encode(),
        pa.array([1, 2], pa.int8()),
        pa.array([datetime.datetime(1970, 1, 2), datetime.datetime(1970, 1, 3)], pa.timestamp("ns")),
        ["a", "b"],
    ),
    "large string, bool, date": (
        pa.array(["b", "a"], pa.large_string()),
        pa.array([True, False]),
        pa.array([datetime.date(1970, 1, 2), datetime.date(1970, 1, 3)]),
        ["a", "b"],
    ),
    "uint64, decimal, zoned": (
        pa.array([2**64 - 1, 1], pa.uint64()),
        pa.array([decimal.Decimal("1.0"), decimal.Decimal("2.0")]),
        pa.array([86_400_000, 2 * 86_400_000], pa.timestamp("ms", "Asia/Tokyo")),
        [1, 2**64 - 1],
    ),
    "float ids, float times": (
        pa.array([2.0, 1.0]),
        pa.array([1.5, 2.0], pa.float32()),
        pa.array([86_400_000_000.0, 2 * 86_400_000_000.0]),
        [1, 2],
    ),
}


@pytest.mark.parametrize(("users", "values", "times", "ids"), TYPES.values(), ids=TYPES.keys())
def test_column_types(tmp_path: Path, users: pa.Array, values: pa.Array, times: pa.Array, ids: list[Any]) -> None:
    path = tmp_path / "types.parquet"
    pq.write_table(pa.table({"user": users, "item": ["x", "y"], "value": values, "time": times}), path)
    data = Interactions.from_parquet(path, value="value", timestamp="time")
    check(data)
    assert data.user_ids == IdMap(ids)
    day = 86_400_000_000
    assert [(entry[0], entry[3]) for entry in entries(data)] == [(0, 2 * day), (1, day)]
    assert [entry[2] for entry in entries(data)] == [float(values[1].as_py()), float(values[0].as_py())]


def test_nulls(tmp_path: Path) -> None:
    path = tmp_path / "nulls.parquet"
    columns = {
        "user": ["b", None, "a", "c", "d"],
        "item": [2**60 + 1, 10, None, 30, 40],
        "rating": [4, 5, 3, None, 2],
        "time": [1, 2, 3, 4, None],
    }
    pq.write_table(pa.table(columns), path)
    with pytest.raises(ValueError, match=r"missing user id in row 1 of nulls.parquet"):
        Interactions.from_parquet(path, value="rating", chunk_rows=1)
    data = Interactions.from_parquet(path, value="rating", timestamp="time", missing="drop")
    assert raw_entries(data) == [("b", 2**60 + 1, 4, 1)]
    assert data.report["missing"] == 4
    nothing = pa.table({"user": ["a"], "item": ["x"], "rating": pa.nulls(1), "time": pa.nulls(1)})
    pq.write_table(nothing, path)
    assert Interactions.from_parquet(path, value="rating", missing="one").csr.toarray().tolist() == [[1]]
    assert len(Interactions.from_parquet(path, timestamp="time", missing="drop")) == 0


def test_empty_file_and_refusals(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(table()[:0], path)
    data = Interactions.from_parquet(path, value="rating", timestamp="time")
    check(data)
    assert data.shape == (0, 0)
    assert data.timestamps is not None
    pq.write_table(table(), path)
    with pytest.raises(ValueError, match=r"column 'movie' is not in data.parquet: expected one of 'user', 'item'"):
        Interactions.from_parquet(path, item="movie")
    with pytest.raises(TypeError, match="type of column 'user': got string, expected numbers"):
        Interactions.from_parquet(path, value="user")
    with pytest.raises(TypeError, match="type of column 'user': got string, expected integers or dates"):
        Interactions.from_parquet(path, timestamp="user")
    with pytest.raises(ValueError, match="chunk_rows: got 0"):
        Interactions.from_parquet(path, chunk_rows=0)
    with pytest.raises(FileNotFoundError, match="no such file"):
        Interactions.from_parquet(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="is not a file"):
        Interactions.from_parquet(tmp_path)
    with pytest.raises(ValueError, match="empty list"):
        Interactions.from_parquet([])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"data.parquet cannot be read as Parquet"):
        Interactions.from_parquet(path)


def test_missing_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r'from_parquet needs pyarrow.*pip install "recsys_fast\[data\]"'):
        Interactions.from_parquet(tmp_path / "x.parquet")
