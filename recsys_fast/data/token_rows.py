"""Texts as rows of token ids, from whatever form they come in, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.sequences import Sequences
from recsys_fast.data.text_encoder import TokenRows
from recsys_fast.errors import message

_MAX_TOKENS = 2**31 - 2
_ENCODE = "encode texts first: TextEncoder().fit(texts).tokens(texts)"
_SAME = "encode texts by the TextEncoder that the model was trained with"


def as_token_rows(X: Any, name: str = "X", n_tokens: int | None = None, vocabulary: str = "") -> TokenRows:
    """Return checked rows of ids; arrays are shared where they can be.

    Args:
        X: ``TokenRows``, ``Sequences``, a list of lists or arrays of integers, or ``(n, length)`` integers. Rows may
            be empty.
        name: in messages.
        n_tokens: number of ids there are; None for what X says, or for the largest + 1.
        vocabulary: fingerprint that X must not contradict; empty for any.

    Raises:
        TypeError: no such thing.
        ValueError: no rows, damaged row pointers, ids out of range, or another vocabulary.
    """
    if isinstance(X, TokenRows):
        rows = X
        if vocabulary and X.fingerprint and X.fingerprint != vocabulary:
            raise ValueError(message(f"vocabulary of {name}", X.fingerprint, vocabulary, _SAME))
    elif isinstance(X, Sequences):
        rows = TokenRows(X.row_ptr, X.items, X.n_items)
    else:
        rows = _packed(X, name)
    row_ptr, ids = np.asarray(rows.row_ptr), np.asarray(rows.ids)
    _check_packed(row_ptr, ids, name)
    top = int(ids.max(initial=-1))
    size = (rows.n_tokens or top + 1) if n_tokens is None else n_tokens
    if not 1 <= size <= _MAX_TOKENS:
        raise ValueError(message(f"number of tokens of {name}", size, f"1 to {_MAX_TOKENS}", "set n_tokens"))
    if top >= size or int(ids.min(initial=0)) < 0:
        at = int(np.argmax((ids < 0) | (ids >= size)))
        row = int(np.searchsorted(row_ptr, at, side="right")) - 1
        what = f"token at place {at - int(row_ptr[row])} of {name}[{row}]"
        raise ValueError(message(what, int(ids[at]), f"an id of the vocabulary, 0 to {size - 1}", _SAME))
    pointers: NDArray[np.int64] = row_ptr.astype(np.int64, copy=False)
    return rows._replace(row_ptr=pointers, ids=ids.astype(np.int32, copy=False), n_tokens=size)


def _check_packed(row_ptr: NDArray[Any], ids: NDArray[Any], name: str) -> None:
    if row_ptr.ndim != 1 or row_ptr.dtype.kind not in "iu" or ids.ndim != 1 or ids.dtype.kind not in "iu":
        got = f"{row_ptr.dtype} {row_ptr.shape}, {ids.dtype} {ids.shape}"
        raise TypeError(message(f"row_ptr and ids of {name}", got, "integers (n + 1,) and (n_ids,)"))
    if len(row_ptr) < 2:
        raise ValueError(message(f"{name} has no texts"))
    if row_ptr[0] != 0 or row_ptr[-1] != len(ids) or (row_ptr[1:] < row_ptr[:-1]).any():
        raise ValueError(message(f"row_ptr of {name}", expected=f"numbers that ascend from 0 to {len(ids)}"))


def _packed(X: Any, name: str) -> TokenRows:
    """Return lists as rows; the number of tokens is not known, 0."""
    if isinstance(X, (str, bytes, dict)) or not hasattr(X, "__iter__") or hasattr(X, "indptr"):
        mend = "a matrix of counts has no order: pass TextEncoder.tokens(texts)" if hasattr(X, "indptr") else _ENCODE
        raise TypeError(message(name, type(X).__name__, "a row of token ids for each text", mend))
    parts = []
    for place, given in enumerate(X):
        if isinstance(given, (str, bytes)) or given is None:
            raise TypeError(message(f"{name}[{place}]", repr(given)[:80], "token ids", _ENCODE))
        row = np.asarray(given)
        if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
            what = f"{row.dtype} of {row.ndim} dimensions"
            raise TypeError(message(f"{name}[{place}]", what, "a list or 1-D array of integers", _ENCODE))
        parts.append(row.astype(np.int64))
    row_ptr = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(row) for row in parts], out=row_ptr[1:])
    return TokenRows(row_ptr, np.concatenate(parts) if parts else np.empty(0, np.int64), 0)
