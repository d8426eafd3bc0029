"""Click logs to sessions, against the rules written out line by line."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest

import recsys_fast as rf
from recsys_fast import datasets
from recsys_fast.datasets import clicks

Log = list[tuple[int, int, int, int]]  # session, item, seconds, place


def plain(log: Log, window: int) -> tuple[list[list[int]], list[list[int]]]:
    """Apply the rules in plain Python; items get numbers as the training part first shows them."""
    sessions: dict[int, list[tuple[int, int, int]]] = {}
    dates: dict[int, int] = {}
    for line, (session, item, date, place) in enumerate(log):
        sessions.setdefault(session, []).append((place, line, item))
        dates[session] = date
    lists = {s: [item for _, _, item in sorted(found)] for s, found in sessions.items() if len(found) > 1}
    counts: dict[int, int] = {}
    for items in lists.values():
        for item in items:
            counts[item] = counts.get(item, 0) + 1
    lists = {s: [i for i in items if counts[i] >= 5] for s, items in lists.items()}
    lists = {s: items for s, items in lists.items() if len(items) > 1}
    cut = max(dates[s] for s in lists) - window
    ordered = sorted(lists, key=lambda s: dates[s])  # sorted() keeps the order of first appearance among equals
    number: dict[int, int] = {}
    train = [[number.setdefault(item, len(number)) for item in lists[s]] for s in ordered if dates[s] < cut]
    test = [[number[item] for item in lists[s] if item in number] for s in ordered if dates[s] > cut]
    return train, [items for items in test if len(items) > 1]


def make_log(seed: int, n: int, days: int) -> Log:
    rng = np.random.default_rng(seed)
    log: Log = []
    for session in rng.permutation(n).tolist():
        day = int(rng.integers(days)) * 86_400
        for place in rng.permutation(int(rng.integers(1, 7))).tolist():
            log.append((session + 10, int(rng.integers(25) ** 2 // 20), day, place))
    return log


def lists_of(data: rf.Sequences | None) -> list[list[int]]:
    assert data is not None
    return [row.tolist() for row in data]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("header", ["", "sessionId;userId;itemId;timeframe;eventdate\n"])
def test_diginetica(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int, header: str) -> None:
    monkeypatch.setattr(clicks, "_BLOCK", 997)  # several blocks of lines
    log = make_log(seed, 150, 40)
    start = datetime.date(2016, 3, 20)
    lines = [
        f"{session};NA;{item};{place};{start + datetime.timedelta(seconds=date)}\n"
        for session, item, date, place in log
    ]
    (folder / "train-item-views.csv").write_text(header + "".join(lines))
    data = datasets.load("diginetica")
    train, test = plain(log, 7 * 86_400)
    assert lists_of(data.sequences) == train
    assert lists_of(data.test_sequences) == test
    assert len(train) > 20
    assert len(test) > 3
    assert data.train is not None
    assert data.test is not None
    assert data.train.shape == (len(train), max(map(max, train)) + 1)
    assert data.test.n_items == data.train.n_items


def test_yoochoose_keeps_the_last_64th_of_the_samples(folder: Path) -> None:
    log = [(s, i, d + 3_600 + n % 60, n) for n, (s, i, d, _) in enumerate(make_log(1, 900, 12))]
    moments = [datetime.datetime(2014, 4, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=line[2]) for line in log]
    rows = [f"{s},{m:%Y-%m-%dT%H:%M:%S}.277Z,{i},0\n" for (s, i, _, _), m in zip(log, moments, strict=True)]
    (folder / "yoochoose-clicks.dat").write_text("".join(rows))
    data = datasets.load("yoochoose-1-64")
    train, test = plain(log, 86_400)
    owners = [at for at, items in enumerate(train) for _ in items[1:]]  # session of each sample
    train = train[owners[-(len(owners) // 64)] :]
    orig = sorted({item for items in (*train, *test) for item in items})
    assert data.extras["item_orig"].tolist() == [item + 1 for item in orig]
    dense = {item: place for place, item in enumerate(orig)}
    assert len(train) > 5
    for part, expected in ((data.sequences, train), (data.test_sequences, test)):
        found = lists_of(part)
        assert found == [[dense[item] for item in items] for items in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1;NA;5;0;2016-05-09\n2;NA;5\n", r"line 2 of train-item-views.csv .*: got 3 columns, expected 5"),
        ("1;NA;five;0;2016-05-09\n", r"lines 1 to 1 of train-item-views.csv .*item"),
        ("1;NA;5;0;yesterday\n", r"lines 1 to 1 of train-item-views.csv .*date"),
        ("sessionId;userId;itemId;timeframe;eventdate\n", r"train-item-views.csv in .* is empty"),
        ("1;NA;5;0;2016-05-09\n1;NA;6;0;2016-05-09\n", r"no session has two clicks on items clicked 5 times"),
        ("1;NA;5;0;2016-05-09\n" * 6, r"no session is older than 7 days before the last one"),
    ],
)
def test_broken_logs(folder: Path, text: str, expected: str) -> None:
    (folder / "train-item-views.csv").write_text(text)
    with pytest.raises(ValueError, match=expected):
        datasets.load("diginetica")
