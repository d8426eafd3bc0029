"""Tables and their positions: gradients against finite differences in float64, sparse against dense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast.blocks.base import PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.embedding import Embedding, ItemTable
from recsys_fast.training.optimizers import Optimizer
from tests.cases.table import Case, Step

CASE = Case("finite differences", (3, 0, 5, 1), 9, 4, k=2, n_candidates=4, none=0.2)


class Network:
    """Everything that reads a table, summed up with fixed weights: its gradients are easy to write and to check."""

    def __init__(self, runtime: Runtime, *, from_end: bool = False, dropout: float = 0.0) -> None:
        self.table = ItemTable(CASE.n, CASE.d, bias=True, init="normal", scale=1.0)
        self.table.connect(runtime, 0)
        self.embedding = Embedding(self.table, 6, dropout, from_end=from_end, scale=1.5)
        self.parameters = ParameterSet({"embedding": self.embedding}, runtime)
        rng = np.random.default_rng(0)
        self.parameters.initialise(rng)
        self.table.initialise(rng)
        self.table.bias[...] = rng.standard_normal(CASE.n)
        self.step = Step(*(a.astype(runtime.dtype) if a.dtype == np.float32 else a for a in CASE.make()))
        self.batch = PackedBatch(self.step.row_ptr, seed=3, step=2, training=True)

    def loss(self) -> float:
        """Return sum dx . x + sum coef (h . row + bias) + sum dcand . row + dcand_bias bias."""
        s, table = self.step, self.table
        rows, bias = table.take_rows(s.cand_ids)
        known = s.pair_ids >= 0
        scores = np.where(known, np.einsum("td,tkd->tk", s.h, table.values[s.pair_ids]) + table.bias[s.pair_ids], 0.0)
        total = (s.dx * self.embedding.forward(s.ids, self.batch)).sum() + (s.coef * scores).sum()
        return float(total + (s.dcand * rows).sum() + (s.dcand_bias * bias).sum())

    def collect(self, dense: int | None = None) -> ItemTable:
        """Backward; with ``dense`` a gradient of ones of so many rows comes on top."""
        s, table = self.step, self.table
        self.embedding.forward(s.ids, self.batch)
        table.begin()
        self.embedding.backward(s.dx.copy(), self.batch)
        table.add_rows(s.cand_ids, s.dcand, s.dcand_bias)
        table.add_pairs(s.pair_ids, s.coef, s.h)
        if dense is not None:
            dtable, dbias = table.dense_gradient(dense)
            dtable[...] = 1.0
            dbias[...] = 1.0
            table.add_dense(dtable, dbias)
        table.finish()
        return table


def differences(network: Network, values: np.ndarray) -> np.ndarray:
    out = np.zeros(values.size)
    flat = values.reshape(-1)
    for k in range(len(flat)):
        before = flat[k]
        flat[k] = before + 1e-4
        above = network.loss()
        flat[k] = before - 1e-4
        out[k] = (above - network.loss()) / 2e-4
        flat[k] = before
    return out.reshape(values.shape)


def spread(table: ItemTable) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of all rows and biases."""
    if table.dtable is not None:
        return table.dtable, table.dbias
    total, bias = np.zeros(table.values.shape), np.zeros(len(table.values))
    total[table.rows] = table.drows
    if table.has_bias:
        bias[table.rows] = table.dbias
    return total, bias


@pytest.mark.parametrize("from_end", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_finite_differences(from_end: bool, dropout: float) -> None:
    network = Network(Runtime("numba", 2, np.float64), from_end=from_end, dropout=dropout)
    total, bias = spread(network.collect())
    positions = network.embedding.gradients["positions"].copy()
    assert np.abs(differences(network, network.table.values) - total).max() < 1e-8
    assert np.abs(differences(network, network.table.bias) - bias).max() < 1e-8
    assert np.abs(differences(network, network.embedding.values["positions"]) - positions).max() < 1e-8


def test_devices_agree_with_float64(device: str) -> None:
    exact, single = Network(Runtime("numba", 2, np.float64)), Network(Runtime(device, 2))
    for name in ("values", "bias"):
        getattr(exact.table, name)[...] = getattr(single.table, name)
    exact.parameters.values[...] = single.parameters.values
    for right, got in zip(spread(exact.collect()), spread(single.collect()), strict=True):
        assert np.abs(right - got).max() < 1e-5
    assert np.abs(exact.parameters.gradients - single.parameters.gradients).max() < 1e-5
    assert exact.table.square_sum() == pytest.approx(single.table.square_sum(), rel=1e-5)


@pytest.mark.parametrize("n", [CASE.n, CASE.n - 1, 0])
def test_dense_gradients_take_in_the_rows(n: int, device: str) -> None:
    network = Network(Runtime(device, 2))
    sparse = network.collect()
    assert sparse.dtable is None
    assert np.array_equal(sparse.rows, np.unique(sparse.rows))
    expected = spread(sparse)
    dense = network.collect(dense=n)
    assert dense.rows is None
    for whole, right in zip(spread(dense), expected, strict=True):
        assert np.abs(whole[:n] - right[:n] - 1.0).max(initial=0.0) < 1e-5
        assert np.abs(whole[n:] - right[n:]).max(initial=0.0) < 1e-5
    assert network.collect().dtable is None, "begin forgets what was dense"


def test_what_is_added_in_parts_is_added(device: str) -> None:
    s, tables = CASE.make(), []
    for parts in (1, 3):
        table = ItemTable(CASE.n, CASE.d, bias=True)
        table.connect(Runtime(device, 2), 0)
        for rows in np.array_split(np.arange(len(s.ids)), parts):
            table.add_inputs(s.ids[rows], s.dx[rows])
            table.add_pairs(s.pair_ids[rows], s.coef[rows], s.h[rows])
        for rows in np.array_split(np.arange(len(s.cand_ids)), parts):
            table.add_rows(s.cand_ids[rows], s.dcand[rows], s.dcand_bias[rows])
        table.finish()
        tables.append(spread(table))
    assert all(np.array_equal(a, b) for a, b in zip(*tables, strict=True))


def test_pairs_of_different_widths(device: str) -> None:
    s = CASE.make()
    table = ItemTable(CASE.n, CASE.d, bias=True)
    table.connect(Runtime(device, 2), 0)
    table.add_pairs(s.pair_ids, s.coef, s.h)
    table.add_pairs(s.pair_ids[:, :1], s.coef[:, :1].copy(), s.h)
    table.finish()
    total, bias = np.zeros((CASE.n, CASE.d)), np.zeros(CASE.n)
    for ids, coef in ((s.pair_ids, s.coef), (s.pair_ids[:, :1], s.coef[:, :1])):
        for (t, j), row in np.ndenumerate(ids):
            if row >= 0:
                total[row] += coef[t, j] * s.h[t]
                bias[row] += coef[t, j]
    got = spread(table)
    assert np.abs(got[0] - total).max() < 1e-5
    assert np.abs(got[1] - bias).max() < 1e-5


def test_dense_gradients_add_up(device: str) -> None:
    table = ItemTable(CASE.n, CASE.d, bias=True)
    table.connect(Runtime(device, 2), 0)
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, CASE.n, CASE.d)).astype(np.float32)
    table.add_dense(first[:4], first[:4, 0].copy())
    table.add_dense(second, second[:, 0].copy())
    table.add_dense(first)
    table.finish()
    expected = second + first
    expected[:4] += first[:4]
    bias = second[:, 0].copy()
    bias[:4] += first[:4, 0]
    assert np.abs(table.dtable - expected).max() < 1e-6
    assert np.abs(table.dbias - bias).max() < 1e-6


def test_nothing_added_is_no_gradient(device: str) -> None:
    table = ItemTable(5, 3, bias=True)
    table.connect(Runtime(device, 1), 0)
    table.finish()
    assert table.rows is not None
    assert len(table.rows) == len(table.drows) == len(table.dbias) == 0
    assert table.square_sum() == 0.0


def test_no_dropout_outside_training(device: str) -> None:
    runtime: Any = Runtime(device, 1)
    network = Network(runtime, dropout=0.5)
    network.batch.training = False
    known = network.step.ids >= 0
    x = network.embedding.forward(network.step.ids, network.batch)
    assert not (x[known] == 0.0).any()


def test_a_table_starts_from_given_values(device: str) -> None:
    values = np.random.default_rng(4).normal(size=(CASE.n, CASE.d))
    table = ItemTable(CASE.n, CASE.d, init=values)
    table.connect(Runtime(device), 0)
    generator = np.random.default_rng(0)
    table.initialise(generator)
    np.testing.assert_array_equal(table.values, values.astype(np.float32))
    assert generator.random() == np.random.default_rng(0).random()  # no draw is spent on it


@pytest.mark.parametrize(
    ("init", "text"),
    [
        (np.zeros((CASE.n, CASE.d + 1)), "init of a table: got float64"),
        (np.full((CASE.n, CASE.d), np.nan), "init of row 0: got inf or NaN"),
    ],
)
def test_values_that_do_not_fit_are_refused(init: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ItemTable(CASE.n, CASE.d, init=init)


def test_a_frozen_table_stays_and_costs_no_state(device: str) -> None:
    networks = [Network(Runtime(device)), Network(Runtime(device))]
    networks[1].table.frozen = True
    for network in networks:
        before = network.table.values.copy(), network.table.bias.copy()
        table = network.collect(dense=3)
        optimizer = Optimizer("adam", 0.1)
        optimizer.step(network.parameters, [table], 0)
        assert (table.square_sum() > 0) != table.frozen
        assert np.array_equal(before[0], table.values) == np.array_equal(before[1], table.bias) == table.frozen
        assert any(name.startswith("items") for name in optimizer.state()) != table.frozen
    positions = [network.parameters.gradients for network in networks]
    np.testing.assert_array_equal(*positions)  # what comes before the rows learns as ever
    assert positions[0].any()
