"""Autoencoders: what they compute, how new users come in, bad input, and quality on real data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.errors import DivergedError, NotSupportedError
from recsys_fast.models.mult_vae import MultinomialObjective
from tests.memory import traced_peak
from tests.models.cases import ratings, same_state
from tests.models.test_sgd_quality import movies, ndcg, split

__all__ = ["movies"]


def vae(device: str, **options: Any) -> rf.MultVAE:
    chosen: dict[str, Any] = {"batch_size": 8, "n_epochs": 3, "random_state": 0, "device": device, **options}
    return rf.MultVAE(3, (6,), **chosen)


def test_scores_are_those_of_the_formula(device: str) -> None:
    """Encoder, means, decoder and biases in plain NumPy."""
    model, x = vae(device).fit(ratings()), (ratings().toarray() > 0).astype(np.float64)
    network = model._net()
    view, names = network.parameters.view, network.parameters.names
    assert [name for name in names if name.endswith(".w")] == ["stats.w", "decoder0.w"]
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    first = np.tanh(unit @ network.tables[1].values + view("encoder.b"))
    mu = (first @ view("stats.w") + view("stats.b"))[:, :3]
    h = np.tanh(mu @ view("decoder0.w") + view("decoder0.b"))
    assert np.allclose(model.score(np.arange(30)), h @ network.items.values.T + network.items.bias, atol=1e-5)


def test_new_users_are_one_pass(device: str) -> None:
    model = vae(device).fit(ratings())
    queries = model.fold_in(ratings())
    assert queries.shape == (30, 7)
    assert np.allclose(queries @ model.item_factors_.T, model.score(np.arange(30)), atol=1e-6)
    found = model.recommend(user_items=ratings()[:4], n=5)
    assert np.array_equal(found.ids, model.recommend(np.arange(4), n=5).ids)
    by_items = rf.AutoRec(4, n_epochs=60, learning_rate=0.05, random_state=0, device=device).fit(ratings())
    mean = ratings().data.mean()
    assert np.allclose(by_items.fold_in(sp.csr_array((1, 20)))[0], [0, 0, 0, 0, mean])
    dense, known = ratings().toarray(), ratings().toarray() > 0
    fitted = by_items.fold_in(ratings()) @ by_items.item_factors_.T
    assert np.abs(fitted - dense)[known].mean() < 0.9 * np.abs(mean - dense)[known].mean()
    assert np.allclose(by_items.fold_in_items(ratings().T.tocsr()), by_items.item_factors_, atol=1e-6)
    with pytest.raises(NotSupportedError, match="users"):
        rf.AutoRec(4, side="users", n_epochs=1, device=device).fit(ratings()).fold_in_items(ratings().T)
    with pytest.raises(ValueError, match="shape"):
        model.fold_in(ratings(3, 21))


def test_users_are_what_they_did(device: str) -> None:
    model = vae(device).fit(ratings())
    model.partial_fit(ratings(1, 20, density=0.5, seed=9), users=[4])
    assert np.allclose(model.score(4), (model.fold_in(ratings(1, 20, density=0.5, seed=9)) @ model.item_factors_.T)[0])
    with pytest.raises(NotSupportedError, match="single items"):
        model.partial_fit(ratings(30, 1), items=[3])


def test_the_weight_of_the_divergence_grows_to_its_cap() -> None:
    weight = MultinomialObjective("float32", 0.2, 100).kl_weight
    assert [weight(s) for s in (0, 10, 20, 500)] == [0.0, 0.1, 0.2, 0.2]
    assert MultinomialObjective("float32", 0.3, 0).kl_weight(0) == 0.3


def test_the_divergence_holds_the_latent_variables_back(device: str) -> None:
    means = []
    for cap in (0.0, 5.0):
        model = vae(device, kl_cap=cap, kl_steps=0, dropout=0.0, n_epochs=15, learning_rate=0.05).fit(ratings())
        model.fold_in(ratings())
        latent = model._net().blocks[2]
        means.append(latent.divergence)
    assert means[1] < 0.1 * means[0]


@pytest.mark.parametrize(
    "model",
    [rf.MultVAE(3, (6,), learning_rate=1e5, optimizer="sgd", kl_steps=0, kl_cap=1.0), rf.MultDAE(3, learning_rate=1e6)],
    ids=["divergence", "weights"],
)
def test_training_that_explodes_leaves_no_model(model: Any, device: str) -> None:
    model.set_params(optimizer="sgd", n_epochs=50, batch_size=4, device=device, random_state=0)
    if type(model) is rf.MultDAE:
        model.set_params(learning_rate=1e6, activation="identity")
    with pytest.raises(DivergedError, match="lower learning_rate"):
        model.fit(ratings(n_users=60))
    assert not model.is_fitted or np.isfinite(model.score(np.arange(60))).all()


def test_the_loss_goes_down_without_knowing_of_empty_users(device: str) -> None:
    """Users without interactions have no part in a batch, and are scored all the same."""
    matrix = sp.vstack([ratings(), sp.csr_array((30, 20))]).tocsr()
    full = vae(device, n_epochs=20, dropout=0.0, kl_cap=0.0, learning_rate=0.02).fit(matrix)
    assert full.history_["loss"][-1] < 0.95 * full.history_["loss"][0]
    scores = full.score(np.arange(28, 40))
    assert np.isfinite(scores).all()
    assert np.array_equal(scores[3], scores[9])
    assert full.recommend(45, n=3).ids.min() >= 0


def test_values_count_where_asked_for(device: str) -> None:
    plain = vae(device).fit(ratings())
    assert plain.training_matrix_.values is None
    heavy = ratings().copy()
    heavy.data[:] = 3.0
    assert same_state(plain, vae(device).fit(heavy))
    weighted = vae(device, sample_weight="values").fit(heavy)
    assert weighted.history_["loss"][0] == pytest.approx(3 * plain.history_["loss"][0], rel=1e-4)


def test_bad_input_is_refused(device: str) -> None:
    bad = ratings()
    bad.data[3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        vae(device).fit(bad)
    bad.data[3] = -1.0
    with pytest.raises(ValueError, match="MultVAE takes for liked"):
        vae(device).fit(bad)
    with pytest.raises(ValueError, match="ratings"):
        rf.AutoRec(4, device=device).fit(rf.Interactions.from_coo([0, 1], [1, 0]))
    for error, options in (
        (TypeError, {"hidden": 600}),
        (ValueError, {"hidden": (0,)}),
        (ValueError, {"dropout": 1.0}),
        (ValueError, {"kl_cap": -0.1}),
        (ValueError, {"compute": "float16"}),
        (ValueError, {"activation": "gelu"}),
        (ValueError, {"sample_weight": "log"}),
    ):
        with pytest.raises(error, match=next(iter(options))):
            vae(device).set_params(**options).fit(ratings())
    with pytest.raises(ValueError, match="side"):
        rf.AutoRec(4, side="both", device=device).fit(ratings())


def test_other_layers_than_the_learned_ones_are_refused(device: str) -> None:
    model = vae(device).fit(ratings())
    with pytest.raises(ValueError, match="n_factors of a fitted MultVAE"):
        model.set_params(n_factors=4).recommend(0)
    model.set_params(n_factors=3, kl_cap=0.5, dropout=0.1).partial_fit(ratings())
    assert model.n_epochs_ == 4


def test_a_fit_allocates_what_it_says(device: str) -> None:
    rng = np.random.default_rng(0)
    data = sp.random_array((1500, 8000), density=0.004, rng=rng, format="csr", dtype=np.float32)
    for model in (rf.MultVAE(20, (64,)), rf.AutoRec(64)):
        model.set_params(n_epochs=1, device=device, n_threads=1, random_state=0)
        model.fit(data[:50])
        expected = model.estimate_memory(data)
        peak = traced_peak(lambda model=model: model.fit(data))
        assert 0.5 * expected["total"] < peak + expected["matrix"] < expected["total"] + (2 << 20)


def test_films_are_ranked_better_than_by_popularity(movies: Any, data_dir: Path) -> None:
    train, test = split(movies)
    popular = ndcg(rf.Popularity().fit(train), train, test)
    model = rf.MultVAE(50, (200,), kl_steps=300, batch_size=100, n_epochs=25, random_state=0).fit(train)
    assert ndcg(model, train, test) > max(0.33, 1.1 * popular)


def test_ratings_are_predicted_within_a_bound(movies: Any, data_dir: Path) -> None:
    train, test = split(movies)
    coo = test.tocoo()
    options: dict[str, Any] = {"learning_rate": 2e-3, "n_epochs": 15, "batch_size": 64, "random_state": 0}
    for side, bound in (("items", 0.905), ("users", 0.945)):
        model = rf.AutoRec(100, side=side, **options).fit(train)
        assert np.sqrt(np.mean((model.predict(coo.row, coo.col) - coo.data) ** 2)) < bound
