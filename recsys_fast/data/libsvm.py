"""Sparse rows with targets from libsvm and libffm text files, a chunk of lines at a time."""

from __future__ import annotations

import bz2
import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import message
from recsys_fast.ops.csr import Csr

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
_CHUNK = 1 << 22
_SPACE = re.compile(rb"[ \t]+")
_MOST = 2**31 - 2


class LabelledRows(NamedTuple):
    """Rows as a text file holds them.

    Attributes:
        matrix: ``(n_rows, n_features)``, rows in the file's order, entries in the row's. ``FM.fit`` takes it as it is.
        targets: ``(n_rows,) float32``, the number at the start of each line.
        fields: ``(nnz,) int32`` field of each entry, libffm only; ``FFM.fit`` takes it as it is.
        groups: ``(n_rows,) int64``, the ``qid`` of each line of a libsvm file that has them.
    """

    matrix: Csr
    targets: NDArray[np.float32]
    fields: NDArray[np.int32] | None
    groups: NDArray[np.int64] | None


def read_libsvm(
    path: str | Path, *, n_features: int | None = None, one_based: bool = False, chunk_bytes: int = _CHUNK
) -> LabelledRows:
    """Read a file of lines ``target index:value index:value ...``, optionally with ``qid:group`` behind the target.

    Text behind a ``#`` and empty lines are skipped. Files that end in .gz or .bz2 are unpacked on the way.

    Args:
        path: the file.
        n_features: number of columns; None for the largest index and one.
        one_based: whether indices begin with 1, as most published libsvm files have them; they come out from 0 on.
        chunk_bytes: text that is held at a time.

    Returns:
        The rows.

    Raises:
        ValueError: a line of another form, a number that is not finite, an index out of range; with the line's number.
        OSError: the file cannot be read.
    """
    chunks = iter_libsvm(path, n_features=n_features, one_based=one_based, chunk_bytes=chunk_bytes)
    return _joined(list(chunks), n_features, False)


def read_libffm(path: str | Path, *, n_features: int | None = None, chunk_bytes: int = _CHUNK) -> LabelledRows:
    """Read lines ``target field:index:value ...``, fields and indices from 0 on; everything else as ``read_libsvm``."""
    return _joined(list(iter_libffm(path, n_features=n_features, chunk_bytes=chunk_bytes)), n_features, True)


def iter_libsvm(
    path: str | Path, *, n_features: int | None = None, one_based: bool = False, chunk_bytes: int = _CHUNK
) -> Iterator[LabelledRows]:
    """Yield the rows of a file of ``read_libsvm`` in parts, such as for ``FM.partial_fit`` on more than memory holds.

    Parts are as wide as ``n_features`` says, which training in parts needs, or as their own largest index.
    """
    return _parts(Path(path), n_features, int(one_based), False, chunk_bytes)


def iter_libffm(
    path: str | Path, *, n_features: int | None = None, chunk_bytes: int = _CHUNK
) -> Iterator[LabelledRows]:
    """Yield the rows of a file of ``read_libffm`` in parts; see ``iter_libsvm``."""
    return _parts(Path(path), n_features, 0, True, chunk_bytes)


def layout_of(path: str | Path) -> str:
    """Return "libsvm" or "libffm", as the first line with an entry is written; "libsvm" where there is none.

    Raises:
        ValueError: it is written in neither way.
        OSError: the file cannot be read.
    """
    path = Path(path)
    with _OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_CHUNK), b""), 1):
            head, *entries = line.partition(b"#")[0].split() or [b""]
            first = next((entry for entry in entries if not entry.startswith(b"qid:")), None)
            layout = {None: "", 1: "libsvm", 2: "libffm"}.get(None if first is None else first.count(b":"))
            if layout is None or (head and not _is_number(head)):
                got = repr(line.strip().decode("utf-8", "replace")[:40])
                expected = "libsvm (target index:value ...) or libffm (target field:index:value ...)"
                raise ValueError(message(f"line {number} of {path.name}", got, expected))
            if layout:
                return layout
    return "libsvm"


def _parts(path: Path, n_features: int | None, base: int, fielded: bool, chunk_bytes: int) -> Iterator[LabelledRows]:
    if n_features is not None and not 0 <= n_features <= _MOST:
        raise ValueError(message("n_features", n_features, f"0 to {_MOST}"))
    if chunk_bytes < 1:
        raise ValueError(message("chunk_bytes", chunk_bytes, "at least 1"))
    opener = _OPENERS.get(path.suffix.lower(), open)
    line = 1
    with opener(path, "rb") as file:
        for text in _whole_lines(file, chunk_bytes):
            yield _parsed(text, path.name, line, n_features, base, fielded)
            line += text.count(b"\n")


def _whole_lines(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the file in pieces of about ``size`` bytes that end with a line; the last one always with a line end."""
    rest: list[bytes] = []
    while block := file.read(size):
        cut = block.rfind(b"\n") + 1
        if cut == 0:
            rest.append(block)
            continue
        yield b"".join([*rest, block[:cut]])
        rest = [block[cut:]] if cut < len(block) else []
    if rest:
        yield b"".join([*rest, b"\n"])


def _parsed(text: bytes, name: str, line: int, n_features: int | None, base: int, fielded: bool) -> LabelledRows:
    """Return the rows of whole lines; all numbers are read at once, and a slow second look finds what is wrong."""
    clean = re.sub(rb"#[^\n]*", b"", text) if b"#" in text else text
    lines = [_SPACE.sub(b" ", one.strip()) for one in clean.split(b"\n")]
    numbered = [(line + i, one) for i, one in enumerate(lines) if one]
    rows = [one for _, one in numbered]
    grouped = bool(rows) and b" qid:" in rows[0] and not fielded
    colons = np.array([one.count(b":") for one in rows], np.int64) - grouped
    spaces = np.array([one.count(b" ") for one in rows], np.int64) - grouped
    per_entry = 2 if fielded else 1
    joined = b" ".join(rows).replace(b" qid:", b" ") if grouped else b" ".join(rows)
    numbers = _numbers(joined.replace(b":", b" "))
    width = 1 + per_entry
    expected = (1 + grouped) * len(rows) + width * int(spaces.sum())
    if numbers is None or len(numbers) != expected or (colons != per_entry * spaces).any():
        raise _first_wrong(numbered, name, fielded, grouped)
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(1 + grouped + width * spaces, out=starts[1:])
    row_ptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(spaces, out=row_ptr[1:])
    heads = starts[:-1]
    body = np.ones(len(numbers), bool)
    body[heads] = False
    if grouped:
        body[heads + 1] = False
    entries = numbers[body].reshape(-1, width)
    targets, groups = numbers[heads], numbers[heads + 1] if grouped else None
    index, values = entries[:, -2] - base, entries[:, -1]
    fields = entries[:, 0] if fielded else None
    high = _MOST if n_features is None else n_features - 1
    if not (
        _whole(index, 0, high) and (fields is None or _whole(fields, 0, 2**24)) and _finite(values) and _finite(targets)
    ) or (groups is not None and not _whole(groups, -(2**53), 2**53)):
        raise _first_bad(numbered, row_ptr, index, fields, values, targets, groups, name, base, high)
    n_cols = n_features if n_features is not None else int(index.max(initial=-1)) + 1
    csr = Csr(row_ptr, index.astype(np.int32), values.astype(np.float32), len(rows), n_cols)
    field_ids = None if fields is None else fields.astype(np.int32)
    return LabelledRows(csr, targets.astype(np.float32), field_ids, None if groups is None else groups.astype(np.int64))


def _numbers(text: bytes) -> NDArray[np.float64] | None:
    """Return all numbers of a text, None where one is no number."""
    try:
        return np.array(text.split(), np.float64) if text else np.empty(0)
    except ValueError:
        return None


def _whole(values: NDArray[np.float64], low: int, high: int) -> bool:
    return not len(values) or bool(((values >= low) & (values <= high) & (values == np.floor(values))).all())


def _finite(values: NDArray[np.float64]) -> bool:
    return bool((np.abs(values) <= np.finfo(np.float32).max).all())


def _first_wrong(numbered: list[tuple[int, bytes]], name: str, fielded: bool, grouped: bool) -> ValueError:
    """Return the error about the first line that has another form."""
    form = "field:index:value" if fielded else "index:value"
    for number, text in numbered:
        head, *entries = text.split(b" ")
        has_group = bool(entries) and entries[0].startswith(b"qid:") and not fielded
        if has_group != grouped:
            got = "a line with qid after lines without" if has_group else "no qid, unlike the first line"
            return ValueError(message(f"line {number} of {name}", got, "all lines alike"))
        if not _is_number(head):
            return ValueError(
                message(f"line {number} of {name}", repr(head.decode("utf-8", "replace"))[:80], "a target")
            )
        if has_group and not _is_number(entries.pop(0)[4:]):
            return ValueError(message(f"line {number} of {name}", "qid without a number", "qid:number"))
        for entry in entries:
            parts = entry.split(b":")
            if len(parts) != (3 if fielded else 2) or not all(map(_is_number, parts)):
                return ValueError(
                    message(f"line {number} of {name}", repr(entry.decode("utf-8", "replace"))[:80], form)
                )
    return ValueError(message(f"{name} has lines of another form", expected=form))


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _first_bad(
    numbered: list[tuple[int, bytes]], row_ptr: NDArray[np.int64], index: NDArray[np.float64],
    fields: NDArray[np.float64] | None, values: NDArray[np.float64], targets: NDArray[np.float64],
    groups: NDArray[np.float64] | None, name: str, base: int, high: int,
) -> ValueError:  # fmt: skip
    """Return the error about the first line that holds a number out of range."""
    for row, (number, _) in enumerate(numbered):
        where = f"line {number} of {name}"
        if not _finite(targets[row : row + 1]):
            return ValueError(message(f"target in {where}", targets[row], "a finite number"))
        if groups is not None and not _whole(groups[row : row + 1], -(2**53), 2**53):
            return ValueError(message(f"qid in {where}", groups[row], "a whole number"))
        for e in range(row_ptr[row], row_ptr[row + 1]):
            if not _whole(index[e : e + 1], 0, high):
                mend = "pass one_based=False" if base and index[e] == -1 else None
                expected = f"a whole number, {base} to {high + base}"
                return ValueError(message(f"index in {where}", f"{index[e] + base:g}", expected, mend))
            if fields is not None and not _whole(fields[e : e + 1], 0, 2**24):
                return ValueError(message(f"field in {where}", f"{fields[e]:g}", f"a whole number, 0 to {2**24}"))
            if not _finite(values[e : e + 1]):
                return ValueError(message(f"value in {where}", values[e], "a finite float32"))
    return ValueError(message(f"{name} holds a number out of range"))


def _joined(parts: list[LabelledRows], n_features: int | None, fielded: bool) -> LabelledRows:
    """Return the rows of all parts as one."""
    kinds = {part.groups is None for part in parts if part.matrix.n_rows}
    if len(kinds) > 1:
        raise ValueError(message("qid", "in some parts of the file only", "in all lines, or in none"))
    matrices = [part.matrix for part in parts]
    row_ptr, nnz = [np.zeros(1, np.int64)], 0
    for matrix in matrices:
        row_ptr.append(matrix.row_ptr[1:] + nnz)
        nnz += matrix.nnz
    n_cols = max((matrix.n_cols for matrix in matrices), default=n_features or 0)
    values = [np.empty(0, np.float32), *(m.values for m in matrices if m.values is not None)]
    ids = [np.empty(0, np.int32), *(matrix.col_idx for matrix in matrices)]
    n_rows = sum(matrix.n_rows for matrix in matrices)
    csr = Csr(np.concatenate(row_ptr), np.concatenate(ids), np.concatenate(values), n_rows, n_cols)
    targets = np.concatenate([np.empty(0, np.float32), *(part.targets for part in parts)])
    fields = [np.empty(0, np.int32), *(part.fields for part in parts if part.fields is not None)]
    groups = [part.groups for part in parts if part.groups is not None]
    return LabelledRows(
        csr, targets, np.concatenate(fields) if fielded else None, np.concatenate(groups) if groups else None
    )
