"""Files of named arrays in the safetensors layout: checked before anything is allocated, written atomically.

Layout: 8 bytes little-endian length of the header, the header (JSON), then the arrays one after the other. The header
maps each name to ``{"dtype", "shape", "data_offsets"}`` and ``__metadata__`` to strings. Readable by the
``safetensors`` package; nothing in a file is ever executed or unpickled. ``checksum`` in the metadata is the CRC-32 of
everything after the length (with the checksum itself as zeros), so damage is noticed; it is no protection against
a forger, the other checks are.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import ModelFormatError, message

MAX_HEADER = 1 << 20
MAX_TENSORS = 4096
MAX_DIMENSIONS = 8
_CHUNK = 1 << 22

_KINDS = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "u1"}
_DTYPES = {code: np.dtype(kind) for code, kind in _KINDS.items()}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_NO_CHECKSUM = "0" * 8


class TensorSpec(NamedTuple):
    """Where an array lies in the file: dtype, shape, and the bytes ``begin:end`` after the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


def write(path: str | os.PathLike[str], tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write arrays and strings to ``path``; readers see the old file or the whole new one, never a part.

    Args:
        path: the file; replaced if it exists. A temporary file beside it is written, synced and renamed.
        tensors: arrays of dtype float32, float64, int32, int64 or uint8, in the order in which they are stored.
        metadata: strings; ``checksum`` is added.

    Raises:
        TypeError: an array of another dtype.
        ValueError: the header would exceed 1 MB.
        OSError: the file cannot be written; no temporary file stays behind.
    """
    arrays = {name: _storable(name, array) for name, array in tensors.items()}
    header, checksum = _header(arrays, dict(metadata))
    for array in arrays.values():
        checksum = _crc(array, checksum)
    header = header.replace(_checksum_field(_NO_CHECKSUM), _checksum_field(f"{checksum:08x}"), 1)
    with replacing(Path(os.path.realpath(path))) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for array in arrays.values():
            file.write(_bytes(array))


def _storable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    little = array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype
    if little not in _CODES:
        raise TypeError(message(f"array {name!r}", f"dtype {array.dtype}", "one of " + ", ".join(map(str, _CODES))))
    return np.ascontiguousarray(array, dtype=little)


def _checksum_field(digits: str) -> bytes:
    return f'"checksum":"{digits}"'.encode()


def _header(arrays: Mapping[str, NDArray[Any]], metadata: dict[str, str]) -> tuple[bytes, int]:
    """Return the header with a checksum of zeros, padded to 8 bytes as safetensors does, and its CRC-32."""
    # The checksum comes first: the first place where its text occurs is then certainly its own.
    table: dict[str, Any] = {"__metadata__": {"checksum": _NO_CHECKSUM, **metadata}}
    begin = 0
    for name, array in arrays.items():
        end = begin + array.nbytes
        table[name] = {"dtype": _CODES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
        begin = end
    header = json.dumps(table, separators=(",", ":"), allow_nan=False).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER:
        raise ValueError(message("size of the file's header", f"{len(header)} bytes", f"at most {MAX_HEADER}"))
    return header, zlib.crc32(header)


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _crc(array: NDArray[Any], start: int) -> int:
    return zlib.crc32(_bytes(array), start)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``target``; on success sync it and rename it to ``target``, else remove it."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    with contextlib.suppress(OSError, AttributeError):  # makes the rename itself durable, where the system offers it
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Reader:
    """An open file whose header has been checked; arrays are read on demand.

    Use as a context manager. ``metadata`` holds the strings, ``specs`` the place, dtype and shape of each array, and
    ``unread`` the names of the arrays that nobody has read yet.

    Raises:
        ModelFormatError: the file is no file of this layout, or damaged.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._file = open(path, "rb")  # noqa: SIM115 (closed by __exit__ or below)
        try:
            self.metadata, self.specs, self._data = self._read_header()
            self.unread = set(self.specs)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fail(self, what: str, got: object = None, expected: str | None = None) -> ModelFormatError:
        """Return (for raising) the error that says what is wrong with this file."""
        return ModelFormatError(message(f"{self.path}: {what}", got, expected, "save the model again"))

    def _read_header(self) -> tuple[dict[str, str], dict[str, TensorSpec], int]:
        size = os.fstat(self._file.fileno()).st_size
        prefix = self._file.read(8)
        if len(prefix) < 8:
            raise self.fail("no model file", f"{size} bytes", "a header of at least 8")
        length = int.from_bytes(prefix, "little")
        if length > min(MAX_HEADER, size - 8):
            raise self.fail("length of the header", length, f"at most {min(MAX_HEADER, size - 8)}")
        text = self._file.read(length)
        if len(text) != length:
            raise self.fail("truncated header", f"{len(text)} bytes", f"{length}")
        try:
            table = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise self.fail(f"header is not valid JSON ({error})") from None
        if not isinstance(table, dict):
            raise self.fail("header", type(table).__name__, "a JSON object")
        metadata = table.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise self.fail("__metadata__ is not an object of strings")
        if len(table) > MAX_TENSORS:
            raise self.fail("number of arrays", len(table), f"at most {MAX_TENSORS}")
        specs = {name: self._spec(name, entry) for name, entry in table.items()}
        self._check_layout(specs, size - 8 - length)
        self._check_sum(text, metadata)
        return metadata, specs, 8 + length

    def _spec(self, name: str, entry: Any) -> TensorSpec:
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise self.fail(f"entry of array {name!r}", repr(entry)[:80], "dtype, shape and data_offsets")
        dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
        if dtype is None:
            raise self.fail(f"dtype of array {name!r}", repr(entry["dtype"])[:80], "one of " + ", ".join(_DTYPES))
        shape, offsets = entry["shape"], entry["data_offsets"]
        if not _sizes(shape) or len(shape) > MAX_DIMENSIONS:
            raise self.fail(f"shape of array {name!r}", repr(shape)[:80], f"at most {MAX_DIMENSIONS} sizes")
        if not _sizes(offsets) or len(offsets) != 2:
            raise self.fail(f"data_offsets of array {name!r}", repr(offsets)[:80], "two sizes")
        if offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
            expected = f"{math.prod(shape) * dtype.itemsize} of shape {shape}"
            raise self.fail(f"bytes of array {name!r}", offsets[1] - offsets[0], expected)
        return TensorSpec(dtype, tuple(shape), offsets[0], offsets[1])

    def _check_layout(self, specs: dict[str, TensorSpec], data_size: int) -> None:
        """Arrays must cover the bytes after the header without gaps or overlaps, to the last byte of the file."""
        position = 0
        for name, spec in sorted(specs.items(), key=lambda item: (item[1].begin, item[1].end)):
            if spec.begin != position:
                raise self.fail(f"begin of array {name!r}", spec.begin, f"{position}, without gap or overlap")
            position = spec.end
        if position != data_size:
            raise self.fail("size of the arrays", f"{data_size} bytes", f"{position} as the header says")

    def _check_sum(self, text: bytes, metadata: dict[str, str]) -> None:
        if "checksum" not in metadata:
            return
        checksum = zlib.crc32(text.replace(_checksum_field(metadata["checksum"]), _checksum_field(_NO_CHECKSUM), 1))
        while chunk := self._file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
        if f"{checksum:08x}" != metadata["checksum"]:
            raise self.fail("checksum", f"{checksum:08x}", metadata["checksum"][:80])

    def length(self, name: str) -> int:
        """Return the first size of an array.

        Raises:
            ModelFormatError: no such array, or it has no dimension.
        """
        if name not in self.specs or not self.specs[name].shape:
            raise self.fail(f"array {name!r} is missing")
        return self.specs[name].shape[0]

    def read(self, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return an array after checking that the header announces ``dtype`` ("F32", ...) and ``shape``.

        Raises:
            ModelFormatError: no such array, another dtype or shape, or the file became shorter.
        """
        if name not in self.specs:
            raise self.fail(f"array {name!r} is missing")
        spec = self.specs[name]
        if spec.dtype != _DTYPES[dtype] or spec.shape != shape:
            raise self.fail(f"array {name!r}", f"{_CODES[spec.dtype]} {spec.shape}", f"{dtype} {shape}")
        self.unread.discard(name)
        array = np.empty(shape, spec.dtype)
        self._file.seek(self._data + spec.begin)
        if array.size and self._file.readinto(_bytes(array)) != array.nbytes:
            raise self.fail(f"array {name!r} is truncated")
        return array


class Part:
    """The arrays of a file whose names begin with a prefix, under the rest of their names; like a ``Reader``.

    Args:
        reader: the file, or a part of it.
        prefix: what the names begin with.
    """

    def __init__(self, reader: Reader | Part, prefix: str) -> None:
        self._reader, self._prefix = reader, prefix
        self.specs: dict[str, TensorSpec] = {
            name.removeprefix(prefix): spec for name, spec in reader.specs.items() if name.startswith(prefix)
        }

    def fail(self, what: str, got: object = None, expected: str | None = None) -> ModelFormatError:
        """Return (for raising) the error that says what is wrong with this part."""
        return self._reader.fail(f"{self._prefix}: {what}", got, expected)

    def length(self, name: str) -> int:
        """Return the first size of an array."""
        return self._reader.length(self._prefix + name)

    def read(self, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return an array; see ``Reader.read``."""
        return self._reader.read(self._prefix + name, dtype, shape)


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 62 for value in values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key occurs twice")
    return table


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")
