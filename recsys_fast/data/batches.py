"""Training batches of sequence models: an epoch is packed at once, and batches are slices of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.augmentation import MASK, Augmentation
from recsys_fast.data.epoch_random import EpochRandom, below, to_range
from recsys_fast.data.samples import WINDOWS, Samples, cut
from recsys_fast.data.sequences import Sequences, spread
from recsys_fast.data.session_batches import SessionBatch, SessionBatches, session_parallel
from recsys_fast.data.window_batches import WindowBatch, WindowBatches
from recsys_fast.errors import message

__all__ = [
    "TASKS",
    "Augmentation",
    "SequenceBatch",
    "SequenceBatches",
    "SessionBatch",
    "SessionBatches",
    "WindowBatch",
    "WindowBatches",
    "packed_histories",
    "session_parallel",
]

TASKS = ("next", "last", "cloze")
_CLOZE, _ONLY_LAST, _ONE = 8, 9, 10  # purposes of random words; 0 is the order, 1 to 6 are augmentation's


class SequenceBatch(NamedTuple):
    """Ragged sequences of one training step, packed.

    Attributes:
        items: ``(T,) int32`` inputs; ``n_items`` is the mask.
        targets: ``(T,) int32`` what to predict at each place, -1 for nothing.
        row_ptr: ``(n + 1,) int64``; sequence s has rows ``row_ptr[s]`` to ``row_ptr[s + 1]``, none is empty.
        users: ``(n,) int32`` row of the ``Sequences`` that each sequence is a part of.
    """

    items: NDArray[np.int32]
    targets: NDArray[np.int32]
    row_ptr: NDArray[np.int64]
    users: NDArray[np.int32]

    @property
    def n_targets(self) -> int:
        """Number of places with something to predict."""
        return int((self.targets >= 0).sum())


class SequenceBatches:
    """Batches of ragged sequences for a task, epoch after epoch.

    Samples are put in random order, which is cut so that all batches have about equally many rows. ``epoch(k)`` is a
    function of (arguments, k) alone. Sequences of less than two events give no sample (``n_short`` counts them).

    Args:
        sequences: what to train on.
        task: "next": inputs ``s[:-1]``, targets ``s[1:]`` (SASRec, GRU4Rec). "last": the same with a target at the last
            place only. "cloze": inputs and targets are places of s; a share of the inputs is masked (BERT4Rec).
        max_len: rows of a sequence at most; of longer ones the most recent events count.
        batch_size: mean number of sequences in a batch.
        batch_tokens: instead of ``batch_size``: mean number of rows in a batch.
        windows: "last": one sample per sequence, its most recent part. "sliding": longer sequences give several, cut
            from the end on. "prefixes": every prefix of two events or more (its most recent part) is a sample.
        stride: events from one sliding window to the next, 1 to ``max_len``; None for ``max_len``, with which every
            transition is in exactly one window. For "cloze" every event is, but where a single one is left over at the
            front: its window goes on over the events after it.
        augmentation: random changes, None for none.
        mask_probability: "cloze" only: probability with which a place is masked; at least one place of a sequence is.
        last_probability: "cloze" only: probability with which only the last place of a sequence is masked, as when
            the model is used (BERT4Rec trains a share of the sequences so).
        seed: 0 to 2^64 - 1.
        device, n_threads: where random words are drawn; the result depends on neither.

    Attributes:
        n_batches: of an epoch, always the same.
        n_samples: sequences in an epoch.
        n_rows: rows of an epoch before augmentation.
        n_short: sequences that are too short to learn from.

    Raises:
        TypeError: not ``Sequences``.
        ValueError: an unknown task or kind of windows, a size below 1, a probability outside of 0 to 1.
    """

    def __init__(
        self,
        sequences: Sequences,
        task: str = "next",
        *,
        max_len: int = 50,
        batch_size: int = 128,
        batch_tokens: int | None = None,
        windows: str = "last",
        stride: int | None = None,
        augmentation: Augmentation | None = None,
        mask_probability: float = 0.2,
        last_probability: float = 0.0,
        seed: int = 0,
        device: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        if not isinstance(sequences, Sequences):
            raise TypeError(message("sequences", type(sequences).__name__, "Sequences"))
        for name, value, choices in (("task", task, TASKS), ("windows", windows, WINDOWS)):
            if value not in choices:
                raise ValueError(message(name, repr(value), "one of " + ", ".join(choices)))
        for name, size in (("max_len", max_len), ("batch_size", batch_size), ("batch_tokens", batch_tokens)):
            if size is not None and (isinstance(size, bool) or not hasattr(size, "__index__") or size < 1):
                raise ValueError(message(name, size, "an int of 1 or more"))
        for name, share in (("mask_probability", mask_probability), ("last_probability", last_probability)):
            if not 0 <= share <= 1:
                raise ValueError(message(name, share, "a number from 0 to 1"))
        if task == "cloze" and windows == "prefixes":
            raise ValueError(message('windows of task "cloze"', '"prefixes"', '"last" or "sliding"'))
        self.sequences, self.task, self.seed = sequences, task, seed
        self.augmentation = augmentation or Augmentation()
        self.mask_probability, self.last_probability = mask_probability, last_probability
        self._shift = int(task != "cloze")  # rows are one fewer than events where targets are the next ones
        self._samples: Samples = cut(sequences, max_len + self._shift, windows, stride, max_len)
        self._how: dict[str, Any] = {"device": device, "n_threads": n_threads}
        self.n_samples = len(self._samples.users)
        self.n_rows = int((self._samples.end - self._samples.begin - self._shift).sum())
        self.n_short = int((sequences.lengths < 2).sum())
        wanted = -(-self.n_samples // batch_size) if batch_tokens is None else -(-self.n_rows // batch_tokens)
        self.n_batches = min(wanted, self.n_samples)

    @property
    def mask_id(self) -> int:
        """The item that stands for "masked"."""
        return self.sequences.n_items

    def epoch(self, k: int) -> Iterator[SequenceBatch]:
        """Yield the batches of epoch k (0, 1, ...)."""
        if not self.n_samples:
            return
        whole = self.packed(k)
        cuts = _balanced(whole.row_ptr, self.n_batches).tolist()
        bounds = whole.row_ptr[cuts].tolist()
        for b in range(self.n_batches):
            rows, begin = slice(bounds[b], bounds[b + 1]), cuts[b]
            row_ptr = whole.row_ptr[begin : cuts[b + 1] + 1] - bounds[b]
            yield SequenceBatch(whole.items[rows], whole.targets[rows], row_ptr, whole.users[begin : cuts[b + 1]])

    def packed(self, k: int) -> SequenceBatch:
        """Return all samples of epoch k in their order, as one batch."""
        random = EpochRandom(self.seed, k, **self._how)
        order = random.order(self.n_samples)
        begin, end = self._samples.begin[order], self._samples.end[order]
        users = self._samples.users[order]
        begin, end = self.augmentation.crop_rows(begin, end, random)
        all_items = self.sequences.items
        if self.augmentation.keeps_order:
            row_ptr, events = spread(begin, end - begin - self._shift)
            items, targets = all_items[events], all_items[events + self._shift]
        else:
            row_ptr, events = self.augmentation.change_rows(*spread(begin, end - begin), random)
            items = targets = all_items[events]
            if self._shift:
                first, last = np.ones(len(items), bool), np.ones(len(items), bool)
                first[row_ptr[:-1]] = False
                last[row_ptr[1:] - 1] = False
                items, targets = items[last], items[first]
                row_ptr = row_ptr - np.arange(len(row_ptr))
        if self.task == "cloze":
            targets = self._mask(items, row_ptr, random)
        elif self.task == "last":
            targets, all_targets = np.full(len(items), -1, np.int32), targets
            targets[row_ptr[1:] - 1] = all_targets[row_ptr[1:] - 1]
        if self.augmentation.item_mask:
            items[random.words(len(items), MASK) < below(self.augmentation.item_mask)] = self.mask_id
        return SequenceBatch(items, targets, row_ptr, users)

    def _mask(self, items: NDArray[np.int32], row_ptr: NDArray[np.int64], random: EpochRandom) -> NDArray[np.int32]:
        """Return the targets of the cloze task, and mask their inputs."""
        n = len(row_ptr) - 1
        masked = random.words(len(items), _CLOZE) < below(self.mask_probability)
        if self.last_probability:
            only_last = random.words(n, _ONLY_LAST) < below(self.last_probability)
            masked &= ~np.repeat(only_last, np.diff(row_ptr))
            masked[row_ptr[1:][only_last] - 1] = True
        none = ~np.logical_or.reduceat(masked, row_ptr[:-1])
        masked[(row_ptr[:-1] + to_range(random.words(n, _ONE), np.diff(row_ptr)))[none]] = True
        targets = np.full(len(items), -1, np.int32)
        targets[masked] = items[masked]
        items[masked] = self.mask_id
        return targets


def _balanced(row_ptr: NDArray[np.int64], n_batches: int) -> NDArray[np.int64]:
    """Return where to cut sequences into batches of about equally many rows, none empty, ``(n_batches + 1,)``."""
    n, steps = len(row_ptr) - 1, np.arange(n_batches + 1)
    cuts = np.searchsorted(row_ptr, steps * int(row_ptr[-1]) // max(n_batches, 1))
    cuts[0], cuts[-1] = 0, n
    cuts = np.maximum.accumulate(cuts - steps) + steps  # at least one sequence each, from the front ...
    return np.asarray(np.minimum(cuts, n - n_batches + steps))  # ... and from the back


def packed_histories(
    sequences: Sequences, max_len: int, batch_rows: int = 8192
) -> Iterator[tuple[slice, NDArray[np.int32], NDArray[np.int64]]]:
    """Yield the most recent ``max_len`` events of all rows in order, some rows at a time: what an encoder runs over.

    Args:
        sequences: histories, empty ones too.
        max_len: events of each at most.
        batch_rows: events at a time, about.

    Yields:
        The rows, their items ``(T,) int32``, and row pointers ``(n + 1,) int64``.
    """
    recent = sequences.last(max_len)
    begin = 0
    while begin < recent.n_users:
        end = int(np.searchsorted(recent.row_ptr, recent.row_ptr[begin] + batch_rows, side="right")) - 1
        end = min(max(end, begin + 1), begin + batch_rows, recent.n_users)
        row_ptr = recent.row_ptr[begin : end + 1]
        yield slice(begin, end), recent.items[row_ptr[0] : row_ptr[-1]], row_ptr - row_ptr[0]
        begin = end
