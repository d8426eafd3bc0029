"""Operations without their checks, for models that have checked everything once and call an operation many times."""

from __future__ import annotations

from typing import Any

from recsys_fast import backend


def run_unchecked(operation: str, *arguments: Any, device: str, n_threads: int | None) -> Any:
    """Run a backend's operation on its flat arguments and return what it returns.

    A wrong argument is undefined behaviour: arrays must be C-contiguous and of the documented dtypes, matrices
    canonical, values finite. Everybody else calls the checked function of the same name in ``recsys_fast.ops``.

    Args:
        operation: name, such as "als_sweep".
        *arguments: all of the flat signature but ``n_threads``.
        device: backend.
        n_threads: number of threads; None for every CPU granted.
    """
    return getattr(backend.get(device), operation)(*arguments, backend.resolve_threads(n_threads))


def device_finite(array: Any, device: str) -> bool:
    """Say whether an array of float32 on the GPU ``device`` holds neither NaN nor infinity."""
    return bool(backend.get(device).find_not_finite(array) < 0)
