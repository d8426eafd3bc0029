"""ALS straight from its formulas: dense, float64, one user or item at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def start(n_items: int, n_factors: int, seed: int, *, explicit: bool = False) -> Array:
    """The start of the item factors; where there are biases their column is drawn too, and not used."""
    draws = np.random.Generator(np.random.Philox(seed)).standard_normal((n_items, n_factors + explicit), np.float32)
    return draws[:, :n_factors].astype(np.float64) * 0.1 / np.sqrt(n_factors)


class Reference:
    """The objective of one model on a dense matrix (zeros are no interactions).

    w0 weighs every cell, c the observed ones, whose target is ``t / c``: 1 for "ials++", (w0 + c) / c for "hu2008",
    0 where the value is negative.
    """

    def __init__(self, dense: Array, model: Any) -> None:
        self.observed = dense != 0
        self.explicit = model.feedback == "explicit"
        self.regularization, self.nu = model.regularization, model.nu
        self.w0 = 0.0 if self.explicit else model.unobserved_weight
        if self.explicit:
            self.mean = dense[self.observed].mean()
            self.confidence = self.observed.astype(np.float64)
            self.linear = (dense - self.mean) * self.observed
        else:
            self.confidence = model.alpha * np.abs(dense)
            offset = self.w0 if model.objective == "hu2008" else 0.0
            self.linear = (self.confidence + offset) * (dense > 0)

    def penalties(self, axis: int) -> Array:
        size = self.observed.shape[axis]
        return self.regularization * (self.observed.sum(axis) + self.w0 * size) ** self.nu

    def solve(self, y: Array, y_bias: Array, *, users: bool) -> tuple[Array, Array]:
        """Return factors and biases of all users (or items) given the other side's."""
        confidence, linear = (self.confidence, self.linear) if users else (self.confidence.T, self.linear.T)
        penalty = self.penalties(1 if users else 0)
        features = np.column_stack([y, np.ones(len(y))]) if self.explicit else y
        x = np.zeros((len(confidence), features.shape[1]))
        for row in range(len(x)):
            if not (confidence[row] > 0).any():
                continue
            matrix = features.T @ (features * (self.w0 + confidence[row])[:, None])
            matrix += penalty[row] * np.eye(len(matrix))
            right = linear[row] - (confidence[row] * y_bias if self.explicit else 0.0)
            x[row] = np.linalg.solve(matrix, features.T @ right)
        return (x[:, :-1], x[:, -1]) if self.explicit else (x, np.zeros(len(x)))

    def scores(self, x: Array, x_bias: Array, y: Array, y_bias: Array) -> Array:
        return x @ y.T + x_bias[:, None] + y_bias[None, :]

    def loss(self, x: Array, x_bias: Array, y: Array, y_bias: Array) -> float:
        scores = self.scores(x, x_bias, y, y_bias)
        constant = self.linear**2 if self.explicit else self.linear
        total = (constant - 2 * self.linear * scores + self.confidence * scores**2)[self.observed].sum()
        total += self.w0 * (scores**2).sum()
        total += self.penalties(1) @ ((x**2).sum(1) + x_bias**2) + self.penalties(0) @ ((y**2).sum(1) + y_bias**2)
        return float(total)

    def fit(self, y: Array, n_epochs: int) -> tuple[Array, list[float]]:
        """Return the scores after exact epochs from item factors ``y``, and the loss of each epoch."""
        y_bias, losses = np.zeros(len(y)), []
        for _ in range(n_epochs):
            x, x_bias = self.solve(y, y_bias, users=True)
            y, y_bias = self.solve(x, x_bias, users=False)
            losses.append(self.loss(x, x_bias, y, y_bias))
        return self.scores(x, x_bias, y, y_bias), losses
