"""Parameters that change between ``fit`` and what comes after: what only trains may, what the network is may not."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast import backend
from recsys_fast.training.network import Network
from tests.models.cases import SEQUENCE_MODELS, same_state, sequences

Make = Callable[..., Any]

LONG = [list(range(20)) * 5]

CHANGES: list[tuple[str, str, Any]] = [
    ("sasrec", "max_len", 100),
    ("sasrec", "max_len", 3),
    ("sasrec", "d", 16),
    ("sasrec", "n_blocks", 2),
    ("sasrec", "n_heads", 2),
    ("sasrec", "norm", "query"),
    ("sasrec", "positions", "none"),
    ("sasrec", "scale_items", True),
    ("sasrec", "augmentation", {"item_mask": 0.1}),
    ("sasrec-gbce", "max_len", 100),
    ("bert4rec", "max_len", 100),
    ("bert4rec", "item_bias", False),
    ("gru4rec", "cell", "rnn"),
    ("gru4rec", "n_layers", 2),
    ("nextitnet", "dilations", (1, 4)),
    ("nextitnet", "kernel_size", 2),
    ("caser", "window", 6),
    ("caser", "user_vectors", True),
]
by_change = pytest.mark.parametrize(("name", "parameter", "value"), CHANGES)


def uses(model: Any, tmp_path: Path) -> dict[str, Callable[[], Any]]:
    return {
        "recommend": lambda: model.recommend(LONG),
        "known users": lambda: model.recommend(0),
        "encode": lambda: model.encode(LONG),
        "start": lambda: model.start(LONG[0]),
        "factors": lambda: model.item_factors_,
        "partial_fit": lambda: model.partial_fit(sequences(30, 20, 40)),
        "resize": lambda: model.resize(40, 30),
        "save": lambda: model.save(tmp_path / "x"),
        "copy": lambda: copy.deepcopy(model).recommend(LONG),
        "pickle": lambda: pickle.loads(pickle.dumps(model)).recommend(LONG),
    }


@by_change
def test_another_network_is_refused_everywhere(tmp_path: Path, name: str, parameter: str, value: Any) -> None:
    """It would read and write beyond the arrays of this one, or leave a file that cannot be read."""
    model = SEQUENCE_MODELS[name](n_epochs=1).fit(sequences())
    was, data, before = getattr(model, parameter), model.training_sequences_, copy.deepcopy(model)
    model.set_params(**{parameter: value})
    for call in uses(model, tmp_path).values():
        with pytest.raises(ValueError, match=rf"{parameter}.*{type(model).__name__}.*changed since fit.*or call fit"):
            call()
    assert not list(tmp_path.iterdir())
    assert model.training_sequences_ is data
    assert model.training_matrix_.shape == (30, 20)
    model.set_params(**{parameter: was})
    assert same_state(model, before)
    np.testing.assert_array_equal(model.encode(LONG), before.encode(LONG))
    assert model.set_params(**{parameter: value}).fit(sequences()).recommend(LONG).ids.shape == (1, 10)


@by_change
def test_another_network_is_refused_of_a_loaded_model(tmp_path: Path, name: str, parameter: str, value: Any) -> None:
    SEQUENCE_MODELS[name](n_epochs=1).fit(sequences()).save(tmp_path / "x")
    model = rf.load(tmp_path / "x").set_params(**{parameter: value})
    (tmp_path / "x").unlink()
    for call in uses(model, tmp_path).values():
        with pytest.raises(ValueError, match="changed since fit"):
            call()


@pytest.mark.parametrize("change", [{"optimizer": "sgd"}, {"optimizer": "adagrad", "momentum": 0.5}])
def test_another_optimizer_cannot_go_on(make_sequence: Make, tmp_path: Path, change: dict[str, Any]) -> None:
    model = make_sequence(n_epochs=1).fit(sequences())
    change = {name: value for name, value in change.items() if name in model.get_params()}
    moments = model._moments()
    if model.set_params(**change)._moments() == moments:
        return
    used = uses(model, tmp_path)
    for use in ("partial_fit", "resize", "save"):
        with pytest.raises(ValueError, match=r"optimizer.*changed since fit"):
            used[use]()
    assert not list(tmp_path.iterdir())
    used["recommend"]()  # which needs no optimizer
    used["copy"]()


def test_lists_and_tuples_are_the_same() -> None:
    model = rf.NextItNet(8, [1, 2], n_epochs=1, random_state=0).fit(sequences())
    model.set_params(dilations=(1, 2)).recommend(0)
    model.set_params(dilations=[1, 2]).partial_fit(sequences())


TRAINED_BY: dict[str, Any] = {
    "learning_rate": 0.5,
    "weight_decay": 0.25,
    "clip_norm": 0.125,
    "lazy_moments": True,
}


def test_what_trains_may_change(make_sequence: Make, tmp_path: Path, device: str) -> None:
    """``partial_fit`` trains as the parameters say now; so does the model that the file then holds."""
    model = make_sequence().fit(sequences())
    changed = {**TRAINED_BY, "dropout": 0.375, "n_threads": 1}
    model.set_params(**changed)
    model.save(tmp_path / "x")
    loaded = rf.load(tmp_path / "x", device=device).set_params(n_threads=1)
    for one in (model, loaded):
        one.partial_fit(sequences())
        network = one._net()
        for name in ("learning_rate", "weight_decay", "clip_norm"):
            assert getattr(network.optimizer, name) == changed[name]
        assert network.optimizer.sparse
        assert network.runtime.n_threads == 1
        assert 0.375 in {getattr(block, "dropout", None) for block in network.blocks}
    assert same_state(model, loaded)


def test_a_network_that_only_answers_has_no_objective(make_sequence: Make, tmp_path: Path) -> None:
    model = make_sequence(n_epochs=1).fit(sequences())
    model.save(tmp_path / "x")
    loaded = rf.load(tmp_path / "x")
    loaded.recommend(0)
    assert loaded._net().objective is None
    loaded.partial_fit(sequences())
    assert loaded._net().objective is not None


@pytest.mark.parametrize("fails", ["_make_network", "restore"])
def test_a_resize_that_fails_changes_nothing(
    make_sequence: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    fitted = make_sequence(n_epochs=1).fit(sequences())
    fitted.save(tmp_path / "x")
    before = copy.deepcopy(fitted)

    def throw(*_: Any) -> Any:
        raise MemoryError

    for model in (fitted, rf.load(tmp_path / "x")):
        with monkeypatch.context() as patch:
            patch.setattr(Network if fails == "restore" else type(model), fails, throw)
            with pytest.raises(MemoryError):
                model.resize(40, 30)
        assert model.training_matrix_.shape == model.training_sequences_.shape == (30, 20)
        assert same_state(model, before)
        assert model.recommend(29, n=3).ids.shape == (3,)
        model.resize(40, 30)
        assert model.recommend(39, n=3).ids.shape == (3,)


def test_a_resized_loaded_model_keeps_one_state(make_sequence: Make, tmp_path: Path) -> None:
    make_sequence(n_epochs=1).fit(sequences()).save(tmp_path / "x")
    model = rf.load(tmp_path / "x").resize(40, 30)
    assert "_stored" not in vars(model)
    assert model._held()[0]["items"].shape[0] >= 30


def test_new_rows_depend_on_all_bits_of_the_seed() -> None:
    grown = [
        rf.GRU4Rec(8, n_epochs=1, random_state=seed).fit(sequences()).resize(n_items=30).item_factors_[20:]
        for seed in (2**64 - 1, 2**64 - 2, 2**63 + 1)
    ]
    assert not np.array_equal(grown[0], grown[1])
    assert not np.array_equal(grown[0], grown[2])


@pytest.mark.skipif(backend.resolve_device() != "cpu", reason="the extension is hidden")
@pytest.mark.parametrize("from_end", [False, True])
def test_the_binding_refuses_rows_without_a_place(from_end: bool) -> None:
    module, rows = backend.get("cpu"), np.zeros((4, 3), np.float32)
    row_ptr, places = np.array([0, 1, 4], np.int64), np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="length of a sequence: got 3, expected 2"):
        module.embedding_forward(rows, rows, places, np.zeros(4, np.int32), row_ptr, 1.0, from_end, 0.0, 0, 0, 0, 1)
    with pytest.raises(ValueError, match="length of a sequence: got 3, expected 2"):
        module.embedding_backward(rows, places, row_ptr, 1.0, from_end, 0.0, 0, 0, 0, 1)
