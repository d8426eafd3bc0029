"""als_sweep at widths around those of tiles and blocks, and with arrays that lie on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast import ops
from tests.cases.als import Case, Problem, penalties, worst_row

WIDTHS = [31, 32, 33, 63, 64, 65, 1023, 1024, 1025, 2048]


def exact(problem: Problem) -> Any:
    """Return the solution in float64, of a problem with weights and unobserved cells."""
    y, options = problem.y.astype(np.float64), problem.options
    x = np.zeros(problem.x.shape)
    row_ptr, cols, values, *_ = problem.matrix
    assert values is not None
    for u in range(len(x)):
        where = slice(row_ptr[u], row_ptr[u + 1])
        if where.start == where.stop:
            continue
        features, c = y[cols[where]], values[where].astype(np.float64)
        penalty = float(penalties(np.array(len(c)), len(y), options))
        diagonal = options["unobserved_weight"] * problem.spectrum.astype(np.float64) + penalty
        kernel = np.eye(len(c)) + (features / diagonal) @ features.T * c  # the smaller of the two forms
        x[u] = (features / diagonal).T @ np.linalg.solve(kernel.T, c)
    return x


@pytest.mark.parametrize("d", WIDTHS)
def test_any_width_is_solved(d: int, device: str) -> None:
    problem = Case("width", 6, 70, d, 36, "counts", unobserved_weight=0.5).make()
    expected = exact(problem)
    for solver, n_steps in (("cholesky", 1), ("cg", 60)):
        x = problem.x.copy()
        loss = ops.als_sweep(
            x, problem.y, problem.matrix, spectrum=problem.spectrum, solver=solver, n_steps=n_steps, device=device,
            **problem.options,
        )  # fmt: skip
        assert worst_row(x, expected) < 1e-4
        assert np.isfinite(loss)


@pytest.mark.cuda_emulated
def test_arrays_on_the_device_stay_there(emulated_arrays: Any) -> None:
    problem = Case("there", 8, 40, 9, 12, "counts").make()
    x, y = emulated_arrays.asarray(problem.x), emulated_arrays.asarray(problem.y)
    here = problem.x.copy()
    for spectrum in (problem.spectrum, None):
        how = {"spectrum": spectrum, **problem.options}
        loss = ops.als_sweep(x, y, problem.matrix, **how)  # device="auto" is where they lie
        assert loss == pytest.approx(ops.als_sweep(here, problem.y, problem.matrix, device="cuda", **how), rel=1e-12)
        assert np.array_equal(x.get(), here)
    expected = ops.als_loss(here, problem.y, problem.matrix, **problem.options)
    assert ops.als_loss(x, y, problem.matrix, **problem.options) == pytest.approx(expected, rel=1e-6)
    assert np.array_equal(y.get(), problem.y)
    with pytest.raises(TypeError, match="one place"):
        ops.als_sweep(x, problem.y, problem.matrix)
