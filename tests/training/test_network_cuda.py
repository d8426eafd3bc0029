"""A network on the device: the emulated grid trains as the CPU does, and its arrays come and go."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast import ops
from recsys_fast.blocks.base import PackedBatch, Runtime
from recsys_fast.blocks.embedding import Embedding, ItemTable
from recsys_fast.blocks.losses import ItemLoss
from recsys_fast.errors import DivergedError, NotSupportedError
from recsys_fast.training.network import Network, NetworkTrainer
from recsys_fast.training.next_item import NextItem
from recsys_fast.training.optimizers import Optimizer
from tests.models.cases import sequences

pytestmark = pytest.mark.cuda_emulated

N, D, LENGTHS = 40, 12, (5, 0, 9, 1, 7)
COUNTS = np.random.default_rng(3).integers(1, 30, N)
LOSSES: dict[str, dict[str, Any]] = {
    "ce": {},
    "bce": {"n_negatives": 3},
    "gbce": {"n_negatives": 6, "shared": True},
    "sampled_ce": {"n_negatives": 4, "negatives": "popularity", "log_q": 1.0},
    "bpr_max": {"negatives": "in_batch", "log_q": 0.5},
}


class Batch(NamedTuple):
    """Items that follow each other: the next one is the last one's successor."""

    items: np.ndarray
    targets: np.ndarray
    row_ptr: np.ndarray


def batches() -> list[Batch]:
    row_ptr = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64)
    rng, found = np.random.default_rng(0), []
    for _ in range(3):
        items = rng.integers(0, N, row_ptr[-1]).astype(np.int32)
        targets = ((items + 1) % N).astype(np.int32)
        targets[rng.random(len(targets)) < 0.1] = -1
        found.append(Batch(items, targets, row_ptr))
    return found


def make(device: str, loss_kind: str, bias: bool = True, **options: Any) -> Network:
    table = ItemTable(N + 1, D, bias=bias, scale=0.3)
    blocks = {"embedding": Embedding(table, max(LENGTHS), 0.2, from_end=True, scale=1.5)}
    loss = NextItem(ItemLoss(loss_kind, N, counts=COUNTS, **LOSSES[loss_kind]))
    optimizer = Optimizer(**({"learning_rate": 0.05, "clip_norm": 1.0} | options))
    network = Network(table, blocks, loss, optimizer, Runtime(device, 2), seed=5)  # type: ignore[arg-type]
    network.initialise(np.random.default_rng(1))
    return network


def train(network: Network, n_epochs: int = 3) -> list[float]:
    return [sum(network.step(batch)[0] for batch in batches()) for _ in range(n_epochs)]


@pytest.mark.parametrize("kind", LOSSES)
def test_trains_as_on_the_cpu(kind: str, emulated_arrays: Any) -> None:
    there, here = make("cuda", kind, bias=kind != "gbce"), make("auto", kind, bias=kind != "gbce")
    assert emulated_arrays.is_array(there.items.values)
    losses = train(there)
    assert losses[-1] < losses[0]
    assert losses == pytest.approx(train(here), rel=1e-5)
    expected = here.arrays()
    for name, array in there.arrays().items():
        assert isinstance(array, np.ndarray)
        assert np.abs(array - expected[name]).max(initial=0.0) < 1e-4, name


@pytest.mark.parametrize("options", [{"kind": "adamw", "weight_decay": 0.1, "sparse": False}, {"kind": "adagrad"}])
def test_optimizers_on_the_device(options: dict[str, Any], emulated_arrays: Any) -> None:
    there, here = make("cuda", "bce", **options), make("auto", "bce", **options)
    assert train(there) == pytest.approx(train(here), rel=1e-5)


def test_what_was_learned_moves_between_devices(emulated_arrays: Any) -> None:
    there, here = make("cuda", "ce"), make("auto", "ce")
    train(here, 1)
    there.restore(here.arrays(), here.steps)
    assert emulated_arrays.is_array(there.optimizer.state()["items.m"])
    assert all(np.array_equal(array, here.arrays()[name]) for name, array in there.arrays().items())
    assert train(there, 1) == pytest.approx(train(here, 1), rel=1e-5)


def test_an_epoch_that_diverges_is_taken_back(emulated_arrays: Any) -> None:
    network = make("cuda", "ce")
    model = SimpleNamespace(is_fitted=True, n_epochs_=1, _changed=lambda: None)
    trainer = NetworkTrainer(model, network, SimpleNamespace(epoch=lambda _: batches()))
    assert math.isfinite(trainer.epoch())
    before = network.arrays()
    network.optimizer.learning_rate, network.optimizer.clip_norm = 1e30, None
    with pytest.raises(DivergedError, match="diverged in epoch 2"):
        trainer.epoch()
    trainer.rollback()
    assert all(np.array_equal(array, before[name]) for name, array in network.arrays().items())


def test_two_dense_gradients_add_up_and_pairs_of_two_widths(emulated_arrays: Any) -> None:
    found = []
    for device in ("cuda", "auto"):
        runtime, rng = Runtime(device, 1), np.random.default_rng(2)
        table = ItemTable(6, 3, bias=True)
        table.connect(runtime, 0)
        h = runtime.upload(rng.standard_normal((2, 3)).astype(np.float32))
        for width in (1, 2):
            coef = runtime.upload(rng.standard_normal((2, width)).astype(np.float32))
            table.add_pairs(rng.integers(0, 6, (2, width)).astype(np.int32), coef, h)
        table.add_rows(np.array([1, 5], np.int32), h)
        table.add_rows(np.array([1, -1], np.int32), h, runtime.upload(np.ones(2, np.float32)))
        for n in (4, 6):
            given = rng.standard_normal((n, 4)).astype(np.float32)
            table.add_dense(runtime.upload(given[:, :3].copy()), runtime.upload(given[:, 3].copy()))
        table.finish()
        found.append([runtime.to_host(array) for array in (table.dtable, table.dbias)])
    for there, here in zip(*found, strict=True):
        assert np.allclose(there, here, rtol=1e-6, atol=1e-6)


def test_what_has_no_kernel_says_so(emulated_arrays: Any) -> None:
    with pytest.raises(NotSupportedError, match="gru_layer_forward_of_nowhere has no CUDA kernel"):
        Runtime("cuda").run("gru_layer_forward_of_nowhere")


def test_operations_take_arrays_on_the_device(emulated_arrays: Any) -> None:
    rng, up = np.random.default_rng(4), emulated_arrays.asarray
    table, h = (rng.standard_normal((n, 5)).astype(np.float32) for n in (9, 4))
    ids, bias = np.array([3, -1, 8, 3], np.int32), rng.standard_normal(9).astype(np.float32)
    there = ops.softmax_loss(up(h), up(table), up(ids), bias=up(bias))
    here = ops.softmax_loss(h, table, ids, bias=bias)
    assert all(emulated_arrays.is_array(array) for array in there[1:])
    assert there.loss == pytest.approx(here.loss, rel=1e-6)
    assert all(np.allclose(a.get(), b, atol=1e-6) for a, b in zip(there[1:], here[1:], strict=True))
    rows = ops.embedding_forward(up(table), up(ids), up(np.array([0, 4])), positions=up(h))
    assert np.allclose(rows.get(), ops.embedding_forward(table, ids, positions=h))
    plan = ops.id_plan(up(ids), 9)
    drows, dbias = ops.table_gradient(plan, 5, dx=up(h))
    assert np.allclose(drows.get(), [h[0] + h[3], h[2]])
    assert emulated_arrays.is_array(dbias)
    assert ops.table_add(drows, [0, 1], dx=up(h[:2])) is drows
    assert np.allclose(drows.get(), [h[0] + h[3] + h[0], h[2] + h[1]])
    m, v, moved, plain = up(np.zeros(9)), up(np.zeros(9)), up(bias), bias.copy()
    ops.optimizer_step(moved, up(bias), *(emulated_arrays.asarray(x, np.float32) for x in (m, v)), step=1)
    ops.optimizer_step(plain, bias.copy(), *np.zeros((2, 9), np.float32), step=1)
    assert np.allclose(moved.get(), plain, atol=1e-6)
    assert ops.square_sum(up(table)) == pytest.approx(float((table.astype(np.float64) ** 2).sum()))
    loss, slope = ops.regression_loss(up(bias), up(np.zeros(9)))
    assert loss == pytest.approx(float((bias**2).sum()), rel=1e-6)
    assert np.allclose(slope.get(), 2 * bias)
    with pytest.raises(TypeError, match=r"h on the device and table .ndarray. in host memory"):
        ops.softmax_loss(up(h), table, ids)


def test_a_batch_keeps_its_pointers_on_both_sides(emulated_arrays: Any) -> None:
    batch = PackedBatch.on(Runtime("cuda"), np.array([0, 2, 5]), 1)
    assert emulated_arrays.is_array(batch.row_ptr)
    assert (batch.n_rows, batch.n_sequences, batch.cuts.tolist()) == (5, 2, [0, 2, 5])


@pytest.mark.parametrize("name", ["sasrec", "gru"])
def test_blocks_never_wait_for_the_device(name: str, emulated_arrays: Any) -> None:
    """Forward and backward only launch; a step waits for the number of targets, the loss and the rows it touched."""
    made = {"sasrec": rf.SASRec(8, 2, 2, loss="ce", max_len=9), "gru": rf.GRU4Rec(8, 2, session_parallel=False)}
    model = made[name].set_params(device="cuda", n_epochs=1, batch_size=4, random_state=0).fit(sequences(12, 15, 8))
    network, counts = model._net(), emulated_arrays.module.counts
    batch = next(iter(model._batches().epoch(0)))
    packed = network.pack(batch)
    before = counts()
    for table in network.tables:
        table.begin()
    h = network.forward(batch, packed)
    network.backward(network.runtime.copy(h), packed)
    launches, waits, _ = np.subtract(counts(), before)
    assert launches > 10
    assert waits == 0
    network.objective = model._objective()
    before = counts()
    network.step(batch)
    assert np.subtract(counts(), before)[1] <= 3
