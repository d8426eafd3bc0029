"""The attention, feed-forward and layer norm blocks: gradients in float64, backends, threads, one row at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast import backend
from recsys_fast.blocks.attention import SelfAttention
from recsys_fast.blocks.base import Block, PackedBatch, ParameterSet, Runtime
from recsys_fast.blocks.feed_forward import FeedForward
from recsys_fast.blocks.layer_norm import LayerNorm
from tests.cases.blocks import CASES, Array, Case, Trial

ALL = [pytest.param(case, id=f"{family}, {case.name}") for family, cases in CASES.items() for case in cases]
by_case = pytest.mark.parametrize("case", ALL)


@by_case
def test_gradients_are_those_of_finite_differences(case: Case) -> None:
    trial = Trial(case, "numba", np.float64)
    passed, rng, h = trial.run(), np.random.default_rng(0), 1e-5
    for numbers, gradient in (
        (trial.parameters.values, passed.gradients),
        (trial.x.reshape(-1), passed.dx.reshape(-1)),
    ):
        for at in rng.choice(len(numbers), min(len(numbers), 24), replace=False):
            kept = numbers[at]
            numbers[at] = kept + h
            above = trial.loss()
            numbers[at] = kept - h
            below = trial.loss()
            numbers[at] = kept
            assert (above - below) / (2 * h) == pytest.approx(gradient[at], rel=1e-5, abs=1e-6)


@by_case
def test_is_as_exact_as_plain_float32(case: Case) -> None:
    """The loops of the readable backend, in float32 and in float64, measure what the native one may lose."""
    if backend.resolve_device() != "cpu":
        pytest.skip("the extension is not there")
    exact = Trial(case, "numba", np.float64).run()
    for got, plain, true in zip(Trial(case, "cpu").run(), Trial(case, "numba").run(), exact, strict=True):
        size = np.abs(true).max(initial=1.0)
        assert np.abs(got - true).max(initial=0.0) <= 4 * np.abs(plain - true).max(initial=0.0) + 1e-6 * size


@by_case
def test_bits_do_not_depend_on_threads(case: Case, device: str) -> None:
    first = Trial(case, device, n_threads=1).run()
    for n_threads in (2, 3, 7):
        for one, other in zip(first, Trial(case, device, n_threads=n_threads).run(), strict=True):
            assert np.array_equal(one, other)


def test_length_up_to_4096(device: str) -> None:
    case = Case("longest", lambda: SelfAttention(8, 2, norm="none"), 8, (4096, 2))
    got = Trial(case, device).run()
    trial = Trial(case, "numba", np.float64)
    exact = trial.block.forward(trial.x, trial.batch)
    assert np.abs(got.y - exact).max() < 1e-5
    assert np.isfinite(got.dx).all()


def connect(block: Block, device: str, dtype: Any = np.float32) -> ParameterSet:
    parameters = ParameterSet({"block": block}, Runtime(device, 2, dtype))
    parameters.initialise(np.random.default_rng(0))
    return parameters


@pytest.mark.parametrize("norm", ["none", "pre", "post", "query"])
def test_steps_are_rows_of_the_whole(norm: str, device: str) -> None:
    x = np.random.default_rng(1).standard_normal((90, 50), np.float32)
    batch = PackedBatch(np.array([0, 20, 90]))
    for block in (SelfAttention(50, 2, norm=norm, dropout=0.5), FeedForward(50, 64, norm=norm), LayerNorm(50)):
        connect(block, device)
        whole = block.forward(x, batch).copy()
        states = [(block.start(70), 20)]
        states += [(block.start(70, 20, 60), 60)] if isinstance(block, SelfAttention) else []
        for state, first in states:
            rows = np.stack([block.step(state, row) for row in x[first:]])
            assert np.abs(rows - whole[first:]).max() < 1e-5


def test_a_state_has_an_end(device: str) -> None:
    block = SelfAttention(4)
    connect(block, device)
    state = block.start(1)
    block.step(state, np.ones(4, np.float32))
    with pytest.raises(ValueError, match="capacity"):
        block.step(state, np.ones(4, np.float32))
    both = SelfAttention(4, causal=False)
    connect(both, device)
    with pytest.raises(ValueError, match="causal"):
        both.start(3)


def test_inference_drops_nothing(device: str) -> None:
    x = np.random.default_rng(1).standard_normal((9, 4), np.float32)
    batch = PackedBatch(np.array([0, 4, 9]), step=1)
    for make in (SelfAttention, FeedForward):
        outputs = []
        for dropout in (0.0, 0.5):
            block = make(4, dropout=dropout)  # type: ignore[operator]
            connect(block, device)
            outputs.append(block.forward(x, batch).copy())
        assert np.array_equal(*outputs)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="n_heads"):
        SelfAttention(50, 3)
    with pytest.raises(ValueError, match="norm"):
        SelfAttention(50, norm="both")
    with pytest.raises(ValueError, match="activation"):
        FeedForward(50, activation="swish")


def torch_attention(x: Any, w: dict[str, Array], n_heads: int, causal: bool, lengths: tuple[int, ...]) -> Any:
    """Return torch's pre-norm block, sequence by sequence."""
    torch = pytest.importorskip("torch")
    d, parts, at = x.shape[1], [], 0
    for n in lengths:
        rows = x[at : at + n]
        normed = torch.nn.functional.layer_norm(rows, (d,), w["gamma"], w["beta"])
        q, k, v = (normed @ w["w_qkv"] + w["b_qkv"]).view(n, 3, n_heads, d // n_heads).permute(1, 2, 0, 3)
        heads = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        parts.append(rows + heads.transpose(0, 1).reshape(n, d) @ w["w_out"] + w["b_out"])
        at += n
    return torch.cat(parts)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_that_of_torch(causal: bool, device: str) -> None:
    torch = pytest.importorskip("torch")
    lengths = (5, 1, 80, 13)
    trial = Trial(Case("", lambda: SelfAttention(50, 2, causal=causal, norm="pre"), 50, lengths), device)
    passed = trial.run()
    x = torch.tensor(trial.x, requires_grad=True)
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in trial.block.values.items()}
    y = torch_attention(x, weights, 2, causal, lengths)
    y.backward(torch.tensor(trial.dy))
    assert np.abs(passed.y - y.detach().numpy()).max() < 1e-5
    assert np.abs(passed.dx - x.grad.numpy()).max() < 1e-4
    for name, gradient in trial.block.gradients.items():
        assert np.abs(gradient - weights[name].grad.numpy()).max() < 2e-4


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "tanh", "sigmoid"])
def test_feed_forward_is_that_of_torch(activation: str, device: str) -> None:
    torch = pytest.importorskip("torch")
    gelus = {"gelu": "none", "gelu_tanh": "tanh"}
    trial = Trial(Case("", lambda: FeedForward(50, 96, activation=activation, norm="post"), 50, (300,)), device)
    passed = trial.run()
    x = torch.tensor(trial.x, requires_grad=True)
    w = {name: torch.tensor(value, requires_grad=True) for name, value in trial.block.values.items()}
    hidden = x @ w["w1"] + w["b1"]
    if activation in gelus:
        inner = torch.nn.functional.gelu(hidden, approximate=gelus[activation])
    else:
        inner = getattr(torch, activation)(hidden)
    y = torch.nn.functional.layer_norm(x + inner @ w["w2"] + w["b2"], (50,), w["gamma"], w["beta"])
    y.backward(torch.tensor(trial.dy))
    assert np.abs(passed.y - y.detach().numpy()).max() < 1e-5
    assert np.abs(passed.dx - x.grad.numpy()).max() < 1e-4
    for name, gradient in trial.block.gradients.items():
        assert np.abs(gradient - w[name].grad.numpy()).max() < 2e-4
