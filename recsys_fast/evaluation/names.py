"""The names of metrics, and what a caller asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from recsys_fast.errors import message
from recsys_fast.ops.rank_metrics import RANK_METRICS

LIST_METRICS = ("coverage", "diversity", "novelty", "gini")
RATING_METRICS = ("rmse", "mae", "accuracy")
METRICS = (*RANK_METRICS, "auc", *LIST_METRICS, *RATING_METRICS)
_CUT = (*RANK_METRICS, *LIST_METRICS)  # those measured on the first k of a list


class Wanted(NamedTuple):
    """One number asked for: a metric, and where the list is cut (None for metrics without a cut)."""

    name: str
    k: int | None

    def key(self, suffix: str = "") -> str:
        """Return its name in a report: "ndcg@10", "auc", "ndcg@10/sampled100"."""
        cut = self.name if self.k is None else f"{self.name}@{self.k}"
        return cut if self.name in RATING_METRICS else cut + suffix


def _cut(value: Any) -> int:
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(message("k", type(value).__name__, "an int"))
    k = int(value.__index__())
    if not 1 <= k < 2**31:
        raise ValueError(message("k", k, "1 to 2**31 - 1"))
    return k


def parse(metrics: str | Iterable[str], ks: Any) -> list[Wanted]:
    """Return what is asked for, in that order, each once.

    Args:
        metrics: names of ``METRICS``, alone ("ndcg": at every cut of ``ks``) or with a cut ("ndcg@20").
        ks: cuts of the names that have none of their own; an int or several.

    Raises:
        ValueError: an unknown name, a cut below 1 or on a metric without cuts, nothing asked for.
        TypeError: names that are not strings, cuts that are not integers.
    """
    cuts = [_cut(k) for k in (ks if np.iterable(ks) else (ks,))]
    wanted: dict[Wanted, None] = {}
    for text in (metrics,) if isinstance(metrics, str) else metrics:
        if not isinstance(text, str):
            raise TypeError(message("metric", type(text).__name__, "a string"))
        name, at, cut = text.partition("@")
        if name not in METRICS:
            raise ValueError(message("metric", repr(text), "one of " + ", ".join(METRICS)))
        if name not in _CUT:
            if at:
                raise ValueError(message("metric", repr(text), f"{name!r}: it has no cut"))
            wanted[Wanted(name, None)] = None
        elif at:
            if not cut.isdecimal():
                raise ValueError(message("metric", repr(text), f"a cut after the @, as in '{name}@10'"))
            wanted[Wanted(name, _cut(int(cut)))] = None
        else:
            if not cuts:
                raise ValueError(message("ks", "no cut", f"at least one for {name!r}", "pass for example ks=(10, 20)"))
            wanted.update(dict.fromkeys(Wanted(name, k) for k in cuts))
    if not wanted:
        raise ValueError(message("metrics", "none", "at least one of " + ", ".join(METRICS)))
    return list(wanted)
