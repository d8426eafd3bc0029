"""Cases of als_sweep and als_loss, for their tests and benchmarks, with a dense reference in any precision."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.ops import Csr

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


class Problem(NamedTuple):
    """The arguments of one sweep.

    Attributes:
        x: ``(n, d)`` start of the iterative solvers.
        y: ``(m, d)`` in the eigenbasis of its Gram matrix, up to float32 rounding.
        matrix: ``(n, m)``.
        spectrum: ``(d,)`` diagonal of y^T y.
        options: keyword arguments of the objective, the same for ``als_sweep`` and ``als_loss``.
    """

    x: F32
    y: F32
    matrix: Csr
    spectrum: F32
    options: dict[str, Any]


class Case(NamedTuple):
    """A problem by its sizes. Row 0 is empty, row 1 has one entry, row 2 all, the others about ``length``.

    Attributes:
        values: "none" (every entry counts 1), "counts" (exponential), "signed" (some zero, some negative), "ratings".
        targets: None, True, or "array" for linear terms given apart.
    """

    name: str
    n: int
    m: int
    d: int
    length: int
    values: str = "none"
    targets: bool | str | None = None
    target_offset: float = 0.0
    unobserved_weight: float = 0.05
    regularization: float = 0.01
    nu: float = 1.0
    biased: bool = False

    @property
    def steps(self) -> float:
        """Multiply-adds of one exact sweep, with the shorter side of a row as unknowns."""
        lengths = [1.0, self.m, *[min(self.length, self.m)] * max(0, self.n - 3)]
        return sum(n * self.d * min(n, self.d) + min(n, self.d) ** 3 / 3 for n in lengths)

    def make(self, seed: int = 0) -> Problem:
        """Return the arrays; the same for the same seed."""
        rng = np.random.default_rng([seed, self.n, self.m, self.d])
        lengths = np.minimum(rng.poisson(self.length, self.n), self.m)
        lengths[: min(3, self.n)] = [0, 1, self.m][: self.n]
        rows = [np.sort(rng.choice(self.m, k, replace=False)) for k in lengths]
        row_ptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        col_idx = np.concatenate([np.empty(0, int), *rows]).astype(np.int32)
        y = rng.standard_normal((self.m, self.d)) * 0.95 ** np.arange(self.d) * 0.4
        y = y @ np.linalg.eigh(y.T @ y)[1][:, ::-1]
        options: dict[str, Any] = {
            "unobserved_weight": self.unobserved_weight, "regularization": self.regularization, "nu": self.nu,
            "targets": self.targets, "target_offset": self.target_offset, "biased": self.biased,
        }  # fmt: skip
        if self.targets == "array":
            options["targets"] = rng.standard_normal(len(col_idx)).astype(np.float32)
        return Problem(
            x=(0.1 * rng.standard_normal((self.n, self.d))).astype(np.float32),
            y=np.ascontiguousarray(y, np.float32),
            matrix=Csr(row_ptr, col_idx, self._values(rng, len(col_idx)), self.n, self.m),
            spectrum=np.square(y).sum(0).astype(np.float32),
            options=options,
        )

    def _values(self, rng: np.random.Generator, nnz: int) -> F32 | None:
        if self.values == "none":
            return None
        if self.values == "ratings":
            return rng.integers(1, 6, nnz).astype(np.float32) - 3
        values = rng.exponential(2.0, nnz)
        if self.values == "signed":
            values *= rng.choice([1.0, 1.0, 0.0, -0.5], nnz)
        return values.astype(np.float32)


# Widths around those of vector registers; rows shorter and longer than the width; every kind of weight and target.
CASES = [
    Case("one factor", 30, 40, 1, 5),
    Case("hu", 40, 90, 7, 20, "counts", target_offset=1.0, unobserved_weight=1.0),
    Case("signed", 40, 90, 8, 20, "signed", target_offset=1.0, unobserved_weight=1.0),
    Case("width 16", 40, 120, 16, 12, "counts"),
    Case("targets", 40, 100, 16, 24, "counts", targets="array"),
    Case("width 31", 40, 150, 31, 25, nu=0.5),
    Case("width 33", 40, 150, 33, 60, "counts", nu=0.0),
    Case("explicit", 40, 150, 50, 40, "ratings", targets=True, unobserved_weight=0.0, regularization=0.05),
    Case("biased", 40, 150, 33, 40, "ratings", targets=True, unobserved_weight=0.0, regularization=0.05, biased=True),
    Case("biased narrow", 40, 60, 2, 9, "ratings", targets=True, unobserved_weight=0.0, biased=True),
    Case("width 64", 40, 400, 64, 50),
    Case("width 128", 10, 400, 128, 90, "counts"),
    Case("width 200", 8, 400, 200, 150, "counts"),
    Case("weak penalty", 24, 200, 40, 30, regularization=1e-5, unobserved_weight=1e-3),
    Case("heavy row", 4, 7000, 24, 3000, "counts"),
    # Rows too long for a cache, of which enough name the same columns to be solved together; whole vectors and not.
    Case("crowd", 7, 700, 256, 690, "counts"),
    Case("crowd biased", 7, 800, 250, 780, "ratings", targets=True, unobserved_weight=0.0, biased=True),
]


def entries(problem: Problem, u: int) -> tuple[NDArray[np.int32], F64, F64, F64]:
    """Return columns, confidences, linear terms and constants of row ``u``'s entries, straight from the definition."""
    matrix, targets = problem.matrix, problem.options["targets"]
    where = slice(matrix.row_ptr[u], matrix.row_ptr[u + 1])
    cols = matrix.col_idx[where]
    values = np.ones(len(cols)) if matrix.values is None else matrix.values[where].astype(np.float64)
    if targets is None:
        linear = np.where(values > 0, values + problem.options["target_offset"], 0.0)
        return cols, np.abs(values), linear, linear
    if targets is True:
        return cols, np.ones(len(cols)), values, values**2
    linear = targets[where].astype(np.float64)
    return cols, np.abs(values), linear, linear**2


def penalties(counts: NDArray[Any], others: int, options: dict[str, Any]) -> F64:
    """Return regularization (count + w0 others)^nu."""
    base = np.asarray(counts, np.float64) + options["unobserved_weight"] * others
    return np.asarray(options["regularization"] * base ** options["nu"])


def reference(problem: Problem, dtype: type[np.floating[Any]], gram: NDArray[Any] | None = None) -> NDArray[Any]:
    """Solve every row's normal equations in ``dtype``, summed entry by entry; ``gram`` (d, d) for diag(spectrum)."""
    y, options = problem.y.astype(dtype), problem.options
    common = np.diag(problem.spectrum) if gram is None else gram
    x = np.zeros(problem.x.shape, dtype)
    for u in range(len(x)):
        cols, c, t, _ = entries(problem, u)
        if not len(cols):
            continue
        features, c, t = y[cols], c.astype(dtype), t.astype(dtype)
        if options["biased"]:
            t = t - features[:, -1]
            features[:, -1] = 1
        penalty = penalties(np.array(len(cols)), len(y), options)
        system = (options["unobserved_weight"] * common + penalty * np.eye(x.shape[1])).astype(dtype)
        right = np.zeros(x.shape[1], dtype)
        for j in range(len(cols)):
            system += np.outer(c[j] * features[j], features[j])
            right += t[j] * features[j]
        x[u] = np.linalg.solve(system, right)
    return x


def row_loss(problem: Problem, x: NDArray[Any], gram: NDArray[Any] | None = None) -> float:
    """Return the loss that a sweep returns for the solution ``x``, in float64."""
    x, y, options = x.astype(np.float64), problem.y.astype(np.float64), problem.options
    common = np.diag(problem.spectrum).astype(np.float64) if gram is None else gram
    total = 0.0
    for u in range(len(x)):
        cols, c, t, constant = entries(problem, u)
        s = y[cols] @ x[u]
        if options["biased"]:
            s += x[u, -1] + y[cols, -1] - y[cols, -1] * x[u, -1]
        total += float(np.sum(constant - 2 * t * s + c * s**2))
        total += options["unobserved_weight"] * float(x[u] @ common @ x[u])
        total += float(penalties(np.array(len(cols)), len(y), options)) * float(x[u] @ x[u])
    return total


def column_penalty(problem: Problem) -> float:
    """Return sum_i reg_i |y_i|^2."""
    counts = np.bincount(problem.matrix.col_idx, minlength=len(problem.y))
    squares = np.square(problem.y.astype(np.float64)).sum(1)
    return float(penalties(counts, len(problem.x), problem.options) @ squares)


def worst_row(x: NDArray[Any], exact: F64) -> float:
    """Return the largest error of a row relative to its norm, or to the typical norm where it is smaller than that.

    A row much smaller than the others is what cancellation left, and its relative error is a matter of luck.
    """
    norms = np.linalg.norm(exact, axis=1)
    typical = float(np.median(norms[norms > 0])) if norms.any() else 1.0
    return float(np.max(np.linalg.norm(x - exact, axis=1) / np.maximum(norms, typical), initial=0.0))
