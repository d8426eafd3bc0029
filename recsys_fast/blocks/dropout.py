"""Dropout between blocks that have none of their own."""

from __future__ import annotations

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter


class Dropout(Block):
    """In training a share of the numbers becomes 0, and the others grow so that the mean stays.

    Args:
        rate: the share, below 1.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def parameters(self) -> list[Parameter]:
        """Return nothing."""
        return []

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return ``(n_rows, d)``; ``x`` itself stays as it is, since the block before may need it."""
        if not batch.training or not self.rate:
            return x
        y = self._take("y", *x.shape)
        y[...] = x
        self._mask(y, batch)
        return y

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient; ``dy`` is changed."""
        if self.rate:
            self._mask(dy, batch)
        return dy

    def _mask(self, x: Array, batch: PackedBatch) -> None:
        self.runtime.run("dropout_apply", x, self.rate, batch.seed, batch.step, self.site)
