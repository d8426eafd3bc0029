"""Memory that Python and NumPy allocate."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable


def traced_peak(work: Callable[[], object]) -> int:
    """Return the most bytes that were allocated at a time while ``work`` ran, above those from before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
