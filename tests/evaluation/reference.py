"""Ranking metrics in plain float64 loops, written from their definitions and from nothing of the package."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

NAMES = ("precision", "recall", "f1", "hit_rate", "ndcg", "mrr", "map")


def ranking(scores: Sequence[float], pool: Collection[int]) -> list[int]:
    """Return the ids of ``pool`` by score descending, equal scores by id ascending."""
    return sorted(pool, key=lambda item: (-scores[item], item))


def metrics(ranked: Sequence[int], relevant: Collection[int], k: int) -> dict[str, float]:
    """Return all metrics of one list cut at k; NaN where there is nothing to find."""
    if not relevant:
        return dict.fromkeys(NAMES, math.nan)
    hits = [rank for rank, item in enumerate(ranked[:k], start=1) if item in relevant]
    precision, recall = len(hits) / k, len(hits) / len(relevant)
    dcg = sum(1 / math.log2(rank + 1) for rank in hits)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "hit_rate": float(bool(hits)),
        "ndcg": dcg / ideal,
        "mrr": 1 / hits[0] if hits else 0.0,
        "map": sum((i + 1) / rank for i, rank in enumerate(hits)) / min(k, len(relevant)),
    }


def auc(scores: Sequence[float], pool: Collection[int], relevant: Collection[int]) -> float:
    """Return the mean over relevant items of the share of the pool's other items below them, ties one half."""
    others = [item for item in pool if item not in relevant]
    if not relevant or not others:
        return math.nan
    total = 0.0
    for item in relevant:
        if item in pool:
            total += sum(
                1.0 if scores[other] < scores[item] else 0.5 if scores[other] == scores[item] else 0.0
                for other in others
            ) / len(others)
    return total / len(relevant)


def coverage(lists: Sequence[Sequence[int]], n_items: int) -> float:
    """Return the share of the catalogue that occurs in some list."""
    return len({item for ranked in lists for item in ranked}) / n_items


def gini(lists: Sequence[Sequence[int]], n_items: int) -> float:
    """Return half the mean absolute difference of two items' recommendation counts over the mean count."""
    counts = [0] * n_items
    for ranked in lists:
        for item in ranked:
            counts[item] += 1
    differences = sum(abs(a - b) for a in counts for b in counts)
    return differences / (2 * n_items * sum(counts))


def novelty(ranked: Sequence[int], owners: Mapping[int, int], n_users: int) -> float:
    """Return the mean of -log2 of the share of users who have the item."""
    return sum(-math.log2(max(owners.get(item, 0), 1) / n_users) for item in ranked) / len(ranked)


def diversity(ranked: Sequence[int], features: Sequence[Sequence[float]]) -> float:
    """Return 1 - the mean cosine over all pairs of a list."""
    cosines = []
    for i, first in enumerate(ranked):
        for second in ranked[i + 1 :]:
            a, b = np.asarray(features[first], float), np.asarray(features[second], float)
            length = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
            cosines.append(float(a @ b) / length if length else 0.0)
    return 1 - sum(cosines) / len(cosines) if cosines else math.nan
