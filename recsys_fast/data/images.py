"""Images and rows of features that go into a network batch by batch, also from a memory-mapped file; augmentation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.epoch_random import EpochRandom
from recsys_fast.errors import message

F32 = NDArray[np.float32]
_BLOCK = 1 << 22  # numbers that are looked at together


class Images(NamedTuple):
    """Images, channels last, as they were given: nothing is copied until a batch is taken.

    Attributes:
        array: ``(n, height, width, channels)``, or ``(n, length, channels)`` for rows of features in order; uint8 (a
            batch gets its numbers over 255, from 0 to 1) or floats.
    """

    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height (1 for rows of features), width and channels."""
        sizes = self.array.shape[1:]
        return sizes if len(sizes) == 3 else (1, *sizes)

    def __len__(self) -> int:
        return len(self.array)

    def take(self, rows: NDArray[np.int64] | slice, out: F32) -> F32:
        """Write images as float32 rows into ``out`` ``(m, height * width * channels)``, and return it."""
        part = np.asarray(self.array[rows])
        to = out.reshape(part.shape)
        if part.dtype == np.uint8:
            np.multiply(part, np.float32(1 / 255), out=to)
        else:
            to[...] = part
        return out


def as_images(X: Any, name: str = "X", shape: tuple[int, int, int] | None = None) -> Images:
    """Return checked images; a memory-mapped array is read through once, block by block.

    Args:
        X: array of ``Images``.
        name: in messages.
        shape: (height, width, channels) that they must have; None for any.

    Raises:
        TypeError: neither uint8 nor real floats.
        ValueError: another shape, no images, or numbers that are not finite.
    """
    array = X if isinstance(X, np.ndarray) else np.asarray(X)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        floats = "convert counts and other numbers with astype(np.float32)"
        raise TypeError(message(f"dtype of {name}", array.dtype, "uint8 (0 to 255) or floats", floats))
    mend = "grey images need an axis of one channel: X[..., None]" if array.ndim == 3 else None
    if array.ndim not in (3, 4) or 0 in array.shape[1:]:
        expected = "(n, height, width, channels) or (n, length, channels)"
        raise ValueError(message(f"shape of {name}", array.shape, expected, mend))
    if not len(array):
        raise ValueError(message(f"{name} has no images"))
    images = Images(array)
    if shape is not None and images.shape != shape:
        raise ValueError(message(f"height, width and channels of {name}", images.shape, f"{shape}, as in fit", mend))
    if array.dtype != np.uint8:
        step = max(1, _BLOCK // int(np.prod(array.shape[1:])))
        for start in range(0, len(array), step):
            with np.errstate(over="ignore"):
                fine = np.isfinite(np.asarray(array[start : start + step]).astype(np.float32))
            if not fine.all():
                at = start + int(np.argmin(fine.reshape(len(fine), -1).all(1)))
                raise ValueError(message(f"{name}[{at}] holds NaN, inf or numbers beyond float32"))
    return images


class Augmentation(NamedTuple):
    """Random changes of a batch of images, a function of (seed, epoch, batch): every backend gets the same.

    Attributes:
        flip: chance that an image is mirrored left to right (that a sequence of rows is turned around).
        crop: an image is moved by up to so many places along its height and width; zeros come in.
        noise: standard deviation of normal noise that is added to every number.
    """

    flip: float = 0.0
    crop: int = 0
    noise: float = 0.0

    def apply(self, rows: F32, shape: tuple[int, int, int], seed: int, epoch: int, batch: int) -> None:
        """Change ``rows`` ``(m, height * width * channels)`` in place."""
        images, random = rows.reshape(-1, *shape), EpochRandom(seed, epoch)
        n, (height, width, _) = len(images), shape
        first = 1000 * (batch + 1)
        if self.flip > 0:
            turned = random.words(n, first) < self.flip * 2.0**32
            images[turned] = images[turned, :, ::-1]
        if self.crop > 0:
            span = 2 * self.crop + 1
            places = []
            for k, size in enumerate((height, width), 1):
                moved = (random.words(n, first + k).astype(np.int64) * span >> 32) - self.crop
                places.append(np.arange(size) + (moved if size > 1 else np.zeros_like(moved))[:, None])
            inside = [(p >= 0) & (p < size) for p, size in zip(places, (height, width), strict=True)]
            down, right = (np.clip(p, 0, s - 1) for p, s in zip(places, (height, width), strict=True))
            cut = images[np.arange(n)[:, None, None], down[:, :, None], right[:, None, :]]
            images[...] = cut * (inside[0][:, :, None] & inside[1][:, None, :])[..., None]
        if self.noise > 0:
            half = (rows.size + 1) // 2
            words = random.words(2 * half, first + 3).reshape(2, half)  # Box & Muller 1958
            length = np.sqrt(-2.0 * np.log((words[0] + 1.0) * 2.0**-32)) * self.noise
            angle = words[1] * (2.0 * np.pi * 2.0**-32)
            normal = np.concatenate([length * np.cos(angle), length * np.sin(angle)])[: rows.size]
            rows += normal.reshape(rows.shape).astype(np.float32)


def as_augmentation(value: Any) -> Augmentation | None:
    """Return what a dict of flip, crop and noise says; None for None.

    Raises:
        TypeError: no dict, or a value of the wrong kind.
        ValueError: an unknown key, or a value out of its range.
    """
    from recsys_fast.ops.arguments import as_integer, as_number

    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError(message("augmentation", type(value).__name__, 'a dict such as {"flip": 0.5, "crop": 2}'))
    for key in value:
        if key not in Augmentation._fields:
            raise ValueError(message("augmentation", repr(key), "keys " + ", ".join(Augmentation._fields)))
    flip, noise = as_number(value.get("flip", 0.0), "flip"), as_number(value.get("noise", 0.0), "noise")
    crop = as_integer(value.get("crop", 0), "crop")
    if flip > 1 or not 0 <= crop < 1 << 16:
        raise ValueError(message("flip and crop", (flip, crop), "a chance from 0 to 1, and 0 or more places"))
    return Augmentation(flip, crop, noise)


def class_order(classes: NDArray[np.int32], how: str | None, random: EpochRandom) -> NDArray[np.int64]:
    """Return the rows of an epoch in random order.

    Args:
        classes: ``(n,)`` of the rows, each class at least once.
        how: None: every row once. "under": of every class as many as the rarest has. "over": as many as the most
            frequent has; every row of a class is used equally often, up to one.
        random: of the epoch.
    """
    order = random.order(len(classes))
    if how is None:
        return order
    counts = np.bincount(classes)
    size = int(counts.max() if how == "over" else counts[counts > 0].min())
    grouped = order[np.argsort(classes[order], kind="stable")]
    starts = np.cumsum(counts) - counts
    place = np.arange(size)
    chosen = np.concatenate([grouped[s + place % c] for s, c in zip(starts, counts, strict=True) if c])
    return chosen[random.order(len(chosen), 1)]
