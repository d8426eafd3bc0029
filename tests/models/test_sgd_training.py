"""Training by gradient descent: schedules, optimizers, sampling, and what is left when it goes wrong."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.errors import DivergedError
from recsys_fast.models import sgd_training
from recsys_fast.models.sgd_training import balanced_rates, learning_rate_at, negative_cdf
from tests.models.cases import ratings, same_state

MODELS: dict[str, Any] = {"bpr": rf.BPR, "warp": rf.WARP, "logistic": rf.LogisticMF, "mf": rf.MF}
SETTINGS: dict[str, dict[str, Any]] = {
    "bpr": {"learning_rate": 0.1},
    "warp": {"learning_rate": 0.003},
    "logistic": {"learning_rate": 0.1, "n_negatives": 3},
}


@pytest.fixture(scope="module")
def planted() -> Any:
    return rf.datasets.synthetic(n_users=300, n_items=150, n_interactions=9000, random_state=0)


def recall(model: Any, data: Any) -> float:
    return float(rf.evaluation.evaluate(model, data.train, data.test, ("recall",), (20,))["recall@20"])


def fitted(name: str, data: Any, device: str, **options: Any) -> Any:
    settings = {"n_factors": 8, "regularization": 0.01, "n_epochs": 40, "random_state": 0, **SETTINGS.get(name, {})}
    return MODELS[name](**{**settings, **options}, device=device).fit(data.train)


@pytest.mark.parametrize("name", SETTINGS)
def test_planted_preferences_are_found(device: str, name: str, planted: Any) -> None:
    popular = recall(rf.Popularity().fit(planted.train), planted)
    model = fitted(name, planted, device)
    assert recall(model, planted) > 1.5 * popular
    assert model.history_["loss"][-1] < 0.8 * model.history_["loss"][0]


@pytest.mark.parametrize("optimizer", ["adagrad", "adam"])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_optimizer_learns(device: str, name: str, optimizer: str, planted: Any) -> None:
    popular = recall(rf.Popularity().fit(planted.train), planted)
    rate = 0.003 if optimizer == "adam" else 0.2 if name != "warp" else 0.05
    assert recall(fitted(name, planted, device, optimizer=optimizer, learning_rate=rate), planted) > 1.5 * popular


@pytest.mark.parametrize(
    "options",
    [
        {"negative": "popularity"},
        {"negative": "adaptive", "n_candidates": 4, "n_epochs": 20},
        {"balance": "users", "balance_exponent": 0.5},
        {"balance": "items", "balance_exponent": 0.3},
        {"schedule": "cosine"},
        {"deterministic": False, "n_threads": 2},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_way_of_sampling_learns(device: str, options: dict[str, Any], planted: Any) -> None:
    popular = recall(rf.Popularity().fit(planted.train), planted)
    assert recall(fitted("bpr", planted, device, **options), planted) > 1.4 * popular


def test_order_statistics_learn(device: str, planted: Any) -> None:
    popular = recall(rf.Popularity().fit(planted.train), planted)
    assert recall(fitted("warp", planted, device, k_os=2, n_os=4), planted) > 1.3 * popular


def test_schedules_fall_to_zero_after_the_last_epoch() -> None:
    assert [learning_rate_at("constant", 0.5, epoch, 4) for epoch in range(6)] == [0.5] * 6
    np.testing.assert_allclose(
        [learning_rate_at("linear", 0.5, epoch, 4) for epoch in range(6)], [0.5, 0.375, 0.25, 0.125, 0.125, 0.125]
    )
    cosine = [learning_rate_at("cosine", 1.0, epoch, 4) for epoch in range(5)]
    np.testing.assert_allclose(cosine, (1 + np.cos(np.pi * np.array([0, 1, 2, 3, 3]) / 4)) / 2)


def test_rates_balance_users_and_items() -> None:
    matrix = rf.ops.as_csr(ratings())
    assert len(balanced_rates(matrix, "none", 1.0)) == 0
    assert len(balanced_rates(matrix, "users", 0.0)) == 0
    rows = np.repeat(np.arange(30), np.diff(matrix.row_ptr))
    for balance, side in (("users", rows), ("items", matrix.col_idx)):
        rates = balanced_rates(matrix, balance, 1.0)
        assert rates.sum() == pytest.approx(matrix.nnz, rel=1e-5)
        visits = np.bincount(side, rates)
        np.testing.assert_allclose(visits[visits > 0], matrix.nnz / (visits > 0).sum(), rtol=1e-5)
        half, counts = balanced_rates(matrix, balance, 0.5), np.bincount(side)
        np.testing.assert_allclose(half * np.sqrt(counts[side]), half[0] * np.sqrt(counts[side[0]]), rtol=1e-5)


def test_negatives_by_popularity_and_only_known_ones() -> None:
    matrix = rf.ops.as_csr(ratings())
    counts = np.bincount(matrix.col_idx, minlength=20)
    assert len(negative_cdf(matrix, None, False)) == 0
    np.testing.assert_array_equal(np.diff(negative_cdf(matrix, None, True), prepend=0), counts > 0)
    weights = np.diff(negative_cdf(matrix, 0.75, False), prepend=0)
    np.testing.assert_allclose(weights, (counts / counts.max()) ** 0.75, atol=1e-12)
    assert np.diff(negative_cdf(matrix, 0.0, True), prepend=0)[10] == 0


@pytest.mark.parametrize("name", MODELS)
def test_weights_of_samples_count(device: str, name: str) -> None:
    if name == "mf":
        return
    options = {"n_epochs": 2, "random_state": 0, "device": device}
    plain = MODELS[name](4, **options).fit(ratings())
    ones = MODELS[name](4, sample_weight="values", **options).fit(ratings() > 0)
    assert same_state(plain, ones)
    weighted = MODELS[name](4, sample_weight="values", **options).fit(ratings())
    assert not same_state(plain, weighted)
    doubled = ratings().astype(bool).astype(np.float32) * 2
    if name == "logistic":
        assert same_state(
            MODELS[name](4, sample_weight="values", **options).fit(doubled),
            MODELS[name](4, alpha=2.0, **options).fit(ratings()),
        )


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("name", MODELS)
def test_threads_do_not_change_bits(device: str, name: str, optimizer: str) -> None:
    matrix = ratings(300, 200, 0.1)
    one, two = (
        MODELS[name](6, n_epochs=3, optimizer=optimizer, device=device, random_state=1, n_threads=n).fit(matrix)
        for n in (1, 2)
    )
    assert same_state(one, two)


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("name", MODELS)
def test_a_resumed_run_ends_with_the_same_bits(device: str, name: str, optimizer: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    options = {"optimizer": optimizer, "schedule": "linear", "n_epochs": 4, "random_state": 3, "device": device}

    class Cut:
        def on_epoch_end(self, state: Any) -> bool:
            return bool(state.epoch == 2)

    MODELS[name](4, **options).fit(ratings(), callbacks=[rf.Checkpoint(path, every=1), Cut()])
    resumed = MODELS[name].resume(path, device=device)
    assert resumed.n_epochs_ == 4
    assert same_state(resumed, MODELS[name](4, **options).fit(ratings()))


class Spoils:
    """Stands in for ``Sgd.run``: in one epoch the tables are half trained when the epoch ends in ``outcome``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, epoch: int, outcome: Any) -> None:
        run = sgd_training.Sgd.run

        def spoilt(sgd: Any, at: int) -> Any:
            result = run(sgd, at)
            if at == epoch:
                for table in sgd.tables:
                    table[len(table) // 2 :] = 0
                if isinstance(outcome, type):
                    raise outcome
                sgd.tables[1][0, 0] = outcome
            return result

        monkeypatch.setattr(sgd_training.Sgd, "run", spoilt)


@pytest.mark.parametrize("outcome", [KeyboardInterrupt, ZeroDivisionError, np.nan, np.inf, 1e30])
@pytest.mark.parametrize("name", MODELS)
def test_a_spoilt_epoch_is_undone(device: str, monkeypatch: pytest.MonkeyPatch, name: str, outcome: Any) -> None:
    def make(n_epochs: int) -> Any:
        return MODELS[name](4, n_epochs=n_epochs, optimizer="adam", schedule="constant", random_state=0, device=device)

    model = make(4)
    with monkeypatch.context() as patch:
        Spoils(patch, 2, outcome)
        with pytest.raises(outcome if isinstance(outcome, type) else DivergedError):
            model.fit(ratings())
    assert same_state(model, make(2).fit(ratings()))
    model.partial_fit(ratings(), n_epochs=2)
    assert same_state(model, make(4).fit(ratings()))


def test_a_spoilt_first_epoch_leaves_no_model(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = rf.BPR(4, n_epochs=2, device=device)
    Spoils(monkeypatch, 0, np.nan)
    with pytest.raises(DivergedError, match=r"epoch 1.*not fitted"):
        model.fit(ratings())
    assert not model.is_fitted


def test_divergence_names_the_epoch_and_a_remedy(device: str) -> None:
    model = rf.MF(8, learning_rate=0.9, n_epochs=200, init_scale=1.0, random_state=0, device=device)
    with pytest.raises(DivergedError, match=r"MF diverged in epoch \d+.*[Ll]ower learning_rate \(now 0.9\), raise reg"):
        model.fit(ratings(60, 40, 0.5) * np.float32(5))
    if model.is_fitted:
        assert np.isfinite(model.score(np.arange(60))).all()


def test_users_who_have_everything_are_left_out_and_it_is_said(device: str) -> None:
    matrix = sp.csr_array(np.ones((3, 5), np.float32))
    for name in ("bpr", "warp", "logistic"):
        with pytest.warns(UserWarning, match="15 of 15 samples.*every item"):
            model = MODELS[name](4, n_epochs=2, random_state=0, device=device).fit(matrix)
        assert model.history_["loss"] == [0.0, 0.0]
    dense = np.ones((3, 5), np.float32)
    dense[2, 1:] = 0
    with pytest.warns(UserWarning, match="10 of 11 samples") as caught:
        model = rf.BPR(4, n_epochs=3, random_state=0, device=device).fit(sp.csr_array(dense))
    assert len(caught) == 1
    assert model.recommend(2, n=5).ids[-1] == -1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rf.MF(4, n_epochs=1, device=device).fit(matrix)


BAD: list[tuple[str, str, Any, type[Exception]]] = [
    ("bpr", "learning_rate", 0, ValueError),
    ("bpr", "learning_rate", float("nan"), ValueError),
    ("bpr", "optimizer", "lbfgs", ValueError),
    ("bpr", "schedule", "step", ValueError),
    ("bpr", "negative", "hard", ValueError),
    ("bpr", "negative_exponent", -1.0, ValueError),
    ("bpr", "n_candidates", 0, ValueError),
    ("bpr", "sample_weight", True, ValueError),
    ("bpr", "balance", "both", ValueError),
    ("bpr", "balance_exponent", 1.5, ValueError),
    ("bpr", "deterministic", 1, TypeError),
    ("bpr", "item_bias", "yes", TypeError),
    ("bpr", "identity", None, TypeError),
    ("bpr", "init_scale", 0.0, ValueError),
    ("warp", "max_trials", 0, ValueError),
    ("warp", "negative", "adaptive", ValueError),
    ("warp", "n_os", -1, ValueError),
    ("warp", "k_os", 0, ValueError),
    ("logistic", "n_negatives", 0, ValueError),
    ("logistic", "alpha", 0.0, ValueError),
    ("logistic", "biases", 2, TypeError),
    ("mf", "loss", "hinge", ValueError),
    ("mf", "implicit_feedback", 1, TypeError),
]


@pytest.mark.parametrize(("name", "parameter", "value", "error"), BAD)
def test_ranges_are_checked(name: str, parameter: str, value: Any, error: type[Exception]) -> None:
    model = MODELS[name](4, **{parameter: value})
    for call in (model.fit, model.estimate_memory):
        with pytest.raises(error, match=parameter):
            call(ratings())
    assert not model.is_fitted


def test_values_that_make_no_sense_are_refused(device: str) -> None:
    for name in ("bpr", "warp", "logistic"):
        with pytest.raises(ValueError, match="smallest value"):
            MODELS[name](4, device=device).fit(ratings() - ratings() * 2)
    ones = rf.ops.as_csr(ratings())._replace(values=None)
    with pytest.raises(ValueError, match=r"without values.*BPR"):
        rf.MF(4, device=device).fit(ones)
    with pytest.raises(ValueError, match=r"got 1 to 5, expected 0 to 1"):
        rf.MF(4, loss="logistic", device=device).fit(ratings())
    with pytest.raises(ValueError, match="k_os"):
        rf.WARP(4, n_os=3, k_os=4, device=device).fit(ratings())


def test_more_factors_and_trials_than_items(device: str) -> None:
    for name in MODELS:
        model = MODELS[name](50, n_epochs=2, random_state=0, device=device).fit(ratings(12, 5, 0.4))
        assert model.recommend(n=9).ids.shape == (12, 9)
    model = rf.WARP(4, max_trials=64, n_os=64, k_os=40, n_epochs=2, device=device).fit(ratings(12, 5, 0.4))
    assert np.isfinite(model.score(np.arange(12))).all()


def test_early_stopping_restores_the_best_epoch(device: str, planted: Any) -> None:
    stop = rf.EarlyStopping("recall@20", patience=3)
    options = {"learning_rate": 0.3, "n_epochs": 60, "random_state": 0, "device": device}
    model = rf.BPR(8, **options).fit(planted.train, eval_set=planted.test, callbacks=[stop])
    assert model.n_epochs_ == stop.best_epoch < 60
    assert recall(model, planted) == pytest.approx(max(model.history_["recall@20"]))
