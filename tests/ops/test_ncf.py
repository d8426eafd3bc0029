"""Networks of pairs: against dense layers, finite differences and torch; their promises, and what they refuse."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from recsys_fast import ops
from recsys_fast.ops.ncf import count_params
from recsys_fast.ops.unchecked import run_unchecked

SHAPES = {"gmf": (6, (0,)), "mlp": (0, (10, 7, 3)), "neumf": (5, (38, 17, 8, 4)), "narrow": (1, (2, 1))}


class Problem(NamedTuple):
    users: Any
    items: Any
    user_ids: Any
    item_ids: Any
    params: Any
    widths: tuple[int, ...]
    d_product: int


def problem(name: str, n: int = 60, w: int = 5, seed: int = 0) -> Problem:
    """Rows of a few users and items, some of whose pairs are absent."""
    d_product, widths = SHAPES[name]
    rng, d = np.random.default_rng(seed), d_product + widths[0] // 2
    users, items = (rng.standard_normal((k, d)).astype(np.float32) for k in (9, 12))
    ids = rng.integers(0, 12, (n, w)).astype(np.int32)
    ids[n // 3, w - 1] = -1
    params = (0.5 * rng.standard_normal(count_params(widths, d_product))).astype(np.float32)
    return Problem(users, items, rng.integers(0, 9, n).astype(np.int32), ids, params, widths, d_product)


def reference(p: Problem, users: Any, items: Any, params: Any, act: Any) -> Any:
    """Scores of rows ``users`` and ``items`` one by one, in the dtype of the arguments."""
    z, at = np.concatenate([users[:, p.d_product :], items[:, p.d_product :]], 1), 0
    for d_in, d_out in zip(p.widths[:-1], p.widths[1:], strict=True):
        w, b = params[at : at + d_in * d_out].reshape(d_in, d_out), params[at + d_in * d_out : at + (d_in + 1) * d_out]
        z, at = act(z @ w + b), at + (d_in + 1) * d_out
    both = np.concatenate([users[:, : p.d_product] * items[:, : p.d_product], z], 1)
    return both @ params[at:-1] + params[-1]


def reference_loss(p: Problem, users: Any, items: Any, params: Any, act: Any) -> float:
    given = p.item_ids.reshape(-1)
    whom = np.repeat(p.user_ids, p.item_ids.shape[1])
    scores = reference(p, users[whom], items[given], params, act)
    signs = np.where(np.arange(len(given)) % p.item_ids.shape[1] == 0, -1.0, 1.0)
    return float(np.logaddexp(0.0, signs * scores)[given >= 0].sum())


def wide(array: Any) -> Any:
    return array.astype(np.float64)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_scores_and_loss_are_those_of_the_definition(name: str, activation: str, device: str) -> None:
    p = problem(name)
    act = np.tanh if activation == "tanh" else lambda x: np.maximum(x, 0.0)
    found = ops.ncf_loss(*p, activation=activation, device=device)
    exact = reference_loss(p, wide(p.users), wide(p.items), wide(p.params), act)
    plain = reference_loss(p, p.users, p.items, p.params, act)
    assert abs(found.loss - exact) <= 4 * abs(plain - exact) + 1e-6 * exact
    scores = ops.ncf_scores(p.users, p.items, p.params, p.widths, p.d_product, activation=activation, device=device)
    pairs = np.repeat(p.users, 12, axis=0), np.tile(p.items, (9, 1))
    expected = reference(p, *map(wide, pairs), wide(p.params), act).reshape(9, 12)
    error = np.abs(reference(p, *pairs, p.params, act).reshape(9, 12) - expected).max()
    np.testing.assert_allclose(scores, expected, rtol=0, atol=4 * error + 1e-6)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_those_of_finite_differences(dropout: float) -> None:
    """In float64, where the backend has it; the native gradients are held against these."""
    p = problem("neumf", n=12)
    arrays = [wide(p.users), wide(p.items), wide(p.params)]
    mode = (p.d_product, 2, dropout, 3, 4, 8, 0.5)
    ids = np.repeat(p.user_ids, 1), p.item_ids

    def loss(out: list[Any]) -> float:
        users, items, params = arrays
        widths = np.array(p.widths)
        return float(
            run_unchecked("ncf_loss", *out, users, items, *ids, params, widths, *mode, device="numba", n_threads=1)
        )

    d = p.users.shape[1]
    shapes = (len(p.user_ids), d), (p.item_ids.size, d), p.params.shape
    found, other = ([np.empty(shape) for shape in shapes] for _ in range(2))
    loss(found)
    whole = [np.zeros_like(arrays[0]), np.zeros_like(arrays[1]), found[2]]
    np.add.at(whole[0], p.user_ids, found[0])
    given = p.item_ids.reshape(-1)
    np.add.at(whole[1], given[given >= 0], found[1][given >= 0])
    rng = np.random.default_rng(1)
    for array, gradient in zip(arrays, whole, strict=True):
        for at in rng.choice(array.size, min(array.size, 40), replace=False):
            flat, step = array.reshape(-1), 1e-6
            kept = flat[at]
            flat[at] = kept + step
            above = loss(other)
            flat[at] = kept - step
            below = loss(other)
            flat[at] = kept
            assert abs(0.5 * (above - below) / (2 * step) - gradient.reshape(-1)[at]) < 1e-6
    native = ops.ncf_loss(*p, activation="tanh", dropout=dropout, seed=3, step=4, site=8, scale=0.5)
    for got, expected in zip(native[1:], found, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["gmf", "mlp", "neumf"])
def test_gradients_are_those_of_torch(name: str, device: str) -> None:
    torch = pytest.importorskip("torch")
    p = problem(name, n=200)
    users, items, params = (torch.tensor(wide(a), requires_grad=True) for a in (p.users, p.items, p.params))
    whom, what = torch.tensor(np.repeat(p.user_ids, 5)).long(), torch.tensor(p.item_ids.reshape(-1)).long()
    u, i = users[whom], items[what.clamp(min=0)]
    z, at = torch.cat([u[:, p.d_product :], i[:, p.d_product :]], 1), 0
    for d_in, d_out in zip(p.widths[:-1], p.widths[1:], strict=True):
        w, b = params[at : at + d_in * d_out].reshape(d_in, d_out), params[at + d_in * d_out : at + (d_in + 1) * d_out]
        z, at = torch.relu(z @ w + b), at + (d_in + 1) * d_out
    s = torch.cat([u[:, : p.d_product] * i[:, : p.d_product], z], 1) @ params[at:-1] + params[-1]
    labels = (torch.arange(len(what)) % 5 == 0).double()
    losses = torch.nn.functional.binary_cross_entropy_with_logits(s, labels, reduction="none") * (what >= 0)
    losses.sum().backward()
    found = ops.ncf_loss(*p, device=device)
    whole = [np.zeros_like(p.users), np.zeros_like(p.items), found.dparams]
    np.add.at(whole[0], p.user_ids, found.dusers)
    given = p.item_ids.reshape(-1)
    np.add.at(whole[1], given[given >= 0], found.ditems[given >= 0])
    for got, tensor in zip(whole, (users, items, params), strict=True):
        np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-4, atol=2e-4)


def test_masks_are_those_of_the_dense_layer(device: str) -> None:
    """With dropout the network is a composition of dense layers with the masks of their sites."""
    p = problem("mlp", n=40)
    whom, what = np.repeat(p.user_ids, 5), np.maximum(p.item_ids.reshape(-1), 0)
    masks: dict[str, Any] = {"dropout": 0.3, "seed": 7, "step": 2, "device": device}
    z, at = np.concatenate([p.users[whom], p.items[what]], 1), 0
    for layer, (d_in, d_out) in enumerate(zip(p.widths[:-1], p.widths[1:], strict=True)):
        w = p.params[at : at + d_in * d_out].reshape(d_in, d_out)
        b = p.params[at + d_in * d_out : at + (d_in + 1) * d_out]
        z, _ = ops.dense_forward(z, w, b, activation="relu", site=16 + layer, **masks)
        at += (d_in + 1) * d_out
    scores = z @ p.params[at:-1] + p.params[-1]
    signs = np.where(np.arange(len(what)) % 5 == 0, -1.0, 1.0)
    expected = np.logaddexp(0.0, signs * scores)[p.item_ids.reshape(-1) >= 0].sum()
    assert abs(ops.ncf_loss(*p, site=16, **masks).loss - expected) < 1e-5 * expected


def test_the_same_bits_for_any_number_of_threads(device: str) -> None:
    p = problem("neumf", n=300)
    one, three = (ops.ncf_loss(*p, dropout=0.2, device=device, n_threads=n) for n in (1, 3))
    for left, right in zip(one, three, strict=True):
        assert np.array_equal(left, right)
    found = [
        ops.ncf_scores(p.users, p.items, p.params, p.widths, p.d_product, device=device, n_threads=n) for n in (1, 3)
    ]
    assert np.array_equal(*found)


def test_rows_without_an_item_get_no_gradient(device: str) -> None:
    p = problem("neumf")
    nothing = p._replace(item_ids=np.full_like(p.item_ids, -1))
    found = ops.ncf_loss(*nothing, device=device)
    assert found.loss == 0.0
    assert not any(gradient.any() for gradient in found[1:])
    empty = ops.ncf_loss(*p._replace(item_ids=p.item_ids[:0], user_ids=p.user_ids[:0]), device=device)
    assert (empty.loss, empty.dusers.shape, empty.ditems.shape) == (0.0, (0, 24), (0, 24))
    assert not empty.dparams.any()
    scores = ops.ncf_scores(p.users[:0], p.items, p.params, p.widths, p.d_product, device=device)
    assert scores.shape == (0, 12)


def test_what_is_refused(device: str) -> None:
    p = problem("neumf")
    bad = p.users.copy()
    bad[2, 3] = np.nan
    changes: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"users": bad}, ValueError, r"users\[2, 3\]"),
        ({"items": p.items[:, 1:]}, ValueError, "shape of items"),
        ({"user_ids": p.user_ids + 9}, IndexError, "user_ids"),
        ({"user_ids": p.user_ids[1:]}, ValueError, "shape of user_ids"),
        ({"user_ids": p.user_ids + 0.5}, TypeError, "user_ids"),
        ({"item_ids": p.item_ids + 12}, IndexError, "item_ids"),
        ({"item_ids": p.item_ids[:, 0]}, ValueError, "shape of item_ids"),
        ({"params": p.params[1:]}, ValueError, "shape of params"),
        ({"widths": (38, 17, 8)}, ValueError, "shape of params"),
        ({"widths": (36, 17, 8, 4)}, ValueError, "widths"),
        ({"widths": (38, 0, 4)}, ValueError, "widths"),
        ({"widths": (38, *[1] * 9)}, ValueError, "widths"),
        ({"d_product": 25}, ValueError, "d_product"),
    ]
    for change, error, text in changes:
        with pytest.raises(error, match=text):
            ops.ncf_loss(*p._replace(**change), device=device)
    options: list[tuple[dict[str, Any], str]] = [
        ({"activation": "gelu"}, "activation"), ({"dropout": 1.0}, "dropout"), ({"scale": np.inf}, "scale"),
    ]  # fmt: skip
    for option, text in options:
        with pytest.raises(ValueError, match=text):
            ops.ncf_loss(*p, device=device, **option)
    with pytest.raises(ValueError, match="shape of out"):
        ops.ncf_scores(p.users, p.items, p.params, p.widths, 5, out=np.empty((9, 11), np.float32), device=device)


@pytest.mark.cuda_emulated
def test_arrays_on_the_device_stay_there(emulated_arrays: Any) -> None:
    p, up = problem("neumf"), emulated_arrays.asarray
    there = p._replace(users=up(p.users), items=up(p.items), params=up(p.params))
    here, found = ops.ncf_loss(*p), ops.ncf_loss(*there)
    assert found.loss == pytest.approx(here.loss, rel=1e-6)
    for got, want in zip(found[1:], here[1:], strict=True):
        np.testing.assert_allclose(got.get(), want, rtol=1e-5, atol=1e-5)
    scores = ops.ncf_scores(there.users, there.items, there.params, p.widths, p.d_product)
    want = ops.ncf_scores(p.users, p.items, p.params, p.widths, p.d_product)
    np.testing.assert_allclose(scores.get(), want, rtol=1e-5, atol=1e-5)
    with pytest.raises(TypeError, match="users on the device and items"):
        ops.ncf_loss(*there._replace(items=p.items))


@pytest.mark.cuda_emulated
def test_layers_without_a_tower(emulated_arrays: Any) -> None:
    """All columns are multiplied, and the layers see nothing but their biases."""
    p = problem("gmf")
    widths = (0, 3, 2)
    params = np.random.default_rng(0).standard_normal(count_params(widths, 6)).astype(np.float32)
    odd = p._replace(widths=widths, params=params)
    here, there = (ops.ncf_loss(*odd, activation="tanh", device=device) for device in ("auto", "cuda"))
    for got, want in zip(there, here, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
