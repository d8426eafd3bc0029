"""Files of a feature builder: everything comes back, and nothing else is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_fast.data import Categorical, FeatureBuilder, MultiValued, Numeric
from recsys_fast.errors import ModelFormatError

TABLE: dict[str, Any] = {
    "c": ["b", None, "日本", "\ud800"],
    "i": [3, 2.5, 1, None],
    "h": ["u", "v", "w", None],
    "n": [0.1, None, 2.5, 1e9],
    "q": [1, 2, 3, 4],
    "e": [1, 2, None, 4],
    "g": [["x", "y"], [], None, ["y"]],
}
COLUMNS = [
    Categorical("c", missing="most_frequent"),
    Categorical("i", missing="constant", fill=7, unknown="category"),
    Categorical("h", n_buckets=5),
    Numeric("n", missing="median"),
    Numeric("q", scale="bins", n_bins=3),
    Numeric("e", scale="bins", edges=(1.5, 3), missing="constant", fill=0.5),
    MultiValued("g", normalize="l2", min_count=2),
]


def test_what_comes_back_is_what_was_saved(tmp_path: Path) -> None:
    builder = FeatureBuilder(COLUMNS).fit(TABLE)
    builder.save(tmp_path / "f.json")
    loaded = FeatureBuilder.load(tmp_path / "f.json")
    assert loaded.names_ == builder.names_
    assert loaded.field_names_ == builder.field_names_
    np.testing.assert_array_equal(loaded.fields_, builder.fields_)
    assert (loaded.transform(TABLE) != builder.transform(TABLE)).nnz == 0
    loaded.save(tmp_path / "g.json")
    assert (tmp_path / "g.json").read_bytes() == (tmp_path / "f.json").read_bytes()
    assert loaded.fit(TABLE).names_ == builder.names_
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.json", "g.json"]


def _column(place: int, part: str, **changes: Any) -> Callable[[Any], None]:
    def edit(content: Any) -> None:
        for name, value in changes.items():
            target = content["columns"][place][part] if part else content["columns"][place]
            target.pop(name) if value is ... else target.__setitem__(name, value)

    return edit


FORGED: dict[str, Callable[[Any], Any]] = {
    "format": lambda content: content.update(format="other"),
    "an extra key": lambda content: content.update(hook=1),
    "no columns": lambda content: content.update(columns=[]),
    "columns no list": lambda content: content.update(columns=5),
    "a column twice": lambda content: content["columns"].append(content["columns"][0]),
    "a column no object": lambda content: content["columns"].append(3),
    "an unknown kind": _column(0, "", kind="os.system"),
    "kind a list": _column(0, "", kind=["categorical"]),
    "another kind": _column(0, "", kind="numeric"),
    "params no object": _column(0, "", params=3),
    "state no object": _column(0, "", state=[1]),
    "an unknown parameter": _column(0, "params", evil=1),
    "a parameter less": _column(0, "params", unknown=...),
    "a parameter out of range": _column(0, "params", min_count=0),
    "a name no text": _column(0, "params", name=3),
    "an unknown state": _column(0, "state", evil=1),
    "vocabulary of lists": _column(0, "state", vocabulary=[["a"]]),
    "vocabulary unsorted": _column(0, "state", vocabulary=["z", "b"]),
    "vocabulary twice": _column(0, "state", vocabulary=["b", "b"]),
    "vocabulary a text": _column(0, "state", vocabulary="abc"),
    "fill unknown": _column(0, "state", fill="other"),
    "fill missing": _column(1, "state", fill=None),
    "a vocabulary of buckets": _column(2, "state", vocabulary=["a"]),
    "scale short": _column(3, "state", scale=[1.0]),
    "scale no numbers": _column(3, "state", scale=["1", "2"]),
    "scale negative": _column(3, "state", scale=[0.0, -1.0]),
    "scale huge": _column(3, "state", scale=[0.0, 1e308]),
    "fill no number": _column(3, "state", fill="x"),
    "edges where there are no bins": _column(3, "state", edges=[1.0]),
    "no edges": _column(4, "state", edges=None),
    "edges down": _column(4, "state", edges=[3.0, 1.0]),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_files_are_refused(tmp_path: Path, case: str) -> None:
    FeatureBuilder(COLUMNS).fit(TABLE).save(tmp_path / "f.json")
    content = json.loads((tmp_path / "f.json").read_bytes().decode("utf-8", "surrogatepass"))
    FORGED[case](content)
    (tmp_path / "forged.json").write_text(json.dumps(content))
    with pytest.raises(ModelFormatError, match=r"forged\.json is no file of features"):
        FeatureBuilder.load(tmp_path / "forged.json")


@pytest.mark.parametrize("payload", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}'])
def test_other_files_are_refused(tmp_path: Path, payload: bytes) -> None:
    (tmp_path / "other").write_bytes(payload)
    with pytest.raises(ModelFormatError, match="other is no file of features"):
        FeatureBuilder.load(tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        FeatureBuilder.load(tmp_path / "nothing")
