"""Pre-trained vectors of items or words: read from the usual files, checked, and brought into a model's order."""

from __future__ import annotations

import mmap
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.data.id_map import IdMap
from recsys_fast.errors import ModelFormatError, message

F32 = NDArray[np.float32]
_MOST_COLUMNS, _LONGEST_TOKEN = 65535, 1 << 16


class Aligned(NamedTuple):
    """Vectors in a model's order.

    Attributes:
        values: ``(n, d) float32``; row i belongs to item or token i.
        absent: ``(k,) int32`` rows that there was no vector for.
    """

    values: F32
    absent: NDArray[np.int32]


class Vectors:
    """Named vectors, such as those of words or items that another program trained.

    Args:
        names: ``(n,)`` distinct tokens (text) or ids (text or integers).
        values: ``(n, d)`` finite numbers.

    Attributes:
        names: as a list.
        values: ``(n, d) float32``, read-only.

    Raises:
        TypeError: names that are neither text nor integers.
        ValueError: a name twice, a number of vectors other than that of names, or one that is not finite.

    Examples:
        >>> given = Vectors(["red", "hat"], [[1, 2], [3, 4]])
        >>> given.align(["hat", "shoe"]).values
        array([[3., 4.],
               [0., 0.]], dtype=float32)
        >>> given.align(["hat", "shoe"]).absent
        array([1], dtype=int32)
    """

    names: list[Any]
    values: F32

    def __init__(self, names: Iterable[Any], values: ArrayLike) -> None:
        self.names = [name.item() if isinstance(name, np.generic) else name for name in names]
        bad = next((name for name in self.names if type(name) not in (str, int)), None)
        if bad is not None:
            raise TypeError(message("a name", repr(bad)[:80], "text or an integer"))
        table = np.asarray(values)
        if table.ndim != 2 or len(table) != len(self.names) or not 1 <= table.shape[-1] <= _MOST_COLUMNS:
            raise ValueError(message("shape of values", table.shape, f"({len(self.names)}, d), one row per name"))
        if table.dtype.kind not in "fiu":
            raise TypeError(message("dtype of values", table.dtype, "numbers"))
        with np.errstate(over="ignore"):
            table = np.array(table, np.float32)
        wrong = np.flatnonzero(~np.isfinite(table).all(axis=1))
        if len(wrong):
            raise ValueError(
                message(f"vector of {self.names[int(wrong[0])]!r}", "inf or NaN", "finite float32 numbers")
            )
        self._place = {name: place for place, name in enumerate(self.names)}
        if len(self._place) != len(self.names):
            twice = next(name for place, name in enumerate(self.names) if self._place[name] != place)
            raise ValueError(message(f"{twice!r} has two vectors", expected="one per name", mend="drop duplicates"))
        table.flags.writeable = False
        self.values = table

    def __len__(self) -> int:
        return len(self.names)

    @property
    def d(self) -> int:
        """Length of a vector."""
        return int(self.values.shape[1])

    def __getitem__(self, name: Any) -> F32:
        """Return the vector of a name; KeyError where there is none."""
        row: F32 = self.values[self._place[name]]
        return row

    def align(
        self, names: IdMap | Iterable[Any], *, absent: str = "zeros", d: int | None = None, seed: int = 0
    ) -> Aligned:
        """Return vectors in the order of a model's items or tokens: what ``init=`` takes.

        Args:
            names: ``Interactions.item_ids``, ``TextEncoder.tokens_``, or names in order.
            absent: of names without a vector: "zeros"; "normal": random, with mean and deviation of each column of
                those that there are, from the seed; "error".
            d: expected length of a vector, None for any.
            seed: of "normal".

        Raises:
            ValueError: another length than ``d``, no name has a vector, or ``absent="error"`` and one has none.
        """
        if absent not in ("zeros", "normal", "error"):
            raise ValueError(message("absent", repr(absent)[:80], "one of zeros, normal, error"))
        if d is not None and d != self.d:
            raise ValueError(message("length of a vector", self.d, str(d), f"use n_factors={self.d}"))
        wanted = names.ids.tolist() if isinstance(names, IdMap) else list(names)
        place = np.array([self._place.get(name, -1) for name in wanted], np.int64)
        gone = np.flatnonzero(place < 0)
        if len(gone) and len(gone) == len(place):
            mend = "names have to be of one kind: text here and numbers there never match"
            raise ValueError(message(f"none of {len(place)} names has a vector, such as {wanted[0]!r}", mend=mend))
        if len(gone) and absent == "error":
            raise ValueError(message(f"{len(gone)} names have no vector, such as {wanted[int(gone[0])]!r}"))
        out = np.zeros((len(wanted), self.d), np.float32)
        there = place >= 0
        out[there] = self.values[place[there]]
        if absent == "normal" and len(gone):
            generator = np.random.Generator(np.random.Philox(seed))
            noise = generator.standard_normal((len(gone), self.d), np.float32)
            out[gone] = out[there].mean(axis=0) + noise * out[there].std(axis=0)
        return Aligned(out, gone.astype(np.int32))

    # ---- files

    @classmethod
    def from_text(cls, path: str | os.PathLike[str], *, limit: int | None = None) -> Vectors:
        """Read a text file of word2vec (first line: number and length) or GloVe (no such line).

        A line is a token and its numbers, apart by spaces; the token is everything before the last d fields.

        Args:
            path: the file, UTF-8.
            limit: the first so many vectors only; None for all.

        Raises:
            ModelFormatError: a line of another length or something that is no number, with its line number.
        """
        names: list[str] = []
        rows: list[F32] = []
        d = 0
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for number, line in enumerate(file, 1):
                fields = line.rstrip("\n\r ").split(" ")
                if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                    d = int(fields[1])
                    continue
                if limit is not None and len(rows) >= limit:
                    break
                d = d or len(fields) - 1
                if not 1 <= d <= _MOST_COLUMNS or len(fields) <= d:
                    raise _bad(path, f"line {number}", f"{len(fields)} fields", f"a token and {d or 'some'} numbers")
                try:
                    rows.append(np.array(fields[-d:], np.float32))
                except ValueError:
                    raise _bad(path, f"line {number}", line[:60].rstrip(), f"a token and {d} numbers") from None
                names.append(" ".join(fields[:-d]))
        if not rows:
            raise _bad(path, "vectors", "none", "one line per token")
        return _made(path, names, np.stack(rows))

    @classmethod
    def from_binary(cls, path: str | os.PathLike[str], *, limit: int | None = None) -> Vectors:
        """Read a binary file of word2vec: a line with number and length, then tokens with little-endian float32.

        Raises:
            ModelFormatError: a header that is none, or a file that ends too early.
        """
        with open(path, "rb") as file:
            header = file.readline(64).split()
            if len(header) != 2 or not all(part.isdigit() for part in header):
                raise _bad(path, "first line", header, "number and length of the vectors")
            n, d = int(header[0]), int(header[1])
            size = os.fstat(file.fileno()).st_size
            at = file.tell()
            if not 1 <= d <= _MOST_COLUMNS or not n >= 1 or n * (4 * d + 1) > size - at:
                raise _bad(path, "size", f"{size} bytes", f"{n} vectors of {d} numbers")
            n = n if limit is None else min(n, limit)
            values, names = np.empty((n, d), np.float32), []
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                for row in range(n):
                    end = data.find(b" ", at, at + _LONGEST_TOKEN)
                    if end < 0 or end + 1 + 4 * d > size:
                        raise _bad(path, f"vector {row}", "the end of the file", f"{n} vectors")
                    names.append(data[at:end].lstrip(b"\n").decode("utf-8", "surrogateescape"))
                    at = end + 1 + 4 * d
                    values[row] = np.frombuffer(data[end + 1 : at], "<f4")
        return _made(path, names, values)

    @classmethod
    def from_npz(cls, path: str | os.PathLike[str]) -> Vectors:
        """Read what ``to_npz`` wrote, or any npz file with ``names`` (text or integers) and ``values`` (n, d).

        Raises:
            ModelFormatError: an array is missing, or holds Python objects, which would have to be executed.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                names, values = file["names"], file["values"]
        except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
            raise _bad(path, f"arrays ({error})", None, "names and values") from None
        if names.ndim != 1:
            raise _bad(path, "dimensions of names", names.ndim, "1")
        return _made(path, names.tolist(), values)

    def to_npz(self, path: str | Path) -> None:
        """Write names and values as arrays of plain types.

        Raises:
            TypeError: names of both kinds.
        """
        if len({type(name) for name in self.names}) > 1:
            raise TypeError(message("names", "text and integers", "one kind"))
        np.savez(path, names=np.array(self.names), values=self.values)

    def __repr__(self) -> str:
        return f"Vectors({len(self)} names, {self.d} numbers each)"


def _bad(path: str | os.PathLike[str], what: str, got: Any, expected: str) -> ModelFormatError:
    return ModelFormatError(message(f"{os.fspath(path)}: {what}", got, expected))


def _made(path: str | os.PathLike[str], names: list[Any], values: NDArray[Any]) -> Vectors:
    try:
        return Vectors(names, values)
    except (ValueError, TypeError) as error:
        raise ModelFormatError(f"{os.fspath(path)}: {error}") from None


def start_values(init: Any, names: IdMap | Iterable[Any], d: int, width: str) -> NDArray[Any]:
    """Return what a parameter ``init`` means, in the order of a model's items or tokens; its shape is not checked.

    Args:
        init: an array, ``Aligned``, or ``Vectors``, which are matched to ``names``; names without a vector get a random
            one of alike columns.
        names: of the items or tokens, in order.
        d: length that ``Vectors`` must have.
        width: the parameter that says so.

    Raises:
        ValueError: ``Vectors`` of another length, or of none of the names.
    """
    if isinstance(init, Aligned):
        return init.values
    if not isinstance(init, Vectors):
        return np.asarray(init)
    if init.d != d:
        raise ValueError(message("length of a vector of init", init.d, f"{width}, {d}"))
    return init.align(names, absent="normal").values
