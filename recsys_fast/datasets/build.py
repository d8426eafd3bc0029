"""From checked arrays to ``Interactions``: ratings, lists, sequences, sessions, leave-one-out parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.datasets.npz import Ragged

if TYPE_CHECKING:
    from recsys_fast.data.interactions import Interactions
    from recsys_fast.data.sequences import Sequences


def matrix(
    users: NDArray[Any],
    items: NDArray[Any],
    shape: tuple[int, int],
    values: NDArray[Any] | None = None,
    timestamps: NDArray[Any] | None = None,
    *,
    duplicates: str = "error",
) -> Interactions:
    """Return ``Interactions`` of dense ids, one entry per element of the parallel arrays."""
    from recsys_fast.data.interactions import Interactions

    return Interactions.from_coo(users, items, values, timestamps, shape=shape, duplicates=duplicates)


def ratings(
    users: NDArray[Any],
    items: NDArray[Any],
    values: NDArray[Any],
    timestamps: NDArray[Any] | None = None,
    *,
    shape: tuple[int, int] | None = None,
    per_entry: dict[str, NDArray[Any]] | None = None,
) -> dict[str, Any]:
    """Return the parts of a rating set; ``per_entry`` arrays (input order) go to extras in the order of the entries.

    ``shape`` None takes the largest ids + 1. With timestamps the parts hold the sequences too.
    """
    from recsys_fast.data.sequences import Sequences

    per_entry = per_entry or {}
    if shape is None:
        shape = (int(users.max(initial=-1)) + 1, int(items.max(initial=-1)) + 1)
    data = matrix(users, items, shape, values, timestamps)
    parts: dict[str, Any] = {"interactions": data, "extras": {}}
    if timestamps is not None:
        parts["sequences"] = Sequences.from_interactions(data)
    if per_entry:
        order = np.lexsort((items, users))
        parts["extras"] = {key: array[order] for key, array in per_entry.items()}
    return parts


def sets(lists: Ragged, keep: NDArray[np.bool_] | None = None) -> Interactions:
    """Return (the kept entries of) lists of distinct ids as a matrix without values."""
    chosen = slice(None) if keep is None else keep
    return matrix(lists.rows()[chosen], lists.ids[chosen], (lists.n_rows, lists.n_ids))


def sequences(lists: Ragged) -> Sequences:
    """Return lists of ids in time order as they are."""
    from recsys_fast.data.sequences import Sequences

    return Sequences.from_arrays(lists.row_ptr, lists.ids, n_items=lists.n_ids)


def visited(lists: Ragged, keep: NDArray[np.bool_] | None = None) -> Interactions:
    """Return (the kept entries of) sequences as a matrix, timestamp = place in the sequence.

    Where an item comes back its last place counts, and values hold the number of visits; without repeats values are
    None.
    """
    chosen = slice(None) if keep is None else keep
    rows, ids, places = lists.rows()[chosen], lists.ids[chosen], lists.positions()[chosen]
    return matrix(rows, ids, (lists.n_rows, lists.n_ids), timestamps=places, duplicates="sum")


def leave_one_out(lists: Ragged) -> dict[str, Any]:
    """Return a sequence set's parts: everything, and the protocol last = test, second last = validation.

    Users with fewer than 3 entries are in ``train`` only.
    """
    lengths = np.diff(lists.row_ptr)
    from_end = np.repeat(lists.row_ptr[1:], lengths) - np.arange(len(lists.ids)) - 1
    enough = np.repeat(lengths >= 3, lengths)
    return {
        "train": visited(lists, (from_end >= 2) | ~enough),
        "test": visited(lists, (from_end == 0) & enough),
        "interactions": visited(lists),
        "sequences": sequences(lists),
        "extras": {"validation": visited(lists, (from_end == 1) & enough)},
    }


def attributes(lists: Ragged) -> dict[str, Any]:
    """Return the extras that hold each item's attributes."""
    return {"attribute_row_ptr": lists.row_ptr, "attribute_ids": lists.ids, "n_attributes": lists.n_ids}


def sessions(train: Ragged, test: Ragged) -> dict[str, Any]:
    """Return a session set's parts; rows of ``train`` and ``test`` are different sessions."""
    return {
        "train": visited(train),
        "test": visited(test),
        "sequences": sequences(train),
        "test_sequences": sequences(test),
        "extras": {},
    }


def context_log(features: NDArray[np.int32], counts: NDArray[Any]) -> dict[str, Any]:
    """Return the parts of a usage log with context: columns user, item, context...; counts of a pair add up."""
    shape = (int(features[:, 0].max(initial=-1)) + 1, int(features[:, 1].max(initial=-1)) + 1)
    data = matrix(features[:, 0], features[:, 1], shape, counts, duplicates="sum")
    return {"interactions": data, "extras": {"log": features, "log_counts": counts}}


def labelled(
    parts: dict[str, tuple[NDArray[np.int32], NDArray[np.int8]]], fields: NDArray[Any], n: int
) -> dict[str, Any]:
    """Return the extras of a set of labelled samples: ``X_<part> (n, n_fields)`` and ``y_<part>`` of each part.

    Args:
        parts: samples and labels (+1, -1) of "train", "valid" and "test".
        fields: ``(n_fields,)`` first feature id of each field.
        n: number of features.
    """
    extras: dict[str, Any] = {"field_base": fields.astype(np.int32), "n_features": n}
    for part, (x, y) in parts.items():
        extras |= {f"X_{part}": x, f"y_{part}": y}
    return extras


def used_pairs(extras: dict[str, Any]) -> Interactions:
    """Return the distinct (user, item) pairs of the positive samples; values count the contexts of each."""
    base, positive = extras["field_base"], []
    for part in ("train", "valid", "test"):
        positive.append(extras[f"X_{part}"][extras[f"y_{part}"] > 0, :2] - base[:2])
    pairs = np.concatenate(positive)
    n_items = int(base[2] - base[1]) if len(base) > 2 else extras["n_features"] - int(base[1])
    shape = (int(base[1] - base[0]), n_items)
    return matrix(pairs[:, 0], pairs[:, 1], shape, np.ones(len(pairs), np.float32), duplicates="sum")
