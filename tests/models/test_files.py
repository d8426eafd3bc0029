from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.errors import DeviceError, ModelFormatError
from recsys_fast.evaluation.names import METRICS, parse
from recsys_fast.evaluation.row_metrics import ROW_METRICS
from recsys_fast.models.registry import MODELS as REGISTERED
from recsys_fast.serialization import Reader, write
from tests.models.cases import CONTAINERS, MODELS, OTHERS, SEQUENCE_MODELS, ratings, same_state

Make = Callable[..., Any]


def contents(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    codes = {"float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64", "uint8": "U8"}
    with Reader(path) as reader:
        arrays = {name: reader.read(name, codes[str(spec.dtype)], spec.shape) for name, spec in reader.specs.items()}
        metadata = dict(reader.metadata)
    metadata.pop("checksum")
    return arrays, metadata


def test_what_comes_back_is_what_was_saved(make: Make, tmp_path: Path, device: str) -> None:
    path = tmp_path / "model.safetensors"
    model = make(n_threads=2).fit(ratings())
    model.save(path)
    for loaded in (rf.load(path, device=device), type(model).load(str(path), device=device)):
        assert type(loaded) is type(model)
        assert same_state(loaded, model)
        assert loaded.get_params() == {**model.get_params(), "n_threads": None}
        for name in ("ids", "scores"):
            np.testing.assert_array_equal(getattr(loaded.recommend(n=5), name), getattr(model.recommend(n=5), name))
        fitted = loaded.fit(ratings())
        assert same_state(fitted, model)


def test_every_metric_comes_back(tmp_path: Path) -> None:
    """Whatever evaluation may have put into the history; a number that is missing too."""
    model = rf.Popularity().fit(ratings())
    names = [one.key() for one in parse(METRICS, (1, 10, 2**31 - 1))]
    names += [f"validation_{name}" for name in names]
    model.history_ = {"loss": [1.0], **{name: [0.25, float("nan")] for name in (*names, *ROW_METRICS)}}
    model.save(tmp_path / "x")
    loaded = rf.load(tmp_path / "x")
    assert loaded.history_.keys() == model.history_.keys()
    for name, numbers in model.history_.items():
        np.testing.assert_array_equal(loaded.history_[name], numbers)


def test_every_model_is_registered() -> None:
    made = {type(make()).__name__ for make in (*MODELS.values(), *SEQUENCE_MODELS.values())}
    assert made | OTHERS | CONTAINERS == set(REGISTERED)


def test_safetensors_reads_a_model(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from safetensors.numpy import load_file

    model = rf.ALS(4, n_epochs=1).fit(ratings())
    model.save(tmp_path / "x")
    found = load_file(tmp_path / "x")
    np.testing.assert_array_equal(found["user_factors"], model.user_factors_)
    np.testing.assert_array_equal(found["matrix.col_idx"], ratings().indices)


@pytest.mark.parametrize("ids", [["ann", "", "bÿ", "日本"], [7, -3, 2**40, 0], ["12", "3", "x\x00y", "\ud800"]])
def test_id_maps_travel_with_the_model(tmp_path: Path, ids: list[Any]) -> None:
    data = rf.Interactions(ratings(4, 4, 0.6), user_ids=ids, item_ids=ids[::-1])
    model = rf.ALS(2, n_epochs=1).fit(data)
    model.save(tmp_path / "x")
    loaded = rf.load(tmp_path / "x")
    assert loaded.user_ids_ == model.user_ids_
    assert list(loaded.item_ids_) == ids[::-1]


def test_other_ids_are_refused_with_advice(tmp_path: Path) -> None:
    model = rf.Popularity().fit(rf.Interactions(ratings(3, 4), user_ids=[(1, 2), (3, 4), (5, 6)]))
    with pytest.raises(TypeError, match=r"user_ids_.*tuple.*user_ids_ = None"):
        model.save(tmp_path / "x")
    model.user_ids_ = None
    model.save(tmp_path / "x")
    assert rf.load(tmp_path / "x").user_ids_ is None


def test_only_int_seeds_are_stored(tmp_path: Path) -> None:
    for seed, expected in ((5, 5), (np.int64(6), 6), (np.random.default_rng(0), None), (None, None)):
        rf.ALS(2, n_epochs=1, random_state=seed).fit(ratings()).save(tmp_path / "x")
        assert rf.load(tmp_path / "x").random_state == expected


def test_wrong_class_and_device(tmp_path: Path) -> None:
    rf.Popularity().fit(ratings()).save(tmp_path / "x")
    with pytest.raises(ModelFormatError, match=r"Popularity.*expected ALS"):
        rf.ALS.load(tmp_path / "x")
    with pytest.raises(ValueError, match="device"):
        rf.load(tmp_path / "x", device="tpu")
    with pytest.raises(DeviceError):
        rf.load(tmp_path / "x", device="cuda")
    with pytest.raises(FileNotFoundError):
        rf.load(tmp_path / "nothing")


def test_a_model_class_of_ones_own(tmp_path: Path) -> None:
    class Mine(rf.Popularity):
        pass

    Mine().fit(ratings()).save(tmp_path / "x")
    assert isinstance(Mine.load(tmp_path / "x"), Mine)
    with pytest.raises(ModelFormatError, match="Mine"):
        rf.load(tmp_path / "x")


def _edit(key: str, **changes: Any) -> Callable[[Any, Any], None]:
    def edit(arrays: Any, metadata: Any) -> None:
        table = json.loads(metadata[key])
        for name, value in changes.items():
            table.pop(name) if value is ... else table.__setitem__(name, value)
        metadata[key] = json.dumps(table)

    return edit


def _meta(**changes: Any) -> Callable[[Any, Any], None]:
    def edit(arrays: Any, metadata: Any) -> None:
        for name, value in changes.items():
            metadata.pop(name) if value is ... else metadata.__setitem__(name, value)

    return edit


def _array(name: str, change: Any) -> Callable[[Any, Any], None]:
    def edit(arrays: Any, metadata: Any) -> None:
        if change is ...:
            del arrays[name]
        else:
            arrays[name] = change(arrays.get(name))

    return edit


def _put(at: Any, value: Any) -> Callable[[Any], Any]:
    def put(array: Any) -> Any:
        array[at] = value
        return array

    return put


def _strong(arrays: Any, metadata: Any) -> None:
    _edit("params", alpha=1e30)(arrays, metadata)
    arrays["matrix.values"] *= np.float32(1e10)


FORGED: dict[str, Callable[[Any, Any], None]] = {
    "another format": _meta(format="gguf"),
    "no format": _meta(format=...),
    "newer version": _meta(format_version="2"),
    "extra metadata": _meta(hook="os.system"),
    "no state": _meta(state=...),
    "unknown model": _meta(model="os.path"),
    "params not JSON": _meta(params="{"),
    "params a list": _meta(params="[]"),
    "params nested": _meta(params="[" * 100_000),
    "unknown parameter": _edit("params", recommend="boom"),
    "missing parameter": _edit("params", nu=...),
    "parameter out of range": _edit("params", n_factors=0),
    "parameter of another type": _edit("params", alpha=[1]),
    "parameter not finite": _edit("params", alpha=float("nan")),
    "more factors than stored": _edit("params", n_factors=2**30),
    "feedback that needs other shapes": _edit("params", feedback="explicit"),
    "more users than stored": _edit("state", n_users=2**30),
    "negative items": _edit("state", n_items=-1),
    "items as text": _edit("state", n_items="20"),
    "no epochs": _edit("state", n_epochs=...),
    "unknown state": _edit("state", evil=1),
    "unknown solver": _edit("state", solver="rm -rf"),
    "mean not finite": _edit("state", global_mean=float("inf")),
    "mean as text": _edit("state", global_mean="1"),
    "seed negative": _edit("state", seed=-1),
    "no factors": _array("user_factors", ...),
    "fewer user factors": _array("user_factors", lambda a: a[:-1]),
    "factors of another width": _array("item_factors", lambda a: a[:, :-1]),
    "factors of another dtype": _array("item_factors", lambda a: a.astype(np.float64)),
    "NaN factors": _array("item_factors", _put((3, 1), np.nan)),
    "infinite factors": _array("user_factors", _put((0, 0), np.inf)),
    "NaN spectrum": _array("spectrum", _put(0, np.nan)),
    "unknown array": _array("payload", lambda _: np.zeros(3, np.float32)),
    "item beyond the last": _array("matrix.col_idx", _put(0, 20)),
    "negative item": _array("matrix.col_idx", _put(0, -1)),
    "unsorted row": _array("matrix.col_idx", lambda a: np.concatenate([a[1::-1], a[2:]])),
    "row pointers down": _array("matrix.row_ptr", _put(3, 0)),
    "row pointers past the end": _array("matrix.row_ptr", _put(-1, 10**9)),
    "row pointers too short": _array("matrix.row_ptr", lambda a: a[:-1]),
    "too few values": _array("matrix.values", lambda a: a[:-1]),
    "NaN value": _array("matrix.values", _put(0, np.nan)),
    "confidence beyond float32": _strong,
    "history in two dimensions": _array("history.loss", lambda a: a[None, :] * np.ones((2, 1))),
    "history with a strange name": _array("history.__class__", lambda _: np.zeros(3)),
    "ids of another length": _array("user_ids", lambda a: a[:-1]),
    "an id twice": _array("user_ids", _put(1, 0)),
    "text ids not UTF-8": _array("item_ids.bytes", _put(0, 255)),
    "text id offsets down": _array("item_ids.offsets", _put(1, 10**6)),
    "text id offsets late": _array("item_ids.offsets", _put(0, 1)),
    "text ids without offsets": _array("item_ids.offsets", ...),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "model"
    data = rf.Interactions(ratings(), user_ids=list(range(30)), item_ids=[f"item {i}" for i in range(20)])
    rf.ALS(4, n_epochs=2, random_state=0).fit(data).save(path)
    return path


@pytest.mark.parametrize("case", FORGED)
def test_forged_files_with_a_right_checksum_are_refused(good: Path, tmp_path: Path, case: str) -> None:
    arrays, metadata = contents(good)
    FORGED[case](arrays, metadata)
    write(tmp_path / "forged", arrays, metadata)
    with pytest.raises(ModelFormatError, match="forged"):
        rf.load(tmp_path / "forged")


def test_damage_anywhere_is_noticed(good: Path, tmp_path: Path) -> None:
    whole, path = good.read_bytes(), tmp_path / "damaged"
    rng = np.random.default_rng(0)
    for position in [*range(0, 64), *rng.integers(0, len(whole), 400).tolist()]:
        changed = bytearray(whole)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(ModelFormatError):
            rf.load(path)
    for size in [*range(0, 20), *rng.integers(20, len(whole), 100).tolist()]:
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFormatError):
            rf.load(path)


def test_a_file_without_checksum_is_refused(good: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from safetensors.numpy import save_file

    arrays, metadata = contents(good)
    save_file(arrays, tmp_path / "bare", metadata=metadata)
    with pytest.raises(ModelFormatError, match="checksum"):
        rf.load(tmp_path / "bare")


def test_other_files_are_refused(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "other"
    for payload in (b"", b"PK\x03\x04" + bytes(100), pickle.dumps(ratings()), b"user,item\n1,2\n" * 10):
        path.write_bytes(payload)
        with pytest.raises(ModelFormatError, match="other"):
            rf.load(path)
