"""Images batch by batch, their augmentation, and sampling by classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_fast.data.epoch_random import EpochRandom
from recsys_fast.data.images import Augmentation, as_augmentation, as_images, class_order


def test_bytes_become_numbers_from_0_to_1(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 2)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    for given in (x, np.load(tmp_path / "x.npy", mmap_mode="r"), x[::-1][::-1]):
        out = as_images(given).take(np.array([3, 0]), np.empty((2, 24), np.float32))
        assert np.allclose(out, x[[3, 0]].reshape(2, 24) / 255)
    rows = as_images(np.ones((2, 7, 3)))
    assert rows.shape == (1, 7, 3)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (np.ones((2, 5, 5, 3), np.int64), TypeError, "dtype of X: got int64, expected uint8"),
        (np.ones((2, 5, 5, 3), complex), TypeError, "dtype of X"),
        (np.ones((5, 5)), ValueError, r"shape of X: got \(5, 5\)"),
        (np.ones((2, 0, 5, 3)), ValueError, "shape of X"),
        (np.ones((0, 5, 5, 3)), ValueError, "X has no images"),
        (np.ones((2, 5, 4, 3)), ValueError, r"height, width and channels of X: got \(5, 4, 3\), expected \(5, 5, 3\)"),
        (np.ones((2, 5, 5)), ValueError, r"one channel: X\[..., None\]"),
        (np.full((2, 5, 5, 3), np.nan), ValueError, r"X\[0\] holds NaN"),
        (np.full((2, 5, 5, 3), 1e300), ValueError, "beyond float32"),
    ],
)
def test_refuses(given: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        as_images(given, "X", (5, 5, 3))


def test_augmentation_does_what_it_says() -> None:
    x = np.arange(40 * 5 * 6 * 2, dtype=np.float32).reshape(40, -1)
    whole = x.reshape(40, 5, 6, 2)

    def changed(**how: Any) -> Any:
        rows = x.copy()
        Augmentation(**how).apply(rows, (5, 6, 2), 7, 1, 0)
        again = x.copy()
        Augmentation(**how).apply(again, (5, 6, 2), 7, 1, 0)
        assert np.array_equal(rows, again), "a function of seed, epoch and batch"
        other = x.copy()
        Augmentation(**how).apply(other, (5, 6, 2), 7, 1, 1)
        assert not np.array_equal(rows, other)
        return rows.reshape(whole.shape)

    flipped = changed(flip=0.5)
    turned = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, whole, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(flipped, whole, strict=True)]
    assert 8 < sum(turned) < 32
    assert sum(turned) + sum(same) == 40
    moves = set()
    around = np.pad(whole, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for image, one in zip(changed(crop=2), around, strict=True):
        found = [(i, j) for i in range(5) for j in range(5) if np.array_equal(image, one[i : i + 5, j : j + 6])]
        assert len(found) == 1
        moves |= set(found)
    assert len(moves) > 10
    noise = changed(noise=0.5) - whole
    assert abs(noise.std() - 0.5) < 0.05
    assert abs(noise.mean()) < 0.05
    assert as_augmentation({"flip": 0.5}) == Augmentation(0.5, 0, 0.0)
    for bad, error in (
        ({"turn": 1}, ValueError),
        ({"flip": 2}, ValueError),
        ({"crop": -1}, ValueError),
        (3, TypeError),
    ):
        with pytest.raises(error):
            as_augmentation(bad)


def test_classes_are_drawn_alike() -> None:
    classes = np.repeat(np.arange(3, dtype=np.int32), (10, 3, 6))
    over, under = (class_order(classes, how, EpochRandom(1, 0)) for how in ("over", "under"))
    assert np.bincount(classes[over]).tolist() == [10, 10, 10]
    assert np.bincount(over, minlength=19)[10:13].min() >= 3, "every row as often as the others of its class, up to one"
    assert np.bincount(classes[under]).tolist() == [3, 3, 3]
    assert len(set(under.tolist())) == 9
    assert sorted(class_order(classes, None, EpochRandom(1, 0)).tolist()) == list(range(19))
    assert not np.array_equal(over, class_order(classes, "over", EpochRandom(1, 1)))
