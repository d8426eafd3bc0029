"""Reading npz files that may be damaged or hostile: no pickle, sizes checked before anything is allocated."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.datasets.locate import Place
from recsys_fast.errors import message

_MEND = "the file is damaged or is not the one it should be: replace it"
_INT32_MAX = 2**31 - 1
_MAX_MEMBER = 8 << 30  # bytes


class Ragged(NamedTuple):
    """Lists of ids.

    Attributes:
        row_ptr: ``(n_rows + 1,) int64``; list ``r`` is ``ids[row_ptr[r]:row_ptr[r + 1]]``.
        ids: ``(n,) int32``, all in ``0 .. n_ids - 1``, in the order of the file.
        n_ids: number of distinct ids there may be.
    """

    row_ptr: NDArray[np.int64]
    ids: NDArray[np.int32]
    n_ids: int

    @property
    def n_rows(self) -> int:
        """Number of lists."""
        return len(self.row_ptr) - 1

    def rows(self) -> NDArray[np.int64]:
        """Return the list that each entry is in, ``(n,) int64``."""
        return np.repeat(np.arange(self.n_rows, dtype=np.int64), np.diff(self.row_ptr))

    def positions(self) -> NDArray[np.int64]:
        """Return the place of each entry in its list, ``(n,) int64``."""
        return np.arange(len(self.ids), dtype=np.int64) - np.repeat(self.row_ptr[:-1], np.diff(self.row_ptr))


def _member(file: IO[bytes], size: int) -> NDArray[Any]:
    """Return the array of one npy stream of ``size`` bytes, header included."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"npy format {version} is not supported")
    if dtype.hasobject:
        raise ValueError("it holds Python objects (pickle), which are never loaded")
    count = 1
    for extent in shape:
        count *= extent
    if count * dtype.itemsize != size - file.tell():
        raise ValueError(f"its header promises {count} x {dtype}, the data are {size - file.tell()} bytes")
    array = np.frombuffer(file.read(), dtype=dtype)
    return array.reshape(shape, order="F" if fortran else "C")


class Npz:
    """The arrays of one npz file, read one by one.

    Raises:
        ValueError: from the constructor and from every method: the file is damaged, lacks an array, or an array is
            not what it should be.
    """

    def __init__(self, place: Place, file: str) -> None:
        self.name = f"{file} in {place}"
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(place.read(file)))
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise ValueError(message(f"{self.name} is not an npz file ({error})", mend=_MEND)) from error
        self._keys = {name.removesuffix(".npy") for name in self._archive.namelist()}

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def array(self, key: str, kinds: str = "iu", ndim: int = 1, length: int | None = None) -> NDArray[Any]:
        """Return one array after checking its dtype kind, number of dimensions and (where given) length."""
        if key not in self._keys:
            known = ", ".join(sorted(self._keys)) or "none"
            raise ValueError(message(f"{self.name} has no array {key!r}", f"the arrays {known}", mend=_MEND))
        info = self._archive.getinfo(f"{key}.npy")
        errors = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError, RuntimeError)
        try:
            if info.file_size > _MAX_MEMBER:
                raise ValueError(f"it claims {info.file_size} bytes")
            with self._archive.open(info) as stream:
                array = _member(stream, info.file_size)
        except errors as error:
            raise ValueError(message(f"array {key!r} of {self.name} cannot be read: {error}", mend=_MEND)) from error
        what = f"array {key!r} of {self.name}"
        if array.dtype.kind not in kinds or array.ndim != ndim:
            got = f"{array.ndim}-D {array.dtype}"
            raise ValueError(message(what, got, f"{ndim}-D of kind {' or '.join(kinds)}", _MEND))
        if length is not None and len(array) != length:
            raise ValueError(message(f"length of {what}", len(array), str(length), _MEND))
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(message(f"{what} holds NaN or infinity", mend=_MEND))
        return array

    def number(self, key: str) -> int:
        """Return a scalar that counts something."""
        value = int(self.array(key, ndim=0))
        if not 0 <= value <= _INT32_MAX:
            raise ValueError(message(f"{key} of {self.name}", value, "0 to 2**31 - 1", _MEND))
        return value

    def ids(self, key: str, upper: int | None = None, length: int | None = None) -> NDArray[np.int32]:
        """Return ids as ``(n,) int32`` after checking 0 <= id < ``upper``."""
        array = self.array(key, length=length)
        limit = _INT32_MAX if upper is None else upper
        if array.size and (int(array.min()) < 0 or int(array.max()) >= limit):
            got = f"{int(array.min())} to {int(array.max())}"
            raise ValueError(message(f"ids in {key!r} of {self.name}", got, f"0 <= id < {limit}", _MEND))
        return array.astype(np.int32)

    def ragged(self, indptr: str, indices: str, n_ids: int, n_rows: int | None = None) -> Ragged:
        """Return lists of ids after checking row pointers and ids."""
        row_ptr = self.array(indptr, length=None if n_rows is None else n_rows + 1).astype(np.int64)
        ids = self.ids(indices, n_ids)
        if not len(row_ptr) or row_ptr[0] != 0 or row_ptr[-1] != len(ids) or (np.diff(row_ptr) < 0).any():
            what = f"row pointers {indptr!r} of {self.name}"
            raise ValueError(message(what, expected=f"0 rising to {len(ids)}", mend=_MEND))
        return Ragged(row_ptr, ids, n_ids)
