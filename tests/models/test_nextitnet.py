"""NextItNet against its formulas, how far back it sees, and the windows it is trained on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import recsys_fast as rf
from recsys_fast.blocks.base import PackedBatch
from tests.models.cases import sequences

F64 = NDArray[np.float64]
SMALL: dict[str, Any] = {"d": 8, "batch_size": 8, "n_epochs": 2, "random_state": 0}


def outputs(model: rf.NextItNet, items: list[int]) -> F64:
    """Return the outputs at every place, ``(n, d)``."""
    history = type("History", (), {"items": np.array(items, np.int32)})
    h = model._net().forward(history, PackedBatch(np.array([0, len(items)], np.int64)))
    return np.asarray(h, np.float64)


def conv(x: F64, w: F64, b: F64, kernel_size: int, dilation: int) -> F64:
    """A causal convolution, tap by tap, with zeros before the first row."""
    out = np.zeros_like(x) + b
    taps = w.reshape(kernel_size, x.shape[1], -1)
    for t in range(len(x)):
        for k in range(kernel_size):
            place = t - (kernel_size - 1 - k) * dilation
            if place >= 0:
                out[t] += x[place] @ taps[k]
    return out


def norm(x: F64, gamma: F64, beta: F64) -> F64:
    return gamma * (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-8) + beta


@pytest.mark.parametrize(("kernel_size", "dilations"), [(3, (1, 2)), (2, (2, 1, 1)), (1, (1,))])
@pytest.mark.parametrize("projection", [True, False])
def test_outputs_are_the_formulas(device: str, kernel_size: int, dilations: tuple[int, ...], projection: bool) -> None:
    how = {**SMALL, "kernel_size": kernel_size, "dilations": dilations, "projection": projection}
    model = rf.NextItNet(**how, item_bias=True, device=device).fit(sequences())
    view, items = model._net().parameters.view, [3, 7, 7, 0, 19, 4, 12, 1]
    x = model._net().items.values[items].astype(np.float64)
    for k, dilation in enumerate(dilations):
        y = x
        for number, apart in (("1", dilation), ("2", 2 * dilation)):
            w, b, gamma, beta = (
                view(f"conv{k}.{name}{number}").astype(np.float64) for name in ("w", "b", "gamma", "beta")
            )
            y = np.maximum(norm(conv(y, w, b, kernel_size, apart), gamma, beta), 0.0)
        x = x + y
    if projection:
        x = x @ view("projection.w") + view("projection.b")
    np.testing.assert_allclose(outputs(model, items), x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.encode([items])[0, :-1], x[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kernel_size", "dilations"), [(3, (1, 2)), (2, (1, 4)), (2, (3,)), (1, (1, 2))])
def test_an_output_sees_so_many_events(device: str, kernel_size: int, dilations: tuple[int, ...]) -> None:
    how = {**SMALL, "kernel_size": kernel_size, "dilations": dilations, "max_len": 40, "init_scale": 0.5}
    model = rf.NextItNet(**how, device=device).fit(sequences())
    sees = 1 + 3 * (kernel_size - 1) * sum(dilations)
    assert sees == 1 + sum(block.reach for block in model._net().blocks if hasattr(block, "reach"))
    items = np.random.default_rng(0).integers(0, 20, 30).tolist()
    before = outputs(model, items)
    for place in (0, 4, 11, 29):
        changed = [*items[:place], (items[place] + 7) % 20, *items[place + 1 :]]
        differs = np.abs(outputs(model, changed) - before).max(axis=1) > 1e-7
        assert not differs[:place].any()  # causal
        assert differs[place]
        assert not differs[place + sees :].any()
        if place + sees <= 30:
            assert differs[place + sees - 1]


def test_windows(device: str) -> None:
    long = rf.Sequences([list(range(14)), [3, 4], [5]], n_items=20)
    cases: list[tuple[dict[str, Any], int]] = [
        ({"windows": "last"}, 2),
        ({"windows": "sliding"}, 4),
        ({"windows": "sliding", "stride": 1}, 10),
        ({"windows": "prefixes"}, 14),
    ]
    learned = []
    for options, n_samples in cases:
        model = rf.NextItNet(**SMALL, max_len=5, dilations=(1,), device=device, **options).fit(long)
        batches = model._batches()
        assert batches.n_samples == n_samples
        for batch in batches.epoch(0):
            assert np.diff(batch.row_ptr).max() <= 5
            assert (batch.targets >= 0).all()
            steps = batch.targets - batch.items
            assert (steps == 1).all()  # what comes next in these sequences
        learned.append(model.item_factors_)
        assert model.n_epochs_ == 2
    for left, right in pairwise(learned):
        assert not np.array_equal(left, right)


def test_dilations(device: str, tmp_path: Path) -> None:
    """Tuples, lists and integers of NumPy, which files give back."""
    reference = rf.NextItNet(**SMALL, dilations=(1, 2), device=device).fit(sequences())
    for number, dilations in enumerate(([1, 2], tuple(np.array([1, 2])))):
        model = rf.NextItNet(**SMALL, dilations=dilations, device=device).fit(sequences())
        np.testing.assert_array_equal(model.item_factors_, reference.item_factors_)
        model.save(tmp_path / str(number))
        loaded = rf.load(tmp_path / str(number), device=device)
        assert tuple(loaded.dilations) == (1, 2)
        np.testing.assert_array_equal(loaded.recommend(n=4).ids, reference.recommend(n=4).ids)
    for bad, error in (((), ValueError), (3, ValueError), ((0,), ValueError), ((1.5,), TypeError), ("12", ValueError)):
        with pytest.raises(error, match="dilation"):
            rf.NextItNet(**SMALL, dilations=bad, device=device).fit(sequences())


def test_start_values(device: str) -> None:
    data = sequences(40, 400)
    for scale, expected in ((None, 0.05), (0.3, 0.3)):
        model = rf.NextItNet(d=32, init_scale=scale, learning_rate=1e-9, n_epochs=1, random_state=0, device=device)
        assert model.fit(data).item_factors_.std() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("options", [{}, {"windows": "prefixes", "loss": "bce", "n_negatives": 3}])
def test_it_learns_what_comes_next(device: str, options: dict[str, Any]) -> None:
    """Walks whose step two events give away."""
    train, valid, _ = rf.splits.leave_one_out(sequences(300, 30, 9))
    how: dict[str, Any] = {"d": 32, "dilations": (1, 2), "batch_size": 32, "learning_rate": 0.01, "n_epochs": 10}
    model = rf.NextItNet(**how, **options, random_state=0, device=device).fit(train)
    assert rf.evaluation.evaluate(model, train, valid, ("hit_rate",), (3,))["hit_rate@3"] > 0.8


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("kernel_size", 0, ValueError),
        ("windows", "all", ValueError),
        ("stride", 51, ValueError),
        ("projection", "no", TypeError),
        ("init_scale", 0.0, ValueError),
    ],
)
def test_ranges(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        rf.NextItNet(**{**SMALL, name: value}).fit(sequences())
