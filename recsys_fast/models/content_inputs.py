"""What goes into a network of content, batch by batch: images, rows of numbers in order, or texts as rows of ids."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array
from recsys_fast.data import augmentation
from recsys_fast.data.epoch_random import EpochRandom
from recsys_fast.data.images import Augmentation, Images
from recsys_fast.data.sequences import spread
from recsys_fast.data.text_encoder import TokenRows

I64 = NDArray[np.int64]

_GOLDEN = 0x9E3779B97F4A7C15  # an odd number near 2**64 / golden ratio: seeds of batches lie far apart


class ContentKind(NamedTuple):
    """What all rows of one input have in common, and an encoder is built by.

    Attributes:
        shape: (height, width, channels) of images, (length, channels) of rows of numbers, (number of tokens,) of texts.
        vocabulary: fingerprint of the encoder of texts; empty where there is none, or where nobody knows it.
    """

    shape: tuple[int, ...]
    vocabulary: str = ""


class Taken(NamedTuple):
    """Rows of content as the first block eats them.

    Attributes:
        items: images ``(m, numbers of an image) float32``, rows of numbers ``(n_rows, channels) float32``, or ids
            ``(n_ids,) int32``.
        row_ptr: where each row of content begins in ``items``, ``(m + 1,)``; of images, of which each is one row,
            ``[0, m]``.
    """

    items: Array
    row_ptr: I64


class ContentInput(Protocol):
    """Checked rows of content."""

    kind: ContentKind

    def __len__(self) -> int:
        """Return the number of rows."""

    def take(self, rows: I64 | slice) -> Taken:
        """Return the rows of these numbers, in that order; the next call may overwrite them."""

    def augment(self, taken: Taken, how: Any, seed: int, epoch: int, batch: int) -> Taken:
        """Return what ``take`` gave, changed at random: a function of (seed, epoch, batch) alone."""

    def packed_size(self, n: int) -> tuple[int, int]:
        """Return how many rows of ``items`` the n longest rows of content have at most, and how wide they are."""


class ImageInput:
    """Images, each a row of ``height * width * channels`` numbers."""

    def __init__(self, images: Images) -> None:
        self.images, self.kind = images, ContentKind(images.shape)
        self._buffer = np.empty((0, int(np.prod(images.shape))), np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def _flat(self, rows: I64 | slice) -> Array:
        n = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        if len(self._buffer) < n:
            self._buffer = np.empty((n, self._buffer.shape[1]), np.float32)
        return self.images.take(rows, self._buffer[:n])

    def take(self, rows: I64 | slice) -> Taken:
        """Return float32 copies, from 0 to 1 where bytes were given."""
        x = self._flat(rows)
        return Taken(x, np.array([0, len(x)]))

    def augment(self, taken: Taken, how: Augmentation, seed: int, epoch: int, batch: int) -> Taken:
        """Flip, move and blur in place."""
        how.apply(taken.items.reshape(-1, self._buffer.shape[1]), self.images.shape, seed, epoch, batch)
        return taken

    def packed_size(self, n: int) -> tuple[int, int]:
        """Return n and the numbers of an image."""
        return min(n, len(self)), self._buffer.shape[1]


class SeriesInput(ImageInput):
    """Rows of numbers in order, ``(n, length, channels)``; each place of each is a row of ``items``."""

    def __init__(self, images: Images) -> None:
        super().__init__(images)
        self.kind = ContentKind(images.shape[1:])

    def take(self, rows: I64 | slice) -> Taken:
        """Return float32 copies, one place behind the other."""
        x, (length, channels) = self._flat(rows), self.kind.shape
        return Taken(x.reshape(-1, channels), length * np.arange(len(x) + 1))

    def packed_size(self, n: int) -> tuple[int, int]:
        """Return n times the length, and the channels."""
        length, channels = self.kind.shape
        return length * min(n, len(self)), channels


class TokenInput:
    """Texts as ragged rows of ids.

    Args:
        rows: checked.
        max_len: only the first so many ids of a text count; None for all.
    """

    def __init__(self, rows: TokenRows, max_len: int | None = None) -> None:
        self.kind, self.names = ContentKind((rows.n_tokens,), rows.fingerprint), rows.names
        self._begin, self._lengths, self._ids = rows.row_ptr[:-1], np.diff(rows.row_ptr), rows.ids
        if max_len is not None:
            self._lengths = np.minimum(self._lengths, max_len)

    def __len__(self) -> int:
        return len(self._begin)

    def take(self, rows: I64 | slice) -> Taken:
        """Return the ids, one text behind the other."""
        row_ptr, places = spread(self._begin[rows], self._lengths[rows])
        return Taken(self._ids[places], row_ptr)

    def augment(self, taken: Taken, how: augmentation.Augmentation, seed: int, epoch: int, batch: int) -> Taken:
        """Crop, reorder and leave out."""
        random = EpochRandom((seed + _GOLDEN * (batch + 1)) % 2**64, epoch)
        begin, end = how.crop_rows(taken.row_ptr[:-1], taken.row_ptr[1:], random)
        row_ptr, places = how.change_rows(*spread(begin, end - begin), random)
        return Taken(taken.items[places], row_ptr)

    def packed_size(self, n: int) -> tuple[int, int]:
        """Return the number of ids in the n longest texts, and 1."""
        return int(np.sort(self._lengths)[::-1][:n].sum()), 1
