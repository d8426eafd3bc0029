from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_fast.data import IdMap, Interactions
from recsys_fast.data.cleaning import NORMALIZATIONS
from tests.data.helpers import check, entries, interactions


def ratings() -> Interactions:
    return Interactions.from_coo([0, 0, 1, 1, 1, 3], [0, 1, 0, 1, 2, 1], [5, 3, 1, 4, 4, 2])


def brute_k_core(pairs: set[tuple[int, int]], min_user: int, min_item: int) -> set[tuple[int, int]]:
    while True:
        left = {
            (u, i)
            for u, i in pairs
            if sum(v == u for v, _ in pairs) >= min_user and sum(j == i for _, j in pairs) >= min_item
        }
        if left == pairs:
            return left
        pairs = left


@settings(max_examples=100, deadline=None)
@given(interactions(), st.integers(0, 3), st.integers(0, 3))
def test_k_core_agrees_with_brute_force(data: Interactions, min_user: int, min_item: int) -> None:
    expected = brute_k_core({entry[:2] for entry in entries(data)}, min_user, min_item)
    same_shape = data.k_core(min_user, min_item, compact=False)
    check(same_shape)
    assert same_shape.shape == data.shape
    assert entries(same_shape) == [entry for entry in entries(data) if entry[:2] in expected]
    assert same_shape.report["k_core"] == data.nnz - len(expected)
    small = data.k_core(min_user, min_item)
    check(small)
    assert small.n_users == len({u for u, _ in expected})
    assert small.n_items == len({i for _, i in expected})
    users = small.user_ids.ids if small.user_ids is not None else np.arange(small.n_users)
    items = small.item_ids.ids if small.item_ids is not None else np.arange(small.n_items)
    assert set(zip(users[small.rows()].tolist(), items[small.col_idx].tolist(), strict=True)) == expected


def test_k_core_counts_what_it_drops() -> None:
    data = Interactions.from_coo([0, 0, 1, 1, 2], [0, 1, 0, 1, 5], shape=(4, 6))
    step = data.k_core(2, 2).report.steps[-1]
    assert step[:4] == ("k_core", 1, 2, 4)
    assert "1 rounds" in step.note
    assert data.k_core(2, 2, compact=False).report.steps[-1][:4] == ("k_core", 1, 1, 1)
    assert data.k_core(9, 9).shape == (0, 0)
    for bad, error in ((-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="min_item"):
            data.k_core(1, bad)


def test_compact() -> None:
    data = Interactions.from_coo([1, 3], [2, 0], shape=(5, 4), user_ids=list("abcde"))
    small = data.compact()
    assert small.shape == (2, 2)
    assert small.user_ids == IdMap(["b", "d"])
    assert small.item_ids == IdMap([0, 2])
    assert small.report.steps[-1][:4] == ("compact", 0, 3, 2)
    assert len(data.report) == 0


def test_threshold() -> None:
    data = ratings()
    kept = data.threshold(4)
    check(kept)
    assert kept.shape == data.shape
    assert [entry[2] for entry in entries(kept)] == [5, 4, 4]
    assert kept.report["threshold"] == 3
    assert len(kept.normalize("binary").threshold(1)) == 3
    assert len(kept.normalize("binary").threshold(1.5)) == 0
    with pytest.raises(ValueError, match="minimum: got nan"):
        data.threshold(float("nan"))


def dense_formula(how: str, x: np.ndarray, stored: np.ndarray) -> Any:
    """Return the formula of a normalisation on a dense matrix, entry by entry, in float64."""
    out = np.full(x.shape, np.nan)
    n_items, total = stored.sum(axis=0), x[stored].sum()
    average = total / max(1, (stored.sum(axis=1) > 0).sum())
    for u, i in zip(*np.nonzero(stored), strict=True):
        row, column = x[u, stored[u]], x[stored[:, i], i]
        deviation = row.std()
        out[u, i] = {
            "binary": 1,
            "log1p": np.log(1 + x[u, i]),
            "tfidf": x[u, i] * (np.log((1 + len(x)) / (1 + n_items[i])) + 1),
            "bm25": np.log(1 + (len(x) - n_items[i] + 0.5) / (n_items[i] + 0.5))
            * (x[u, i] * 2.2 / (x[u, i] + 1.2 * (0.25 + 0.75 * row.sum() / average))),
            "user_l2": x[u, i] / np.linalg.norm(row),
            "user_mean": x[u, i] - row.mean(),
            "item_mean": x[u, i] - column.mean(),
            "global_mean": x[u, i] - x[stored].mean(),
            "user_zscore": (x[u, i] - row.mean()) / deviation if deviation > 1e-9 else 0,
        }[how]
    return out


@pytest.mark.parametrize("how", NORMALIZATIONS)
def test_normalisations_follow_their_formulas(how: str) -> None:
    rng = np.random.default_rng(0)
    stored = rng.random((30, 12)) < 0.3
    stored[7] = False
    x = np.where(stored, rng.integers(1, 6, stored.shape), 0).astype(float)
    x[3] = np.where(stored[3], 0.1, 0)
    users, items = np.nonzero(stored)
    data = Interactions.from_coo(users, items, x[stored], shape=stored.shape)
    before = entries(data)
    made = data.normalize(how)
    check(made)
    values = np.ones(made.nnz, np.float32) if made.values is None else made.values
    x = np.where(stored, x.astype(np.float32), 0).astype(float)
    np.testing.assert_allclose(values, dense_formula(how, x, stored)[stored], rtol=1e-6, atol=1e-6)
    assert entries(data) == before
    assert how in made.report.steps[-1].note
    assert (made.values is None) == (how == "binary")


def test_normalise_parameters_and_limits() -> None:
    data = ratings()
    strong = data.normalize("bm25", k1=0.0)
    assert strong.values is not None
    assert "k1=0" in str(strong.report)
    assert not np.allclose(strong.values, data.normalize("bm25").values)
    with pytest.raises(ValueError, match="how: got 'BM25'"):
        data.normalize("BM25")
    with pytest.raises(TypeError, match=r'normalize\("log1p"\) has no parameter: got k1'):
        data.normalize("log1p", k1=1)
    with pytest.raises(ValueError, match="b: got 2"):
        data.normalize("bm25", b=2)
    negative = Interactions.from_coo([0], [0], [-2.0])
    for how in ("log1p", "bm25"):
        with pytest.raises(ValueError, match="Use another method"):
            negative.normalize(how)
    zeros = Interactions.from_coo([0, 0], [0, 1], [0.0, 0.0])
    for how in NORMALIZATIONS:
        made = zeros.normalize(how)
        assert made.values is None or np.isfinite(made.values).all()
        assert Interactions.from_coo([], []).normalize(how).nnz == 0


def test_means() -> None:
    data = ratings()
    assert data.means("user").tolist() == [4, 3, 0, 2]
    assert data.means("item").tolist() == [3, 3, 4]
    assert data.means("global").tolist() == pytest.approx([19 / 6])
    assert Interactions.from_coo([], []).means("global").tolist() == [0]
    centred = data.normalize("user_mean")
    assert centred.values is not None
    restored = centred.values + data.means("user")[data.rows()]
    assert restored.tolist() == data.values.tolist()
    with pytest.raises(ValueError, match="of: got 'row'"):
        data.means("row")
