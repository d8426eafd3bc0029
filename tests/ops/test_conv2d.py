"""Convolutions and pooling of images: against float64 and torch, their promises, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast import ops
from recsys_fast.ops.conv2d import conv_shape
from tests.cases.conv2d import CONV2D_CASES, POOL_CASES, Conv2DCase, PoolCase

Case = Conv2DCase | PoolCase
CASES: list[Case] = [*CONV2D_CASES, *POOL_CASES]
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{type(case).__name__}: {case.name}")


@by_case
def test_errors_are_those_of_float32_loops(case: Case, device: str) -> None:
    problem = case.make()
    exact, plain, got = problem.exact(), problem.run("numba"), problem.run(device)
    for name, want in exact.items():
        assert got[name].shape == want.shape, name
        if name == "argmax":  # maxima of a convolution may be as good as equal
            assert (got[name] != want).mean() < 1e-3 if isinstance(case, Conv2DCase) and want.size else True
            assert isinstance(case, Conv2DCase) or np.array_equal(got[name], want)
        elif want.size:
            scale = float(np.abs(want).max())
            error, loops = (float(np.abs(result[name] - want).max()) for result in (got, plain))
            assert error <= 4 * loops + 2e-6 * scale, name


@by_case
def test_results_do_not_depend_on_threads(case: Case, device: str) -> None:
    problem = case.make()
    first = problem.run(device, 1)
    for n_threads in (2, 5):
        for name, again in problem.run(device, n_threads).items():
            assert np.array_equal(first[name], again), name


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_convolution_is_that_of_the_formula(padding: str, device: str) -> None:
    problem = Conv2DCase("formula", 2, (5, 6, 2), (3, 2), 3, (2, 1), padding, activation="identity").make()
    y, _ = ops.conv2d_forward(problem.x, problem.w, problem.b, **problem.options(), device=device)
    behind = ((1, 1), (0, 1)) if padding == "same" else ((0, 0), (0, 0))
    padded = np.pad(problem.x.astype(np.float64), ((0, 0), *behind, (0, 0)))
    high, wide = (padded.shape[1] - 3) // 2 + 1, padded.shape[2] - 1
    want = np.empty((2, high, wide, 3))
    for row, col in np.ndindex(high, wide):
        window = padded[:, 2 * row : 2 * row + 3, col : col + 2]
        want[:, row, col] = problem.b + np.einsum("nijc,ijcd->nd", window, problem.w)
    assert y.shape == want.shape
    assert np.abs(y - want).max() < 1e-5


def test_pooling_inside_is_pooling_behind(device: str) -> None:
    problem = Conv2DCase("both", 3, (9, 10, 4), (3, 3), 12, pool=2, activation="sigmoid").make()
    pooled, _ = ops.conv2d_forward(problem.x, problem.w, problem.b, pool=2, activation="sigmoid", device=device)
    plain, _ = ops.conv2d_forward(problem.x, problem.w, problem.b, activation="sigmoid", device=device)
    assert np.abs(ops.pool_forward(plain, 2, device=device)[0] - pooled).max() < 1e-6


@pytest.mark.parametrize("case", [case for case in CONV2D_CASES if case.n], ids=lambda case: case.name)
def test_equals_torch(case: Conv2DCase) -> None:
    torch = pytest.importorskip("torch")
    problem = case.make()
    x, w, b = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (problem.x, problem.w, problem.b))
    shape = conv_shape(case.image, case.kernel, case.stride, case.padding, case.pool)
    down = max(0, (shape.out_h - 1) * shape.stride_h + shape.kernel_h - shape.height) if case.padding == "same" else 0
    right = max(0, (shape.out_w - 1) * shape.stride_w + shape.kernel_w - shape.width) if case.padding == "same" else 0
    around = torch.nn.functional.pad(
        x.permute(0, 3, 1, 2), (shape.left, right - shape.left, shape.top, down - shape.top)
    )
    z = torch.nn.functional.conv2d(around, w.permute(3, 2, 0, 1), b, stride=shape[5:7])
    act: dict[str, Any] = {
        "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "identity": lambda z: z,
        "gelu": torch.nn.functional.gelu, "gelu_tanh": lambda z: torch.nn.functional.gelu(z, approximate="tanh"),
    }  # fmt: skip
    y = torch.nn.functional.max_pool2d(act[case.activation](z), shape[11:]).permute(0, 2, 3, 1)
    y.backward(torch.tensor(problem.dy, dtype=torch.float64))
    got = problem.run("auto")
    assert np.abs(got["y"] - y.detach().numpy()).max() < 1e-5
    for name, variable in (("dx", x), ("dw", w), ("db", b)):
        want = variable.grad.numpy()
        assert np.abs(got[name] - want).max() < 1e-5 * (1 + np.abs(want).max()), name


def test_results_are_written_into_out(device: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 3)).astype(np.float32)
    w = np.ones((2, 2, 3, 4), np.float32)
    for call in (
        lambda out: ops.conv2d_forward(x, w, out=out, device=device),
        lambda out: ops.pool_forward(x, 2, out=out, device=device),
    ):
        expected = call(None)[0]
        out = np.full_like(expected, np.nan)
        assert call(out)[0] is out
        assert np.array_equal(out, expected)


def test_refuses(device: str) -> None:
    x, w = np.ones((2, 5, 6, 3), np.float32), np.ones((3, 3, 3, 4), np.float32)
    conv: Any = ops.conv2d_forward
    bad: list[tuple[Any, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
        (conv, (x[0], w), {}, ValueError, r"shape of x: got \(5, 6, 3\), expected \(n, height, width, channels\)"),
        (conv, (x[:, :0], w), {}, ValueError, "shape of x"),
        (conv, (x[..., :2], w), {}, ValueError, r"shape of w: got \(3, 3, 3, 4\), expected \(kernel_h, kernel_w, 2, d"),
        (conv, (x * np.inf, w), {}, ValueError, "finite"),
        (conv, (x.astype(str), w), {}, TypeError, "x"),
        (conv, (x, w, np.ones(3)), {}, ValueError, "shape of b"),
        (conv, (x, np.ones((6, 3, 3, 4))), {}, ValueError, r"height and width of an image: got \(5, 6\)"),
        (conv, (x, w), {"pool": 4}, ValueError, "height and width"),
        (conv, (x, w), {"pool": 20}, ValueError, "at most 256"),
        (conv, (x, w), {"stride": 0}, ValueError, "stride: got 0, expected at least 1"),
        (conv, (x, w), {"stride": (1, 2, 3)}, ValueError, "length of stride"),
        (conv, (x, w), {"stride": 1.5}, TypeError, "stride"),
        (conv, (x, w), {"padding": "full"}, ValueError, "padding: got 'full'"),
        (conv, (x, w), {"pool": 2, "activation": "gelu"}, ValueError, "pool_forward"),
        (conv, (x, w), {"out": np.empty((2, 3, 4, 3), np.float32)}, ValueError, "shape of out"),
        (conv, (x, np.ones((1, 1, 3, 3))), {"out": x}, ValueError, "share memory"),
        (ops.pool_forward, (x, 6), {}, ValueError, r"window: got \(6, 6\), expected at most the image's \(5, 6\)"),
        (ops.pool_forward, (x, 2), {"kind": "least"}, ValueError, "kind: got 'least'"),
        (ops.pool_forward, (x, "all"), {}, TypeError, "window"),
    ]
    for call, arguments, options, error, text in bad:
        with pytest.raises(error, match=text):
            call(*arguments, **options, device=device)
    y, saved = conv(x, w, pool=2, device=device)
    with pytest.raises(TypeError, match="saved: got tuple"):
        ops.conv2d_backward(y, y, tuple(saved), x, w, pool=2, device=device)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="argmax of saved"):
        ops.conv2d_backward(y, y, saved._replace(argmax=saved.argmax[:1]), x, w, pool=2, device=device)
    pooled, places = ops.pool_forward(x, 2, device=device)
    with pytest.raises(IndexError, match="argmax"):
        ops.pool_backward(pooled, places + 100, (5, 6, 3), 2, device=device)
    with pytest.raises(ValueError, match="shape of dy"):
        ops.pool_backward(pooled[:, :1], places, (5, 6, 3), 2, device=device)


@pytest.mark.cuda_emulated
def test_arrays_on_the_device_stay_there(emulated_arrays: Any) -> None:
    up = emulated_arrays.asarray
    p = Conv2DCase("there", 3, (7, 8, 2), (3, 2), 5, padding="same", pool=2, activation="tanh").make()
    how = p.options()
    here = ops.conv2d_forward(p.x, p.w, p.b, **how)
    there = ops.conv2d_forward(up(p.x), up(p.w), up(p.b), **how)
    back = ops.conv2d_backward(p.dy, *here, p.x, p.w, **how)
    found = ops.conv2d_backward(up(p.dy), *there, up(p.x), up(p.w), **how)
    pooled, places = ops.pool_forward(up(p.x), 2)
    expected, where = ops.pool_forward(p.x, 2)
    dx = ops.pool_backward(pooled, places, (7, 8, 2), 2)
    pairs = [(there[0], here[0]), (there[1].argmax, here[1].argmax), *zip(found, back, strict=True)]
    pairs += [(pooled, expected), (places, where), (dx, ops.pool_backward(expected, where, (7, 8, 2), 2))]
    for got, want in pairs:
        assert emulated_arrays.is_array(got)
        np.testing.assert_allclose(got.get(), want, atol=1e-5)
    with pytest.raises(TypeError, match="x on the device and w"):
        ops.conv2d_forward(up(p.x), p.w)
