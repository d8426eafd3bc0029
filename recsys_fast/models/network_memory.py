"""What memory the training of a network takes: arrays that stay, and what the largest step computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_fast.blocks.base import Block
from recsys_fast.blocks.embedding import Embedding
from recsys_fast.blocks.recurrent import Recurrent

if TYPE_CHECKING:
    from recsys_fast.models.network_model import NetworkModel


def estimate(model: NetworkModel, data: Any) -> dict[str, int]:
    """Return what ``NetworkModel.estimate_memory`` does for checked training data."""
    tables, blocks = model._parts(*data.shape)
    learned = 4 * (sum(t.n_rows * (t.d + t.has_bias) for t in tables) + count_parameters(blocks))
    moments = len(model._moments())
    n_in, n_out = model._step_rows(data)
    d_in, d_out = tables[min(1, len(tables) - 1)].d, tables[0].d
    # a block keeps about what each of its products makes, its output and two gradients; ids are planned by the tables
    kept = sum(p.shape[-1] for block in blocks.values() for p in block.parameters() if len(p.shape) == 2)
    work = n_in * (4 * (kept + 3 * d_in * len(blocks)) + 24) + 8 * n_out * d_out
    parts = {
        "network": learned,
        "optimizer": moments * learned,
        "copy": (1 + moments) * learned,
        "gradients": learned,
        "work": work + work // 4 + model._loss_bytes(n_out, d_out),  # memory that is reused has a quarter to spare
        "batches": model._batch_bytes(data),
        **model._data_bytes(data),
    }
    return {**parts, "total": sum(parts.values())}


def count_parameters(blocks: dict[str, Block]) -> int:
    """Return the number of parameters of blocks."""
    return sum(int(np.prod(p.shape, dtype=np.int64)) for block in blocks.values() for p in block.parameters())


def encoder_numbers(blocks: Iterable[Block]) -> int:
    """Return about how many numbers the blocks of an encoder keep for each row of theirs, gradients included."""
    total = 0
    for block in blocks:
        if isinstance(block, Recurrent):  # h, c, four gates and their gradients
            total += block.d_in + 8 * block.d
        elif isinstance(block, Embedding):
            total += 2 * block.table.d
        elif hasattr(block, "out"):  # of images
            total += 3 * (int(np.prod(block.out)) + int(np.prod(getattr(block, "shape", ())[:3])))
        else:
            total += 3 * sum(p.shape[-1] for p in block.parameters())
    return total
