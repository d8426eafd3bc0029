"""Sequence models that start from vectors of others (``init``), and layers that do not train (``frozen``)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.data import Vectors
from recsys_fast.data.vectors import Aligned
from recsys_fast.training.network import Network
from tests.conftest import devices
from tests.models.cases import SEQUENCE_MODELS, same_state, sequences

Make = Callable[..., Any]

KINDS = ("bert4rec", "caser", "gru4rec-lstm", "nextitnet", "sasrec-gbce")
# every kind where it runs by itself, and one on the other backend: what is tested here is written once for all of them
PLACES = [*((kind, "auto") for kind in KINDS), *(("sasrec-gbce", device) for device in devices()[1:])]
GIVEN = np.random.default_rng(3).standard_normal((20, 8))
DECAYS = {"weight_decay": 0.1, "clip_norm": 0.5}  # which move what has no gradient


@pytest.fixture(params=PLACES, ids="-".join)
def make(request: pytest.FixtureRequest) -> Make:
    """A function that makes an unfitted model of each kind."""
    kind, device = request.param

    def made(**how: Any) -> Any:
        return SEQUENCE_MODELS[kind](device=device, **how)

    return made


def filled(model: Any) -> str:
    """Return the name of the table that ``init`` fills."""
    return "inputs" if isinstance(model, rf.Caser) else "items"


def held(model: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = model._held()[0]
    return arrays


def layers(model: Any) -> dict[str, Any]:
    """Return copies of all layers of a fitted model by the names that ``frozen`` takes."""
    network = model._net()
    found = {table.name: table.values.copy() for table in network.tables}
    for name, block in network.parameters.blocks.items():
        if block.parameters():
            found["positions" if name == "embedding" else name] = np.concatenate(
                [network.parameters.view(f"{name}.{p.name}").reshape(-1) for p in block.parameters()]
            )
    return {name: values.copy() for name, values in found.items()}


def test_vectors_that_others_trained(make: Make, tmp_path: Path) -> None:
    data = sequences()
    still = make(init=GIVEN, frozen=True, **DECAYS).fit(data)
    name = filled(still)
    np.testing.assert_array_equal(held(still)[name][:20], GIVEN.astype(np.float32))
    assert not any(one.startswith(f"optimizer.{name}") for one in held(still))
    moving = make(init=Aligned(GIVEN, np.empty(0, np.int32)), n_epochs=1).fit(data)
    assert not np.array_equal(held(moving)[name][:20], GIVEN.astype(np.float32))
    plain = make(n_epochs=1).fit(data)
    assert not same_state(moving, plain)
    still.save(tmp_path / "m")
    loaded = rf.load(tmp_path / "m", device=still.device)
    assert loaded.init is None
    assert loaded.frozen is True
    assert same_state(loaded, still)
    assert same_state(loaded.partial_fit(data), still.partial_fit(data))
    np.testing.assert_array_equal(held(loaded)[name][:20], GIVEN.astype(np.float32))
    assert same_state(copy.deepcopy(still).partial_fit(data), still.partial_fit(data))
    grown = still.resize(n_items=24)
    np.testing.assert_array_equal(held(grown)[name][:20], GIVEN.astype(np.float32))


def test_vectors_by_raw_ids() -> None:
    data = sequences()
    ids = [f"i{item}" for item in range(20)]
    named = rf.Sequences(list(data), n_items=20, item_ids=ids)
    vectors = Vectors([*ids[5:][::-1], "other"], np.concatenate([GIVEN[5:][::-1], GIVEN[:1]]))
    model = rf.GRU4Rec(8, init=vectors, frozen="items", n_epochs=1, random_state=0).fit(named)
    table = held(model)["items"]
    np.testing.assert_array_equal(table[5:], GIVEN[5:].astype(np.float32))
    assert np.isfinite(table[:5]).all()
    assert table[:5].any(axis=1).all()
    numbered = Vectors(range(20), GIVEN)
    twin = rf.GRU4Rec(8, init=numbered, frozen="items", n_epochs=1, random_state=0).fit(data)
    np.testing.assert_array_equal(held(twin)["items"], GIVEN.astype(np.float32))


def test_each_layer_alone_can_be_frozen(make: Make) -> None:
    data = sequences()
    base = make(n_epochs=1, **DECAYS).fit(data)
    before = layers(base)
    for name in before:
        model = copy.deepcopy(base).set_params(frozen=(name,)).partial_fit(data)
        for other, values in layers(model).items():
            assert np.array_equal(values, before[other]) == (other == name), (name, other)
    whole = copy.deepcopy(base).set_params(frozen=list(before)).partial_fit(data)
    assert all(np.array_equal(values, before[name]) for name, values in layers(whole).items())


def test_what_is_frozen_may_change_and_files_say_so(make: Make, tmp_path: Path) -> None:
    data = sequences()
    model = make(n_epochs=1).fit(data)
    name = filled(model)
    model.set_params(frozen=True)
    for call in (lambda: model.save(tmp_path / "m"), lambda: model.resize(n_items=30)):
        with pytest.raises(ValueError, match=r"frozen layers of a fitted \w+: got .*changed since fit.*partial_fit"):
            call()
    assert not (tmp_path / "m").exists()
    assert model.recommend([[1, 2]], n=3).ids.shape == (1, 3)
    for frozen, has_state in ((True, False), (False, True), ((name,), False)):
        model.set_params(frozen=frozen).partial_fit(data)
        assert (f"optimizer.{name}.v" in held(model)) == (has_state and bool(model._moments()))
        model.save(tmp_path / "m")
        loaded = rf.load(tmp_path / "m", device=model.device)
        assert same_state(loaded, model)
        assert same_state(loaded.partial_fit(data), model.partial_fit(data))
        model.resize(n_items=model.training_matrix_.n_cols)


class Crash:
    """Ends training with an error after an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, state: Any) -> None:
        if state.epoch == self.epoch:
            raise SystemError("power cut")


def test_a_resumed_run_ends_with_the_same_bits(make: Make, tmp_path: Path) -> None:
    first = next(iter(layers(make(n_epochs=1).fit(sequences()))))
    kind: dict[str, Any] = {"init": GIVEN, "frozen": (first,), "n_epochs": 5, **DECAYS}
    whole = make(**kind).fit(sequences())
    with pytest.raises(SystemError):
        make(**kind).fit(sequences(), callbacks=[rf.Checkpoint(tmp_path / "c", every=2), Crash(3)])
    resumed = type(whole).resume(tmp_path / "c", device=whole.device)
    assert same_state(resumed, whole)


def test_threads_do_not_matter(make: Make) -> None:
    kind: dict[str, Any] = {"init": GIVEN, "frozen": True, **DECAYS}
    assert same_state(make(n_threads=1, **kind).fit(sequences()), make(n_threads=3, **kind).fit(sequences()))


def test_an_interrupted_epoch_after_freezing_is_undone(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sequences()
    model = make(n_epochs=1).fit(data)
    before, step = copy.deepcopy(model), Network.step

    def interrupted(network: Network, batch: Any) -> Any:
        step(network, batch)
        raise KeyboardInterrupt

    for frozen in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(Network, "step", interrupted)
            with pytest.raises(KeyboardInterrupt):
                model.set_params(frozen=frozen).partial_fit(data)
        assert model.n_epochs_ == 1
        for name, values in layers(model).items():
            np.testing.assert_array_equal(values, layers(before)[name])
        model.save(tmp_path / "m")
        loaded = rf.load(tmp_path / "m", device=model.device)
        assert same_state(loaded, model)
        assert same_state(loaded.partial_fit(data), copy.deepcopy(model).partial_fit(data))


def test_a_frozen_table_needs_no_state(make: Make) -> None:
    plain, still = (make(frozen=frozen).estimate_memory(sequences()) for frozen in (False, True))
    n_numbers = 21 * 8 if isinstance(make(), rf.BERT4Rec) else 20 * 8
    n_numbers += (20 + isinstance(make(), rf.BERT4Rec)) * bool(getattr(make(), "item_bias", False))
    moments = len(make()._moments())
    assert plain["optimizer"] - still["optimizer"] == 4 * moments * n_numbers
    assert plain["network"] == still["network"]


def test_clones_keep_the_parameters() -> None:
    base = pytest.importorskip("sklearn.base")
    model = rf.SASRec(8, 1, init=GIVEN, frozen=("items", "norm"))
    twin = base.clone(model)
    np.testing.assert_array_equal(twin.init, GIVEN)
    assert twin.frozen == ("items", "norm")
    assert model.get_params()["init"] is GIVEN
    assert len(repr(model)) < 120


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"init": GIVEN[:19]}, ValueError, r"init of a table: got float64 \(19, 8\), expected numbers \(20, 8\)"),
    ({"init": GIVEN[:, :7]}, ValueError, r"init of a table: got float64 \(20, 7\), expected numbers \(20, 8\)"),
    ({"init": GIVEN[0]}, ValueError, "init of a table"),
    ({"init": "vectors.npz"}, ValueError, "init of a table"),
    ({"init": GIVEN.astype(str)}, ValueError, "init of a table"),
    ({"init": np.where(GIVEN > 2, np.nan, GIVEN)}, ValueError, r"init of row \d+: got inf or NaN"),
    ({"init": GIVEN * 1e300}, ValueError, r"init of row 0: got inf or NaN, expected finite float32 numbers"),
    ({"init": Vectors(range(20), GIVEN[:, :5])}, ValueError, "length of a vector of init: got 5, expected d, 8"),
    ({"init": Vectors(["a", "b"], GIVEN[:2])}, ValueError, "none of 20 names has a vector"),
    ({"frozen": "itms"}, ValueError, "frozen: got 'itms', expected True, False, or some of "),
    ({"frozen": ("items", "attention9")}, ValueError, "frozen: got 'attention9'"),
    ({"frozen": 1}, TypeError, "frozen: got 1, expected True, False, or names of layers"),
    ({"frozen": None}, TypeError, "frozen: got None"),
    ({"frozen": ("items", 2)}, TypeError, "names of layers"),
]


@pytest.mark.parametrize(("wrong", "error", "text"), BAD)
def test_bad_input_leaves_the_model_as_it_was(make: Make, wrong: dict[str, Any], error: type, text: str) -> None:
    model = make(n_epochs=1).fit(sequences())
    before = copy.deepcopy(model)
    model.set_params(**wrong)
    with pytest.raises(error, match=text):
        model.fit(sequences())
    with pytest.raises(error, match=text):
        make(**wrong).partial_fit(sequences())
    assert same_state(model.set_params(init=None, frozen=False), before)
