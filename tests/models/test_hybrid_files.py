"""Files of hybrids: the members travel inside, and every part of them is checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.errors import ModelFormatError, NotSupportedError
from recsys_fast.serialization import write
from tests.models.cases import ratings, same_state
from tests.models.test_files import contents


def made(**options: Any) -> rf.Hybrid:
    data = rf.Interactions(ratings(), item_ids=[f"item {i}" for i in range(20)])
    models = [
        rf.ALS(3, n_epochs=2, random_state=0).fit(data),
        rf.Popularity("sum").fit(ratings(seed=4)),
        rf.Random(random_state=5).fit(data),
    ]
    return rf.Hybrid(models, **options).fit(ratings(seed=7))


@pytest.mark.parametrize("options", [{}, {"method": "rank_fusion", "depth": 7}, {"weights": np.array([1, 2, 3])}])
def test_what_comes_back_is_what_was_saved(tmp_path: Path, device: str, options: dict[str, Any]) -> None:
    hybrid = made(device=device, **options)
    hybrid.save(tmp_path / "x")
    for loaded in (rf.load(tmp_path / "x", device=device), rf.Hybrid.load(tmp_path / "x", device=device)):
        assert same_state(loaded, hybrid)
        assert [type(model) for model in loaded.models] == [rf.ALS, rf.Popularity, rf.Random]
        assert all(same_state(a, b) for a, b in zip(loaded.models, hybrid.models, strict=True))
        assert {model.device for model in loaded.models} == {device}
        assert loaded.item_ids_ == hybrid.item_ids_ == loaded.models[0].item_ids_
        assert loaded.method == hybrid.method
        left, right = loaded.recommend(n=7), hybrid.recommend(n=7)
        np.testing.assert_array_equal(left.ids, right.ids)
        new = ratings(4, 20, seed=8)
        np.testing.assert_array_equal(loaded.recommend(user_items=new).ids, hybrid.recommend(user_items=new).ids)
        np.testing.assert_array_equal(loaded.models[1].training_matrix_.values, ratings(seed=4).data)
        loaded.save(tmp_path / "y")
        assert (tmp_path / "y").read_bytes() == (tmp_path / "x").read_bytes()


def test_a_shared_training_matrix_is_stored_once(tmp_path: Path) -> None:
    models = [rf.Popularity().fit(ratings()), rf.ALS(2, n_epochs=1).fit(ratings())]
    rf.Hybrid(models, weights=[1, 1]).fit().save(tmp_path / "x")
    arrays, _ = contents(tmp_path / "x")
    assert [name for name in arrays if name.endswith("col_idx")] == ["matrix.col_idx"]


def test_hybrids_of_hybrids(tmp_path: Path) -> None:
    outer = rf.Hybrid([made(), rf.Popularity().fit(ratings())], "rank_fusion", weights=[1, 2]).fit()
    outer.save(tmp_path / "x")
    loaded = rf.load(tmp_path / "x")
    np.testing.assert_array_equal(loaded.recommend(n=9).ids, outer.recommend(n=9).ids)
    assert [type(model) for model in loaded.models[0].models] == [rf.ALS, rf.Popularity, rf.Random]


def test_classes_that_could_not_be_loaded_are_refused(tmp_path: Path) -> None:
    class Mine(rf.Popularity):
        pass

    Popularity = type("Popularity", (rf.Popularity,), {"__module__": "elsewhere"})
    for kind in (Mine, Popularity):
        hybrid = rf.Hybrid([kind().fit(ratings())], weights=[1]).fit()
        with pytest.raises(NotSupportedError, match=r"models\[0\]"):
            hybrid.save(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def _members(change: Callable[[list[Any]], Any]) -> Callable[[Any, Any], None]:
    def edit(arrays: Any, metadata: Any) -> None:
        state = json.loads(metadata["state"])
        state["members"] = change(state["members"])
        metadata["state"] = json.dumps(state)

    return edit


def _member(place: int, key: str, value: Any, part: str | None = None) -> Callable[[Any, Any], None]:
    def change(members: list[Any]) -> list[Any]:
        target = members[place] if part is None else members[place][part]
        target.pop(key) if value is ... else target.__setitem__(key, value)
        return members

    return _members(change)


def _array(name: str, change: Any) -> Callable[[Any, Any], None]:
    def edit(arrays: Any, metadata: Any) -> None:
        if change is ...:
            del arrays[name]
        else:
            arrays[name] = change(arrays.get(name))

    return edit


def _nested(arrays: Any, metadata: Any) -> None:
    state = json.loads(metadata["state"])
    params = json.loads(metadata["params"])
    member: Any = state["members"][0]
    for _ in range(200):
        inner = {"n_users": 30, "n_items": 20, "n_epochs": 1, "members": [member]}
        member = {"model": "Hybrid", "params": params, "state": inner}
    metadata["state"] = json.dumps({**state, "members": [member]})


FORGED: dict[str, Callable[[Any, Any], None]] = {
    "no members": _members(lambda members: []),
    "members no list": _members(lambda members: {"a": 1}),
    "a member no object": _members(lambda members: [*members[:2], 5]),
    "a member less": _members(lambda members: members[:2]),
    "a member more": _members(lambda members: [*members, members[0]]),
    "a foreign class": _member(0, "model", "os.system"),
    "another class": _member(0, "model", "Popularity"),
    "no class": _member(0, "model", ...),
    "an unknown key": _member(0, "hook", "boom"),
    "parameters no object": _member(0, "params", []),
    "an unknown parameter": _member(0, "evil", 1, "params"),
    "a missing parameter": _member(0, "nu", ..., "params"),
    "a parameter out of range": _member(0, "n_factors", 0, "params"),
    "unknown state": _member(0, "evil", 1, "state"),
    "a seed less": _member(2, "seed", ..., "state"),
    "other users": _member(1, "n_users", 29, "state"),
    "other items where the matrix is shared": _member(2, "n_items", 21, "state"),
    "nested too deeply": _nested,
    "NaN factors": _array("members.0.user_factors", lambda a: a * np.float32(np.nan)),
    "an array less": _array("members.0.item_factors", ...),
    "an unknown array of a member": _array("members.0.payload", lambda _: np.zeros(3, np.float32)),
    "an array of nobody": _array("members.7.payload", lambda _: np.zeros(3, np.float32)),
    "an item beyond the last": _array("members.1.matrix.col_idx", lambda a: a + 20),
    "too few values": _array("members.1.matrix.values", lambda a: a[:-1]),
    "half a matrix": _array("members.1.matrix.row_ptr", ...),
    "a weight less": _array("weights", lambda a: a[:-1]),
    "NaN weights": _array("weights", lambda a: a * np.nan),
    "negative weights": _array("weights", lambda a: a - 2),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_files_with_a_right_checksum_are_refused(tmp_path: Path, case: str) -> None:
    made().save(tmp_path / "good")
    arrays, metadata = contents(tmp_path / "good")
    FORGED[case](arrays, metadata)
    write(tmp_path / "forged", arrays, metadata)
    with pytest.raises(ModelFormatError, match="forged"):
        rf.load(tmp_path / "forged")


def test_members_of_other_shapes_are_refused(tmp_path: Path) -> None:
    hybrid = made()
    other = rf.Popularity().fit(sp.csr_array((31, 20), dtype=np.float32))
    hybrid.models[1] = other
    hybrid.save(tmp_path / "x")
    with pytest.raises(ModelFormatError, match="different users"):
        rf.load(tmp_path / "x")
