"""Rows of vectors: scaled to length 1, the maxima of a sequence's rows, several of them weighted to one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import message
from recsys_fast.ops.arguments import I32, as_indices, on_host
from recsys_fast.ops.block_arguments import F32, as_input, as_row_ptr, as_rows, as_vector, new_rows
from recsys_fast.ops.gram import home

_ALL = np.empty(0, np.uint8)


def unit_rows_forward(x: ArrayLike, *, device: str = "auto", n_threads: int | None = None) -> tuple[F32, F32]:
    """Return the rows scaled to Euclidean length 1, ``(n, d) float32``, and 1 / length, ``(n,) float32``.

    A row of zeros stays one, with the factor 0.

    Args:
        x: ``(n, d)``, d at least 1.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Raises:
        TypeError: not real numbers.
        ValueError: another shape, or a number is not finite.
    """
    device = backend.place(device, x=x)
    rows = as_input(x)
    y, scale = new_rows(rows, *rows.shape), new_rows(rows, len(rows))
    backend.get(device).unit_rows_forward(y, scale, rows, backend.resolve_threads(n_threads))
    return y, scale


def unit_rows_backward(
    dy: ArrayLike, y: ArrayLike, scale: ArrayLike, *, device: str = "auto", n_threads: int | None = None
) -> F32:
    """Return the gradient of ``unit_rows_forward``'s x, ``(n, d) float32``; 0 for a row of zeros.

    Args:
        dy: ``(n, d)``, gradient of y.
        y, scale: its results.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Raises:
        TypeError: not real numbers.
        ValueError: shapes that do not fit, or a number is not finite.
    """
    device = backend.place(device, dy=dy, y=y, scale=scale)
    unit = as_input(y, "y")
    given, factors = as_rows(dy, "dy", unit.shape), as_vector(scale, "scale", len(unit))
    dx = new_rows(unit, *unit.shape)
    backend.get(device).unit_rows_backward(dx, given, unit, factors, backend.resolve_threads(n_threads))
    return dx


def sequence_max_forward(
    x: ArrayLike, row_ptr: ArrayLike, *, device: str = "auto", n_threads: int | None = None
) -> tuple[F32, I32]:
    """Return the largest number of each column of every sequence's rows, and in which of its rows it is.

    Args:
        x: ``(n_rows, d)``, rows of sequences one behind the other.
        row_ptr: ``(n_sequences + 1,)`` integers.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Returns:
        ``(n_sequences, d) float32``, zeros for a sequence without rows; and places from 0 on, of the same shape, int32:
        of equal numbers that of the first.

    Raises:
        TypeError: not real numbers, or pointers that are not integers.
        ValueError: another shape, a number is not finite, or pointers that do not cut the rows.
    """
    device = backend.place(device, x=x)
    rows = as_input(x)
    pointers = _pointers(row_ptr, len(rows))
    shape = len(pointers) - 1, rows.shape[1]
    y, places = new_rows(rows, *shape), home(rows).empty(shape, np.int32)
    backend.get(device).sequence_max_forward(y, places, rows, pointers, backend.resolve_threads(n_threads))
    return y, places


def sequence_max_backward(
    dy: ArrayLike, places: ArrayLike, row_ptr: ArrayLike, *, device: str = "auto", n_threads: int | None = None
) -> F32:
    """Return the gradient of ``sequence_max_forward``'s x, ``(n_rows, d) float32``.

    Args:
        dy: ``(n_sequences, d)``, gradient of the first result.
        places: the second result.
        row_ptr: as there.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Raises:
        TypeError: not real numbers, or not integers.
        ValueError: shapes that do not fit, or a number is not finite.
        IndexError: a place outside its sequence.
    """
    device = backend.place(device, dy=dy)
    given, where = as_input(dy, "dy"), on_host(row_ptr)
    pointers = _pointers(where, int(where[-1]) if where.ndim == 1 and len(where) and where.dtype.kind in "iu" else 0)
    lengths = np.diff(pointers)
    if len(lengths) != len(given) or np.shape(places) != given.shape:
        got = f"dy {given.shape}, places {np.shape(places)}"
        raise ValueError(message("shapes", got, f"({len(lengths)}, d), a row for each sequence"))
    known = as_indices(places, "places", 0, max(1, int(lengths.max(initial=0))))
    beyond = known >= np.maximum(lengths, 1)[:, None]
    if beyond.any():
        s, c = np.argwhere(beyond)[0]
        raise IndexError(message(f"places[{s}, {c}]", int(known[s, c]), f"below {lengths[s]}, the sequence's rows"))
    dx = new_rows(given, int(pointers[-1]), given.shape[1])
    backend.get(device).sequence_max_backward(dx, given, known, pointers, backend.resolve_threads(n_threads))
    return dx


def _pointers(row_ptr: ArrayLike, n_rows: int) -> NDArray[np.int64]:
    """Return checked pointers, in host memory."""
    return as_row_ptr(on_host(row_ptr), n_rows)


def _vectors(v: ArrayLike) -> F32:
    """Return ``(n, k, d)`` vectors as rows ``(n k, d)``."""
    given = home(v).asarray(v) if on_device(v) else np.asarray(v)
    if given.ndim != 3 or 0 in given.shape[1:]:
        raise ValueError(message("shape of v", given.shape, "(n, k, d), k and d at least 1"))
    return as_rows(given.reshape(given.shape[0] * given.shape[1], given.shape[2]), "v")


def mixture_forward(
    v: ArrayLike,
    scores: ArrayLike,
    bias: ArrayLike | None = None,
    present: ArrayLike | None = None,
    *,
    device: str = "auto",
    n_threads: int | None = None,
) -> tuple[F32, F32]:
    """Return y[t] = sum_m w[t, m] v[t, m], and w, the softmax of scores + bias over the vectors that are present.

    Args:
        v: ``(n, k, d)``.
        scores: ``(n, k)``.
        bias: ``(k,)``; None for 0.
        present: ``(n, k) bool``; None for all. What is not there has the weight 0; where nothing is, y is 0.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Returns:
        y ``(n, d) float32`` and w ``(n, k) float32``.

    Raises:
        TypeError: not real numbers, or ``present`` is not bool.
        ValueError: shapes that do not fit, or a number is not finite.
    """
    device = backend.place(device, v=v, scores=scores, bias=bias)
    rows = _vectors(v)
    n, k = np.shape(v)[0], np.shape(v)[1]
    numbers, more = as_rows(scores, "scores", (n, k)), as_vector(bias, "bias", k)
    there: NDArray[Any] = _ALL
    if present is not None:
        there = on_host(present)
        if there.dtype != bool:
            raise TypeError(message("dtype of present", there.dtype, "bool"))
        if there.shape != (n, k):
            raise ValueError(message("shape of present", there.shape, f"({n}, {k})"))
        there = np.ascontiguousarray(there).view(np.uint8)
    y, w = new_rows(rows, n, rows.shape[1]), new_rows(rows, n, k)
    backend.get(device).mixture_forward(y, w, rows, numbers, more, there, backend.resolve_threads(n_threads))
    return y, w


def mixture_backward(
    dy: ArrayLike, v: ArrayLike, w: ArrayLike, *, device: str = "auto", n_threads: int | None = None
) -> tuple[F32, F32]:
    """Return the gradients of ``mixture_forward``'s v, ``(n, k, d)``, and scores, ``(n, k)``, both float32.

    That of the bias is the sum of the latter over n.

    Args:
        dy: ``(n, d)``, gradient of y.
        v: as there.
        w: its second result.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Raises:
        TypeError: not real numbers.
        ValueError: shapes that do not fit, or a number is not finite.
    """
    device = backend.place(device, dy=dy, v=v, w=w)
    rows = _vectors(v)
    n, k, d = np.shape(v)
    given, weights = as_rows(dy, "dy", (n, d)), as_rows(w, "w", (n, k))
    dv, dscores = new_rows(rows, n * k, d), new_rows(rows, n, k)
    backend.get(device).mixture_backward(dv, dscores, given, rows, weights, backend.resolve_threads(n_threads))
    return dv.reshape(n, k, d), dscores
