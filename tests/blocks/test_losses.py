"""ItemLoss: gradients of items and outputs together, negatives, corrections, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_fast.blocks.base import PackedBatch, Runtime
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.blocks.losses import ItemLoss

N, D, T = 30, 5, 12
COUNTS = np.random.default_rng(5).integers(1, 50, N)
TARGETS = np.array([3, -1, 7, 3, 29, 0, -1, 11, 7, 2, 5, 9], np.int32)

CASES: list[tuple[str, dict[str, Any]]] = [
    ("ce", {}),
    ("sampled_ce", {"shared": True, "n_negatives": 9, "negatives": "popularity", "alpha": 0.5, "log_q": 1.0}),
    ("sampled_ce", {"n_negatives": 6, "negatives": "popularity", "log_q": 1.0}),
    ("bce", {}),
    ("gbce", {"n_negatives": 8}),
    ("gbce", {"n_negatives": 8, "shared": True}),
    ("bpr", {"negatives": "in_batch"}),
    ("bpr_max", {"shared": True, "n_negatives": 7, "regularization": 0.5}),
    ("top1", {"n_negatives": 4}),
    ("top1_max", {"shared": True, "n_negatives": 5, "mask_equal": False}),
]


def make(bias: bool = True, dtype: Any = np.float64, device: str = "numba") -> tuple[ItemTable, NDArray[Any]]:
    """Return a connected table with one row more than there are items, and outputs."""
    rng = np.random.default_rng(0)
    table = ItemTable(N + 1, D, bias=bias, scale=1.0)
    table.connect(Runtime(device, 2, dtype), 0)
    table.initialise(rng)
    if bias:
        table.bias[...] = rng.standard_normal(N + 1)
    return table, rng.standard_normal((T, D)).astype(dtype)


def whole_gradient(table: ItemTable) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the gradient of all rows and biases."""
    table.finish()
    if table.rows is None:
        assert table.dtable is not None
        return table.dtable.copy(), table.dbias.copy()
    rows, bias = np.zeros_like(table.values), np.zeros_like(table.bias)
    rows[table.rows] = table.drows
    if len(bias):
        bias[table.rows] = table.dbias
    return rows, bias


@pytest.mark.parametrize(("kind", "options"), CASES)
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_those_of_the_mean(kind: str, options: dict[str, Any], bias: bool) -> None:
    table, h = make(bias)
    loss = ItemLoss(kind, N, counts=COUNTS, **options)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, T)
    batch = PackedBatch(np.array([0, 5, T]), seed=3, step=7, training=True)

    def value() -> float:
        table.begin()
        total, n, _ = loss.loss(table, h, TARGETS, batch, weights=weights)
        assert n == 10
        return total / n

    table.begin()
    dh = loss.loss(table, h, TARGETS, batch, weights=weights)[2].copy()
    rows, biases = whole_gradient(table)
    assert not dh[TARGETS < 0].any()
    for array, gradient in ((h, dh), (table.values, rows), (table.bias, biases)):
        for at in np.random.default_rng(2).permutation(array.size)[:25]:
            kept = array.flat[at]
            array.flat[at] = kept + 1e-6
            above = value()
            array.flat[at] = kept - 1e-6
            below = value()
            array.flat[at] = kept
            assert gradient.flat[at] == pytest.approx((above - below) / 2e-6, abs=2e-8)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_backends_agree(kind: str, options: dict[str, Any], device: str) -> None:
    found = []
    for where, dtype in ((device, np.float32), ("numba", np.float64)):
        table, h = make(dtype=dtype, device=where)
        batch = PackedBatch(np.array([0, T]), seed=3, step=7, training=True)
        total, _, dh = ItemLoss(kind, N, counts=COUNTS, **options).loss(table, h, TARGETS, batch)
        found.append((total, dh, *whole_gradient(table)))
    for got, exact in zip(*found, strict=True):
        assert np.allclose(got, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_rows_without_targets_only(kind: str, options: dict[str, Any], device: str) -> None:
    table, h = make(dtype=np.float32, device=device)
    batch = PackedBatch(np.array([0, T]), training=True)
    total, n, dh = ItemLoss(kind, N, counts=COUNTS, **options).loss(table, h, np.full(T, -1, np.int32), batch)
    assert (total, n) == (0.0, 0)
    assert not dh.any()


def test_sampled_ce_estimates_ce() -> None:
    """With log-q the sum over candidates is unbiased, so that with many of them the loss is that over all items."""
    table, h = make(False)
    batch = PackedBatch(np.array([0, T]), seed=1, training=True)
    full = ItemLoss("ce", N).loss(table, h, TARGETS, batch)[0]
    for options in ({"negatives": "popularity", "alpha": 0.7}, {"negatives": "uniform"}):
        sampled = ItemLoss(
            "sampled_ce", N, counts=COUNTS, shared=True, n_negatives=200_000, log_q=1.0, mask_equal=False, **options
        )
        total, n, _ = sampled.loss(table, h, TARGETS, batch)
        # The positive's own score is corrected too, which shifts the loss and no gradient.
        wanted = TARGETS[TARGETS >= 0]
        expected = n * sampled._share[wanted] + 200_000 * sampled._chance[wanted]
        assert total - np.log(expected).sum() == pytest.approx(full, rel=3e-3)


def test_popularity_follows_the_counts() -> None:
    table, _ = make()
    loss = ItemLoss("bce", N, negatives="popularity", counts=COUNTS, alpha=0.5)
    loss._runtime = table.runtime
    drawn = loss._draw(PackedBatch(np.array([0, 1]), seed=1), 200_000)
    share = np.bincount(drawn, minlength=N) / len(drawn)
    assert np.abs(share - COUNTS**0.5 / (COUNTS**0.5).sum()).max() < 0.003


def test_beta_of_gbce() -> None:
    a, t = 256 / 12_100, 0.75
    loss = ItemLoss("gbce", 12_101, n_negatives=256, calibration=t)
    assert loss.beta == pytest.approx(a * (t * (1 - 1 / a) + 1 / a))
    assert ItemLoss("gbce", 100, n_negatives=10, calibration=0.0).beta == 1.0


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        ("hinge", {}, "kind of loss"),
        ("bce", {"negatives": "hard"}, "negatives"),
        ("bce", {"n_negatives": 0}, "n_negatives"),
        ("bce", {"negatives": "popularity"}, "counts"),
        ("bce", {"counts": [1, 2]}, "counts"),
    ],
)
def test_refuses(kind: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ItemLoss(kind, N, **options)
