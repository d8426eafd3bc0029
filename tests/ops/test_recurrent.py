"""The recurrent layers against their formulas, finite differences and torch; their promises, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_fast import ops
from tests.cases.recurrent import CASES, CELLS, Case, Problem, backward, forward, written_down

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
by_cell = pytest.mark.parametrize("cell", CELLS)


def largest(error: NDArray[Any], size: NDArray[Any]) -> float:
    """Return the largest error relative to the largest entry."""
    error, size = np.asarray(error), np.asarray(size)
    return float(np.abs(error).max(initial=0.0) / max(np.abs(size).max(initial=0.0), 1e-30))


@by_case
@by_cell
def test_forward_is_what_the_formulas_say(case: Case, cell: str) -> None:
    problem = case.make(cell, dtype=np.float64)
    saved = forward("numba", cell, problem)
    h, c = written_down(cell, problem)
    assert largest(saved["h"] - h, h) < 1e-13
    if cell == "lstm":
        assert largest(saved["c"] - c, c) < 1e-13


@by_case
@by_cell
def test_backward_is_the_gradient(case: Case, cell: str) -> None:
    """Along random directions, by central differences in float64; a truncated gradient is another test's."""
    problem = case.make(cell, dtype=np.float64)
    gradients = backward("numba", cell, problem, forward("numba", cell, problem))
    rng = np.random.default_rng(1)
    step = 1e-8 if cell == "relu" else 1e-5  # a short one crosses few kinks
    for name, gradient in gradients.items():
        if gradient.size == 0:
            continue
        way = rng.standard_normal(gradient.shape)

        def loss(at: float, name: str = name, way: NDArray[Any] = way) -> float:
            moved = problem._replace(**{name[1:]: getattr(problem, name[1:]) + at * way})
            return float((forward("numba", cell, moved)["h"] * problem.dh).sum())

        slope = (loss(step) - loss(-step)) / (2 * step)
        expected = float((gradient * way).sum())
        scale = float(np.linalg.norm(gradient)) + 1e-3
        assert abs(slope - expected) < (1e-3 if cell == "relu" else 1e-6) * scale, name


def _cut(problem: Problem, h: NDArray[Any], c: NDArray[Any] | None, k: int) -> Problem:
    """Return the problem whose sequences are the pieces of k rows, each from the state that the one before ended in."""
    row_ptr, states = [0], []
    wide = problem.h0.shape[1]
    for s, (first, stop) in enumerate(zip(problem.row_ptr[:-1], problem.row_ptr[1:], strict=True)):
        for at in range(first, stop, k):
            row_ptr.append(min(at + k, stop))
            if at == first:
                states.append(problem.h0[s] if len(problem.h0) else np.zeros(wide))
            else:
                states.append(h[at - 1] if c is None else np.concatenate([h[at - 1], c[at - 1]]))
    return problem._replace(row_ptr=np.array(row_ptr), h0=np.array(states).reshape(-1, wide).astype(problem.x.dtype))


@pytest.mark.parametrize("case", [c for c in CASES if c.truncate], ids=lambda case: case.name)
@by_cell
def test_truncation_is_cutting_the_sequences(case: Case, cell: str) -> None:
    problem = case.make(cell, dtype=np.float64)
    saved = forward("numba", cell, problem)
    got = backward("numba", cell, problem, saved, case.truncate)
    pieces = _cut(problem, saved["h"], saved.get("c"), case.truncate)
    expected = backward("numba", cell, pieces, saved)
    for name in ("dx", "dw_x", "dw_h", "db_x", "db_h"):
        assert largest(got[name] - expected[name], expected[name]) < 1e-12, name
    if len(problem.h0):
        firsts = np.searchsorted(pieces.row_ptr, problem.row_ptr[:-1])
        assert largest(got["dh0"] - expected["dh0"][firsts], expected["dh0"]) < 1e-12


@by_case
@by_cell
def test_errors_are_those_of_plain_float32(case: Case, cell: str, device: str) -> None:
    exact_problem, problem = case.make(cell, dtype=np.float64), case.make(cell)
    exact_saved, plain_saved = forward("numba", cell, exact_problem), forward("numba", cell, problem)
    saved = forward(device, cell, problem)
    for name, exact in exact_saved.items():
        bound = 4 * largest(plain_saved[name] - exact, exact) + 3e-7
        assert largest(saved[name] - exact, exact) <= bound, name
    exact_gradients = backward("numba", cell, exact_problem, exact_saved, case.truncate)
    plain = backward("numba", cell, problem, plain_saved, case.truncate)
    for name, gradient in backward(device, cell, problem, saved, case.truncate).items():
        exact = exact_gradients[name]
        assert largest(gradient - exact, exact) <= 4 * largest(plain[name] - exact, exact) + 1e-6, name


@by_case
@by_cell
def test_results_do_not_depend_on_threads(case: Case, cell: str, device: str) -> None:
    problem = case.make(cell)
    saved = forward(device, cell, problem)
    gradients = backward(device, cell, problem, saved, case.truncate)
    for n_threads in (2, 3, 7):
        again = forward(device, cell, problem, n_threads)
        assert all(np.array_equal(saved[name], again[name]) for name in saved)
        more = backward(device, cell, problem, saved, case.truncate, n_threads)
        assert all(np.array_equal(gradients[name], more[name]) for name in gradients)


@by_cell
def test_what_is_absent_is_not_computed(cell: str, device: str) -> None:
    """Inference keeps no gates; gradients of inputs, states and biases may be left out; the others stay the same."""
    problem = CASES[6].make(cell)
    saved = forward(device, cell, problem)
    gradients = backward(device, cell, problem, saved)
    public = _public(cell)
    arguments = {"h0": problem.h0, "b_x": problem.b_x, "b_h": problem.b_h, "device": device}
    layer = problem.x, problem.row_ptr, problem.w_x, problem.w_h
    if cell in ("gru", "lstm"):
        states = public[0](*layer, **arguments, keep=False)
        assert states.gates.size == 0
        assert np.array_equal(states.h, saved["h"])
    bare = problem._replace(b_x=problem.b_x[:0], b_h=problem.b_h[:0])
    less = backward(device, cell, bare, saved)
    assert np.array_equal(less["dw_x"], gradients["dw_x"])


def _public(cell: str) -> tuple[Any, Any]:
    name = "rnn" if cell == "relu" else cell
    return getattr(ops, f"{name}_forward"), getattr(ops, f"{name}_backward")


@by_cell
def test_public_functions_agree_with_flat_ones(cell: str, device: str) -> None:
    problem = CASES[6].make(cell)
    run, back = _public(cell)
    hyper = {"activation": "relu"} if cell == "relu" else {}
    layer = problem.x.astype(np.float64), list(problem.row_ptr), problem.w_x, problem.w_h
    states = run(*layer, b_x=problem.b_x, b_h=problem.b_h, h0=problem.h0, device=device, n_threads=1, **hyper)
    saved = forward(device, cell, problem)
    assert all(np.array_equal(getattr(states, name), array) for name, array in saved.items())
    got = back(problem.dh, states, *layer, h0=problem.h0, truncate=3, device=device, n_threads=1, **hyper)
    for name, gradient in backward(device, cell, problem, saved, 3).items():
        assert np.array_equal(getattr(got, name), gradient), name
    alone = run(*layer, device=device, **hyper)
    out = np.full_like(alone.h, np.nan)
    assert run(*layer, device=device, out=out, **hyper).h is out
    assert np.array_equal(out, alone.h)
    assert back(problem.dh, alone, *layer, device=device, **hyper).dh0.shape == problem.h0.shape


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_torch_agrees(cell: str, device: str) -> None:
    torch = pytest.importorskip("torch")
    problem = CASES[6].make(cell)
    layer = getattr(torch.nn, cell.upper())(problem.x.shape[1], len(problem.w_h))
    names = {"weight_ih_l0": "w_x", "weight_hh_l0": "w_h", "bias_ih_l0": "b_x", "bias_hh_l0": "b_h"}
    with torch.no_grad():
        for name, ours in names.items():
            getattr(layer, name).copy_(torch.from_numpy(getattr(problem, ours).T.copy()))
    x, h0 = (torch.from_numpy(a.copy()).requires_grad_() for a in (problem.x, problem.h0))
    pieces = torch.split(x, np.diff(problem.row_ptr).tolist())
    packed = torch.nn.utils.rnn.pack_sequence(pieces, enforce_sorted=False)
    first = tuple(part.unsqueeze(0).contiguous() for part in h0.split(len(problem.w_h), 1))
    out = torch.nn.utils.rnn.unpack_sequence(layer(packed, first if cell == "lstm" else first[0])[0])
    h = torch.cat(out)
    (h * torch.from_numpy(problem.dh)).sum().backward()
    saved = forward(device, cell, problem)
    gradients = backward(device, cell, problem, saved)
    assert np.allclose(saved["h"], h.detach().numpy(), atol=1e-5)
    expected = {"dx": x.grad, "dh0": h0.grad} | {
        f"d{ours}": getattr(layer, name).grad.T for name, ours in names.items()
    }
    for name, gradient in expected.items():
        assert np.allclose(gradients[name], gradient, atol=2e-5), name


X, POINTERS = np.ones((4, 3), np.float32), np.array([0, 1, 4])
W_X, W_H = np.ones((3, 6), np.float32), np.ones((2, 6), np.float32)
SAME = np.ones((4, 2), np.float32)


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"x": np.ones(4)}, ValueError, "x: got shape"),
        ({"x": X * np.nan}, ValueError, "finite"),
        ({"row_ptr": [0, 5]}, ValueError, "the number of rows"),
        ({"row_ptr": [0, 3, 1, 4]}, ValueError, r"row_ptr\[2\]: got 1"),
        ({"row_ptr": [0, 2**63 - 1, -2, 4]}, ValueError, r"row_ptr\[2\]: got -2"),
        ({"row_ptr": [0.0, 4.0]}, TypeError, "integer dtype"),
        ({"row_ptr": []}, (TypeError, ValueError), "row_ptr"),
        ({"w_h": np.ones((2, 7))}, ValueError, "shape of w_h"),
        ({"w_x": np.ones((2, 6))}, ValueError, "shape of w_x"),
        ({"b_x": np.ones(5)}, ValueError, "shape of b_x"),
        ({"b_h": np.ones((1, 6))}, ValueError, "shape of b_h"),
        ({"h0": np.ones((2, 3))}, ValueError, "shape of h0"),
        ({"out": np.empty((4, 3), np.float32)}, ValueError, "shape of out"),
        ({"out": np.empty((4, 2))}, TypeError, "float32"),
        ({"x": SAME, "w_x": np.ones((2, 6)), "out": SAME}, ValueError, "share memory"),
    ],
)
def test_forward_refuses(changed: dict[str, Any], error: Any, text: str, device: str) -> None:
    arguments = {"x": X, "row_ptr": POINTERS, "w_x": W_X, "w_h": W_H} | changed
    with pytest.raises(error, match=text):
        ops.gru_forward(**arguments, device=device)


def test_backward_refuses(device: str) -> None:
    layer = X, POINTERS, W_X, W_H
    states, dh = ops.gru_forward(*layer, device=device), np.ones((4, 2), np.float32)
    bare = ops.gru_forward(*layer, keep=False, device=device)
    with pytest.raises(ValueError, match=r"shape of states\.gates"):
        ops.gru_backward(dh, bare, *layer, device=device)
    with pytest.raises(TypeError, match="states: got tuple, expected RecurrentStates, what gru_forward returned"):
        ops.gru_backward(dh, tuple(states), *layer, device=device)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape of dh"):
        ops.gru_backward(dh[:3], states, *layer, device=device)
    with pytest.raises(ValueError, match="truncate"):
        ops.gru_backward(dh, states, *layer, truncate=-1, device=device)
    with pytest.raises(ValueError, match="activation"):
        ops.rnn_forward(X, POINTERS, W_X[:, :2], W_H[:, :2], activation="gelu", device=device)


def test_every_cell_names_its_own_shapes(device: str) -> None:
    plain, wide = (X, POINTERS, W_X[:, :2], W_H[:, :2]), (X, POINTERS, np.ones((3, 8)), np.ones((2, 8)))
    dh = np.ones((4, 2), np.float32)
    with pytest.raises(ValueError, match=r"shape of w_h: got \(2, 6\), expected \(H, 4 H\)"):
        ops.lstm_forward(X, POINTERS, W_X, W_H, device=device)
    with pytest.raises(ValueError, match=r"shape of h0: got \(2, 2\), expected \(2, 4\)"):
        ops.lstm_forward(*wide, h0=np.ones((2, 2)), device=device)
    with pytest.raises(ValueError, match=r"shape of states\.c"):
        ops.lstm_backward(dh, ops.gru_forward(X, POINTERS, W_X, W_H, device=device), *wide, device=device)
    with pytest.raises(ValueError, match="shape of w_x"):
        ops.rnn_forward(X, POINTERS, W_X, W_H[:, :2], device=device)
    with pytest.raises(TypeError, match="truncate"):
        ops.rnn_backward(dh, ops.rnn_forward(*plain, device=device), *plain, truncate=1.5, device=device)
