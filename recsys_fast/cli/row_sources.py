"""What ``--data`` names, as rows of features with targets, for models such as FM and DeepFM."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.cli import sources
from recsys_fast.cli.progress import visible, working
from recsys_fast.errors import message
from recsys_fast.ops import Csr

_OTHERS = ("user", "item", "value", "timestamp", "separator", "min_value")  # options of users and items


class RowPart(NamedTuple):
    """Rows as a model of rows takes them.

    Attributes:
        matrix: ``(n_rows, n_features)``.
        targets: ``(n_rows,) float32``.
        fields: ``(n_features,) int32`` field of each column, or None.
        groups: ``(n_rows,)`` integers, such as the user of each row, or None.
    """

    matrix: Csr
    targets: NDArray[np.float32]
    fields: NDArray[np.int32] | None
    groups: NDArray[Any] | None

    def take(self, rows: NDArray[np.int64]) -> RowPart:
        """Return some of the rows."""
        from recsys_fast.models.inputs import take_rows

        groups = None if self.groups is None else self.groups[rows]
        return self._replace(matrix=take_rows(self.matrix, rows), targets=self.targets[rows], groups=groups)

    def arguments(self, model: Any) -> tuple[tuple[Any, Any], dict[str, Any]]:
        """Return what ``fit`` of a model is called with.

        Raises:
            ValueError: there are no fields or groups, and the model needs them.
        """
        options: dict[str, Any] = {}
        if model._fields != "none" and self.fields is not None:
            options["fields"] = self.fields
        elif model._fields == "required":
            mend = "write libffm text, field:index:value; without fields take fm"
            raise ValueError(message(f"{type(model).__name__} needs the fields of features", mend=mend))
        if getattr(model, "loss", None) == "bpr":
            if self.groups is None:
                raise ValueError(message("groups are missing", mend="write libsvm text, target qid:group index:value"))
            options["groups"] = self.groups
        return (self.matrix, self.targets), options

    def __str__(self) -> str:
        fields = "" if self.fields is None else f" in {int(self.fields.max(initial=0)) + 1} fields"
        return f"{self.matrix.n_rows:,} rows x {self.matrix.n_cols:,} features{fields}"


class RowData(NamedTuple):
    """Data as a command wants them.

    Attributes:
        name: what to call them.
        train: rows to train on.
        test: rows to evaluate on; None with ``--split none``.
    """

    name: str
    train: RowPart
    test: RowPart | None


def read(args: argparse.Namespace, n_features: int | None = None) -> RowData:
    """Read and split ``args.data``: labelled samples or ratings of a data set, or a libsvm or libffm file.

    Args:
        args: the options of the data group.
        n_features: of a fitted model; None for one that is to be fitted.

    Raises:
        ValueError: neither a data set nor a file, a set without targets, features that the model does not know, an
            option that rows have no use for, a split that the data do not have.
        OSError: it cannot be read.
    """
    from recsys_fast import datasets

    name = str(args.data)
    if name not in datasets.names():
        sources.check_file(name)
        sources.refuse(
            args, (*_OTHERS, "no_header"), "a file of users and items", "rows of features have no such columns"
        )
        with working(f"reading {name}", args.quiet):
            part = _known(_read_file(Path(name), args), Path(name).name, args, n_features)
        return _split(name, part, args.split or "none", args)
    sources.refuse(args, sources.ROWS, "a libsvm or libffm file")
    with working(f"reading {name}", args.quiet):
        data = _of_set(datasets.load(name, progress=visible(args.quiet)), args)
    found = data.train.matrix.n_cols
    if n_features not in (None, found):
        raise ValueError(message(f"features of {name}", found, f"{n_features}, those of the model"))
    return data


def _read_file(path: Path, args: argparse.Namespace) -> RowPart:
    from recsys_fast.data import libsvm
    from recsys_fast.models.ffm import of_entries

    layout = args.layout or libsvm.layout_of(path)
    if layout == "libsvm":
        rows = libsvm.read_libsvm(path, n_features=args.n_features, one_based=args.one_based)
        return RowPart(rows.matrix, rows.targets, None, rows.groups)
    sources.refuse(args, ("one_based",), "a libsvm file", "fields and features of libffm text begin with 0")
    rows = libsvm.read_libffm(path, n_features=args.n_features)
    assert rows.fields is not None
    fields = np.maximum(of_entries(rows.matrix, rows.fields), 0)  # of columns without entries it does not matter
    return RowPart(rows.matrix, rows.targets, fields, None)


def _known(part: RowPart, name: str, args: argparse.Namespace, n_features: int | None) -> RowPart:
    """Return rows that are as wide as a model."""
    matrix = part.matrix
    if n_features is None or matrix.n_cols == n_features:
        return part
    if matrix.n_cols > n_features and args.unknown == "error":
        mend = "--unknown drop leaves the others out"
        raise ValueError(
            message(f"features of {name}", matrix.n_cols, f"at most {n_features}, those of the model", mend)
        )
    there = matrix.col_idx < n_features
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(there)])
    values = None if matrix.values is None else matrix.values[there]
    kept = Csr(before[matrix.row_ptr], matrix.col_idx[there], values, matrix.n_rows, n_features)
    return part._replace(matrix=kept, fields=None)


def _of_set(dataset: Any, args: argparse.Namespace) -> RowData:
    """Return labelled samples where a set has some, else a row of user and item for each rating."""
    if "X_train" in dataset.extras:
        sources.refuse(args, ("min_value",), "data with ratings", f"{dataset.name} has samples of 0 and 1")
        if args.split in (None, "given"):
            return RowData(dataset.name, _samples(dataset.extras, "train"), _samples(dataset.extras, "test"))
        return _split(dataset.name, _samples(dataset.extras, "train", "valid", "test"), args.split, args)
    found = sources.split_set(dataset, args)
    test = None if found.test is None else _pairs(found.test, dataset.name)
    return RowData(dataset.name, _pairs(found.train, dataset.name), test)


def _samples(extras: dict[str, Any], *parts: str) -> RowPart:
    """Return samples of ids, one of each field, whose first one is the user."""
    ids = np.concatenate([extras[f"X_{part}"] for part in parts])
    labels = np.concatenate([extras[f"y_{part}"] for part in parts])
    n_features = int(extras["n_features"])
    fields = np.searchsorted(extras["field_base"], np.arange(n_features), side="right") - 1
    matrix = _one_hot(ids, n_features)
    return RowPart(matrix, (labels > 0).astype(np.float32), fields.astype(np.int32), ids[:, 0])


def _one_hot(ids: NDArray[Any], n_features: int) -> Csr:
    """Return rows of ids ``(n, k)``, ascending, as a matrix of ones."""
    n, width = ids.shape
    row_ptr = np.arange(n + 1, dtype=np.int64) * width
    return Csr(row_ptr, ids.reshape(-1).astype(np.int32), None, n, n_features)


def _pairs(data: Any, name: str) -> RowPart:
    """Return a row for each rating, with a column for its user and one for its item."""
    if data.values is None:
        mend = "models of rows take frappe, a set with ratings, or a libsvm or libffm file"
        raise ValueError(message(f"{name} has no targets", mend=mend))
    users = data.rows()
    matrix = _one_hot(np.stack([users, data.n_users + data.col_idx], axis=1), data.n_users + data.n_items)
    fields = (np.arange(matrix.n_cols) >= data.n_users).astype(np.int32)
    return RowPart(matrix, np.asarray(data.values, np.float32), fields, users)


def _split(name: str, part: RowPart, how: str, args: argparse.Namespace) -> RowData:
    from recsys_fast.data import splits

    if how == "none":
        return RowData(name, part, None)
    if how == "random":
        in_test = splits.random_rows(part.matrix.n_rows, args.test_fraction, random_state=args.seed)
        return RowData(name, part.take(np.flatnonzero(~in_test)), part.take(np.flatnonzero(in_test)))
    raise ValueError(message("--split of rows", repr(how), "none or random, or given where the set has one"))
