"""Tables of users, items or events to the sparse features that factorization machines and side features take."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.data.feature_columns import KINDS, Categorical, Column
from recsys_fast.data.feature_encoders import Encoder, Entries, fit_column, restore_column
from recsys_fast.data.feature_input import Table
from recsys_fast.data.id_map import IdMap
from recsys_fast.data.json_files import read_json, write_json
from recsys_fast.errors import NotFittedError, message

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_FORMAT = "recsys_fast.features/1"


class SideFeatures(NamedTuple):
    """Features in a model's order of users or items.

    Attributes:
        matrix: ``(n, n_features) float32`` CSR; row i belongs to user or item i.
        absent: ids of the rows that the table does not have, ``(k,) int32``.
        unknown: number of rows of the table whose id the model does not have; they are left out.
    """

    matrix: csr_array
    absent: NDArray[np.int32]
    unknown: int


class FeatureBuilder:
    """Turns columns of a table into one sparse float32 matrix, in the manner of scikit-learn.

    The features of a column lie side by side, columns in the order given; within a column numbers ascend, then text,
    then the features for unknown and missing values. What depends on the data is learned by ``fit`` alone.

    Args:
        columns: ``Categorical``, ``Numeric`` and ``MultiValued`` columns; a plain name is a ``Categorical``.

    Attributes:
        names_: names of the features: "gender=F", "age", "genres=Drama", "gender:missing".
        fields_: ``(n_features,) int32``, for each feature the place of its column: the fields of a field-aware
            factorization machine.
        field_names_: names of the columns.

    Examples:
        >>> builder = FeatureBuilder([Categorical("gender"), Numeric("age", missing="mean")])
        >>> builder.fit_transform({"gender": ["F", "M", None], "age": [20, 30, None]}).toarray()
        array([[ 1.,  0.,  0., -1.],
               [ 0.,  1.,  0.,  1.],
               [ 0.,  0.,  1.,  0.]], dtype=float32)
        >>> builder.names_
        ['gender=F', 'gender=M', 'gender:missing', 'age']
    """

    _encoders: list[Encoder]
    names_: list[str]
    fields_: NDArray[np.int32]
    field_names_: list[str]

    def __init__(self, columns: Iterable[Column | str]) -> None:
        self.columns = columns

    def fit(self, table: Any, y: Any = None) -> Self:
        """Learn categories, scales and what stands for missing values.

        Args:
            table: a pandas, polars or Arrow table (needs narwhals: ``recsys_fast[data]``), or a dict of lists and
                arrays. None and NaN are missing.
            y: ignored; there for scikit-learn's pipelines.

        Returns:
            The builder.

        Raises:
            TypeError: no table, or a column of another kind than declared.
            ValueError: a column that is not there, declared twice, or of which nothing is known.
        """
        declared = self._declared()
        source = Table(table)
        source.check([column.name for column in declared])
        self._take([fit_column(column, source) for column in declared])
        return self

    def _declared(self) -> list[Column]:
        if isinstance(self.columns, (str, bytes, *KINDS.values())):
            raise TypeError(message("columns", repr(self.columns)[:80], "a list of columns"))
        declared = [Categorical(column) if isinstance(column, str) else column for column in self.columns]
        for column in declared:
            if not isinstance(column, tuple(KINDS.values())):
                expected = "Categorical, Numeric, MultiValued or a name"
                raise TypeError(message("columns hold", repr(column)[:80], expected))
        names = [column.name for column in declared]
        if not names:
            raise ValueError(message("columns", "none", "at least one"))
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(message(f"column {twice!r} is declared twice", mend="declare each column once"))
        return declared

    def _take(self, encoders: list[Encoder]) -> None:
        names = [encoder.names() for encoder in encoders]
        n = sum(map(len, names))
        if n > 2**31 - 1:
            raise ValueError(message("number of features", n, "at most 2**31 - 1", "use fewer buckets"))
        self._encoders = encoders
        self.names_ = [name for some in names for name in some]
        self.field_names_ = [encoder.column.name for encoder in encoders]
        self.fields_ = np.repeat(np.arange(len(names), dtype=np.int32), list(map(len, names)))
        self._starts = np.concatenate([[0], np.cumsum(list(map(len, names)))])

    def _check_fitted(self) -> None:
        if "_encoders" not in vars(self):
            raise NotFittedError(message("this FeatureBuilder is not fitted", mend="call fit(table), or load a file"))

    @property
    def n_features_(self) -> int:
        """Number of features."""
        self._check_fitted()
        return len(self.names_)

    def transform(self, table: Any) -> csr_array:
        """Return the features of a table, ``(n_rows, n_features) float32``; zeros are not stored.

        Raises:
            NotFittedError: before ``fit``.
            TypeError: no table, or a column of another kind than declared.
            ValueError: a column is not there, or a value is missing or unknown that may not be.
        """
        self._check_fitted()
        source = Table(table)
        source.check(self.field_names_)
        return self._assemble([encoder.encode(source) for encoder in self._encoders], source.n_rows)

    def fit_transform(self, table: Any, y: Any = None) -> csr_array:
        """Return the features of the table that is learned from; see ``fit`` and ``transform``."""
        return self.fit(table).transform(table)

    def _assemble(self, parts: list[Entries], n_rows: int) -> csr_array:
        from scipy.sparse import csr_array

        rows = np.concatenate([part.rows for part in parts])
        features = np.concatenate([part.features + start for part, start in zip(parts, self._starts, strict=False)])
        with np.errstate(over="ignore"):
            values = np.concatenate([part.values for part in parts]).astype(np.float32)
        if not np.isfinite(values).all():
            name = self.names_[int(features[~np.isfinite(values)][0])]
            raise ValueError(message(f"a value of {name!r} exceeds float32", mend="clip the column, or scale it"))
        there = values != 0
        rows, features, values = rows[there].astype(np.int32), features[there].astype(np.int32), values[there]
        shape = (n_rows, len(self.names_))
        csr = ops.csr_from_coo(rows, features, values, shape=shape, duplicates="error", name="the features")[0]
        matrix = csr_array((csr.values, csr.col_idx, csr.row_ptr), shape=shape)
        matrix.has_canonical_format = True
        return matrix

    def align(self, table: Any, *, id: str, ids: IdMap | int, absent: str = "missing") -> SideFeatures:
        """Return features of users or items in a model's order; the builder is not fitted by it.

        Args:
            table: a row for each user (or item), in any order, with a column of their ids.
            id: name of that column.
            ids: ``Interactions.user_ids`` or ``item_ids``; or a number n, where ids are the numbers 0 .. n - 1.
            absent: of users or items without a row: "missing" (as if every cell were missing), "empty" (no features) or
                "error".

        Raises:
            ValueError: an id is missing or occurs twice, or ``absent="error"`` and one is absent.
            TypeError: ``ids`` is neither a map nor a number; and as ``transform``.
        """
        self._check_fitted()
        if absent not in ("missing", "empty", "error"):
            raise ValueError(message("absent", repr(absent), "one of missing, empty, error"))
        if isinstance(ids, bool) or not isinstance(ids, (IdMap, int, np.integer)):
            mend = "pass data.user_ids or data.item_ids, or the number of users or items where those are None"
            raise TypeError(message("ids", type(ids).__name__, "an rf.IdMap or a number", mend))
        id_map = ids if isinstance(ids, IdMap) else IdMap(np.arange(int(ids)))
        source = Table(table)
        source.check([id, *self.field_names_])
        place = _places(source, id, id_map)
        rows = self._assemble([encoder.encode(source) for encoder in self._encoders], source.n_rows)
        gone = np.flatnonzero(place < 0).astype(np.int32)
        if len(gone):
            rows = self._with_absent(rows, absent, gone, id_map)
        place[gone] = source.n_rows
        return SideFeatures(rows[place], gone, source.n_rows - (len(place) - len(gone)))

    def _with_absent(self, rows: csr_array, absent: str, gone: NDArray[np.int32], id_map: IdMap) -> csr_array:
        """Return the rows and behind them one more, for those that the table does not have."""
        from scipy.sparse import csr_array, vstack

        if absent == "error":
            known = ", ".join(repr(one) for one in id_map.decode(gone[:3]).tolist())
            mend = 'choose absent="missing" or "empty"'
            raise ValueError(message(f"{len(gone)} ids have no row in the table, such as {known}", mend=mend))
        if absent == "missing":
            extra = self._assemble([encoder.encode_missing() for encoder in self._encoders], 1)
        else:
            extra = csr_array((1, len(self.names_)), dtype=np.float32)
        return vstack([rows, extra], format="csr")

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the names as an array; ``input_features`` is there for scikit-learn."""
        self._check_fitted()
        return np.array(self.names_, object)

    # ---- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what was learned to a JSON file, atomically.

        Raises:
            NotFittedError: before ``fit``.
            OSError: the file cannot be written.
        """
        self._check_fitted()
        kinds = {kind: name for name, kind in KINDS.items()}
        columns = [
            {"kind": kinds[type(one.column)], "params": dataclasses.asdict(one.column), "state": one.state()}
            for one in self._encoders
        ]
        write_json(path, {"format": _FORMAT, "columns": columns})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FeatureBuilder:
        """Return the builder that ``save`` wrote; nothing in the file is executed.

        Raises:
            ModelFormatError: not such a file, or damaged.
            OSError: it cannot be read.
        """
        return read_json(path, "features", cls._from_content)

    @classmethod
    def _from_content(cls, content: Any) -> FeatureBuilder:
        if not isinstance(content, dict) or content.get("format") != _FORMAT or set(content) != {"format", "columns"}:
            raise ValueError(message("format", repr(content)[:80], f"a file of format {_FORMAT}"))
        encoders = [_restored(entry) for entry in content["columns"]]
        builder = cls([encoder.column for encoder in encoders])
        builder._declared()
        builder._take(encoders)
        return builder

    def __repr__(self) -> str:
        fitted = f", {len(self.names_)} features" if "_encoders" in vars(self) else ""
        return f"FeatureBuilder({self.columns!r}{fitted})"


def _restored(entry: Any) -> Encoder:
    """Return the encoder of one column in a file; ValueError or TypeError where it is not one."""
    if not isinstance(entry, dict) or set(entry) != {"kind", "params", "state"} or entry["kind"] not in KINDS:
        raise ValueError(message("a column", repr(entry)[:80], "kind, params and state"))
    params, state = entry["params"], entry["state"]
    kind = KINDS[entry["kind"]]
    if not isinstance(params, dict) or set(params) != {field.name for field in dataclasses.fields(kind)}:
        raise ValueError(message(f"parameters of a {entry['kind']} column", repr(params)[:80]))
    if not isinstance(state, dict):
        raise ValueError(message("state", repr(state)[:80], "an object"))
    return restore_column(kind(**params), state)


def _places(table: Table, name: str, id_map: IdMap) -> NDArray[np.int64]:
    """Return for each id of the map the row of the table that holds it, -1 for none."""
    column = table.ids(name)
    if column.missing is not None:
        raise ValueError(
            message(f"row {int(np.flatnonzero(column.missing)[0])} has no {name!r}", mend="drop such rows")
        )
    dense = id_map.find(column.values)
    rows = np.flatnonzero(dense >= 0)
    place = np.full(len(id_map), -1, np.int64)
    place[dense[rows]] = rows
    if len(np.unique(dense[rows])) < len(rows):
        again = rows[place[dense[rows]] != rows][0]
        got = f"{column.values[again]!r} twice"
        raise ValueError(message(f"column {name!r}", got, "each id once", "aggregate the rows of an id first"))
    return place
