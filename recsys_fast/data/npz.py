"""``.npz`` files: nothing is unpickled, and no array is allocated before its size was checked."""

from __future__ import annotations

import math
import os
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from recsys_fast.data.columns import objects
from recsys_fast.data.id_map import IdMap
from recsys_fast.data.interactions import Interactions
from recsys_fast.errors import message
from recsys_fast.ops import Csr, validate_csr

_FORMAT = "recsys_fast.interactions/1"
_MAX_RATIO = 1032  # deflate cannot compress better: a member that claims more lies about its size
DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, struct.error, KeyError, NotImplementedError, RuntimeError, OSError,
    UnicodeDecodeError,
)  # fmt: skip


class Header(NamedTuple):
    """What an array in a file says of itself."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def write_npz(data: Interactions, path: str | Path, compress: bool) -> None:
    """Write ``data``; see ``Interactions.to_npz``."""
    arrays: dict[str, Any] = {
        "format": np.array(_FORMAT),
        "shape": np.array(data.shape, np.int64),
        "row_ptr": data.row_ptr,
        "col_idx": data.col_idx,
    }
    for name in ("values", "timestamps", "order"):
        if getattr(data, name) is not None:
            arrays[name] = getattr(data, name)
    for name, id_map in (("user_ids", data.user_ids), ("item_ids", data.item_ids)):
        if id_map is not None:
            arrays.update(ids_to_arrays(name, id_map))
    write_arrays(arrays, path, compress)


def write_arrays(arrays: dict[str, Any], path: str | Path, compress: bool) -> None:
    """Write arrays to a file that appears whole or not at all."""
    target = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=target.name, suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            (np.savez_compressed if compress else np.savez)(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def ids_to_arrays(name: str, id_map: IdMap) -> dict[str, NDArray[Any]]:
    """Return ids as integers, or as one UTF-8 text with the end of each: the longest id does not set the width."""
    if id_map.kind == "int":
        return {name: id_map.ids}
    ids = id_map.ids.tolist()
    for one in ids:
        if type(one) is not str:
            mend = "map them to strings or integers first, or save without the map"
            raise TypeError(message(f"{name} in a file", repr(one), "all integers or all strings", mend))
    encoded = [one.encode() for one in ids]
    ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    return {f"{name}_text": np.frombuffer(b"".join(encoded), np.uint8), f"{name}_ends": ends}


def read_npz(path: str | Path, duplicates: str) -> Interactions:
    """Return the interactions in a file; see ``Interactions.from_npz``."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(message("no such file", str(file)))
    try:
        with zipfile.ZipFile(file) as archive:
            headers = headers_of(archive, file)
            if "row_ptr" in headers:
                return _read_own(archive, headers, file.name)
            return _read_foreign(archive, headers, file.name, duplicates)
    except DAMAGE as error:
        raise ValueError(message(f"{file.name} is damaged or no npz file ({error})")) from error


def headers_of(archive: zipfile.ZipFile, file: Path) -> dict[str, Header]:
    """Return dtype and shape of every array, each checked against the bytes that are there."""
    found: dict[str, Header] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        fits = info.compress_size <= file.stat().st_size and info.file_size <= _MAX_RATIO * info.compress_size + 64
        if name in found or not fits or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile(f"member {name!r} has an impossible size, a foreign compression, or occurs twice")
        with archive.open(info) as member:
            version = npy.read_magic(member)
            if version not in ((1, 0), (2, 0)):
                raise zipfile.BadZipFile(f"array {name!r} has npy version {version}")
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(member)
            start = member.tell()
        if dtype.hasobject or dtype.kind not in "biufUS":
            raise ValueError(message(f"array {name!r} of {file.name}", f"dtype {dtype}", "numbers or text"))
        if start + math.prod(shape) * dtype.itemsize != info.file_size:
            raise zipfile.BadZipFile(f"array {name!r} claims shape {shape} but holds {info.file_size - start} bytes")
        found[name] = Header(dtype, shape)
    return found


def load_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Return an array of the file; check its header first."""
    with archive.open(f"{name}.npy") as member:
        return np.asarray(npy.read_array(member, allow_pickle=False))


def want(headers: dict[str, Header], name: str, dtypes: str, length: int | None, source: str) -> None:
    """Raise ValueError unless an array is there, 1-D, of one of the dtypes and of the length."""
    if name not in headers:
        raise ValueError(message(f"array {name!r} is not in {source}", sorted(headers), "an Interactions file"))
    dtype, shape = headers[name]
    if len(shape) != 1 or dtype.kind not in dtypes or (length is not None and shape[0] != length):
        expected = f"1-D, kind {' or '.join(dtypes)}" + ("" if length is None else f", length {length}")
        raise ValueError(message(f"array {name!r} of {source}", f"{dtype} of shape {shape}", expected))


def _read_own(archive: zipfile.ZipFile, headers: dict[str, Header], source: str) -> Interactions:
    if (
        headers.get("format", Header(np.dtype("i1"), ())).dtype.kind != "U"
        or str(load_array(archive, "format")) != _FORMAT
    ):
        raise ValueError(message(f"format of {source}", expected=_FORMAT, mend="was it written by a newer version?"))
    want(headers, "shape", "i", 2, source)
    n_users, n_items = (int(size) for size in load_array(archive, "shape"))
    if not 0 <= n_users < 2**31 or not 0 <= n_items < 2**31:
        raise ValueError(message(f"shape in {source}", (n_users, n_items), "0 to 2**31 - 1 users and items"))
    want(headers, "row_ptr", "i", n_users + 1, source)
    want(headers, "col_idx", "i", None, source)
    nnz = headers["col_idx"].shape[0]
    loaded: dict[str, NDArray[Any] | None] = {"values": None, "timestamps": None, "order": None}
    for name, kind, dtype in (("values", "f", np.float32), ("timestamps", "i", np.int64), ("order", "i", None)):
        if name in headers:
            want(headers, name, kind, nnz, source)
            array = load_array(archive, name)
            loaded[name] = array if dtype is None else array.astype(dtype, copy=False)
    row_ptr = load_array(archive, "row_ptr").astype(np.int64, copy=False)
    csr = Csr(row_ptr, load_array(archive, "col_idx").astype(np.int32, copy=False), loaded["values"], n_users, n_items)
    if not validate_csr(csr, source):
        raise ValueError(message(f"rows of {source}", "unsorted or repeated items", "rows sorted by item"))
    order = loaded["order"]
    if (order is None) != (loaded["timestamps"] is None):
        raise ValueError(message(f"{source} holds timestamps or their order alone", expected="both or neither"))
    if order is not None and nnz and (int(order.min()) < 0 or len(np.unique(order)) != nnz):
        raise ValueError(message(f"array 'order' of {source}", "negative or repeated places", "distinct places"))
    maps = [read_ids(archive, headers, name, n, source) for name, n in (("user_ids", n_users), ("item_ids", n_items))]
    return Interactions._trusted(
        csr.row_ptr, csr.col_idx, csr.values, loaded["timestamps"], (n_users, n_items),
        order=order, user_ids=maps[0], item_ids=maps[1],
    )  # fmt: skip


def read_ids(archive: zipfile.ZipFile, headers: dict[str, Header], name: str, n: int, source: str) -> IdMap | None:
    """Return the ``n`` raw ids that ``ids_to_arrays`` wrote under ``name``; None where there are none."""
    if name in headers:
        want(headers, name, "i", n, source)
        return IdMap(load_array(archive, name))
    if f"{name}_ends" not in headers:
        return None
    want(headers, f"{name}_ends", "i", n, source)
    want(headers, f"{name}_text", "u", None, source)
    text, ends = load_array(archive, f"{name}_text").tobytes(), load_array(archive, f"{name}_ends").tolist()
    starts = [0, *ends[:-1]] if ends else []
    if any(end < start for start, end in zip(starts, ends, strict=True)) or (ends[-1] if ends else 0) != len(text):
        raise ValueError(message(f"{name} of {source} do not fill their text", mend="write the file again"))
    ids = [text[start:end].decode() for start, end in zip(starts, ends, strict=True)]
    return IdMap(objects(ids)) if ids else IdMap([])


def _read_foreign(archive: zipfile.ZipFile, headers: dict[str, Header], source: str, duplicates: str) -> Interactions:
    """Read ``indptr, indices[, data|values][, shape|n_items]``; entries of a row in any order."""
    if "format" in headers:
        form = load_array(archive, "format").item()
        form = form.decode() if isinstance(form, bytes) else str(form)
        if form != "csr":
            raise ValueError(message(f"sparse format in {source}", repr(form), "'csr'", "save matrix.tocsr()"))
    want(headers, "indptr", "iu", None, source)
    want(headers, "indices", "iu", None, source)
    if headers["indptr"].shape[0] < 1:
        raise ValueError(message(f"length of indptr in {source}", 0, "at least 1"))
    name = "data" if "data" in headers else "values"
    values = None
    if name in headers:
        want(headers, name, "biuf", headers["indices"].shape[0], source)
        values = load_array(archive, name)
    indptr, indices = load_array(archive, "indptr"), load_array(archive, "indices")
    n_users, n_items = len(indptr) - 1, int(indices.max()) + 1 if len(indices) else 0
    if "shape" in headers:
        want(headers, "shape", "iu", 2, source)
        stated, n_items = (int(size) for size in load_array(archive, "shape"))
        if stated != n_users:
            expected = f"rows of its shape + 1 = {stated + 1}"
            raise ValueError(message(f"length of indptr in {source}", len(indptr), expected))
    elif "n_items" in headers:
        n_items = int(load_array(archive, "n_items").reshape(-1)[0])
    return Interactions(Csr(indptr, indices, values, n_users, n_items), duplicates=duplicates)
