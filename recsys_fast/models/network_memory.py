"""What memory the training of a network takes: arrays that stay, and what the largest step computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_fast.blocks.base import Block

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
