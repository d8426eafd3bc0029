"""What a network of content ends in: its parameters, its loss with weights of rows, and its predictions."""

from __future__ import annotations

import math

import numpy as np

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter
from recsys_fast.ops.block_arguments import as_choice
from recsys_fast.ops.losses import REGRESSION

HEADS = ("softmax", "sigmoid", "linear")


class Head(Block):
    """Scores h w^T + b of rows h, and a loss of them.

    - "softmax": cross-entropy of one class per row, over ``d_out`` classes;
    - "sigmoid": binary cross-entropy of every column, summed over the columns;
    - "linear": squared error, or smooth L1, likewise.

    Args:
        d: width of the inputs.
        d_out: number of classes, or of targets per row.
        kind: see above.
        regression: "squared" or "smooth_l1", with "linear".
    """

    def __init__(self, d: int, d_out: int, kind: str = "softmax", regression: str = "squared") -> None:
        as_choice(kind, "head", HEADS)
        self.d, self.d_out, self.kind = d, d_out, kind
        self.regression = as_choice(regression, "loss", REGRESSION)

    def parameters(self) -> list[Parameter]:
        """Return w ``(d_out, d)`` and b ``(d_out,)``."""
        scale = 1.0 / math.sqrt(self.d)
        return [Parameter("w", (self.d_out, self.d), "uniform", scale), Parameter("b", (self.d_out,), "zeros")]

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return the scores ``(n, d_out)``."""
        self._x, scores = x, self._take("scores", len(x), self.d_out)
        none, w = np.empty((0, 0), x.dtype), np.ascontiguousarray(self.values["w"].T)
        self.runtime.run("dense_forward", scores, none, x, w, self.values["b"], 4, 0.0, 0, 0, 0)
        return scores

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the rows of the last ``forward``."""
        dx, dw = self._take("dx", *self._x.shape), self._take("dw", self.d, self.d_out)
        none, w = np.empty((0, 0), dy.dtype), np.ascontiguousarray(self.values["w"].T)
        given = (dy, dy, none, self._x, w)  # the identity's slope looks at nothing
        self.runtime.run("dense_backward", dx, dw, self.gradients["b"], *given, 4, 0.0, 0, 0, 0)
        self.gradients["w"][...] = dw.T
        return dx

    def loss(self, h: Array, targets: Array, weights: Array, batch: PackedBatch) -> tuple[float, Array]:
        """Return the sum of the rows' weighted losses, and the gradient of h of their mean over the rows.

        Args:
            h: ``(n, d)``.
            targets: "softmax": ``(n,) int32``; "sigmoid": ``(n, d_out)`` of 0 and 1; "linear": ``(n, d_out)``.
            weights: ``(n,)``, of length 0 for 1.
            batch: of the step.
        """
        scale = 1.0 / len(h)
        if self.kind == "softmax":
            dh = self._take("dh", *h.shape)
            out, given = (dh, self.gradients["w"], self.gradients["b"]), (h, self.values["w"], self.values["b"])
            return self.runtime.run("softmax_loss", *out, *given, targets, weights, scale, 0), dh
        scores = self.forward(h, batch)
        dscores = self._take("dscores", *scores.shape)
        each = np.repeat(weights, self.d_out)
        run = self._binary if self.kind == "sigmoid" else self._regression
        loss = run(dscores, scores, targets, each, scale)
        return loss, self.backward(dscores, batch)

    def _binary(self, dscores: Array, scores: Array, targets: Array, weights: Array, scale: float) -> float:
        """-log sigma(s) or -log sigma(-s): the loss of one item whose score is +s or -s."""
        sign = 2 * targets.reshape(-1, 1) - 1
        signed, one = sign * scores.reshape(-1, 1), np.ones((1, 1), scores.dtype)
        dsigned, coef = np.empty_like(signed), np.empty_like(signed)
        n, none = len(signed), np.empty(0, scores.dtype)
        loss: float = self.runtime.run(
            "row_loss", dsigned, coef, signed, one, none, np.zeros(n, np.int32), np.empty((n, 0), np.int32), none,
            1, 1.0, 0.0, weights, scale,
        )  # fmt: skip
        np.multiply(sign, dsigned, out=dscores.reshape(-1, 1))
        return loss

    def _regression(self, dscores: Array, scores: Array, targets: Array, weights: Array, scale: float) -> float:
        given = (dscores.reshape(-1), scores.reshape(-1), targets.reshape(-1), weights, self.regression, scale)
        return float(self.runtime.run("regression_loss", *given))

    def link(self, scores: Array) -> Array:
        """Return probabilities, or values, from scores."""
        if self.kind == "linear":
            return scores
        if self.kind == "sigmoid":
            found: Array = np.exp(-np.logaddexp(np.zeros((), scores.dtype), -scores))
            return found
        shifted = np.exp(scores - scores.max(1, keepdims=True))
        found = shifted / shifted.sum(1, keepdims=True)
        return found
