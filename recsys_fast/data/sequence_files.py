"""``.npz`` files of sequences, read with the same care as those of interactions."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.data.npz import DAMAGE, Header, headers_of, ids_to_arrays, load_array, read_ids, want, write_arrays
from recsys_fast.data.sequence_input import from_packed
from recsys_fast.data.sequences import Sequences
from recsys_fast.errors import message

_FORMAT = "recsys_fast.sequences/1"


def write(data: Sequences, path: str | Path, compress: bool) -> None:
    """Write ``data``; see ``Sequences.to_npz``."""
    arrays: dict[str, Any] = {
        "format": np.array(_FORMAT),
        "n_items": np.array(data.n_items, np.int64),
        "row_ptr": data.row_ptr,
        "items": data.items,
    }
    if data.timestamps is not None:
        arrays["timestamps"] = data.timestamps
    for name, id_map in (("user_ids", data.user_ids), ("item_ids", data.item_ids)):
        if id_map is not None:
            arrays.update(ids_to_arrays(name, id_map))
    write_arrays(arrays, path, compress)


def is_sequences(path: str | Path) -> bool:
    """Return whether a file says that it holds sequences; what it holds is not checked."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "format.npy" in archive.namelist() and str(load_array(archive, "format")) == _FORMAT
    except (*DAMAGE, ValueError):
        return False


def read(path: str | Path) -> Sequences:
    """Return the sequences in a file; see ``Sequences.from_npz``."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(message("no such file", str(file)))
    try:
        with zipfile.ZipFile(file) as archive:
            headers = headers_of(archive, file)
            if "row_ptr" not in headers:
                return _read_foreign(archive, headers, file.name)
            return _read_own(archive, headers, file.name)
    except DAMAGE as error:
        raise ValueError(message(f"{file.name} is damaged or no npz file ({error})")) from error


def _number(archive: zipfile.ZipFile, headers: dict[str, Header], name: str, source: str) -> int:
    if name not in headers or headers[name].dtype.kind not in "iu" or headers[name].shape not in ((), (1,)):
        raise ValueError(message(f"array {name!r} of {source}", expected="one integer"))
    return int(load_array(archive, name).reshape(-1)[0])


def _read_own(archive: zipfile.ZipFile, headers: dict[str, Header], source: str) -> Sequences:
    if headers.get("format", Header(np.dtype("i1"), ())).dtype.kind != "U":
        raise ValueError(message(f"format of {source}", expected=_FORMAT))
    if (form := str(load_array(archive, "format"))) != _FORMAT:
        mend = "read interactions with Interactions.from_npz" if "interactions" in form else "is it of a newer version?"
        raise ValueError(message(f"format of {source}", repr(form), _FORMAT, mend))
    want(headers, "row_ptr", "i", None, source)
    want(headers, "items", "i", None, source)
    times: NDArray[Any] | None = None
    if "timestamps" in headers:
        want(headers, "timestamps", "i", headers["items"].shape[0], source)
        times = load_array(archive, "timestamps")
    n_users, n_items = headers["row_ptr"].shape[0] - 1, _number(archive, headers, "n_items", source)
    maps = [read_ids(archive, headers, name, n, source) for name, n in (("user_ids", n_users), ("item_ids", n_items))]
    row_ptr, items = load_array(archive, "row_ptr"), load_array(archive, "items")
    try:
        return from_packed(row_ptr, items, n_items, times, *maps)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _read_foreign(archive: zipfile.ZipFile, headers: dict[str, Header], source: str) -> Sequences:
    """Read ``indptr, indices[, n_items]``."""
    want(headers, "indptr", "iu", None, source)
    want(headers, "indices", "iu", None, source)
    n_items = _number(archive, headers, "n_items", source) if "n_items" in headers else None
    if not headers["indptr"].shape[0]:
        raise ValueError(message(f"length of indptr in {source}", 0, "at least 1"))
    return from_packed(load_array(archive, "indptr"), load_array(archive, "indices"), n_items, None, None, None)
