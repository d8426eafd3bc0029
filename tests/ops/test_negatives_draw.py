"""Draws without verification follow their distribution, and any piece of their stream can be drawn apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast import ops


def word(seed: int, epoch: int, sample: int, k: int) -> int:
    return int(ops.philox_draw(1, seed=seed, epoch=epoch, first_sample=sample, k=k)[0])


@pytest.mark.parametrize("n_items", [1, 7, 12_101, 2**31 - 1])
def test_uniform_draws_are_the_reference(n_items: int, device: str) -> None:
    drawn = ops.negatives_draw(50, n_items, seed=2**63 + 1, epoch=3, first=6, device=device)
    expected = [word(2**63 + 1, 3, at // 4, 2**32 - 4 + at % 4) * n_items >> 32 for at in range(6, 56)]
    assert drawn.tolist() == expected
    assert drawn.dtype == np.int32


@pytest.mark.parametrize("n_items", [1, 2, 3, 17, 40, 1000])
def test_weighted_draws_are_the_reference(n_items: int, device: str) -> None:
    weights = np.random.default_rng(n_items).random(n_items) * (np.arange(n_items) % 3 != 1) + (n_items == 1)
    cdf = np.cumsum(weights / weights.max())
    drawn = ops.negatives_draw(300, n_items, weights=weights, seed=4, epoch=9, first=1, device=device)
    for at, item in enumerate(drawn.tolist(), 1):
        k = 2**32 - 4 + 2 * (at % 2)
        bits = word(4, 9, at // 2, k) << 32 | word(4, 9, at // 2, k + 1)
        assert item == int(np.searchsorted(cdf, (bits >> 11) * 2.0**-53 * cdf[-1], side="right"))
        assert weights[item] > 0


@pytest.mark.parametrize("weighted", [False, True])
def test_pieces_are_those_of_the_whole(weighted: bool, device: str) -> None:
    weights = np.arange(100.0) ** 2 if weighted else None
    whole = ops.negatives_draw(5000, 100, weights=weights, seed=1, device=device, n_threads=1)
    for n_threads in (2, 3, 7):
        assert np.array_equal(whole, ops.negatives_draw(5000, 100, weights=weights, seed=1, device=device,
                                                        n_threads=n_threads))  # fmt: skip
    for first, n in ((0, 1), (1, 7), (3, 60), (1023, 1026), (4999, 1), (77, 0)):
        out = np.empty(n, np.int32)
        piece = ops.negatives_draw(n, 100, weights=weights, seed=1, first=first, out=out, device=device)
        assert piece is out
        assert np.array_equal(piece, whole[first : first + n])
    assert not np.array_equal(whole, ops.negatives_draw(5000, 100, weights=weights, seed=1, epoch=1, device=device))


@pytest.mark.parametrize("weighted", [False, True])
def test_draws_follow_the_distribution(weighted: bool, device: str) -> None:
    n, n_items = 200_000, 50
    weights = np.arange(n_items) ** 1.5 if weighted else np.ones(n_items)
    drawn = ops.negatives_draw(n, n_items, weights=weights if weighted else None, seed=3, device=device)
    expected = weights / weights.sum() * n
    counts = np.bincount(drawn, minlength=n_items)
    some = expected > 0
    assert counts[~some].sum() == 0
    assert ((counts - expected)[some] ** 2 / expected[some]).sum() < 100  # 49 on average, 80 once in 300


def test_draws_refuse(device: str) -> None:
    bad: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"n": -1}, ValueError, "n: got -1"),
        ({"n_items": 0}, ValueError, "n_items"),
        ({"weights": [1.0, -1.0]}, ValueError, r"weights\[1\]"),
        ({"weights": [0.0, 0.0]}, ValueError, "only zeros"),
        ({"weights": [1.0]}, ValueError, "shape of weights"),
        ({"out": np.empty(3, np.int64)}, TypeError, "int32"),
        ({"out": np.empty(2, np.int32)}, ValueError, "out"),
        ({"out": [0, 0, 0]}, TypeError, "list"),
        ({"first": 2**62}, ValueError, "first"),
    ]
    for changed, error, text in bad:
        with pytest.raises(error, match=text):
            ops.negatives_draw(**({"n": 3, "n_items": 2} | changed), device=device)
