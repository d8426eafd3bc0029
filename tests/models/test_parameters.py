from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.errors import DeviceError
from tests.models.cases import MODELS, ratings, same_state

Make = Callable[..., Any]


@pytest.mark.parametrize("name", MODELS)
def test_parameters_like_scikit_learn(name: str) -> None:
    model = MODELS[name]()
    params = model.get_params()
    twin = type(model)(**params)
    assert twin.get_params(deep=False) == params
    assert all(twin.get_params()[key] is value for key, value in params.items())
    assert model.set_params(n_threads=2) is model
    assert model.get_params()["n_threads"] == 2
    with pytest.raises(ValueError, match=r"no parameter 'factors'.*n_threads"):
        model.set_params(n_threads=3, factors=5)
    assert model.n_threads == 2


def test_scikit_learn_clones_them(device: str) -> None:
    base = pytest.importorskip("sklearn.base")
    for make in MODELS.values():
        model = make(device=device).fit(ratings())
        twin = base.clone(model)
        assert not twin.is_fitted
        assert twin.get_params() == model.get_params()


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(rf.ALS()) == "ALS()"
    assert repr(rf.ALS(8, solver="cg", random_state=1)) == "ALS(n_factors=8, solver='cg', random_state=1)"
    assert repr(rf.ALS(alpha=1)) == "ALS(alpha=1)"
    assert repr(rf.Popularity("sum")) == "Popularity(by='sum')"


BAD: list[tuple[str, Any, type[Exception]]] = [
    ("n_factors", 0, ValueError),
    ("n_factors", -3, ValueError),
    ("n_factors", 2.0, TypeError),
    ("n_factors", True, TypeError),
    ("n_factors", 10**9, ValueError),
    ("regularization", -0.1, ValueError),
    ("regularization", float("nan"), ValueError),
    ("regularization", float("inf"), ValueError),
    ("regularization", "0.1", TypeError),
    ("nu", -1, ValueError),
    ("unobserved_weight", -1, ValueError),
    ("alpha", 0, ValueError),
    ("feedback", "both", ValueError),
    ("objective", "als", ValueError),
    ("solver", "lu", ValueError),
    ("solver", 1, ValueError),
    ("n_cg_steps", 0, ValueError),
    ("block_size", 0, ValueError),
    ("n_epochs", 0, ValueError),
    ("n_epochs", 1.5, TypeError),
    ("init_scale", 0, ValueError),
    ("random_state", -1, ValueError),
    ("random_state", "seed", TypeError),
    ("n_threads", 0, ValueError),
    ("n_threads", 1.5, TypeError),
    ("device", "tpu", ValueError),
    ("device", "cuda", DeviceError),
]


@pytest.mark.parametrize(("name", "value", "error"), BAD)
def test_ranges_are_checked_by_fit_and_the_constructor_only_assigns(name: str, value: Any, error: type) -> None:
    model = rf.ALS(4, **{name: value}) if name != "n_factors" else rf.ALS(value)
    assert model.get_params()[name] is value
    for call in (model.fit, model.partial_fit, model.estimate_memory):
        if call != model.estimate_memory or name not in ("device", "n_threads"):
            with pytest.raises(error, match=name):
                call(ratings())
    assert not model.is_fitted


def test_popularity_parameters() -> None:
    with pytest.raises(ValueError, match="by"):
        rf.Popularity("votes").fit(ratings())


def test_seeds_of_every_kind(device: str) -> None:
    def factors(seed: Any) -> Any:
        return rf.ALS(4, n_epochs=1, random_state=seed, device=device).fit(ratings())

    assert same_state(factors(3), factors(np.int64(3)))
    assert factors(2**64 - 1).seed_ == 2**64 - 1
    assert not np.array_equal(factors(3)._items, factors(4)._items)
    assert not np.array_equal(factors(None)._items, factors(None)._items)
    for make in (np.random.default_rng, np.random.RandomState):
        first = factors(make(5))
        assert same_state(first, factors(make(5)))
        assert same_state(first, factors(first.seed_))
        generator = make(5)
        assert factors(generator).seed_ != factors(generator).seed_
    unfitted = np.random.default_rng(5)
    with pytest.raises(ValueError, match="nu"):
        rf.ALS(4, nu=-1, random_state=unfitted).fit(ratings())
    assert unfitted.integers(100) == np.random.default_rng(5).integers(100)


def test_copies_and_pickles_are_independent(make: Make) -> None:
    model = make().fit(ratings())
    model.recommend(0)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same_state(model, twin)
        np.testing.assert_array_equal(twin.recommend(n=5).ids, model.recommend(n=5).ids)
        before = model.score(2).copy()
        twin.fit(ratings(10, 9))
        np.testing.assert_array_equal(model.score(2), before)


def test_memory_estimate_covers_what_is_held(make: Make) -> None:
    matrix = ratings()
    model = make().fit(matrix)
    parts = model.estimate_memory(matrix)
    held = sum(getattr(model, name).nbytes for name in model._learned if hasattr(getattr(model, name), "nbytes"))
    assert parts["total"] == sum(size for name, size in parts.items() if name != "total")
    assert parts["total"] >= held + matrix.data.nbytes + matrix.indices.nbytes
