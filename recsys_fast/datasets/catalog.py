"""Loading a data set by name."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from recsys_fast.datasets.dataset import Dataset
from recsys_fast.datasets.locate import Found, data_dirs, find
from recsys_fast.datasets.registry import ENTRIES, Entry
from recsys_fast.errors import message


class Description(NamedTuple):
    """What ``describe`` says of a data set.

    Attributes:
        name: the name that ``load`` takes.
        title: what it is.
        size: users x items, interactions.
        home: page from which its owner gives it out.
        licence: what its owner allows.
        found: folder or archive it is in on this machine, None where it is not there.
        downloadable: whether ``load`` can fetch it.
    """

    name: str
    title: str
    size: str
    home: str
    licence: str
    found: str | None
    downloadable: bool


def names() -> list[str]:
    """Return the names that ``load`` takes."""
    return list(ENTRIES)


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        close = difflib.get_close_matches(str(name), ENTRIES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else None
        raise ValueError(message("unknown data set", repr(name), "one of " + ", ".join(ENTRIES), hint))
    return ENTRIES[name]


def describe(name: str) -> Description:
    """Say what a data set is and whether it is on this machine; reads no data.

    Raises:
        ValueError: no data set has that name.
    """
    entry = _entry(name)
    found = find(name, entry)
    where = None if found is None else str(found.place)
    return Description(name, entry.title, entry.size, entry.home, entry.licence, where, entry.download is not None)


def _missing(name: str, entry: Entry) -> str:
    """Return the message that says how to get a data set."""
    forms = [*entry.published, *entry.prepared]
    files = ", or ".join(" with ".join(form) for form in forms)
    folder = data_dirs()[0] / name
    here = f"into {folder}" + ("" if len(data_dirs()) > 1 else ", or a folder that RECSYS_FAST_DATA names,")
    looked = ", ".join(str(folder) for folder in data_dirs())
    return message(f"data set {name!r} is not in {looked}", mend=f"get it from {entry.home} and put {here} {files}")


def load(name: str, *, download: bool = True, progress: bool | None = None) -> Dataset:
    """Load a data set by name.

    It is looked for in the folder that the environment variable RECSYS_FAST_DATA names, then in the cache
    (RECSYS_FAST_CACHE, else the platform's cache folder), as prepared npz files or in the form in which it is
    published, unpacked or as the published zip file. MovieLens 100K and 1M and the HetRec Last.fm set are fetched from
    GroupLens when they are not found (with pooch: ``recsys_fast[data]``); of the other sets an error tells which files
    to get, from where, and where to put them.

    Args:
        name: one of ``names()``.
        download: fetch the set where it is not found and its owner has a stable link.
        progress: progress bar while fetching; None shows one where standard error is a terminal.

    Returns:
        The data; which parts are set depends on it (see ``Dataset``):

        - given split (``train``, ``test``): gowalla, ml-1m-ncf (with ``negatives``), douban;
        - ratings, play counts, libraries (``interactions``): ml-100k (splits "u1", "ua"), ml-1m, ml-latest-small,
          hetrec-lastfm, jester, citeulike-t (splits "p1", "p10"), frappe (usage counts; the NFM samples are in
          extras as ``X_train``, ``y_train``, ``X_valid``, ...);
        - sequences (``sequences``, and as matrices last = test, second last = ``validation``, the rest = train):
          ml-1m-sasrec, beauty, toys, yelp, beauty-bert4rec; ml-100k, ml-1m and ml-latest-small have ``sequences`` too;
        - sessions (``sequences`` and ``test_sequences``, as matrices ``train`` and ``test``, hold different sessions as
          rows): diginetica, yoochoose-1-64.

    Raises:
        ValueError: no data set has that name, or a file is damaged or of another form.
        FileNotFoundError: the set is not on this machine and cannot be (or shall not be) fetched.
        ConnectionError: its home cannot be reached.
        ModuleNotFoundError: fetching needs pooch.
    """
    entry = _entry(name)
    found = find(name, entry)
    if found is None and download and entry.download is not None:
        from recsys_fast.datasets.download import fetch

        archive = fetch(entry.download, progress=progress)
        found = find(name, entry)
        if found is None:
            raise ValueError(message(f"{archive} does not hold {entry.published[0]}", mend=f"delete it; {entry.home}"))
    if found is None:
        raise FileNotFoundError(_missing(name, entry))
    return _read(name, found)


def _read(name: str, found: Found) -> Dataset:
    if found.prepared:
        from recsys_fast.datasets.prepared import READERS
    else:
        from recsys_fast.datasets.published import READERS
    return Dataset(name, str(found.place), **READERS[name](found.place))
