"""Cases of the operations of factorization machines, with a dense reference straight from the definition."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.ops import Csr
from recsys_fast.ops.fm_data import Pairs

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Float = type[np.floating[Any]]


class Problem(NamedTuple):
    """The arguments of one epoch; ``fields`` is None for a plain machine."""

    table: F32
    state: F32
    steps: NDArray[np.int32]
    bias: F64
    matrix: Csr
    targets: F32
    fields: NDArray[np.int32] | None
    options: dict[str, Any]


class Case(NamedTuple):
    """A problem by its sizes. Row 0 is empty, row 1 has one entry, feature 0 is in most rows, the last one in none."""

    name: str
    n: int = 60
    m: int = 30
    d: int = 5
    n_fields: int = 0
    length: int = 6
    valued: bool = True
    loss: str = "squared"
    optimizer: str = "sgd"
    weighted: bool = False
    batch_size: int = 16
    learning_rate: float = 0.05
    weight_regularization: float = 0.02
    factor_regularization: float = 0.01

    @property
    def op(self) -> str:
        """Return the operation that the case is for."""
        return "ffm_epoch" if self.n_fields else "fm_epoch"

    def make(self, seed: int = 0) -> Problem:
        """Return the arrays; the same for the same seed."""
        rng = np.random.default_rng([seed, self.n, self.m, self.d])
        dense = rng.random((self.n, self.m)) < self.length / self.m
        dense[:, 0] = rng.random(self.n) < 0.8
        dense[:, -1] = False
        dense[:2] = False
        dense[1, 1] = True
        row_ptr = np.concatenate([[0], np.cumsum(dense.sum(1))]).astype(np.int64)
        col_idx = np.nonzero(dense)[1].astype(np.int32)
        values = rng.uniform(-1.0, 1.5, len(col_idx)).astype(np.float32) if self.valued else None
        width = max(1, self.n_fields) * self.d + 1
        factor = {"sgd": 0, "adagrad": 1, "adam": 2}[self.optimizer]
        targets = rng.normal(0.5, 1.0, self.n) if self.loss == "squared" else rng.integers(0, 2, self.n)
        bias = np.array([0.3, 0.2 * bool(factor), 0.1 * (factor == 2), 4.0 * (factor == 2)])
        options: dict[str, Any] = {
            "loss": self.loss, "optimizer": self.optimizer, "learning_rate": self.learning_rate,
            "weight_regularization": self.weight_regularization, "factor_regularization": self.factor_regularization,
            "batch_size": self.batch_size, "seed": 7, "epoch": 3,
        }  # fmt: skip
        if self.weighted:
            options["weights"] = rng.exponential(1.0, self.n).astype(np.float32)
        if self.loss == "bpr":
            options["groups"] = rng.integers(0, 5, self.n)
        return Problem(
            table=(0.3 * rng.standard_normal((self.m, width))).astype(np.float32),
            state=rng.uniform(0.1, 1.0, (self.m, factor * width)).astype(np.float32),
            steps=rng.integers(0, 5, self.m if factor == 2 else 0).astype(np.int32),
            bias=bias,
            matrix=Csr(row_ptr, col_idx, values, self.n, self.m),
            targets=targets.astype(np.float32),
            fields=rng.integers(0, self.n_fields, self.m).astype(np.int32) if self.n_fields else None,
            options=options,
        )


# Widths around those of vector registers, every loss and optimizer, batches of one row, of some, and of all.
CASES = [
    Case("linear", d=0),
    Case("one factor", d=1),
    Case("one row at a time", n=20, batch_size=1),
    Case("one batch", batch_size=1000, valued=False),
    Case("logistic adagrad", d=8, loss="logistic", optimizer="adagrad", weighted=True),
    Case("squared adam", d=15, optimizer="adam", weighted=True),
    Case("bpr", d=16, loss="bpr", valued=False, weighted=True),
    Case("bpr adam", d=4, loss="bpr", optimizer="adam", batch_size=7),
    Case("width 33", d=32, loss="logistic", optimizer="adam"),
    Case("wide", n=30, d=100, optimizer="adagrad"),
    Case("many rows", n=900, m=200, d=8, length=9, loss="logistic", batch_size=256),
    Case("one field", d=5, n_fields=1, loss="logistic"),
    Case("fields", d=4, n_fields=3, loss="logistic", optimizer="adagrad", weighted=True),
    Case("fields of 8", d=8, n_fields=4, optimizer="adam", valued=False),
    Case("fields of 3", d=3, n_fields=5, loss="bpr"),
    Case("many fields", n=400, m=120, d=4, n_fields=13, length=12, loss="logistic", batch_size=128),
]


def dense(matrix: Csr, dtype: Float = np.float64) -> NDArray[Any]:
    """Return the matrix as an array."""
    out = np.zeros(matrix.shape, dtype)
    rows = np.repeat(np.arange(matrix.n_rows), np.diff(matrix.row_ptr))
    out[rows, matrix.col_idx] = 1.0 if matrix.values is None else matrix.values
    return out


def pair_weights(table: NDArray[Any], fields: NDArray[np.int32] | None) -> NDArray[Any]:
    """Return ``(m, m)``: the inner product that belongs to each pair of features."""
    m, factors = len(table), table[:, :-1]
    if fields is None:
        return factors @ factors.T
    d = factors.shape[1] // (int(fields.max()) + 1)
    met = np.stack([factors[:, f * d : (f + 1) * d] for f in fields], axis=1)  # met[j, i] = v_{j, f(i)}
    assert met.shape == (m, m, d)
    return np.einsum("jid,ijd->ji", met, met)


def scores(table: NDArray[Any], bias: Any, x: NDArray[Any], fields: NDArray[np.int32] | None) -> NDArray[Any]:
    """Return the score of each row, pair by pair."""
    above = np.triu(pair_weights(table, fields), 1)
    return bias + x @ table[:, -1] + np.einsum("rj,ji,ri->r", x, above, x)


def gradients(table: NDArray[Any], x: NDArray[Any], slopes: NDArray[Any], fields: NDArray[Any] | None) -> NDArray[Any]:
    """Return sum_r slope_r d score_r / d table, in the dtype of its arguments."""
    out = np.zeros_like(table)
    out[:, -1] = slopes @ x
    moments = np.einsum("r,rj,ri->ji", slopes, x, x)
    np.fill_diagonal(moments, 0.0)
    if fields is None:
        out[:, :-1] = moments @ table[:, :-1]
        return out
    d = (table.shape[1] - 1) // (int(fields.max()) + 1)
    for j in range(len(table)):
        for i in range(len(table)):
            own, other = slice(fields[i] * d, (fields[i] + 1) * d), slice(fields[j] * d, (fields[j] + 1) * d)
            out[j, own] += moments[j, i] * table[i, other]
    return out


def order(seed: int, epoch: int, n: int) -> list[int]:
    """Return the order of an epoch's samples."""
    bits = max(1, (n - 1).bit_length())
    keys = []
    for r in range(4):
        words = [
            int(ops.philox_draw(1, seed=seed, epoch=epoch, first_sample=2**64 - 1, k=4 * r + i)[0]) for i in range(4)
        ]
        keys.append((words[0] | words[1] << 32, words[2] | words[3] << 32 | 1))
    places = []
    for x in range(n):
        while True:
            for add, multiply in keys:
                x = (x + add) * multiply % 2**64 % 2**bits
                x ^= x >> (bits + 1) // 2
            if x < n:
                break
        places.append(x)
    return places


def samples(problem: Problem) -> list[tuple[int, ...]]:
    """Return the rows of each sample of the epoch, in its order: one, or a positive and a negative."""
    seed, epoch = problem.options["seed"], problem.options["epoch"]
    if problem.options["loss"] != "bpr":
        return [(r,) for r in order(seed, epoch, problem.matrix.n_rows)]
    pairs = Pairs.of(problem.targets, problem.options["groups"])
    chosen = []
    for p in order(seed, epoch, len(pairs.positives)):
        begin, end = pairs.negative_ptr[pairs.groups[p]], pairs.negative_ptr[pairs.groups[p] + 1]
        word = int(ops.philox_draw(1, seed=seed, epoch=epoch, first_sample=p)[0])
        chosen.append((int(pairs.positives[p]), int(pairs.negatives[begin + (word * int(end - begin) >> 32)])))
    return chosen


def losses(problem: Problem, s: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return (loss of each sample, slope of each row) for scores ``(k, 1)`` or pairs of them ``(k, 2)``."""
    weights = problem.options.get("weights")
    c = np.ones(len(rows), s.dtype) if weights is None else weights[rows[:, 0]].astype(s.dtype)
    y = problem.targets[rows[:, 0]].astype(s.dtype)
    if problem.options["loss"] == "squared":
        return c * (s[:, 0] - y) ** 2 / 2, (c * (s[:, 0] - y))[:, None]
    sign = 2 * y - 1 if problem.options["loss"] == "logistic" else np.ones_like(y)
    margin = sign * (s[:, 0] if rows.shape[1] == 1 else s[:, 0] - s[:, 1])
    slope = -c * sign / (1 + np.exp(margin))
    return c * np.logaddexp(0, -margin), np.stack([slope, -slope][: rows.shape[1]], axis=1)


def reference(problem: Problem, dtype: Float) -> tuple[NDArray[Any], NDArray[Any], F64, float]:
    """Return (table, state, bias, loss) after one epoch made of dense products in ``dtype``."""
    table, state, x = problem.table.astype(dtype), problem.state.astype(dtype), dense(problem.matrix, dtype)
    bias, steps, options = problem.bias.copy(), problem.steps.astype(np.int64), problem.options
    penalty = np.full(table.shape[1], options["factor_regularization"], dtype)
    penalty[-1] = options["weight_regularization"]
    drawn, total = samples(problem), 0.0
    for first in range(0, len(drawn), options["batch_size"]):
        rows = np.array(drawn[first : first + options["batch_size"]])
        s = scores(table, dtype(bias[0]), x[rows.ravel()], problem.fields).reshape(rows.shape)
        loss, slopes = losses(problem, s, rows)
        total += float(loss.sum(dtype=np.float64))
        used = x[rows.ravel()]
        counts = (used != 0).sum(0)
        features = np.flatnonzero(counts)
        gradient = gradients(table, used, slopes.ravel().astype(dtype), problem.fields)
        mean = gradient[features] / counts[features, None].astype(dtype) + penalty * table[features]
        if options["loss"] != "bpr":
            bias = step_bias(bias, float(slopes.mean(dtype=np.float64)), options)
        width = table.shape[1]
        if options["optimizer"] == "adagrad":
            state[features] += mean**2
            mean = mean / (np.sqrt(state[features]) + dtype(1e-8))
        elif options["optimizer"] == "adam":
            steps[features] += 1
            t = steps[features, None].astype(np.float64)
            state[features, :width] += dtype(0.1) * (mean - state[features, :width])
            state[features, width:] += dtype(0.001) * (mean**2 - state[features, width:])
            rate = (np.sqrt(1 - 0.999**t) / (1 - 0.9**t)).astype(dtype)
            mean = rate * state[features, :width] / (np.sqrt(state[features, width:]) + dtype(1e-8))
        table[features] -= dtype(options["learning_rate"]) * mean
    return table, state, bias, total


def step_bias(bias: F64, gradient: float, options: dict[str, Any]) -> F64:
    """Return the bias after a step."""
    b, a, v, t = bias
    if options["optimizer"] == "sgd":
        return np.array([b - options["learning_rate"] * gradient, a, v, t])
    if options["optimizer"] == "adagrad":
        a += gradient**2
        return np.array([b - options["learning_rate"] * gradient / (np.sqrt(a) + 1e-8), a, v, t])
    t, a, v = t + 1, 0.9 * a + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    step = np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * a / (np.sqrt(v) + 1e-8)
    return np.array([b - options["learning_rate"] * step, a, v, t])
