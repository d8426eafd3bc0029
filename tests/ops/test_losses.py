"""The losses against float64 formulas and finite differences, their promises, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_fast import backend, ops
from recsys_fast.errors import NotSupportedError
from tests.cases.losses import CASES, EXTREME, KINDS, OPTIONS, Case, score_losses

Array = NDArray[Any]
Result = tuple[Any, ...]
by_case = pytest.mark.parametrize("case", CASES + EXTREME, ids=lambda case: case.name)
by_kind = pytest.mark.parametrize("kind", KINDS)


def expected(case: Case, kind: str, op: str, dtype: Any) -> tuple[Any, Array, Array, Array]:
    """Return loss, dh, drows and dbias by whole score matrices in plain loops of one dtype."""
    p = case.make(dtype)
    h, table = p["h"], p["table"]
    constant = p["bias"] if case.bias else np.zeros(case.n, dtype)
    if op != "softmax":
        constant = constant - p["log_q"]
    loss, dh, drows, dbias = dtype(0), np.zeros_like(h), np.zeros_like(table), np.zeros(case.n, dtype)
    for t, target in enumerate(p["targets"]):
        if target < 0:
            continue
        every = np.arange(case.n)
        out, at = np.zeros(case.n, np.bool_), int(target)
        if op == "shared":
            out = p["ids"] == p["ids"][target]
        if op == "row":
            every = np.concatenate(([target], p["negatives"][t]))
            out, at = every < 0, 0
        s = (table[every] * h[t]).sum(axis=1, dtype=dtype) + constant[every]
        row, g = score_losses(kind, s, at, out)
        loss += p["weights"][t] * row
        g = g * (p["weights"][t] * dtype(OPTIONS["scale"]))
        dh[t] = (g[:, None] * table[every]).sum(axis=0, dtype=dtype)
        live = every >= 0
        np.add.at(drows, every[live], g[live, None] * h[t])
        np.add.at(dbias, every[live], g[live])
    return loss, dh, drows, dbias


def run(case: Case, kind: str, op: str, device: str, **options: Any) -> Result:
    """Return loss, dh, drows and dbias of an operation."""
    p = case.make()
    bias = p["bias"] if case.bias else None
    common = {"weights": p["weights"], "bias": bias, "scale": OPTIONS["scale"], "device": device, **options}
    if op == "softmax":
        return tuple(ops.softmax_loss(p["h"], p["table"], p["targets"], **common))
    common |= {"kind": kind, "log_q": p["log_q"], "beta": OPTIONS["beta"], "regularization": OPTIONS["regularization"]}
    if op == "shared":
        return tuple(ops.shared_loss(p["h"], p["table"], p["targets"], ids=p["ids"], mask_equal=True, **common))
    loss, dh, coef = ops.row_loss(p["h"], p["table"], p["targets"], p["negatives"], **common)
    drows, dbias = np.zeros_like(p["table"]), np.zeros(case.n, np.float32)
    ids = np.c_[p["targets"], p["negatives"]]
    assert not coef[ids < 0].any()
    assert not coef[p["targets"] < 0].any()
    rows, places = np.nonzero(ids >= 0)
    np.add.at(drows, ids[rows, places], coef[rows, places, None] * p["h"][rows])
    np.add.at(dbias, ids[rows, places], coef[rows, places])
    return loss, dh, drows, dbias if case.bias else dbias[:0]


EVERY = [("softmax", "softmax"), *((kind, op) for op in ("shared", "row") for kind in KINDS)]
by_op = pytest.mark.parametrize(("kind", "op"), EVERY)


def error(got: Any, exact: Any) -> float:
    """Return the largest error, relative to the largest number."""
    largest = float(np.abs(np.asarray(got, np.float64) - exact).max(initial=0.0))
    return largest / max(float(np.abs(exact).max(initial=0.0)), 0.1)


def torch_loss(kind: str, p: Any, x: Any) -> Any:
    """Return the loss of a row in torch, p the score of the target, x those of the other candidates."""
    torch = pytest.importorskip("torch")
    log_sigmoid, beta, reg = torch.nn.functional.logsigmoid, OPTIONS["beta"], OPTIONS["regularization"]
    w = torch.softmax(x, 0)
    ranked = torch.sigmoid(x - p) + torch.sigmoid(x**2)
    if kind == "softmax":
        return torch.nn.functional.cross_entropy(torch.cat([p[None], x])[None], torch.zeros(1, dtype=torch.long))
    if kind == "bce":
        return -beta * log_sigmoid(p) - log_sigmoid(-x).sum()
    if kind == "bpr":
        return -log_sigmoid(p - x).mean()
    if kind == "bpr_max":
        return -torch.log((w * torch.sigmoid(p - x)).sum()) + reg * (w * x**2).sum()
    return ranked.mean() if kind == "top1" else (w * ranked).sum()


@by_op
def test_torch_agrees(kind: str, op: str, device: str) -> None:
    torch = pytest.importorskip("torch")
    case = Case("torch", 30, 40, 12)
    p = case.make(np.float64)
    given = [torch.tensor(p[name], requires_grad=True) for name in ("h", "table", "bias")]
    h, table, bias = given
    constant = bias if op == "softmax" else bias - torch.tensor(p["log_q"])
    total = torch.zeros((), dtype=torch.float64)
    for t in np.flatnonzero(p["targets"] >= 0):
        target = p["targets"][t]
        others = np.flatnonzero(np.arange(case.n) != target)
        if op == "shared":
            others = np.flatnonzero(p["ids"] != p["ids"][target])
        elif op == "row":
            others = p["negatives"][t][p["negatives"][t] >= 0]
        every = torch.tensor(np.r_[target, others].astype(np.int64))
        s = table[every] @ h[t] + constant[every]
        total = total + float(p["weights"][t]) * torch_loss(kind, s[0], s[1:])
    total.backward()
    loss, *gradients = run(case, kind, op, device)
    assert loss == pytest.approx(float(total.detach()), rel=1e-5)
    for ours, theirs in zip(gradients, given, strict=True):
        expected_gradient = OPTIONS["scale"] * theirs.grad.numpy()
        assert error(ours, expected_gradient) < 1e-5


@by_case
@by_op
def test_is_as_exact_as_plain_float32(case: Case, kind: str, op: str, device: str) -> None:
    exact, plain = expected(case, kind, op, np.float64), expected(case, kind, op, np.float32)
    got = run(case, kind, op, device)
    for name, g, e, p in zip(("loss", "dh", "drows", "dbias"), got, exact, plain, strict=True):
        if name != "dbias" or case.bias:
            # Scores have errors of their own, which grow with them and need not show in the plain form.
            assert error(g, e) <= 4 * error(p, e) + 2e-6 + 4e-7 * case.size, name


@by_case
@by_op
def test_bits_do_not_depend_on_threads(case: Case, kind: str, op: str, device: str) -> None:
    one = run(case, kind, op, device, n_threads=1)
    for n_threads in (2, 3, 7):
        again = run(case, kind, op, device, n_threads=n_threads)
        assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))


def flat_call(case: Case, kind: str, op: str) -> tuple[Any, dict[str, Array], dict[str, Array]]:
    """Return numba's operation in float64 as a function of nothing, its inputs, and what it writes."""
    p = case.make(np.float64)
    out = {name: np.empty_like(p[name]) for name in ("h", "table", "bias")}
    module, number = backend.get("numba"), KINDS.index(kind)
    args: tuple[Any, ...] = (p["h"], p["table"], p["bias"], p["targets"])
    if op == "softmax":
        return lambda: module.softmax_loss(*out.values(), *args, p["weights"], 1.0, 0, 2), p, out
    if op == "shared":
        extra = (p["ids"], p["log_q"], number, 0.7, 1, 0.3, p["weights"], 1.0, 0, 2)
        return lambda: module.shared_loss(*out.values(), *args, *extra), p, out
    coef = np.empty((case.n_rows, 1 + case.k))
    extra = (p["negatives"], p["log_q"], number, 0.7, 0.3, p["weights"], 1.0, 2)
    return lambda: module.row_loss(out["h"], coef, *args, *extra), p, {"h": out["h"]}


@by_op
def test_gradients_are_finite_differences(kind: str, op: str) -> None:
    call, inputs, outputs = flat_call(Case("", 70, 90, 6, size=2.0, k=7), kind, op)
    call()
    gradients = {name: array.copy() for name, array in outputs.items()}
    for name, gradient in gradients.items():
        x = inputs[name]
        for at in np.random.default_rng(1).permutation(x.size)[:15]:
            kept = x.flat[at]
            values = []
            for step in (1e-6, -1e-6):
                x.flat[at] = kept + step
                values.append(call())
            x.flat[at] = kept
            assert gradient.flat[at] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-6)


MODEST = [case for case in CASES if case.size <= 4.0]
on_cuda = pytest.mark.parametrize(
    "device",
    [pytest.param("cuda_emulated", marks=pytest.mark.cuda_emulated), pytest.param("cuda", marks=pytest.mark.gpu)],
    indirect=True,
)


def needs_bfloat16(device: str) -> None:
    """Skip a test where the backend or the processor does not multiply bfloat16."""
    there = device != "cpu" or backend.resolve_device() == "cpu"
    if not (there and backend.get(device).has_bfloat16()):
        pytest.skip(f"{device} does not multiply bfloat16 here")


def distance(got: Any, other: Any) -> float:
    """Return the length of the difference, relative to that of ``other``."""
    return float(np.linalg.norm(got - other) / max(float(np.linalg.norm(other)), 1e-4))


@pytest.mark.parametrize("op", ["softmax", "shared"])
@pytest.mark.parametrize("case", MODEST, ids=lambda case: case.name)
def test_bfloat16_errors_are_as_documented(case: Case, op: str, device: str) -> None:
    needs_bfloat16(device)
    exact = expected(case, "softmax", op, np.float64)
    got = run(case, "softmax", op, device, compute="bfloat16", n_threads=1)
    assert abs(got[0] - exact[0]) <= 3e-3 * abs(exact[0]) + 1e-6
    for g, e in zip(got[1:], exact[1:], strict=False):
        if g.size:
            assert distance(g, e) <= 1e-2
    again = run(case, "softmax", op, device, compute="bfloat16", n_threads=3)
    assert all(np.array_equal(a, b) for a, b in zip(got, again, strict=True))


@on_cuda
@pytest.mark.parametrize(("kind", "op"), [("softmax", "softmax"), *((kind, "shared") for kind in KINDS)])
@pytest.mark.parametrize("case", MODEST, ids=lambda case: case.name)
def test_bfloat16_on_cuda_is_that_of_the_cpu(case: Case, kind: str, op: str, device: str) -> None:
    """Scores are products of the same rounded numbers; between the products each rounds numbers of its own."""
    needs_bfloat16("cpu")
    here, there = (run(case, kind, op, name, compute="bfloat16") for name in ("cpu", device))
    assert there[0] == pytest.approx(here[0], rel=1e-5, abs=1e-6)
    for got, want in zip(there[1:], here[1:], strict=True):
        if got.size:
            assert distance(got, want) <= 5e-3


def test_bfloat16_is_refused_where_it_is_not() -> None:
    with pytest.raises(NotSupportedError, match="float32"):
        ops.softmax_loss(np.ones((1, 2)), np.ones((3, 2)), [0], compute="bfloat16", device="numba")


def test_scores_far_below_their_bound(device: str) -> None:
    """|h| max|e| is 10,000 above every score of the first row, and none above those of the second."""
    h, table = np.array([[100.0, 0.0], [0.0, 1.0]], np.float32), np.zeros((60, 2), np.float32)
    table[:, 1] = np.linspace(-1, 1, 60)
    table[0] = [-100.0, 0.0]
    loss, dh, drows, _ = ops.softmax_loss(h, table, [3, 5], device=device)
    s = h.astype(np.float64) @ table.T
    p = np.exp(s - s.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert loss == pytest.approx(-np.log(p[[0, 1], [3, 5]]).sum(), rel=1e-6)
    p[[0, 1], [3, 5]] -= 1
    assert np.allclose(dh, p @ table, atol=1e-6)
    assert np.allclose(drows, p.T @ h, rtol=1e-5, atol=1e-5)


def test_biases_may_rule_items_out(device: str) -> None:
    table, bias = np.eye(4, dtype=np.float32), np.array([0.0, -1e9, 0.0, -3e30], np.float32)
    loss, _, drows, dbias = ops.softmax_loss(np.ones((1, 4)), table, [0], bias=bias, device=device)
    assert loss == pytest.approx(np.log(2.0), rel=1e-6)
    assert not drows[[1, 3]].any()
    assert np.allclose(dbias, [-0.5, 0, 0.5, 0])


@pytest.mark.parametrize("bias", [44.5, 44.7, 88.0, 222.0, -1e3])
def test_a_large_bias_of_one_item_leaves_gradients_finite(bias: float, device: str) -> None:
    """One row fills no panel: the lanes beside it see the biases too."""
    h, table, biases = np.ones((1, 3), np.float32), np.eye(5, 3, dtype=np.float32), np.zeros(5, np.float32)
    biases[2] = bias
    _, dh, drows, dbias = ops.softmax_loss(h, table, [0], bias=biases, device=device)
    s = np.eye(5, 3) @ np.ones(3) + biases
    p = np.exp(s - s.max())
    p /= p.sum()
    p[0] -= 1
    assert np.allclose(dh, p @ table, atol=1e-6)
    assert np.allclose(drows, np.outer(p, h), atol=1e-6)
    assert np.allclose(dbias, p, atol=1e-6)


def test_rows_without_a_target_change_nothing_whatever_their_scores(device: str) -> None:
    """Every score of the second row is -160, so that no e^score is a float."""
    h, candidates = np.array([[0.5] * 8, [-20.0] * 8], np.float32), np.ones((3, 8), np.float32)
    one = ops.shared_loss(h[:1], candidates, [0], kind="softmax", device=device)
    both = ops.shared_loss(h, candidates, [0, -1], kind="softmax", device=device)
    assert both[0] == one[0]
    assert not both[1][1].any()
    for got, expected in ((both[1][:1], one[1]), (both[2], one[2])):
        assert np.allclose(got, expected, atol=1e-7)


@pytest.mark.parametrize("kind", ["squared", "smooth_l1", "logistic"])
def test_regression(kind: str, device: str) -> None:
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal(50) * 2, rng.standard_normal(50), rng.uniform(0.5, 2, 50)
    e = x - y
    size = np.abs(e)
    each = e * e if kind == "squared" else np.where(size < 1, e * e / 2, size - 0.5)
    slope = 2 * e if kind == "squared" else np.clip(e, -1, 1)
    if kind == "logistic":
        x[:4], y = (-90, 90, -20, 20), rng.random(50)
        each, slope = np.logaddexp(0, x) - y * x, np.exp(-np.logaddexp(0, -x)) - y
    loss, gradient = ops.regression_loss(x, y, kind=kind, weights=w, scale=0.25, device=device)
    assert loss == pytest.approx((w * each).sum(), rel=1e-6)
    assert np.allclose(gradient, 0.25 * w * slope, rtol=1e-5, atol=1e-6)
    assert ops.regression_loss([], [], device=device)[0] == 0.0


H, E = np.ones((2, 3)), np.ones((4, 3))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda d: ops.softmax_loss(H, np.ones((4, 2)), [0, 1], device=d), ValueError, "widths"),
        (lambda d: ops.softmax_loss(H, E[:0], [-1, -1], device=d), ValueError, "rows of table"),
        (lambda d: ops.softmax_loss(H, E, [0], device=d), ValueError, "shape of targets"),
        (
            lambda d: ops.softmax_loss(H, E, [0, 4], device=d),
            IndexError,
            r"targets\[1\]: got 4, expected -1 .none. or 0 <= id < 4",
        ),
        (lambda d: ops.softmax_loss(H, E, [0.0, 1.0], device=d), TypeError, "integer"),
        (lambda d: ops.softmax_loss(H * np.nan, E, [0, 1], device=d), ValueError, "finite"),
        (lambda d: ops.softmax_loss(H, E, [0, 1], bias=[1.0], device=d), ValueError, "shape of bias"),
        (lambda d: ops.softmax_loss(H, E, [0, 1], compute="half", device=d), ValueError, "compute"),
        (lambda d: ops.softmax_loss(H, E, [0, 1], scale="2.0", device=d), TypeError, "scale: got str"),
        (lambda d: ops.shared_loss(H, E, [0, 1], scale=np.nan, device=d), ValueError, "scale: got nan"),
        (lambda d: ops.shared_loss(H, E, [0, 1], kind="bce", beta=np.nan, device=d), ValueError, "beta: got nan"),
        (lambda d: ops.row_loss(H, E, [0, 1], [[1], [2]], regularization=-1, device=d), ValueError, "regularization"),
        (lambda d: ops.regression_loss([1.0], [1.0], scale=1e300, device=d), ValueError, r"scale: got 1e\+300"),
        (lambda d: ops.shared_loss(H, E, [0, 1], kind="hinge", device=d), ValueError, "kind"),
        (lambda d: ops.shared_loss(H, E, [0, 1], mask_equal=True, device=d), ValueError, "without ids"),
        (lambda d: ops.shared_loss(H, E, [0, 9], device=d), IndexError, r"positive\[1\]: got 9"),
        (lambda d: ops.row_loss(H, E, [0, 1], [1, 2], device=d), ValueError, "shape of negatives"),
        (lambda d: ops.row_loss(H, E, [0, 1], [[1], [-2]], device=d), IndexError, r"negatives\[1, 0\]: got -2"),
        (lambda d: ops.regression_loss([1.0], [1.0, 2.0], device=d), ValueError, "shape of target"),
    ],
)
def test_refuses(call: Any, error: type[Exception], text: str, device: str) -> None:
    with pytest.raises(error, match=text):
        call(device)
