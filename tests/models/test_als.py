from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.errors import DivergedError, NotSupportedError
from recsys_fast.models import als_problem
from recsys_fast.ops import as_csr
from tests.models.cases import ratings, same_state
from tests.models.reference import Reference, start

OBJECTIVES: dict[str, dict[str, Any]] = {
    "ials++": {},
    "ials++ with confidence": {"alpha": 3.0, "nu": 0.5, "unobserved_weight": 0.1},
    "no frequency scaling": {"nu": 0.0, "regularization": 0.7},
    "hu2008": {"objective": "hu2008", "unobserved_weight": 1.0, "alpha": 4.0, "nu": 0.0, "regularization": 0.3},
    "explicit": {"feedback": "explicit", "regularization": 0.05},
    "explicit unscaled": {"feedback": "explicit", "regularization": 2.0, "nu": 0.0},
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("values", ["stars", "ones", "dislikes"])
def test_scores_and_losses_are_those_of_the_formulas(device: str, name: str, values: str) -> None:
    matrix = ratings(60, 40)
    if values == "ones":
        matrix.data[:] = 1
    if values == "dislikes":
        matrix.data[::3] *= -1
    model = rf.ALS(6, solver="cholesky", n_epochs=4, random_state=7, device=device, **OBJECTIVES[name]).fit(matrix)
    reference = Reference(matrix.toarray().astype(np.float64), model)
    scores, losses = reference.fit(start(40, 6, 7, explicit=reference.explicit), 4)
    got = model.score(np.arange(60)) - model.global_mean_
    assert np.abs(got - scores).max() < 2e-4 * max(1.0, np.abs(scores).max())
    np.testing.assert_allclose(model.history_["loss"], losses, rtol=2e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_iterative_solvers_reach_the_exact_solution(device: str, name: str) -> None:
    matrix, common = ratings(60, 40), {"n_epochs": 3, "random_state": 1, "device": device, **OBJECTIVES[name]}
    exact = rf.ALS(8, solver="cholesky", **common).fit(matrix)
    cg = rf.ALS(8, solver="cg", n_cg_steps=30, **common).fit(matrix)
    blocks = rf.ALS(8, solver="subspace", block_size=16, **common).fit(matrix)
    for model in (cg, blocks):
        np.testing.assert_allclose(model.history_["loss"], exact.history_["loss"], rtol=1e-4)


@pytest.mark.parametrize("solver", ["cholesky", "cg", "subspace"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_never_rises(device: str, solver: str, name: str) -> None:
    model = rf.ALS(8, solver=solver, block_size=3, n_epochs=8, random_state=1, device=device, **OBJECTIVES[name])
    losses = np.array(model.fit(ratings(60, 40)).history_["loss"])
    assert len(losses) == 8
    assert (np.diff(losses) <= 1e-5 * losses[:-1]).all()


@pytest.mark.parametrize("name", ["ials++", "explicit"])
@pytest.mark.parametrize("solver", ["cholesky", "cg", "subspace"])
def test_the_number_of_threads_does_not_matter(device: str, solver: str, name: str) -> None:
    matrix = ratings(300, 200, 0.1)

    def fit(n_threads: int) -> rf.ALS:
        options = {"solver": solver, "n_epochs": 2, "random_state": 1, "device": device, **OBJECTIVES[name]}
        return rf.ALS(9, n_threads=n_threads, **options).fit(matrix)

    one = fit(1)
    for n_threads in (2, 3, 7):
        assert same_state(fit(n_threads), one)


def test_item_gram_is_diagonal_and_descending(device: str) -> None:
    model = rf.ALS(8, n_epochs=3, random_state=0, device=device).fit(ratings(60, 40))
    gram = model.item_factors_.astype(np.float64).T @ model.item_factors_
    off = gram - np.diag(np.diag(gram))
    assert np.abs(off).max() < 1e-5 * gram.max()
    assert (np.diff(np.diag(gram)) <= 1e-6 * gram.max()).all()


def test_planted_preferences_are_found(device: str) -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, 200), np.arange(80) % 4
    likes = (groups[0][:, None] == groups[1][None, :]) & (rng.random((200, 80)) < 0.5)
    model = rf.ALS(8, n_epochs=8, random_state=0, device=device).fit(sp.csr_array(likes.astype(np.float32)))
    ids, _ = model.recommend(n=5)
    assert (groups[1][ids] == groups[0][:, None]).mean() > 0.98
    similar, _ = model.similar_items(np.arange(80), n=5)
    assert (groups[1][similar] == groups[1][:, None]).mean() > 0.95


def test_explicit_attributes(device: str) -> None:
    matrix = ratings(60, 40)
    model = rf.ALS(5, feedback="explicit", regularization=0.05, random_state=0, device=device).fit(matrix)
    assert model.user_factors_.shape == (60, 5)
    assert model.item_factors_.shape == (40, 5)
    assert model.user_biases_.shape == (60,)
    assert model.global_mean_ == pytest.approx(matrix.data.mean(), rel=1e-6)
    expected = model.global_mean_ + model.user_biases_[3] + model.item_biases_[4]
    assert model.predict(3, 4) == pytest.approx(expected + model.user_factors_[3] @ model.item_factors_[4], rel=1e-5)
    implicit = rf.ALS(5, n_epochs=1, device=device).fit(matrix)
    assert implicit.global_mean_ == 0
    with pytest.raises(NotSupportedError, match="explicit"):
        _ = implicit.user_biases_


def test_auto_names_the_solver_it_takes(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = ratings(60, 40)
    few = rf.ALS(4, n_epochs=1, device=device).fit(matrix, verbose=True)
    assert few.solver_ == "cholesky"
    assert few.solver == "auto"
    assert "solver=cholesky (auto)" in capsys.readouterr().err
    assert rf.ALS(4, solver="cg", n_epochs=1, device=device).fit(matrix).solver_ == "cg"


def test_auto_goes_by_factors_and_density() -> None:
    dense, sparse = as_csr(ratings(300, 300, 0.5)), as_csr(ratings(300, 300, 0.01))
    assert als_problem.choose_solver(dense, 8, 3) == "cholesky"
    assert als_problem.choose_solver(dense, 256, 3) == "cg"
    assert als_problem.choose_solver(sparse, 256, 3) == "cholesky"  # rows of three entries, solved through the dual


def test_divergence_is_an_error_and_keeps_the_last_finite_epoch(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, calls = als_problem.AlsProblem.sweep, []

    def failing(self: Any, x: Any, *rest: Any) -> float:
        loss = sweep(self, x, *rest)
        calls.append(1)
        if len(calls) == 6:
            x[3] = np.nan
            return float("nan")
        return loss

    def model() -> rf.ALS:
        return rf.ALS(4, n_epochs=5, random_state=0, device=device)

    monkeypatch.setattr(als_problem.AlsProblem, "sweep", failing)
    diverged = model()
    with pytest.raises(DivergedError, match=r"epoch 3.*keeps epoch 2"):
        diverged.fit(ratings())
    monkeypatch.setattr(als_problem.AlsProblem, "sweep", sweep)
    assert same_state(diverged, model().set_params(n_epochs=2).fit(ratings()))


def test_divergence_in_the_first_epoch_leaves_no_model(device: str) -> None:
    model = rf.ALS(4, feedback="explicit", device=device)
    with pytest.raises(DivergedError, match=r"epoch 1.*not fitted"):
        model.fit(ratings() * np.float32(1e37))
    assert not model.is_fitted


def test_many_widths(device: str) -> None:
    matrix = ratings(40, 30)
    for n_factors in (1, 2, 3, 15, 16, 17, 31, 33, 65):
        model = rf.ALS(n_factors, solver="cholesky", n_epochs=2, random_state=3, device=device).fit(matrix)
        scores, _ = Reference(matrix.toarray().astype(np.float64), model).fit(start(30, n_factors, 3), 2)
        assert np.abs(model.score(np.arange(40)) - scores).max() < 2e-4 * max(1.0, np.abs(scores).max()), n_factors
