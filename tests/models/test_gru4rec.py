"""GRU4Rec against a plain loop in double precision, and what its lanes, cells and cuts through time do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import recsys_fast as rf
from recsys_fast import ops
from recsys_fast.blocks.base import PackedBatch
from recsys_fast.blocks.losses import ItemLoss
from recsys_fast.models.gru4rec import LaneNetwork
from recsys_fast.training.network import NetworkTrainer
from tests.models.cases import same_state, sequences

F64 = NDArray[np.float64]
SMALL: dict[str, Any] = {"d": 8, "batch_size": 5, "n_negatives": 6, "n_epochs": 2, "random_state": 0}


def trainer_of(model: rf.GRU4Rec, data: rf.Sequences) -> NetworkTrainer:
    """Return what ``fit`` would train with, before the first step."""
    model._check_params()
    model._take_over(data)
    return model._begin()


class PlainLoop:
    """The published training written down: one event of each lane a step, no tricks."""

    def __init__(self, trainer: NetworkTrainer, data: rf.Sequences, model: rf.GRU4Rec) -> None:
        network, self.model, self.data, self.seed = trainer.network, model, data, trainer.network.seed
        self.items, self.bias = network.items.values.astype(np.float64), network.items.bias.astype(np.float64)
        names = ("w_x", "w_h", "b_x", "b_h")
        self.weights = {name: network.parameters.view(f"recurrent0.{name}").astype(np.float64) for name in names}
        self.sums: dict[str, F64] = {}
        self.states = np.zeros((model.batch_size, model.d))

    def step(self, batch: Any, number: int) -> float:
        """Train one step; return the sum of the loss."""
        d, n, k = self.model.d, len(batch.items), self.model.n_negatives
        before = self.states[batch.lanes]
        before[batch.first] = 0.0
        x = self.items[batch.items]
        gx = (x @ self.weights["w_x"] + self.weights["b_x"]).reshape(n, 3, d)
        gh = (before @ self.weights["w_h"] + self.weights["b_h"]).reshape(n, 3, d)
        r, z = (1.0 / (1.0 + np.exp(-(gx[:, g] + gh[:, g]))) for g in range(2))
        new = np.tanh(gx[:, 2] + r * gh[:, 2])
        h = (1.0 - z) * new + z * before
        self.states[batch.lanes] = h

        counts = self.data.item_counts.astype(np.float64)
        weights = counts**self.model.negative_alpha * (counts > 0)
        drawn = ops.negatives_draw(k, len(counts), weights=weights, seed=self.seed, epoch=number)
        candidates = np.concatenate([batch.targets, drawn])
        expected = n * (counts / counts.sum())[candidates] + k * (weights / weights.sum())[candidates]
        scores = h @ self.items[candidates].T + self.bias[candidates] - self.model.log_q * np.log(expected)
        own = np.eye(n, len(candidates), dtype=bool)
        scores[(candidates == batch.targets[:, None]) & ~own] = -np.inf
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        ds = (p - own) / self.model.batch_size  # as the official code does, also when fewer lanes are left

        dh = ds @ self.items[candidates]
        d_new = dh * (1.0 - z) * (1.0 - new**2)
        d_z = dh * (before - new) * z * (1.0 - z)
        d_r = d_new * gh[:, 2] * r * (1.0 - r)
        dgx, dgh = np.hstack([d_r, d_z, d_new]), np.hstack([d_r, d_z, d_new * r])
        d_items, d_bias = np.zeros_like(self.items), np.zeros_like(self.bias)
        np.add.at(d_items, batch.items, dgx @ self.weights["w_x"].T)
        np.add.at(d_items, candidates, ds.T @ h)
        np.add.at(d_bias, candidates, ds.sum(axis=0))
        gradients = {"w_x": x.T @ dgx, "w_h": before.T @ dgh, "b_x": dgx.sum(axis=0), "b_h": dgh.sum(axis=0)}
        for name, values in self.weights.items():
            self._adagrad(name, values, gradients[name])
        self._adagrad("items", self.items, d_items)
        self._adagrad("bias", self.bias, d_bias)
        return float(-np.log(p[own]).sum())

    def _adagrad(self, name: str, values: F64, gradient: F64) -> None:
        total = self.sums.setdefault(name, np.zeros_like(values))
        total += gradient**2
        values -= self.model.learning_rate * gradient / np.sqrt(total + 1e-6)


@pytest.mark.parametrize("log_q", [0.0, 0.7])
@pytest.mark.parametrize("shuffle", [False, True])
def test_training_is_the_plain_loop(device: str, log_q: float, shuffle: bool) -> None:
    data = sequences()
    model = rf.GRU4Rec(**SMALL, log_q=log_q, shuffle=shuffle, device=device)
    trainer = trainer_of(model, data)
    network, plain = trainer.network, PlainLoop(trainer, data, model)
    assert isinstance(network, LaneNetwork)
    resets = [0, 0]
    for k in range(2):
        for batch in trainer.batches.epoch(k):
            expected = plain.step(batch, network.steps)
            loss, n = network.step(batch)
            assert n == len(batch.items)
            np.testing.assert_allclose(loss, expected, rtol=2e-4)
            np.testing.assert_allclose(network._after[0][0], plain.states[batch.lanes], atol=2e-4)
            resets[0] += int(batch.first.sum())
            resets[1] += int((~batch.first).sum())
    assert min(resets) > 20
    np.testing.assert_allclose(network.items.values, plain.items, atol=2e-4)
    np.testing.assert_allclose(network.items.bias, plain.bias, atol=2e-4)
    for name, values in plain.weights.items():
        np.testing.assert_allclose(network.parameters.view(f"recurrent0.{name}"), values, atol=2e-4)
    whole = model.fit(data)
    np.testing.assert_array_equal(whole._net().items.values, network.items.values)


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_lanes_go_on_as_whole_sessions_would(device: str, cell: str, n_layers: int) -> None:
    """Step by step, with new sessions in the lanes, the outputs are those of sessions as a whole."""
    data = sequences()
    trainer = trainer_of(rf.GRU4Rec(**SMALL, cell=cell, n_layers=n_layers, device=device), data)
    network = trainer.network
    network.parameters.values[:] += np.random.default_rng(1).normal(0.0, 0.3, network.parameters.values.shape)
    outputs: dict[int, list[Any]] = {user: [] for user in range(data.n_users)}
    for batch in trainer.batches.epoch(0):
        h = network.forward(batch, PackedBatch(batch.row_ptr, training=True))
        for user, row in zip(batch.users.tolist(), h, strict=True):
            outputs[user].append(row.copy())
    assert sum(len(rows) for rows in outputs.values()) == np.maximum(data.lengths - 1, 0).sum()
    for user, rows in outputs.items():
        events = data[user][: len(rows)]
        whole = type("History", (), {"items": np.ascontiguousarray(events)})
        packed = PackedBatch(np.array([0, len(events)], np.int64))
        if len(events):
            np.testing.assert_allclose(np.stack(rows), network.forward(whole, packed), atol=1e-5)


def test_hidden_dropout_is_carried_on(device: str) -> None:
    trainer = trainer_of(rf.GRU4Rec(**SMALL, dropout_hidden=0.5, device=device), sequences())
    network, batch = trainer.network, next(iter(trainer.batches.epoch(0)))
    h = network.forward(batch, PackedBatch(batch.row_ptr, training=True))
    np.testing.assert_array_equal(network._after[0][0], h)
    assert 0 < (h == 0).sum() < h.size
    assert not (network.forward(batch, PackedBatch(batch.row_ptr)) == 0).any()


@pytest.mark.parametrize("loss", ["bce", "ce", "bpr_max"])
@pytest.mark.parametrize("session_parallel", [True, False])
def test_verified_negatives(device: str, loss: str, session_parallel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    data, drawn, run = sequences(), [], ItemLoss.loss

    def spy(self: ItemLoss, table: Any, h: Any, targets: Any, batch: Any, negatives: Any, n_mean: Any) -> Any:
        drawn.append(negatives.copy())
        return run(self, table, h, targets, batch, negatives, n_mean=n_mean)

    how = {**SMALL, "loss": loss, "shared_negatives": False, "verify_negatives": True}
    trainer = trainer_of(rf.GRU4Rec(**how, session_parallel=session_parallel, device=device), data)
    monkeypatch.setattr(ItemLoss, "loss", spy)
    for batch in trainer.batches.epoch(0):
        trainer.network.step(batch)
        users = np.repeat(batch.users, np.diff(batch.row_ptr))
        assert drawn[-1].shape == (len(users), 6)
        for user, row in zip(users.tolist(), drawn[-1], strict=True):
            assert not set(row.tolist()) & set(data[user].tolist())
    assert len(drawn) > 3


def test_truncation_matters_where_gradients_go_through_time(device: str) -> None:
    data, how = sequences(), {**SMALL, "session_parallel": False, "max_len": 8, "device": device}
    models = {k: rf.GRU4Rec(**how, truncate=k).fit(data) for k in (0, 1, 3, 8)}
    assert not np.allclose(models[0].item_factors_, models[1].item_factors_, atol=1e-4)
    assert not np.allclose(models[3].item_factors_, models[1].item_factors_, atol=1e-4)
    np.testing.assert_array_equal(models[0].item_factors_, models[8].item_factors_)  # nothing left to cut
    with pytest.raises(ValueError, match=r"truncate.*session_parallel"):
        rf.GRU4Rec(**SMALL, truncate=2).fit(data)


def test_what_whole_sequences_are_cut_to(device: str) -> None:
    """``max_len`` cuts training sequences only where whole ones are trained on; histories always."""
    long = rf.Sequences([list(range(20)), [3, 4]], n_items=20)
    lanes = [rf.GRU4Rec(**SMALL, max_len=n, device=device).fit(long) for n in (4, 30)]
    assert same_state(*lanes)
    whole = [rf.GRU4Rec(**SMALL, max_len=n, session_parallel=False, device=device).fit(long) for n in (4, 30)]
    assert not same_state(*whole)
    np.testing.assert_array_equal(lanes[0].encode([list(range(20))]), lanes[0].encode([list(range(16, 20))]))
    state = lanes[0].start([0, 1, 2])
    for item in range(3, 9):
        lanes[0].update(state, item)
    expected = lanes[1].encode([list(range(9))])[0, :-1]  # the state goes on beyond max_len
    np.testing.assert_allclose(state.query, expected, atol=1e-6)


def test_start_values(device: str) -> None:
    network = trainer_of(rf.GRU4Rec(**SMALL, n_layers=2, device=device), sequences()).network
    for k in range(2):
        for name, bound in (("w_x", (6 / 16) ** 0.5), ("w_h", (6 / 16) ** 0.5), ("b_x", 0.0), ("b_h", 0.0)):
            values = network.parameters.view(f"recurrent{k}.{name}")
            assert bound * 0.9 <= np.abs(values).max() <= bound
    assert not network.items.bias.any()
    assert np.abs(network.items.values).max() <= (6 / 28) ** 0.5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "bpr_max", "n_negatives": 32},
        {"cell": "lstm", "session_parallel": False, "n_negatives": None},
    ],
)
def test_it_learns_what_comes_next(device: str, options: dict[str, Any]) -> None:
    """Walks whose step two events give away."""
    train, valid, _ = rf.splits.leave_one_out(sequences(300, 30, 9))
    how: dict[str, Any] = {"d": 32, "batch_size": 32, "n_negatives": 16, "n_epochs": 12, "random_state": 0, **options}
    model = rf.GRU4Rec(**how, learning_rate=0.1, device=device).fit(train)
    assert rf.evaluation.evaluate(model, train, valid, ("hit_rate",), (3,))["hit_rate@3"] > 0.9
    assert model.history_["loss"][-1] < 0.7 * model.history_["loss"][0]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("cell", "elman", ValueError),
        ("n_layers", 0, ValueError),
        ("truncate", -1, ValueError),
        ("session_parallel", "yes", TypeError),
        ("shuffle", 1.5, TypeError),
        ("momentum", 1.0, ValueError),
        ("dropout_hidden", 1.0, ValueError),
        ("log_q", 1.5, ValueError),
        ("item_bias", None, TypeError),
    ],
)
def test_ranges(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        rf.GRU4Rec(**{**SMALL, name: value}).fit(sequences())
