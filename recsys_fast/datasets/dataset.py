"""What ``load`` and ``synthetic`` return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_fast.errors import message

if TYPE_CHECKING:
    from recsys_fast.data.interactions import Interactions
    from recsys_fast.data.sequences import Sequences


@dataclass(repr=False, eq=False)
class Dataset:
    """One data set, with all ids 0-based and dense.

    Attributes:
        name: the name it was loaded by.
        source: folder or archive it was read from.
        train: training part of the split that comes with the data; None where there is no such split.
        test: test part of that split, of the same shape as ``train`` (for session sets: other sessions, so other rows).
        interactions: everything in one matrix; None for sets that consist of a train and a test part only.
        sequences: what users did in time order, repeats included: everything, for session sets the training sessions.
            None where there are no times. The matrices above hold an item once per user, for sequence and session
            sets with timestamp = place of the last visit, and values = number of visits where there are repeats.
        test_sequences: session sets only: the test sessions; ``test_sequences.prefixes()`` are the samples to evaluate.
        extras: whatever else belongs to the set, arrays unless said otherwise:

            - ``<split>_test (nnz,) bool``: the test part of a named official split, entry by entry of
              ``interactions`` (see ``given_split``);
            - ``validation``: ``Interactions`` of each user's second last item (leave-one-out sets);
            - ``negatives (n_users, n) int32``: items to rank the test item against, as published;
            - ``user_orig``, ``item_orig``: ids in the original files;
            - ``item_table``, ``user_table``: dict of column name to array, one row per item or user;
            - ``attribute_row_ptr``, ``attribute_ids``, ``n_attributes``: attributes of each item.
    """

    name: str
    source: str
    train: Interactions | None = None
    test: Interactions | None = None
    interactions: Interactions | None = None
    sequences: Sequences | None = None
    test_sequences: Sequences | None = None
    extras: dict[str, Any] = field(default_factory=dict)

    def given_splits(self) -> list[str]:
        """Return the names that ``given_split`` takes; empty for most sets."""
        return [key.removesuffix("_test") for key, mask in self.extras.items() if _is_mask(key, mask)]

    def given_split(self, split: str) -> tuple[Interactions, Interactions]:
        """Return the (train, test) parts of a named official split, such as ``"u1"`` of ml-100k.

        Raises:
            ValueError: the set has no split of that name.
        """
        mask = self.extras.get(f"{split}_test")
        if self.interactions is None or mask is None or not _is_mask(f"{split}_test", mask):
            known = ", ".join(self.given_splits()) or "none: this set has no named splits"
            raise ValueError(message(f"split of {self.name}", repr(split), known))
        return self.interactions.keep(~mask), self.interactions.keep(mask)

    def __repr__(self) -> str:
        parts = [
            f"{part}={matrix.n_users} x {matrix.n_items}, {matrix.row_ptr[-1]}"
            for part in ("train", "test", "interactions", "sequences", "test_sequences")
            if (matrix := getattr(self, part)) is not None
        ]
        return f"Dataset({self.name!r}: {'; '.join(parts)}; extras: {', '.join(self.extras) or 'none'})"


def _is_mask(key: str, value: Any) -> bool:
    return key.endswith("_test") and isinstance(value, np.ndarray) and value.dtype == bool and value.ndim == 1
