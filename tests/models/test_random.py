"""The random baseline: its scores are the words of the generator, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import recsys_fast as rf
from recsys_fast import ops
from recsys_fast.evaluation import evaluate
from tests.models.cases import ratings


def test_scores_are_the_generators_words(device: str) -> None:
    model = rf.Random(random_state=5, device=device).fit(ratings())
    for user in (0, 3, 29):
        words = [int(ops.philox_draw(1, seed=5, first_sample=user, k=item)[0]) for item in range(20)]
        np.testing.assert_array_equal(model.score(user), np.array([word >> 8 for word in words]) / 2.0**24)
    assert model.score(np.arange(30)).max() < 1


def test_seeds_repeat_and_differ(device: str) -> None:
    def lists(seed: int | None) -> np.ndarray:
        return rf.Random(random_state=seed, device=device).fit(ratings()).recommend(n=5).ids

    np.testing.assert_array_equal(lists(0), lists(0))
    assert not np.array_equal(lists(0), lists(1))
    assert not np.array_equal(lists(None), lists(None))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n_users=st.integers(1, 40), n_items=st.integers(1, 600), n=st.integers(0, 40), seed=st.integers(0, 2**32),
    density=st.sampled_from([0.0, 0.02, 0.5, 0.98]),
)  # fmt: skip
def test_lists_are_the_sorted_scores(
    n_users: int, n_items: int, n: int, seed: int, density: float, device: str
) -> None:
    rng = np.random.default_rng(seed)
    seen = rng.random((n_users, n_items)) < density
    model = rf.Random(random_state=seed, device=device).fit(sp.csr_array(seen.astype(np.float32)))
    ids, scores = model.recommend(n=n)
    dense = np.where(seen, -np.inf, model.score(np.arange(n_users)))
    order = np.argsort(-dense, axis=1, kind="stable")[:, :n]
    expected = np.full((n_users, n), -1)
    expected[:, : order.shape[1]] = np.where(np.isneginf(np.take_along_axis(dense, order, 1)), -1, order)
    np.testing.assert_array_equal(ids, expected)
    rows, places = np.nonzero(ids >= 0)
    np.testing.assert_array_equal(scores[rows, places], dense[rows, ids[rows, places]])
    few = rng.permutation(n_items)[:3]
    np.testing.assert_array_equal(
        np.sort(model.recommend(0, n=3, include=few, filter_seen=False).ids[: len(few)]), np.sort(few)
    )


def test_equal_histories_get_equal_lists(device: str) -> None:
    model = rf.Random(device=device).fit(ratings())
    new = ratings(2, 20, seed=9)
    both = model.recommend(user_items=sp.vstack([new, new], format="csr"), n=20).ids
    np.testing.assert_array_equal(both[:2], both[2:])
    assert not np.array_equal(both[0][both[0] >= 0], model.recommend(0, n=20, filter_seen=False).ids)


def test_ranks_items_uniformly(device: str) -> None:
    model = rf.Random(device=device).fit(sp.csr_array((20_000, 10), dtype=np.float32))
    first = np.bincount(model.recommend(n=1).ids[:, 0], minlength=10)
    assert np.abs(first - 2000).max() < 6 * np.sqrt(2000)


def test_recall_is_that_of_chance(device: str) -> None:
    data = rf.datasets.synthetic(n_users=2000, n_items=500, n_interactions=40_000, random_state=0)
    report = evaluate(rf.Random(device=device).fit(data.train), data.train, data.test, ["recall@50", "auc"])
    assert report["recall@50"] == pytest.approx(0.1, abs=0.02)
    assert report["auc"] == pytest.approx(0.5, abs=0.02)
