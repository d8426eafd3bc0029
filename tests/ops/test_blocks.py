"""The public operations of the attention, feed-forward and layer norm blocks: their formulas, and what they refuse."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_fast import ops

ROW_PTR = [0, 4, 4, 9]


def numbers(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(list(shape)).standard_normal(shape, np.float32)


X, DY = numbers(9, 6), numbers(9, 6) + 1
ATTENTION = ops.AttentionWeights(numbers(6, 18), numbers(18), numbers(6, 6), numbers(6), numbers(6), numbers(6))
FEED_FORWARD = ops.FeedForwardWeights(numbers(6, 8), numbers(8), numbers(8, 6), numbers(6), numbers(6), numbers(6))


def plain_attention(x: NDArray[Any], w: ops.AttentionWeights, n_heads: int) -> NDArray[np.float64]:
    """Return the causal block with a norm before it, in float64 and one query at a time."""
    x, d = x.astype(np.float64), x.shape[1]
    w_qkv, b_qkv, w_out, b_out, gamma, beta = (np.asarray(array, np.float64) for array in w)
    unit = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    q, k, v = ((gamma * unit + beta) @ w_qkv + b_qkv).reshape(len(x), 3, n_heads, d // n_heads).transpose(1, 2, 0, 3)
    heads = np.empty((len(x), n_heads, d // n_heads))
    for first, last in itertools.pairwise(ROW_PTR):
        for i in range(first, last):
            for head in range(n_heads):
                p = np.exp(k[head, first : i + 1] @ q[head, i] / np.sqrt(d // n_heads))
                heads[i, head] = p @ v[head, first : i + 1] / p.sum()
    return np.asarray(x + heads.reshape(len(x), d) @ w_out + b_out)


def test_attention_against_its_formula(device: str) -> None:
    out = np.empty_like(X)
    y, saved = ops.attention_block_forward(X, ROW_PTR, ATTENTION, n_heads=2, norm="pre", out=out, device=device)
    assert y is out
    assert np.abs(y - plain_attention(X, ATTENTION, 2)).max() < 1e-5
    assert saved.lse.shape == (9, 2)
    assert saved.mid.size == 0


def test_attention_backward_returns_gradients_of_every_parameter(device: str) -> None:
    masks = {"attention_dropout": 0.3, "dropout": 0.2, "seed": 1, "step": 2, "site": 8}
    options: dict[str, Any] = {"n_heads": 3, "norm": "post", "causal": False, "device": device, **masks}
    _, saved = ops.attention_block_forward(X, ROW_PTR, ATTENTION, **options)
    dx, gradients = ops.attention_block_backward(DY, X, ROW_PTR, ATTENTION, saved, **options)
    assert dx.shape == X.shape
    for gradient, value in zip(gradients, ATTENTION, strict=True):
        assert np.shape(gradient) == np.shape(value)
        assert np.abs(gradient).max() > 0


def test_attention_step_by_step(device: str) -> None:
    y, _ = ops.attention_block_forward(X[4:], [0, 5], ATTENTION, n_heads=2, norm="query", device=device)
    keys, values = np.zeros((5, 6), np.float32), np.zeros((5, 6), np.float32)
    for place, row in enumerate(X[4:]):
        got = ops.attention_block_step(row, keys, values, place, ATTENTION, n_heads=2, norm="query", device=device)
        assert np.abs(got - y[place]).max() < 1e-5


def test_feed_forward_against_its_formula(device: str) -> None:
    bare = FEED_FORWARD._replace(gamma=None, beta=None)
    y, saved = ops.feed_forward_block_forward(X, bare, device=device)
    w1, b1, w2, b2 = (np.asarray(array, np.float64) for array in FEED_FORWARD[:4])
    assert np.abs(y - (X + np.maximum(X @ w1 + b1, 0) @ w2 + b2)).max() < 1e-5
    assert np.abs(saved.hidden - (X @ w1 + b1)).max() < 1e-5


def test_layer_norm_against_its_formula(device: str) -> None:
    gamma, beta = numbers(6), numbers(6) + 1
    y, stats = ops.layer_norm_forward(X, gamma, beta, device=device)
    assert np.abs(stats[:, 0] - X.mean(1)).max() < 1e-6
    unit = (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(1, keepdims=True) + 1e-5)
    assert np.abs(y - (gamma * unit + beta)).max() < 1e-5
    result = ops.layer_norm_backward(DY, X, stats, gamma, device=device)
    assert np.abs(result.dgamma - (DY * unit).sum(0)).max() < 1e-5
    assert np.abs(result.dbeta - DY.sum(0)).max() < 1e-5
    assert np.abs(result.dx.sum(1)).max() < 1e-4  # moving a row by a constant changes nothing


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"x": np.full((9, 6), np.nan)}, ValueError, "finite"),
        ({"x": numbers(9, 5)}, ValueError, "shape of w_qkv"),
        ({"row_ptr": [0, 10]}, ValueError, "number of rows"),
        ({"row_ptr": [0, 5, 3, 9]}, ValueError, r"row_ptr\[2\]: got 3"),
        ({"row_ptr": [0.0, 9.0]}, TypeError, "integer"),
        ({"row_ptr": [0, 4097], "x": numbers(4097, 6)}, ValueError, "at most 4096"),
        ({"n_heads": 4}, ValueError, "divisor"),
        ({"n_heads": 2.0}, TypeError, "int"),
        ({"norm": "both"}, ValueError, "one of none"),
        ({"norm": "none"}, ValueError, "gamma and beta"),
        ({"dropout": 1.0}, ValueError, "0 <= rate < 1"),
        ({"attention_dropout": "much"}, TypeError, "a number"),
        ({"eps": -1.0}, ValueError, "eps: got -1.0, expected a finite number above 0"),
        ({"eps": 0.0}, ValueError, "eps: got 0.0"),
        ({"eps": 1e-46}, ValueError, "eps: got 1e-46, expected a finite number above 0 in float32"),
        ({"eps": "1e-5"}, TypeError, "eps: got str"),
        ({"n_heads": np.array(2.7)}, TypeError, "n_heads: got ndarray"),
        ({"weights": tuple(ATTENTION)}, TypeError, "weights: got tuple, expected AttentionWeights"),
        ({"seed": -1}, ValueError, "seed"),
        ({"out": X}, ValueError, "share memory"),
        ({"out": np.empty((9, 6))}, TypeError, "float32"),
        ({"weights": ATTENTION._replace(w_out=None)}, ValueError, "b_out without w_out"),
        ({"weights": ATTENTION._replace(b_qkv=numbers(17))}, ValueError, "shape of b_qkv"),
    ],
)
def test_attention_refuses(change: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    given: dict[str, Any] = {"x": X, "row_ptr": ROW_PTR, "weights": ATTENTION, "n_heads": 2, "norm": "pre"}
    with pytest.raises(error, match=text):
        ops.attention_block_forward(**{**given, **change}, device=device)


OWN = np.zeros((5, 6), np.float32)


def test_attention_backward_refuses_what_another_pass_saved(device: str) -> None:
    _, saved = ops.attention_block_forward(X, ROW_PTR, ATTENTION, n_heads=2, norm="pre", device=device)
    with pytest.raises(ValueError, match=r"saved\.lse"):
        ops.attention_block_backward(DY, X, ROW_PTR, ATTENTION, saved, n_heads=3, norm="pre", device=device)
    with pytest.raises(TypeError, match="saved: got tuple, expected AttentionSaved"):
        ops.attention_block_backward(DY, X, ROW_PTR, ATTENTION, tuple(saved)[:4], norm="pre", device=device)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"place": 5}, IndexError, "place: got 5, expected 0 <= place < 5"),
        ({"place": -1}, IndexError, "place: got -1"),
        ({"place": 1.0}, TypeError, "place"),
        ({"place": np.array(1.5)}, TypeError, "place: got ndarray"),
        ({"keys": OWN, "x": OWN[0]}, ValueError, "keys and an input share memory"),
        ({"values": OWN, "x": OWN[0]}, ValueError, "values and an input share memory"),
        ({"keys": OWN, "weights": ATTENTION._replace(beta=OWN[1])}, ValueError, "keys and an input share memory"),
        ({"values": OWN, "weights": ATTENTION._replace(gamma=OWN[1])}, ValueError, "values and an input share memory"),
        ({"keys": np.zeros((5, 6))}, TypeError, "float32"),
        ({"keys": np.zeros((4, 6), np.float32)}, ValueError, "keys and values"),
        ({"x": numbers(7)}, ValueError, "w_qkv"),
    ],
)
def test_attention_step_refuses(change: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    caches = np.zeros((2, 5, 6), np.float32)
    given: dict[str, Any] = {"x": X[0], "keys": caches[0], "values": caches[1], "place": 0, "weights": ATTENTION}
    with pytest.raises(error, match=text):
        ops.attention_block_step(**{**given, **change}, norm="pre", device=device)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"activation": "swish"}, ValueError, "one of relu"),
        ({"weights": FEED_FORWARD._replace(w2=numbers(7, 6))}, ValueError, "shape of w2"),
        ({"weights": FEED_FORWARD._replace(gamma=None)}, ValueError, "gamma and beta"),
        ({"dropout_hidden": -0.1}, ValueError, "0 <= rate < 1"),
        ({"eps": 0}, ValueError, "eps: got 0"),
        ({"weights": tuple(FEED_FORWARD)}, TypeError, "weights: got tuple, expected FeedForwardWeights"),
        ({"out": X}, ValueError, "share memory"),
    ],
)
def test_feed_forward_refuses(change: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    given: dict[str, Any] = {"x": X, "weights": FEED_FORWARD, "norm": "pre"}
    with pytest.raises(error, match=text):
        ops.feed_forward_block_forward(**{**given, **change}, device=device)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"eps": 0.0}, ValueError, "eps: got 0.0"),
        ({"eps": 1e-46}, ValueError, "eps: got 1e-46"),
        ({"eps": float("nan")}, ValueError, "eps: got nan"),
        ({"x": np.ones((9, 0)), "gamma": [], "beta": []}, ValueError, "columns of x: got 0, expected at least 1"),
        ({"out": X}, ValueError, "share memory"),
    ],
)
def test_layer_norm_refuses(change: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    given: dict[str, Any] = {"x": X, "gamma": numbers(6), "beta": numbers(6)}
    with pytest.raises(error, match=text):
        ops.layer_norm_forward(**{**given, **change}, device=device)
    with pytest.raises(ValueError, match="columns of x"):
        ops.layer_norm_backward(np.ones((9, 0)), np.ones((9, 0)), np.ones((9, 2)), [], device=device)


def test_feed_forward_backward_shapes(device: str) -> None:
    y, saved = ops.feed_forward_block_forward(X, FEED_FORWARD, norm="query", activation="gelu", device=device)
    options: dict[str, Any] = {"norm": "query", "activation": "gelu", "device": device}
    dx, gradients = ops.feed_forward_block_backward(DY, X, FEED_FORWARD, saved, **options)
    assert dx.shape == y.shape
    for gradient, value in zip(gradients, FEED_FORWARD, strict=True):
        assert np.shape(gradient) == np.shape(value)
    with pytest.raises(TypeError, match="saved: got tuple, expected FeedForwardSaved"):
        ops.feed_forward_block_backward(DY, X, FEED_FORWARD, tuple(saved), **options)
