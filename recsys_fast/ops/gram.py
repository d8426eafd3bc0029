"""Gram matrix of a factor table, its eigenbasis, and the rotation of factors into it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import message
from recsys_fast.ops.topk import as_factors

F32 = NDArray[np.float32]

_ASYMMETRY = 1e-4  # share of the largest entry; float32 sums in another order stay far below


def as_writable(array: object, name: str, ndim: int = 2) -> F32:
    """Return ``array`` itself after checking that an operation can write float32 numbers into it.

    Raises:
        TypeError: not a NumPy array of float32; converting would leave the caller's array as it was.
        ValueError: not of ``ndim`` dimensions, not C-contiguous, or read-only.
    """
    if on_device(array):
        there: F32 = device_writable(array, name, ndim)
        return there
    if not isinstance(array, np.ndarray):
        raise TypeError(message(name, type(array).__name__, "a NumPy array, which is changed in place"))
    if array.dtype != np.float32:
        mend = f"pass {name}.astype(np.float32) and keep it: it is changed in place"
        raise TypeError(message(f"dtype of {name}", array.dtype, "float32", mend))
    if array.ndim != ndim:
        expected = "2 dimensions, (n, d)" if ndim == 2 else f"{ndim} dimension(s)"
        raise ValueError(message(name, f"shape {array.shape}", expected))
    if not array.flags.c_contiguous:
        mend = f"pass np.ascontiguousarray({name}) and keep it: it is changed in place"
        raise ValueError(message(f"{name} is not C-contiguous", mend=mend))
    if not array.flags.writeable:
        mend = f"pass {name}.copy() and keep it: it is changed in place"
        raise ValueError(message(f"{name} is read-only", mend=mend))
    return array


def device_writable(array: Any, name: str, ndim: int = 2) -> Any:
    """Return an array on the device, without a copy, after the checks of ``as_writable``."""
    interface = array.__cuda_array_interface__
    shape, dtype, strides = tuple(interface["shape"]), np.dtype(interface["typestr"]), interface.get("strides")
    if dtype != np.float32:
        mend = f"pass {name}.astype(np.float32) and keep it: it is changed in place"
        raise TypeError(message(f"dtype of {name}", dtype, "float32", mend))
    if len(shape) != ndim:
        expected = "2 dimensions, (n, d)" if ndim == 2 else f"{ndim} dimension(s)"
        raise ValueError(message(name, f"shape {shape}", expected))
    contiguous = tuple(4 * int(np.prod(shape[axis + 1 :])) for axis in range(ndim))
    if strides is not None and tuple(strides) != contiguous and 0 not in shape:
        raise ValueError(message(f"{name} is not C-contiguous", mend="pass a contiguous copy and keep it"))
    if interface["data"][1]:
        mend = f"pass {name}.copy() and keep it: it is changed in place"
        raise ValueError(message(f"{name} is read-only", mend=mend))
    return backend.arrays("cuda").asarray(array)


def _span(array: Any) -> tuple[int, int]:
    """Return where an array on the device begins and ends."""
    interface = array.__cuda_array_interface__
    begin, size = interface["data"][0], np.dtype(interface["typestr"]).itemsize
    return begin, begin + size * int(np.prod(interface["shape"]))


def home(array: Any) -> Any:
    """Return the array module of the place where ``array`` lies: there the results belong as well."""
    return backend.arrays("cuda") if on_device(array) else backend.arrays("numba")


def all_finite(array: Any) -> bool:
    """Say whether an array of float32 holds neither NaN nor infinity, wherever it lies."""
    if on_device(array):
        return bool(backend.get("cuda").find_not_finite(array) < 0)
    return bool(np.isfinite(array).all())


def check_apart(written: Any, name: str, read: Any, read_name: str) -> None:
    """Raise ValueError where an operation would write into memory that it still reads."""
    if on_device(written):
        (first, last), (begin, end) = _span(written), _span(read)
        shared = first < end and begin < last
    else:
        shared = np.may_share_memory(written, read)
    if shared:
        raise ValueError(message(f"{name} and {read_name} share memory", mend=f"pass {read_name}.copy()"))


def gram(y: ArrayLike, *, out: F32 | None = None, device: str = "auto", n_threads: int | None = None) -> F32:
    """Return y^T y; the sum has a fixed tree, so the result does not depend on the number of threads.

    Args:
        y: ``(n, d)``, converted to contiguous float32 where it is not; n may be 0.
        out: ``(d, d) float32``, C-contiguous, to write into; None for a new array.
        device: backend.
        n_threads: number of threads; None for every CPU granted.

    Returns:
        ``(d, d) float32``, exactly symmetric; ``out`` where it was given.

    Raises:
        TypeError: ``y`` holds no real numbers, or ``out`` is not float32.
        ValueError: ``y`` is not 2-D, has no column or is not finite, ``out`` has another shape, is not contiguous or
            read-only, or the products exceed float32.
    """
    device = backend.place(device, y=y, out=out)
    rows = as_factors(y, "y")
    d = rows.shape[1]
    if d == 0:
        raise ValueError(message("columns of y", 0, "at least 1"))
    if out is None:
        out = home(rows).empty((d, d), np.float32)
    elif as_writable(out, "out").shape != (d, d):
        raise ValueError(message("shape of out", out.shape, f"{(d, d)}"))
    check_apart(out, "out", rows, "y")
    backend.get(device).gram(out, rows, backend.resolve_threads(n_threads))
    if not all_finite(out):
        raise ValueError(message("y^T y exceeds float32", mend="scale y down"))
    return out


def gram_eigen(gram: ArrayLike, *, device: str = "auto", n_threads: int | None = None) -> tuple[F32, F32]:
    """Return eigenvectors and eigenvalues of a Gram matrix: gram = vectors diag(values) vectors^T.

    Jacobi's method in float64 with a fixed order of rotations: the result does not depend on the number of threads.
    The time grows with d^3: some 0.02 s at d = 256, 2 s at 1024.

    Args:
        gram: ``(d, d)``, symmetric, positive semidefinite (zero and rank-deficient matrices are fine); converted to
            contiguous float32 where it is not.
        device: backend.
        n_threads: number of threads; None for every CPU granted.

    Returns:
        vectors ``(d, d) float32``, orthonormal columns, the component of largest magnitude of each positive, and
        values ``(d,) float32``, descending, none negative. ``rows_rotate(y, vectors)`` makes gram(y) diagonal.

    Raises:
        TypeError: not real numbers.
        ValueError: not square, not symmetric, not finite, or a diagonal entry is negative.
    """
    device, arrays = backend.place(device, gram=gram), home(gram)
    matrix = arrays.to_host(as_factors(gram, "gram"))  # small, and its checks are many
    d = len(matrix)
    if matrix.shape != (d, d) or d == 0:
        raise ValueError(message("shape of gram", matrix.shape, "(d, d) with d at least 1", "pass ops.gram(y)"))
    bound = _ASYMMETRY * float(np.abs(matrix).max())
    if (np.abs(matrix.astype(np.float64) - matrix.T) > bound).any():
        raise ValueError(message("gram is not symmetric", mend="pass ops.gram(y)"))
    if float(matrix.diagonal().min()) < -bound:
        got = f"diagonal entry {matrix.diagonal().min()}"
        raise ValueError(message("gram", got, "a positive semidefinite matrix", "pass ops.gram(y)"))
    vectors, values = np.empty((d, d), np.float32), np.empty(d, np.float32)
    backend.get(device).gram_eigen(vectors, values, matrix, backend.resolve_threads(n_threads))
    return arrays.asarray(vectors), arrays.asarray(values)


def rows_rotate(x: F32, q: ArrayLike, *, device: str = "auto", n_threads: int | None = None) -> F32:
    """Multiply every row of ``x`` by ``q`` in place: x <- x q.

    Args:
        x: ``(n, d) float32``, C-contiguous, writable; changed.
        q: ``(d, d)``, converted to contiguous float32 where it is not.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The result does not depend on it.

    Returns:
        ``x``.

    Raises:
        TypeError: ``x`` is not a float32 array, or ``q`` holds no real numbers.
        ValueError: ``x`` is not 2-D, not contiguous or read-only, ``q`` has another shape or is not finite, or both
            share memory.
    """
    device = backend.place(device, x=x, q=q)
    rows, rotation = as_writable(x, "x"), as_factors(q, "q")
    d = rows.shape[1]
    if rotation.shape != (d, d) or d == 0:
        raise ValueError(message("shape of q", rotation.shape, f"({d}, {d}), a column and row per column of x"))
    check_apart(rows, "x", rotation, "q")
    backend.get(device).rows_rotate(rows, rotation, backend.resolve_threads(n_threads))
    return x
