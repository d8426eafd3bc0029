"""Where data sets lie on disk: the user's folder, the cache, plain folders and zip archives."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

from recsys_fast.datasets.registry import Entry
from recsys_fast.errors import message

_MAX_MEMBER = 8 << 30  # bytes; no published file is larger, a zip bomb is


class Place:
    """A folder, or a zip archive seen as one (members are found by file name, whatever folder they are in)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._members: dict[str, str] | None = None
        if path.is_file():
            try:
                with zipfile.ZipFile(path) as archive:
                    self._members = {name.rsplit("/", 1)[-1]: name for name in archive.namelist()}
            except (zipfile.BadZipFile, OSError) as error:
                what = f"{path} cannot be read as a zip archive ({error})"
                raise ValueError(message(what, mend="delete it and load again, or download it anew")) from error

    def has(self, file: str) -> bool:
        """Whether there is a file of that name."""
        return (self.path / file).is_file() if self._members is None else file in self._members

    def read(self, file: str) -> bytes:
        """Return the content of a file.

        Raises:
            ValueError: the archive is damaged, or the file is absurdly large.
        """
        if self._members is None:
            return (self.path / file).read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            info = archive.getinfo(self._members[file])
            if info.file_size > _MAX_MEMBER:
                raise ValueError(message(f"{file} in {self.path}", f"{info.file_size} bytes", f"at most {_MAX_MEMBER}"))
            try:
                return archive.read(info)
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
                mend = "delete the archive and load again, or download it anew"
                raise ValueError(message(f"{file} in {self.path} is damaged ({error})", mend=mend)) from error

    def stream(self, file: str) -> IO[bytes]:
        """Open a file for reading in pieces."""
        if self._members is None:
            return (self.path / file).open("rb")
        return io.BytesIO(self.read(file))

    def text(self, file: str, encoding: str = "utf-8") -> io.StringIO:
        """Return the content of a text file; bytes that are not ``encoding`` are replaced."""
        return io.StringIO(self.read(file).decode(encoding, errors="replace"))

    def __str__(self) -> str:
        return str(self.path)


class Found(NamedTuple):
    """A data set on disk: the place, and whether it holds the prepared form (else the published one)."""

    place: Place
    prepared: bool


def cache_dir() -> Path:
    """Return the folder downloads go to: RECSYS_FAST_CACHE, else the platform's cache folder."""
    given = os.environ.get("RECSYS_FAST_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "recsys_fast"


def data_dirs() -> list[Path]:
    """Return the folders that are searched: RECSYS_FAST_DATA (where set), then the cache.

    Raises:
        ValueError: RECSYS_FAST_DATA is set and is not a folder.
    """
    given = os.environ.get("RECSYS_FAST_DATA")
    if not given:
        return [cache_dir()]
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise ValueError(message("RECSYS_FAST_DATA", repr(given), "an existing folder", "create it or unset it"))
    return [folder, cache_dir()]


def _holds(place: Place, choices: tuple[tuple[str, ...], ...]) -> bool:
    return any(all(place.has(file) for file in files) for files in choices)


def find(name: str, entry: Entry) -> Found | None:
    """Return where the data set is, None where it is not; prepared files win over published ones.

    Published files are looked for in ``<folder>/<data set>`` and ``<folder>/<data set>.zip``, in the folder itself
    where its own name is that of the data set, and, if their names are unmistakable, in any searched folder.
    """
    names = dict.fromkeys((name, *entry.folders))
    for root in data_dirs():
        folders = [folder for alias in names if (folder := root / alias).is_dir()]
        for folder in (root, *folders):
            if _holds(Place(folder), entry.prepared):
                return Found(Place(folder), prepared=True)
        archives = [file for alias in names if (file := root / f"{alias}.zip").is_file()]
        own = [root] if root.is_dir() and (entry.loose or root.name in names) else []
        for path in (*own, *folders, *archives):
            if _holds(place := Place(path), entry.published):
                return Found(place, prepared=False)
    return None
