"""FM and FFM: training, use, files, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.errors import DivergedError, ModelFormatError, NotFittedError, NotSupportedError
from recsys_fast.models import evaluate_rows
from recsys_fast.models.fm_training import FmTrainer
from recsys_fast.serialization import write
from tests.models.cases import same_state, snapshot
from tests.models.test_files import contents

Make = Callable[..., Any]
FIELDS = np.repeat([0, 1, 2], [12, 9, 4])

MODELS: dict[str, Make] = {
    "fm": lambda **k: rf.FM(4, **{"n_epochs": 3, "random_state": 0, **k}),
    "fm-sgd": lambda **k: rf.FM(3, **{"solver": "sgd", "n_epochs": 3, "random_state": 0, **k}),
    "fm-adam": lambda **k: rf.FM(4, **{"solver": "adam", "loss": "squared", "random_state": 0, "n_epochs": 3, **k}),
    "fm-als": lambda **k: rf.FM(4, **{"solver": "als", "loss": "squared", "random_state": 0, "n_epochs": 3, **k}),
    "fm-bpr": lambda **k: rf.FM(4, **{"loss": "bpr", "random_state": 0, "n_epochs": 3, **k}),
    "ffm": lambda **k: rf.FFM(2, **{"n_epochs": 3, "random_state": 0, **k}),
    "ffm-adam-bpr": lambda **k: rf.FFM(4, **{"solver": "adam", "loss": "bpr", "random_state": 0, "n_epochs": 3, **k}),
}


@pytest.fixture(params=MODELS)
def make(request: pytest.FixtureRequest, device: str) -> Make:
    return partial(MODELS[request.param], device=device)


def rows(n: int = 400, seed: int = 0) -> tuple[sp.csr_array, Any, Any]:
    """X of a user, an item and a context per row (some missing), y with an interaction in it, and the user."""
    rng = np.random.default_rng(seed)
    user, item, context = (rng.integers(0, size, n) for size in (12, 9, 4))
    hot = np.hstack([np.eye(size)[one] for size, one in ((12, user), (9, item), (4, context))])
    hot[rng.random(n) < 0.05, :12] = 0
    hot[3] = 0
    signal = np.random.default_rng(5).standard_normal((12, 9))[user, item] + 0.3 * context
    return sp.csr_array(hot.astype(np.float32)), (signal > 0.4).astype(np.float32), user


def arguments(model: Any, data: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what ``fit`` takes."""
    x, y, user = rows() if data is None else data
    further: dict[str, Any] = {"groups": user} if model.loss == "bpr" else {}
    return (x, y), further | ({"fields": FIELDS} if isinstance(model, rf.FFM) else {})


def fitted(make: Make, **how: Any) -> Any:
    model = make(**how)
    given, further = arguments(model)
    return model.fit(*given, **further)


def test_learns_and_keeps_its_input(make: Make) -> None:
    (x, y), further = arguments(make())
    before = snapshot(x), y.copy()
    rate = 0.02 if make().solver == "adam" else 0.2
    model = make(n_epochs=30, learning_rate=rate, batch_size=32).fit(x, y, **further)
    assert (snapshot(x), y.tobytes()) == (before[0], before[1].tobytes())
    assert model.n_epochs_ == len(model.history_["loss"]) == 30
    assert model.history_["loss"][-1] < 0.8 * model.history_["loss"][0]
    if model.loss == "bpr":
        assert evaluate_rows(model, x, y, ["group_auc"], groups=rows()[2])["group_auc"] > 0.8
    else:
        assert evaluate_rows(model, x, y, ["auc"])["auc"] > 0.85
    assert model.predict(x).dtype == model.score_rows(x).dtype == np.float32
    assert model.weights_.shape == (25,)
    shape = (25, 3, model.n_factors) if isinstance(model, rf.FFM) else (25, model.n_factors)
    assert model.factors_.shape == shape
    np.testing.assert_allclose(model.score_rows(sp.csr_array((2, 25))), model.bias_, rtol=1e-6)


def test_same_bits_again_and_with_any_threads(make: Make) -> None:
    first = fitted(make, n_threads=1)
    assert same_state(first, fitted(make, n_threads=2))
    assert not same_state(first, fitted(make, random_state=1))


def test_partial_fit_goes_on_where_fit_stopped(make: Make) -> None:
    whole = fitted(make)
    parts = make()
    given, further = arguments(parts)
    parts.partial_fit(*given, n_epochs=1, **further)
    parts.partial_fit(*given, n_epochs=2, **further)
    assert same_state(whole, parts)


def test_files(make: Make, tmp_path: Path, device: str) -> None:
    model = fitted(make)
    model.save(tmp_path / "x")
    (x, y), further = arguments(model)
    for loaded in (rf.load(tmp_path / "x", device=device), type(model).load(tmp_path / "x", device=device)):
        assert type(loaded) is type(model)
        assert same_state(loaded, model)
        assert np.array_equal(loaded.predict(x), model.predict(x))
    further.pop("fields", None)
    longer = type(model).resume(tmp_path / "x", x, y, n_epochs=5, device=device, **further)
    assert same_state(longer, fitted(make, n_epochs=5))
    with pytest.raises(ModelFormatError, match="Popularity"):
        rf.Popularity.load(tmp_path / "x")


def test_a_checkpoint_resumes(make: Make, tmp_path: Path, device: str) -> None:
    model = make(n_epochs=4)
    (x, y), further = arguments(model)

    class Stop:
        def on_epoch_end(self, state: Any) -> bool:
            return state.epoch == 2

    model.fit(x, y, callbacks=[rf.Checkpoint(tmp_path / "c"), Stop()], **further)
    further.pop("fields", None)
    resumed = type(model).resume(tmp_path / "c", x, y, device=device, **further)
    assert same_state(resumed, fitted(make, n_epochs=4))


@pytest.mark.parametrize(
    "change",
    [
        lambda a, s: a.update(table=a["table"][:-1]),
        lambda a, s: a.update(table=a["table"] * np.nan),
        lambda a, s: a.update(bias=a["bias"] + np.inf),
        lambda a, s: a.update(state=-a["state"]),
        lambda a, s: a.update(fields=a["fields"] + 5),
        lambda a, s: a.update(seen=a["seen"][:3]),
        lambda a, s: a.update(more=a["seen"]),
        lambda a, s: s.update(n_features=10**9),
        lambda a, s: s.update(n_fields=0),
        lambda a, s: s.update(seed="1"),
        lambda a, s: s.update(lowest=None),
    ],
)
def test_forged_files_are_refused(tmp_path: Path, change: Callable[[Any, Any], None]) -> None:
    fitted(MODELS["ffm"]).save(tmp_path / "x")
    arrays, metadata = contents(tmp_path / "x")
    state = json.loads(metadata["state"])
    change(arrays, state)
    write(tmp_path / "forged", arrays, {**metadata, "state": json.dumps(state)})
    with pytest.raises(ModelFormatError, match="forged"):
        rf.load(tmp_path / "forged")


def test_eval_set_and_early_stopping(device: str) -> None:
    data, test = rows(300), rows(200, seed=1)
    stopping = rf.EarlyStopping("log_loss", patience=2)
    model = rf.FM(8, learning_rate=0.5, n_epochs=200, regularization=0.0, random_state=0, device=device)
    model.fit(*data[:2], eval_set=test[:2], callbacks=[stopping])
    best = int(np.argmin(model.history_["log_loss"]))
    assert model.n_epochs_ == best + 1 < 200
    found = evaluate_rows(model, *test[:2])
    assert set(found) == {"log_loss", "auc"}
    assert found["log_loss"] == model.history_["log_loss"][best]
    squared = rf.FM(loss="squared", n_epochs=2, device=device).fit(*data[:2], eval_set=test[:2])
    assert set(squared.history_) == {"loss", "rmse", "mae"}
    ranked = rf.FM(loss="bpr", n_epochs=2, device=device)
    ranked.fit(*data[:2], groups=data[2], eval_set=test, callbacks=[rf.LogEvaluation(("group_auc",))])
    assert len(ranked.history_["group_auc"]) == 2


def test_weights_count_like_repeated_rows(device: str) -> None:
    x, y, _ = rows(60)
    weights = np.random.default_rng(0).integers(0, 3, 60)
    repeated = np.repeat(np.arange(60), weights)
    options: dict[str, Any] = {"loss": "squared", "solver": "als", "n_epochs": 3, "random_state": 0, "device": device}
    options |= {"regularization": 0.0}
    one = rf.FM(0, **options).fit(x, y, sample_weight=weights)
    two = rf.FM(0, **options).fit(x[repeated], y[repeated])
    kept = np.flatnonzero(x[repeated].sum(0) > 0)
    np.testing.assert_allclose(one.predict(x[repeated]), two.predict(x[repeated]), atol=1e-3)
    assert len(kept)


def test_labels_of_minus_one_are_zeros(make: Make) -> None:
    model = make()
    if model.loss == "squared":
        pytest.skip("takes any number")
    (x, y), further = arguments(model)
    assert same_state(model.fit(x, y, **further), make().fit(x, 2 * y - 1, **further))


def test_squared_predictions_stay_in_range(device: str) -> None:
    x, y, _ = rows()
    model = rf.FM(loss="squared", device=device, n_epochs=2).fit(x, 3 * y + 1)
    wild = x * 100
    assert (np.abs(model.score_rows(wild)) > 5).any()
    assert 1 <= model.predict(wild).min() <= model.predict(wild).max() <= 4


def test_unseen_features_say_nothing(make: Make) -> None:
    model = make()
    (x, y), further = arguments(model)
    keep = np.flatnonzero(x[:, [4]].toarray().ravel() == 0)
    further = {k: v if k == "fields" else v[keep] for k, v in further.items()}
    model.fit(x[keep], y[keep], **further)
    row = sp.csr_array(([1.0, 1.0], ([0, 0], [4, 13])), shape=(1, 25))
    without = sp.csr_array(([1.0], ([0], [13])), shape=(1, 25))
    np.testing.assert_allclose(model.score_rows(row), model.score_rows(without), atol=1e-6)
    (x, y), further = arguments(model)
    model.partial_fit(x, y, **{**further, "n_epochs": 3})
    assert model.weights_[4] != 0
    assert model.factors_[4].any()


def test_divergence_keeps_the_last_finite_epoch(device: str) -> None:
    x, y, _ = rows()
    model = rf.FM(loss="squared", solver="sgd", learning_rate=0.01, n_epochs=2, random_state=0, device=device)
    model.fit(x, y)
    before = model.copy_state()
    model.set_params(learning_rate=300.0)
    with pytest.raises(DivergedError, match="keeps epoch"):
        model.partial_fit(x, 1000 * y, n_epochs=60)
    assert np.isfinite(model.predict(x)).all()
    assert model.n_epochs_ == len(model.history_["loss"]) >= 2
    assert before["n_epochs_"] == 2
    with pytest.raises(DivergedError, match="not fitted"):
        rf.FM(loss="squared", solver="sgd", learning_rate=1e6, device=device).fit(x, 1e18 * y)


def test_an_interrupted_epoch_is_undone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model, epoch, calls = make(n_epochs=4), FmTrainer._keep, []

    def failing(self: FmTrainer) -> None:
        epoch(self)
        calls.append(1)
        if len(calls) == 3:
            step = self.step

            def broken() -> float:
                step()
                raise KeyboardInterrupt

            self.step = broken

    (x, y), further = arguments(model)
    with monkeypatch.context() as patch:
        patch.setattr(FmTrainer, "_keep", failing)
        with pytest.raises(KeyboardInterrupt):
            model.fit(x, y, **further)
    assert same_state(model, fitted(make, n_epochs=2))
    assert same_state(model.partial_fit(x, y, n_epochs=2, **further), fitted(make, n_epochs=4))


def test_not_fitted_and_parameters(make: Make) -> None:
    model = make()
    with pytest.raises(NotFittedError, match=r"fit\(X, y\)"):
        model.predict(rows()[0])
    with pytest.raises(NotFittedError):
        model.save("nowhere")
    assert model.get_params() == type(model)(**model.get_params()).get_params()
    (x, y), further = arguments(model)
    model.fit(x, y, **further)
    state = model.copy_state()
    for bad in ({"n_factors": -1}, {"loss": "hinge"}, {"learning_rate": 0.0}, {"batch_size": 0}, {"n_epochs": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            type(model)(**{**model.get_params(), **bad}).fit(x, y, **further)
    assert model.n_epochs_ == state["n_epochs_"]


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"y": np.ones(400)}, ValueError, "one class only"),
    ({"y": -np.ones(400)}, ValueError, "one class only"),
    ({"y": np.arange(400)}, ValueError, "0 and 1, or -1 and 1"),
    ({"y": np.full(400, np.nan)}, ValueError, r"y\[0\]"),
    ({"y": np.ones(3)}, ValueError, "one per row"),
    ({"y": np.array(["a"] * 400)}, TypeError, "numbers"),
    ({"X": np.ones((400, 25))}, TypeError, "sparse"),
    ({"X": rows()[0] * np.nan}, ValueError, "finite"),
    ({"X": sp.csr_array((0, 25)), "y": np.empty(0)}, ValueError, "no rows"),
    ({"sample_weight": np.zeros(400)}, ValueError, "only zeros"),
    ({"sample_weight": -np.ones(400)}, ValueError, "sample_weight"),
    ({"groups": rows()[2]}, ValueError, "groups with loss"),
    ({"eval_set": rows()[0]}, TypeError, "eval_set"),
    ({"eval_set": (rows()[0][:, :3], rows()[1])}, ValueError, "X of eval_set"),
    ({"eval_set": (rows()[0], np.full(400, 3.0))}, ValueError, "targets"),
    ({"callbacks": [rf.EarlyStopping("auc")]}, ValueError, "eval_set"),
    ({"callbacks": [rf.EarlyStopping("ndcg@10")], "eval_set": rows()[:2]}, ValueError, "metric"),
]


@pytest.mark.parametrize(("change", "error", "text"), BAD)
def test_fit_refuses_and_leaves_the_model(
    change: dict[str, Any], error: type[Exception], text: str, device: str
) -> None:
    model = fitted(partial(MODELS["fm"], device=device))
    state = model.copy_state()
    given = {"X": rows()[0], "y": rows()[1], **change}
    with pytest.raises(error, match=text):
        model.fit(**given)
    assert all(np.array_equal(state[name], getattr(model, name)) for name in state)


def test_bpr_needs_groups_with_both(device: str) -> None:
    x, y, user = rows()
    with pytest.raises(ValueError, match="groups are missing"):
        rf.FM(loss="bpr", device=device).fit(x, y)
    with pytest.raises(ValueError, match="no group has both"):
        rf.FM(loss="bpr", device=device).fit(x, y, groups=np.arange(400))
    with pytest.raises(ValueError, match="shape of groups"):
        rf.FM(loss="bpr", device=device).fit(x, y, groups=user[:-1])


def test_other_numbers_of_columns(make: Make) -> None:
    model = fitted(make)
    (x, y), further = arguments(model)
    for wrong in (x[:, :-1], sp.hstack([x, x]).tocsr()):
        with pytest.raises(ValueError, match="shape"):
            model.predict(wrong)
        with pytest.raises(ValueError, match=r"shape|fields"):
            model.partial_fit(wrong, y, **further)
    assert len(model.predict(x[:0])) == 0


def test_order_and_solver_that_are_not_there(device: str) -> None:
    x, y, _ = rows()
    with pytest.raises(NotSupportedError, match="order"):
        rf.FM(order=3, device=device).fit(x, y)
    with pytest.raises(ValueError, match="als"):
        rf.FM(solver="als", device=device).fit(x, y)
    with pytest.raises(ValueError, match="solver"):
        rf.FFM(solver="als", loss="squared", device=device).fit(x, y, fields=FIELDS)


def test_fields_of_entries_and_bad_ones(device: str) -> None:
    x, y, _ = rows()
    make = partial(MODELS["ffm"], device=device)
    by_entry = make().fit(x, y, fields=FIELDS[x.indices])
    assert same_state(by_entry, make().fit(x, y, fields=FIELDS))
    shuffled = FIELDS[x.indices].copy()
    shuffled[5] += 1
    for fields, error, text in [
        (None, ValueError, "fields are missing"),
        (FIELDS[:-1], ValueError, "one per column"),
        (FIELDS - 1, IndexError, r"fields\[0\]: got -1"),
        (FIELDS.astype(float), TypeError, "dtype of fields: got float64, expected an integer"),
        (shuffled, ValueError, "one field"),
    ]:
        with pytest.raises(error, match=text):
            make().fit(x, y, fields=fields)
    with pytest.raises(ValueError, match="fields are missing"):
        make().partial_fit(x, y)


def test_fields_of_new_columns(device: str) -> None:
    x, y, _ = rows()
    first = np.flatnonzero(x[:, [24]].toarray().ravel() == 0)
    part, model = x[first], MODELS["ffm"](device=device)
    model.partial_fit(part, y[first], fields=FIELDS[part.indices])
    assert model.fields_[24] == 0
    for fields, text in (
        (FIELDS + 1, "as before"),
        (np.where(FIELDS == 2, 3, FIELDS), "before|below"),
        (FIELDS[:3], "fields"),
    ):
        with pytest.raises(ValueError, match=text):
            model.partial_fit(x, y, fields=fields)
    assert model.fields_[24] == 0
    model.partial_fit(x, y, fields=FIELDS)
    assert model.fields_[24] == 2


def test_memory_estimate_counts_what_is_held(make: Make) -> None:
    model = make()
    (x, y), further = arguments(model)
    fields = {"fields": further["fields"]} if "fields" in further else {}
    estimate = model.estimate_memory(x, **fields)
    assert estimate["total"] == sum(value for name, value in estimate.items() if name != "total")
    model.fit(x, y, **further)
    held = model._table.nbytes + model._state.nbytes + model._steps.nbytes
    assert estimate["parameters"] == estimate["last epoch"] == held
    assert model.estimate_memory(x) == estimate
