"""Reads from an ELF64 little-endian shared library what it needs at run time, without any tool of the system."""

from __future__ import annotations

import struct
from pathlib import Path

_DYNAMIC, _LOAD = 2, 1  # program header types
_NEEDED, _STRTAB, _RPATH, _RUNPATH = 1, 5, 15, 29  # dynamic tags


def dynamic_strings(path: Path) -> dict[str, list[str]]:
    """Return {"needed": [...], "runpath": [...]} of the library at ``path``."""
    raw = path.read_bytes()
    if raw[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{path}: expected a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", raw, 32)
    entry_size, n_entries = struct.unpack_from("<HH", raw, 54)
    segments = []
    for i in range(n_entries):
        kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", raw, table + i * entry_size)
        segments.append((kind, offset, address, size))

    def file_offset(address: int) -> int:
        for kind, offset, start, size in segments:
            if kind == _LOAD and start <= address < start + size:
                return offset + address - start
        raise ValueError(f"{path}: address {address:#x} lies in no segment")

    entries = []
    for kind, offset, _, size in segments:
        if kind == _DYNAMIC:
            entries = [struct.unpack_from("<qQ", raw, at) for at in range(offset, offset + size, 16)]
    strings = file_offset(next(value for tag, value in entries if tag == _STRTAB))

    def text(value: int) -> str:
        return raw[strings + value : raw.index(b"\0", strings + value)].decode()

    return {
        "needed": [text(value) for tag, value in entries if tag == _NEEDED],
        "runpath": [text(value) for tag, value in entries if tag in (_RPATH, _RUNPATH)],
    }
