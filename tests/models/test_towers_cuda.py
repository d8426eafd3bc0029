"""Two towers trained on CUDA, over the emulated grid: as on the CPU, with the network on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.errors import DeviceMemoryError, NotSupportedError
from recsys_fast.training import Checkpoint
from tests.models.cases import ratings
from tests.models.test_multimodal import content, encoders
from tests.models.test_sgd_features import features

pytestmark = pytest.mark.cuda_emulated

SMALL: dict[str, Any] = {"n_epochs": 2, "batch_size": 48, "learning_rate": 0.02, "random_state": 0}
BOTH: dict[str, Any] = {"user_features": features(30, 7), "item_features": features(20, 6, 1)}
TOWERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ids": (rf.TwoTower(4, normalize=False, n_negatives=5, **SMALL), {}),
    "features": (
        rf.TwoTower(4, hidden=(6,), activation="tanh", layer_norm=True, dropout=0.2, id_dropout=0.3, clip_norm=1.0,
                    optimizer="sgd", **{**SMALL, "learning_rate": 0.5}), BOTH
    ),
    "no ids": (
        rf.TwoTower(3, identity=False, pooling="sum", n_negatives=4, negative="popularity", log_q=0.5,
                    optimizer="adagrad", activation="gelu", hidden=(5,), **SMALL), BOTH
    ),
    "history": (
        rf.TwoTower(4, history=3, item_bias=True, id_dropout=0.5, temperature=0.3, n_negatives=5, **SMALL),
        {"item_features": features(20, 6, 1)},
    ),
    "decay": (rf.TwoTower(4, lazy_moments=False, weight_decay=0.01, schedule="cosine", **SMALL), {}),
}  # fmt: skip


def multimodal(*names: str, **how: Any) -> tuple[Any, dict[str, Any]]:
    """Return a model of some modalities, each missing of some items, and what ``fit`` takes."""
    how = {**SMALL, "n_epochs": 1, **how}
    return rf.Multimodal(encoders(*names), 4, **how), {"item_content": {n: content()[n] for n in names}}


FUSED = {
    "concat": multimodal("image", "text", "tags", modality_dropout=0.3, n_negatives=3),
    "gated": multimodal("text", "tags", fusion="gated", hidden=(5,), loss="bpr", n_negatives=3),
    "attention": multimodal("image", "tags", fusion="attention", normalize=False, identity=False),
    "tower": multimodal("text", identity=False),
}
EVERY = {**TOWERS, **FUSED}


def on(model: Any, device: str, **changed: Any) -> Any:
    """Return an unfitted copy of a model for another device."""
    return type(model)(**{**model.get_params(), "device": device, **changed})


def same(there: Any, here: Any, rtol: float = 1e-5) -> None:
    """Check that two models learned the same numbers."""
    assert there.history_["loss"] == pytest.approx(here.history_["loss"], rel=rtol)
    (got, steps), (want, wanted_steps) = there._held(), here._held()
    assert steps == wanted_steps
    assert got.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", EVERY)
def test_a_fit_is_the_fit_of_the_cpu(name: str, emulated_arrays: Any, tmp_path: Path) -> None:
    model, given = EVERY[name]
    matrix = ratings()
    here, there = on(model, "auto").fit(matrix, **given), on(model, "cuda").fit(matrix, **given)
    assert there._net().runtime.on_device
    assert emulated_arrays.is_array(there._net().towers[0].table.values)
    same(there, here)
    np.testing.assert_allclose(there.item_factors_, here.item_factors_, atol=1e-4)
    np.testing.assert_array_equal(there.recommend(n=4).ids, here.recommend(n=4).ids)
    np.testing.assert_allclose(there.fold_in(ratings(5, seed=3)), here.fold_in(ratings(5, seed=3)), atol=1e-4)
    np.testing.assert_array_equal(there.similar_items(2, n=3).ids, here.similar_items(2, n=3).ids)
    there.save(tmp_path / "model")
    for device in ("auto", "cuda"):
        loaded = rf.load(tmp_path / "model", device=device)
        np.testing.assert_array_equal(loaded.recommend(n=4).ids, here.recommend(n=4).ids)
    for one in (here, there):
        one.partial_fit(matrix)
    same(there, here, 1e-4)


@pytest.mark.parametrize("name", ["features", "concat"])
def test_cold_users_and_items(name: str, emulated_arrays: Any) -> None:
    model, given = EVERY[name]
    matrix, found = ratings(), []
    new = {"item_features": features(3, 6, 6)} if name == "features" else {"item_content": content(5, 7)}
    for device in ("auto", "cuda"):
        one = on(model, device, n_epochs=1).fit(matrix, **given)
        vectors = one.encode_items(*new.values())
        one.extend(**new)
        np.testing.assert_allclose(one.item_factors_[20:], vectors, atol=1e-6)
        n_items = one.training_matrix_.n_cols
        one.resize(33, n_items + 1)
        one.partial_fit(sp.csr_array(np.pad(matrix.toarray(), ((0, 3), (0, n_items - 19)), constant_values=1.0)))
        found.append((vectors, one))
    (vectors, here), (there_vectors, there) = found
    np.testing.assert_allclose(there_vectors, vectors, atol=1e-5)
    same(there, here, 1e-4)
    np.testing.assert_array_equal(there.recommend([0, 31], n=4).ids, here.recommend([0, 31], n=4).ids)
    if name == "features":
        users = features(4, 7, 5)
        np.testing.assert_allclose(there.encode_users(users), here.encode_users(users), atol=1e-4)


@pytest.mark.parametrize("name", ["features", "gated"])
def test_a_checkpoint_goes_on_with_the_same_bits(name: str, emulated_arrays: Any, tmp_path: Path) -> None:
    model, given = EVERY[name]
    path, matrix = tmp_path / "model", ratings()
    whole = on(model, "cuda", n_epochs=2).fit(matrix, **given)
    on(model, "cuda", n_epochs=1).fit(matrix, callbacks=[Checkpoint(path)], **given)
    kept = {key: value for key, value in given.items() if key == "item_content"}  # features are in the file
    again = type(model).resume(path, n_epochs=2, device="cuda", **kept)
    for key, array in whole._held()[0].items():
        np.testing.assert_array_equal(again._held()[0][key], array, err_msg=key)


@pytest.mark.parametrize("name", ["ids", "features", "concat", "attention"])
def test_memory_is_told_and_enough(name: str, emulated_arrays: Any) -> None:
    model, given = EVERY[name]
    model = on(model, "cuda", n_epochs=1)
    parts = model.estimate_memory(ratings(), **given)
    assert parts["total"] == sum(size for part, size in parts.items() if part not in ("device", "total"))
    assert "device" not in on(model, "auto").estimate_memory(ratings(), **given)
    emulated_arrays.module.take_peak()
    model.fit(ratings(), eval_set=ratings(seed=5), **given)
    assert 0 < emulated_arrays.module.take_peak() <= parts["device"]


@pytest.mark.parametrize("name", ["features", "attention"])
def test_what_has_no_room_is_refused_before_anything_is_lost(name: str, emulated_arrays: Any) -> None:
    model, given = EVERY[name]
    model = on(model, "cuda", n_epochs=1).fit(ratings(), **given)
    kept = model.item_factors_.copy()
    emulated_arrays.module.set_memory_limit(600)
    try:
        train: Callable[..., Any]
        for train, more in ((model.fit, given), (model.partial_fit, {})):
            with pytest.raises(DeviceMemoryError, match=f"device memory for {type(model).__name__}"):
                train(ratings(), **more)
    finally:
        emulated_arrays.module.set_memory_limit(1 << 34)
    np.testing.assert_array_equal(model.item_factors_, kept)


def test_a_network_without_kernels_says_so(emulated_arrays: Any) -> None:
    class Elsewhere(rf.TwoTower):
        def _has_kernels(self) -> bool:
            return False

    with pytest.raises(NotSupportedError, match="device of Elsewhere: got 'cuda'"):
        Elsewhere(n_epochs=1, device="cuda").fit(ratings())
