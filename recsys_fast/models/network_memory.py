"""What memory the training of a network takes: arrays that stay, and what the largest step computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_fast.blocks.base import Block
from recsys_fast.blocks.conv2d import Conv2D
from recsys_fast.blocks.embedding import Embedding
from recsys_fast.blocks.recurrent import Recurrent
from recsys_fast.models.memory import names_gpu, with_device

if TYPE_CHECKING:
    from recsys_fast.models.network_model import NetworkModel

# What a softmax over all items has of scores at a time on a GPU: so many, or those of so many rows.
_SCORES, _SCORE_ROWS = 8 << 20, 64


def estimate(model: NetworkModel, data: Any) -> dict[str, int]:
    """Return what ``NetworkModel.estimate_memory`` does for checked training data."""
    tables, blocks = model._parts(*data.shape)
    learned = 4 * (sum(t.n_rows * (t.d + t.has_bias) for t in tables) + count_parameters(blocks))
    moments = len(model._moments())
    moved = learned - 4 * sum(t.n_rows * (t.d + t.has_bias) for t in tables if t.frozen)
    n_in, n_out = model._step_rows(data)
    d_in, d_out = tables[min(1, len(tables) - 1)].d, tables[0].d
    # a block keeps about what each of its products makes, its output and two gradients; ids are planned by the tables
    kept = sum(p.shape[-1] for block in blocks.values() for p in block.parameters() if len(p.shape) == 2)
    work = n_in * (4 * (kept + 3 * d_in * len(blocks)) + 24) + 8 * n_out * d_out
    on_host = {"batches": model._batch_bytes(data), **model._data_bytes(data)}
    parts = {
        "network": learned,
        "optimizer": moments * moved,
        "copy": learned + moments * moved,
        "gradients": learned,
        "work": work + work // 4 + model._loss_bytes(n_out, d_out),  # memory that is reused has a quarter to spare
    }
    if names_gpu(model.device):
        n_rows = tables[0].n_rows
        scores = 4 * min(max(_SCORES, _SCORE_ROWS * n_rows), (n_out + _SCORE_ROWS) * n_rows)
        return with_device({"network": learned, **on_host}, sum(parts.values()) + scores + model._device_work(data))
    return with_device({**parts, **on_host}, 0)


def count_parameters(blocks: dict[str, Block]) -> int:
    """Return the number of parameters of blocks."""
    return sum(int(np.prod(p.shape, dtype=np.int64)) for block in blocks.values() for p in block.parameters())


def encoder_numbers(blocks: Iterable[Block], on_gpu: bool = False) -> int:
    """Return about how many numbers the blocks of an encoder keep for each row of theirs, gradients included.

    A GPU has in memory what a convolution makes before its maxima are taken, and its gradient, or the products of a
    recurrent layer, a layer at a time.
    """
    total, before = 0, 0
    for block in blocks:
        if isinstance(block, Recurrent):  # h, c, four gates and their gradients
            total += block.d_in + 8 * block.d
            before = max(before, 8 * block.d if on_gpu else 0)
        elif isinstance(block, Embedding):
            total += 2 * block.table.d
        elif hasattr(block, "out"):  # of images
            total += 3 * (int(np.prod(block.out)) + int(np.prod(getattr(block, "shape", ())[:3])))
            if on_gpu and isinstance(block, Conv2D):
                before = max(before, 2 * block.shape.out_h * block.shape.out_w * block.d)
        else:
            total += 3 * sum(p.shape[-1] for p in block.parameters())
    return total + before
