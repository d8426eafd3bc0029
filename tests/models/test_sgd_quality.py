"""Models trained by gradient descent on real data: better than what is simpler, and near what others report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf


@pytest.fixture(scope="module")
def movies() -> Any:
    """ml-100k; skips where it is not there."""
    try:
        return rf.datasets.load("ml-100k").interactions
    except (FileNotFoundError, OSError, ValueError) as error:
        pytest.skip(f"no ml-100k here: {error}")


def split(movies: Any) -> tuple[sp.csr_array, sp.csr_array]:
    """Every fifth rating held out, at random."""
    coo = movies.csr.tocoo()
    test = np.random.default_rng(0).permutation(coo.nnz) % 5 == 0
    parts = [sp.csr_array((coo.data[p], (coo.row[p], coo.col[p])), shape=coo.shape) for p in (~test, test)]
    return parts[0], parts[1]


def ndcg(model: Any, train: Any, test: Any) -> float:
    return float(rf.evaluation.evaluate(model, train, test, ("ndcg",), (10,))["ndcg@10"])


LEVELS: dict[str, tuple[Any, float]] = {
    "bpr": (lambda **k: rf.BPR(32, learning_rate=0.05, regularization=0.01, n_epochs=20, **k), 0.33),
    "warp": (lambda **k: rf.WARP(32, learning_rate=0.05, optimizer="adagrad", n_epochs=10, **k), 0.35),
    "logistic": (lambda **k: rf.LogisticMF(32, learning_rate=0.05, n_negatives=4, n_epochs=15, **k), 0.25),
}


@pytest.mark.parametrize("name", LEVELS)
def test_films_are_ranked_better_than_by_popularity(name: str, movies: Any, data_dir: Path) -> None:
    train, test = split(movies)
    make, level = LEVELS[name]
    popular = ndcg(rf.Popularity().fit(train), train, test)
    assert ndcg(make(random_state=0).fit(train), train, test) > max(level, 1.1 * popular)


@pytest.mark.parametrize(("implicit", "bound"), [(False, 0.915), (True, 0.910)])
def test_ratings_are_predicted_within_a_bound(implicit: bool, bound: float, movies: Any, data_dir: Path) -> None:
    train, test = split(movies)
    options: dict[str, Any] = {"learning_rate": 0.02, "regularization": 0.08, "n_epochs": 40, "schedule": "linear"}
    model = rf.MF(64, init_scale=0.2, implicit_feedback=implicit, random_state=0, **options).fit(train)
    coo = test.tocoo()
    assert np.sqrt(np.mean((model.predict(coo.row, coo.col) - coo.data) ** 2)) < bound
