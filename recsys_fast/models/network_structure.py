"""Which parameters a learned network belongs to, so that none is asked after they have become those of another."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from recsys_fast.errors import message
from recsys_fast.models.parameters import Parameters

# Parameters that say how a network is trained or where, not what it computes. Any other belongs to the learned arrays.
_TRAINING_ONLY = frozenset((
    "augmentation", "attention_dropout", "batch_size", "calibration", "clip_norm", "compute", "device", "dropout",
    "dropout_hidden", "init_scale", "last_probability", "lazy_moments", "learning_rate", "log_q", "loss",
    "mask_probability", "momentum", "n_epochs", "n_negatives", "n_threads", "negative_alpha", "optimizer",
    "random_state", "schedule", "score_regularization", "session_parallel", "shared_negatives", "shuffle", "stride",
    "targets", "truncate", "verify_negatives", "warmup_steps", "weight_decay", "windows",
))  # fmt: skip
_MOMENTS = "moments of the optimizer"
_FROZEN = "frozen layers"


class Structured(Parameters):
    """Remembers the parameters that a network was built by, and refuses others until the next ``fit``."""

    #: names of parameters that may change between ``fit`` and ``partial_fit``
    _training_only: ClassVar[frozenset[str]] = _TRAINING_ONLY

    optimizer: str
    _built: dict[str, Any]

    def _structure(self) -> dict[str, Any]:
        """Return what the learned arrays were made by: a network of other values would read beyond them."""
        kind: Any = type(self)
        values = {name: getattr(self, name) for name in _names(kind)}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}

    def _frozen_layers(self) -> tuple[str, ...]:
        """Return names of layers that do not train for now, but may later; their optimizer's state is dropped."""
        return ()

    def _keep_structure(self) -> None:
        """Remember what the arrays were made by, for ``_check_unchanged``."""
        self._built = {**self._structure(), _MOMENTS: self._moments(), _FROZEN: self._frozen_layers()}

    def _check_unchanged(self, *, onwards: bool = False, as_trained: bool = False) -> None:
        """Raise ValueError where ``set_params`` made the parameters those of another network than the learned one.

        Args:
            onwards: whether the optimizer's state is needed, too.
            as_trained: whether that has to be the state of the same layers.
        """
        present = self._structure()
        present |= {_MOMENTS: self._moments()} if onwards else {}
        present |= {_FROZEN: self._frozen_layers()} if as_trained else {}
        for name, got in present.items():
            if got != self._built[name]:
                what = f"{name} of a fitted {type(self).__name__}"
                mend = f"set it back, or call {'partial_fit' if name == _FROZEN else 'fit'}"
                raise ValueError(message(what, f"{got!r}, changed since fit", repr(self._built[name]), mend))

    def _moments(self) -> tuple[str, ...]:
        """Return the names of what the optimizer keeps of each parameter."""
        own = {"adam": ("m", "v"), "adamw": ("m", "v"), "adagrad": ("v",), "sgd": ()}[self.optimizer]
        return (*(("m",) if getattr(self, "momentum", 0.0) and "m" not in own else ()), *own)


@cache
def _names(kind: Any) -> tuple[str, ...]:
    """Return the names of the constructor's parameters that decide what a network computes."""
    return tuple(name for name in kind._defaults() if name not in kind._training_only)
