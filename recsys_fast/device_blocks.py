"""Operations on more rows than a device has room for: rows go there block by block, what they are held against stays.

That is for arrays in host memory. Rows of these operations do not see each other, so the results are the same numbers
whatever the blocks are; a loss that adds up over rows agrees to the rounding of float64.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from recsys_fast.errors import DeviceMemoryError, message

BUDGET = "RECSYS_FAST_DEVICE_MEMORY"
_SMALL = 64 << 20  # below, nobody looks how much is free


class Layout(NamedTuple):
    """Which arguments of an operation have a row each, by position in its flat signature.

    Attributes:
        rows: arrays of so many rows.
        csr: sparse matrices of so many rows: row pointers, columns, and arrays as long as the columns (or empty).
        row_bytes, entry_bytes: what the operation itself allocates per row and per entry.
    """

    rows: tuple[int, ...]
    csr: tuple[tuple[int, ...], ...] = ()
    row_bytes: int = 0
    entry_bytes: int = 0


LAYOUTS = {
    "als_sweep": Layout((0,), ((3, 4, 5, 6),), 16, 4),
    "rank_auc": Layout((0, 1), ((4, 5), (6, 7)), 8, 16),
    "rank_metrics": Layout((0, 1), ((4, 5), (6, 7)), 8),
    "rows_rotate": Layout((0,)),
    "topk": Layout((0, 1, 2), ((5, 6),), 8),
}

# Where the arrays are too large these run on the host: they read everything once, as the way to the device would.
HOST_IF_LARGE = frozenset({"csr_transpose", "validate_csr"})


def asked() -> int | None:
    """Return what RECSYS_FAST_DEVICE_MEMORY says, in bytes; None where it is not set.

    Raises:
        ValueError: it is not a positive number.
    """
    text = os.environ.get(BUDGET, "").strip()
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ValueError(message(BUDGET, repr(text), "a positive number of bytes", "unset it to use what is free"))
    return int(text)


def too_large(arguments: tuple[Any, ...], free: Callable[[], int]) -> int | None:
    """Return how many bytes arrays may take on the device where those of a call take more, else None.

    Args:
        arguments: of the call; NumPy arrays among them have to go there.
        free: tells how many bytes are free.
    """
    size = sum(array.nbytes for array in {id(a): a for a in arguments if isinstance(a, np.ndarray)}.values())
    if size <= _SMALL and not os.environ.get(BUDGET):
        return None
    limit = asked()
    limit = free() * 3 // 4 if limit is None else limit  # an operation needs some memory of its own
    return limit if size > limit else None


def staying(operation: str, arguments: tuple[Any, ...]) -> list[Any]:
    """Return the NumPy arrays of a call that every block of rows needs whole."""
    layout = LAYOUTS[operation]
    moving = {*layout.rows, *(p for group in layout.csr for p in group)}
    return [a for p, a in enumerate(arguments) if p not in moving and isinstance(a, np.ndarray)]


def blocks(operation: str, arguments: tuple[Any, ...], limit: int) -> Iterator[tuple[Any, ...]]:
    """Yield the arguments of an operation for one block of rows after the other, as views.

    Args:
        operation: a key of ``LAYOUTS``.
        arguments: of the call, arrays with rows in host memory.
        limit: bytes that all arrays may take on the device together.

    Raises:
        DeviceMemoryError: that does not hold what stays and the largest row.
    """
    layout = LAYOUTS[operation]
    n = len(arguments[layout.rows[0]])
    csr = [group for group in layout.csr if len(arguments[group[0]])]
    kept = sum(array.nbytes for array in staying(operation, arguments))
    per_row = layout.row_bytes + sum(arguments[p].nbytes // max(1, n) for p in layout.rows) + 8 * len(csr)
    size = per_row * np.arange(n + 1, dtype=np.int64)  # of the rows before
    for row_ptr, *entries in csr:
        itemsizes = [arguments[p].itemsize for p in entries if len(arguments[p])]
        size += arguments[row_ptr] * (layout.entry_bytes + sum(itemsizes))
    largest = int(np.diff(size).max(initial=0))
    if kept + largest > limit:
        expected = f"{kept} bytes for what stays there and {largest} for the largest row"
        mend = f'free memory on the device, raise {BUDGET}, or use device="cpu"'
        raise DeviceMemoryError(message(f"device memory of {operation}", f"{limit} bytes", expected, mend))
    if n == 0:
        yield arguments
    begin = 0
    while begin < n:
        end = int(np.searchsorted(size, size[begin] + (limit - kept), side="right")) - 1
        part = list(arguments)
        for p in layout.rows:
            part[p] = arguments[p][begin:end]
        for row_ptr, *entries in csr:
            first, last = (int(arguments[row_ptr][at]) for at in (begin, end))
            part[row_ptr] = arguments[row_ptr][begin : end + 1] - first
            for p in entries:
                part[p] = arguments[p][first:last] if len(arguments[p]) else arguments[p]
        yield tuple(part)
        begin = end
