"""SGD epochs: vectors of users and items, whether rows of their own or sums of feature rows, and the step of a row.

The inner functions are compiled into the loop that calls them, and index the tables: to numba a call costs a copy of
every array's description, and a view two atomic operations, together more than the arithmetic of a narrow row.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inlined
from recsys_fast._numba.rng import Int

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

SGD, ADAGRAD, ADAM = 0, 1, 2
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


class Side(NamedTuple):
    """The users, or the items.

    With features (row_ptr not empty) entity e is the sum of the rows that its CSR row lists, else row e itself. States
    are ``(n, s, d)``: s = 0, 1 or 2 numbers per parameter. Biases ``(n, 1)`` and their states ``(n, s, 1)``; without
    biases they have no rows.
    """

    table: F32
    bias: F32
    state: F32
    bias_state: F32
    steps: I32
    row_ptr: I64
    col_idx: I32
    values: F32


@inlined
def value_at(values: F32, t: Int) -> Any:
    """Return a value of a sparse matrix, whose values are 1 where it has none."""
    return values[t] if len(values) else np.float32(1.0)


@inlined
def parts(row_ptr: I64, entity: Int) -> tuple[Int, Int]:
    """Return first and last of what an entity is the sum of: see ``row_of``."""
    if len(row_ptr) == 0:
        return np.int64(entity), np.int64(entity + 1)
    return np.int64(row_ptr[entity]), np.int64(row_ptr[entity + 1])


@inlined
def row_of(col_idx: I32, t: Int) -> Int:
    """Return the row of part t: with features what they name, else t itself."""
    return np.int64(col_idx[t]) if len(col_idx) else np.int64(t)


@inlined
def gather(out: F32, at: int, table: F32, row_ptr: I64, col_idx: I32, values: F32, entity: Int) -> None:
    """out[at] = the entity's vector; overwrites."""
    d = table.shape[1]
    for k in range(d):
        out[at, k] = 0.0
    begin, end = parts(row_ptr, entity)
    for t in range(begin, end):
        r, value = row_of(col_idx, t), value_at(values, t)
        for k in range(d):
            out[at, k] += value * table[r, k]


@inlined
def bias_of(bias: F32, row_ptr: I64, col_idx: I32, values: F32, entity: Int) -> Any:
    """Return the entity's bias, 0 where there are none."""
    total = np.float32(0.0)
    if len(bias):
        begin, end = parts(row_ptr, entity)
        for t in range(begin, end):
            total += value_at(values, t) * bias[row_of(col_idx, t), 0]
    return total


@inlined
def _move_row(
    table: F32, state: F32, r: Int, g: Any, along: F32, at: int, optimizer: int, unbias1: Any, unbias2: Any, lr: Any,
    reg: Any,
) -> None:  # fmt: skip
    """table[r] += lr * scaled(g * along[at] - reg * table[r]), scaled as the optimizer does."""
    d, eps = table.shape[1], np.float32(_EPS)
    if optimizer == SGD:
        for k in range(d):
            table[r, k] += lr * (g * along[at, k] - reg * table[r, k])
    elif optimizer == ADAGRAD:
        for k in range(d):
            gradient = g * along[at, k] - reg * table[r, k]
            state[r, 0, k] += gradient * gradient
            table[r, k] += lr * gradient / (math.sqrt(state[r, 0, k]) + eps)
    else:
        new1, new2 = np.float32(1.0 - _BETA1), np.float32(1.0 - _BETA2)
        for k in range(d):
            gradient = g * along[at, k] - reg * table[r, k]
            state[r, 0, k] += new1 * (gradient - state[r, 0, k])
            state[r, 1, k] += new2 * (gradient * gradient - state[r, 1, k])
            table[r, k] += lr * unbias1 * state[r, 0, k] / (math.sqrt(unbias2 * state[r, 1, k]) + eps)


@inlined
def move(
    table: F32, bias: F32, state: F32, bias_state: F32, steps: I32, row_ptr: I64, col_idx: I32, values: F32,
    entity: Int, g: Any, along: F32, at: int, g_bias: Any, one: F32, optimizer: int, lr: Any, reg: Any,
) -> None:  # fmt: skip
    """Move what the entity's vector is the sum of along g * along[at], and its bias along g_bias, each by its value.

    A row's first and second moments are kept as averages; Adam divides them by how much of an average they are after
    the row's t updates. one: ``(1, 1)``, the vector that a bias is the factor of.
    """
    begin, end = parts(row_ptr, entity)
    for t in range(begin, end):
        r, value = row_of(col_idx, t), value_at(values, t)
        unbias1 = unbias2 = np.float32(1.0)
        if optimizer == ADAM:
            steps[r] += 1
            unbias1 = np.float32(1.0 / (1.0 - _BETA1 ** steps[r]))
            unbias2 = np.float32(1.0 / (1.0 - _BETA2 ** steps[r]))
        _move_row(table, state, r, g * value, along, at, optimizer, unbias1, unbias2, lr, reg)
        if len(bias):
            _move_row(bias, bias_state, r, g_bias * value, one, 0, optimizer, unbias1, unbias2, lr, reg)


@inlined
def sum_of_squares(row_ptr: I64, values: F32, entity: Int) -> Any:
    """Return the sum of the squares of the values of an entity's parts."""
    total = np.float32(0.0)
    begin, end = parts(row_ptr, entity)
    for t in range(begin, end):
        total += value_at(values, t) * value_at(values, t)
    return total


@inlined
def settle(table: F32, row_ptr: I64, col_idx: I32, values: F32, entity: Int, decay: Any, change: F32, at: int) -> None:
    """Row = decay * row + value * change[at] for what the entity is the sum of."""
    begin, end = parts(row_ptr, entity)
    for t in range(begin, end):
        r, value = row_of(col_idx, t), value_at(values, t)
        for k in range(table.shape[1]):
            table[r, k] = decay * table[r, k] + value * change[at, k]
