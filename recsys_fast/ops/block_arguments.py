"""Checks that the operations of network layers, tables and losses share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.device import on_device
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_number, on_host
from recsys_fast.ops.gram import home
from recsys_fast.ops.negatives import counter
from recsys_fast.ops.topk import as_factors, as_out

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

NONE = np.empty(0, np.float32)
NO_ROWS = np.empty((0, 0), np.float32)
NORMS = ("none", "pre", "post", "query")
ACTIVATIONS = ("relu", "gelu_tanh", "tanh", "sigmoid", "identity", "gelu")
FROM_RESULT = ("relu", "tanh", "sigmoid", "identity")  # whose slope the result tells


class Masks(NamedTuple):
    """Which random masks a layer draws: a function of these three numbers, the row and the column."""

    seed: int
    step: int
    site: int


def as_masks(seed: Any, step: Any, site: Any) -> Masks:
    """Return the numbers of a mask after checking them: 64, 32 and 32 bits."""
    return Masks(counter(seed, "seed", 64), counter(step, "step", 32), counter(site, "site", 32))


def as_rate(rate: Any, name: str) -> float:
    """Return the rate of a dropout after checking that it is in [0, 1)."""
    number = as_number(rate, name, None)
    if not 0.0 <= number < 1.0:
        raise ValueError(message(name, rate, "0 <= rate < 1"))
    return number


def as_dropout(rate: Any, seed: Any, step: Any, site: Any, name: str = "dropout") -> tuple[float, int, int, int]:
    """Return the four arguments of a layer with one mask, checked."""
    return as_rate(rate, name), *as_masks(seed, step, site)


def as_choice(value: str, name: str, choices: Sequence[str]) -> int:
    """Return the place of ``value`` among ``choices``, the number by which backends know it, or raise ValueError."""
    if value not in choices:
        raise ValueError(message(name, repr(value), "one of " + ", ".join(choices)))
    return choices.index(value)


def activation_number(activation: str) -> int:
    """Return the number by which backends know an activation of ``FROM_RESULT``."""
    as_choice(activation, "activation", FROM_RESULT)
    return ACTIVATIONS.index(activation)


def as_rows(
    array: ArrayLike, name: str, shape: tuple[int | None, int | None] = (None, None), check_finite: bool = True
) -> F32:
    """Return ``array`` as contiguous float32 rows of a shape in which None stands for any size.

    Raises:
        TypeError: not real numbers.
        ValueError: another shape, or not finite.
    """
    rows = as_factors(array, name, check_finite)
    if any(want is not None and got != want for got, want in zip(rows.shape, shape, strict=True)):
        expected = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        raise ValueError(message(f"shape of {name}", rows.shape, expected))
    return rows


def as_vector(array: ArrayLike | None, name: str, size: int) -> F32:
    """Return ``array`` as contiguous float32 of ``size`` numbers; None is an array of length 0.

    Raises:
        TypeError: not real numbers.
        ValueError: another shape, or not finite.
    """
    if array is None:
        return NONE
    given = home(array).asarray(array) if on_device(array) else np.asarray(array)
    if given.shape != (size,):
        raise ValueError(message(f"shape of {name}", given.shape, f"({size},)"))
    vector: F32 = as_factors(given.reshape(1, size), name).reshape(size)
    return vector


def as_input(x: ArrayLike, name: str = "x") -> F32:
    """Return rows that have a column; errors as ``as_rows``."""
    rows = as_rows(x, name)
    if rows.shape[1] == 0:
        raise ValueError(message(f"columns of {name}", 0, "at least 1"))
    return rows


def as_row_ptr(row_ptr: ArrayLike, n_rows: int, max_length: int | None = None, name: str = "row_ptr") -> I64:
    """Return ``row_ptr`` as contiguous int64 after checking that it cuts ``n_rows`` rows into sequences.

    Raises:
        TypeError: not integers.
        ValueError: not 1-D, not from 0 to n_rows, decreasing, or a sequence is longer than ``max_length``.
    """
    given = on_host(row_ptr)
    if given.dtype.kind not in "iu":
        raise TypeError(message(f"dtype of {name}", given.dtype, "an integer dtype"))
    if given.ndim != 1 or len(given) == 0:
        raise ValueError(message(f"shape of {name}", given.shape, "(n_sequences + 1,)"))
    pointers = np.require(given, np.int64, ["C", "A", "E"])
    if pointers[0] != 0 or pointers[-1] != n_rows:
        raise ValueError(message(name, f"{pointers[0]} to {pointers[-1]}", f"0 to {n_rows}, the number of rows"))
    falls = pointers[1:] < pointers[:-1]  # not by differences, which may wrap around
    if falls.any():
        at = int(np.argmax(falls))
        raise ValueError(message(f"{name}[{at + 1}]", pointers[at + 1], f"at least {name}[{at}] = {pointers[at]}"))
    longest = 0 if max_length is None else int(np.diff(pointers).max(initial=0))
    if max_length is not None and longest > max_length:
        mend = "keep the most recent rows of each sequence"
        raise ValueError(message("length of a sequence", longest, f"at most {max_length}", mend))
    checked: I64 = home(row_ptr).asarray(row_ptr, np.int64) if on_device(row_ptr) else pointers
    return checked


def new_rows(like: Any, *shape: int) -> F32:
    """Return an array of float32 whose contents are undefined, where ``like`` lies."""
    rows: F32 = home(like).empty(shape, np.float32)
    return rows


def as_result(out: Any, shape: tuple[int, ...], like: Any, apart: Sequence[Any]) -> F32:
    """Return ``out`` after the checks of ``as_out``, or for None a new array where ``like`` lies."""
    if out is None:
        return new_rows(like, *shape)
    given: F32 = as_out(out, "out", shape, np.float32, apart)
    return given


def as_norm(norm: str, gamma: ArrayLike | None, beta: ArrayLike | None, d: int) -> tuple[int, F32, F32]:
    """Return the number of the layer norm's place, and its parameters.

    Raises:
        ValueError: no such place, or parameters missing or given where they do not belong.
    """
    number = as_choice(norm, "norm", NORMS)
    if (gamma is None or beta is None) != (norm == "none") or (gamma is None) != (beta is None):
        raise ValueError(message("gamma and beta", "other", 'both with a norm, neither with norm="none"'))
    return number, as_vector(gamma, "gamma", d), as_vector(beta, "beta", d)


def as_eps(eps: Any) -> float:
    """Return a number that is above 0 in float32 too: it keeps a division by the root of a sum of squares finite."""
    number = as_number(eps, "eps", None)
    if not np.float32(number) > 0.0:
        raise ValueError(message("eps", eps, "a finite number above 0 in float32"))
    return number
