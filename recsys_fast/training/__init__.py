"""The one training loop, its callbacks and checkpoints."""

from recsys_fast.training.callbacks import Callback, EarlyStopping, LogEvaluation, ProgressBar, TimeLimit
from recsys_fast.training.checkpoint import Checkpoint
from recsys_fast.training.loop import Trainer, TrainingState, train

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LogEvaluation",
    "ProgressBar",
    "TimeLimit",
    "Trainer",
    "TrainingState",
    "train",
]
