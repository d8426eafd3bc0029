from __future__ import annotations

import gc
import io
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.errors import NotFittedError
from recsys_fast.training import Callback, TrainingState
from tests.models.cases import MODELS, ratings, same_state


def als(n_epochs: int = 5, **options: Any) -> rf.ALS:
    return rf.ALS(4, n_epochs=n_epochs, random_state=0, **options)


class Record(Callback):
    """Keeps what it is told, and stops where asked to."""

    def __init__(self, stop_at: int = 0, metrics: tuple[str, ...] = ()) -> None:
        self.calls: list[Any] = []
        self.stop_at, self.metrics = stop_at, metrics

    def on_fit_begin(self, state: TrainingState) -> None:
        self.calls.append("begin")

    def on_epoch_end(self, state: TrainingState) -> bool:
        ids = state.model.recommend(0, n=2).ids.tolist()
        self.calls.append((state.epoch, state.n_epochs, state.loss, dict(state.metrics), ids))
        return state.epoch == self.stop_at

    def on_fit_end(self, state: TrainingState) -> None:
        self.calls.append("end" if state.finished else "failed")


def test_callbacks_see_every_epoch_of_a_usable_model() -> None:
    record = Record()
    model = als(3).fit(ratings(), callbacks=[record])
    assert record.calls[0] == "begin"
    assert record.calls[-1] == "end"
    assert [call[:3] for call in record.calls[1:-1]] == [(e + 1, 3, model.history_["loss"][e]) for e in range(3)]
    assert record.calls[-2][4] == model.recommend(0, n=2).ids.tolist()


def test_true_stops_and_every_callback_still_runs() -> None:
    first, second = Record(stop_at=2), Record()
    model = als(9).fit(ratings(), callbacks=[first, second])
    assert model.n_epochs_ == 2
    assert len(second.calls) == 4
    assert same_state(model, als(2).fit(ratings()))


def test_a_failing_callback_leaves_the_finished_epoch() -> None:
    class Failing:
        def on_epoch_end(self, state: TrainingState) -> None:
            if state.epoch == 2:
                raise ZeroDivisionError

    record, model = Record(), als(9)
    with pytest.raises(ZeroDivisionError):
        model.fit(ratings(), callbacks=[Failing(), record])
    assert record.calls[-1] == "failed"
    assert same_state(model, als(2).fit(ratings()))


@pytest.mark.parametrize("bad", [[None], [lambda state: None], ["EarlyStopping"], [rf.EarlyStopping]])
def test_what_is_no_callback_is_refused_before_training(bad: Any) -> None:
    model = als()
    if bad == [rf.EarlyStopping]:  # the class where an instance is meant
        bad = [type("Odd", (), {"on_epoch_end": 5})()]
    with pytest.raises(TypeError, match="callback"):
        model.fit(ratings(), callbacks=bad)
    with pytest.raises(TypeError, match="a list"):
        model.fit(ratings(), callbacks=rf.TimeLimit(3))  # type: ignore[arg-type]
    assert not model.is_fitted


@pytest.mark.parametrize("name", MODELS)
def test_metrics_of_an_evaluation_set_join_the_history(name: str) -> None:
    train, test = ratings(), ratings(seed=5)
    model = MODELS[name]()
    record = Record()
    model.fit(train, eval_set=test, callbacks=[record])
    epochs = model.n_epochs_
    assert set(model.history_) - {"loss"} == {"recall@20", "ndcg@20"}
    assert len(model.history_["ndcg@20"]) == epochs
    report = rf.evaluation.evaluate(model, train, test, ("ndcg",), (20,))
    assert model.history_["ndcg@20"][-1] == pytest.approx(report["ndcg@20"])
    assert record.calls[-2][3]["ndcg@20"] == model.history_["ndcg@20"][-1]


def test_what_callbacks_ask_for_is_evaluated() -> None:
    train, test = rf.Interactions(ratings()), rf.Interactions(ratings(seed=5))
    callbacks = [Record(metrics=("recall@3",)), rf.EarlyStopping("auc", patience=3), rf.LogEvaluation(("map@7",))]
    model = als(2).fit(train, eval_set=(train, test), callbacks=callbacks)
    assert set(model.history_) == {"loss", "recall@3", "auc", "map@7"}
    unseen = als(2).fit(train, eval_set=(ratings(seed=8), test), callbacks=[Record(metrics=("recall@3",))])
    assert unseen.history_["recall@3"] != model.history_["recall@3"]


def test_evaluation_needs_a_set() -> None:
    model = als()
    with pytest.raises(ValueError, match=r"'ndcg@10'.*eval_set"):
        model.fit(ratings(), callbacks=[rf.EarlyStopping("ndcg@10")])
    for bad in ("test", (ratings(), ratings(), ratings()), [1, 2]):
        with pytest.raises(TypeError, match="eval_set"):
            model.fit(ratings(), eval_set=bad)
    assert not model.is_fitted


class Scripted(Callback):
    """Puts the losses of a script in the place of the real ones; goes before what it is to fool."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def on_epoch_end(self, state: TrainingState) -> None:
        state.loss = self.losses[state.epoch - 1]


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "stops_at", "best"),
    [
        ([5, 4, 3, 2, 1, 0], 1, 0.0, 6, 6),
        ([5, 4, 4, 3, 2, 1], 1, 0.0, 3, 2),
        ([5, 4, 6, 3, 7, 8], 2, 0.0, 6, 4),
        ([5, 6, 7, 8, 9, 1], 3, 0.0, 4, 1),
        ([5, 4.9, 4.8, 4.7, 4.6, 4.5], 3, 0.25, 6, 4),
        ([5, 4.9, 4.8, 4.7, 4.6, 4.5], 2, 1.0, 3, 1),
        ([float("nan"), 4, 5, 5, 5, 5], 2, 0.0, 4, 2),
    ],
)
def test_early_stopping(losses: list[float], patience: int, min_delta: float, stops_at: int, best: int) -> None:
    stopping = rf.EarlyStopping("loss", patience=patience, min_delta=min_delta)
    for _ in range(2):  # the same object serves a second fit
        record = Record()
        model = als(6).fit(ratings(), callbacks=[Scripted(losses), stopping, record])
        assert record.calls[-2][0] == stops_at
        assert stopping.best_epoch == model.n_epochs_ == best
        np.testing.assert_array_equal(model._items, als(best).fit(ratings())._items)
    last = als(6).fit(ratings(), callbacks=[Scripted(losses), rf.EarlyStopping(patience=9, restore_best=False)])
    assert last.n_epochs_ == 6


def test_early_stopping_on_a_metric() -> None:
    stopping = rf.EarlyStopping("recall@5", patience=2)
    model = als(30).fit(ratings(), eval_set=ratings(seed=5), callbacks=[stopping])
    values = model.history_["recall@5"]
    assert stopping.best == max(values) == values[-1]
    assert model.n_epochs_ == int(np.argmax(values)) + 1
    assert len(values) == len(model.history_["loss"]) == model.n_epochs_
    assert model.n_epochs_ < 28  # it was stopped, and two epochs were given up


def test_early_stopping_makes_room_before_it_copies() -> None:
    class Model:
        copies: list[Any] = []  # noqa: RUF012

        def copy_state(self) -> Any:
            gc.collect()
            assert all(one() is None for one in self.copies)
            made = Record()
            self.copies.append(weakref.ref(made))
            return made

    stopping = rf.EarlyStopping()
    for epoch in (1, 2, 3):
        stopping.on_epoch_end(TrainingState(Model(), 9, epoch, 1.0 / epoch))
    assert len(Model.copies) == 3


def test_epochs_that_were_not_evaluated_are_not_patience() -> None:
    stopping = rf.EarlyStopping("recall@5", patience=2)
    nan = float("nan")
    state = TrainingState(None, 20, epoch=8, history={"recall@5": [0.5, 0.25, nan, nan]})  # of epochs 5 to 8
    stopping.on_fit_begin(state)
    assert stopping.best_epoch == 5
    stopping.restore_best = False
    state.metrics, state.epoch = {"recall@5": 0.75}, 9
    assert not stopping.on_epoch_end(state)
    assert stopping.best_epoch == 9
    state.metrics = {"recall@5": 0.5}
    assert [stopping.on_epoch_end(state) for _ in range(2)] == [False, True]


def test_early_stopping_parameters() -> None:
    for bad in ({"patience": 0}, {"min_delta": -1}, {"min_delta": float("nan")}):
        with pytest.raises(ValueError, match="patience"):
            rf.EarlyStopping(**bad)
    with pytest.raises(ValueError, match="no loss"):
        rf.Popularity().fit(ratings(), callbacks=[rf.EarlyStopping()])


def test_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("recsys_fast.training.loop.time.perf_counter", lambda: 10.0 * next(clock))
    assert als(9).fit(ratings(), callbacks=[rf.TimeLimit(30)]).n_epochs_ == 3
    with pytest.raises(ValueError, match="seconds"):
        rf.TimeLimit(0)


def test_log_lines() -> None:
    stream = io.StringIO()
    als(5).fit(ratings(), eval_set=ratings(seed=5), callbacks=[rf.LogEvaluation(("ndcg@5",), every=2, stream=stream)])
    lines = stream.getvalue().splitlines()
    assert [line.split()[2] for line in lines] == ["2/5", "4/5", "5/5"]
    assert all("loss" in line and "ndcg@5 0." in line for line in lines)
    with pytest.raises(ValueError, match="every"):
        rf.LogEvaluation(every=0)


def test_verbose_writes_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    als(2).fit(ratings(), verbose=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "epoch 1/2" in captured.err
    assert "epoch 2/2" in captured.err
    als(2).fit(ratings())
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bar_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    bar = rf.ProgressBar()
    als(3).fit(ratings(), callbacks=[bar])
    assert ("3/3" in stream.getvalue()) == terminal
    als(3).fit(ratings(), callbacks=[bar])  # again with the same object

    class Failing:
        def on_fit_begin(self, state: TrainingState) -> None:
            raise ZeroDivisionError

        def on_epoch_end(self, state: TrainingState) -> None:
            """Never reached."""

    with pytest.raises(ZeroDivisionError):
        als(3).fit(ratings(), callbacks=[Failing(), rf.ProgressBar()])


def test_verbose_shows_the_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    als(2).fit(ratings(), verbose=True)
    assert "2/2" in stream.getvalue()


@pytest.mark.parametrize("name", MODELS)
def test_checkpoint_is_a_model_file(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    model.fit(ratings(), callbacks=[rf.Checkpoint(tmp_path / "c")])
    assert same_state(rf.load(tmp_path / "c"), model)


def test_checkpoint_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []

    def save(model: Any, path: str) -> None:
        saved.append(model.n_epochs_)

    monkeypatch.setattr(rf.ALS, "save", save)

    def epochs(checkpoint: rf.Checkpoint) -> list[int]:
        saved.clear()
        als(7).fit(ratings(), callbacks=[checkpoint])
        return saved

    assert epochs(rf.Checkpoint(tmp_path / "c")) == [1, 2, 3, 4, 5, 6, 7]
    assert epochs(rf.Checkpoint(tmp_path / "c", every=3)) == [3, 6, 7]
    assert epochs(rf.Checkpoint(tmp_path / "c", every=10)) == [7]
    clock = iter(np.arange(0, 1000, 10.0))
    monkeypatch.setattr("recsys_fast.training.checkpoint.time.monotonic", lambda: next(clock))
    assert epochs(rf.Checkpoint(tmp_path / "c", minutes=0.5)) == [3, 6, 7]
    for bad in ({"every": 0}, {"minutes": 0}, {"minutes": -1}, {"every": 1, "minutes": 1}):
        with pytest.raises(ValueError, match="every"):
            rf.Checkpoint(tmp_path / "c", **bad)


@pytest.mark.parametrize("solver", ["cholesky", "cg", "subspace"])
@pytest.mark.parametrize("feedback", ["implicit", "explicit"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, device: str, solver: str, feedback: str) -> None:
    options = {"solver": solver, "feedback": feedback, "regularization": 0.05, "device": device}
    whole = als(6, **options).fit(ratings())

    class Crash:
        def on_epoch_end(self, state: TrainingState) -> None:
            if state.epoch == 5:
                raise SystemError("power cut")

    with pytest.raises(SystemError):
        als(6, **options).fit(ratings(), callbacks=[rf.Checkpoint(tmp_path / "c", every=2), Crash()])
    assert rf.load(tmp_path / "c").n_epochs_ == 4
    record = Record()
    resumed = rf.ALS.resume(tmp_path / "c", device=device, callbacks=[record, rf.Checkpoint(tmp_path / "d")])
    assert same_state(resumed, whole)
    assert [call[0] for call in record.calls[1:-1]] == [5, 6]
    assert same_state(rf.load(tmp_path / "d"), whole)
    longer = rf.ALS.resume(tmp_path / "d", n_epochs=8, device=device)
    assert same_state(longer, als(8, **options).fit(ratings()))
    assert same_state(rf.ALS.resume(tmp_path / "d", device=device), whole)  # nothing left to do


def test_a_resumed_run_keeps_its_patience_and_metrics(tmp_path: Path) -> None:
    test = ratings(seed=5)

    def stopping() -> rf.EarlyStopping:
        return rf.EarlyStopping("recall@5", patience=4, restore_best=False)

    whole = als(40).fit(ratings(), eval_set=test, callbacks=[stopping()])
    als(3).fit(ratings(), eval_set=test, callbacks=[stopping(), rf.Checkpoint(tmp_path / "c")])
    resumed = rf.ALS.resume(tmp_path / "c", n_epochs=40, eval_set=test, callbacks=[stopping()])
    assert same_state(resumed, whole)
    assert len(resumed.history_["recall@5"]) == whole.n_epochs_


def test_an_interrupted_run_keeps_the_last_whole_checkpoint(tmp_path: Path) -> None:
    class Interrupt:
        def on_epoch_end(self, state: TrainingState) -> None:
            if state.epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        als(6).fit(ratings(), callbacks=[rf.Checkpoint(tmp_path / "c", every=2), Interrupt()])
    assert rf.load(tmp_path / "c").n_epochs_ == 2
    with pytest.raises(NotFittedError):
        als().copy_state()
