"""A made catalogue of pictures whose looks decide who likes what, with the best scores that any model can reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.datasets.dataset import Dataset
from recsys_fast.datasets.looks import N_VALUES, draw, names
from recsys_fast.datasets.oracle import Lists, ranking_scores
from recsys_fast.datasets.planted import Planted, blocks, plant
from recsys_fast.datasets.synthetic import check_shares, whole
from recsys_fast.errors import message

_LARGEST = 512  # height and width of a picture


def synthetic_images(
    n_users: int = 1_000,
    n_items: int = 500,
    n_interactions: int = 30_000,
    *,
    size: int = 24,
    cold_fraction: float = 0.2,
    rank: int = 8,
    sharpness: float = 1.5,
    concentration: float = 0.1,
    user_exponent: float = 0.7,
    item_exponent: float = 0.5,
    test_fraction: float = 0.2,
    noise: float = 0.08,
    ks: Sequence[int] = (20,),
    random_state: int = 0,
) -> Dataset:
    """Make implicit feedback on items that have pictures, with planted visual taste, and say how well both can be read.

    Every item shows a thing of one of 4 shapes, 6 colours and 3 textures, somewhere in its picture, on grey ground,
    with noise. There are ``rank`` tastes, each for one look (shape, colour, texture): an item's affinity to a taste is
    ``exp(-sharpness * attributes that differ)``, and the distribution of the taste over items is proportional to
    popularity x affinity, where popularity, which no picture shows, is a power law. Users are mixtures of tastes, and
    draw their items from them, all as in ``synthetic``.

    ``cold_fraction`` of the items, chosen at random, are cold: nobody has them in ``train`` or ``test``, and all of
    their interactions are in ``extras["cold_test"]``. Of the others a random ``test_fraction`` of each user's draws is
    held out.

    Args:
        n_users: number of users.
        n_items: number of items.
        n_interactions: all parts together; at most ``n_users * (n_items // 2)``.
        size: height and width of the pictures, 8 to 512.
        cold_fraction: share of cold items, 0 <= share < 1.
        rank: number of tastes, at most 72, the looks there are.
        sharpness: how much a taste minds what differs; 0 for not at all.
        concentration: of the users' mixtures; smaller gives sharper tastes.
        user_exponent, item_exponent: steepness of activity and popularity; 0 for none.
        test_fraction: share of each user's draws that is held out, 0 <= share < 1.
        noise: standard deviation of the pictures' noise, as a share of the range.
        ks: cuts of the metrics.
        random_state: the seed; with one version of NumPy everything depends on it and the other arguments alone.

    Returns:
        ``train`` and ``test`` without values, of shape ``(n_users, n_items)``; ``extras``:

        - ``images (n_items, size, size, 3) uint8``; ``item_table``: dict of shape, colour and texture by name;
        - ``cold_items (n_cold,) int32``; ``cold_test``: ``Interactions`` of theirs, of the same shape as ``train``;
        - ``oracle``: ``{"recall@20": ..., "ndcg@20": ...}`` of ``test``, where items that are neither cold nor in the
          user's training part are ranked by the planted P(i | u); ``popularity``: by training counts; both over
          the users that have a part in ``test``;
        - ``cold_oracle``: likewise of ``cold_test``, where cold items alone are ranked by P(i | u), and
          ``cold_visual_oracle``, where they are ranked by that without their popularity: what can be seen. A model that
          knows pictures cannot expect to do better;
        - ``user_factors (n_users, rank) float32``, ``item_factors (n_items, rank) float32``: the truth.

    Raises:
        ValueError: a number out of its range.
        TypeError: a size that is not an integer.
    """
    sizes = {"n_users": n_users, "n_items": n_items, "n_interactions": n_interactions, "rank": rank}
    sizes = {name: whole(name, value, 1) for name, value in sizes.items()}
    sizes["seed"] = whole("random_state", random_state, 0)
    check_shares(sizes, concentration, user_exponent, item_exponent, test_fraction)
    _check(whole("size", size, 8), sizes["rank"], cold_fraction, sharpness, noise)
    cuts = tuple(whole("ks", k, 1) for k in ks)
    if not cuts:
        raise ValueError(message("ks", "no cut", "one or more, such as (20,)"))
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([sizes["seed"], 3])))
    looks = np.stack([rng.integers(0, n, sizes["n_items"]) for n in N_VALUES], axis=1)
    tastes = np.stack(np.unravel_index(rng.choice(math.prod(N_VALUES), sizes["rank"], replace=False), N_VALUES), axis=1)
    affinity = np.exp(-sharpness * (looks[:, None] != tastes).sum(2))
    truth = plant(
        sizes["n_users"], sizes["n_items"], sizes["n_interactions"], rank=sizes["rank"], concentration=concentration,
        user_exponent=user_exponent, item_exponent=item_exponent, test_fraction=test_fraction, seed=sizes["seed"],
        affinity=affinity,
    )  # fmt: skip
    cold = np.zeros(sizes["n_items"], bool)
    cold[rng.permutation(sizes["n_items"])[: round(cold_fraction * sizes["n_items"])]] = True
    users, parts = _drawn(truth, cold)
    extras: dict[str, Any] = {"images": draw(looks, size, noise, rng), "item_table": names(looks)}
    extras |= {"cold_items": np.flatnonzero(cold).astype(np.int32), "cold_test": parts["cold_test"]}
    extras |= _scores(truth, users, affinity, cold, parts, cuts)
    extras |= {"user_factors": users, "item_factors": truth.item_factors}
    return Dataset("synthetic-images", "memory", parts["train"], parts["test"], extras=extras)


def _check(size: int, rank: int, cold_fraction: float, sharpness: float, noise: float) -> None:
    ranges = {
        "size": (size, size <= _LARGEST, f"8 to {_LARGEST}"),
        "rank": (rank, rank <= math.prod(N_VALUES), f"at most {math.prod(N_VALUES)}"),
        "cold_fraction": (cold_fraction, 0 <= cold_fraction < 1, "0 <= share < 1"),
        "sharpness": (sharpness, 0 <= sharpness <= 20, "0 to 20"),
        "noise": (noise, 0 <= noise <= 1, "0 to 1"),
    }
    for name, (value, good, expected) in ranges.items():
        if not good:
            raise ValueError(message(name, value, expected))


def _drawn(truth: Planted, cold: NDArray[np.bool_]) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Return the users' mixtures, and what they drew, by part."""
    from recsys_fast.data.interactions import Interactions

    found = list(blocks(truth))
    rows = np.concatenate([block.start + block.owner for block in found])
    items, held = (np.concatenate([getattr(block, name) for block in found]) for name in ("item", "held_out"))
    n_users, masks = len(truth.counts), {"cold_test": cold[items], "train": ~cold[items] & ~held}
    parts = {}
    for name, mask in {**masks, "test": ~cold[items] & held}.items():
        row_ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(rows[mask], minlength=n_users))])
        parts[name] = Interactions._trusted(row_ptr, items[mask], None, None, (n_users, len(cold)))
    return np.concatenate([block.tastes for block in found]), parts


def _scores(
    truth: Planted,
    users: NDArray[np.float32],
    affinity: NDArray[np.float64],
    cold: NDArray[np.bool_],
    parts: dict[str, Any],
    ks: tuple[int, ...],
) -> dict[str, dict[str, float]]:
    """Return the scores of the truth, of what can be seen of it, and of popularity."""
    factors, warm = truth.item_factors.astype(np.float64), ~cold[:, None]
    popularity = factors[:, :1] / affinity[:, :1]  # up to a factor, whichever taste tells it
    counts, constant = parts["train"].item_counts[:, None].astype(np.float64), np.ones((len(users), 1))
    nothing = Lists(np.zeros(len(users) + 1, np.int64), np.empty(0, np.int32))
    # what is not to be ranked scores 0, anything else more
    rankings: dict[str, tuple[str, Any, Any]] = {
        "oracle": ("test", users, factors * warm),
        "popularity": ("test", constant, (counts + 1e-9) * warm),
        "cold_oracle": ("cold_test", users, factors * cold[:, None]),
        "cold_visual_oracle": ("cold_test", users, factors / popularity * cold[:, None]),
    }
    seen = Lists(parts["train"].row_ptr, parts["train"].col_idx)
    summary: dict[str, dict[str, float]] = {}
    for name, (part, queries, items) in rankings.items():
        test = Lists(parts[part].row_ptr, parts[part].col_idx)
        some = np.flatnonzero(np.diff(test.row_ptr))
        each = ranking_scores(queries[some], items, some, seen if part == "test" else nothing, test, ks)
        summary[name] = {key: float(values.mean()) if len(some) else math.nan for key, values in each.items()}
    return summary
