"""Callbacks of the training loop: early stopping, progress, logs, time limits.

A callback is any object with ``on_epoch_end(state) -> bool | None``; True ends training after this epoch. It may also
have ``on_fit_begin(state)`` and ``on_fit_end(state)``, and ``metrics``, the names that it wants evaluated.
"""

from __future__ import annotations

import math
import sys
from typing import Any, TextIO

from recsys_fast.errors import message
from recsys_fast.training.loop import DEFAULT_METRICS, TrainingState

_LOWER_IS_BETTER = ("loss", "log_loss", "rmse", "mae", "gini")


class Callback:
    """Base class with methods that do nothing; using it is optional."""

    #: metrics that the loop evaluates for this callback, such as ``("ndcg@10",)``
    metrics: tuple[str, ...] = ()

    def on_fit_begin(self, state: TrainingState) -> None:
        """Run before the first epoch."""

    def on_epoch_end(self, state: TrainingState) -> bool | None:
        """Run after each epoch; True ends training."""
        return None

    def on_fit_end(self, state: TrainingState) -> None:
        """Run after training, also when it ended by an exception (``state.finished`` is then False)."""


class EarlyStopping(Callback):
    """Ends training when a quantity stops improving.

    Args:
        monitor: "loss", or a metric such as "ndcg@10" (needs ``eval_set``). Lower is better for loss, log_loss,
            rmse, mae and gini, higher for everything else.
        patience: training ends after this many epochs in a row without improvement.
        min_delta: smallest change that counts as improvement, in the unit of ``monitor``.
        restore_best: put the model back to its best epoch at the end, and ``history_`` with it (keeps one copy of the
            learned state in memory). In a resumed run only epochs after the resumption can be restored.

    Raises:
        ValueError: ``patience`` is below 1 or ``min_delta`` negative.
    """

    def __init__(
        self, monitor: str = "loss", *, patience: int = 2, min_delta: float = 0.0, restore_best: bool = True
    ) -> None:
        if patience < 1 or not min_delta >= 0:
            raise ValueError(message("patience, min_delta", (patience, min_delta), "at least 1, and not negative"))
        self.monitor, self.patience, self.min_delta, self.restore_best = monitor, patience, min_delta, restore_best
        self.metrics = () if monitor == "loss" else (monitor,)
        self._sign = -1.0 if monitor.partition("@")[0] in _LOWER_IS_BETTER else 1.0
        self.best, self.best_epoch, self._waited = -math.inf, 0, 0
        self._copy: Any = None

    def on_fit_begin(self, state: TrainingState) -> None:
        """Start afresh, or take up the count where a resumed history left it."""
        self.best, self.best_epoch, self._waited, self._copy = -math.inf, 0, 0, None
        values = state.history.get(self.monitor, ())
        for epoch, value in enumerate(values, state.epoch - len(values) + 1):
            if not math.isnan(value):  # epochs that were not evaluated say nothing
                self._observe(value, epoch)

    def _observe(self, value: float, epoch: int) -> bool:
        """Return whether ``value`` improves on the best seen."""
        score = self._sign * value
        if not score > self.best + (self.min_delta if self.best > -math.inf else 0.0):
            self._waited += 1
            return False
        self.best, self.best_epoch, self._waited = score, epoch, 0
        return True

    def on_epoch_end(self, state: TrainingState) -> bool:
        """Compare with the best epoch so far; True after ``patience`` epochs without improvement."""
        value = state.loss if self.monitor == "loss" else state.metrics[self.monitor]
        if value is None:
            mend = "monitor a metric, and pass eval_set to fit"
            raise ValueError(message(f"{type(state.model).__name__} has no loss to monitor", mend=mend))
        if self._observe(value, state.epoch):
            if self.restore_best:
                self._copy = None  # so that there are never two
                self._copy = state.model.copy_state()
            return False
        return self._waited >= self.patience

    def on_fit_end(self, state: TrainingState) -> None:
        """Put the best epoch back."""
        if state.finished and self._copy is not None and self.best_epoch != state.epoch:
            state.model.restore_state(self._copy)
        self._copy = None


class TimeLimit(Callback):
    """Ends training after the first epoch that finishes ``seconds`` after the start or later.

    Raises:
        ValueError: ``seconds`` is not positive.
    """

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(message("seconds", seconds, "more than 0"))
        self.seconds = seconds

    def on_epoch_end(self, state: TrainingState) -> bool:
        """True when the time is used up."""
        return state.elapsed >= self.seconds


def _summary(state: TrainingState) -> str:
    parts = [] if state.loss is None else [f"loss {state.loss:.6g}"]
    parts += [] if state.tokens_per_second is None else [f"{state.tokens_per_second:,.0f} tokens/s"]
    return "  ".join(parts + [f"{name} {value:.4f}" for name, value in state.metrics.items()])


class LogEvaluation(Callback):
    """Writes a line per epoch: epoch, seconds, loss, metrics, and tokens per second where sequences are trained on.

    Args:
        metrics: what to evaluate, such as ("recall@20", "ndcg@20"); needs ``eval_set`` unless empty.
        every: epochs between lines; the last epoch is always written.
        stream: where to; None for standard error.

    Raises:
        ValueError: ``every`` is not at least 1.
    """

    def __init__(
        self, metrics: tuple[str, ...] = DEFAULT_METRICS, *, every: int = 1, stream: TextIO | None = None
    ) -> None:
        if every < 1:
            raise ValueError(message("every", every, "at least 1"))
        self.metrics, self.every, self.stream = tuple(metrics), every, stream

    def on_epoch_end(self, state: TrainingState) -> None:
        """Write the line."""
        if state.epoch % self.every == 0 or state.epoch == state.n_epochs:
            line = f"{type(state.model).__name__} epoch {state.epoch}/{state.n_epochs}  {state.elapsed:.1f} s"
            print(f"{line}  {_summary(state)}".rstrip(), file=self.stream or sys.stderr, flush=True)


class ProgressBar(Callback):
    """A tqdm bar over epochs with loss, metrics and speed; silent where standard error is not a terminal."""

    _bar: Any = None

    def on_fit_begin(self, state: TrainingState) -> None:
        """Open the bar."""
        from tqdm.auto import tqdm

        name = type(state.model).__name__
        self._bar = tqdm(total=state.n_epochs, initial=state.epoch, desc=name, unit="epoch", disable=None)

    def on_epoch_end(self, state: TrainingState) -> None:
        """Advance the bar."""
        self._bar.set_postfix_str(_summary(state), refresh=False)
        self._bar.update(1)

    def on_fit_end(self, state: TrainingState) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
