"""An epoch of skip-gram is the documented one on every backend, on any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast import ops
from tests.cases.skipgram import CASES, make, reference


@pytest.mark.parametrize("name", CASES)
def test_an_epoch_is_the_reference(name: str, device: str) -> None:
    case = CASES[name]
    vectors, contexts, row_ptr, ids = make(case)
    x, y, loss, n_pairs = reference(vectors, contexts, row_ptr, ids, seed=5, epoch=3, **case.options)
    before = vectors.copy(), contexts.copy()
    got = ops.skipgram_epoch(vectors, contexts, row_ptr, ids, seed=5, epoch=3, device=device, **case.options)
    assert got.n_pairs == n_pairs
    assert got.loss == pytest.approx(loss, rel=1e-5)
    for table, expected, old in zip((vectors, contexts), (x, y), before, strict=True):
        moved = np.abs(expected - old).max()
        np.testing.assert_allclose(table, expected, rtol=0, atol=1e-5 * (1.0 + moved))
        assert (moved > 0) == (n_pairs > 0)


@pytest.mark.parametrize("name", ["wide", "many-rounds", "baskets"])
def test_bits_do_not_depend_on_threads(name: str, device: str) -> None:
    case = CASES[name]
    results = []
    for n_threads in (1, 2, 5):
        vectors, contexts, row_ptr, ids = make(case)
        got = ops.skipgram_epoch(
            vectors, contexts, row_ptr, ids, device=device, n_threads=n_threads, **{**case.options, "batch": 192}
        )
        results.append((vectors.tobytes(), contexts.tobytes(), got))
    assert results[0] == results[1] == results[2]


def test_rows_that_do_not_move_keep_their_bits(device: str) -> None:
    case = CASES["some-move"]
    vectors, contexts, row_ptr, ids = make(case)
    old = vectors.copy(), contexts.copy()
    ops.skipgram_epoch(vectors, contexts, row_ptr, ids, device=device, **case.options)
    fixed = ~case.options["moves"]
    for table, before in zip((vectors, contexts), old, strict=True):
        np.testing.assert_array_equal(table[fixed], before[fixed])
        assert (table[~fixed] != before[~fixed]).any()


def test_near_tokens_end_up_alike(device: str) -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(rng.integers(0, 2, 300), 6)
    ids = (groups * 10 + rng.integers(0, 10, len(groups))).astype(np.int32)
    row_ptr = np.arange(0, len(ids) + 1, 6)
    vectors = ((rng.random((20, 8)) - 0.5) / 8).astype(np.float32)
    contexts = np.zeros_like(vectors)
    losses = []
    for epoch in range(20):
        done = ops.skipgram_epoch(
            vectors, contexts, row_ptr, ids, epoch=epoch, learning_rate=0.05, batch=32, tile=8, device=device
        )
        losses.append(done.loss / done.n_pairs)
    assert losses[-1] < 0.9 * losses[0]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = unit @ unit.T
    assert alike[:10, :10].mean() > alike[:10, 10:].mean() + 0.3


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "window": ({"window": 0}, ValueError, "window: got 0, expected 1 to"),
    "shared": ({"n_shared": 20}, ValueError, "n_shared: got 20, expected a multiple of 16"),
    "negatives": ({"n_negatives": -1}, ValueError, "n_negatives: got -1"),
    "tile": ({"tile": 65}, ValueError, "tile: got 65, expected 1 to 64"),
    "batch": ({"batch": 15}, ValueError, "batch: got 15, expected 16 to"),
    "rate": ({"learning_rate": np.nan}, ValueError, "learning_rate: got nan"),
    "keep": ({"keep": np.full(5, 1.5)}, ValueError, "keep: .*expected probabilities"),
    "keep shape": ({"keep": np.ones(4)}, ValueError, "keep: .*expected one probability per row"),
    "weights": ({"weights": np.zeros(5)}, ValueError, "weights: got only zeros"),
    "moves": ({"moves": np.ones(5)}, ValueError, "moves: got float64"),
    "id": ({"ids": [0, 5]}, IndexError, r"ids\[1\]: got 5"),
    "row_ptr": ({"row_ptr": [0, 1]}, ValueError, "row_ptr: got from 0 to 1, expected ascending from 0 to 2"),
    "nan": ({"vectors": np.full((5, 3), np.nan, np.float32)}, ValueError, "vectors hold NaN"),
    "dtype": ({"contexts": np.zeros((5, 3))}, TypeError, "contexts: got float64"),
    "shape": ({"contexts": np.zeros((4, 3), np.float32)}, ValueError, "shape of contexts"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name: str, device: str) -> None:
    changed, kind, text = BAD[name]
    tables = {"vectors": np.zeros((5, 3), np.float32), "contexts": np.zeros((5, 3), np.float32)}
    arguments = {**tables, "row_ptr": [0, 2], "ids": [0, 1], **changed}
    with pytest.raises(kind, match=text):
        ops.skipgram_epoch(**arguments, device=device)


@pytest.mark.cuda_emulated
def test_tables_on_the_device_are_trained_where_they_lie(emulated_arrays: Any) -> None:
    case = CASES["weighted"]
    vectors, contexts, row_ptr, ids = make(case)
    there = [emulated_arrays.asarray(table) for table in (vectors, contexts)]
    got = ops.skipgram_epoch(*there, emulated_arrays.asarray(row_ptr), emulated_arrays.asarray(ids), **case.options)
    want = ops.skipgram_epoch(vectors, contexts, row_ptr, ids, **case.options)
    assert (got.n_pairs, got.loss) == (want.n_pairs, pytest.approx(want.loss, rel=1e-5))
    for table, expected in zip(there, (vectors, contexts), strict=True):
        np.testing.assert_allclose(table.get(), expected, atol=1e-5)
    with pytest.raises(TypeError, match="vectors on the device and contexts"):
        ops.skipgram_epoch(there[0], contexts, row_ptr, ids)
