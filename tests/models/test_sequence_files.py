"""Files of sequence models that are damaged, forged or of another kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.errors import ModelFormatError
from recsys_fast.serialization import Reader, write
from tests.models.cases import sequences

_CODES = {"float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64", "uint8": "U8"}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "model"
    rf.SASRec(8, 1, max_len=6, item_bias=True, n_epochs=2, random_state=0).fit(sequences()).save(path)
    return path


def _state(**changes: Any) -> Callable[[Any, Any], None]:
    return _json("state", **changes)


def _params(**changes: Any) -> Callable[[Any, Any], None]:
    return _json("params", **changes)


def _json(key: str, **changes: Any) -> Callable[[Any, Any], None]:
    def edit(arrays: Any, metadata: Any) -> None:
        metadata[key] = json.dumps({**json.loads(metadata[key]), **changes})

    return edit


def _array(name: str, change: Any) -> Callable[[Any, Any], None]:
    def edit(arrays: Any, metadata: Any) -> None:
        if change is None:
            del arrays[name]
        else:
            arrays[name] = change(arrays.get(name))

    return edit


def _put(at: Any, value: Any) -> Callable[[Any], Any]:
    def put(array: Any) -> Any:
        array[at] = value
        return array

    return put


FORGED: dict[str, Callable[[Any, Any], None]] = {
    "wider than stored": _params(d=8192),
    "more blocks than stored": _params(n_blocks=64),
    "a hidden layer that is not there": _params(hidden=65536),
    "another norm": _params(norm="post", positions="none"),
    "longer than stored": _params(max_len=4096),
    "without biases": _params(item_bias=False),
    "another optimizer": _params(optimizer="adagrad"),
    "heads that do not fit": _params(n_heads=3),
    "strange augmentation": _params(augmentation={"__class__": 1}),
    "augmentation as text": _params(augmentation="crop"),
    "more items than stored": _state(n_items=2**30),
    "more users than stored": _state(n_users=2**30),
    "steps negative": _state(steps=-1),
    "steps as text": _state(steps="8"),
    "seed as text": _state(seed="0"),
    "unknown state": _state(evil=1),
    "no parameters": _array("network.parameters", None),
    "no moments": _array("network.optimizer.parameters.m", None),
    "fewer moments": _array("network.optimizer.items.v", lambda a: a[:-1]),
    "unknown moments": _array("network.optimizer.evil.m", lambda a: np.zeros(3, np.float32)),
    "NaN parameters": _array("network.parameters", _put(5, np.nan)),
    "infinite items": _array("network.items", _put((1, 1), np.inf)),
    "items of another width": _array("network.items", lambda a: a[:, :-1].copy()),
    "float64 items": _array("network.items", lambda a: a.astype(np.float64)),
    "no sequences": _array("sequences.items", None),
    "an item beyond the last": _array("sequences.items", _put(0, 20)),
    "another item": _array("sequences.items", lambda a: (a + 1) % 20),
    "row pointers down": _array("sequences.row_ptr", _put(3, 0)),
    "row pointers too short": _array("sequences.row_ptr", lambda a: a[:-1]),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_files_with_a_right_checksum_are_refused(good: Path, tmp_path: Path, case: str) -> None:
    with Reader(good) as reader:
        arrays = {name: reader.read(name, _CODES[str(spec.dtype)], spec.shape) for name, spec in reader.specs.items()}
        metadata = {key: value for key, value in reader.metadata.items() if key != "checksum"}
    FORGED[case](arrays, metadata)
    write(tmp_path / "forged", arrays, metadata)
    with pytest.raises(ModelFormatError, match="forged"):
        rf.load(tmp_path / "forged")
    with pytest.raises(ModelFormatError, match="forged"):
        rf.SASRec.resume(tmp_path / "forged")


def test_another_version_is_refused(good: Path, tmp_path: Path) -> None:
    with Reader(good) as reader:
        arrays = {name: reader.read(name, _CODES[str(spec.dtype)], spec.shape) for name, spec in reader.specs.items()}
        metadata = {key: value for key, value in reader.metadata.items() if key != "checksum"}
    write(tmp_path / "x", arrays, {**metadata, "format_version": "9"})
    with pytest.raises(ModelFormatError, match="format_version"):
        rf.SASRec.resume(tmp_path / "x")


def test_numbers_of_numpy_inside_parameters_are_plain(tmp_path: Path) -> None:
    chances = {"crop": np.float32(0.25), "item_mask": np.float64(0.5)}
    rf.SASRec(4, 1, max_len=3, n_epochs=1, augmentation=chances).fit(sequences()).save(tmp_path / "x")
    assert rf.load(tmp_path / "x").augmentation == {"crop": 0.25, "item_mask": 0.5}


def test_raw_ids_travel_with_the_model(tmp_path: Path) -> None:
    data = rf.Sequences([[0, 1], [2, 1]], user_ids=["ann", "bob"], item_ids=[7, 8, 9])
    model = rf.SASRec(4, 1, max_len=3, n_epochs=1).fit(data)
    model.save(tmp_path / "x")
    loaded = rf.load(tmp_path / "x")
    assert list(loaded.user_ids_) == ["ann", "bob"]
    assert list(loaded.item_ids_) == [7, 8, 9]
