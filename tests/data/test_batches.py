"""Batches of ragged sequences: what each task learns from, balance, order, and independence of backend and threads."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from recsys_fast.data import Sequences
from recsys_fast.data.batches import SequenceBatch, SequenceBatches, packed_histories


def random_sequences(n: int = 300, n_items: int = 50, longest: int = 40, seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    return Sequences([rng.integers(0, n_items, rng.integers(0, longest)) for _ in range(n)], n_items=n_items)


def samples(batch: SequenceBatch) -> list[tuple[int, list[int], list[int]]]:
    """Return (user, inputs, targets) of every sequence."""
    bounds = batch.row_ptr.tolist()
    return [
        (int(batch.users[k]), batch.items[a:b].tolist(), batch.targets[a:b].tolist())
        for k, (a, b) in enumerate(pairwise(bounds))
    ]


def everything(batches: SequenceBatches, k: int = 0) -> list[tuple[int, list[int], list[int]]]:
    found = []
    for batch in batches.epoch(k):
        assert batch.items.dtype == batch.targets.dtype == batch.users.dtype == np.int32
        assert batch.row_ptr.dtype == np.int64
        assert batch.row_ptr[0] == 0
        assert batch.row_ptr[-1] == len(batch.items) == len(batch.targets)
        assert (np.diff(batch.row_ptr) > 0).all()
        assert len(batch.users) == len(batch.row_ptr) - 1 > 0
        assert batch.n_targets == (batch.targets >= 0).sum() > 0
        found += samples(batch)
    return found


def test_next_shifts_the_most_recent_part() -> None:
    data = Sequences([[1, 2, 3, 4, 5], [], [6], [7, 8]])
    batches = SequenceBatches(data, "next", max_len=3, batch_size=2)
    assert sorted(everything(batches)) == [(0, [2, 3, 4], [3, 4, 5]), (3, [7], [8])]
    assert (batches.n_samples, batches.n_rows, batches.n_short, batches.n_batches) == (2, 4, 2, 1)
    last = SequenceBatches(data, "last", max_len=3)
    assert sorted(everything(last)) == [(0, [2, 3, 4], [-1, -1, 5]), (3, [7], [8])]


def test_sliding_windows_hold_every_transition_once() -> None:
    row = list(range(10))
    batches = SequenceBatches(Sequences([row]), "next", max_len=4, windows="sliding")
    found = sorted(everything(batches))
    assert found == [(0, [0], [1]), (0, [1, 2, 3, 4], [2, 3, 4, 5]), (0, [5, 6, 7, 8], [6, 7, 8, 9])]
    overlapping = SequenceBatches(Sequences([row]), "next", max_len=4, windows="sliding", stride=3)
    assert sorted(inputs for _, inputs, _ in everything(overlapping)) == [[0, 1, 2], [2, 3, 4, 5], [5, 6, 7, 8]]
    data = random_sequences()
    expected = sorted(
        (user, a, b) for user, row in enumerate(data) for a, b in zip(row[:-1].tolist(), row[1:].tolist(), strict=True)
    )
    for max_len in (1, 7, 50):
        found = everything(SequenceBatches(data, "next", max_len=max_len, windows="sliding"))
        assert max(len(inputs) for _, inputs, _ in found) <= max_len
        pairs = [(u, a, b) for u, inputs, targets in found for a, b in zip(inputs, targets, strict=True)]
        assert sorted(pairs) == expected


def test_prefixes() -> None:
    data = Sequences([[1, 2, 3, 4], [5, 6], [7]])
    batches = SequenceBatches(data, "last", max_len=2, windows="prefixes")
    assert sorted(everything(batches)) == [
        (0, [1], [2]), (0, [1, 2], [-1, 3]), (0, [2, 3], [-1, 4]), (1, [5], [6]),
    ]  # fmt: skip


def test_cloze_masks_what_it_asks_for() -> None:
    data = random_sequences(2000)
    batches = SequenceBatches(data, "cloze", max_len=20, mask_probability=0.3, seed=5)
    assert batches.mask_id == 50
    n = n_masked = 0
    for user, inputs, targets in everything(batches):
        recent = data[user][-20:].tolist()
        assert len(inputs) == len(recent)
        assert any(target >= 0 for target in targets)
        for item, target, true in zip(inputs, targets, recent, strict=True):
            assert (item, target) in ((true, -1), (50, true))
        if len(recent) > 10:
            n, n_masked = n + len(recent), n_masked + sum(target >= 0 for target in targets)
    assert abs(n_masked / n - 0.3) < 0.02
    only_last = SequenceBatches(data, "cloze", max_len=20, mask_probability=0.0, last_probability=1.0)
    for user, inputs, targets in everything(only_last):
        recent = data[user][-20:].tolist()
        assert (inputs, targets) == ([*recent[:-1], 50], [-1] * (len(recent) - 1) + recent[-1:])
    mixed = SequenceBatches(data, "cloze", max_len=20, mask_probability=0.0, last_probability=0.25)
    found = everything(mixed)
    at_last = np.mean([inputs[-1] == 50 for _, inputs, _ in found if len(inputs) == 20])
    assert 0.24 < at_last < 0.36  # a quarter, and now and then the one place that is masked where none was
    first = SequenceBatches(data, "cloze", max_len=20, mask_probability=0.0)
    assert {sum(target >= 0 for target in targets) for _, _, targets in everything(first)} == {1}


def test_cloze_windows_hold_every_event() -> None:
    batches = SequenceBatches(Sequences([list(range(10))]), "cloze", max_len=4, windows="sliding", mask_probability=1.0)
    assert sorted(targets for _, _, targets in everything(batches)) == [[0, 1], [2, 3, 4, 5], [6, 7, 8, 9]]
    # One event left over at the front is trained on with those after it.
    for n, max_len, windows in (
        (9, 4, [[0, 1, 2, 3], [1, 2, 3, 4], [5, 6, 7, 8]]),
        (5, 4, [[0, 1, 2, 3], [1, 2, 3, 4]]),
        (3, 2, [[0, 1], [1, 2]]),
        (3, 1, [[0], [1], [2]]),
    ):
        data = Sequences([list(range(n))])
        found = SequenceBatches(data, "cloze", max_len=max_len, windows="sliding", mask_probability=1.0)
        assert sorted(targets for _, _, targets in everything(found)) == windows
        assert found.n_rows == sum(map(len, windows))
    data = random_sequences()
    for max_len, stride in ((1, None), (4, None), (4, 3), (7, None)):
        found = SequenceBatches(data, "cloze", max_len=max_len, windows="sliding", stride=stride, mask_probability=1.0)
        events = [(user, item) for user, _, targets in everything(found) for item in targets]
        assert set(events) == {(user, item) for user, row in enumerate(data) if len(row) > 1 for item in row.tolist()}


@pytest.mark.parametrize("options", [{"batch_size": 16}, {"batch_tokens": 400}, {"batch_size": 1}, {"batch_size": 999}])
def test_batches_are_balanced_and_complete(options: dict[str, Any]) -> None:
    data = random_sequences(500)
    batches = SequenceBatches(data, "next", max_len=20, **options)
    found = list(batches.epoch(0))
    assert len(found) == batches.n_batches
    sizes = [len(batch.items) for batch in found]
    assert sum(sizes) == batches.n_rows
    if options.get("batch_size") == 1:
        assert all(len(batch.users) == 1 for batch in found)
        return
    mean = batches.n_rows / batches.n_batches
    assert max(abs(size - mean) for size in sizes) <= 2 * 20
    if "batch_tokens" in options:
        assert abs(mean - 400) < 40
    assert (
        sorted(user for batch in found for user in batch.users.tolist()) == np.flatnonzero(data.lengths >= 2).tolist()
    )


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    data = random_sequences()

    def made(seed: int, k: int, **where: Any) -> list[Any]:
        return everything(SequenceBatches(data, "cloze", max_len=10, seed=seed, **where), k)

    first = made(1, 0)
    assert made(1, 0) == first
    for where in ({"device": "numba"}, {"n_threads": 1}, {"n_threads": 2}):
        assert made(1, 0, **where) == first
    assert made(1, 1) != first
    assert made(2, 0) != first
    users = [user for user, _, _ in first]
    assert users != sorted(users)
    batches = SequenceBatches(data, "cloze", max_len=10, seed=1)
    assert everything(batches, 1) == everything(batches, 1) == made(1, 1)


def test_the_order_is_the_same_everywhere() -> None:
    batches = SequenceBatches(Sequences([[k, k + 1] for k in range(8)]), seed=7)
    assert batches.packed(3).users.tolist() == [3, 5, 6, 4, 7, 2, 1, 0]


def test_nothing_to_learn_from() -> None:
    for data in (Sequences([]), Sequences([[], [1]], n_items=3)):
        for task in ("next", "last", "cloze"):
            batches = SequenceBatches(data, task)
            assert (batches.n_samples, batches.n_rows, batches.n_batches) == (0, 0, 0)
            assert list(batches.epoch(0)) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"task": "all"}, "task"),
        ({"windows": "some"}, "windows"),
        ({"max_len": 0}, "max_len"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_tokens": 0}, "batch_tokens"),
        ({"mask_probability": 1.5}, "mask_probability"),
        ({"last_probability": -1}, "last_probability"),
        ({"windows": "sliding", "stride": 51}, "stride"),
        ({"windows": "sliding", "stride": 0}, "stride"),
        ({"task": "cloze", "windows": "prefixes"}, "windows"),
    ],
)
def test_bad_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SequenceBatches(Sequences([[1, 2]]), **options)
    with pytest.raises(TypeError, match="Sequences"):
        SequenceBatches([[1, 2]], **options)  # type: ignore[arg-type]


def test_packed_histories_run_over_all_rows_in_order() -> None:
    data = random_sequences(100)
    for batch_rows in (1, 64, 10_000):
        rows: list[list[int]] = []
        for part, items, row_ptr in packed_histories(data, 10, batch_rows):
            assert part.start == len(rows)
            rows += [items[a:b].tolist() for a, b in pairwise(row_ptr)]
            assert part.stop == len(rows)
        assert rows == [row[-10:].tolist() for row in data]
    empty = Sequences([[], []], n_items=1)
    assert [part for part, _, _ in packed_histories(empty, 3)] == [slice(0, 2)]
    assert list(packed_histories(Sequences([]), 3)) == []
