"""Rows picked, put side by side, added, scaled, wherever they lie: what NumPy does in host memory only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Runtime
from recsys_fast.blocks.csr_dense import IDENTITY

Rows = NDArray[np.integer[Any]]


def beside(runtime: Runtime, owner: object, name: str, parts: Sequence[Array], rows: Rows | None = None) -> Array:
    """Return rows of arrays side by side, ``(m, k d)``.

    Args:
        runtime: where the arrays lie.
        owner, name: whose memory the result is in, see ``Runtime.take``.
        parts: k arrays of equal shape ``(n, d)``.
        rows: ``(m,)`` in host memory, which of their rows; -1 gives zeros. None for all of them.
    """
    k, (n, d) = len(parts), parts[0].shape
    chosen = np.arange(n) if rows is None else np.asarray(rows)
    ids = np.where(chosen < 0, -1, chosen + n * np.arange(k)[:, None]).astype(np.int32).T.reshape(-1)
    behind = parts[0] if k == 1 else runtime.join(runtime.take(owner, name + ".parts", (k * n, d)), parts)
    out = runtime.take(owner, name, (len(ids), d))
    runtime.gather(out, behind, ids)
    return out.reshape(len(chosen), k * d)


def apart(runtime: Runtime, owner: object, name: str, x: Array, k: int) -> list[Array]:
    """Return the k arrays ``(n, d)`` that are side by side in ``x (n, k d)``; their memory is as in ``beside``."""
    n, d = len(x), x.shape[1] // k
    ids = np.arange(k * n, dtype=np.int32).reshape(n, k).T.reshape(-1)
    out = runtime.take(owner, name, (k * n, d))
    runtime.gather(out, x.reshape(k * n, d), ids)
    return [out[j * n : (j + 1) * n] for j in range(k)]


def repeated(runtime: Runtime, owner: object, name: str, x: Array, times: int) -> Array:
    """Return every row of ``x (n, d)`` ``times`` times in a row, ``(n times, d)``; memory as in ``beside``."""
    ids = np.repeat(np.arange(len(x), dtype=np.int32), times)
    out = runtime.take(owner, name, (len(ids), x.shape[1]))
    runtime.gather(out, x, ids)
    return out


def summed(runtime: Runtime, owner: object, name: str, x: Array, times: int) -> Array:
    """Return the sums of every ``times`` rows of ``x (n times, d)``, ``(n, d)``, added in order; memory as in
    ``beside``."""
    n = len(x) // times
    out = runtime.take(owner, name, (n, x.shape[1]))
    sum_lists(runtime, out, x, times * np.arange(n + 1, dtype=np.int64), np.arange(n * times, dtype=np.int32))
    return out


def added(runtime: Runtime, owner: object, name: str, x: Array, y: Array, rows: Rows | None = None) -> Array:
    """Return y plus rows ``(n,)`` of x, all of them for None, 0 for -1, ``(n, d)`` as y; memory as in ``beside``."""
    ids = np.arange(len(y), dtype=np.int32) if rows is None else rows
    out, whole = runtime.take(owner, name, y.shape), np.array([0, len(y)], np.int64)
    runtime.run("embedding_forward", out, x, y, ids, whole, 1.0, False, 0.0, 0, 0, 0)
    return out


def scale(runtime: Runtime, x: Array, factor: float) -> None:
    """Multiply ``x (n, d)`` by a number, in place."""
    whole = np.array([0, len(x)], np.int64)
    runtime.run("embedding_backward", x, runtime.empty(0, 0), whole, factor, False, 0.0, 0, 0, 0)


def transpose(runtime: Runtime, out: Array, x: Array) -> None:
    """Write ``x (n, d)`` into ``out (d, n)``, rows as columns."""
    if not runtime.on_device:
        out[...] = x.T
        return
    ids = np.arange(x.size, dtype=np.int32).reshape(x.shape).T.reshape(-1)
    runtime.gather(out.reshape(-1, 1), x.reshape(-1, 1), ids)


def sum_lists(
    runtime: Runtime, out: Array, x: Array, row_ptr: NDArray[np.int64], rows: Rows, weights: Array | None = None
) -> None:
    """Write into ``out[i]`` the sum of the rows of ``x (n, d)`` that list i names, added in order.

    Args:
        runtime: where the arrays lie.
        out: ``(m, d)``.
        x: see above.
        row_ptr: ``(m + 1,)``, where each list begins in ``rows``.
        rows: ``(k,) int32``.
        weights: ``(k,)`` factors of the rows; None for 1.
    """
    none = runtime.empty(0)
    runtime.run("csr_dense_forward", out, row_ptr, rows, none if weights is None else weights, x, none, IDENTITY)
