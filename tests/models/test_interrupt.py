from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.models import als_problem, als_training
from tests.models.cases import ratings, same_state


class Interrupts:
    """Stands in for ``AlsProblem.sweep``: the call of that number stops half way through the rows."""

    def __init__(self, at: int) -> None:
        self.at, self.calls, self.sweep = at, 0, als_problem.AlsProblem.sweep

    def __call__(self, problem: Any, x: Any, y: Any, spectrum: Any, matrix: Any) -> float:
        before = x.copy()
        loss = self.sweep(problem, x, y, spectrum, matrix)
        self.calls += 1
        if self.calls == self.at:
            x[len(x) // 2 :] = before[len(x) // 2 :]
            raise KeyboardInterrupt
        return loss

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(als_problem.AlsProblem, "sweep", lambda *args: self(*args))


def model(device: str, feedback: str, n_epochs: int = 4) -> rf.ALS:
    options = {"regularization": 0.05, "feedback": feedback, "solver": "cg", "random_state": 0}
    return rf.ALS(4, n_epochs=n_epochs, device=device, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("feedback", ["implicit", "explicit"])
@pytest.mark.parametrize("at", [5, 6])
def test_an_interrupted_epoch_is_undone(device: str, monkeypatch: pytest.MonkeyPatch, at: int, feedback: str) -> None:
    interrupted = model(device, feedback)
    with monkeypatch.context() as patch:
        Interrupts(at).install(patch)
        with pytest.raises(KeyboardInterrupt):
            interrupted.fit(ratings())
    assert same_state(interrupted, model(device, feedback, n_epochs=2).fit(ratings()))
    interrupted.partial_fit(ratings(), n_epochs=2)
    assert same_state(interrupted, model(device, feedback).fit(ratings()))


@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupted_first_epoch_leaves_no_model(device: str, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    interrupted = model(device, "implicit").fit(ratings())
    Interrupts(at).install(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(ratings())
    assert not interrupted.is_fitted
    with pytest.raises(rf.errors.NotFittedError):
        interrupted.recommend(0)


@pytest.mark.parametrize("feedback", ["implicit", "explicit"])
@pytest.mark.parametrize("at", [5, 6])
def test_tables_too_large_to_copy_stay_consistent_and_no_worse(
    device: str, monkeypatch: pytest.MonkeyPatch, at: int, feedback: str
) -> None:
    monkeypatch.setattr(als_training, "_SNAPSHOT_LIMIT", 0)
    interrupted = model(device, feedback)
    with monkeypatch.context() as patch:
        Interrupts(at).install(patch)
        with pytest.raises(KeyboardInterrupt):
            interrupted.fit(ratings())
    assert interrupted.n_epochs_ == len(interrupted.history_["loss"]) == 2
    if feedback == "implicit":
        gram = interrupted._items.astype(np.float64).T @ interrupted._items
        np.testing.assert_allclose(gram, np.diag(interrupted._spectrum), atol=1e-5 * gram.max())
    going_on = interrupted.history_["loss"][-1]
    interrupted.partial_fit(ratings())
    assert interrupted.history_["loss"][-1] < going_on
    uninterrupted = model(device, feedback).fit(ratings())
    assert uninterrupted.history_["loss"][:2] == interrupted.history_["loss"][:2]


def test_rows_that_diverged_are_dropped_where_there_is_no_copy(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(als_training, "_SNAPSHOT_LIMIT", 0)
    sweep, calls = als_problem.AlsProblem.sweep, []

    def failing(self: Any, x: Any, *rest: Any) -> float:
        loss = sweep(self, x, *rest)
        calls.append(1)
        if len(calls) == 6:
            x[3], x[4] = np.nan, 1e30
            return float("nan")
        return loss

    diverged = model(device, "implicit")
    with monkeypatch.context() as patch:
        patch.setattr(als_problem.AlsProblem, "sweep", failing)
        with pytest.raises(rf.errors.DivergedError, match="epoch 3"):
            diverged.fit(ratings())
    assert np.isfinite(diverged.score(np.arange(30))).all()
    assert (diverged.item_factors_[[3, 4]] == 0).all()
    assert (diverged.item_factors_[5] != 0).any()


def test_an_interruption_while_the_copy_is_made_changes_nothing(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted, copy, calls = model(device, "implicit"), als_training._copy, []

    def failing(target: Any, source: Any) -> None:
        calls.append(1)
        if len(calls) == 4:  # the users of the second epoch are copied, its items not yet
            raise KeyboardInterrupt
        copy(target, source)

    with monkeypatch.context() as patch:
        patch.setattr(als_training, "_copy", failing)
        with pytest.raises(KeyboardInterrupt):
            interrupted.fit(ratings())
    assert same_state(interrupted, model(device, "implicit", n_epochs=2).fit(ratings()))


def test_rotations_are_never_cut_short() -> None:
    reached = []

    def slow() -> None:
        for _ in range(20):
            time.sleep(0.01)
            reached.append(1)

    timer = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        als_training.run_to_the_end(slow)
    timer.join()
    assert len(reached) == 20

    def failing() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        als_training.run_to_the_end(failing)


def test_a_real_signal_keeps_the_last_epoch(device: str) -> None:
    matrix = ratings(3000, 1000, 0.05)

    def fresh(n_epochs: int) -> rf.ALS:
        return rf.ALS(48, n_epochs=n_epochs, solver="cholesky", random_state=0, device=device, n_threads=2)

    class Signal:
        """Sends SIGINT from another thread a moment after the second epoch."""

        def on_epoch_end(self, state: Any) -> None:
            if state.epoch == 2:
                threading.Timer(0.01, lambda: os.kill(os.getpid(), signal.SIGINT)).start()

    interrupted = fresh(10_000)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(matrix, callbacks=[Signal()])
    assert interrupted.n_epochs_ >= 2
    assert same_state(interrupted, fresh(interrupted.n_epochs_).fit(matrix))


_FORK = """
import os, sys, warnings
import recsys_fast as rf
from tests.models.cases import ratings
warnings.simplefilter("ignore")  # newer Pythons warn of fork with threads, which is what is tested
model = rf.ALS(8, n_epochs=2, random_state=0, device=sys.argv[1], n_threads=2).fit(ratings(200, 100))
ids = model.recommend(n=5).ids
child = os.fork()
if child == 0:
    again = rf.ALS(8, n_epochs=2, random_state=0, device=sys.argv[1], n_threads=2).fit(ratings(200, 100))
    same = (model.recommend(n=5).ids == ids).all() and (again.recommend(n=5).ids == ids).all()
    os._exit(0 if same else 3)
_, status = os.waitpid(child, 0)
assert (model.recommend(n=5).ids == ids).all()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_fits_and_recommends(device: str) -> None:
    command, env = [sys.executable, "-c", _FORK, device], {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, timeout=200, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr


def test_readers_in_many_threads_agree(device: str) -> None:
    fitted = rf.ALS(8, feedback="explicit", n_epochs=2, random_state=0, device=device).fit(ratings(200, 100))
    new, expected = ratings(5, 100, seed=3), None
    results: list[Any] = []

    def read() -> None:
        for _ in range(5):
            found = (fitted.recommend([1, 2], n=9), fitted.similar_items(3), fitted.recommend(user_items=new, n=4))
            results.append([part.tobytes() for pair in found for part in pair])

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = results[0]
    assert len(results) == 30
    assert all(result == expected for result in results)
