"""Checkpoints: the model file, written every so often, from which training resumes bit for bit."""

from __future__ import annotations

import os
import time
from typing import Any

from recsys_fast.errors import message
from recsys_fast.training.callbacks import Callback
from recsys_fast.training.loop import TrainingState


class Checkpoint(Callback):
    """Saves the model during training; each save replaces the last one atomically.

    The file is an ordinary model file: ``load`` gives the model of that epoch, ``resume`` continues training and ends
    with the same bits as a run that was never interrupted. The last epoch of a run that ends is always saved.

    Args:
        path: the file; or a folder, written with a separator at its end or there already, which then gets
            ``<model>.safetensors``, such as ``run/sasrec.safetensors``. A folder that is missing is made.
        every: epochs between saves; None with ``minutes``.
        minutes: minutes between saves.

    Raises:
        ValueError: ``every`` and ``minutes`` are given, or one is not positive.
    """

    def __init__(self, path: str | os.PathLike[str], every: int | None = None, *, minutes: float | None = None) -> None:
        if every is None and minutes is None:
            every = 1
        if every is not None and minutes is not None:
            raise ValueError(message("Checkpoint", "every and minutes", "one of them"))
        if (every is not None and every < 1) or (minutes is not None and not minutes > 0):
            raise ValueError(message("every or minutes", every if minutes is None else minutes, "a positive number"))
        self.path, self.every, self.minutes = os.fspath(path), every, minutes
        self._saved_at, self._saved_epoch = time.monotonic(), 0

    def on_fit_begin(self, state: TrainingState) -> None:
        """Start the clock, and make the folder."""
        if self._folder():
            os.makedirs(self.path, exist_ok=True)
        self._saved_at, self._saved_epoch = time.monotonic(), state.epoch

    def on_epoch_end(self, state: TrainingState) -> None:
        """Save where it is time."""
        if self.minutes is not None:
            due = time.monotonic() - self._saved_at >= 60 * self.minutes
        else:
            due = state.epoch % (self.every or 1) == 0
        if due:
            self._save(state)

    def on_fit_end(self, state: TrainingState) -> None:
        """Save the last epoch; after an interruption the file stays as it was, at a whole epoch."""
        if state.finished and state.epoch != self._saved_epoch:
            self._save(state)

    def _folder(self) -> bool:
        ends = self.path.endswith(tuple(filter(None, (os.sep, os.altsep))))
        return ends or os.path.isdir(self.path)

    def file(self, model: Any) -> str:
        """Return the file that a model is saved to."""
        name = type(model).__name__.lower()
        return os.path.join(self.path, f"{name}.safetensors") if self._folder() else self.path

    def _save(self, state: TrainingState) -> None:
        state.model.save(self.file(state.model))
        self._saved_at, self._saved_epoch = time.monotonic(), state.epoch
