"""The latent variables of a variational autoencoder."""

from __future__ import annotations

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter


class GaussianLatent(Block):
    """z = mu + sigma noise in training, z = mu elsewhere, for inputs [mu | log sigma^2] (Kingma & Welling 2014).

    Args:
        k: width of z; the inputs are twice as wide.

    Attributes:
        divergence: sum over the rows of the last ``forward`` of KL(N(mu, sigma^2) || N(0, 1)).
        kl_weight: factor of the divergence in the loss, which ``backward`` adds the gradient of; set by the objective
            before every ``backward``.
    """

    def __init__(self, k: int) -> None:
        self.k, self.divergence, self.kl_weight = k, 0.0, 0.0

    def parameters(self) -> list[Parameter]:
        """Return none."""
        return []

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return z ``(n, k)`` for ``(n, 2 k)``."""
        self._x = x
        z = self._take("z", len(x), self.k)
        self.divergence = self.runtime.run("gaussian_forward", z, x, *self._key(batch))
        return z

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the inputs, that of the divergence included."""
        dx = self._take("dx", len(dy), 2 * self.k)
        self.runtime.run("gaussian_backward", dx, dy, self._x, self.kl_weight, *self._key(batch))
        return dx

    def _key(self, batch: PackedBatch) -> tuple[bool, int, int, int]:
        return batch.training, batch.seed, batch.step, self.site
