"""Memory of the device: what is too large goes there in blocks or is refused beforehand, and nothing stays behind."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast import device, device_blocks, ops
from recsys_fast.errors import DeviceError, DeviceMemoryError
from tests.cases.csr import random_csr
from tests.models.cases import sequences

emulated = pytest.mark.cuda_emulated

N_USERS, N_ITEMS, D = 37, 29, 5
MATRIX = random_csr(N_USERS, N_ITEMS, 0.2)
TEST = random_csr(N_USERS, N_ITEMS, 0.1, values=False)
RANDOM = np.random.default_rng(0)
USERS, ITEMS = (RANDOM.standard_normal((n, D)).astype(np.float32) for n in (N_USERS, N_ITEMS))


@pytest.fixture
def limit(emulated_arrays: Any) -> Iterator[Callable[[int], None]]:
    """Caps the memory of the emulated device."""
    yield emulated_arrays.module.set_memory_limit
    emulated_arrays.module.set_memory_limit(1 << 34)


def sweep() -> tuple[Any, ...]:
    x = np.zeros((N_USERS, D), np.float32)
    loss = ops.als_sweep(x, ITEMS, MATRIX, device="cuda", solver="cg", spectrum=np.ones(D, np.float32))
    return x, np.float64(loss)


def rotated() -> tuple[Any, ...]:
    q = np.linalg.qr(np.arange(25.0).reshape(D, D) + np.eye(D))[0].astype(np.float32)
    return (ops.rows_rotate(USERS.copy(), q, device="cuda"),)


WORK: dict[str, Callable[[], tuple[Any, ...]]] = {
    "topk": lambda: ops.topk(ITEMS, USERS, 6, seen=MATRIX, device="cuda"),
    "topk-unmasked": lambda: ops.topk(ITEMS, USERS, 6, include=[3, 7, 20], device="cuda"),
    "rank_metrics": lambda: tuple(ops.rank_metrics(ITEMS, USERS, TEST, [3, 10], seen=MATRIX, device="cuda").values()),
    "rank_auc": lambda: (ops.rank_auc(ITEMS, USERS, TEST, seen=MATRIX, device="cuda"),),
    "als_sweep": sweep,
    "rows_rotate": rotated,
}


@emulated
@pytest.mark.parametrize("name", WORK)
def test_any_blocks_give_the_same_results(name: str, emulated_arrays: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, launches = WORK[name](), []
    smallest = {"rows_rotate": 150}.get(name, 1400)
    for budget in (smallest, 2 * smallest, 1 << 20):
        monkeypatch.setenv(device_blocks.BUDGET, str(budget))
        before = emulated_arrays.module.counts()[0]
        found = WORK[name]()
        launches.append(emulated_arrays.module.counts()[0] - before)
        for a, b in zip(found, whole, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12 if a.ndim == 0 else 0, atol=0)
    assert launches[0] > launches[1] > launches[2]


@emulated
def test_a_budget_that_does_not_hold_a_row(emulated_arrays: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device_blocks.BUDGET, "500")
    text = r"device memory of topk: got 500 bytes, expected 580 bytes for what stays there and \d+ for the largest row"
    with pytest.raises(DeviceMemoryError, match=text + r"\. Free memory on the device, raise RECSYS_FAST"):
        WORK["topk"]()
    for bad in ("0", "-1", "2GB"):
        monkeypatch.setenv(device_blocks.BUDGET, bad)
        with pytest.raises(ValueError, match=f"RECSYS_FAST_DEVICE_MEMORY: got '{bad}', expected a positive number"):
            WORK["topk"]()


def test_blocks_have_offsets_of_64_bits() -> None:
    """Entries beyond 2^31 are addressed by their blocks: nothing is computed in 32 bits on the way."""
    n = 6
    row_ptr = np.arange(n + 1, dtype=np.int64) * (1 << 30)
    entries = np.lib.stride_tricks.as_strided(np.zeros(1, np.int32), (n << 30,), (0,))
    none = np.empty(0, np.float32)
    x, y = np.zeros((n, 2), np.float32), np.zeros((3, 2), np.float32)
    arguments = (x, y, np.ones(2, np.float32), row_ptr, entries, none, none, 0.0)
    parts = list(device_blocks.blocks("als_sweep", arguments, 20 << 30))
    assert [len(part[0]) for part in parts] == [2, 2, 2]
    assert all(part[3].tolist() == [0, 1 << 30, 2 << 30] for part in parts)
    assert all(len(part[4]) == 2 << 30 for part in parts)


@emulated
@pytest.mark.parametrize("feedback", ["implicit", "explicit"])
def test_als_trains_beyond_the_device(feedback: str, emulated_arrays: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def model() -> rf.ALS:
        return rf.ALS(6, feedback=feedback, solver="cg", n_epochs=2, device="cuda", random_state=0).fit(MATRIX)

    whole = model()
    monkeypatch.setenv(device_blocks.BUDGET, "2500")
    before = emulated_arrays.module.live_allocations()
    blocks = model()
    near = 0.0 if feedback == "implicit" else 2e-4  # the mean of ratings is taken off in another place
    np.testing.assert_allclose(blocks.user_factors_, whole.user_factors_, rtol=0, atol=near)
    np.testing.assert_allclose(blocks.item_factors_, whole.item_factors_, rtol=0, atol=near)
    assert blocks.history_["loss"] == pytest.approx(whole.history_["loss"], rel=1e-5)
    assert emulated_arrays.module.live_allocations() == before
    np.testing.assert_array_equal(blocks.recommend([3, 4], n=3).ids, whole.recommend([3, 4], n=3).ids)


SEQUENCES = sequences(12, 15, 8)
MODELS: dict[str, tuple[Any, Any]] = {
    "als": (rf.ALS(6, solver="cholesky", n_epochs=2, random_state=0), MATRIX),
    "bpr": (rf.BPR(6, optimizer="adam", n_epochs=3, random_state=0), MATRIX._replace(values=None)),
    "warp": (rf.WARP(6, max_trials=9, n_epochs=3, random_state=0), MATRIX._replace(values=None)),
    "sasrec": (
        rf.SASRec(8, 1, 2, loss="ce", max_len=6, n_epochs=3, batch_size=4, random_state=0),
        sequences(12, 15, 8),
    ),
    "lanes": (rf.GRU4Rec(8, n_negatives=6, n_epochs=3, batch_size=4, random_state=0), sequences(12, 15, 8)),
    "ease": (rf.EASE(5.0), MATRIX),
    "slim": (rf.SLIM(0.5, 5.0), MATRIX),
    "slim-sparse": (rf.SLIM(0.5, 5.0, n_neighbors=3), random_csr(40, 60, 0.02)),
    "sparse-ease": (rf.SparseEASE(5.0, n_neighbors=7), MATRIX),
}
by_model = pytest.mark.parametrize("name", MODELS)


def learned(model: Any) -> Any:
    """Return numbers that a fit leaves."""
    weights = getattr(model, "weights_", None)
    return model.item_factors_ if weights is None else getattr(weights, "values", weights)


def on_cuda(name: str) -> tuple[Any, Any]:
    """Return an unfitted model and its data."""
    model, data = MODELS[name]
    return type(model)(**{**model.get_params(), "device": "cuda"}), data


def test_what_the_device_needs_is_told_without_one() -> None:
    for name in MODELS:
        model, data = on_cuda(name)
        parts = model.estimate_memory(data)
        assert parts["device"] > 0
        assert parts["total"] == sum(size for part, size in parts.items() if part not in ("device", "total"))
        assert "device" not in model.set_params(device="auto").estimate_memory(data)


@emulated
@by_model
def test_a_fit_takes_no_more_than_it_says(name: str, emulated_arrays: Any) -> None:
    model, data = on_cuda(name)
    emulated_arrays.module.take_peak()
    model.fit(data)
    assert 0 < emulated_arrays.module.take_peak() <= model.estimate_memory(data)["device"]


@emulated
@by_model
def test_what_has_no_room_is_refused_before_anything_is_lost(
    name: str, emulated_arrays: Any, limit: Callable[[int], None]
) -> None:
    model, data = on_cuda(name)
    model.fit(data)
    kept = learned(model).copy()
    limit(600)
    text = rf"device memory for {type(model).__name__}: got \d+ bytes available, expected \d+ bytes. Free arrays on the"
    for train in (model.fit, model.partial_fit):
        with pytest.raises(DeviceMemoryError, match=text):
            train(data)
    np.testing.assert_array_equal(learned(model), kept)


@emulated
@pytest.mark.parametrize("name", ["bpr", "sasrec"])
def test_memory_that_runs_out_midway_leaves_the_last_epoch(
    name: str, emulated_arrays: Any, limit: Callable[[int], None]
) -> None:
    module, (model, data) = emulated_arrays.module, on_cuda(name)
    gc.collect()
    before = module.live_allocations()

    class Full:
        def on_epoch_end(self, state: Any) -> None:
            if state.epoch == 2:
                self.factors = state.model.item_factors_.copy()
                limit(1)

    full = Full()
    with pytest.raises(
        DeviceMemoryError, match=r"device memory: \d+ bytes asked for, 0 bytes free: free arrays on the"
    ):
        model.fit(data, callbacks=[full])
    limit(1 << 34)
    assert model.n_epochs_ == 2
    np.testing.assert_array_equal(model.item_factors_, full.factors)
    model.partial_fit(data)
    assert model.n_epochs_ == 3
    del model
    gc.collect()
    assert module.live_allocations() == before


def test_errors_of_cupy_have_our_names(monkeypatch: pytest.MonkeyPatch) -> None:
    class OutOfMemoryError(MemoryError):
        pass

    class CUDARuntimeError(RuntimeError):
        pass

    def failing(error: Exception) -> Any:
        def call(*_: Any) -> Any:
            raise error

        return call

    memory, runtime = (
        SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        SimpleNamespace(CUDARuntimeError=CUDARuntimeError),
    )
    cupy = SimpleNamespace(cuda=SimpleNamespace(memory=memory, runtime=runtime), asarray=failing(TypeError("no array")))
    cupy.ascontiguousarray = None
    arrays = device.CupyArrays.__new__(device.CupyArrays)
    arrays.module = cupy
    cupy.empty = failing(OutOfMemoryError("Out of memory allocating 1,600 bytes"))
    with pytest.raises(DeviceMemoryError, match=r"device memory \(Out of memory allocating 1,600 bytes\). Free arrays"):
        arrays.empty((2, 2), np.float32)
    cupy.zeros = failing(CUDARuntimeError("cudaErrorIllegalAddress"))
    with pytest.raises(DeviceError, match="CuPy: cudaErrorIllegalAddress"):
        arrays.zeros((2, 2), np.float32)
    with pytest.raises(TypeError, match="no array"):
        arrays.asarray(object())
