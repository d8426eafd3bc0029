"""Augmentation: what each random change keeps and what it changes."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_fast.data import Sequences
from recsys_fast.data.batches import Augmentation, SequenceBatches
from tests.data.test_batches import everything

N = 400
DATA = Sequences([np.arange(n) + 1 for n in np.random.default_rng(0).integers(2, 30, N)], n_items=40)


def rows(change: Augmentation, k: int = 0) -> dict[int, list[int]]:
    """Return the events of each sample (inputs and the last target) of an epoch."""
    batches = SequenceBatches(DATA, "next", max_len=50, augmentation=change, seed=1)
    found = everything(batches, k)
    for _, inputs, targets in found:
        assert inputs[1:] == targets[:-1]
    assert len(list(batches.epoch(k))) == batches.n_batches
    return {user: [*inputs, targets[-1]] for user, inputs, targets in found}


def test_crop_keeps_a_contiguous_part() -> None:
    found = rows(Augmentation(crop=0.4))
    starts = set()
    for user, row in found.items():
        n = int(DATA.lengths[user])
        assert row == list(range(row[0], row[0] + len(row)))
        assert len(row) == max(int(np.ceil(0.6 * n)), 2)
        assert row[0] >= 1
        assert row[-1] <= n
        if n == 10:
            starts.add(row[0])
    assert len(starts) > 2
    assert rows(Augmentation(crop=0.4), 1) != found


def test_reorder_shuffles_a_part() -> None:
    changed = 0
    for user, row in rows(Augmentation(reorder=0.5)).items():
        n = int(DATA.lengths[user])
        assert sorted(row) == list(range(1, n + 1))
        moved = np.flatnonzero(np.array(row) != np.arange(1, n + 1))
        if len(moved):
            assert moved[-1] - moved[0] < int(0.5 * n)
            changed += 1
    assert changed > 0.6 * N
    shuffled = [row for row in rows(Augmentation(reorder=1.0)).values() if len(row) > 5]
    assert np.mean([row[0] == 1 for row in shuffled]) < 0.3


def test_item_dropout_keeps_the_last_event_and_two_at_least() -> None:
    n_kept = n_all = 0
    for user, row in rows(Augmentation(item_dropout=0.3)).items():
        n = int(DATA.lengths[user])
        assert row == sorted(set(row))
        assert row[-1] == n
        assert len(row) >= 2
        if n > 10:
            n_kept, n_all = n_kept + len(row) - 1, n_all + n - 1
    assert abs(n_kept / n_all - 0.7) < 0.02
    nearly_all = rows(Augmentation(item_dropout=0.99))
    whole = [user for user, row in nearly_all.items() if len(row) == DATA.lengths[user]]
    assert len(whole) > 0.5 * N


def test_item_mask_changes_inputs_only() -> None:
    batches = SequenceBatches(DATA, "next", augmentation=Augmentation(item_mask=0.25), seed=2)
    n = masked = 0
    for user, inputs, targets in everything(batches):
        assert targets == list(range(2, int(DATA.lengths[user]) + 1))
        assert all(item in (k + 1, 40) for k, item in enumerate(inputs))
        n, masked = n + len(inputs), masked + inputs.count(40)
    assert abs(masked / n - 0.25) < 0.03


def test_probability_leaves_some_samples_alone() -> None:
    found = rows(Augmentation(crop=0.5, probability=0.25))
    long = [user for user in found if DATA.lengths[user] > 5]
    cropped = np.mean([len(found[user]) < DATA.lengths[user] for user in long])
    assert 0.17 < cropped < 0.33


def test_all_together_in_every_task() -> None:
    change = Augmentation(crop=0.3, reorder=0.3, item_dropout=0.3, item_mask=0.1)
    for task in ("next", "last", "cloze"):
        for windows in ("last", "sliding"):
            batches = SequenceBatches(DATA, task, max_len=8, windows=windows, augmentation=change)
            found = everything(batches)
            assert len(found) == batches.n_samples
            assert max(len(inputs) for _, inputs, _ in found) <= 8


@pytest.mark.parametrize("name", ["crop", "item_dropout", "item_mask", "reorder", "probability"])
def test_bad_shares(name: str) -> None:
    for value in (-0.1, 1.1, float("nan"), "x", *([1] if name in ("crop", "item_dropout", "item_mask") else [])):
        with pytest.raises(ValueError, match=name):
            Augmentation(**{name: value})
