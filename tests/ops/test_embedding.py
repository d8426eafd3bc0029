"""Rows of a table in packed sequences, and dropout: against plain NumPy, and the statistics of the masks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from recsys_fast import ops
from tests.cases.table import CASES, Case, by_name

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def places(row_ptr: np.ndarray, n_positions: int, from_end: bool) -> np.ndarray:
    rows = [np.arange(n) + (n_positions - n if from_end else 0) for n in np.diff(row_ptr)]
    return np.concatenate([np.empty(0, np.int64), *rows])


def mask(shape: tuple[int, int], rate: float, seed: int, step: int, site: int, device: str = "numba") -> np.ndarray:
    return ops.dropout_apply(np.ones(shape, np.float32), rate, seed=seed, step=step, site=site, device=device)


@by_case
@pytest.mark.parametrize("from_end", [False, True])
def test_forward_is_the_formula(case: Case, from_end: bool, device: str) -> None:
    s, site = case.make(), {"seed": 5, "step": 7, "site": 9}
    rows = np.where(s.ids[:, None] >= 0, 1.5 * s.table[s.ids].astype(np.float64), 0.0)
    place = places(s.row_ptr, len(s.positions), from_end)
    for rate, positions in itertools.product((0.0, 0.25), (None, s.positions)):
        expected = (rows if positions is None else rows + positions[place]) * mask(rows.shape, rate, **site)
        for n_threads in (1, 2, 3, 7):
            got = ops.embedding_forward(
                s.table, s.ids, s.row_ptr, positions=positions, scale=1.5, from_end=from_end, dropout=rate, **site,
                device=device, n_threads=n_threads,
            )  # fmt: skip
            assert (np.abs(got - expected) <= 2e-7 * (4.0 + np.abs(expected))).all()
    assert np.array_equal(ops.embedding_forward(s.table, s.ids, device=device), np.where(rows == 0, 0, s.table[s.ids]))


@by_case
@pytest.mark.parametrize("from_end", [False, True])
def test_backward_is_the_transpose(case: Case, from_end: bool, device: str) -> None:
    s, site = case.make(), {"seed": 5, "step": 7, "site": 9}
    n_positions = len(s.positions)
    place = places(s.row_ptr, n_positions, from_end)
    for rate, scale in ((0.0, 1.0), (0.25, 1.5)):
        masked = s.dx * mask(s.dx.shape, rate, **site)
        sums, plain = np.zeros((n_positions, case.d)), np.zeros((n_positions, case.d), np.float32)
        np.add.at(sums, place, masked.astype(np.float64))
        np.add.at(plain, place, masked)
        results = []
        for n_threads in (1, 2, 3, 7):
            given = s.dx.copy()
            dpositions = ops.embedding_backward(
                given, s.row_ptr, n_positions=n_positions, scale=scale, from_end=from_end, dropout=rate, **site,
                device=device, n_threads=n_threads,
            )  # fmt: skip
            assert np.array_equal(given, masked * np.float32(scale))
            results.append(dpositions)
        assert all(np.array_equal(results[0], other) for other in results[1:])
        assert np.abs(results[0] - sums).max() <= 4 * np.abs(plain - sums).max() + 1e-6
        given = s.dx.copy()
        assert ops.embedding_backward(given, s.row_ptr, scale=scale, device=device).shape == (0, case.d)
        assert np.array_equal(given, s.dx * np.float32(scale))


@pytest.mark.parametrize("from_end", [False, True])
def test_torch_agrees(from_end: bool, device: str) -> None:
    torch = pytest.importorskip("torch")
    lookup = torch.nn.functional.embedding
    s = Case("torch", (7, 0, 3, 12), 20, 17, none=0.1).make()
    table, positions = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (s.table, s.positions))
    some = torch.tensor(s.ids >= 0)[:, None]
    place = torch.tensor(places(s.row_ptr, len(s.positions), from_end))
    x = torch.where(some, 1.5 * lookup(torch.tensor(s.ids.clip(0)), table), 0.0) + lookup(place, positions)
    x.backward(torch.tensor(s.dx, dtype=torch.float64))
    how = {"scale": 1.5, "from_end": from_end, "device": device}
    got = ops.embedding_forward(s.table, s.ids, s.row_ptr, positions=s.positions, **how)
    dx = s.dx.copy()
    dpositions = ops.embedding_backward(dx, s.row_ptr, n_positions=len(s.positions), **how)
    dtable = ops.table_add(np.zeros_like(s.table), s.ids, dx=dx, device=device)
    for ours, theirs in ((got, x.detach()), (dpositions, positions.grad), (dtable, table.grad)):
        assert np.abs(ours - theirs.numpy()).max() < 1e-5


def test_positions_of_long_batches_sum_in_a_fixed_tree(device: str) -> None:
    rng = np.random.default_rng(1)
    row_ptr = np.concatenate([[0], np.cumsum(rng.integers(0, 60, 200))])
    dx = rng.standard_normal((row_ptr[-1], 20), np.float32)
    found = [
        ops.embedding_backward(dx.copy(), row_ptr, n_positions=60, device=device, n_threads=n) for n in (1, 2, 3, 7)
    ]
    assert all(np.array_equal(found[0], other) for other in found[1:])
    sums = np.zeros((60, 20))
    np.add.at(sums, places(row_ptr, 60, False), dx.astype(np.float64))
    assert np.abs(found[0] - sums).max() < 1e-5


def test_masks_have_the_same_bits_everywhere(device: str) -> None:
    halfway = 32768.5001 / 65536  # rounded to the threshold 32769, but as a float32 to 32768
    for width, rate in itertools.product((1, 15, 16, 31, 33, 50, 100), (0.0, 0.1, 0.5, 0.99, halfway)):
        expected = mask((37, width), rate, 3, 4, 5)
        for n_threads in (1, 2, 3, 7):
            x = np.random.default_rng(0).standard_normal((37, width)).astype(np.float32)
            dropped = ops.dropout_apply(
                x.copy(), rate, seed=3, step=4, site=5, device=device, n_threads=n_threads
            )  # fmt: skip
            assert np.array_equal(dropped, x * expected)
    assert ops.dropout_apply(np.empty((0, 3), np.float32), 0.5, device=device).shape == (0, 3)


def test_a_rate_is_a_float32_everywhere(device: str) -> None:
    given = {"seed": 1, "step": 2, "site": 3, "device": device}
    assert mask((1, 64), 32768.5001 / 65536, **given).max() == np.float32(65536 / (65536 - 32768))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_masks_drop_their_share_and_keep_the_mean(rate: float, device: str) -> None:
    n = 4000
    kept = mask((n, 64), rate, 1, 2, 3, device)
    assert set(np.unique(kept)) == {np.float32(0), np.float32(65536 / (65536 - round(rate * 65536)))}
    deviation = np.sqrt(rate * (1 - rate))
    dropped = kept == 0
    assert abs(dropped.mean() - rate) < 4 * deviation / np.sqrt(dropped.size)
    assert np.abs(dropped.mean(axis=0) - rate).max() < 5 * deviation / np.sqrt(n)  # every column
    assert np.abs(dropped.mean(axis=1) - rate).max() < 6 * deviation / np.sqrt(64)  # every row


def test_masks_are_independent(device: str) -> None:
    """No column, row, step, site or seed says anything about another: correlations are those of chance."""
    n, rate = 20_000, 0.3

    def dropped(**changed: Any) -> np.ndarray:
        given = {"seed": 1, "step": 2, "site": 3} | changed
        return (mask((n, 40), rate, **given, device=device) == 0) - rate

    base, bound = dropped(), 5 / np.sqrt(n)
    correlations = base.T @ base / n / (rate * (1 - rate)) - np.eye(40)
    assert np.abs(correlations).max() < bound
    for shift in (1, 2, 3, 16, 50, 128):
        assert np.abs((base[shift:] * base[:-shift]).mean(axis=0)).max() < bound * rate * (1 - rate)
    for other in (dropped(step=3), dropped(site=4), dropped(site=11), dropped(seed=2), dropped(step=3, site=2)):
        crossed = base.T @ other / n / (rate * (1 - rate))
        assert np.abs(crossed).max() < bound


STEP = by_name["empty sequences"].make()


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"ids": [0, 7]}, IndexError, r"ids\[1\]: got 7"),
        ({"ids": [0, -2]}, IndexError, r"ids\[1\]: got -2"),
        ({"ids": [0.0, 1.0]}, TypeError, "integer"),
        ({"ids": [[0], [1]]}, ValueError, "dimensions of ids"),
        ({"row_ptr": [0, 1]}, ValueError, "row_ptr: got 0 to 1"),
        ({"row_ptr": [0, 2, 1, 2]}, ValueError, r"row_ptr\[2\]: got 1"),
        ({"row_ptr": [0, 2**63 - 1, -2, 2]}, ValueError, r"row_ptr\[2\]: got -2"),
        ({"row_ptr": [0.0, 2.0]}, TypeError, "row_ptr"),
        ({"scale": "2.0"}, TypeError, "scale: got str"),
        ({"scale": float("nan")}, ValueError, "scale: got nan"),
        ({"scale": float("inf")}, ValueError, "scale: got inf"),
        ({"scale": 1e300}, ValueError, r"scale: got 1e\+300"),
        ({"seed": np.array(2.7)}, TypeError, "seed: got ndarray"),
        ({"step": np.True_}, TypeError, "step: got bool"),
        ({"row_ptr": []}, TypeError, "row_ptr"),
        ({"positions": np.ones((1, 3))}, ValueError, "longest sequence: got 2, expected at most 1"),
        ({"positions": np.ones((2, 4))}, ValueError, "columns of positions"),
        ({"dropout": 1.0}, ValueError, "dropout: got 1.0"),
        ({"dropout": float("nan")}, ValueError, "dropout: got nan"),
        ({"seed": -1}, ValueError, "seed"),
        ({"out": np.empty((3, 3), np.float32)}, ValueError, "shape of out"),
        ({"out": np.empty((2, 3))}, TypeError, "float32"),
        ({"table": [[np.nan]]}, ValueError, r"table\[0, 0\]"),
    ],
)
def test_forward_refuses(changed: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    with pytest.raises(error, match=text):
        ops.embedding_forward(**({"table": STEP.table, "ids": [1, 2]} | changed), device=device)


def test_backward_and_dropout_refuse(device: str) -> None:
    with pytest.raises(TypeError, match="float32"):
        ops.embedding_backward(np.ones((2, 2)), device=device)
    with pytest.raises(TypeError, match="scale: got str"):
        ops.embedding_backward(np.ones((2, 2), np.float32), scale="2.0", device=device)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scale: got inf"):
        ops.embedding_backward(np.ones((2, 2), np.float32), scale=np.inf, device=device)
    with pytest.raises(ValueError, match="longest sequence"):
        ops.embedding_backward(np.ones((2, 2), np.float32), n_positions=1, device=device)
    with pytest.raises(TypeError, match="float32"):
        ops.dropout_apply(np.ones((2, 2)), 0.1, device=device)
    with pytest.raises(ValueError, match=r"rate: got -0\.1"):
        ops.dropout_apply(np.ones((2, 2), np.float32), -0.1, device=device)
