"""Optimizers as a training loop uses them: schedules, clipping, rows touched, and a state that can be saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast.blocks.base import Array, PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.embedding import Embedding, ItemTable
from recsys_fast.errors import DivergedError
from recsys_fast.training.optimizers import Optimizer
from tests.cases.table import adapt

FORMS: list[dict[str, Any]] = [
    {"kind": "adam", "weight_decay": 0.01},
    {"kind": "adamw", "weight_decay": 0.01},
    {"kind": "sgd"},
    {"kind": "sgd", "momentum": 0.9},
    {"kind": "adagrad", "momentum": 0.2},
    {"kind": "adagrad", "eps_in_root": True, "eps": 1e-6},
]
by_form = pytest.mark.parametrize("form", FORMS, ids=lambda f: " ".join(f"{k}={v}" for k, v in f.items()))


class Net:
    """A table with biases, positions, and gradients that depend on the step alone."""

    def __init__(self, device: str, n_threads: int = 2) -> None:
        runtime = Runtime(device, n_threads)
        self.table = ItemTable(40, 6, bias=True)
        self.table.connect(runtime, 0)
        self.embedding = Embedding(self.table, 5)
        self.parameters = ParameterSet({"embedding": self.embedding}, runtime)
        rng = np.random.default_rng(0)
        self.parameters.initialise(rng)
        self.table.initialise(rng)

    def backward(self, step: int, dense: bool = False) -> None:
        rng = np.random.default_rng([step])
        batch = PackedBatch(np.array([0, 2, 5]), training=True)
        ids = rng.integers(0, 40, 5).astype(np.int32)
        self.embedding.forward(ids, batch)
        self.table.begin()
        h = rng.standard_normal((5, 6)).astype(np.float32)
        self.embedding.backward(rng.standard_normal((5, 6)).astype(np.float32), batch)
        self.table.add_pairs(rng.integers(0, 40, (5, 2)).astype(np.int32), np.ones((5, 2), np.float32), h)
        if dense:
            self.table.add_dense(rng.standard_normal((40, 6)).astype(np.float32))
        self.table.finish()

    def arrays(self) -> dict[str, Array]:
        return {"flat": self.parameters.values, "items": self.table.values, "items.bias": self.table.bias}


def test_schedules() -> None:
    constant = Optimizer(learning_rate=2.0, warmup_steps=4)
    assert [constant.learning_rate_at(s) for s in (0, 1, 3, 4, 100)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    linear = Optimizer(learning_rate=2.0, warmup_steps=2, schedule="linear", n_steps=10)
    assert [linear.learning_rate_at(s) for s in (0, 1, 2, 6, 9)] == [1.0, 2.0, 2.0, 1.0, 0.25]
    cosine = Optimizer(learning_rate=2.0, schedule="cosine", n_steps=8)
    assert np.allclose([cosine.learning_rate_at(s) for s in (0, 4, 6)], [2.0, 1.0, 1 - 0.5**0.5])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_steps_beyond_the_schedule_go_on_at_the_rate_of_its_last_epoch(schedule: str) -> None:
    optimizer = Optimizer(learning_rate=2.0, warmup_steps=4, schedule=schedule, n_steps=104, last_steps=20)
    last = [optimizer.learning_rate_at(s) for s in range(84, 104)]
    assert last == sorted(last, reverse=True)
    for step in (104, 105, 10_000):
        assert last[-1] < optimizer.learning_rate_at(step) < last[0]
        assert optimizer.learning_rate_at(step) == pytest.approx((last[9] + last[10]) / 2, rel=1e-2)
    short = Optimizer(learning_rate=2.0, warmup_steps=4, schedule=schedule, n_steps=5, last_steps=3)
    assert [short.learning_rate_at(s) for s in (4, 5, 50)] == [2.0, 2.0, 2.0]


@by_form
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_steps_are_the_formulas(form: dict[str, Any], sparse: bool, clip_norm: float | None, device: str) -> None:
    net, optimizer = Net(device), Optimizer(**form, learning_rate=0.05, sparse=sparse, clip_norm=clip_norm)
    exact = {name: array.astype(np.float64) for name, array in net.arrays().items()}
    moments = {name: np.zeros((2, *array.shape)) for name, array in exact.items()}
    adam = form["kind"].startswith("adam")
    given: dict[str, Any] = {
        "lr": 0.05, "beta1": 0.9 if adam else form.get("momentum", 0.0), "beta2": 0.999, "eps": optimizer.eps,
        "weight_decay": form.get("weight_decay", 0.0), "decoupled": form["kind"] == "adamw",
    }  # fmt: skip
    kind = "adam" if adam else form["kind"] + "_root" * form.get("eps_in_root", False)
    for step in range(4):
        dense = step == 2
        net.backward(step, dense)
        gradients: dict[str, tuple[Any, Array]] = {"flat": (slice(None), net.parameters.gradients.copy())}
        for name, of_rows, of_table in (
            ("items", net.table.drows, net.table.dtable),
            ("items.bias", net.table.dbias, net.table.dbias),
        ):
            if dense:
                assert of_table is not None
                gradients[name] = slice(None), of_table.copy()
                continue
            whole = np.zeros(exact[name].shape)
            whole[net.table.rows] = of_rows
            moved = net.table.rows if sparse else slice(None)
            gradients[name] = moved, whole[moved]
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for _, g in gradients.values()))
        scale = 1.0 if clip_norm is None else min(1.0, clip_norm / norm)
        for name, (moved, gradient) in gradients.items():
            param, m, v = exact[name][moved], moments[name][0][moved], moments[name][1][moved]
            adapt(param, gradient.astype(np.float64), m, v, kind, step + 1, **given, grad_scale=scale)
            exact[name][moved], moments[name][0][moved], moments[name][1][moved] = param, m, v
        optimizer.step(net.parameters, [net.table], step)
        for name, array in net.arrays().items():
            assert np.abs(array - exact[name]).max() < 2e-5, (name, step)


@by_form
@pytest.mark.parametrize("sparse", [True, False])
def test_a_restored_state_goes_on_with_the_same_bits(form: dict[str, Any], sparse: bool, device: str) -> None:
    net, optimizer = Net(device), Optimizer(**form, sparse=sparse, clip_norm=1.0)
    again, resumed = Net(device, n_threads=3), Optimizer(**form, sparse=sparse, clip_norm=1.0)
    for step in range(6):
        if step == 3:
            saved = {name: array.copy() for name, array in optimizer.state().items()}
            resumed.restore(saved)
            for array in saved.values():
                array[...] = np.nan  # a copy was taken
            for name, array in net.arrays().items():
                again.arrays()[name][...] = array
        net.backward(step)
        optimizer.step(net.parameters, [net.table], step)
        if step >= 3:
            again.backward(step)
            resumed.step(again.parameters, [again.table], step)
    for name, array in net.arrays().items():
        assert np.array_equal(array, again.arrays()[name])
    assert optimizer.state().keys() == resumed.state().keys()
    if form["kind"] != "sgd":
        assert {"parameters.v", "items.v", "items.bias.v"} <= optimizer.state().keys()


def test_lazy_steps_leave_other_rows_alone(device: str) -> None:
    net, optimizer = Net(device), Optimizer("adam", weight_decay=0.1)
    before = net.table.values.copy()
    net.backward(0)
    optimizer.step(net.parameters, [net.table], 0)
    untouched = np.setdiff1d(np.arange(40), net.table.rows)
    assert np.array_equal(net.table.values[untouched], before[untouched])
    assert not np.array_equal(net.table.values, before)


def test_a_gradient_that_is_not_finite_moves_nothing(device: str) -> None:
    net, optimizer = Net(device), Optimizer("adam", clip_norm=1.0)
    net.backward(0)
    net.table.drows[0, 0] = np.nan
    before = {name: array.copy() for name, array in net.arrays().items()}
    with pytest.raises(DivergedError, match="sum of squares"):
        optimizer.step(net.parameters, [net.table], 0)
    assert all(np.array_equal(array, before[name]) for name, array in net.arrays().items())


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"kind": "lion"}, "one of sgd"),
        ({"schedule": "step"}, "one of constant"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"clip_norm": -1.0}, "clip_norm"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"betas": (0.9, 1.0)}, r"betas\[1\]"),
        ({"momentum": 1.0}, "momentum"),
        ({"eps": 0.0}, "eps"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"schedule": "linear"}, "n_steps"),
        ({"schedule": "cosine", "n_steps": 5, "warmup_steps": 5}, "n_steps"),
    ],
)
def test_refuses(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Optimizer(**given)
