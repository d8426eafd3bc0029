"""What memory this process may still take, for models whose size grows with the square of the catalogue."""

from __future__ import annotations

import os

from recsys_fast import backend
from recsys_fast.errors import MAKE_ROOM, DeviceMemoryError, message

_GROUP = "/sys/fs/cgroup/"


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, ValueError):
        return None


def _free_in_group(limit: str, usage: str, stat: str, reclaimable: str) -> int | None:
    """Return limit - usage of a control group, where cached files that can go do not count; None without a limit."""
    granted, used, details = _read(_GROUP + limit), _read(_GROUP + usage), _read(_GROUP + stat)
    if granted is None or used is None or not granted.strip().isdigit():  # "max" is no limit
        return None
    cached = 0
    for line in (details or "").splitlines():
        name, _, value = line.partition(" ")
        cached = int(value) if name == reclaimable else cached
    return max(0, int(granted) - int(used) + cached)


def _free_on_machine() -> int | None:
    for line in (_read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def available_memory() -> int | None:
    """Return the bytes that the machine and this process's control group (v2 or v1) still grant; None if unknown."""
    found = (
        _free_on_machine(),
        _free_in_group("memory.max", "memory.current", "memory.stat", "inactive_file"),
        _free_in_group(
            "memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"
        ),
    )
    known = [size for size in found if size is not None]
    return min(known) if known else None


def check_memory(what: str, needed: int, mend: str) -> None:
    """Raise MemoryError where ```needed``` bytes are more than there are; silent where that is not known."""
    available = available_memory()
    if available is not None and needed > available:
        raise MemoryError(message(f"memory for {what}", f"{in_gb(available)} available", in_gb(needed), mend))


def names_gpu(device: object) -> bool:
    """Say whether a parameter ``device`` names a GPU, be it there or not."""
    return isinstance(device, str) and device.startswith("cuda")


def with_device(parts: dict[str, int], device_bytes: int) -> dict[str, int]:
    """Return parts of memory with "total", that of the host, and "device", what a GPU needs beside it (0: none)."""
    return {**parts, **({"device": device_bytes} if device_bytes else {}), "total": sum(parts.values())}


def check_device_memory(what: str, device: str, needed: int) -> None:
    """Raise DeviceMemoryError where `needed` bytes are more than may be taken on a GPU."""
    available = backend.device_memory(device)
    if needed > available:
        got, expected = f"{available} bytes available", f"{needed} bytes"
        raise DeviceMemoryError(message(f"device memory for {what}", got, expected, MAKE_ROOM))


def in_gb(size: int) -> str:
    """Return a size as text."""
    return f"{size / 1e9:.2f} GB"
