"""How many rows the training of a sequence model goes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_fast.data import Sequences

if TYPE_CHECKING:
    from recsys_fast.models.sequence_training import SequenceTrainable


def sample_rows(model: SequenceTrainable, data: Sequences) -> tuple[int, int]:
    """Return how many rows an epoch has, and in how many samples, for models with ``windows`` and without."""
    rows, longest = np.maximum(data.lengths - 1, 0), model.max_len
    short, beyond = np.minimum(rows, longest), np.maximum(rows - longest, 0)
    windows, samples = getattr(model, "windows", "last"), int(np.count_nonzero(rows))
    if windows == "prefixes":
        short, samples = short * (short + 1) // 2 + beyond * longest, int(rows.sum())
    elif windows == "sliding":
        more = -(-beyond // (getattr(model, "stride", None) or longest))
        short, samples = short + more * longest, samples + int(more.sum())
    return int(short.sum()), samples
