"""Splits into training and test interactions: seeded, exact, independent of the number of threads.

Every split keeps the shape and the ids, and puts each entry, with its value and time, into exactly one part:
``join(split.train, split.test)`` is the input again. ``leave_one_out``, ``leave_k_out``, ``temporal``, ``random_users``
and ``join`` take ``Sequences`` too. ``random_state`` takes None, an int, a ``numpy`` Generator or
RandomState; the same int always gives the same split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data import sequence_splits
from recsys_fast.data.assemble import build, check_choice
from recsys_fast.data.sequence_splits import SequenceParts, SequenceSplit
from recsys_fast.data.sequences import Sequences
from recsys_fast.errors import message

if TYPE_CHECKING:
    from recsys_fast.data.interactions import Interactions

__all__ = [
    "HeldOut",
    "SequenceParts",
    "SequenceSplit",
    "Split",
    "held_out_users",
    "join",
    "leave_k_out",
    "leave_one_out",
    "random",
    "random_rows",
    "random_users",
    "temporal",
]


_MIN_RANDOM_BITS = 24  # fewer would leave ties in a shuffle, which go to the earlier entry


class Split(NamedTuple):
    """Two parts of an ``Interactions``, of its shape."""

    train: Interactions
    test: Interactions


class HeldOut(NamedTuple):
    """Three parts of an ``Interactions``, of its shape, for strong generalisation.

    Attributes:
        train: everything of the users to train on; the rows of the others are empty.
        fold_in: what the model may see of each held-out user, at test time only.
        target: what it has to predict of each held-out user.
        users: ``(m,) int64`` the held-out users, ascending; ``fold_in[users]`` are their rows.
    """

    train: Interactions
    fold_in: Interactions
    target: Interactions
    users: NDArray[np.int64]


def _bits(random_state: Any) -> np.random.BitGenerator:
    """Return a stream of random bits that is the same in every version of numpy for the same int seed."""
    if random_state is None or (isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool)):
        if random_state is not None and random_state < 0:
            raise ValueError(message("random_state", random_state, "at least 0"))
        return np.random.Philox(None if random_state is None else int(random_state))
    if isinstance(random_state, np.random.Generator):
        return np.random.Philox(int(random_state.integers(2**63)))
    if isinstance(random_state, np.random.RandomState):
        return np.random.Philox(int(random_state.randint(2**31)))
    expected = "None, an int, a numpy Generator or a RandomState"
    raise TypeError(message("random_state", type(random_state).__name__, expected))


def _fraction(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)) or not 0 < value < 1:
        raise ValueError(message(name, value, "a number between 0 and 1, both excluded"))
    return float(value)


def _count(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(message(name, type(value).__name__, "an int"))
    if value < least:
        raise ValueError(message(name, value, f"at least {least}"))
    return int(value)


def _matrix(data: Any) -> None:
    """Raise TypeError for sequences where a matrix is wanted."""
    if isinstance(data, Sequences):
        mend = "split them with leave_one_out, temporal or random_users, or pass data.to_interactions()"
        raise TypeError(message("data", "Sequences", "Interactions", mend))


def _shuffled(data: Interactions, bits: np.random.BitGenerator) -> NDArray[np.int64]:
    """Return entries user by user, each user's in random order, ``(nnz,) int64``.

    One sort of the number (user, random bits, place in the row): all distinct, so any sort gives the same result.
    """
    if not data.nnz:
        return np.empty(0, np.int64)
    place_bits = int(data.user_counts.max()).bit_length()
    random_bits = 64 - int(data.n_users).bit_length() - place_bits
    rows = data.rows()
    if random_bits < _MIN_RANDOM_BITS:  # sort twice instead
        by_draw = np.argsort(bits.random_raw(data.nnz), kind="stable")
        return by_draw[np.argsort(rows[by_draw], kind="stable")]
    key = bits.random_raw(data.nnz) >> np.uint64(64 - random_bits)
    key |= rows.astype(np.uint64) << np.uint64(random_bits)
    key <<= np.uint64(place_bits)
    key |= (np.arange(data.nnz, dtype=np.int64) - data.row_ptr[rows]).astype(np.uint64)
    key.sort()
    key &= np.uint64((1 << place_bits) - 1)
    return data.row_ptr[rows] + key.astype(np.int64)


def _ordered(data: Interactions, by: str, bits: np.random.BitGenerator) -> NDArray[np.int64]:
    """Return entries user by user, each user's in time order or in random order."""
    return data.time_order() if by == "time" else _shuffled(data, bits)


def _last(data: Interactions, ordered: NDArray[np.int64], n_last: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which entries are among the last ``n_last[u]`` of their user ``u`` in the given order."""
    cut = np.repeat(data.row_ptr[1:] - n_last, data.user_counts)
    mask = np.zeros(data.nnz, bool)
    mask[ordered[np.arange(data.nnz) >= cut]] = True
    return mask


def _split(data: Interactions, test: NDArray[np.bool_]) -> Split:
    return Split(data.keep(~test), data.keep(test))


def random(data: Interactions, test_fraction: float = 0.2, *, random_state: Any = None) -> Split:
    """Put a random part of each user's entries into the test set.

    A user with n entries gives ``floor(test_fraction * n + 0.5)`` of them, but never the last one left to train on.

    Args:
        data: what to split.
        test_fraction: between 0 and 1.
        random_state: seed.

    Raises:
        ValueError: ``test_fraction`` is not between 0 and 1.
    """
    _matrix(data)
    fraction, bits = _fraction("test_fraction", test_fraction), _bits(random_state)
    counts = data.user_counts
    n_test = np.minimum(np.floor(fraction * counts + 0.5).astype(np.int64), np.maximum(counts - 1, 0))
    return _split(data, _last(data, _shuffled(data, bits), n_test))


@overload
def leave_k_out(
    data: Interactions, k: int, *, by: str = "time", min_train: int = 1, random_state: Any = None
) -> Split: ...
@overload
def leave_k_out(
    data: Sequences, k: int, *, by: str = "time", min_train: int = 1, random_state: Any = None
) -> SequenceParts: ...
def leave_k_out(
    data: Interactions | Sequences, k: int, *, by: str = "time", min_train: int = 1, random_state: Any = None
) -> Split | SequenceParts:
    """Put k entries of each user into the test set: the last ones in time, or random ones.

    Users with fewer than ``k + min_train`` entries keep all of them in the training set. Equal times are broken by
    input order.

    Of ``Sequences`` it makes three parts of the same users: the last k events are the test part, the k before them the
    validation part, the others the training part. Users with fewer than ``2k + min_train`` events keep all of them in
    the training part; ``n_short`` of the result and ``train.report`` count them.

    Args:
        data: what to split.
        k: entries to take.
        by: "time" or "random" (``Interactions`` only).
        min_train: entries a user must keep for training.
        random_state: seed, used with ``by="random"``.

    Raises:
        ValueError: ``k < 1``, ``min_train < 0``, unknown ``by``, or ``by="time"`` without timestamps.
        TypeError: ``k`` or ``min_train`` is not an int.
    """
    k, min_train = _count("k", k, 1), _count("min_train", min_train, 0)
    check_choice("by", by, ("time", "random"))
    if isinstance(data, Sequences):
        if by != "time":
            raise ValueError(message("by of Sequences", repr(by), '"time"', "their order is what matters"))
        return sequence_splits.leave_last(data, k, min_train)
    bits = _bits(random_state)
    n_test = np.where(data.user_counts >= k + min_train, k, 0)
    return _split(data, _last(data, _ordered(data, by, bits), n_test))


@overload
def leave_one_out(data: Interactions, *, by: str = "time", min_train: int = 1, random_state: Any = None) -> Split: ...
@overload
def leave_one_out(
    data: Sequences, *, by: str = "time", min_train: int = 1, random_state: Any = None
) -> SequenceParts: ...
def leave_one_out(
    data: Interactions | Sequences, *, by: str = "time", min_train: int = 1, random_state: Any = None
) -> Split | SequenceParts:
    """Put one entry of each user into the test set; ``leave_k_out`` with k = 1.

    Of ``Sequences``: ``train, valid, test = leave_one_out(sequences)``, the last event, the one before, and the rest.
    """
    return leave_k_out(data, 1, by=by, min_train=min_train, random_state=random_state)


@overload
def temporal(data: Interactions, *, at: int | None = None, quantile: float | None = None) -> Split: ...
@overload
def temporal(data: Sequences, *, at: int | None = None, quantile: float | None = None) -> SequenceSplit: ...
def temporal(
    data: Interactions | Sequences, *, at: int | None = None, quantile: float | None = None
) -> Split | SequenceSplit:
    """Train on the past, test on the future, with one cut in time for all users.

    Args:
        data: what to split; needs timestamps.
        at: entries at this time or later are the test set, in the unit of ``data.timestamps``.
        quantile: instead of ``at``: the first ``floor(quantile * nnz)`` entries in time order are the training set.
            Equal times at the cut are broken by input order (of ``Sequences``: by user); give ``at`` to keep them
            together.

    Raises:
        ValueError: no timestamps, or not exactly one of ``at`` and ``quantile``.
        TypeError: ``at`` is not an integer.
    """
    if (at is None) == (quantile is None):
        raise ValueError(message("at and quantile", "both" if at is not None else "neither", "exactly one of them"))
    if data.timestamps is None:
        mend = "name a timestamp column when reading, or split at random"
        raise ValueError(message("the interactions have no timestamps", mend=mend))
    if at is not None:
        if isinstance(at, bool) or not isinstance(at, (int, np.integer)):
            mend = "dates are stored as microseconds since 1970 in UTC"
            raise TypeError(message("at", type(at).__name__, "an int in the unit of data.timestamps", mend))
        if isinstance(data, Sequences):
            return sequence_splits.cut_in_time(data, int(at), 0)
        return _split(data, data.timestamps >= at)
    assert quantile is not None
    fraction = _fraction("quantile", quantile)
    if isinstance(data, Sequences):
        return sequence_splits.cut_in_time(data, None, int(fraction * data.n_events))
    assert data.order is not None
    n_train = int(fraction * data.nnz)
    if not data.nnz:
        return _split(data, np.zeros(0, bool))
    cut = np.partition(data.timestamps, n_train)[n_train]
    test = data.timestamps > cut
    tied = np.flatnonzero(data.timestamps == cut)
    n_tied_in_test = data.nnz - n_train - int(test.sum())
    test[tied[np.argsort(data.order[tied])[len(tied) - n_tied_in_test :]]] = True
    return _split(data, test)


def held_out_users(
    data: Interactions,
    users: float | int = 0.1,
    *,
    target_fraction: float = 0.2,
    by: str = "random",
    min_entries: int = 2,
    random_state: Any = None,
) -> HeldOut:
    """Hold out whole users: train on the others, show the model a part of the held-out users, predict the rest.

    Hold out validation users with a second call on ``train``: its empty rows are never chosen.

    Args:
        data: what to split.
        users: how many users to hold out, or (a float below 1) which fraction of those with ``min_entries``.
        target_fraction: part of a held-out user's n entries to predict: ``floor(target_fraction * n + 0.5)``, at
            least one, at most all but one.
        by: which ones: "random", or the last ones in "time".
        min_entries: entries a user must have to be held out, at least 2.
        random_state: seed.

    Raises:
        ValueError: more users than there are with ``min_entries`` entries, a fraction outside (0, 1), unknown ``by``,
            or ``by="time"`` without timestamps.
    """
    _matrix(data)
    fraction, least = _fraction("target_fraction", target_fraction), _count("min_entries", min_entries, 2)
    check_choice("by", by, ("time", "random"))
    bits = _bits(random_state)
    counts = data.user_counts
    eligible = np.flatnonzero(counts >= least)
    if isinstance(users, (float, np.floating)):
        n_held = int(_fraction("users", users) * len(eligible) + 0.5)
    else:
        n_held = _count("users", users, 1)
    if n_held > len(eligible):
        mend = "hold out fewer users, or lower min_entries"
        raise ValueError(message("users", n_held, f"at most {len(eligible)}, those with {least} entries", mend))
    chosen = np.sort(eligible[np.argsort(bits.random_raw(len(eligible)), kind="stable")[:n_held]])
    held = np.zeros(data.n_users, bool)
    held[chosen] = True
    n_target = np.clip(np.floor(fraction * counts + 0.5).astype(np.int64), 1, np.maximum(counts - 1, 1))
    target = _last(data, _ordered(data, by, bits), np.where(held, n_target, 0))
    of_held = np.repeat(held, counts)
    return HeldOut(data.keep(~of_held), data.keep(of_held & ~target), data.keep(target), chosen)


def random_rows(n_rows: int, test_fraction: float = 0.2, *, random_state: Any = None) -> NDArray[np.bool_]:
    """Return which rows, such as those that ``FM`` is trained on, are the test set, ``(n_rows,) bool``.

    Args:
        n_rows: their number n.
        test_fraction: ``floor(test_fraction * n + 0.5)`` random rows; ValueError unless between 0 and 1.
        random_state: seed.
    """
    fraction, bits = _fraction("test_fraction", test_fraction), _bits(random_state)
    order = np.argsort(bits.random_raw(_count("n_rows", n_rows, 0)), kind="stable")
    in_test = np.zeros(n_rows, bool)
    in_test[order[: int(np.floor(fraction * n_rows + 0.5))]] = True
    return in_test


def random_users(data: Sequences, test_fraction: float = 0.1, *, random_state: Any = None) -> SequenceSplit:
    """Put random users (or sessions), whole, into the test set; rows of the two parts are different users.

    ``test.prefixes()`` gives the samples to evaluate a session model on.

    Args:
        data: what to split.
        test_fraction: of the n users with two events or more, ``floor(test_fraction * n + 0.5)`` are the test set.
        random_state: seed.

    Raises:
        TypeError: not ``Sequences``.
        ValueError: ``test_fraction`` is not between 0 and 1.
    """
    if not isinstance(data, Sequences):
        raise TypeError(message("data", type(data).__name__, "Sequences", "use held_out_users for Interactions"))
    eligible = np.flatnonzero(data.lengths >= 2)
    in_test = np.zeros(data.n_users, bool)
    in_test[eligible] = random_rows(len(eligible), test_fraction, random_state=random_state)
    return sequence_splits.by_rows(data, in_test)


@overload
def join(a: Interactions, b: Interactions) -> Interactions: ...
@overload
def join(a: Sequences, b: Sequences) -> Sequences: ...
def join(a: Interactions | Sequences, b: Interactions | Sequences) -> Interactions | Sequences:
    """Return the entries of both; what a split took apart becomes whole again.

    Equal times of one user are in input order where both are parts of one split, else ``a`` comes first. Events of
    ``Sequences`` without times follow those of ``a``.

    Raises:
        TypeError: only one of the two is a ``Sequences``.
        ValueError: shapes or ids differ, only one has values or timestamps, or an entry is in both.
    """
    if isinstance(a, Sequences) and isinstance(b, Sequences):
        return sequence_splits.join(a, b)
    if isinstance(a, Sequences) or isinstance(b, Sequences):
        raise TypeError(message("a and b", f"{type(a).__name__} and {type(b).__name__}", "two of the same kind"))
    if a.shape != b.shape:
        raise ValueError(message("shapes differ", f"{a.shape} and {b.shape}", "two parts of the same shape"))
    for name in ("user_ids", "item_ids"):
        if getattr(a, name) != getattr(b, name):
            mend = f"read the second with {name}=first.{name}"
            raise ValueError(message(f"{name} of the two differ", expected="the same map", mend=mend))
    for name in ("values", "timestamps"):
        if (getattr(a, name) is None) != (getattr(b, name) is None):
            raise ValueError(message(f"only one of the two has {name}", expected="both or neither"))
    values = None if a.values is None or b.values is None else np.concatenate([a.values, b.values])
    times = order = None
    if a.timestamps is not None and b.timestamps is not None and a.order is not None and b.order is not None:
        times = np.concatenate([a.timestamps, b.timestamps])
        order = _joined_order(a.order, b.order)
    rows = np.concatenate([a.rows(), b.rows()])
    cols = np.concatenate([a.col_idx, b.col_idx])
    return build(
        rows, cols, values, times, a.shape, "error",
        user_ids=a.user_ids, item_ids=a.item_ids, report=a.report, order=order,
    )  # fmt: skip


def _joined_order(a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return places in the input that both came from, or of ``b`` after those of ``a`` where the two overlap."""
    if not len(a) or not len(b):
        return np.concatenate([a, b])
    if not len(np.intersect1d(a, b, assume_unique=True)):
        return np.concatenate([a, b])
    return np.concatenate([a.astype(np.int64), b.astype(np.int64) + int(a.max()) + 1])
