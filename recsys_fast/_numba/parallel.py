"""How the loops are compiled, and on how many threads they run."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numba
import numba.extending
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., object])
_config: Any = numba.config
_intrinsic: Any = numba.extending.intrinsic

# Of numba's threading layers GNU OpenMP kills a forked child that uses it; "forksafe" takes one that survives. The one
# that is always there (workqueue) aborts when two Python threads enter it at once, hence the lock.
if _config.THREADING_LAYER == "default":
    _config.THREADING_LAYER = "forksafe"

_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # another thread may have held it at the moment of the fork
    os.register_at_fork(after_in_child=_renew_lock)


def _compile(function: F, **options: Any) -> F:
    njit: Any = numba.njit
    try:
        compiled: F = njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # nowhere to write a cache: a read-only installation without a home
        compiled = njit(nogil=True, **options)(function)
    return compiled


def serial(function: F) -> F:
    """Compile ``function``; the machine code is kept on disk."""
    return _compile(function)


def inlined(function: F) -> F:
    """Compile ``function`` into its callers: where passing the arrays would cost more than what is done with them.

    A division by zero gives infinity, as in NumPy: looking for one keeps a loop from being vectorised.
    """
    return _compile(function, forceinline=True, error_model="numpy")


def parallel(function: F) -> F:
    """Compile ``function``, whose outermost loop is a ``prange``; call it inside ``threads``."""
    return _compile(function, parallel=True)


@_intrinsic  # type: ignore[untyped-decorator]
def borrowed(typing_context: Any, arrays: Any) -> Any:
    """Return a tuple whose arrays have no owner, so that passing them on and cutting views counts no references.

    Counting is atomic, and in loops over narrow rows it takes longer than the arithmetic. Only for what somebody else
    keeps alive: the arguments of the function that calls it.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = arguments[0]
        for at, kind in enumerate(signature.args[0]):
            if isinstance(kind, numba.types.Array):
                view = context.make_array(kind)(context, builder, builder.extract_value(given, at))
                view.meminfo = view.meminfo.type(None)
                given = builder.insert_value(given, view._getvalue(), at)
        return given

    return arrays(arrays), generate


class _Exposed:
    """An array's memory under the array protocol, without its read-only flag."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.owner = array  # kept alive as long as the view
        interface = dict(array.__array_interface__)
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}


def inputs(*arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return views without the read-only flag, for kernels that only read.

    To numba a read-only array is another type: each mixture of read-only and other arguments costs seconds of
    compilation for the same machine code.
    """
    return tuple(array if array.flags.writeable else np.asarray(_Exposed(array)) for array in arrays)


@contextlib.contextmanager
def threads(n_threads: int) -> Iterator[None]:
    """Run the parallel loops inside on ``n_threads`` threads, or on as many as numba started if those are fewer."""
    with _lock:
        before = numba.get_num_threads()
        numba.set_num_threads(max(1, min(n_threads, _config.NUMBA_NUM_THREADS)))
        try:
            yield
        finally:
            numba.set_num_threads(before)
