"""The multinomial log-likelihood of sparse rows over all items; no matrix of rows x items ever exists."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_number
from recsys_fast.ops.block_arguments import as_rows, as_vector, new_rows
from recsys_fast.ops.csr import Csr, as_csr
from recsys_fast.ops.losses import ScoreGradients, compute_number


def multinomial_loss(
    h: ArrayLike,
    table: ArrayLike,
    targets: Any,
    *,
    bias: ArrayLike | None = None,
    scale: float = 1.0,
    compute: str = "float32",
    device: str = "auto",
    n_threads: int | None = None,
) -> ScoreGradients:
    """Return -sum_t sum_j x_tj log softmax(s_t)_j with s = h table^T + bias, and all its gradients.

    The loss of Mult-VAE (Liang et al. 2018); with one target of weight 1 in each row it is ``softmax_loss``, whose
    kernel it shares. Scores of any size are fine. Rows without targets cost nothing.

    Args:
        h: ``(T, d)`` outputs.
        table: ``(n, d)`` items, n at least 1.
        targets: sparse ``(T, n)``: x, which may not be negative; without values every entry counts 1.
        bias: ``(n,)`` added to the scores; None for none.
        scale: factor of all gradients, not of the loss.
        compute: "float32" or "bfloat16", as in ``softmax_loss``.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Raises:
        TypeError: targets are not sparse, or an array of the wrong kind of numbers.
        ValueError: shapes that do not fit, numbers that are not finite, or a negative target.
        NotSupportedError: bfloat16 where backend or processor do not have it.
    """
    device = backend.place(device, h=h, table=table, bias=bias)
    rows, items = as_rows(h, "h"), as_rows(table, "table")
    if rows.shape[1] != items.shape[1] or 0 in items.shape:
        got = f"{rows.shape} and {items.shape}"
        raise ValueError(message("shapes of h and table", got, "(T, d) and (n, d), n and d at least 1"))
    csr = _as_targets(targets, (len(rows), len(items)), device, n_threads)
    b, number = as_vector(bias, "bias", len(items)), compute_number(compute, device)
    out = new_rows(rows, *rows.shape), new_rows(rows, *items.shape), new_rows(rows, len(b))
    loss = backend.get(device).multinomial_loss(
        *out, rows, items, b, csr.row_ptr, csr.col_idx, csr.or_empty(), as_number(scale, "scale", None), number,
        backend.resolve_threads(n_threads),
    )  # fmt: skip
    return ScoreGradients(loss, *out)


def _as_targets(targets: Any, shape: tuple[int, int], device: str, n_threads: int | None) -> Csr:
    csr = as_csr(targets, "targets", canonical=False, device=device, n_threads=n_threads)
    if csr.shape != shape:
        raise ValueError(message("shape of targets", csr.shape, f"{shape}: a row per h, a column per item"))
    if csr.values is not None and csr.nnz and float(csr.values.min()) < 0.0:
        at = int(np.argmin(csr.values))
        raise ValueError(message(f"value of entry {at} of targets", csr.values[at], "0 or more"))
    return csr
