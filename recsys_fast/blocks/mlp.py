"""Fully connected layers, one behind the other."""

from __future__ import annotations

from collections.abc import Sequence

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter, Runtime
from recsys_fast.blocks.dense import Dense
from recsys_fast.blocks.layer_norm import LayerNorm
from recsys_fast.errors import message

_MASKS = 8  # that a block may have


class MLP(Block):
    """y = Dense(... LN D(activation(Dense(x)))): a multi-layer perceptron.

    Every layer but the last has the activation, then dropout, then the layer norm where asked for. Without widths it
    is the identity.

    Args:
        d_in: width of the inputs.
        widths: of the layers' outputs; the last one is that of the result.
        activation: of every layer but the last; see ``Dense``.
        dropout: share of the outputs of every layer but the last that training sets to 0.
        layer_norm: whether every layer but the last is followed by a layer norm.
        last: activation of the last layer.

    Attributes:
        d_out: width of the outputs.

    Raises:
        ValueError: a width below 1, no such activation, or dropout with more than 9 layers.
    """

    def __init__(
        self,
        d_in: int,
        widths: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
        last: str = "identity",
    ) -> None:
        for width in (d_in, *widths):
            if width < 1:
                raise ValueError(message("width of a layer", width, "at least 1"))
        n = len(widths)
        if dropout and n > _MASKS + 1:
            raise ValueError(message("layers with dropout", n, f"at most {_MASKS + 1}", "set dropout=0.0"))
        self.d_in, self.widths = d_in, tuple(widths)
        self.d_out = self.widths[-1] if n else d_in
        self._layers: dict[str, Block] = {}
        for k, (wide, narrow) in enumerate(zip((d_in, *widths), widths, strict=False)):
            hidden = k < n - 1
            rate = dropout if hidden else 0.0
            self._layers[f"dense{k}"] = Dense(wide, narrow, activation if hidden else last, dropout=rate)
            if layer_norm and hidden:
                self._layers[f"norm{k}"] = LayerNorm(narrow)
        self._order = list(self._layers.values())

    def parameters(self) -> list[Parameter]:
        """Return "dense0.w", "dense0.b", "norm0.gamma", "norm0.beta", "dense1.w" and so on."""
        return [p._replace(name=f"{name}.{p.name}") for name, one in self._layers.items() for p in one.parameters()]

    def connect(self, runtime: Runtime, values: dict[str, Array], gradients: dict[str, Array], site: int) -> None:
        """Take over memory for itself and its layers; layer k has the block's mask number k."""
        super().connect(runtime, values, gradients, site)
        for name, one in self._layers.items():
            own = [p.name for p in one.parameters()]
            mask = site + min(int(name.lstrip("densorm")), _MASKS - 1)
            own_values, own_gradients = ({p: whole[f"{name}.{p}"] for p in own} for whole in (values, gradients))
            one.connect(runtime, own_values, own_gradients, mask)

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return ``(n_rows, d_out)`` for ``(n_rows, d_in)``; any number of rows, sequences play no part."""
        for one in self._order:
            x = one.forward(x, batch)
        return x

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the inputs, ``(n_rows, d_in)``."""
        for one in reversed(self._order):
            dy = one.backward(dy, batch)
        return dy
