"""What a network of content ends in: its parameters, its loss with weights of rows, and its predictions."""

from __future__ import annotations

import math

import numpy as np

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter
from recsys_fast.blocks.columns import transpose
from recsys_fast.blocks.csr_dense import IDENTITY
from recsys_fast.ops.block_arguments import as_choice
from recsys_fast.ops.losses import PREDICTION, REGRESSION

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
        of_numbers = as_choice(regression, "loss", REGRESSION)
        self._number = PREDICTION.index("logistic") if kind == "sigmoid" else of_numbers

    def parameters(self) -> list[Parameter]:
        """Return w ``(d_out, d)`` and b ``(d_out,)``."""
        scale = 1.0 / math.sqrt(self.d)
        return [Parameter("w", (self.d_out, self.d), "uniform", scale), Parameter("b", (self.d_out,), "zeros")]

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return the scores ``(n, d_out)``."""
        self._x, scores = x, self._take("scores", len(x), self.d_out)
        self._w = self._take("w", self.d, self.d_out)
        transpose(self.runtime, self._w, self.values["w"])
        none = self.runtime.empty(0, 0)
        self.runtime.run("dense_forward", scores, none, x, self._w, self.values["b"], IDENTITY, 0.0, 0, 0, 0)
        return scores

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the rows of the last ``forward``."""
        dx, dw = self._take("dx", *self._x.shape), self._take("dw", self.d, self.d_out)
        given = (dy, dy, self.runtime.empty(0, 0), self._x, self._w)  # the identity's slope looks at nothing
        self.runtime.run("dense_backward", dx, dw, self.gradients["b"], *given, IDENTITY, 0.0, 0, 0, 0)
        transpose(self.runtime, self.gradients["w"], dw)
        return dx

    def loss(self, h: Array, targets: Array, weights: Array, batch: PackedBatch) -> tuple[float, Array]:
        """Return the sum of the rows' weighted losses, and the gradient of h of their mean over the rows.

        Args:
            h: ``(n, d)``.
            targets: "softmax": ``(n,) int32``; "sigmoid": ``(n, d_out)`` of 0 and 1; "linear": ``(n, d_out)``; like the
                weights in host memory.
            weights: ``(n,)``, of length 0 for 1.
            batch: of the step.
        """
        scale = 1.0 / len(h)
        if self.kind == "softmax":
            dh = self._take("dh", *h.shape)
            out, given = (dh, self.gradients["w"], self.gradients["b"]), (h, self.values["w"], self.values["b"])
            return self.runtime.run("softmax_loss", *out, *given, targets, weights, scale, 0), dh
        scores = self.forward(h, batch)
        dscores, each = self._take("dscores", *scores.shape), np.repeat(weights, self.d_out)
        predicted = dscores.reshape(-1), scores.reshape(-1), targets.reshape(-1)
        loss: float = self.runtime.run("regression_loss", *predicted, each, self._number, scale)
        return loss, self.backward(dscores, batch)

    def link(self, scores: Array) -> Array:
        """Return probabilities, or values, from scores in host memory."""
        if self.kind == "linear":
            return scores
        if self.kind == "sigmoid":
            found: Array = np.exp(-np.logaddexp(np.zeros((), scores.dtype), -scores))
            return found
        shifted = np.exp(scores - scores.max(1, keepdims=True))
        found = shifted / shifted.sum(1, keepdims=True)
        return found
