"""Rows picked out of arrays and put side by side, wherever they lie: what NumPy's indexing does in host memory only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Runtime

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
    n, none, no_rows = len(x) // times, runtime.empty(0), runtime.empty(0, 0)
    out = runtime.take(owner, name, (n, x.shape[1]))
    ends, entries = times * np.arange(n + 1, dtype=np.int64), np.arange(n * times, dtype=np.int32)
    runtime.run("table_gradient", out, none, ends, entries, x, no_rows, none, none, no_rows, 1)
    return out
