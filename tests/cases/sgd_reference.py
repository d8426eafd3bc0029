"""The SGD epochs visit by visit, straight from their documentation, in float64 or float32."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.ops import Csr
from tests.cases.sgd import Problem

F64 = NDArray[np.float64]

TRIES, VISIT_WORDS = 16, 4096


@functools.lru_cache(1 << 20)
def _block(seed: int, epoch: int, sample: int, k: int) -> tuple[int, ...]:
    """Return four words of Philox4x32-10, from its definition."""
    c, key = [sample & 0xFFFFFFFF, sample >> 32, epoch, k], [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ key[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ key[1], p0 & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return tuple(c)


class Side:
    """The users or the items, with the optimizer's state, in a precision of one's choice."""

    def __init__(self, problem: Problem, name: str, dtype: type[np.floating[Any]]) -> None:
        self.table = problem.tables[name].astype(dtype)
        bias = problem.tables.get(name[:-1] + "_bias")
        self.bias = None if bias is None else bias.astype(dtype)
        self.features: Csr | None = problem.options.get(name[:-1] + "_features")
        self.optimizer = problem.state.optimizer
        self.state = getattr(problem.state, name).astype(dtype)
        self.bias_state = getattr(problem.state, name[:-1] + "_bias").astype(dtype)
        self.steps = getattr(problem.state, name[:-1] + "_steps").copy()
        self.options = problem.options

    def parts(self, entity: int) -> list[tuple[int, float]]:
        """Return the rows whose sum an entity is, with their values."""
        if self.features is None:
            return [(entity, 1.0)]
        row_ptr, col_idx, values, *_ = self.features
        return [(int(col_idx[t]), float(values[t])) for t in range(row_ptr[entity], row_ptr[entity + 1])]

    def vector(self, entity: int) -> F64:
        return sum((v * self.table[r] for r, v in self.parts(entity)), np.zeros_like(self.table[0]))

    def bias_of(self, entity: int) -> float:
        return 0.0 if self.bias is None else float(sum(v * self.bias[r] for r, v in self.parts(entity)))

    def move(self, entity: int, direction: F64, g_bias: float) -> None:
        """Ascend along ``direction`` and ``g_bias``."""
        for r, v in self.parts(entity):
            if self.optimizer == "adam":
                self.steps[r] += 1
            self._move(self.table[r], self.state[r] if self.state.size else None, v * direction, r)
            if self.bias is not None:
                state = self.bias_state[r] if self.bias_state.size else None
                self._move(self.bias[r : r + 1], state, np.array([v * g_bias]), r)

    def _move(self, row: F64, state: F64 | None, ascent: F64, r: int) -> None:
        lr, g = self.options["learning_rate"], ascent - self.options["regularization"] * row
        if self.optimizer == "sgd":
            row += lr * g
            return
        assert state is not None
        if self.optimizer == "adagrad":
            state += g**2
            row += lr * g / (np.sqrt(state) + 1e-8)
            return
        d, t = len(row), int(self.steps[r])
        state[:d] = 0.9 * state[:d] + 0.1 * g
        state[d:] = 0.999 * state[d:] + 0.001 * g**2
        row += lr * (state[:d] / (1 - 0.9**t)) / (np.sqrt(state[d:] / (1 - 0.999**t)) + 1e-8)


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


class Reference:
    """One epoch from its documentation, visit by visit; ``train`` runs it."""

    def __init__(self, problem: Problem, dtype: type[np.floating[Any]] = np.float64) -> None:
        self.op, self.options, self.matrix = problem.op, problem.options, problem.matrix
        self.users, self.items = Side(problem, "users", dtype), Side(problem, "items", dtype)
        self.n_users, self.n_items = problem.matrix.shape
        self.frozen = problem.options.get("frozen", "none")
        self.loss, self.n_trained, self.n_skipped = 0.0, 0, 0

    def word(self, sample: int, k: int) -> int:
        return _block(self.options["seed"], self.options["epoch"], sample, k // 4)[k % 4]

    def n_blocks(self) -> int:
        special = self.users.features is not None or self.items.features is not None or self.options.get("n_os")
        if special or self.frozen == "items" or not self.options.get("deterministic", True):
            return 1
        rows = 1024 if self.op == "warp_epoch" else 64
        return max(1, min(16, min(self.n_users, self.n_items) // rows))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return tables, biases and states by the names that ``Problem`` gives them."""
        arrays: dict[str, NDArray[Any]] = {"users": self.users.table, "items": self.items.table}
        for side, name in ((self.users, "user"), (self.items, "item")):
            if side.bias is not None:
                arrays[f"{name}_bias"] = side.bias
            arrays |= {f"state.{name}s": side.state, f"state.{name}_bias": side.bias_state}
            arrays[f"state.{name}_steps"] = side.steps
        return arrays

    def row(self, user: int) -> list[int]:
        begin, end = self.matrix.row_ptr[user : user + 2]
        return self.matrix.col_idx[begin:end].tolist()

    def visits(self) -> Iterator[tuple[int, int, int, list[int], int, int]]:
        """Yield user, place of the entry, item, members of the item block, sample and first word, in order."""
        n, rates = self.n_blocks(), self.options.get("rates")
        user_block = [self.word(u, 2**32 - 1) * n >> 32 for u in range(self.n_users)]
        item_block = [self.word(2**62 + i, 2**32 - 1) * n >> 32 for i in range(self.n_items)]
        for r in range(n):
            for b in range(n):
                members = [i for i in range(self.n_items) if item_block[i] == (b + r) % n]
                for u in range(self.n_users):
                    if user_block[u] != b:
                        continue
                    for t, i in enumerate(self.row(u)):
                        if item_block[i] != (b + r) % n:
                            continue
                        place = int(self.matrix.row_ptr[u]) + t
                        sample = t if self.frozen == "items" else place
                        rate = 1.0 if rates is None else float(np.float32(rates[place]))
                        for visit in range(int(rate + self.word(sample, 2**32 - 2) * 2.0**-32)):
                            yield u, place, i, members, sample, visit * VISIT_WORDS

    def negative(self, user: int, members: list[int], sample: int, k: int) -> tuple[int, int]:
        """Return an item of the block outside the user's row (-1 for none), and the next word."""
        taken = set(self.row(user))
        absent = [i for i in members if i not in taken]
        weights = self.options.get("negative_weights")
        if not absent:
            return -1, k
        if weights is None:
            for at in range(k, k + TRIES):
                item = members[self.word(sample, at) * len(members) >> 32]
                if item not in taken:
                    return item, at + 1
            return absent[self.word(sample, k + TRIES) * len(absent) >> 32], k + TRIES + 1
        cdf = np.cumsum(np.asarray(weights, np.float64) / np.max(weights))
        weight = np.diff(cdf, prepend=0.0)
        running = cdf if len(members) == self.n_items else np.cumsum(weight[members])
        if running[-1] <= 0:
            return -1, k
        for at in range(k, k + 2 * TRIES, 2):
            place = int(np.searchsorted(running, self.unit(sample, at) * running[-1], side="right"))
            if place < len(members) and members[place] not in taken:
                return members[place], at + 2
        heavy = [i for i in absent if weight[i] > 0]
        if not heavy:
            return -1, k
        sums = np.cumsum(weight[heavy])
        place = int(np.searchsorted(sums, self.unit(sample, k + 2 * TRIES) * sums[-1], side="right"))
        return heavy[min(place, len(heavy) - 1)], k + 2 * TRIES + 2

    def unit(self, sample: int, k: int) -> float:
        return ((self.word(sample, k) << 32 | self.word(sample, k + 1)) >> 11) * 2.0**-53

    def score(self, user: int, item: int) -> float:
        own = 0.0 if self.op in ("bpr_epoch", "warp_epoch") else self.users.bias_of(user)
        return float(self.users.vector(user) @ self.items.vector(item)) + self.items.bias_of(item) + own

    def train(self) -> Reference:
        for user, place, item, members, sample, k in self.visits():
            getattr(self, "_" + self.op)(user, place, item, members, sample, k)
        return self

    def _draw(self, user: int, members: list[int], sample: int, k: int) -> tuple[int, int]:
        item, k = self.negative(user, members, sample, k)
        if item < 0:
            self.n_skipped += 1
        return item, k

    def _step(self, user: int, ids: list[int], gradients: list[float]) -> None:
        """Ascend the scores of ``ids`` by ``gradients``, all taken before; the first is the positive."""
        p = self.users.vector(user)
        along = sum((g * self.items.vector(i) for i, g in zip(ids, gradients, strict=True)), np.zeros_like(p))
        for at, (i, g) in enumerate(zip(ids, gradients, strict=True)):
            if self.frozen == "none" or (self.frozen == "users" and at == 0):
                self.items.move(i, g * p, g)
        if self.frozen != "users":
            self.users.move(user, along, sum(gradients))

    def _value(self, place: int) -> float:
        weighted = self.op == "rating_epoch" or self.options.get("weights") is True
        return float(self.matrix.values[place]) if weighted and self.matrix.values is not None else 1.0

    def _bpr_epoch(self, user: int, place: int, item: int, members: list[int], sample: int, k: int) -> None:
        drawn = []
        for _ in range(self.options.get("n_candidates", 1)):
            j, k = self._draw(user, members, sample, k)
            if j < 0:
                return
            drawn.append(j)
        j = max(drawn, key=lambda j: self.score(user, j))
        w, x = self._value(place), self.score(user, item) - self.score(user, j)
        self.loss += w * float(np.logaddexp(0, -x))
        self.n_trained += 1
        self._step(user, [item, j], [w * sigmoid(-x), -w * sigmoid(-x)])

    def _warp_epoch(self, user: int, place: int, item: int, members: list[int], sample: int, k: int) -> None:
        n_os, row = self.options.get("n_os", 0), self.row(user)
        if n_os:
            at = [self.word(sample, k + t) * len(row) >> 32 for t in range(n_os)]
            chosen = sorted(at, key=lambda t: -self.score(user, row[t]))[self.options["k_os"] - 1]
            item, place, k = row[chosen], int(self.matrix.row_ptr[user]) + chosen, k + n_os
        positive = self.score(user, item)
        for trial in range(1, self.options.get("max_trials", 10) + 1):
            j, k = self._draw(user, members, sample, k)
            if j < 0:
                return
            negative = self.score(user, j)
            if negative > positive - 1:
                w = self._value(place) * max(1.0, float(np.log(max(1, (self.n_items - 1) // trial))))
                self.loss += w * (1 - positive + negative)
                self._step(user, [item, j], [w, -w])
                break
        self.n_trained += 1

    def _logistic_epoch(self, user: int, place: int, item: int, members: list[int], sample: int, k: int) -> None:
        ids = [item]
        for _ in range(self.options.get("n_negatives", 4)):
            j, k = self._draw(user, members, sample, k)
            if j < 0:
                return
            ids.append(j)
        ids = ids[:1] if self.frozen == "users" else ids
        w, scores = self._value(place), [self.score(user, i) for i in ids]
        gradients = [w * sigmoid(-scores[0]), *(-sigmoid(s) for s in scores[1:])]
        self.loss += w * float(np.logaddexp(0, -scores[0])) + float(sum(np.logaddexp(0, s) for s in scores[1:]))
        self.n_trained += len(ids)
        self._step(user, ids, gradients)

    def _rating_epoch(self, user: int, place: int, item: int, *_: Any) -> None:
        rating, s = self._value(place), self.options.get("mean", 0.0) + self.score(user, item)
        e, kind = rating - s, self.options.get("loss", "squared")
        if kind == "logistic":
            g, loss = rating - sigmoid(s), float(np.logaddexp(0, s)) - rating * s
        elif kind == "squared" or abs(e) < 1:
            g, loss = e, e * e / 2
        else:
            g, loss = float(np.sign(e)), abs(e) - 0.5
        self.loss += loss
        self.n_trained += 1
        self._step(user, [item], [g])
