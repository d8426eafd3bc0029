"""Epochs of sequence models that end early, go wrong, or are taken up again."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast import serialization
from recsys_fast.errors import DivergedError, ModelFormatError
from recsys_fast.training.network import Network
from tests.models.cases import same_state, sequences

Make = Callable[..., Any]


class At:
    """Does something when the step of that number is to begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int, what: Callable[[], None]) -> None:
        calls, run = [0], Network.step

        def patched(network: Network, batch: Any) -> Any:
            calls[0] += 1
            found = run(network, batch)
            if calls[0] == step:
                what()
            return found

        monkeypatch.setattr(Network, "step", patched)


def raising(error: BaseException) -> Callable[[], None]:
    def throw() -> None:
        raise error

    return throw


def test_an_interrupted_epoch_is_undone(make_sequence: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, data = make_sequence(n_epochs=4), sequences()
    model = make_sequence(n_epochs=4)
    steps_of_two_epochs = make_sequence(n_epochs=2).fit(data)._net().steps
    with monkeypatch.context() as patch:
        At(patch, steps_of_two_epochs + 2, raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            model.fit(data)
    assert model.n_epochs_ == len(model.history_["loss"]) == 2
    assert same_state(model, make_sequence(n_epochs=2).fit(data))
    model.partial_fit(data, n_epochs=2)
    assert same_state(model, whole.fit(data))


def test_an_interrupted_first_epoch_leaves_no_model(make_sequence: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_sequence().fit(sequences())
    At(monkeypatch, 2, raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        model.fit(sequences())
    assert not model.is_fitted


def test_divergence_keeps_the_last_good_epoch(make_sequence: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_sequence(n_epochs=6)
    bad = make_sequence(n_epochs=2).fit(sequences())._net().steps + 3
    run, calls = Network.step, []

    def patched(network: Network, batch: Any) -> Any:
        loss, n = run(network, batch)
        calls.append(1)
        return (float("nan") if len(calls) == bad else loss), n

    with monkeypatch.context() as patch:
        patch.setattr(Network, "step", patched)
        with pytest.raises(DivergedError, match=r"epoch 3.*keeps epoch 2.*learning_rate"):
            model.fit(sequences())
    assert same_state(model, make_sequence(n_epochs=2).fit(sequences()))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_step_that_is_too_long_diverges(device: str) -> None:
    model = rf.SASRec(8, 1, max_len=6, optimizer="sgd", learning_rate=1e6, n_epochs=50, random_state=0, device=device)
    with pytest.raises(DivergedError, match=r"SASRec diverged in epoch \d+.*lower learning_rate"):
        model.fit(sequences())
    assert not model.is_fitted or np.isfinite(model.item_factors_).all()


class Crash:
    """A callback that ends training with an error after an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, state: Any) -> None:
        if state.epoch == self.epoch:
            raise SystemError("power cut")


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_resumed_run_ends_with_the_same_bits(make_sequence: Make, tmp_path: Path, device: str, schedule: str) -> None:
    kind: dict[str, Any] = {"n_epochs": 6, "schedule": schedule, "warmup_steps": 5}
    whole = make_sequence(**kind).fit(sequences())
    with pytest.raises(SystemError):
        make_sequence(**kind).fit(sequences(), callbacks=[rf.Checkpoint(tmp_path / "c", every=2), Crash(5)])
    assert rf.load(tmp_path / "c").n_epochs_ == 4
    resumed = type(whole).resume(tmp_path / "c", device=device, callbacks=[rf.Checkpoint(tmp_path / "d")])
    assert same_state(resumed, whole)
    assert same_state(rf.load(tmp_path / "d"), whole)


def test_early_stopping_restores_the_best_epoch(make_sequence: Make) -> None:
    train, valid, _ = rf.splits.leave_one_out(sequences(longest=12))

    class Losses:
        """Makes the second epoch the best one."""

        def on_epoch_end(self, state: Any) -> None:
            state.metrics["ndcg@10"] = (0.1, 0.9, 0.2, 0.3)[state.epoch - 1]

    stop = rf.EarlyStopping("ndcg@10", patience=2)
    model = make_sequence(n_epochs=9).fit(train, eval_set=valid, callbacks=[Losses(), stop])
    assert model.n_epochs_ == stop.best_epoch == 2
    twin = make_sequence(n_epochs=2).fit(train)
    np.testing.assert_array_equal(model.item_factors_, twin.item_factors_)
    np.testing.assert_array_equal(model.encode([[1, 2]]), twin.encode([[1, 2]]))


def test_checkpoints_in_a_folder(tmp_path: Path) -> None:
    model = rf.SASRec(8, 1, max_len=6, n_epochs=2, random_state=0)
    folder = tmp_path / "run"
    model.fit(sequences(), callbacks=[rf.Checkpoint(f"{folder}/", minutes=5)])
    assert [path.name for path in folder.iterdir()] == ["sasrec.safetensors"]
    assert same_state(rf.load(folder / "sasrec.safetensors"), model)
    rf.BERT4Rec(8, 1, max_len=6, n_epochs=1).fit(sequences(), callbacks=[rf.Checkpoint(folder)])
    assert sorted(path.name for path in folder.iterdir()) == ["bert4rec.safetensors", "sasrec.safetensors"]
    with pytest.raises(ModelFormatError, match=r"SASRec.*expected BERT4Rec"):
        rf.BERT4Rec.resume(folder / "sasrec.safetensors")


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, model = tmp_path / "c", rf.SASRec(8, 1, max_len=6, n_epochs=5, random_state=0)
    sync, calls = os.fsync, []

    def full(file: int) -> None:
        calls.append(1)
        if len(calls) > 2:  # the first checkpoint: its file and its folder
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(serialization.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            model.fit(sequences(), callbacks=[rf.Checkpoint(path)])
    assert [file.name for file in tmp_path.iterdir()] == ["c"]
    assert rf.load(path).n_epochs_ == 1
    assert model.n_epochs_ == 2
    whole = rf.SASRec(8, 1, max_len=6, n_epochs=5, random_state=0).fit(sequences())
    assert same_state(rf.SASRec.resume(path), whole)


_KILLED = """
import os, signal, sys
import recsys_fast as rf
from tests.models.cases import sequences
class Kill:
    def on_epoch_end(self, state):
        if state.epoch == 4:
            os.kill(os.getpid(), signal.SIGKILL)
model = rf.SASRec(8, 1, max_len=6, n_epochs=6, random_state=0, device=sys.argv[2])
model.fit(sequences(), callbacks=[rf.Checkpoint(sys.argv[1], every=3), Kill()])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal on this system")
def test_a_killed_run_is_resumed(tmp_path: Path, device: str) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "c"), device]
    done = subprocess.run(command, timeout=200, capture_output=True, text=True, env=env)
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed = rf.SASRec.resume(tmp_path / "c", device=device)
    whole = rf.SASRec(8, 1, max_len=6, n_epochs=6, random_state=0, device=device).fit(sequences())
    assert same_state(resumed, whole)


def test_a_real_signal_keeps_the_last_epoch(device: str) -> None:
    data = sequences(600, 200, 30)

    def fresh(n_epochs: int) -> rf.SASRec:
        return rf.SASRec(16, 1, max_len=30, n_epochs=n_epochs, random_state=0, device=device)

    class Signal:
        def on_epoch_end(self, state: Any) -> None:
            if state.epoch == 2:
                threading.Timer(0.01, lambda: os.kill(os.getpid(), signal.SIGINT)).start()

    model = fresh(10_000)
    with pytest.raises(KeyboardInterrupt):
        model.fit(data, callbacks=[Signal()])
    assert model.n_epochs_ >= 2
    assert same_state(model, fresh(model.n_epochs_).fit(data))


def test_speed_is_reported(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    class Watch:
        def on_epoch_end(self, state: Any) -> None:
            seen.append(state.tokens_per_second)

    model = rf.SASRec(8, 1, max_len=6, n_epochs=2, random_state=0, device=device)
    model.fit(sequences(), callbacks=[Watch()], verbose=True)
    text = capsys.readouterr().err
    assert text.count("tokens/s") == 2
    assert "Sequences(30 users x 20 items" in text
    assert all(speed > 0 for speed in seen)
    rf.ALS(4, n_epochs=1).fit(sequences().csr, callbacks=[Watch()])
    assert seen[-1] is None


def test_readers_in_many_threads_agree(device: str) -> None:
    model = rf.SASRec(8, 1, max_len=6, n_epochs=2, positions="start", random_state=0, device=device).fit(sequences())
    results: list[Any] = []

    def read() -> None:
        for user in range(5):
            state = model.start([user, 3])
            model.update(state, 7)
            found = (model.recommend([1, 2], n=9), model.recommend([[3, 4], [1]]), model.recommend_from(state))
            results.append((user, [part.tobytes() for pair in found for part in pair]))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = {user: next(found for u, found in results if u == user) for user in range(5)}
    assert len(results) == 30
    assert all(found == first[user] for user, found in results)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_epochs_beyond_a_falling_schedule_train(
    make_sequence: Make, tmp_path: Path, device: str, schedule: str
) -> None:
    model = make_sequence(schedule=schedule).fit(sequences())
    model.save(tmp_path / "x")
    before, parameters = model.item_factors_.copy(), model._net().parameters.values.copy()
    model.partial_fit(sequences(), n_epochs=2)
    assert not np.array_equal(model.item_factors_, before)
    assert not np.array_equal(model._net().parameters.values, parameters)
    assert same_state(type(model).resume(tmp_path / "x", n_epochs=4, device=device), model)


def test_rows_without_a_gradient(device: str) -> None:
    """Adam's moments go on moving rows that a step does not touch, unless it is lazy; Adagrad never moves them."""
    data = sequences()
    for optimizer, same in (("adam", False), ("adagrad", True)):
        kind: dict[str, Any] = {"loss": "bce", "optimizer": optimizer, "batch_size": 4, "n_epochs": 2, "device": device}
        all_rows, lazy = (
            rf.SASRec(8, 1, max_len=6, random_state=0, lazy_moments=lazy, **kind).fit(data) for lazy in (False, True)
        )
        assert np.array_equal(all_rows.item_factors_, lazy.item_factors_) is same
