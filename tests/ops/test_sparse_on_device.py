"""Operations over sparse rows with arrays on the device: results stay there, and are those of NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_fast import ops
from tests.cases.fm import Case

pytestmark = pytest.mark.cuda_emulated

RNG = np.random.default_rng(0)
X = sp.random_array((9, 7), density=0.4, rng=RNG, format="csr", dtype=np.float32)
TABLE, B, BIAS, H = (RNG.standard_normal(shape).astype(np.float32) for shape in ((7, 5), (5,), (7,), (9, 5)))
STATS, DZ = RNG.standard_normal((4, 6)).astype(np.float32), RNG.standard_normal((4, 3)).astype(np.float32)
FIELDS = np.array([0, 0, 1, 1, 1, 2, 2], np.int32)
DX, DSCORE = RNG.standard_normal((9, 12)).astype(np.float32), RNG.standard_normal(9).astype(np.float32)
SUMS = np.c_[H[:, :4], np.ones(9)].astype(np.float32)  # behind the sums a 1, as the forward pass leaves it

# Each is given a function that puts an array where it belongs.
CALLS: dict[str, Callable[[Any], Any]] = {
    "csr_dense_forward": lambda put: (ops.csr_dense_forward(X, put(TABLE), put(B), activation="tanh"),),
    "csr_dense_backward": lambda put: ops.csr_dense_backward(put(H), put(H), X, activation="sigmoid"),
    "multinomial_loss": lambda put: ops.multinomial_loss(put(H), put(TABLE), abs(X), bias=put(BIAS)),
    "gaussian_forward": lambda put: ops.gaussian_forward(put(STATS), seed=3),
    "gaussian_backward": lambda put: (ops.gaussian_backward(put(DZ), put(STATS), kl_weight=0.2, seed=3),),
    "field_sums_forward": lambda put: ops.field_sums_forward(X, put(TABLE), FIELDS),
    "field_sums_backward": lambda put: ops.field_sums_backward(
        X, put(TABLE), put(SUMS), put(DX), put(DSCORE), FIELDS
    ),
    "pair_scores": lambda put: (ops.pair_scores(put(H), put(TABLE), X),),
    "fm_predict": lambda put: (ops.fm_predict(put(TABLE), 0.5, X),),
    "ffm_predict": lambda put: (ops.ffm_predict(put(np.c_[TABLE, TABLE[:, :2]]), 0.5, X, FIELDS),),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_arrays_on_the_device_stay_there(name: str, emulated_arrays: Any) -> None:
    for want, got in zip(CALLS[name](np.asarray), CALLS[name](emulated_arrays.asarray), strict=True):
        assert emulated_arrays.is_array(got) == (np.ndim(want) > 0)
        found = emulated_arrays.to_host(got)
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
        assert found.dtype == np.asarray(want).dtype


def test_results_go_where_they_are_wanted(emulated_arrays: Any) -> None:
    out = emulated_arrays.empty((9, 5), np.float32)
    assert ops.csr_dense_forward(X, emulated_arrays.asarray(TABLE), out=out) is out
    np.testing.assert_allclose(out.get(), X @ TABLE, rtol=1e-5, atol=1e-5)
    with pytest.raises(TypeError, match="table on the device and b"):
        ops.csr_dense_forward(X, emulated_arrays.asarray(TABLE), B)


@pytest.mark.parametrize("n_fields", [0, 3])
def test_a_machine_on_the_device_is_trained_where_it_lies(n_fields: int, emulated_arrays: Any) -> None:
    problem = Case("device", n=30, m=12, d=3, n_fields=n_fields, optimizer="adam").make()
    table, state, steps = (emulated_arrays.asarray(part) for part in problem[:3])
    kept, bias = [part.copy() for part in problem[:4]], problem.bias.copy()
    how = {**problem.options, **({"fields": problem.fields} if n_fields else {})}
    data = problem.matrix, problem.targets
    loss = ops.fm_epoch(table, bias, *data, state=state, steps=steps, **how)
    assert loss == pytest.approx(ops.fm_epoch(kept[0], kept[3], *data, state=kept[1], steps=kept[2], **how), rel=1e-5)
    for got, want in zip((table, state, steps), kept[:3], strict=True):
        np.testing.assert_allclose(got.get(), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(bias, kept[3], rtol=1e-5)
    assert not np.array_equal(table.get(), problem.table)
