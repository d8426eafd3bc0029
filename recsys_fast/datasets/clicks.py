"""Click logs of the session sets to sessions, by the rules of SR-GNN (Wu et al. 2019).

Sessions of one click go; then items with fewer than 5 clicks go, and the sessions that this leaves with one click.
A session's date is that of its last line. Sessions later than the window before the latest date are the test part;
items are numbered as the training part (in time order) first shows them, and test clicks on other items go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.datasets import build, text
from recsys_fast.datasets.locate import Place
from recsys_fast.datasets.npz import Ragged
from recsys_fast.errors import message

_BLOCK = 1 << 24  # bytes of text parsed at a time
_DAY = 86_400  # seconds
_MIN_CLICKS = 5


class Clicks(NamedTuple):
    """A click log in file order, all ``(n,) int64``; ``date`` in seconds, ``place`` orders a session's clicks."""

    session: NDArray[np.int64]
    item: NDArray[np.int64]
    date: NDArray[np.int64]
    place: NDArray[np.int64]


def _lines(place: Place, file: str) -> Iterator[list[bytes]]:
    """Yield the file's lines in blocks."""
    with place.stream(file) as stream:
        while block := stream.readlines(_BLOCK):
            yield block


def _read(place: Place, file: str, separator: bytes, columns: dict[str, int], unit: str) -> Clicks:
    """Read a log whose (optional) header is dropped.

    Args:
        columns: place in the line of "session", "item", "date" and, where clicks of a session are not in order,
            "place"; "width" is the number of columns.
        unit: of dates: "D" for 2016-05-09, "s" for 2014-04-07T10:51:09.277Z.
    """
    wanted = [name for name in ("session", "item", "date", "place") if name in columns]
    chunks: dict[str, list[NDArray[np.int64]]] = {name: [] for name in wanted}
    number, width = 1, columns["width"]
    for lines in _lines(place, file):
        skip = int(number == 1 and not lines[0][:1].isdigit())
        rows = [line.rstrip(b"\r\n").split(separator) for line in lines[skip:]]
        for name in wanted:
            try:
                cells = np.array([row[columns[name]] for row in rows], dtype=bytes)
                chunks[name].append(_dates(cells, unit) if name == "date" else cells.astype(np.int64))
            except (ValueError, IndexError, OverflowError) as error:
                span = f"{number} to {number + len(lines) - 1}"
                bad = next((at for at, row in enumerate(rows) if len(row) < width), None)
                if bad is not None:
                    text.fail(place, file, number + skip + bad, f"{len(rows[bad])} columns", f"{width}")
                raise ValueError(message(f"lines {span} of {file} in {place}, {name}: {error}")) from error
        number += len(lines)
    arrays = {name: np.concatenate(parts) if parts else np.empty(0, np.int64) for name, parts in chunks.items()}
    if not len(arrays["session"]):
        raise ValueError(message(f"{file} in {place} is empty", mend="download it anew"))
    arrays.setdefault("place", np.arange(len(arrays["session"]), dtype=np.int64))
    return Clicks(**arrays)


def _dates(cells: NDArray[Any], unit: str) -> NDArray[np.int64]:
    """Return seconds since 1970 of ISO dates or times (fractions of a second cut off)."""
    moments = cells.astype("S10" if unit == "D" else "S19").astype(str).astype(f"datetime64[{unit}]")
    return moments.astype("datetime64[s]").astype(np.int64)


def split_sessions(clicks: Clicks, window: int) -> tuple[Ragged, Ragged]:
    """Return training and test sessions in time order; item numbers are those of the training part.

    Args:
        clicks: the log.
        window: seconds before the latest date that are the test part.
    """
    _, first, owner = np.unique(clicks.session, return_index=True, return_inverse=True)
    owner = np.argsort(np.argsort(first))[owner.reshape(-1)]  # sessions numbered as they first appear
    n = len(first)
    date = np.zeros(n, np.int64)
    date[owner] = clicks.date  # the last line of a session stays
    order = np.lexsort((clicks.place, owner))
    owner, item = owner[order], clicks.item[order]
    keep = np.bincount(owner, minlength=n)[owner] > 1
    owner, item = owner[keep], item[keep]
    _, codes, clicked = np.unique(item, return_inverse=True, return_counts=True)
    codes = codes.reshape(-1)
    keep = clicked[codes] >= _MIN_CLICKS
    owner, codes = owner[keep], codes[keep]
    lengths = np.bincount(owner, minlength=n)
    alive = lengths > 1
    if not alive.any():
        what = f"no session has two clicks on items clicked {_MIN_CLICKS} times or more"
        raise ValueError(message(what, mend="the log is too short, or is not the whole file"))
    cut = date[alive].max() - window
    place = np.empty(n, np.int64)
    place[np.argsort(date, kind="stable")] = np.arange(n)  # sessions by date, ties as they first appear
    by_time = np.argsort(place[owner], kind="stable")
    owner, codes = owner[by_time], codes[by_time]
    in_train, in_test = (alive & (date < cut))[owner], (alive & (date > cut))[owner]
    if not in_train.any():
        raise ValueError(message(f"no session is older than {window // _DAY} days before the last one"))
    shown, at = np.unique(codes[in_train], return_index=True)
    number = np.full(len(clicked), -1, np.int64)
    number[shown[np.argsort(at)]] = np.arange(len(shown))
    known = in_test & (number[codes] >= 0)
    train, test = (_lists(owner[part], number[codes[part]], len(shown)) for part in (in_train, known))
    return train, test


def _lists(owner: NDArray[np.int64], items: NDArray[np.int64], n_items: int) -> Ragged:
    """Return the sessions of two clicks and more, in the order in which they stand."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    lengths = np.diff(np.append(starts, len(owner)))
    keep = lengths > 1
    row_ptr = np.concatenate([[0], np.cumsum(lengths[keep])]).astype(np.int64)
    return Ragged(row_ptr, items[np.repeat(keep, lengths)].astype(np.int32), n_items)


def diginetica(place: Place) -> dict[str, Any]:
    """Read train-item-views.csv: session;user;item;timeframe;date."""
    columns = {"session": 0, "item": 2, "place": 3, "date": 4, "width": 5}
    return build.sessions(*split_sessions(_read(place, "train-item-views.csv", b";", columns, "D"), 7 * _DAY))


def yoochoose(place: Place) -> dict[str, Any]:
    """Read yoochoose-clicks.dat: session,time,item,category; keep the sessions of the last 64th of training samples."""
    columns = {"session": 0, "date": 1, "item": 2, "width": 4}
    train, test = split_sessions(_read(place, "yoochoose-clicks.dat", b",", columns, "s"), _DAY)
    samples = np.cumsum(np.diff(train.row_ptr) - 1)
    start = int(np.searchsorted(samples, samples[-1] - max(samples[-1] // 64, 1), side="right"))
    kept = train.ids[train.row_ptr[start] :]
    used = np.unique(np.concatenate([kept, test.ids]))
    lists = (
        Ragged(row_ptr, np.searchsorted(used, ids).astype(np.int32), len(used))
        for row_ptr, ids in ((train.row_ptr[start:] - train.row_ptr[start], kept), (test.row_ptr, test.ids))
    )
    parts = build.sessions(*lists)
    parts["extras"]["item_orig"] = used.astype(np.int64) + 1
    return parts
