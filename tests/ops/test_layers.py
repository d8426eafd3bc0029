"""The operations of network blocks, called as the blocks call them: every backend against the loops in float64.

The readable backend runs each case once and its calls are kept; another backend gets the same numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_fast import backend, ops
from recsys_fast.blocks.attention import SelfAttention
from recsys_fast.device import WRITTEN
from tests.cases import recurrent
from tests.cases.blocks import CASES, Case, Trial

Array = NDArray[Any]


def calls_of(case: Case) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the operations of one pass forward and back, and copies of their flat arguments."""
    trial = Trial(case, "numba")
    run, calls = trial.block.runtime.run, []

    def keep(operation: str, *arguments: Any) -> Any:
        written = WRITTEN[operation]
        copies = (a.copy() if isinstance(a, np.ndarray) else a for a in arguments)
        calls.append((operation, tuple(np.zeros_like(a) if i in written else a for i, a in enumerate(copies))))
        return run(operation, *arguments)

    trial.block.runtime.run = keep  # type: ignore[method-assign]
    trial.run()
    return calls


def called(device: str, operation: str, arguments: tuple[Any, ...], dtype: Any = np.float32) -> list[Array]:
    """Call a flat operation and return what it writes; floating point numbers are cast to ``dtype`` before."""
    given = []
    for position, argument in enumerate(arguments):
        if isinstance(argument, np.ndarray) and argument.dtype.kind == "f":
            argument = argument.astype(dtype)
            if position in WRITTEN[operation]:
                argument.fill(np.nan)
        given.append(argument)
    getattr(backend.get(device), operation)(*given, 2)
    return [given[position] for position in WRITTEN[operation]]


@functools.cache
def references(case: Case) -> list[tuple[str, tuple[Any, ...], list[Array], list[Array]]]:
    """Return a case's calls with their results by plain loops in float32 and in float64."""
    return [
        (name, arguments, called("numba", name, arguments), called("numba", name, arguments, np.float64))
        for name, arguments in calls_of(case)
    ]


LONGEST = Case("longest", lambda: SelfAttention(8, 2, norm="none"), 8, (4096, 2))
ALL = [pytest.param(case, id=f"{family}, {case.name}") for family, cases in CASES.items() for case in cases]


@pytest.mark.parametrize("case", [*ALL, pytest.param(LONGEST, id="attention, longest")])
def test_is_as_exact_as_plain_float32(case: Case, device: str) -> None:
    if device == "numba":
        pytest.skip("this is the one that measures")
    for name, arguments, plain, exact in references(case):
        for got, loops, true in zip(called(device, name, arguments), plain, exact, strict=True):
            size = np.abs(true).max(initial=1.0)
            error = np.abs(got - true).max(initial=0.0)
            assert error <= 4 * np.abs(loops - true).max(initial=0.0) + 1e-6 * size, name


def numbers(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(list(shape)).standard_normal(shape, np.float32)


def moved(there: Callable[[Any], Any], value: Any) -> Any:
    """Return arrays, alone or in named tuples, as ``there`` makes them."""
    if isinstance(value, tuple):
        parts = [moved(there, part) for part in value]
        return tuple(parts) if type(value) is tuple else type(value)(*parts)
    return there(value) if hasattr(value, "shape") else value


X, ROW_PTR = numbers(70, 6), np.array([0, 3, 3, 70])
ATTENTION = ops.AttentionWeights(numbers(6, 18), None, numbers(6, 6), numbers(6), numbers(6), numbers(6))
FEED_FORWARD = ops.FeedForwardWeights(numbers(6, 8), numbers(8), numbers(8, 6), None, numbers(6), numbers(6))
CONV = (numbers(18, 6), numbers(6), numbers(6), numbers(6))
CASER = (numbers(18, 3), numbers(6), numbers(2, 2))
DY = numbers(70, 6) + 1

# The passes by name: forward(arrays), and backward(dy, what forward returned, arrays).
PASSES: dict[str, tuple[tuple[Any, ...], Callable[..., Any], Callable[..., Any]]] = {
    "dense": (
        (X, CONV[0][:6], CONV[1]),
        lambda *a: ops.dense_forward(*a, activation="gelu"),
        lambda dy, f, x, w, _: ops.dense_backward(dy, f[0], x, w, pre=f[1], activation="gelu"),
    ),
    "layer_norm": (
        (X, numbers(6), numbers(6)),
        ops.layer_norm_forward,
        lambda dy, f, x, gamma, _: ops.layer_norm_backward(dy, x, f[1], gamma),
    ),
    "feed_forward": (
        (X, FEED_FORWARD),
        lambda *a: ops.feed_forward_block_forward(*a, norm="post"),
        lambda dy, f, *a: ops.feed_forward_block_backward(dy, *a, f[1], norm="post"),
    ),
    "attention": (
        (X, ROW_PTR, ATTENTION),
        lambda *a: ops.attention_block_forward(*a, n_heads=2, norm="query"),
        lambda dy, f, *a: ops.attention_block_backward(dy, *a, f[1], n_heads=2, norm="query"),
    ),
    "lstm": (
        (X, ROW_PTR, numbers(6, 24), numbers(6, 24), numbers(24), numbers(24), numbers(3, 12)),
        lambda *a: ops.lstm_forward(*a[:4], b_x=a[4], b_h=a[5], h0=a[6]),
        lambda dy, f, *a: ops.lstm_backward(dy, f, *a[:4], h0=a[6]),
    ),
    "causal_conv": (
        (X, ROW_PTR, *CONV, *CONV),
        ops.causal_conv_block_forward,
        lambda dy, f, x, row_ptr, w, b, *a: ops.causal_conv_block_backward(dy, f[1], x, row_ptr, w, *a[:3], *a[4:]),
    ),
    "caser": (
        (X, *CASER),
        lambda *a: ops.caser_forward(*a, window=2),
        lambda dy, f, x, w_h, b_h, w_v: ops.caser_backward(f[0], f[1], x, w_h, w_v, window=2),
    ),
}


@pytest.mark.cuda_emulated
def test_arrays_on_the_device_stay_there(emulated_arrays: Any) -> None:
    for name, (arguments, forward, backward) in PASSES.items():
        here = forward(*arguments)
        there = forward(*moved(emulated_arrays.asarray, arguments))
        gradients = backward(moved(emulated_arrays.asarray, DY), there, *moved(emulated_arrays.asarray, arguments))
        for got, want in zip(flat(there, gradients), flat(here, backward(DY, here, *arguments)), strict=True):
            assert emulated_arrays.is_array(got) or got.size == 0, name
            size = np.abs(want).max(initial=1.0)
            assert np.abs(emulated_arrays.to_host(got) - want).max(initial=0.0) < 1e-4 * size, name


def flat(*results: Any) -> list[Any]:
    """Return the arrays in nested tuples."""
    return [array for part in results for array in (flat(*part) if isinstance(part, tuple) else [part])]


@pytest.mark.cuda_emulated
def test_a_step_on_the_device_writes_its_caches(emulated_arrays: Any) -> None:
    y, saved = ops.attention_block_forward(X[3:10], [0, 7], ATTENTION, n_heads=2, norm="pre")
    keys, values = (emulated_arrays.zeros((7, 6), np.float32) for _ in range(2))
    weights = moved(emulated_arrays.asarray, ATTENTION)
    for place, row in enumerate(X[3:10]):
        given = emulated_arrays.asarray(row)
        got = ops.attention_block_step(given, keys, values, place, weights, n_heads=2, norm="pre")
        assert np.abs(got.get() - y[place]).max() < 1e-4
    assert np.abs(keys.get() - saved.qkv[:, 6:12]).max() < 1e-5
    assert np.abs(values.get() - saved.qkv[:, 12:]).max() < 1e-5


@pytest.mark.cuda_emulated
def test_arrays_in_two_places_are_refused(emulated_arrays: Any) -> None:
    there = emulated_arrays.asarray(X)
    for call in (
        lambda: ops.layer_norm_forward(there, numbers(6), numbers(6)),
        lambda: ops.attention_block_forward(there, ROW_PTR, ATTENTION, norm="pre"),
        lambda: ops.gru_forward(X, ROW_PTR, emulated_arrays.asarray(numbers(6, 18)), numbers(6, 18)),
    ):
        with pytest.raises(TypeError, match="on the device and"):
            call()


@pytest.mark.cuda_emulated
def test_recurrent_states_too_wide_for_shared_memory(emulated_arrays: Any) -> None:
    problem = recurrent.Case("wide", (2, 1), 1, 1710, state=True).make("lstm")
    saved = recurrent.forward("numba", "lstm", problem)
    expected = recurrent.backward("numba", "lstm", problem, saved)
    got = recurrent.backward("cuda", "lstm", problem, saved)
    for name, want in expected.items():
        assert np.abs(got[name] - want).max() < 1e-5 * np.abs(want).max(), name
