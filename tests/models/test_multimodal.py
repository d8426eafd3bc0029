"""Multimodal: gradients through encoders, cold items, missing modalities, training, files, bad input."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import recsys_fast as rf
from recsys_fast.blocks.base import Runtime
from recsys_fast.blocks.fusion import FUSIONS
from recsys_fast.errors import DivergedError, ModelFormatError, NotSupportedError
from recsys_fast.models import content_inputs
from recsys_fast.models.content_layers import as_layers
from recsys_fast.models.two_tower_training import PairBatch
from recsys_fast.serialization import write
from recsys_fast.training import Checkpoint
from tests.models.cases import ratings
from tests.models.test_files import contents
from tests.models.test_sgd_features import features

LAYERS = [("conv", 3, 3), ("pool", 2), ("dense", 6)]
_SMALL: dict[str, Any] = {"batch_size": 32, "learning_rate": 0.02, "n_epochs": 2, "random_state": 0}
KINDS = 3


def encoders(*names: str) -> dict[str, Any]:
    every = {
        "image": rf.ContentCNN(LAYERS, augmentation={"noise": 0.02}),
        "text": rf.ContentRNN("gru", 5, 6, dropout=0.1),
        "tags": "features",
    }
    return {name: every[name] for name in names or every}


def model_of(*names: str, **params: Any) -> Any:
    return rf.Multimodal(encoders(*names), 4, **{**_SMALL, **params})


def pictures(kind: Any, seed: int = 0) -> Any:
    """Pictures of 6 x 7 with stripes down, across, or none."""
    x = np.random.default_rng(seed).integers(0, 90, (len(kind), 6, 7, 1))
    x[kind == 1, ::2] += 120
    x[kind == 2, :, ::2] += 120
    return x.astype(np.uint8)


def tastes(seed: int = 0, n_users: int = 120, n_items: int = 60) -> tuple[Any, Any]:
    """Users of three kinds who like items of their kind; and the items' kinds."""
    rng = np.random.default_rng(seed)
    kind_of_user, kind = rng.integers(0, KINDS, n_users), np.arange(n_items) % KINDS
    chance = np.where(kind_of_user[:, None] == kind, 0.4, 0.02)
    return sp.csr_array((rng.random(chance.shape) < chance).astype(np.float32)), kind


def content(n: int = 20, seed: int = 0) -> dict[str, Any]:
    """All modalities of items, each missing of some, the text of item 3 by being empty, tags by an empty row."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % KINDS
    words = [f"word{k} some{int(i)}" for k, i in zip(kind, rng.integers(0, 5, n), strict=True)]
    words[3] = ""
    encoder = rf.data.TextEncoder().fit([f"word{k} some{i}" for k in range(KINDS) for i in range(5)])
    tags = features(n, 6, seed + 1).tolil()
    tags[4] = 0
    mask = np.arange(n) % 4 != 1
    return {"image": (pictures(kind, seed)[mask], mask), "text": encoder.tokens(words), "tags": tags.tocsr()}


def fitted(device: str = "auto", **params: Any) -> Any:
    return model_of(device=device, **params).fit(ratings(), item_content=content())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradients_are_those_of_finite_differences(fusion: str) -> None:
    """A step of gradient descent in float64 is the difference quotient of the loss it reports."""
    how: dict[str, Any] = {
        "optimizer": "sgd", "hidden": (3,) if fusion == "gated" else (), "activation": "tanh", "id_dropout": 0.3,
        "modality_dropout": 0.2, "loss": "bpr" if fusion == "attention" else "softmax", "n_negatives": 3,
    }  # fmt: skip
    encode = {"image": rf.ContentCNN([("conv", 2, 3), ("dense", 3)], activation="tanh"), "tags": "features"}
    given = {name: content()[name] for name in encode}
    model = rf.Multimodal(encode, 3, fusion=fusion, device="numba", **{**_SMALL, "n_epochs": 1, **how})
    model.fit(ratings(), item_content=given)
    network = model._make_network(Runtime("numba", 2, np.float64))
    network.initialise(np.random.default_rng(0))
    network.optimizer.learning_rate = 1.0
    csr = model.training_matrix_
    users = np.repeat(np.arange(30, dtype=np.int32), np.diff(csr.row_ptr))[::7]
    batch = PairBatch(users, csr.col_idx[::7])
    assert len(np.unique(batch.items)) < len(batch.items)
    arrays = {name: array.copy() for name, array in network.arrays().items()}
    moved: dict[str, Any] = {}

    def loss() -> float:
        total, n = network.step(batch)
        moved.update({name: array.copy() for name, array in network.arrays().items()})
        network.restore(arrays, 0)
        return total / n

    loss()
    gradients = {name: array - moved[name] for name, array in arrays.items()}
    rng = np.random.default_rng(1)
    for name, values in arrays.items():
        assert gradients[name].any(), name
        largest = np.argsort(-np.abs(gradients[name]).ravel())[:8]
        for i in [*largest, *rng.integers(0, values.size, 4)]:
            kept, sides = values.flat[i], []
            for other in (kept + 1e-6, kept - 1e-6):
                values.flat[i] = other
                network.restore(arrays, 0)
                sides.append(loss())
            values.flat[i] = kept
            assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(gradients[name].flat[i], rel=1e-4, abs=1e-6), name


def test_cold_items_are_found_by_their_pictures(device: str) -> None:
    matrix, kind = tastes()
    known, cold = matrix.toarray(), np.arange(0, 60, 5)
    known[:, cold] = 0
    model = model_of("image", n_epochs=15, id_dropout=0.5, device=device)
    model.fit(sp.csr_array(known), item_content={"image": pictures(kind)}, eval_set=matrix)
    assert model.history_["loss"][-1] < model.history_["loss"][0] - 0.3
    assert len(model.history_["recall@20"]) == 15
    assert not model._net().towers[1].table.values[cold].any(), "what has no interactions has no embedding of its own"
    ids = model.recommend(n=3, include=cold).ids
    hits = np.mean([matrix.toarray()[user][own].mean() for user, own in enumerate(ids)])
    assert hits > 1.5 * matrix.toarray()[:, cold].mean()
    tower = model_of("image", n_epochs=3, identity=False, loss="bpr", device=device)
    tower.fit(matrix, item_content={"image": pictures(kind)})
    assert tower.history_["loss"][-1] < tower.history_["loss"][0]
    np.testing.assert_allclose(tower.encode_items({"image": pictures(kind)}), tower.item_factors_, atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_any_subset_may_be_missing(fusion: str, device: str) -> None:
    model = fitted(device, fusion=fusion, modality_dropout=0.3)
    assert np.isfinite(model.item_factors_).all()
    whole = model.encode_items(content())
    own = model._net().towers[1].table.values
    assert not np.allclose(whole, model.item_factors_), "known items have embeddings of their own"
    assert np.allclose(whole[~own.any(1)], model.item_factors_[~own.any(1)], atol=1e-6)
    for names in (("image",), ("text",), ("tags",), ("text", "image")):
        part = {name: content()[name] for name in names}
        vectors = model.encode_items(part)
        assert np.isfinite(vectors).all()
        assert not np.allclose(vectors, whole)
    image, mask = content()["image"]
    spread = np.zeros((20, *image.shape[1:]), np.uint8)
    spread[mask] = image
    both = model.encode_items({"image": (spread, mask)}), model.encode_items({"image": (image, mask)})
    assert np.array_equal(*both)
    nothing = model.encode_items({"image": (spread, np.arange(20) < 1)})[1:]
    assert (nothing == nothing[0]).all(), "items without anything are alike"


def test_every_item_of_a_batch_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    plain = content_inputs.ImageInput.take

    def counted(self: Any, rows: Any) -> Any:
        taken.append(len(rows))
        return plain(self, rows)

    monkeypatch.setattr(content_inputs.ImageInput, "take", counted)
    given = {"image": pictures(np.arange(20) % 3)}
    model = model_of("image", batch_size=64, n_epochs=1).fit(ratings(), item_content=given)
    assert len(taken) == -(-model.training_matrix_.nnz // 64)
    assert max(taken) <= 19, "more interactions than items"


def test_items_of_content_alone(device: str, tmp_path: Path) -> None:
    matrix, new = ratings(), content(5, 7)
    model = fitted(device, hidden=(5,))
    vectors, before = model.encode_items(new), model.item_factors_.copy()
    model.save(tmp_path / "m")
    loaded = rf.load(tmp_path / "m", device=device)
    for each in (model, loaded):
        each.extend(item_content=new)
        assert each.training_matrix_.shape == (30, 25)
        assert np.array_equal(each.item_factors_[:20], before)
        np.testing.assert_allclose(each.item_factors_[20:], vectors, atol=1e-6)
        each.resize(32, 26)
        assert each.recommend([0, 31], n=4).ids.shape == (2, 4)
    assert np.array_equal(loaded.item_factors_, model.item_factors_)
    more = sp.csr_array(np.pad(matrix.toarray(), ((0, 2), (0, 6)), constant_values=1.0))
    model.partial_fit(more)
    assert model._net().towers[1].table.values[20:26].any()
    with pytest.raises(ValueError, match="item_content"):
        loaded.partial_fit(more)
    with pytest.raises(NotSupportedError, match="single items"):
        model.partial_fit(more[:, :2], items=[0, 1])
    grown = content(26)
    grown["image"] = pictures(np.arange(26) % 3)
    loaded.partial_fit(more, item_content=grown)
    assert loaded.n_epochs_ == 3


@pytest.mark.parametrize("params", [{"fusion": "gated", "dropout": 0.2, "hidden": (6,), "n_negatives": 5}, {}])
def test_same_bits_and_files(params: dict[str, Any], device: str, tmp_path: Path) -> None:
    matrix, given, path = ratings(), content(), tmp_path / "model"
    np.save(tmp_path / "x.npy", given["image"][0])
    mapped = {**given, "image": (np.load(tmp_path / "x.npy", mmap_mode="r"), given["image"][1])}
    how = {"device": device, "modality_dropout": 0.2, **params}
    whole = model_of(n_epochs=3, n_threads=1, **how).fit(matrix, item_content=given)
    half = model_of(n_epochs=2, n_threads=3, **how).fit(matrix, item_content=mapped, callbacks=[Checkpoint(path)])
    loaded = rf.load(path, device=device)
    assert np.array_equal(loaded.item_factors_, half.item_factors_)
    assert np.array_equal(loaded.recommend(n=5).ids, half.recommend(n=5).ids)
    assert as_layers(loaded.encoders["image"].layers) == as_layers(LAYERS)
    assert np.array_equal(loaded.encode_items(given), half.encode_items(given))
    resumed = rf.Multimodal.resume(path, item_content=given, n_epochs=3, device=device)
    assert resumed.n_epochs_ == 3
    for name, array in whole._held()[0].items():
        assert np.array_equal(array, resumed._held()[0][name]), name
    with pytest.raises(ValueError, match="without content"):
        rf.Multimodal.resume(path, n_epochs=3, device=device)
    twin = pickle.loads(pickle.dumps(whole))
    assert np.array_equal(twin.item_factors_, whole.item_factors_)
    assert twin._content is None
    other = model_of(n_epochs=3, **how).set_params(random_state=1).fit(matrix, item_content=given)
    assert not np.array_equal(other.item_factors_, whole.item_factors_)


def test_the_best_epoch_is_put_back() -> None:
    matrix, kind = tastes()
    stop = rf.EarlyStopping("ndcg@10", patience=1)
    model = model_of("image", n_epochs=20, learning_rate=0.2)
    model.fit(matrix, item_content={"image": pictures(kind)}, eval_set=(matrix, matrix[:, ::-1]), callbacks=[stop])
    assert model.n_epochs_ == stop.best_epoch < 20
    assert np.isfinite(model.item_factors_).all()


def test_users_have_features_too(device: str) -> None:
    model = model_of("tags", device=device)
    model.fit(ratings(), item_content={"tags": content()["tags"]}, user_features=features(30, 7))
    vectors = model.encode_users(features(2, 7, 5))
    model.extend(user_features=features(2, 7, 5))
    np.testing.assert_allclose(model.user_factors_[30:], vectors, atol=1e-6)
    assert model.fold_in(ratings()).shape == (30, 4)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "model"
    fitted(n_epochs=1).save(path)
    arrays, metadata = contents(path)
    changes = {
        "network.items": lambda a: a[:-1],
        "item_vectors": lambda a: a * np.nan,
        "network.tags_features": lambda a: a[:, :-1],
        "network.parameters": lambda a: a[1:],
    }
    for name, change in changes.items():
        write(path, {**arrays, name: change(arrays[name]).astype(arrays[name].dtype)}, metadata)
        with pytest.raises(ModelFormatError):
            rf.load(path)
    texts = [('"shape": [6, 7, 1]', '"shape": [6, 7]'), ('"ContentCNN"', '"Popularity"'), ('"tags"', '"a b"')]
    for old, new in texts:
        assert old in metadata["state"]
        write(path, arrays, {**metadata, "state": metadata["state"].replace(old, new)})
        with pytest.raises(ModelFormatError):
            rf.load(path)


def test_divergence_leaves_the_last_epoch(device: str) -> None:
    given = {"image": content()["image"]}
    model = model_of("image", device=device, optimizer="sgd", normalize=False, n_epochs=1)
    model.fit(ratings(), item_content=given)
    model.set_params(learning_rate=1e6, temperature=1e-6)
    with pytest.raises(DivergedError, match="learning_rate"):
        model.partial_fit(ratings(), n_epochs=30)
    assert np.isfinite(model.item_factors_).all()
    assert model.n_epochs_ >= 1


def test_content_that_is_refused(device: str) -> None:
    matrix, given = ratings(), content()
    mask, text = given["image"][1], given["text"]
    full = pictures(np.arange(20) % 3)
    model = fitted(device)
    other = rf.data.TextEncoder().fit(["other words"]).tokens(["other", "words"] * 10)
    for change, error, match in [
        ({"image": full[:19]}, ValueError, "one per item"),
        ({"image": (full, mask[:19])}, ValueError, "length of the mask"),
        ({"image": (full[:7], mask)}, ValueError, "one per True"),
        ({"image": (full, mask.astype(int))}, TypeError, "mask"),
        ({"image": full[..., 0].astype(int)}, TypeError, "dtype"),
        ({"image": full / np.nan}, ValueError, "NaN"),
        ({"image": (full, np.zeros(20, bool))}, ValueError, "missing for every item"),
        ({"image": None}, ValueError, "nothing"),
        ({"text": text._replace(ids=text.ids[:0], row_ptr=text.row_ptr * 0)}, ValueError, "missing for every item"),
        ({"tags": sp.csr_array((20, 3), dtype=np.float32)}, ValueError, "missing for every item"),
        ({"tags": given["tags"][:19]}, ValueError, "one per item"),
        ({"sound": full}, ValueError, "sound"),
    ]:
        with pytest.raises(error, match=match):
            model_of(device=device).fit(matrix, item_content={**given, **change})
    for change, error, match in [
        ({"image": full[:, :5]}, ValueError, "as in fit"),
        ({"text": other}, ValueError, "vocabulary"),
        ({"tags": given["tags"][:, :3]}, ValueError, "shape"),
        ({}, ValueError, "nothing"),
        ({"image": full, "tags": given["tags"][:7]}, ValueError, "one per item"),
    ]:
        with pytest.raises(error, match=match):
            model.encode_items(change)
    for wrong in (None, full):
        with pytest.raises(TypeError, match="item_content"):
            model_of(device=device).fit(matrix, item_content=wrong)
    with pytest.raises(ValueError, match="encoders"):
        rf.Multimodal().fit(matrix, item_content={})
    with pytest.raises(ValueError, match="Multimodal takes for liked"):
        model_of(device=device).fit(-matrix, item_content=given)
    with pytest.raises(ValueError, match=r"does not fit|layers"):
        rf.Multimodal({"image": rf.ContentCNN([("conv", 2, 9)])}).fit(matrix, item_content={"image": full})
    empty = model_of(device=device).fit(sp.csr_array((4, 20), dtype=np.float32), item_content=given)
    assert np.isfinite(empty.item_factors_).all()


def test_what_the_network_was_built_by_may_not_change() -> None:
    model = fitted()
    model.encoders["image"].layers = [("dense", 7)]
    with pytest.raises(ValueError, match="encoders of a fitted"):
        model.recommend(0)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"encoders": [1]}, TypeError),
        ({"encoders": {"image": "cnn"}}, TypeError),
        ({"encoders": {"a.b": "features"}}, ValueError),
        ({"encoders": {"a": rf.ContentCNN([("conv", 0, 3)])}}, ValueError),
        ({"fusion": "sum"}, ValueError),
        ({"loss": "bce"}, ValueError),
        ({"modality_dropout": 1.0}, ValueError),
        ({"temperature": 0.0}, ValueError),
        ({"identity": 1}, TypeError),
    ],
)
def test_parameters(params: dict[str, Any], error: type[Exception]) -> None:
    name = next(iter(params))
    with pytest.raises(error, match="size in" if "a" in params.get("encoders", ()) else name):
        model_of().set_params(**params).fit(ratings(), item_content=content())


def test_memory_is_estimated() -> None:
    parts = model_of().estimate_memory(ratings(), item_content=content())
    assert parts["encoders"] > 0
    assert parts["total"] == sum(size for name, size in parts.items() if name != "total")
