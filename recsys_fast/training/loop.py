"""The one training loop: epochs, divergence, evaluation, callbacks, and a model that is usable whenever it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from recsys_fast.errors import DivergedError, message

DEFAULT_METRICS = ("recall@20", "ndcg@20")


class Trainer(Protocol):
    """What a model hands to the loop: how to train one epoch, and how to undo a part of one.

    A trainer may also have ``tokens_per_second``, the speed of its last epoch over sequences, and ``publish()``, which
    brings the model up to date where the epochs leave their result elsewhere, on a device: it is called before anybody
    looks, and at the end.
    """

    def epoch(self) -> float | None:
        """Train one epoch, publish the result on the model, and return the loss (None for models without one)."""

    def rollback(self) -> None:
        """Bring the model back to the last finished epoch after ``epoch`` failed or was interrupted."""


@dataclass
class TrainingState:
    """What callbacks see.

    Attributes:
        model: the model, usable as after ``fit``.
        n_epochs: number of epochs that training goes up to.
        epoch: finished epochs, counted from the model's first.
        loss: loss of the last epoch, None for models without one.
        metrics: metrics of the last epoch, empty without ``eval_set``.
        history: lists with one number per epoch: "loss" and each metric; NaN for epochs in which it was not measured.
        elapsed: seconds since training began.
        tokens_per_second: of the last epoch, without its evaluation; None for models that are not trained on sequences.
        finished: False where training ended by an exception.
    """

    model: Any
    n_epochs: int
    epoch: int = 0
    loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)
    elapsed: float = 0.0
    tokens_per_second: float | None = None
    finished: bool = False


class Evaluator:
    """Computes the metrics that the callbacks ask for on the evaluation set.

    Args:
        eval_set: None, a test matrix (n_users, n_items), or the pair (train, test); the training matrix, whose items
            are not recommended, is the model's own unless given.
        callbacks: their ``metrics`` are computed; without any, recall@20 and ndcg@20.

    Raises:
        ValueError: a callback asks for a metric and there is no evaluation set.
        TypeError: ``eval_set`` is neither a matrix nor a pair.
    """

    def __init__(self, eval_set: Any, callbacks: Sequence[Any], n_threads: int | None) -> None:
        wanted = [name for callback in callbacks for name in getattr(callback, "metrics", ())]
        self.names = tuple(dict.fromkeys(wanted)) or DEFAULT_METRICS
        self.train, self.test, self.n_threads = None, None, n_threads
        if eval_set is None:
            if wanted:
                raise ValueError(message(f"a callback needs {wanted[0]!r}", mend="pass eval_set=test to fit"))
            return
        if type(eval_set) in (tuple, list):
            if len(eval_set) != 2:
                raise TypeError(message("eval_set", f"{len(eval_set)} parts", "test, or (train, test)"))
            self.train, self.test = eval_set
        else:
            self.test = eval_set
        for part in (self.train, self.test):
            if part is not None and not hasattr(part, "shape"):
                raise TypeError(message("eval_set", type(part).__name__, "a sparse matrix or Interactions"))

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the metrics by name; empty without an evaluation set."""
        if self.test is None:
            return {}
        from recsys_fast.evaluation import evaluate

        train = model._training_data() if self.train is None else self.train
        report = evaluate(model, train, self.test, self.names, n_threads=self.n_threads)
        return {name: float(report[name]) for name in self.names}


def check_callbacks(callbacks: Any) -> tuple[Any, ...]:
    """Return the callbacks as a tuple.

    Raises:
        TypeError: not a sequence, or one of them has no ``on_epoch_end``.
    """
    if hasattr(callbacks, "on_epoch_end"):
        raise TypeError(message("callbacks", type(callbacks).__name__, "a list", "write callbacks=[callback]"))
    chosen = tuple(callbacks)
    for callback in chosen:
        if not callable(getattr(callback, "on_epoch_end", None)):
            raise TypeError(message("callback", type(callback).__name__, "an object with on_epoch_end(state)"))
    return chosen


def _call(callbacks: Sequence[Any], name: str, state: TrainingState) -> bool:
    """Call the method on each callback that has it; return whether any asked to stop."""
    results = [getattr(callback, name)(state) for callback in callbacks if hasattr(callback, name)]
    return any(result is True for result in results)


def train(
    model: Any,
    trainer: Trainer,
    n_epochs: int,
    *,
    first: int = 0,
    history: dict[str, list[float]],
    evaluator: Callable[[Any], dict[str, float]],
    callbacks: Sequence[Any] = (),
) -> None:
    """Run epochs ``first + 1 .. n_epochs``.

    After each epoch ``history`` grows by the loss and the metrics, so that place k of every list is epoch k + 1 (NaN
    where a number is missing), ``model.n_epochs_`` counts it, and the callbacks run; one that returns True ends
    training. When an epoch fails or is interrupted, ``trainer.rollback`` brings the model back to the last finished
    epoch and the exception goes on to the caller.

    Raises:
        DivergedError: the loss is not finite.
    """
    state = TrainingState(model, n_epochs, epoch=first, history=history)
    start = time.perf_counter()
    try:
        _call(callbacks, "on_fit_begin", state)
        while state.epoch < n_epochs:
            _one_epoch(state, trainer)
            if callbacks or getattr(evaluator, "test", None) is not None:
                _publish(trainer)
            state.metrics = evaluator(model)
            _record(history, state.epoch, state.metrics)
            state.elapsed = time.perf_counter() - start
            if _call(callbacks, "on_epoch_end", state):
                break
        state.finished = True
    finally:
        try:
            _record(history, getattr(model, "n_epochs_", 0), {})
            _publish(trainer)
        finally:
            _call(callbacks, "on_fit_end", state)


def _publish(trainer: Trainer) -> None:
    if hasattr(trainer, "publish"):
        trainer.publish()


def _record(history: dict[str, list[float]], epoch: int, numbers: dict[str, float]) -> None:
    """Put the numbers of an epoch in their places; in all lists, epochs without a number get NaN."""
    for name in numbers:
        history.setdefault(name, [])
    for values in history.values():
        values.extend([math.nan] * (epoch - len(values)))
    for name, value in numbers.items():
        history[name][epoch - 1] = value


def _one_epoch(state: TrainingState, trainer: Trainer) -> None:
    name = type(state.model).__name__
    try:
        loss = trainer.epoch()
        if loss is not None and not math.isfinite(loss):
            kept = f"the model keeps epoch {state.epoch}" if state.epoch else "the model is not fitted"
            mend = f"{kept}; raise regularization, or scale the values down"
            what = f"{name} diverged in epoch {state.epoch + 1}: loss"
            raise DivergedError(message(what, loss, "a finite number", mend))
        state.model.n_epochs_ = state.epoch + 1
    except BaseException:
        if getattr(state.model, "n_epochs_", 0) == state.epoch:  # an interrupt may come once the epoch is counted
            trainer.rollback()
        raise
    state.tokens_per_second = getattr(trainer, "tokens_per_second", None)
    state.epoch += 1
    state.loss = loss
    _record(state.history, state.epoch, {} if loss is None else {"loss": loss})
