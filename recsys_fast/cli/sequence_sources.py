"""What ``--data`` names, in time order, for sequence models: histories, and what follows them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from recsys_fast.cli import sources
from recsys_fast.cli.progress import visible, working
from recsys_fast.errors import message


class SequenceData(NamedTuple):
    """Data as a command wants it for a sequence model.

    Attributes:
        name: what to call it.
        train: ``Sequences`` to train on.
        history: what the model may know when it is tested; None for what it was trained on.
        test: what follows each row of ``history``, None with ``--split none``.
        negatives: the items the set's publisher ranks each test item against, or None.
    """

    name: str
    train: Any
    history: Any = None
    test: Any = None
    negatives: Any = None


def read(args: argparse.Namespace, user_ids: Any = None, item_ids: Any = None, unknown: str = "error") -> SequenceData:
    """Read and split ``args.data``; arguments and errors as in ``sources.read``."""
    from recsys_fast import datasets

    name = str(args.data)
    if name in datasets.names():
        with working(f"reading {name}", args.quiet):
            return _split_set(datasets.load(name, progress=visible(args.quiet)), args)
    sources.check_file(name)
    how = args.split or "none"
    if how == "random":
        user_ids = None  # the model knows the users that it was trained on, and is tested on the others
    return _split(name, _read_file(Path(name), args, user_ids, item_ids, unknown), how, args)


def _read_file(path: Path, args: argparse.Namespace, user_ids: Any, item_ids: Any, unknown: str) -> Any:
    from recsys_fast.data import Sequences
    from recsys_fast.data.renumber import renumber
    from recsys_fast.data.sequence_files import is_sequences

    if path.suffix.lower() == ".npz" and is_sequences(path):
        if args.min_value is not None:
            raise ValueError(message("--min-value", args.min_value, "data with values", f"{path.name} has none"))
        return renumber(Sequences.from_npz(path), user_ids, item_ids, unknown=unknown, source=path.name)
    if args.value is not None or args.min_value is not None or path.suffix.lower() == ".npz":
        data = sources.read_file(path, args, user_ids, item_ids, unknown)
        return _ordered(data if args.min_value is None else data.threshold(args.min_value), path.name)
    return sources.read_file(path, args, user_ids, item_ids, unknown, kind=Sequences)


def _ordered(data: Any, name: str) -> Any:
    """Return interactions in time order."""
    from recsys_fast.data import Sequences

    if data.timestamps is None:
        mend = "a sequence model needs them: name their column with --timestamp"
        raise ValueError(message(f"{name} has no times", mend=mend))
    return Sequences.from_interactions(data)


def _split_set(dataset: Any, args: argparse.Namespace) -> SequenceData:
    """Split a data set: sessions and sets in two parts as published, others by leave-one-out, but as asked for."""
    how, name, sequences = args.split or "given", dataset.name, dataset.sequences
    in_two_parts = sequences is None and dataset.train is not None and dataset.test is not None
    if how in dataset.given_splits() or (how == "given" and in_two_parts):
        parts = sources.split_set(dataset, args)
        known = _ordered(parts.train, name)
        return SequenceData(name, known, known, parts.test, parts.negatives)
    if sequences is None or args.min_value is not None:
        entries = sources.whole(dataset) if sequences is None else dataset.interactions
        if args.min_value is not None:
            if entries is None or entries.values is None:
                raise ValueError(message("--min-value", args.min_value, "data with values", f"{name} has none"))
            entries = entries.threshold(args.min_value)
        sequences = _ordered(entries, name)
    if how == "given" and dataset.test_sequences is not None:
        return SequenceData(name, sequences, *dataset.test_sequences.prefixes())
    return _split(name, sequences, "leave-one-out" if how == "given" else how, args)


def _split(name: str, data: Any, how: str, args: argparse.Namespace) -> SequenceData:
    from recsys_fast.data import splits

    if how == "none":
        return SequenceData(name, data)
    if how == "random":
        train, test = splits.random_users(data, args.test_fraction, random_state=args.seed)
        return SequenceData(name, train, *test.prefixes())
    if how == "leave-one-out":
        train, valid, test = splits.leave_one_out(data)
        return SequenceData(name, train, splits.join(train, valid), test)
    raise ValueError(message("--split", repr(how), "none, given, random, leave-one-out, or a split that the set names"))
