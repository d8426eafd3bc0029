"""The tables of factor models that gradient descent trains: their layout, what they mean, and their files."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models import inputs
from recsys_fast.models.factors import F32, FactorModel
from recsys_fast.models.sgd_features import Side, check_features, grown, interacted
from recsys_fast.models.sgd_training import ADAGRAD_START, OPTIMIZERS, aligned_empty
from recsys_fast.ops import Csr

#: in the order of the flat signatures
TABLES = (
    "users", "items", "user_bias", "item_bias",
    "user_state", "item_state", "user_bias_state", "item_bias_state", "user_steps", "item_steps",
)  # fmt: skip


class SgdTables(FactorModel):
    """Factors of users and items, their biases, the optimizer's numbers for all four, and Adam's step counts.

    A table row is a user (item), or with features what the vectors are summed from, see ``Side``.
    """

    _learned: ClassVar[tuple[str, ...]] = (*(f"_{name}" for name in TABLES), "seed_")

    n_factors: int
    optimizer: str
    identity: bool

    seed_: int
    _users: F32
    _items: F32
    _user_bias: F32
    _item_bias: F32
    _user_features: Csr | None
    _item_features: Csr | None

    # ---- what a model supplies

    def _user_biased(self) -> bool:
        return False

    @abstractmethod
    def _item_biased(self) -> bool:
        """Whether items have biases."""

    def _interacted(self) -> bool:
        """Whether a user's items are features of that user (SVD++)."""
        return False

    def _mean(self) -> float | None:
        """Return the constant in every score, None for a model without one."""
        return None

    # ---- layout

    def _sizes(self, n_users: int, n_items: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the sizes of the blocks of the users' and of the items' tables."""
        u, i = self._user_features, self._item_features
        users = [n_users if self.identity or u is None else 0, *([n_items] if self._interacted() else [])]
        items = [n_items if self.identity or i is None else 0]
        return (*users, *([] if u is None else [u.n_cols])), (*items, *([] if i is None else [i.n_cols]))

    def _sides(self) -> tuple[Side, Side]:
        """Return what the users' and the items' vectors are made of."""

        def make() -> tuple[Side, Side]:
            matrix, u, i = self._matrix, self._user_features, self._item_features
            blocks = [interacted(matrix)] if self._interacted() else []
            users = Side(matrix.n_rows, self.identity or u is None, (*blocks, *([] if u is None else [u])))
            return users, Side(matrix.n_cols, self.identity or i is None, () if i is None else (i,))

        sides: tuple[Side, Side] = self._cached("sides", make)
        return sides

    def _shapes(self, n_user_rows: int, n_item_rows: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of every table; one without elements is a table that this model does without."""
        d, s = self.n_factors, OPTIMIZERS[self.optimizer][1]
        shapes: dict[str, tuple[int, ...]] = {}
        for side, n, biased in (("user", n_user_rows, self._user_biased()), ("item", n_item_rows, self._item_biased())):
            n_biases = n if biased else 0
            shapes |= {f"{side}s": (n, d), f"{side}_bias": (n_biases,), f"{side}_state": (n, s * d)}
            shapes |= {f"{side}_bias_state": (n_biases, s), f"{side}_steps": (n if s == 2 else 0,)}
        return {name: shapes[name] for name in TABLES}

    def _fill(self, name: str) -> float:
        return ADAGRAD_START if self.optimizer == "adagrad" and name.endswith("_state") else 0.0

    def _allocate(self, n_user_rows: int, n_item_rows: int) -> dict[str, NDArray[Any]]:
        """Return tables of zeros (the optimizer's numbers: what they start from)."""
        shapes = self._shapes(n_user_rows, n_item_rows)
        kinds = {name: np.int32 if name.endswith("_steps") else np.float32 for name in shapes}
        tables = {name: aligned_empty(shape, kinds[name]) for name, shape in shapes.items()}
        for name, table in tables.items():
            table[...] = self._fill(name)
        return tables

    def _tables(self) -> tuple[NDArray[Any], ...]:
        return tuple(getattr(self, f"_{name}") for name in TABLES)

    def _grow(self, n_users: int, n_items: int) -> None:
        u, i = self._user_features, self._item_features
        old_items = len(self._items) if i is None else i.n_rows
        old_users = len(self._users) - (old_items if self._interacted() else 0) if u is None else u.n_rows
        old, new = self._sizes(old_users, old_items), self._sizes(n_users, n_items)
        for name in TABLES:
            at = 0 if name.startswith("user") else 1
            setattr(self, f"_{name}", grown(getattr(self, f"_{name}"), old[at], new[at], self._fill(name)))
        self._user_features = None if u is None else inputs.add_empty(u, n_users, u.n_cols)
        self._item_features = None if i is None else inputs.add_empty(i, n_items, i.n_cols)
        vars(self).pop("_cache", None)

    # ---- what was learned

    @property
    def user_factors_(self) -> F32:
        """``(n_users, n_factors) float32``, features included."""
        return self._composed(0)

    @property
    def item_factors_(self) -> F32:
        """``(n_items, n_factors) float32``, features included."""
        return self._composed(1)

    @property
    def user_biases_(self) -> F32:
        """``(n_users,) float32``; NotSupportedError where users have none."""
        self._check_fitted()
        if not self._user_biased():
            raise NotSupportedError(message(f"{type(self).__name__} without user biases"))
        return self._composed_bias(0)

    @property
    def item_biases_(self) -> F32:
        """``(n_items,) float32``; NotSupportedError where items have none."""
        self._check_fitted()
        if not self._item_biased():
            raise NotSupportedError(message(f"{type(self).__name__} without item biases"))
        return self._composed_bias(1)

    def _composed(self, at: int) -> F32:
        self._check_fitted()
        table, side = (self._users, self._items)[at], self._sides()[at]
        vectors: F32 = table if side.plain else self._cached(f"vectors_{at}", lambda: side.composed(table))
        return vectors

    def _composed_bias(self, at: int) -> F32:
        table, side = (self._user_bias, self._item_bias)[at], self._sides()[at]
        biases: F32 = table if side.plain else self._cached(f"biases_{at}", lambda: side.composed(table))
        return biases

    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        run = slice(None) if users is None else inputs.run_of(users)
        chosen = users if run is None else run
        return self._query(self.user_factors_[chosen], self._composed_bias(0)[chosen] if self._user_biased() else None)

    def _query(self, vectors: F32, biases: F32 | None) -> F32:
        """Return (vector, bias + mean, 1), which meets (vector, 1, bias) of an item; only what the model has."""
        columns = [vectors]
        if biases is not None or self._mean() is not None:
            constant = np.zeros(len(vectors), np.float32) if biases is None else biases
            columns.append((constant + np.float32(self._mean() or 0.0))[:, None])
        if self._item_biased():
            columns.append(np.ones((len(vectors), 1), np.float32))
        return vectors if len(columns) == 1 else np.concatenate(columns, axis=1)

    def _item_table(self) -> F32:
        def make() -> F32:
            columns = [self.item_factors_]
            if self._user_biased() or self._mean() is not None:
                columns.append(np.ones((len(columns[0]), 1), np.float32))
            if self._item_biased():
                columns.append(self._composed_bias(1)[:, None])
            return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)

        table: F32 = self._cached("item_table", make)
        return table

    def _user_vectors(self) -> F32:
        return self.user_factors_

    def _item_vectors(self) -> F32:
        return self.item_factors_

    # ---- files

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays = {name: table for name, table in zip(TABLES, self._tables(), strict=True) if table.size}
        values: dict[str, Any] = {"seed": self.seed_}
        for side, features in (("user", self._user_features), ("item", self._item_features)):
            pack_features(arrays, values, side, features)
        return arrays, values

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        self.seed_ = values.pop("seed", None)
        if type(self.seed_) is not int or not 0 <= self.seed_ < 2**64:
            raise reader.fail("seed", repr(self.seed_)[:80], "an unsigned 64 bit integer")
        try:
            self._matrix = self._prepare(self._matrix)
        except ValueError as error:
            raise reader.fail(str(error)) from None
        n_users, n_items = self._matrix.shape
        self._user_features = read_features(reader, values, "user", n_users)
        self._item_features = read_features(reader, values, "item", n_items)
        sizes = self._sizes(n_users, n_items)
        for name, shape in self._shapes(sum(sizes[0]), sum(sizes[1])).items():
            setattr(self, f"_{name}", _read_table(reader, name, shape))


def _read_table(reader: Any, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    from recsys_fast.models.files import read_table

    if name.endswith("_steps"):
        steps: NDArray[np.int32] = reader.read(name, "I32", shape) if math.prod(shape) else np.zeros(shape, np.int32)
        if steps.min(initial=0) < 0:
            raise reader.fail(name, int(steps.min()), "counts")
        return steps
    return read_table(reader, name, shape) if math.prod(shape) else np.zeros(shape, np.float32)


def pack_features(arrays: dict[str, NDArray[Any]], values: dict[str, Any], side: str, features: Csr | None) -> None:
    """Add the features of a side, "user" or "item", to what a file holds."""
    name = f"{side}_features"
    values[name] = None if features is None else features.n_cols
    if features is not None:
        arrays |= {f"{name}.row_ptr": features.row_ptr, f"{name}.col_idx": features.col_idx}
        arrays |= {} if features.values is None else {f"{name}.values": features.values}


def read_features(reader: Any, values: dict[str, Any], side: str, n: int) -> Csr | None:
    """Return the features of a side, None where the file has none."""
    name = f"{side}_features"
    n_cols = values.pop(name, None)
    if n_cols is None:
        return None
    if type(n_cols) is not int or not 0 <= n_cols < 2**31:
        raise reader.fail(f"columns of {name}", repr(n_cols)[:80], "a count below 2**31")
    nnz = reader.length(f"{name}.col_idx")
    csr = Csr(
        reader.read(f"{name}.row_ptr", "I64", (n + 1,)),
        reader.read(f"{name}.col_idx", "I32", (nnz,)),
        reader.read(f"{name}.values", "F32", (nnz,)) if f"{name}.values" in reader.specs else None,
        n,
        n_cols,
    )
    try:
        return check_features(csr, name, side, n)
    except ValueError as error:
        raise reader.fail(str(error)) from None
