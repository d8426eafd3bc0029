"""Convolutional and dense layers: against float64 and torch, their promises, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast import ops
from tests.cases.conv import CASER_CASES, CONV_CASES, DENSE_CASES, CaserCase, ConvCase, DenseCase

Case = ConvCase | CaserCase | DenseCase
CASES: list[Case] = [*CONV_CASES, *CASER_CASES, *DENSE_CASES]
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{type(case).__name__}: {case.name}")


@by_case
def test_errors_are_those_of_float32_loops(case: Case, device: str) -> None:
    problem = case.make()
    exact, plain, got = problem.exact(), problem.run("numba"), problem.run(device)
    for name, want in exact.items():
        if name == "argmax":  # two positions may be as good as equal
            assert (got[name] != want).mean() < 1e-3
        elif want.size:
            scale = float(np.abs(want).max())
            error, loops = (float(np.abs(result[name] - want).max()) for result in (got, plain))
            assert error <= 4 * loops + 2e-6 * scale, name


@by_case
def test_results_do_not_depend_on_threads(case: Case, device: str) -> None:
    problem = case.make()
    first = problem.run(device, 1)
    for n_threads in (2, 3, 7):
        for name, again in problem.run(device, n_threads).items():
            assert np.array_equal(first[name], again), name


def test_convolution_is_that_of_the_formula(device: str) -> None:
    problem = ConvCase("formula", [4, 0, 6], 3, dilation=2).make()
    w1, b1, gamma1, beta1, w2, b2, gamma2, beta2 = problem.weights

    def layer(x: Any, w: Any, b: Any, gamma: Any, beta: Any, dilation: int) -> Any:
        out = np.tile(b.astype(np.float64), (len(x), 1))
        for t in range(len(x)):
            for tap in range(3):
                if (past := t - (2 - tap) * dilation) >= 0:
                    out[t] += x[past] @ w[tap * 3 : (tap + 1) * 3]
        normal = (out - out.mean(1, keepdims=True)) / np.sqrt(out.var(1, keepdims=True) + 1e-8)
        return np.maximum(normal * gamma + beta, 0)

    y, _ = ops.causal_conv_block_forward(problem.x, problem.row_ptr, *problem.weights, dilation=2, device=device)
    for begin, end in ((0, 4), (4, 10)):
        x = problem.x[begin:end]
        inner = layer(x, w1, b1, gamma1, beta1, 2)
        assert np.abs(y[begin:end] - x - layer(inner, w2, b2, gamma2, beta2, 4)).max() < 1e-5


def test_later_items_never_change_earlier_outputs(device: str) -> None:
    problem = ConvCase("causal", [40, 25], 16, dilation=3).make()
    how = {"dilation": 3, "device": device}
    y, saved = ops.causal_conv_block_forward(problem.x, problem.row_ptr, *problem.weights, **how)
    changed = problem.x.copy()
    changed[20:40] += 1.0
    z, _ = ops.causal_conv_block_forward(changed, problem.row_ptr, *problem.weights, **how)
    assert np.array_equal(y[:20], z[:20])
    assert np.array_equal(y[40:], z[40:])
    assert not np.array_equal(y[20:40], z[20:40])
    w1, _, gamma1, beta1, w2, _, gamma2, beta2 = problem.weights
    dy = np.zeros_like(y)
    dy[10] = 1.0  # looks at rows 10 - 18 to 10 only
    given = (problem.x, problem.row_ptr, w1, gamma1, beta1, w2, gamma2, beta2)
    dx = ops.causal_conv_block_backward(dy, saved, *given, **how).dx
    assert not dx[11:].any()
    assert dx[1].any()
    assert dx[10].any()


def test_dropout_scales_what_it_keeps(device: str) -> None:
    problem = DenseCase("kept", 400, 8, 40, "sigmoid").make()
    plain, _ = ops.dense_forward(problem.x, problem.w, activation="sigmoid", device=device)
    y, _ = ops.dense_forward(problem.x, problem.w, activation="sigmoid", dropout=0.25, seed=1, device=device)
    kept = y != 0
    assert 0.72 < kept.mean() < 0.78
    assert np.allclose(y[kept], plain[kept] / 0.75, rtol=1e-4)


def test_filters_without_a_maximum_have_no_gradient(device: str) -> None:
    p = CaserCase("dead", 40, 4, 6, 3, 2).make()
    w_h, b_h, w_v, b_v = p.weights
    b_h[4] = -100.0
    z, argmax = ops.caser_forward(p.x, w_h, b_h, w_v, b_v, window=4, device=device)
    assert not z[:, 4].any()
    assert (argmax[:, 4] == -1).all()
    gradients = ops.caser_backward(p.dz, argmax, p.x, w_h, w_v, window=4, device=device)
    assert gradients.db_h[4] == 0
    assert not gradients.dw_h[6:18, 1].any(), "the second filter of height 2"
    assert gradients.db_h[[0, 3, 5]].all()


def test_layer_without_bias(device: str) -> None:
    p = DenseCase("plain", 50, 7, 4, "identity").make()
    y, _ = ops.dense_forward(p.x, p.w, activation="identity", device=device)
    assert np.abs(y - p.x @ p.w).max() < 1e-5
    gradients = ops.dense_backward(p.dy, y, p.x, p.w, activation="identity", device=device)
    assert np.abs(gradients.dx - p.dy @ p.w.T).max() < 1e-5
    assert np.abs(gradients.dw - p.x.T @ p.dy).max() < 1e-4
    assert np.abs(gradients.db - p.dy.sum(0)).max() < 1e-4


def test_block_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    problem = ConvCase("torch", [12, 30], 24, dilation=2).make()
    x, *weights = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in [problem.x, *problem.weights])
    w1, b1, gamma1, beta1, w2, b2, gamma2, beta2 = weights

    def layer(rows: Any, w: Any, b: Any, gamma: Any, beta: Any, dilation: int) -> Any:
        kernel = w.reshape(3, 24, 24).permute(2, 1, 0)
        ahead = torch.nn.functional.pad(rows.T[None], (2 * dilation, 0))
        out = torch.nn.functional.conv1d(ahead, kernel, b, dilation=dilation)[0].T
        return torch.relu(torch.nn.functional.layer_norm(out, (24,), gamma, beta, 1e-8))

    y = torch.cat([
        rows + layer(layer(rows, w1, b1, gamma1, beta1, 2), w2, b2, gamma2, beta2, 4) for rows in (x[:12], x[12:])
    ])  # fmt: skip
    y.backward(torch.tensor(problem.dy, dtype=torch.float64))
    got = problem.run("auto")
    assert np.abs(got["y"] - y.detach().numpy()).max() < 1e-5
    names = ("dx", "dw1", "db1", "dgamma1", "dbeta1", "dw2", "db2", "dgamma2", "dbeta2")
    for name, variable in zip(names, [x, *weights], strict=True):
        want = variable.grad.numpy()
        assert np.abs(got[name] - want).max() < 1e-5 * (1 + np.abs(want).max()), name


def test_caser_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    case = CaserCase("torch", 40, 5, 12, 6, 3)
    problem = case.make()
    x, *weights = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in [problem.x, *problem.weights])
    w_h, b_h, w_v, b_v = weights
    image, parts, row = x.reshape(40, 1, 5, 12), [], 0
    for height in range(1, 6):
        kernel = w_h[row : row + height * 12].T.reshape(6, 1, height, 12)
        row += height * 12
        scores = torch.nn.functional.conv2d(image, kernel, b_h[(height - 1) * 6 : height * 6])[..., 0]
        parts.append(torch.relu(scores).amax(2))
    columns = torch.nn.functional.conv2d(image, w_v.T.reshape(3, 1, 5, 1), b_v)
    z = torch.cat([*parts, columns.reshape(40, -1)], 1)
    z.backward(torch.tensor(problem.dz, dtype=torch.float64))
    got = problem.run("auto")
    assert np.abs(got["z"] - z.detach().numpy()).max() < 1e-5
    for name, variable in zip(("dx", "dw_h", "db_h", "dw_v", "db_v"), [x, *weights], strict=True):
        want = variable.grad.numpy()
        assert np.abs(got[name] - want).max() < 1e-5 * (1 + np.abs(want).max()), name


SQUARE = np.ones((4, 4), np.float32)


def test_conv_refuses(device: str) -> None:
    p = ConvCase("good", [3, 2], 4).make()
    call: Any = ops.causal_conv_block_forward
    bad: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        ((p.x, [0, 3], *p.weights), {}, ValueError, "row_ptr"),
        ((p.x, [0, 4, 3, 5], *p.weights), {}, ValueError, "row_ptr"),
        ((p.x, [0.0, 5.0], *p.weights), {}, TypeError, "row_ptr"),
        ((p.x[:, :3], p.row_ptr, *p.weights), {}, ValueError, "w1"),
        ((p.x * np.nan, p.row_ptr, *p.weights), {}, ValueError, "finite"),
        ((p.x, p.row_ptr, p.weights[0][:8], *p.weights[1:]), {}, ValueError, "w2"),
        ((p.x, p.row_ptr, *p.weights), {"dilation": 0}, ValueError, "dilation"),
        ((p.x, [0, 2**63 - 1, -2, 5], *p.weights), {}, ValueError, r"row_ptr\[2\]: got -2"),
        ((p.x, p.row_ptr, *p.weights), {"eps": 0.0}, ValueError, "eps"),
        ((p.x, p.row_ptr, *p.weights), {"eps": 1e-46}, ValueError, "eps: got 1e-46"),
        ((p.x, p.row_ptr, *p.weights), {"out": p.x}, ValueError, "share memory"),
        ((p.x, p.row_ptr, *p.weights), {"out": p.x[:3].copy()}, ValueError, "shape of out"),
        ((p.x, p.row_ptr, *p.weights), {"dropout": 1.0}, ValueError, "dropout"),
        ((p.x, p.row_ptr, *p.weights), {"seed": -1}, ValueError, "seed"),
    ]
    for arguments, options, error, text in bad:
        with pytest.raises(error, match=text):
            call(*arguments, **options, device=device)
    w1, _, gamma1, beta1, w2, _, gamma2, beta2 = p.weights
    saved: Any = tuple(call(p.x, p.row_ptr, *p.weights, device=device)[1])
    with pytest.raises(TypeError, match="saved: got tuple, expected ConvSaved"):
        ops.causal_conv_block_backward(
            p.dy, saved, p.x, p.row_ptr, w1, gamma1, beta1, w2, gamma2, beta2, device=device
        )  # fmt: skip


def test_results_are_written_into_out(device: str) -> None:
    p, q, r = (
        ConvCase("conv", [3, 2], 4).make(),
        CaserCase("c", 4, 3, 5, 2, 1).make(),
        DenseCase("d", 4, 5, 6, "relu").make(),
    )
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (ops.causal_conv_block_forward, (p.x, p.row_ptr, *p.weights), {}),
        (ops.caser_forward, (q.x, *q.weights), {"window": 3}),
        (ops.dense_forward, (r.x, r.w), {}),
    ]
    for call, arguments, options in calls:
        expected, _ = call(*arguments, **options, device=device)
        out = np.full_like(expected, np.nan)
        assert call(*arguments, **options, out=out, device=device)[0] is out
        assert np.array_equal(out, expected)


def test_caser_and_dense_refuse(device: str) -> None:
    p, q = CaserCase("good", 4, 3, 5, 2, 1).make(), DenseCase("good", 4, 5, 6, "gelu").make()
    z, argmax = ops.caser_forward(p.x, *p.weights, window=3, device=device)
    w_h, _, w_v, _ = p.weights
    bad: list[tuple[Any, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        (ops.caser_forward, (p.x[:-1], *p.weights), {"window": 3}, ValueError, "shape of x"),
        (ops.caser_forward, (p.x, *p.weights), {"window": 2}, ValueError, "w_h"),
        (ops.caser_backward, (z, argmax + 3, p.x, w_h, w_v), {"window": 3}, ValueError, "outside"),
        (ops.caser_backward, (z, argmax.astype(np.int64) + 2**32, p.x, w_h, w_v), {"window": 3}, ValueError, "outside"),
        (ops.caser_forward, (p.x, *p.weights), {"window": 3, "out": z[:2]}, ValueError, "shape of out"),
        (ops.caser_forward, (p.x, *p.weights), {"window": 3, "out": z.astype(float)}, TypeError, "float32"),
        (ops.dense_forward, (q.x, q.x.T.copy()), {"out": q.x[:, :4]}, ValueError, "not contiguous"),
        (ops.dense_forward, (SQUARE, np.eye(4)), {"out": SQUARE}, ValueError, "share memory"),
        (ops.caser_backward, (z, argmax * 0.5, p.x, w_h, w_v), {"window": 3}, TypeError, "argmax"),
        (ops.dense_forward, (q.x, q.w[:3]), {}, ValueError, "shape of w"),
        (ops.dense_forward, (q.x, q.w), {"activation": "elu"}, ValueError, "activation"),
        (ops.dense_backward, (q.dy, q.dy, q.x, q.w), {"activation": "gelu"}, ValueError, "pre"),
    ]
    for call, arguments, options, error, text in bad:
        with pytest.raises(error, match=text):
            call(*arguments, **options, device=device)
