"""Recurrent encoders: texts and rows of numbers to a vector of each."""

from __future__ import annotations

from typing import Any

from recsys_fast.blocks.base import Block
from recsys_fast.blocks.dropout import Dropout
from recsys_fast.blocks.embedding import Embedding, ItemTable
from recsys_fast.blocks.encoder import Encoder
from recsys_fast.blocks.recurrent import Recurrent
from recsys_fast.blocks.sequence_pool import SequencePool
from recsys_fast.models.content_inputs import ContentKind

CELLS = ("lstm", "gru", "rnn")


def text_encoder(
    kind: ContentKind,
    cell: str = "lstm",
    d_embedding: int = 64,
    hidden: int = 64,
    n_layers: int = 1,
    pooling: str = "last",
    dropout: float = 0.0,
    *,
    init: Any = "normal",
    frozen: bool = False,
    name: str = "tokens",
) -> Encoder:
    """Return the encoder embedding - recurrent layers - pooling, not connected; rows of numbers have no embedding.

    Args:
        kind: of ``TokenInput`` or ``SeriesInput``.
        cell: "lstm", "gru" or "rnn".
        d_embedding: length of a token's vector.
        hidden: units of each layer, the width of the result.
        n_layers: number of recurrent layers.
        pooling: "last", "mean" or "max" of the last layer's states.
        dropout: share of the embedding, of each layer's states and of the result that training sets to 0.
        init: of the table, as ``ItemTable`` takes it; "normal" has rows of about length 1.
        frozen: whether the table stays as it starts.
        name: of the table.

    Raises:
        ValueError: ``init`` does not fit, or an unknown choice.
    """
    blocks: dict[str, Block] = {}
    tables: list[ItemTable] = []
    d = kind.shape[-1]
    if len(kind.shape) == 1:
        tables = [ItemTable(kind.shape[0], d_embedding, init=init, scale=d_embedding**-0.5, name=name, frozen=frozen)]
        blocks["embedding"], d = Embedding(tables[0], dropout=dropout), d_embedding
    for layer in range(n_layers):
        if layer:
            blocks[f"dropout{layer}"] = Dropout(dropout)
        first = layer == 0 and (frozen or not tables)
        blocks[f"{cell}{layer}"], d = Recurrent(d, hidden, cell, first=first), hidden
    blocks["pool"], blocks["dropout"] = SequencePool(pooling), Dropout(dropout)
    return Encoder(blocks, hidden, tables)
