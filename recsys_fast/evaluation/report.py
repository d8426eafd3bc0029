"""What an evaluation found, and how it was done."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import message


class Value(NamedTuple):
    """A metric over all users.

    Attributes:
        mean: the metric.
        stderr: its standard error; NaN where it has none.
        per_user: ``(n_active,) float64``, or None for a metric that exists only for all users together.
    """

    mean: float
    stderr: float
    per_user: NDArray[np.float64] | None

    @classmethod
    def of_users(cls, per_user: NDArray[np.float64]) -> Value:
        """Return the mean over the users for whom the metric is defined, and std / sqrt(n)."""
        defined = per_user[~np.isnan(per_user)]
        n = len(defined)
        spread = float(defined.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
        return cls(float(defined.mean()) if n else math.nan, spread, per_user)


class Report(Mapping[str, float]):
    """The metrics of one evaluation by name, with everything that is needed to repeat it.

    A report is a read-only mapping: ``report["recall@20"]``, ``dict(report)``. Names of metrics that rank a sample of
    the items say so: "ndcg@10/sampled100". ``str(report)`` is a table.

    Attributes:
        users: ``(n,) int32``, the users asked for.
        n_users: how many of them have test items; means and standard errors are over these.
        n_users_without_test: how many have none and are left out.
        protocol: how items were ranked: "ranking" ("all items", "sampled", or None where only ratings were predicted),
            "n_negatives", "seed" (of drawn negatives), "filter_seen", "n_items", "n_test" (interactions),
            "n_test_seen" (those that are also in the training data: with ``filter_seen`` nobody can find them, and they
            count as missed).
        version: of the library.
    """

    users: NDArray[np.int32]
    n_users: int
    n_users_without_test: int
    protocol: dict[str, Any]
    version: str

    def __init__(
        self,
        values: dict[str, Value],
        users: NDArray[np.int32],
        active: NDArray[np.bool_],
        protocol: dict[str, Any],
    ) -> None:
        from recsys_fast import __version__

        self._values = values
        self._active = active
        self.users = users
        self.n_users = int(active.sum())
        self.n_users_without_test = len(users) - self.n_users
        self.protocol = protocol
        self.version = __version__

    @property
    def seed(self) -> int | None:
        """The seed that negatives were drawn with; None where none were drawn."""
        seed: int | None = self.protocol["seed"]
        return seed

    def _value(self, name: str) -> Value:
        if name not in self._values:
            raise KeyError(message("metric", repr(name), "one of " + ", ".join(self._values)))
        return self._values[name]

    def __getitem__(self, name: str) -> float:
        return self._value(name).mean

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def per_user(self, name: str) -> NDArray[np.float64]:
        """Return the metric of each of ``users``, ``(len(users),) float64``; NaN for users without test items.

        Raises:
            KeyError: the report has no such metric.
            ValueError: coverage and gini, which exist only for all users together.
        """
        value = self._value(name).per_user
        if value is None:
            raise ValueError(message(f"{name} has no value per user", mend="it is about all lists together"))
        out = np.full(len(self.users), np.nan)
        out[self._active] = value
        return out

    def stderr(self, name: str) -> float:
        """Return the standard error of the mean over users; NaN for a single user and for coverage and gini.

        That of rmse, mae and accuracy is over ratings, as those metrics are.
        """
        return self._value(name).stderr

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: "metrics", "stderr", "n_users", "n_users_without_test", "protocol", "version"."""
        return {
            "metrics": {name: value.mean for name, value in self._values.items()},
            "stderr": {name: value.stderr for name, value in self._values.items()},
            "n_users": self.n_users,
            "n_users_without_test": self.n_users_without_test,
            "protocol": dict(self.protocol),
            "version": self.version,
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return ``to_dict`` as JSON; NaN becomes null."""
        content = self.to_dict()
        for part in ("metrics", "stderr"):
            content[part] = {name: None if math.isnan(number) else number for name, number in content[part].items()}
        return json.dumps(content, indent=indent, allow_nan=False)

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={value.mean:.4f}" for name, value in self._values.items())
        return f"Report({numbers}, n_users={self.n_users})"

    def __str__(self) -> str:
        rows = [("metric", "value", "std. error")]
        for name, value in self._values.items():
            rows.append((name, f"{value.mean:.4f}", "-" if math.isnan(value.stderr) else f"{value.stderr:.4f}"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [f"{name:<{widths[0]}}  {mean:>{widths[1]}}  {error:>{widths[2]}}" for name, mean, error in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, "", self._how()])

    def _how(self) -> str:
        """Return how it was done in one line."""
        plan = self.protocol
        ranking = f"all {plan['n_items']} items ranked"
        if plan["ranking"] == "sampled":
            source = "given" if plan["seed"] is None else f"drawn with seed {plan['seed']}"
            ranking = f"test items ranked among {plan['n_negatives']} negatives per user, {source}"
        parts = [f"{self.n_users} users", ranking, f"seen items {'left out' if plan['filter_seen'] else 'kept'}"]
        if plan["ranking"] is None:
            parts[1:] = [f"{plan['n_test']} ratings predicted"]
        if self.n_users_without_test:
            parts.insert(1, f"{self.n_users_without_test} more without test items")
        if plan["ranking"] and plan["n_test_seen"] and plan["filter_seen"]:
            parts.append(f"{plan['n_test_seen']} of {plan['n_test']} test interactions were seen")
        return "; ".join([*parts, f"recsys_fast {self.version}"])
