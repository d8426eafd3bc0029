"""Cases of the SGD epochs, for their tests and benchmarks; ``sgd_reference`` is what they should lead to."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.ops import Csr, OptimizerState
from tests.cases.csr import make_csr

F32 = NDArray[np.float32]


class Problem(NamedTuple):
    """The arguments of one epoch: ``run`` trains copies of the tables.

    Attributes:
        tables: users, items, and those of user_bias, item_bias that the case has; by name.
        options: keyword arguments.
    """

    op: str
    tables: dict[str, F32]
    matrix: Csr
    state: OptimizerState
    options: dict[str, Any]

    def run(self, device: str, **how: Any) -> tuple[dict[str, F32], OptimizerState, ops.EpochResult]:
        """Return what the operation makes of copies of the tables and of the state, and what it returns."""
        tables = {name: table.copy() for name, table in self.tables.items()}
        state = OptimizerState(self.state.optimizer, *(array.copy() for array in self.state[1:]))
        options = {**self.options, "state": state, "device": device, **how}
        users, items, biases = tables["users"], tables["items"], {k: v for k, v in tables.items() if "bias" in k}
        return tables, state, getattr(ops, self.op)(users, items, self.matrix, **biases, **options)


class Case(NamedTuple):
    """A problem by its sizes: user 0 has no entry, user 1 every item, the others about ``length``.

    Attributes:
        op: name of the operation.
        values: what the matrix holds: "none", "weights" (positive), "ratings" (1 to 5) or "labels" (0 to 1).
        biases: which the case has: any of "u" and "i".
        features: which sides have them: any of "u" and "i", or "bag" for SVD++'s.
        rates: whether entries are visited at rates from 0 to 2.5.
        popular: whether negatives are drawn by weights, some of them zero.
    """

    name: str
    op: str
    options: dict[str, Any] = {}  # noqa: RUF012
    n_users: int = 140
    n_items: int = 150
    d: int = 5
    length: float = 4.0
    optimizer: str = "sgd"
    values: str = "none"
    biases: str = "ui"
    features: str = ""
    rates: bool = False
    popular: bool = False

    def make(self, seed: int = 0) -> Problem:
        """Return the arrays; the same for the same seed."""
        rng = np.random.default_rng([seed, self.n_users, self.n_items, self.d])
        lengths = np.minimum(rng.poisson(self.length, self.n_users), self.n_items)
        lengths[: min(2, self.n_users)] = [0, self.n_items][: self.n_users]
        rows = [np.sort(rng.choice(self.n_items, k, replace=False)).tolist() for k in lengths]
        matrix = make_csr(rows, self.n_items, values=False)
        options = {"learning_rate": 0.05, "regularization": 0.02, "seed": 2**63 + 5, "epoch": 3, **self.options}
        n_rows = {"users": self.n_users, "items": self.n_items}
        for side, name in (("u", "users"), ("i", "items")):
            if side in self.features and self.features != "bag":
                features = _features(rng, n_rows[name])
                options[name[:-1] + "_features"], n_rows[name] = features, features.n_cols
        if self.features == "bag":
            options["user_features"] = _bag(rows, self.n_items)
            n_rows["users"] += self.n_items
        tables = {name: (0.5 * rng.standard_normal((n, self.d))).astype(np.float32) for name, n in n_rows.items()}
        for side, name in (("u", "users"), ("i", "items")):
            pairwise = self.op in ("bpr_epoch", "warp_epoch")
            if side in self.biases and not (pairwise and side == "u"):
                tables[name[:-1] + "_bias"] = (0.2 * rng.standard_normal(n_rows[name])).astype(np.float32)
        if self.rates:
            options["rates"] = rng.choice([0.0, 0.4, 1.0, 2.5], matrix.nnz)
        if self.popular:
            options["negative_weights"] = np.maximum(rng.random(self.n_items) - 0.2, 0.0) ** 3
        state = ops.make_state(self.optimizer, **tables, initial=0.1)
        return Problem(self.op, tables, matrix._replace(values=self._values(rng, matrix.nnz)), state, options)

    def _values(self, rng: np.random.Generator, nnz: int) -> F32 | None:
        if self.values == "none":
            return None
        drawn = {"weights": rng.exponential(1.0, nnz), "ratings": rng.integers(1, 6, nnz), "labels": rng.random(nnz)}
        return drawn[self.values].astype(np.float32)


def _features(rng: np.random.Generator, n: int) -> Csr:
    """Return features of n entities: none, or a few out of 12, of which entities often share one."""
    rows = [np.sort(rng.choice(12, k, replace=False)).tolist() for k in rng.integers(0, 4, n)]
    features = make_csr(rows, 12)
    assert features.values is not None
    return features._replace(values=np.abs(features.values))


def _bag(rows: list[list[int]], n_items: int) -> Csr:
    """Return each user's own row, and the items it has rated by the root of their number."""
    n = len(rows)
    bags = make_csr([[u, *(n + i for i in row)] for u, row in enumerate(rows)], n + n_items, values=False)
    values = [v for row in rows for v in [1.0, *[max(1, len(row)) ** -0.5] * len(row)]]
    return bags._replace(values=np.array(values, np.float32))


# Every loss and optimizer, one block and several, with and without biases, features, weights, rates and frozen tables.
CASES = [
    Case("bpr", "bpr_epoch"),
    Case("bpr one factor", "bpr_epoch", d=1, biases=""),
    Case("bpr adagrad", "bpr_epoch", {"weights": True}, d=3, optimizer="adagrad", values="weights"),
    Case("bpr adam", "bpr_epoch", d=16, optimizer="adam"),
    Case("bpr popular", "bpr_epoch", d=17, popular=True, rates=True),
    Case("bpr candidates", "bpr_epoch", {"n_candidates": 5}, d=65),
    Case("bpr popular candidates", "bpr_epoch", {"n_candidates": 3}, popular=True, biases="", optimizer="adagrad"),
    Case("bpr many blocks", "bpr_epoch", n_users=300, n_items=270, length=3),
    Case("bpr items frozen", "bpr_epoch", {"frozen": "items"}, rates=True),
    Case("bpr items frozen, popular", "bpr_epoch", {"frozen": "items"}, popular=True, optimizer="adam"),
    Case("bpr users frozen", "bpr_epoch", {"frozen": "users"}, optimizer="adagrad"),
    Case("bpr user features", "bpr_epoch", features="u", rates=True),
    Case("bpr item features", "bpr_epoch", features="i", optimizer="adagrad", popular=True),
    Case("bpr features", "bpr_epoch", {"n_candidates": 2}, features="ui", optimizer="adam"),
    Case("bpr features, items frozen", "bpr_epoch", {"frozen": "items"}, features="ui"),
    Case("bpr lock-free", "bpr_epoch", {"deterministic": False}, n_users=90, n_items=400),
    Case("warp", "warp_epoch", d=16),
    Case("warp blocks", "warp_epoch", n_users=2100, n_items=2200, length=0.4, d=2),
    Case("warp few trials", "warp_epoch", {"max_trials": 2, "weights": True}, values="weights", optimizer="adagrad"),
    Case("warp popular", "warp_epoch", d=33, biases="", popular=True, optimizer="adam"),
    Case("warp many trials", "warp_epoch", {"max_trials": 40}, d=64),
    Case("warp features", "warp_epoch", features="ui"),
    Case("warp k-os", "warp_epoch", {"k_os": 2, "n_os": 5, "weights": True}, values="weights"),
    Case("warp k-os, users frozen", "warp_epoch", {"k_os": 1, "n_os": 3, "frozen": "users"}, features="i"),
    Case("logistic", "logistic_epoch", d=17),
    Case("logistic weighted", "logistic_epoch", {"weights": True, "n_negatives": 2}, values="weights", popular=True),
    Case("logistic adagrad", "logistic_epoch", {"n_negatives": 9}, optimizer="adagrad", biases="u", rates=True),
    Case("logistic adam", "logistic_epoch", {"n_negatives": 1}, optimizer="adam", biases="i", d=3),
    Case("logistic positives only", "logistic_epoch", {"n_negatives": 0}, biases=""),
    Case("logistic features", "logistic_epoch", features="ui", n_users=60),
    Case("logistic wide", "logistic_epoch", {"n_negatives": 20}, d=64),
    Case("logistic many negatives", "logistic_epoch", {"n_negatives": 40}, d=128, n_users=30),
    Case("logistic long rows", "logistic_epoch", {"n_negatives": 7}, n_users=20, n_items=90, length=60),
    Case("logistic items frozen", "logistic_epoch", {"frozen": "items"}, optimizer="adagrad"),
    Case("logistic users frozen", "logistic_epoch", {"frozen": "users"}),
    Case("rating", "rating_epoch", {"mean": 3.0}, d=16, values="ratings"),
    Case("rating smooth", "rating_epoch", {"mean": 3.0, "loss": "smooth_l1"}, values="ratings", rates=True),
    Case("rating logistic", "rating_epoch", {"loss": "logistic"}, values="labels", optimizer="adagrad", d=65),
    Case("rating adam", "rating_epoch", {"mean": 3.0}, values="ratings", optimizer="adam", biases="", d=1),
    Case("rating bag", "rating_epoch", {"mean": 3.0}, values="ratings", features="bag", n_users=60, n_items=40),
    Case("rating bag adagrad", "rating_epoch", values="ratings", features="bag", optimizer="adagrad", n_users=40),
    Case("rating features", "rating_epoch", values="ratings", features="ui", optimizer="adam", d=3),
    Case("rating items frozen", "rating_epoch", {"frozen": "items", "mean": 3.0}, values="ratings", biases="i"),
    Case("rating users frozen", "rating_epoch", {"frozen": "users"}, values="ratings", features="ui"),
]  # fmt: skip
