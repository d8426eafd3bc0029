"""The matrices that benchmarks run on: Gowalla, an npz file, or a made one of MovieLens-20M's shape."""

from __future__ import annotations

from typing import Any

import numpy as np


def load(name: str) -> Any:
    """Return ``(train, test or None)`` as scipy csr arrays.

    ``gowalla`` (or any name of ``recsys_fast.datasets`` with a given split), ``ml20m-shaped``, or a path to an npz
    file with ``indptr``, ``indices`` and ``shape``.
    """
    from scipy import sparse

    import recsys_fast as rf

    if name.endswith(".npz"):
        with np.load(name, allow_pickle=False) as arrays:
            values = np.ones(len(arrays["indices"]), np.float32)
            parts = (values, arrays["indices"], arrays["indptr"])
            return sparse.csr_array(parts, shape=tuple(int(s) for s in arrays["shape"])), None
    if name == "ml20m-shaped":
        data = rf.datasets.synthetic(138_493, 26_744, 20_000_263, random_state=0)
    else:
        data = rf.datasets.load(name)
    if data.train is None:
        return data.interactions.csr, None
    return data.train.csr, data.test.csr if data.test is not None else None


def for_peer(matrix: Any) -> Any:
    """Return a writable scipy ``csr_matrix`` with int32 indices throughout: what the peers take."""
    from scipy import sparse

    out = sparse.csr_matrix(matrix, copy=True)
    out.indptr, out.indices = out.indptr.astype(np.int32), out.indices.astype(np.int32)
    return out


def tiny(n_users: int = 40, n_items: int = 30) -> Any:
    """Return a matrix that is large enough for a script to run, and no larger."""
    import recsys_fast as rf

    return rf.datasets.synthetic(n_users, n_items, 300, random_state=0).train.csr


def made_sequences(n_users: int = 22_363, n_items: int = 12_101, mean: float = 8.9) -> Any:
    """Return walks of Amazon Beauty's shape: 5 events and up, popular items far more often than others."""
    import recsys_fast as rf

    rng = np.random.default_rng(0)
    lengths = 4 + rng.geometric(1.0 / (mean - 4.0), n_users)
    popular = np.minimum(n_items * rng.random(int(lengths.sum())) ** 2.5, n_items - 1).astype(np.int32)
    row_ptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return rf.Sequences.from_arrays(row_ptr, popular, n_items=n_items)
