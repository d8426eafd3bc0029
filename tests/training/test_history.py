"""``history_`` and ``n_epochs_`` stay in step, however training ends and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast import evaluation
from recsys_fast.training import TrainingState, train
from tests.models.cases import ratings, same_state


def als(n_epochs: int) -> rf.ALS:
    return rf.ALS(4, n_epochs=n_epochs, random_state=0)


class Worse:
    """Makes the second epoch the best one; goes before what it is to fool."""

    def on_epoch_end(self, state: TrainingState) -> None:
        state.loss = abs(state.epoch - 2.0)


def test_the_history_ends_where_the_model_does(tmp_path: Path) -> None:
    """Numbers of epochs that were given up go with them, so that a resumed run goes on in the right place."""
    test = ratings(seed=5)
    model = als(9).fit(ratings(), eval_set=test, callbacks=[Worse(), rf.EarlyStopping(patience=2)])
    assert model.n_epochs_ == 2
    assert {len(values) for values in model.history_.values()} == {2}
    model.save(tmp_path / "x")
    resumed = rf.ALS.resume(tmp_path / "x", n_epochs=5, eval_set=test)
    assert {len(values) for values in resumed.history_.values()} == {5}
    assert same_state(resumed, als(5).fit(ratings(), eval_set=test))


def test_epochs_without_a_number_have_their_place(tmp_path: Path) -> None:
    test = ratings(seed=5)
    model = als(2).fit(ratings()).partial_fit(ratings())
    model.save(tmp_path / "x")
    model = rf.ALS.resume(tmp_path / "x", n_epochs=5, eval_set=test)
    assert np.isnan(model.history_["ndcg@20"]).tolist() == [True] * 3 + [False] * 2
    model.partial_fit(ratings())
    assert np.isnan(model.history_["ndcg@20"]).tolist() == [True] * 3 + [False] * 2 + [True]
    assert np.isfinite(model.history_["loss"]).all()
    model.save(tmp_path / "x")
    np.testing.assert_array_equal(rf.load(tmp_path / "x").history_["ndcg@20"], model.history_["ndcg@20"])


def test_an_interrupted_evaluation_leaves_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test, calls, evaluate = ratings(seed=5), [0], evaluation.evaluate

    def interrupted(*given: Any, **how: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return evaluate(*given, **how)

    model = als(4)
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.fit(ratings(), eval_set=test)
    assert model.n_epochs_ == 2
    assert np.isnan(model.history_["recall@20"]).tolist() == [False, True]
    model.save(tmp_path / "x")
    resumed, whole = rf.ALS.resume(tmp_path / "x", eval_set=test), als(4).fit(ratings(), eval_set=test)
    for name, values in whole.history_.items():
        assert resumed.history_[name][2:] == values[2:]


class Counting:
    """A trainer whose epochs are interrupted before or after they are counted."""

    def __init__(self, model: Any) -> None:
        self.model, self.undone = model, 0

    def epoch(self) -> float:
        return 1.0

    def rollback(self) -> None:
        self.undone += 1


@pytest.mark.parametrize("counted", [False, True])
def test_an_epoch_is_undone_unless_it_is_counted(counted: bool) -> None:
    class Model:
        def __setattr__(self, name: str, value: Any) -> None:
            if counted:
                super().__setattr__(name, value)
            raise KeyboardInterrupt

    model, history = Model(), {"loss": [2.0]}
    vars(model)["n_epochs_"] = 1
    trainer = Counting(model)
    with pytest.raises(KeyboardInterrupt):
        train(model, trainer, 5, first=1, history=history, evaluator=lambda _: {})
    assert trainer.undone == (not counted)
    assert vars(model)["n_epochs_"] == len(history["loss"]) == 1 + counted
