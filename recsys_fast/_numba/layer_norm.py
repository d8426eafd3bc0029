"""Layer norm of packed rows."""

from __future__ import annotations

import numpy as np

from recsys_fast._numba.block_rows import F, cut_slots, cut_tiles, norm_rows, norm_rows_back, sum_slots
from recsys_fast._numba.parallel import inputs
from recsys_fast._numba.pieces import run_pieces


def layer_norm_forward(y: F, stats: F, x: F, gamma: F, beta: F, eps: float, n_threads: int) -> None:
    """y = gamma (x - mean) / sqrt(variance + eps) + beta; stats (T, 2) = mean, 1 / root; overwrites both."""
    x, gamma, beta = inputs(x, gamma, beta)

    def tile(a: int, b: int) -> None:
        norm_rows(y[a:b], stats[a:b], x[a:b], gamma, beta, eps)

    run_pieces(cut_tiles(len(x)).tolist(), n_threads, lambda: tile)


def layer_norm_backward(
    dx: F, dgamma: F, dbeta: F, dy: F, x: F, stats: F, gamma: F, n_threads: int
) -> None:  # fmt: skip
    """Gradients of layer_norm_forward's x, gamma and beta for that of y; overwrites; dx may be dy."""
    dy, x, stats, gamma = inputs(dy, x, stats, gamma)
    cut = cut_slots(len(x))
    dgammas, dbetas = np.zeros((2, len(cut) - 1, len(gamma)), x.dtype)

    def slot(part: int, _: int) -> None:
        a, b = cut[part], cut[part + 1]
        norm_rows_back(dx[a:b], dgammas[part], dbetas[part], dy[a:b], x[a:b], stats[a:b], gamma)

    run_pieces(range(len(cut)), n_threads, lambda: slot)
    sum_slots(dgamma, dgammas)
    sum_slots(dbeta, dbetas)
