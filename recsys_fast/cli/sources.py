"""What ``--data`` names: a data set or a file, and its training and test parts."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path
from typing import Any, NamedTuple

from recsys_fast.cli.progress import visible, working
from recsys_fast.errors import message

_TEXT = (".csv", ".tsv", ".txt", ".dat")
_PARQUET = (".parquet", ".pq")
_PACKED = (".gz", ".bz2")

ROWS = ("layout", "n_features", "one_based")  # options of files of rows


class Parts(NamedTuple):
    """Data as a command wants it.

    Attributes:
        name: what to call it.
        train: ``Interactions`` to train on.
        test: ``Interactions`` to evaluate on, None with ``--split none``.
        negatives: the items the set's publisher ranks each test item against, or None.
    """

    name: str
    train: Any
    test: Any
    negatives: Any = None


def read(args: argparse.Namespace, user_ids: Any = None, item_ids: Any = None, unknown: str = "error") -> Parts:
    """Read and split ``args.data``.

    Args:
        args: the options of the data group.
        user_ids: ``IdMap`` that raw user ids of a file are to be read with, None to make one.
        item_ids: likewise for items.
        unknown: what to do with ids outside of such a map, "error" or "drop".

    Raises:
        ValueError: neither a data set nor a file, or a split that the data do not have.
        OSError: it cannot be read.
    """
    from recsys_fast import datasets

    name = str(args.data)
    if name in datasets.names():
        with working(f"reading {name}", args.quiet):
            return split_set(datasets.load(name, progress=visible(args.quiet)), args)
    check_file(name)
    data = read_file(Path(name), args, user_ids, item_ids, unknown)  # which shows a bar of its own
    return _split(name, _kept(data, args), args.split or "none", args)


def check_file(name: str) -> None:
    """Raise ValueError where ``--data`` is not a file; that it is no data set either is known."""
    from recsys_fast import datasets

    if not Path(name).is_file():
        close = difflib.get_close_matches(name, datasets.names(), n=1)
        hint = f"did you mean {close[0]}?" if close else None
        raise ValueError(message("--data", repr(name), "a file, or one of " + ", ".join(datasets.names()), hint))


def refuse(args: argparse.Namespace, options: tuple[str, ...], expected: str, mend: str | None = None) -> None:
    """Raise ValueError where one of these options was given, which make sense only for something else."""
    for option in options:
        if getattr(args, option) is not None and getattr(args, option) is not False:
            raise ValueError(message("--" + option.replace("_", "-"), "a value", f"none but for {expected}", mend))


def _kept(data: Any, args: argparse.Namespace) -> Any:
    """Return the entries with at least the value that was asked for."""
    return data if args.min_value is None else data.threshold(args.min_value)


def _column(text: str | None, default: Any) -> Any:
    if text is None:
        return default
    return int(text) if text.isdigit() else text


def read_file(
    path: Path, args: argparse.Namespace, user_ids: Any, item_ids: Any, unknown: str, kind: Any = None
) -> Any:
    """Read a file as its name ends.

    Args:
        path: the file.
        args: the options of the data group.
        user_ids, item_ids, unknown: see ``read``.
        kind: the class to read into, ``Sequences`` or (None) ``Interactions``.
    """
    from recsys_fast.data import Interactions
    from recsys_fast.data.renumber import renumber

    made = Interactions if kind is None else kind
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = (suffixes[:-1] if suffixes and suffixes[-1] in _PACKED else suffixes)[-1:] or [""]
    given = [name for name in ("user", "item", "value", "timestamp", "separator") if getattr(args, name) is not None]
    if suffix[0] == ".npz":
        if given or args.no_header:
            mend = "an npz file has no columns"
            raise ValueError(message("--" + (given or ["no-header"])[0], expected="a text or Parquet file", mend=mend))
        with working(f"reading {path.name}", args.quiet):
            data = Interactions.from_npz(path, duplicates=args.duplicates)
            return renumber(data, user_ids, item_ids, unknown=unknown, source=path.name)
    options: dict[str, Any] = {"timestamp": _column(args.timestamp, None)}
    if kind is None:
        options |= {"value": _column(args.value, None), "duplicates": args.duplicates}
    options |= {
        "progress": visible(args.quiet),
        "user_ids": user_ids,
        "item_ids": item_ids,
        "unknown": unknown,
    }
    if suffix[0] in _PARQUET:
        if args.separator is not None or args.no_header:
            raise ValueError(message("--separator and --no-header", expected="a text file"))
        options |= {"user": args.user or "user", "item": args.item or "item"}
        return made.from_parquet(path, **options)
    if suffix[0] not in _TEXT:
        expected = ", ".join((*_TEXT, *_PARQUET, ".npz")) + ", text also with " + " or ".join(_PACKED)
        raise ValueError(message("kind of file", repr(path.name), expected))
    separator = args.separator or ("\t" if suffix[0] == ".tsv" else ",")
    options |= {"user": _column(args.user, 0), "item": _column(args.item, 1)}
    separator = separator.replace("\\t", "\t")
    return made.from_csv(path, separator=separator, header=not args.no_header, **options)


def split_set(dataset: Any, args: argparse.Namespace) -> Parts:
    """Split a data set: as it is published where that is asked for or there is nothing else to do."""
    given = dataset.train is not None and dataset.test is not None
    how = args.split or ("given" if given else "random")
    if how in dataset.given_splits():
        train, test = dataset.given_split(how)
        return Parts(dataset.name, _kept(train, args), _kept(test, args))
    if how != "given":
        return _split(dataset.name, _kept(whole(dataset), args), how, args)
    if not given:
        expected = ", ".join(["none", "random", "leave-one-out", *dataset.given_splits()])
        raise ValueError(message(f"--split of {dataset.name}", "'given'", expected))
    if dataset.train.shape[0] != dataset.test.shape[0]:
        what = f"the test part of {dataset.name} holds other sessions than its training part"
        raise ValueError(
            message(
                what,
                mend="models of users need another split: --split none or random; sequence models take it as it is",
            )
        )
    return Parts(dataset.name, _kept(dataset.train, args), _kept(dataset.test, args), dataset.extras.get("negatives"))


def whole(dataset: Any) -> Any:
    """Return all interactions of a set in one matrix."""
    from recsys_fast.data import splits

    if dataset.interactions is not None:
        return dataset.interactions
    if dataset.train.shape != dataset.test.shape:
        return dataset.train
    return splits.join(dataset.train, dataset.test)


def _split(name: str, data: Any, how: str, args: argparse.Namespace) -> Parts:
    from recsys_fast.data import splits

    if how == "none":
        return Parts(name, data, None)
    if how == "random":
        return Parts(name, *splits.random(data, args.test_fraction, random_state=args.seed))
    if how == "leave-one-out":
        by = "random" if data.timestamps is None else "time"
        return Parts(name, *splits.leave_one_out(data, by=by, random_state=args.seed))
    raise ValueError(message("--split", repr(how), "none, given, random, leave-one-out, or a split that the set names"))
