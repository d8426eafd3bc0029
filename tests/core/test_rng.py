"""Philox4x32-10 against the published vectors and a reference in plain integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_fast import ops

# Counter, key and output of the authors' own test vectors (Random123, kat_vectors, philox4x32 10).
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def reference_philox(counter: list[int], key: list[int]) -> list[int]:
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def reference_draw(seed: int, epoch: int, sample: int, k: int) -> int:
    counter = [sample % 2**32, sample >> 32, epoch, k // 4]
    return reference_philox(counter, [seed % 2**32, seed >> 32])[k % 4]


@pytest.mark.parametrize(("counter", "key", "out"), VECTORS)
def test_published_vectors(counter: str, key: str, out: str) -> None:
    from recsys_fast._numba.rng import philox4x32

    assert reference_philox(words(counter), words(key)) == words(out)
    arguments = [np.uint64(word) for word in words(counter) + words(key)]
    assert [int(word) for word in philox4x32(*arguments)] == words(out)


@pytest.mark.parametrize("vector", [0, 2])  # the other one's last counter word is beyond k / 4
def test_draws_are_the_published_vectors(vector: int, device: str) -> None:
    counter, key, out = (words(text) for text in VECTORS[vector])
    drawn = [
        ops.philox_draw(
            1,
            seed=key[0] | key[1] << 32,
            epoch=counter[2],
            first_sample=counter[0] | counter[1] << 32,
            k=4 * counter[3] + word,
            device=device,
        )[0]
        for word in range(4)
    ]
    assert drawn == out


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1), sample=st.integers(0, 2**64 - 1),
       k=st.integers(0, 2**32 - 1))  # fmt: skip
def test_draws_are_the_reference(seed: int, epoch: int, sample: int, k: int, device: str) -> None:
    drawn = ops.philox_draw(3, seed=seed, epoch=epoch, first_sample=sample, k=k, device=device)
    assert drawn.dtype == np.uint32
    assert drawn.tolist() == [reference_draw(seed, epoch, (sample + i) % 2**64, k) for i in range(3)]


def test_draws_know_no_threads(device: str) -> None:
    one = ops.philox_draw(200_000, seed=7, k=2, device=device, n_threads=1)
    np.testing.assert_array_equal(one, ops.philox_draw(200_000, seed=7, k=2, device=device, n_threads=5))
    np.testing.assert_array_equal(one[150_000:], ops.philox_draw(50_000, seed=7, k=2, first_sample=150_000))
    assert abs(one.mean() / 2**32 - 0.5) < 0.003
    assert len(ops.philox_draw(0, device=device)) == 0


@pytest.mark.parametrize("name", ["seed", "epoch", "first_sample", "k"])
def test_counters_out_of_range_are_refused(name: str) -> None:
    bits = 64 if name in ("seed", "first_sample") else 32
    for wrong in (-1, 2**bits):
        with pytest.raises(ValueError, match=rf"{name}: got {wrong}, expected 0 to 2\*\*{bits} - 1"):
            ops.philox_draw(1, **{name: wrong})
    for kind in (1.0, None, True):
        with pytest.raises(TypeError, match=f"{name}: got .*, expected an int"):
            ops.philox_draw(1, **{name: kind})


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1), sample=st.integers(0, 2**63 - 1),
       first=st.integers(0, 2**32 - 200), n=st.integers(0, 200))  # fmt: skip
def test_rows_hold_the_same_draws(seed: int, epoch: int, sample: int, first: int, n: int, device: str) -> None:
    rows = ops.philox_rows([sample, 5], n, first=[first, 3], seed=seed, epoch=epoch, device=device)
    assert (rows.shape, rows.dtype) == ((2, n), np.uint32)
    for j in {0, 1, n // 2, n - 1} & set(range(n)):
        assert rows[0, j] == reference_draw(seed, epoch, sample, first + j)
        assert rows[1, j] == reference_draw(seed, epoch, 5, 3 + j)


@pytest.mark.parametrize("first", [8, 9])
def test_rows_of_a_block_hold_the_same_draws(first: int, device: str) -> None:
    samples = np.arange(70) ** 5  # more than vectors hold, and some left over
    starts = first + 4 * (np.arange(70) % 3)
    rows = ops.philox_rows(samples, 4, first=starts, seed=9, epoch=2, device=device)
    for i in (0, 15, 16, 40, 69):
        assert rows[i].tolist() == [reference_draw(9, 2, int(samples[i]), int(starts[i]) + j) for j in range(4)]


def test_rows_know_no_threads(device: str) -> None:
    one = ops.philox_rows(np.arange(300), 777, first=2, seed=7, device=device, n_threads=1)
    np.testing.assert_array_equal(one, ops.philox_rows(np.arange(300), 777, first=2, seed=7, n_threads=3))
    assert ops.philox_rows([], 4, device=device).shape == (0, 4)


def test_rows_out_of_range_are_refused() -> None:
    for arguments in ({"samples": [-1]}, {"samples": [2**63]}, {"first": [2**32]}, {"first": 2**32 - 3}, {"n": -1}):
        with pytest.raises(ValueError, match=rf"{next(iter(arguments))}.*got"):
            ops.philox_rows(**{"samples": [1], "n": 4, **arguments})
    with pytest.raises(ValueError, match="length of first: got 3, expected 2"):
        ops.philox_rows([1, 2], 4, first=[1, 2, 3])
    with pytest.raises(ValueError, match="dimensions of samples"):
        ops.philox_rows([[1]], 4)
    with pytest.raises(TypeError, match="dtype of samples"):
        ops.philox_rows([0.5], 4)
