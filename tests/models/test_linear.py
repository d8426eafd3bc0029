"""EASE, SLIM and SparseEASE against their definitions, and their quality on real data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast import evaluation
from recsys_fast.models import ease, memory
from tests.cases.linear import dense
from tests.models.cases import ratings


def closed_form(x: Any, penalty: float) -> Any:
    inverse = np.linalg.inv(x.T @ x + penalty * np.eye(x.shape[1]))
    weights = -inverse / inverse.diagonal()
    np.fill_diagonal(weights, 0.0)
    return weights


@pytest.mark.parametrize("penalty", [1.0, 100.0])
@pytest.mark.parametrize("ones", [False, True])
def test_ease_is_the_closed_form(device: str, penalty: float, ones: bool) -> None:
    matrix = ratings(60, 25)
    if ones:
        matrix.data[:] = 1
    model = rf.EASE(penalty, device=device).fit(matrix)
    x = matrix.toarray().astype(np.float64)
    exact = closed_form(x, penalty)
    np.testing.assert_allclose(model.weights_, exact, atol=2e-5)
    np.testing.assert_allclose(model.score(np.arange(60)), x @ exact, atol=2e-4)
    new = ratings(4, 25, seed=5)
    ids, scores = model.recommend(user_items=new, n=3)
    np.testing.assert_allclose(scores[0], (new.toarray() @ exact)[0, ids[0]], atol=2e-4)


def test_sparse_ease_with_all_neighbours_is_ease(device: str) -> None:
    matrix = ratings(60, 25)
    whole = rf.EASE(5.0, device=device).fit(matrix).weights_
    for n_neighbors in (24, 25, 1000):
        sparse = rf.SparseEASE(5.0, n_neighbors=n_neighbors, device=device).fit(matrix).weights_
        np.testing.assert_allclose(dense(sparse), whole, atol=2e-5)
    few = rf.SparseEASE(5.0, n_neighbors=3, device=device).fit(matrix).weights_
    assert (dense(few) != 0).sum(axis=0).max() == 3


def test_slim_keeps_what_it_is_told_to(device: str) -> None:
    matrix = ratings(60, 25)
    signed = rf.SLIM(0.5, 5.0, nonnegative=False, device=device).fit(matrix)
    assert dense(signed.weights_).min() < 0
    model = rf.SLIM(0.5, 5.0, n_neighbors=2, device=device).fit(matrix)
    weights = dense(model.weights_)
    assert weights.min() == 0
    assert (weights != 0).sum(axis=0).max() == 2
    assert model.n_unfinished_ == 0
    with pytest.warns(UserWarning, match=r"not converged after 1 passes.*[Rr]aise n_passes"):
        model = rf.SLIM(0.5, 5.0, n_passes=1, tolerance=0.0, device=device).fit(matrix)
    assert model.n_unfinished_ > 0
    with pytest.raises(TypeError, match="nonnegative"):
        rf.SLIM(nonnegative=1).fit(matrix)  # type: ignore[arg-type]


def test_a_singular_problem_is_named(device: str) -> None:
    same = ratings(60, 25)
    same = same[:, [0] * 25]
    for model in (rf.EASE(0.0, device=device), rf.SparseEASE(0.0, n_neighbors=5, device=device)):
        with pytest.raises(ValueError, match=r"not positive definite.*[Rr]egularization"):
            model.fit(same)
        assert not model.is_fitted


def test_ease_that_does_not_fit_is_refused_before_anything_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1_000_000)
    monkeypatch.setattr(ease.ops, "csr_gram", lambda *_, **__: pytest.fail("allocated"))
    model = rf.EASE()
    wide = ratings(10, 2000)
    assert model.estimate_memory(wide)["weights"] == 4 * 2000**2
    with pytest.raises(MemoryError, match=r"EASE of 2000 items.*0\.00 GB available.*expected 0\.02 GB.*SparseEASE"):
        model.fit(wide)
    assert not model.is_fitted


def test_available_memory_is_the_least_of_machine_and_group(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/proc/meminfo": "MemTotal: 900 kB\nMemAvailable:     700 kB\n"}
    monkeypatch.setattr(memory, "_read", files.get)
    assert memory.available_memory() == 700 * 1024
    root = "/sys/fs/cgroup/"
    files |= {root + "memory.max": "500000\n", root + "memory.current": "400000\n"}
    assert memory.available_memory() == 100_000
    files |= {root + "memory.stat": "anon 5\ninactive_file 50000\n"}
    assert memory.available_memory() == 150_000
    files |= {root + "memory.max": "max\n"}
    assert memory.available_memory() == 700 * 1024


def test_verbose_states_the_memory(capsys: pytest.CaptureFixture[str]) -> None:
    rf.EASE().fit(ratings(), verbose=True)
    assert "20 items, dense weights" in capsys.readouterr().err


@pytest.mark.usefixtures("data_dir")
def test_quality_on_ml_100k() -> None:
    data = rf.datasets.load("ml-100k").interactions
    train, test = rf.splits.random(data, 0.2, random_state=0)[:2]
    found = {}
    for name, model in {
        "popularity": rf.Popularity(),
        "ease": rf.EASE(300.0),
        "sparse": rf.SparseEASE(300.0, n_neighbors=100),
        "slim": rf.SLIM(5.0, 100.0),
    }.items():
        matrix = train.csr.copy()
        matrix.data = np.ones_like(matrix.data)
        report = evaluation.evaluate(model.fit(matrix), matrix, test, metrics=("ndcg",), ks=(10,))
        found[name] = report["ndcg@10"]
    assert min(found["ease"], found["sparse"], found["slim"]) > 0.42 > 1.8 * found["popularity"]
