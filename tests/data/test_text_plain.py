"""The fast way through plain numbers gives what the general way gives, errors included; bars while files are read."""

from __future__ import annotations

import bz2
import gzip
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_fast.data import IdMap, Interactions, progress, text
from recsys_fast.data.text_fields import Dates
from recsys_fast.data.text_plain import plain_chunk

IDS = ["0", "7", "42", "-3", "123456789012345678", "1234567890123456789", "007", "-0", "+5", "", "a", "1.0", " 4", "９"]
VALUES = ["4", "4.5", "-1.25", "0", "-0.0", ".5", "5.", "1e3", "nan", "", "x", "123456789012345.6", "3.141592653589793",
          "0.1", "99999999999999999999", "4..5", "-", "1_0", "inf"]  # fmt: skip
TIMES = ["0", "978300760", "-5", "007", "12345678901234567890", "", "2024-05-01", "1.5", "1e9", "3.0"]
ENDS = ["\n", "\r\n"]


def outcome(path: Path, **options: Any) -> Any:
    """What reading gives: every array and id, or the error's type and text."""
    try:
        data = Interactions.from_csv(path, engine="python", duplicates="last", **options)
    except (ValueError, IndexError) as error:
        return type(error), str(error)
    parts = (data.row_ptr, data.col_idx, data.values, data.timestamps)
    arrays = [None if part is None else (part.dtype, part.tolist()) for part in parts]
    assert data.user_ids is not None
    assert data.item_ids is not None
    return arrays, [*data.user_ids], [*data.item_ids], data.report.to_dict()


def both(path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    """The outcome, after checking that the general way has the same."""
    fast = outcome(path, **options)
    with monkeypatch.context() as patch:
        patch.setattr(text, "separable", lambda separator: False)
        assert outcome(path, **options) == fast
    return fast


def mostly(common: list[str], every: list[str]) -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(common), st.sampled_from(common), st.sampled_from(common), st.sampled_from(every))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(mostly(IDS[:4], IDS), mostly(IDS[:4], IDS), mostly(VALUES[:4], VALUES), mostly(TIMES[:3], TIMES)),
        max_size=12,
    ),
    end=st.sampled_from(ENDS),
    last=st.booleans(),
    header=st.booleans(),
    missing=st.sampled_from(["error", "drop"]),
    chunk_bytes=st.sampled_from([1, 20, 1 << 24]),
)
def test_the_same_as_the_general_way(
    rows: list[tuple[str, ...]], end: str, last: bool, header: bool, missing: str, chunk_bytes: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    lines = ["u,i,v,t"] * header + [",".join(row) for row in rows]
    path = tmp_path / "data.csv"
    path.write_bytes((end.join(lines) + (end if last else "")).encode())
    options: dict[str, Any] = {"value": 2, "timestamp": 3, "header": header, "missing": missing}
    both(path, monkeypatch, chunk_bytes=chunk_bytes, **options)
    both(path, monkeypatch, user=1, item=0)


@pytest.mark.parametrize(
    "lines",
    [
        '1,2,3\n"4",5,6\n7,8,9\n',
        '1,2,3\n4,5,"a\n9,9,9\nb"\n7,8,9\n',
        "1,2,3\n\n4,5,6\n",
        "1,2,3\n4,5\n6,7,8\n",
        "1,2,3\n4,5,6,7\n",
        "1,2,3\r4,5,6\r",
        "1,2,some text\n4,5,日本\n",
        "1,a,3\n2,7,4\n",
        "1,2,3\n2,07,4\n3,2,5",
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 6, 1 << 20])
def test_odd_lines(lines: str, chunk_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(lines.encode())
    both(path, monkeypatch, header=False, chunk_bytes=chunk_bytes)
    both(path, monkeypatch, header=True, chunk_bytes=chunk_bytes)
    both(path, monkeypatch, header=False, value=2, chunk_bytes=chunk_bytes)


def test_given_maps_and_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("5,7\n6,8\n")
    second.write_text("5,x\n9,7\n")
    fast = both([first, second], monkeypatch, header=False)  # type: ignore[arg-type]
    assert fast[1:3] == ([5, 6, 9], ["7", "8", "x"])
    assert both([second, first], monkeypatch, header=False)[1:3] == ([5, 6, 9], ["7", "8", "x"])  # type: ignore[arg-type]
    for items in (IdMap([8, 7]), IdMap(["8", "7"])):
        maps: dict[str, Any] = {"user_ids": IdMap([5]), "item_ids": items, "header": False}
        assert both(first, monkeypatch, unknown="drop", **maps)[3]["unknown"] == 1
        assert "got '6'" in both(first, monkeypatch, **maps)[1]


def test_decimals_are_rounded_as_floats_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fields = [f"{rng.normal():.{rng.integers(0, 14)}f}" for _ in range(3000)]
    path = tmp_path / "data.csv"
    path.write_text("".join(f"{i},1,{field}\n" for i, field in enumerate(fields)))
    data = Interactions.from_csv(path, header=False, value=2, engine="python")
    np.testing.assert_array_equal(data.csr.toarray()[:, 0], np.array([float(field) for field in fields], np.float32))


def test_plain_lines_are_not_split_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.csv"
    path.write_text("user,item,rating,time\n" + "".join(f"{i},{i % 7},4.5,97830{i}\n" for i in range(500)))

    def fail(*_: Any) -> Any:
        raise AssertionError("split in Python")

    monkeypatch.setattr(text, "_general_chunks", fail)
    data = Interactions.from_csv(path, value="rating", timestamp="time", engine="python", chunk_bytes=1000)
    assert data.shape == (500, 7)
    layout = text.Layout(0, 1, None, None, 2, 0)
    assert plain_chunk('1,"2"\n', ",", layout, Dates(), "x") is None


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "csv.bz2", "parquet"])
@pytest.mark.parametrize("engine", ["python", "pyarrow"])
def test_a_bar_while_a_file_is_read(kind: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine == "pyarrow" or kind == "parquet":
        pytest.importorskip("pyarrow")
    lines = "user,item\n" + "".join(f"{i},{i % 7}\n" for i in range(3000))
    path = tmp_path / f"data.{kind}"
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"user": range(3000), "item": range(3000)}), path)
    else:
        pack = {"csv": bytes, "csv.gz": gzip.compress, "csv.bz2": bz2.compress}[kind]
        path.write_bytes(pack(lines.encode()))

    def read(shown: bool | None) -> str:
        terminal = _Terminal() if shown is None else io.StringIO()
        monkeypatch.setattr(sys, "stderr", terminal)
        if kind == "parquet":
            Interactions.from_parquet(path, chunk_rows=500, progress=shown)
        else:
            Interactions.from_csv(path, chunk_bytes=4096, engine=engine, progress=shown)
        return terminal.getvalue()

    assert read(None) == ""  # faster than a second
    monkeypatch.setattr(progress, "_DELAY", 1e-9)
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    assert f"reading data.{kind}" in read(None)
    assert f"reading data.{kind}" in read(True)
    assert read(False) == ""


def test_no_bar_without_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(progress, "_DELAY", 1e-9)
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    (tmp_path / "data.csv").write_text("1,2\n3,4\n")
    Interactions.from_csv(tmp_path / "data.csv", header=False)
    assert capsys.readouterr().err == ""
