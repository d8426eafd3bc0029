import bz2
import gzip
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from recsys_fast.data import IdMap, Interactions
from tests.data.helpers import check, entries, raw_entries
from tests.memory import traced_peak

ENGINES = ["pyarrow", "python"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "pyarrow":
        pytest.importorskip("pyarrow")
    return str(request.param)


def write(path: Path, text: str, **options: Any) -> Path:
    path.write_text(text, newline="", **options)
    return path


def lines(n: int, user: str = "{}") -> str:
    """Return n lines; items that first occur in later lines sort before those of the first ones."""
    rows = []
    for place in range(n):
        rows.append(f"{user.format(1000 - (place * 37) % 23)},{(n - place) // 30},{place % 9 / 2},{place // 4}")
    return "user,item,rating,time\n" + "\n".join(rows) + "\n"


@pytest.mark.parametrize("user", ["{}", "user {}", "0{}"], ids=["ints", "words", "leading zero"])
@pytest.mark.parametrize("chunk_bytes", [64, 333, 5000])
def test_chunks_do_not_matter(tmp_path: Path, engine: str, user: str, chunk_bytes: int) -> None:
    text = lines(900, user) + "12,x7,1,99999\n"  # turns integer items into strings at the very end
    path = write(tmp_path / "data.csv", text)
    options: dict[str, Any] = {"value": "rating", "timestamp": "time", "duplicates": "last", "engine": engine}
    whole = Interactions.from_csv(path, user="user", item="item", **options)
    chunked = Interactions.from_csv(path, user="user", item="item", chunk_bytes=chunk_bytes, **options)
    check(chunked)
    assert whole.report["duplicates"] > 0
    assert entries(chunked) == entries(whole)
    assert chunked.user_ids == whole.user_ids
    assert chunked.item_ids == whole.item_ids
    assert chunked.report == whole.report
    rows = [line.split(",") for line in text.splitlines()[1:]]
    arrays = Interactions.from_coo(
        [int(row[0]) if user == "{}" else row[0] for row in rows],
        [row[1] for row in rows],
        [float(row[2]) for row in rows],
        [int(row[3]) for row in rows],
        raw_ids=True,
        duplicates="last",
    )
    if user == "{}":
        assert entries(arrays) == entries(whole)
        assert arrays.user_ids == whole.user_ids
    assert raw_entries(arrays) == raw_entries(whole)


def test_several_chunks_are_really_read(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys_fast.data import text

    sizes = []

    class Spy(text.Collector):
        def add(self, chunk: Any) -> None:
            sizes.append(len(chunk.users))
            super().add(chunk)

    monkeypatch.setattr(text, "Collector", Spy)
    path = write(tmp_path / "data.csv", lines(1000))
    Interactions.from_csv(path, engine=engine, chunk_bytes=2048)
    assert sum(sizes) == 1000
    assert len(sizes) > 5
    assert max(sizes) < 300


def test_columns_by_name_and_position(tmp_path: Path, engine: str) -> None:
    path = write(tmp_path / "data.csv", "time,rating,item,user\n5,1.5,x,b\n6,2,y,a\n")
    expected = [("a", "y", 2, 6), ("b", "x", 1.5, 5)]
    named = Interactions.from_csv(path, user="user", item="item", value="rating", timestamp="time", engine=engine)
    placed = Interactions.from_csv(path, user=3, item=2, value=1, timestamp=0, engine=engine)
    assert raw_entries(named) == raw_entries(placed) == expected
    assert Interactions.from_csv(path, user=3, item=2, engine=engine).values is None


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("b\tx\t1\na\ty\t2\n", {"separator": "\t", "header": False}),
        ("b|x|1\r\na|y|2\r\n", {"separator": "|", "header": False}),
        ("\ufeffb x 1\na y 2", {"separator": " ", "header": False}),
        ("# made by hand\n# in 1997\n\nu;i;r\nb;x;1\n\na;y;2\n\n", {"separator": ";", "skip_rows": 2}),
        ('u,i,r\n"b","x",1\na,"y",2\n', {}),
    ],
    ids=["tab", "crlf", "byte order mark", "comments and blank lines", "quotes"],
)
def test_layouts(tmp_path: Path, engine: str, text: str, options: Any) -> None:
    path = write(tmp_path / "data.txt", text, encoding="utf-8")
    data = Interactions.from_csv(path, value=2, engine=engine, **options)
    assert raw_entries(data) == [("a", "y", 2, None), ("b", "x", 1, None)]


def test_separators_of_several_characters(tmp_path: Path) -> None:
    path = write(tmp_path / "ratings.dat", "1::10::5::978300760\n2::11::3::978300761\r\n")
    data = Interactions.from_csv(path, value=2, timestamp=3, separator="::", header=False)
    assert raw_entries(data) == [(1, 10, 5, 978300760), (2, 11, 3, 978300761)]
    with pytest.raises(ValueError, match="separator of the pyarrow engine: got '::', expected one character"):
        Interactions.from_csv(path, separator="::", header=False, engine="pyarrow")


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_compressed(tmp_path: Path, engine: str, suffix: str, compress: Any) -> None:
    path = tmp_path / f"data.csv{suffix}"
    path.write_bytes(compress(b"u,i\na,x\nb,y\n"))
    assert raw_entries(Interactions.from_csv(path, engine=engine)) == [("a", "x", 1, None), ("b", "y", 1, None)]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="cannot be read"):
        Interactions.from_csv(path, engine=engine)


def test_encoding(tmp_path: Path, engine: str) -> None:
    path = write(tmp_path / "data.csv", "u,i\nZoë,x\n", encoding="latin-1")
    assert Interactions.from_csv(path, engine=engine, encoding="latin-1").user_ids == IdMap(["Zoë"])
    with pytest.raises(ValueError, match="cannot be read"):
        Interactions.from_csv(path, engine=engine)


def test_several_files(tmp_path: Path, engine: str) -> None:
    first = write(tmp_path / "0.csv", "u,i\n2,x\n")
    second = write(tmp_path / "1.csv", "i,u\nx,1\n")
    data = Interactions.from_csv([first, second], user="u", item="i", engine=engine)
    assert raw_entries(data) == [(1, "x", 1, None), (2, "x", 1, None)]


def test_missing_fields(tmp_path: Path, engine: str) -> None:
    text = "u,i,r,t\na,x,1,5\n,x,1,5\nb,NA,1,5\nc,x,,5\nd,x,1,null\ne,x,nan,5\n"
    path = write(tmp_path / "data.csv", text)
    options: dict[str, Any] = {"value": "r", "timestamp": "t", "engine": engine, "chunk_bytes": 16}
    with pytest.raises(ValueError, match=r"missing user id in row 1 of data.csv"):
        Interactions.from_csv(path, **options)
    dropped = Interactions.from_csv(path, missing="drop", **options)
    assert raw_entries(dropped) == [("a", "x", 1, 5)]
    assert dropped.report["missing"] == 5
    imputed = Interactions.from_csv(path, missing="zero", **options)
    assert raw_entries(imputed) == [("a", "x", 1, 5), ("c", "x", 0, 5), ("e", "x", 0, 5)]
    all_gone = write(tmp_path / "gone.csv", "u,i,r,t\na,x,,\nb,x,,\n")
    assert len(Interactions.from_csv(all_gone, missing="drop", **options)) == 0


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["3", "-4"], [3, -4]),
        (["3.0", "1.5e9"], [3, 1_500_000_000]),
        (["3", "1.0"], [3, 1]),
        (["1970-01-02", "1970-01-01 00:00:01"], [86_400_000_000, 1_000_000]),
        (["1970-01-02T00:00:00Z", "1970-01-02T00:00:00+01:00"], [86_400_000_000, 82_800_000_000]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("chunk_bytes", [24, 10_000])
def test_times(tmp_path: Path, engine: str, times: list[str], expected: list[int], chunk_bytes: int) -> None:
    path = write(tmp_path / "data.csv", "u,i,t\n" + "".join(f"{n},item,{time}\n" for n, time in enumerate(times)))
    data = Interactions.from_csv(path, timestamp=2, engine=engine, chunk_bytes=chunk_bytes)
    assert data.timestamps is not None
    assert data.timestamps.tolist() == expected


@pytest.mark.parametrize(
    ("text", "text_of_error"),
    [
        ("u,i,r,t\na,x,good,5\n", "good"),
        ("u,i,r,t\na,x,inf,5\n", "finite float32"),
        ("u,i,r,t\na,x,1,yesterday\n", "time in data.csv: got 'yesterday', expected a whole number or an ISO date"),
        ("u,i,r,t\na,x,1,1.5\n", "whole numbers"),
        ("u,i,r,t\na,x,1,99999999999999999999\n", "whole numbers"),
        ("u,i,r,t\na,x,1,5\nb,x,1,2024-01-01\n", "2024-01-01|5"),
        ("u,i,r,t\na,x,1\n", "4"),
        ("u,i,r,t\na,x,1,5,6\n", "4"),
        ("u,i,r\na,x,1\n", "column 't' is not in the header of data.csv: expected one of 'u', 'i', 'r'"),
        ("u,i,r,t,t\na,x,1,5,5\n", "column 't' is twice in the header"),
        ("u;i;r;t\na;x;1;5\n", r"Is the separator ',' right"),
    ],
    ids=repr,
)
def test_bad_text(tmp_path: Path, engine: str, text: str, text_of_error: str) -> None:
    path = write(tmp_path / "data.csv", text)
    with pytest.raises(ValueError, match=text_of_error):
        Interactions.from_csv(path, user="u", item="i", value="r", timestamp="t", engine=engine)


def test_numbers_and_dates_do_not_mix(tmp_path: Path, engine: str) -> None:
    dates = write(tmp_path / "dates.csv", "u,i,t\na,x,2024-01-01\n")
    numbers = write(tmp_path / "numbers.csv", "u,i,t\na,x,7\n")
    for paths, text in (
        ([dates, numbers], r"times in numbers.csv: got numbers after dates"),
        ([numbers, dates], r"times in dates.csv: got dates after numbers"),
    ):
        with pytest.raises(ValueError, match=text):
            Interactions.from_csv(list(paths), timestamp="t", engine=engine)


@pytest.mark.parametrize("text", ["", "\n\n", "u,i,r,t\n", "u,i,r,t"], ids=repr)
def test_empty_files(tmp_path: Path, engine: str, text: str) -> None:
    path = write(tmp_path / "data.csv", text)
    data = Interactions.from_csv(path, value=2, timestamp=3, engine=engine)
    check(data)
    assert data.shape == (0, 0)
    assert data.values is not None
    assert data.timestamps is not None


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"separator": ""}, ValueError, "separator: got ''"),
        ({"separator": "\n"}, ValueError, "separator"),
        ({"skip_rows": -1}, ValueError, "skip_rows: got -1"),
        ({"chunk_bytes": 0}, ValueError, "chunk_bytes: got 0"),
        ({"engine": "c"}, ValueError, "engine: got 'c', expected one of auto, pyarrow, python"),
        ({"user": None}, ValueError, "user and item: got None"),
        ({"user": "u", "header": False}, ValueError, "Give columns as 0-based positions"),
        ({"item": 2}, ValueError, "column position in data.csv: got 2, expected 0 <= position < 2"),
        ({"item": -1}, ValueError, "got -1"),
        ({"missing": "guess"}, ValueError, "missing: got 'guess'"),
        ({"dupes": "sum"}, TypeError, "dupes"),
    ],
    ids=repr,
)
def test_bad_options(tmp_path: Path, options: Any, error: type[Exception], text: str) -> None:
    path = write(tmp_path / "data.csv", "u,i\na,x\n")
    with pytest.raises(error, match=text):
        Interactions.from_csv(path, **options)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        Interactions.from_csv(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="is not a file"):
        Interactions.from_csv(tmp_path)


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "data.csv", "u,i\na,x\n")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else find_spec(name))
    assert raw_entries(Interactions.from_csv(path)) == [("a", "x", 1, None)]
    with pytest.raises(ImportError, match=r'pip install "recsys_fast\[data\]"'):
        Interactions.from_csv(path, engine="pyarrow")


def test_given_maps(tmp_path: Path, engine: str) -> None:
    path = write(tmp_path / "data.csv", "u,i\n3,x\n4,y\n03,x\n")
    maps: dict[str, Any] = {"user_ids": IdMap([4, 3]), "item_ids": IdMap(["x", "y", "z"])}
    data = Interactions.from_csv(path, engine=engine, unknown="drop", **maps)
    assert data.shape == (2, 3)
    assert [entry[:2] for entry in entries(data)] == [(0, 1), (1, 0)]
    assert data.report["unknown"] == 1
    with pytest.raises(IndexError, match=r"unknown user id in data.csv: got '03'"):
        Interactions.from_csv(path, engine=engine, **maps)


def test_memory_follows_the_entries_not_the_text(tmp_path: Path) -> None:
    filler = "x" * 400
    path = write(tmp_path / "wide.csv", "u,i,text\n" + "".join(f"{n % 50},{n % 70},{filler}\n" for n in range(20_000)))
    options: dict[str, Any] = {"engine": "python", "chunk_bytes": 1 << 14}
    Interactions.from_csv(path, **options)  # imports and compiles
    peak = traced_peak(lambda: Interactions.from_csv(path, **options))
    assert peak < path.stat().st_size / 2
