"""Negatives are never positives, follow their distribution, and have the same bits on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_fast import ops
from recsys_fast.ops import Csr
from tests.cases.csr import SORTED, UNSORTED, make_csr, random_csr

HALF = random_csr(60, 40, 0.5, seed=2)


def weights_of(n: int) -> np.ndarray:
    return np.random.default_rng(5).random(n) ** 6 * 1e-30  # any scale, over five decades


def positives(csr: Csr, user: int) -> list[int]:
    return csr.col_idx[csr.row_ptr[user] : csr.row_ptr[user + 1]].tolist()


def word(seed: int, epoch: int, sample: int, k: int) -> int:
    return int(ops.philox_draw(1, seed=seed, epoch=epoch, first_sample=sample, k=k)[0])


def reference(csr: Csr, users: list[int], n: int, weights: np.ndarray | None, seed: int, epoch: int) -> list[list[int]]:
    """Return what is documented, one negative at a time; fails where a weighted one takes more than its tries."""
    out = []
    for i, user in enumerate(users):
        taken = set(positives(csr, user))
        absent = [item for item in range(csr.n_cols) if item not in taken]
        row = []
        for j in range(n):
            if not absent:
                row.append(-1)
            elif weights is None:
                row.append(absent[word(seed, epoch, i, j) * len(absent) >> 32])
            else:
                cdf = np.cumsum(weights / weights.max())
                for k in range(32 * j, 32 * j + 30, 2):
                    bits = word(seed, epoch, i, k) << 32 | word(seed, epoch, i, k + 1)
                    item = int(np.searchsorted(cdf, (bits >> 11) * 2.0**-53 * cdf[-1], side="right"))
                    if item not in taken:
                        break
                row.append(item)
        out.append(row)
    return out


@pytest.mark.parametrize("weighted", [False, True])
def test_negatives_are_the_reference(weighted: bool, device: str) -> None:
    csr = random_csr(20, 40, 0.2, seed=4)
    users, weights = [3, 3, 0, 19, 7], weights_of(40) if weighted else None
    drawn = ops.sample_negatives(csr, users, 6, weights=weights, seed=2**63 + 11, epoch=2**32 - 1, device=device)
    assert drawn.dtype == np.int32
    assert drawn.tolist() == reference(csr, users, 6, weights, 2**63 + 11, 2**32 - 1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", [name for name in [*SORTED, *UNSORTED] if "many" not in name])
def test_negatives_are_never_positives(name: str, weighted: bool, device: str) -> None:
    csr = (SORTED | UNSORTED)[name]
    users = np.arange(csr.n_rows)
    weights = np.linspace(1, 2, csr.n_cols) if weighted else None
    drawn = ops.sample_negatives(csr, users, 50, weights=weights, device=device)
    assert drawn.shape == (csr.n_rows, 50)
    for user in users:
        taken = set(positives(csr, user))
        if len(taken) == csr.n_cols:
            assert set(drawn[user]) == {-1}
        else:
            assert all(0 <= item < csr.n_cols and item not in taken for item in drawn[user].tolist())


@pytest.mark.parametrize("weighted", [False, True])
def test_negatives_know_neither_threads_nor_backends(weighted: bool, device: str) -> None:
    weights = weights_of(40) if weighted else None
    users = np.random.default_rng(0).integers(0, 60, 3000)
    one = ops.sample_negatives(HALF, users, 7, weights=weights, seed=9, epoch=4, device=device, n_threads=1)
    for n_threads in (2, 5):
        many = ops.sample_negatives(
            HALF, users, 7, weights=weights, seed=9, epoch=4, device=device, n_threads=n_threads
        )
        np.testing.assert_array_equal(many, one)
    numba = ops.sample_negatives(HALF, users, 7, weights=weights, seed=9, epoch=4, device="numba")
    np.testing.assert_array_equal(numba, one)
    for other in ({"seed": 10, "epoch": 4}, {"seed": 9, "epoch": 5}):
        again = ops.sample_negatives(HALF, users, 7, weights=weights, device=device, **other)
        assert (again != one).mean() > 0.5


def chi_square(drawn: np.ndarray, probability: np.ndarray) -> float:
    """Return the statistic over its degrees of freedom, about 1 where the draws follow ``probability``."""
    counts = np.bincount(drawn.ravel(), minlength=len(probability))
    assert counts[probability == 0].sum() == 0
    expected = probability[probability > 0] * drawn.size
    assert expected.min() > 5
    return float(((counts[probability > 0] - expected) ** 2 / expected).sum() / (len(expected) - 1))


def test_uniform_negatives_are_uniform(device: str) -> None:
    absent = np.ones(40)
    absent[positives(HALF, 1)] = 0
    drawn = ops.sample_negatives(HALF, [1] * 40, 500, device=device)
    assert chi_square(drawn, absent / absent.sum()) < 2


@pytest.mark.parametrize("heavy", [0.3, 0.999999], ids=["by tries", "by walking the gaps"])
def test_weighted_negatives_follow_the_weights(heavy: float, device: str) -> None:
    weights = np.arange(30) % 7 + 0.5
    weights[[2, 11]] = 0  # never drawn
    taken = [0, 1, 4, 9, 10, 15, 29]
    weights[taken] *= heavy / (1 - heavy)  # so that tries nearly always meet a positive
    probability = weights.copy()
    probability[taken] = 0
    csr = make_csr([taken, []], 30)
    drawn = ops.sample_negatives(csr, [0] * 40, 500, weights=weights, device=device)
    assert chi_square(drawn, probability / probability.sum()) < 2


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    taken=st.sets(st.integers(0, 9)),
    weights=st.lists(st.sampled_from([0.0, 1e-300, 1e-17, 1.0, 3.0, 1e20]), min_size=10, max_size=10),
    seed=st.integers(0, 2**64 - 1),
)
def test_extreme_weights_end_and_never_give_a_positive(
    taken: set[int], weights: list[float], seed: int, device: str
) -> None:
    csr = make_csr([sorted(taken)], 10)
    if not any(weights):
        with pytest.raises(ValueError, match="weights: got only zeros, expected at least one above 0"):
            ops.sample_negatives(csr, 0, 4, weights=weights, seed=seed, device=device)
        return
    drawn = ops.sample_negatives(csr, 0, 20, weights=weights, seed=seed, device=device)
    cdf = np.cumsum(np.array(weights) / max(weights))  # items whose weight vanishes in the running sum are never drawn
    drawable = {i for i in range(10) if i not in taken and cdf[i] > (cdf[i - 1] if i else 0)}
    assert set(drawn.ravel().tolist()) <= (drawable or {-1})
    np.testing.assert_array_equal(
        drawn, ops.sample_negatives(csr, 0, 20, weights=weights, seed=seed, device="numba", n_threads=1)
    )


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown user": ({"users": [0, 60]}, IndexError, r"users\[1\]: got 60, expected 0 <= id < 60"),
    "negative user": ({"users": [-1]}, IndexError, r"users\[0\]: got -1"),
    "huge user": ({"users": [2**32]}, IndexError, "got 4294967296"),
    "float user": ({"users": [0.0]}, TypeError, "dtype of users: got float64"),
    "users in 2-D": ({"users": [[0]]}, ValueError, "dimensions of users"),
    "negative n": ({"n": -1}, ValueError, "n: got -1"),
    "float n": ({"n": 2.0}, TypeError, "n: got float"),
    "float n in an array": ({"n": np.array(2.7)}, TypeError, "n: got ndarray"),
    "bool n": ({"n": np.True_}, TypeError, "n: got bool"),
    "float out": ({"out": np.empty((1, 1), np.float32)}, TypeError, "out: got float32, expected an array of int32"),
    "out of another shape": ({"out": np.empty((1, 2), np.int32)}, ValueError, "shape of out"),
    "out among the inputs": ({"out": HALF.col_idx[:1].reshape(1, 1)}, ValueError, "share memory"),
    "threads": ({"n_threads": np.array(2.7)}, TypeError, "n_threads: got ndarray"),
    "too many": ({"n": 2**27}, ValueError, "at most 134217727"),
    "short weights": ({"weights": [1.0]}, ValueError, r"shape of weights: got \(1,\), expected .*\(40,\)"),
    "negative weight": ({"weights": np.r_[-1.0, np.ones(39)]}, ValueError, r"weights\[0\]: got -1.0"),
    "NaN weight": ({"weights": np.r_[np.ones(39), np.nan]}, ValueError, r"weights\[39\]: got nan"),
    "infinite weight": ({"weights": np.r_[np.ones(39), np.inf]}, ValueError, r"weights\[39\]: got inf"),
    "text weights": ({"weights": ["a"] * 40}, TypeError, "dtype of weights"),
    "seed": ({"seed": -1}, ValueError, "seed: got -1"),
    "epoch": ({"epoch": 2**32}, ValueError, "epoch: got 4294967296"),
    "dense": ({"matrix": np.eye(3)}, TypeError, "expected a sparse matrix"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_arguments_are_refused(kind: str, device: str) -> None:
    change, error, text = BAD[kind]
    with pytest.raises(error, match=text):
        ops.sample_negatives(**({"matrix": HALF, "users": [0], "n": 1, "device": device} | change))


def test_other_forms_of_input(device: str) -> None:
    expected = ops.sample_negatives(HALF, [5, 6], 4, device=device)
    matrix = sp.csr_array((HALF.or_empty(), HALF.col_idx, HALF.row_ptr), HALF.shape)
    users = np.array([5, 0, 6], np.uint64)[::2]
    users.flags.writeable = False
    for same in (matrix, matrix.tocsc(), matrix.tocoo(), HALF._replace(values=None)):
        np.testing.assert_array_equal(ops.sample_negatives(same, users, 4, device=device), expected)
    out = np.empty((2, 4), np.int32)
    assert ops.sample_negatives(HALF, [5, 6], 4, out=out, device=device) is out
    np.testing.assert_array_equal(out, expected)
    assert ops.sample_negatives(HALF, [], 4, device=device).shape == (0, 4)
    assert ops.sample_negatives(HALF, [5], 0, device=device).shape == (1, 0)
    assert ops.sample_negatives(HALF, 5, 3, device=device).tolist() == expected[:1, :3].tolist()
