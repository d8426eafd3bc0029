"""Random changes of training sequences, a new one each epoch (crop, reorder and mask: CL4SRec, Xie et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.epoch_random import EpochRandom, below, to_range
from recsys_fast.data.sequences import spread
from recsys_fast.errors import message

_CHOICE, _CROP, _REORDER_PART, _REORDER, _DROPOUT, MASK = 1, 2, 3, 4, 5, 6  # purposes of random words


@dataclass(frozen=True)
class Augmentation:
    """How training sequences are changed, in this order; all 0 leaves them as they are.

    Attributes:
        crop: share of events that is cut away: what stays is a random contiguous part of ``ceil((1 - crop) n)`` events
            of n, two at least.
        reorder: share of events that is shuffled: a random contiguous part of ``floor(reorder n)``.
        item_dropout: probability with which an event is left out. The last one stays, and a sequence of which
            nothing else would be left stays whole.
        item_mask: probability with which an input item is replaced by the mask, ``n_items``; targets stay.
        probability: with which a sequence is cropped and reordered at all in an epoch.
    """

    crop: float = 0.0
    reorder: float = 0.0
    item_dropout: float = 0.0
    item_mask: float = 0.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        for name in ("crop", "reorder", "item_dropout", "item_mask", "probability"):
            value, top = getattr(self, name), name in ("reorder", "probability")
            if not isinstance(value, (int, float, np.number)) or isinstance(value, bool) or not 0 <= value <= 1:
                raise ValueError(message(name, value, "a number from 0 to 1"))
            if value == 1 and not top:
                raise ValueError(message(name, value, "below 1"))

    def crop_rows(
        self, begin: NDArray[np.int64], end: NDArray[np.int64], random: EpochRandom
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the events ``begin[k]`` to ``end[k]`` that stay of each sample."""
        if not self.crop:
            return begin, end
        n = end - begin
        kept = np.maximum(np.ceil((1.0 - self.crop) * n - 1e-9).astype(np.int64), np.minimum(n, 2))
        kept = np.where(self._chosen(len(n), random), kept, n)
        begin = begin + to_range(random.words(len(n), _CROP), n - kept + 1)
        return begin, begin + kept

    def change_rows(
        self, row_ptr: NDArray[np.int64], events: NDArray[np.int64], random: EpochRandom
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return row pointers and positions of events after reordering and dropping some."""
        if self.reorder:
            n = np.diff(row_ptr)
            part = np.floor(self.reorder * n + 1e-9).astype(np.int64) * self._chosen(len(n), random)
            first = row_ptr[:-1] + to_range(random.words(len(n), _REORDER_PART), n - part + 1)
            part_ptr, places = spread(first, part)
            shuffled = events.copy()
            shuffled[places] = events[places[random.within(part_ptr, _REORDER)]]
            events = shuffled
        if self.item_dropout:
            stay = random.words(len(events), _DROPOUT) >= below(self.item_dropout)
            lengths = np.diff(row_ptr)
            last = row_ptr[1:][lengths > 0] - 1
            stay[last] = True
            row_ptr_new = _counted(row_ptr, stay)
            whole = np.diff(row_ptr_new) < np.minimum(lengths, 2)
            if whole.any():
                stay |= np.repeat(whole, lengths)
                row_ptr_new = _counted(row_ptr, stay)
            row_ptr, events = row_ptr_new, events[stay]
        return row_ptr, events

    def _chosen(self, n: int, random: EpochRandom) -> NDArray[np.bool_]:
        """Return which samples are cropped and reordered."""
        if self.probability == 1:
            return np.ones(n, bool)
        return random.words(n, _CHOICE) < below(self.probability)

    @property
    def keeps_order(self) -> bool:
        """Whether samples are contiguous parts of the sequences."""
        return not (self.reorder or self.item_dropout)


def _counted(row_ptr: NDArray[np.int64], stay: NDArray[np.bool_]) -> NDArray[np.int64]:
    before = np.zeros(len(stay) + 1, np.int64)
    np.cumsum(stay, out=before[1:])
    return before[row_ptr]


def as_augmentation(value: Any, names: tuple[str, ...] | None = None) -> Augmentation:
    """Return what a dict says; None changes nothing.

    Args:
        value: None or a dict.
        names: of the attributes that it may have; None for all.

    Raises:
        TypeError: no dict.
        ValueError: another name, or a value out of its range.
    """
    if value is None:
        return Augmentation()
    if not isinstance(value, dict):
        raise TypeError(message("augmentation", type(value).__name__, "None or a dict such as {'crop': 0.2}"))
    known = tuple(Augmentation.__dataclass_fields__) if names is None else names
    for name in value:
        if name not in known:
            raise ValueError(message("name in augmentation", repr(name), "one of " + ", ".join(map(repr, known))))
    return Augmentation(**value)
