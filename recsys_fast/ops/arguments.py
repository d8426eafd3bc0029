"""Checks of single arguments that operations of every family share."""

from __future__ import annotations

import numbers
import operator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import message

I32 = NDArray[np.int32]
Record = TypeVar("Record")

_LARGEST = float(np.finfo(np.float32).max)


def as_integer(value: Any, name: str) -> int:
    """Return ``value`` as an int.

    Raises:
        TypeError: not an integer, whatever could be rounded to one.
    """
    if not isinstance(value, (bool, np.bool_)):
        try:
            return operator.index(value)
        except TypeError:  # such as an array of a fraction
            pass
    raise TypeError(message(name, type(value).__name__, "an int"))


def as_number(value: Any, name: str, lowest: float | None = 0.0) -> float:
    """Return ``value`` as a float that float32 can hold and that is not below ``lowest``.

    Raises:
        TypeError: not a real number.
        ValueError: below ``lowest``, not finite, or beyond float32.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message(name, type(value).__name__, "a number"))
    number = float(value)
    if not -_LARGEST <= number <= _LARGEST or (lowest is not None and number < lowest):
        expected = "a finite float32" + ("" if lowest is None else f", {lowest:g} or more")
        raise ValueError(message(name, number, expected))
    return number


def on_host(array: Any) -> NDArray[Any]:
    """Return an array in host memory, where ids and pointers are checked; a copy of one that lies on a device."""
    found: NDArray[Any] = backend.arrays("cuda").to_host(array) if on_device(array) else np.asarray(array)
    return found


def as_indices(array: ArrayLike, name: str, lowest: int, n: int) -> I32:
    """Return ids of any shape as contiguous int32 after checking that none is below ``lowest`` or not below ``n``.

    Raises:
        TypeError: not integers.
        IndexError: out of range; the message holds the first such id and its place.
    """
    given = on_host(array)
    if given.size == 0:
        return np.empty(given.shape, np.int32)
    if given.dtype.kind not in "iu":
        mend = f"for a mask pass np.flatnonzero({name})" if given.dtype.kind == "b" else None
        raise TypeError(message(f"dtype of {name}", given.dtype, "an integer dtype", mend))
    if int(given.min()) < lowest or int(given.max()) >= n:
        at = np.unravel_index(int(np.argmax((given < lowest) | (given >= n))), given.shape)
        where = ", ".join(str(int(k)) for k in at)
        expected = f"0 <= id < {n}" if lowest == 0 else f"{lowest} (none) or 0 <= id < {n}"
        raise IndexError(message(f"{name}[{where}]", int(given[at]), expected))
    return np.require(given, np.int32, ["C", "A", "E"])


def as_record(value: Any, name: str, kind: type[Record], source: str) -> Record:
    """Return ``value`` after checking that it is a ``kind``, whose fields go by name.

    Raises:
        TypeError: it is something else, such as a plain tuple.
    """
    if not isinstance(value, kind):
        raise TypeError(message(name, type(value).__name__, f"{kind.__name__}, {source}"))
    return value


def _span(array: Any) -> tuple[int, int]:
    """Return where an array on the device begins and ends."""
    interface = array.__cuda_array_interface__
    begin, size = interface["data"][0], np.dtype(interface["typestr"]).itemsize
    return begin, begin + size * int(np.prod(interface["shape"]))


def check_apart(written: Any, name: str, read: Any, read_name: str, mend: str | None = None) -> None:
    """Raise ValueError where an operation would write into memory that it still reads, on the host or the device."""
    if on_device(written) != on_device(read):
        return
    if on_device(written):
        (first, last), (begin, end) = _span(written), _span(read)
        shared = first < end and begin < last
    else:
        shared = np.may_share_memory(written, read)
    if shared:
        raise ValueError(message(f"{name} and {read_name} share memory", mend=mend or f"pass {read_name}.copy()"))
