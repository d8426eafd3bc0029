"""Which parts of which sequences are training samples: their most recent part, sliding windows, all prefixes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.sequences import Sequences, spread
from recsys_fast.errors import message

WINDOWS = ("last", "sliding", "prefixes")


class Samples(NamedTuple):
    """Parts of sequences.

    Attributes:
        begin, end: ``(n,) int64``; sample k holds the events ``begin[k]`` to ``end[k]`` of all events.
        users: ``(n,) int32`` row that each sample is a part of.
    """

    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    users: NDArray[np.int32]


def cut(sequences: Sequences, width: int, windows: str, stride: int | None, max_len: int) -> Samples:
    """Return the samples of sequences of two events or more.

    Args:
        sequences: whose parts they are.
        width: events of a sample at most.
        windows: one of ``WINDOWS``.
        stride: between sliding windows; None for ``max_len``.
        max_len: the largest stride, so that no transition is left out.
    """
    users = np.flatnonzero(sequences.lengths >= 2)
    first, last = sequences.row_ptr[users], sequences.row_ptr[users + 1]
    if windows == "last":
        return Samples(np.maximum(first, last - width), last, users.astype(np.int32))
    if windows == "prefixes":
        row_ptr, end = spread(first + 2, last - first - 1)
        n = np.diff(row_ptr)
        return Samples(np.maximum(np.repeat(first, n), end - width), end, np.repeat(users, n).astype(np.int32))
    step = max_len if stride is None else stride
    if isinstance(step, bool) or not hasattr(step, "__index__") or not 1 <= step <= max_len:
        raise ValueError(message("stride", stride, f"1 to max_len = {max_len}, or None"))
    n = 1 + np.maximum(0, -(-(last - first - width) // step))
    row_ptr, number = spread(np.zeros(len(n), np.int64), n)
    end = np.repeat(last, n) - number * step
    begin = np.maximum(np.repeat(first, n), end - width)
    # Where windows do not overlap (the cloze task), one event may be left over: what comes after it is its context.
    end = np.where(end - begin < 2, np.minimum(begin + width, np.repeat(last, n)), end)
    return Samples(begin, end, np.repeat(users, n).astype(np.int32))
