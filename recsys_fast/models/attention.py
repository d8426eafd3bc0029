"""What SASRec and BERT4Rec share: blocks of self-attention over items and places."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_fast.blocks.attention import MAX_LENGTH, SelfAttention
from recsys_fast.blocks.base import Block
from recsys_fast.blocks.embedding import Embedding, ItemTable
from recsys_fast.blocks.feed_forward import FeedForward
from recsys_fast.blocks.layer_norm import LayerNorm
from recsys_fast.data.augmentation import Augmentation, as_augmentation
from recsys_fast.data.samples import WINDOWS
from recsys_fast.errors import message
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.models.sequence import SequenceModel
from recsys_fast.models.sequence_losses import NextItemLoss
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.ops.block_arguments import ACTIVATIONS

NORMS = ("pre", "post", "query")
POSITIONS = ("start", "end", "none")


class AttentionModel(NextItemLoss, SequenceModel):
    """Items and places are added up, pass ``n_blocks`` blocks of attention and feed-forward, and score all items."""

    d: int
    n_blocks: int
    n_heads: int
    dropout: float
    attention_dropout: float | None
    norm: str
    positions: str
    hidden: int | None
    activation: str
    item_bias: bool
    scale_items: bool
    init_scale: float
    windows: str
    stride: int | None
    augmentation: dict[str, float] | None

    def _has_kernels(self) -> bool:
        return True

    def _check_params(self) -> None:
        super()._check_params()
        check_int("max_len", self.max_len, 1, MAX_LENGTH)
        check_int("d", self.d, 1, 8192)
        check_int("n_blocks", self.n_blocks, 1, 64)
        check_int("n_heads", self.n_heads, 1, 256)
        if self.d % self.n_heads:
            raise ValueError(message("n_heads", self.n_heads, f"a divisor of d = {self.d}"))
        self._check_loss()
        check_float("dropout", self.dropout, 0.0, high=0.99)
        if self.attention_dropout is not None:
            check_float("attention_dropout", self.attention_dropout, 0.0, high=0.99)
        check_choice("norm", self.norm, NORMS)
        check_choice("positions", self.positions, POSITIONS)
        if self.hidden is not None:
            check_int("hidden", self.hidden, 1, 1 << 16)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_flag("item_bias", self.item_bias)
        check_flag("scale_items", self.scale_items)
        check_float("init_scale", self.init_scale, 0.0, above=True, high=1e3)
        check_choice("windows", self.windows, WINDOWS)
        if self.stride is not None:
            check_int("stride", self.stride, 1, self.max_len)
        self._augmented()
        self._check_frozen()

    def _augmented(self) -> Augmentation:
        """Return the augmentation that the parameters ask for."""
        return as_augmentation(self.augmentation)

    def _attention(self, table: ItemTable, causal: bool, hidden: int) -> dict[str, Block]:
        """Return embedding, blocks and norms over a table."""
        from_end, n_places = self.positions == "end", 0 if self.positions == "none" else self.max_len
        scale = float(np.sqrt(self.d)) if self.scale_items else 1.0
        init: dict[str, Any] = {"init": "normal", "scale": self.init_scale}
        blocks: dict[str, Block] = {
            "embedding": Embedding(
                table, n_places, self.dropout, from_end=from_end, scale=scale, init_scale=self.init_scale
            )
        }
        if self.norm == "post":
            blocks["norm"] = LayerNorm(self.d)
        for k in range(self.n_blocks):
            blocks[f"attention{k}"] = SelfAttention(
                self.d, self.n_heads, causal=causal, norm=self.norm, dropout=self.dropout,
                attention_dropout=self.attention_dropout, **init,
            )  # fmt: skip
            blocks[f"feed_forward{k}"] = FeedForward(
                self.d, hidden, activation=self.activation, norm=self.norm, dropout=self.dropout, **init
            )
        if self.norm != "post":
            blocks["norm"] = LayerNorm(self.d)
        return blocks
