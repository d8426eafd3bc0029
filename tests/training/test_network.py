"""The gradient of whole networks, and what a step does and leaves."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast.blocks.base import PackedBatch, Runtime
from recsys_fast.training.network import Network
from tests.models.cases import sequences

NETWORKS: dict[str, dict[str, Any]] = {
    "published": {"loss": "bce", "norm": "query", "scale_items": True, "n_heads": 2, "n_blocks": 2},
    "ce": {"dropout": 0.3, "positions": "start", "activation": "gelu", "item_bias": True},
    "gbce": {"loss": "gbce", "n_negatives": 3, "norm": "post"},
    "sampled": {"n_negatives": 7, "negative_alpha": 0.5, "item_bias": True},
    "bpr_max": {"loss": "bpr_max", "n_negatives": 5},
    "top1 with negatives of rows": {"loss": "top1", "n_negatives": 2, "shared_negatives": False},
    "in batch": {"n_negatives": 0, "item_bias": True},
}


def network(kind: type[Any], options: dict[str, Any], dtype: Any = np.float64) -> tuple[Network, Any]:
    """A network in double precision, with a batch."""
    data = sequences(9, 15)
    model = kind(d=4, max_len=5, n_epochs=1, random_state=0, device="numba", **options)
    model._check_params()
    model._sequences, model._matrix, model.seed_ = data, data.seen, 0
    made = model._make_network(Runtime("numba", 1, dtype))
    made.objective = model._objective()
    generator = np.random.default_rng(0)
    made.initialise(generator)
    for array in (made.parameters.values, made.items.values, made.items.bias):
        array += 0.3 * generator.standard_normal(array.shape)
    return made, next(iter(model._batches().epoch(0)))


def loss_of(made: Network, batch: Any) -> float:
    packed = PackedBatch(batch.row_ptr, 0, 0, True)
    made.items.begin()
    loss, n, _ = made.objective(made, made.forward(batch, packed), batch, packed)
    return loss / n


def gradients(made: Network, batch: Any) -> dict[str, Any]:
    packed = PackedBatch(batch.row_ptr, 0, 0, True)
    made.items.begin()
    _, _, dh = made.objective(made, made.forward(batch, packed), batch, packed)
    made.backward(dh, packed)
    made.items.finish()
    items = made.items
    dense, bias = np.zeros_like(items.values), np.zeros_like(items.bias)
    if items.dtable is not None:
        dense[...] = items.dtable
        bias[...] = items.dbias[: len(bias)]
    else:
        dense[items.rows] = items.drows
        bias[items.rows if len(bias) else []] = items.dbias
    return {"parameters": made.parameters.gradients.copy(), "items": dense, "items.bias": bias}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_of_sasrec(name: str) -> None:
    check(rf.SASRec, {"dropout": 0.2, "n_blocks": 1, **NETWORKS[name]})


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_gradient_of_bert4rec(norm: str) -> None:
    check(rf.BERT4Rec, {"n_blocks": 1, "n_heads": 2, "norm": norm})


def check(kind: type[Any], options: dict[str, Any]) -> None:
    made, batch = network(kind, options)
    found = gradients(made, batch)
    rng, eps = np.random.default_rng(1), 1e-6
    for key, array in made.arrays().items():
        flat, gradient = array.reshape(-1), found[key].reshape(-1)
        assert np.isfinite(gradient).all()
        for at in rng.choice(flat.size, min(flat.size, 25), replace=False):
            kept = flat[at]
            flat[at] = kept + eps
            above = loss_of(made, batch)
            flat[at] = kept - eps
            below = loss_of(made, batch)
            flat[at] = kept
            expected = (above - below) / (2 * eps)
            assert abs(gradient[at] - expected) < 1e-6 * max(1.0, abs(expected)) + 1e-8, (key, int(at))


def test_a_step_moves_everything_and_counts() -> None:
    made, batch = network(rf.SASRec, {"n_blocks": 1}, np.float32)
    before = {name: array.copy() for name, array in made.arrays().items()}
    first = made.step(batch)
    after = made.arrays()
    assert made.steps == 1
    assert first[1] == batch.n_targets
    assert all(not np.array_equal(before[name], after[name]) for name in before)
    assert set(after) - set(before) == {f"optimizer.{n}.{m}" for n in ("parameters", "items") for m in "mv"}
    for _ in range(30):
        made.step(batch)
    assert made.step(batch)[0] < first[0]


def test_what_was_learned_can_be_put_back() -> None:
    made, batch = network(rf.SASRec, {"n_blocks": 1}, np.float32)
    made.step(batch)
    kept = {name: array.copy() for name, array in made.arrays().items()}
    expected = [made.step(batch) for _ in range(3)]
    made.restore(kept, 1)
    assert [made.step(batch) for _ in range(3)] == expected
    other, _ = network(rf.SASRec, {"n_blocks": 1}, np.float32)
    other.restore(kept, 1)
    assert [other.step(batch) for _ in range(3)] == expected


def test_memory_goes_with_its_owner() -> None:
    runtime = Runtime("numba", 1)

    class Owner:
        """Somebody who works."""

    one, other = Owner(), Owner()
    first, second = runtime.take(one, "x", (4, 2)), runtime.take(other, "x", (4, 2))
    assert np.shares_memory(runtime.take(one, "x", (3, 2)), first)
    assert not np.shares_memory(first, second)
    kept = weakref.ref(first.base)
    del one, first
    gc.collect()
    assert kept() is None
    assert np.shares_memory(runtime.take(other, "x", (4, 2)), second)


def test_a_batch_without_targets_changes_nothing() -> None:
    made, batch = network(rf.SASRec, {"n_blocks": 1}, np.float32)
    made.step(batch)
    before = {name: array.copy() for name, array in made.arrays().items()}
    assert made.step(batch._replace(targets=np.full_like(batch.targets, -1))) == (0.0, 0)
    assert made.steps == 1
    assert all(np.array_equal(array, before[name]) for name, array in made.arrays().items())
