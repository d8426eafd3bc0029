"""Who interacted with what: the one object that every model, split and metric takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import recsys_fast.data.cleaning as cleaning
import recsys_fast.data.selection as selection
from recsys_fast.data.columns import as_values
from recsys_fast.data.constructors import Constructors
from recsys_fast.data.id_map import IdMap
from recsys_fast.data.report import CleaningReport
from recsys_fast.errors import message

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class Interactions(Constructors):
    """A sparse users x items matrix with optional values, times and raw ids; immutable.

    Rows are users, columns items, always. Every row is sorted by item and holds an item once. The arrays are
    read-only; every method returns a new object.

    Args:
        matrix: any scipy sparse matrix or array, or ``ops.Csr``; checked before anything else, copied, never changed.
        timestamps: ``(nnz,)`` integers or dates, one per stored entry in the order of ``matrix.data`` (CSR or COO).
        user_ids: raw ids of the rows: ``IdMap`` or a collection; None where row numbers are the ids.
        item_ids: likewise for columns.
        duplicates: "sum", "max", "last" or "error" for entries stored twice.

    Attributes:
        row_ptr: ``(n_users + 1,) int64``; user ``u`` has entries ``row_ptr[u]:row_ptr[u + 1]``.
        col_idx: ``(nnz,) int32`` item of each entry.
        values: ``(nnz,) float32``, or None where every entry counts 1.
        timestamps: ``(nnz,) int64``, or None. Dates are stored as microseconds since 1970 in UTC.
        order: ``(nnz,)`` integers, place of each entry in the input, which breaks ties in time; None without times.
        user_ids, item_ids: ``IdMap`` or None. Selections and filters keep the ids of what stays; where there were
            none, the row or column numbers before the selection become the ids.
        report: ``CleaningReport``: what reading and cleaning dropped.

    Raises:
        TypeError: not a sparse matrix.
        ValueError: indices out of range, bad row pointers, values that are not finite, lengths that differ.

    Examples:
        >>> data = Interactions.from_coo([0, 0, 1], [2, 0, 1], [5.0, 3.0, 4.0])
        >>> data
        Interactions(2 users x 3 items, 3 entries, density 50%, values 3 to 5)
        >>> data[:1].col_idx
        array([0, 2], dtype=int32)
    """

    row_ptr: NDArray[np.int64]
    col_idx: NDArray[np.int32]
    values: NDArray[np.float32] | None
    timestamps: NDArray[np.int64] | None
    order: NDArray[np.integer] | None
    user_ids: IdMap | None
    item_ids: IdMap | None
    report: CleaningReport
    _shape: tuple[int, int]
    _ones: NDArray[np.float32] | None

    def __init__(
        self,
        matrix: Any,
        *,
        timestamps: Any = None,
        user_ids: Any = None,
        item_ids: Any = None,
        duplicates: str = "sum",
    ) -> None:
        from recsys_fast.data.arrays import from_matrix

        if isinstance(matrix, Interactions):
            raise TypeError(message("matrix is an Interactions already", mend="use it as it is: it never changes"))
        made = from_matrix(matrix, timestamps, user_ids, item_ids, duplicates)
        self.__dict__.update(made.__dict__)

    @classmethod
    def _trusted(
        cls,
        row_ptr: NDArray[np.int64],
        col_idx: NDArray[np.int32],
        values: NDArray[np.float32] | None,
        timestamps: NDArray[np.int64] | None,
        shape: tuple[int, int],
        *,
        order: NDArray[np.integer] | None = None,
        user_ids: IdMap | None = None,
        item_ids: IdMap | None = None,
        report: CleaningReport | None = None,
    ) -> Interactions:
        """Wrap arrays that are valid and that nobody else holds (or that are read-only already)."""
        made = cls.__new__(cls)
        for array in (row_ptr, col_idx, values, timestamps, order):
            if array is not None:
                array.flags.writeable = False
        made.row_ptr, made.col_idx, made.values = row_ptr, col_idx, values
        made.timestamps, made.order = timestamps, order
        made._shape = (int(shape[0]), int(shape[1]))
        made.user_ids, made.item_ids, made.report = user_ids, item_ids, report or CleaningReport()
        made._ones = None
        return made

    @classmethod
    def from_scipy(
        cls, matrix: Any, *, timestamps: Any = None, user_ids: Any = None, item_ids: Any = None, duplicates: str = "sum"
    ) -> Interactions:
        """The same as ``Interactions(matrix, ...)``."""
        return cls(matrix, timestamps=timestamps, user_ids=user_ids, item_ids=item_ids, duplicates=duplicates)

    def to_npz(self, path: str | Path, *, compress: bool = True) -> None:
        """Write everything but the report to one file; it appears whole or not at all.

        Raises:
            TypeError: ids that are neither all integers nor all strings.
        """
        from recsys_fast.data.npz import write_npz

        write_npz(self, path, compress)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_users, n_items)."""
        return self._shape

    @property
    def n_users(self) -> int:
        """Number of rows."""
        return self._shape[0]

    @property
    def n_items(self) -> int:
        """Number of columns."""
        return self._shape[1]

    @property
    def nnz(self) -> int:
        """Number of stored entries, also ``len(data)``."""
        return len(self.col_idx)

    def __len__(self) -> int:
        return len(self.col_idx)

    @property
    def csr(self) -> csr_array:
        """The matrix as ``scipy.sparse.csr_array``, float32.

        Its data and indices are this object's own read-only arrays: scipy's methods that work in place raise;
        take ``data.csr.copy()`` to change one. Assigning to its attributes never reaches this object.
        """
        from scipy.sparse import csr_array

        values = self.values
        if values is None:
            if self._ones is None:
                self._ones = np.ones(self.nnz, np.float32)
                self._ones.flags.writeable = False
            values = self._ones
        matrix = csr_array((values, self.col_idx, self.row_ptr), shape=self._shape, copy=False)
        matrix.has_canonical_format = True  # rows are sorted and unique: spare scipy the check
        return matrix

    def rows(self) -> NDArray[np.int32]:
        """Return the user of each entry, ``(nnz,) int32``."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), np.diff(self.row_ptr))

    @property
    def user_counts(self) -> NDArray[np.int64]:
        """Entries of each user, ``(n_users,) int64``."""
        return np.diff(self.row_ptr)

    @property
    def item_counts(self) -> NDArray[np.int64]:
        """Entries of each item, ``(n_items,) int64``."""
        return np.bincount(self.col_idx, minlength=self.n_items)

    def time_order(self) -> NDArray[np.int64]:
        """Return entries user by user, each user's in time order, ties by input order: ``(nnz,) int64`` positions.

        Raises:
            ValueError: there are no timestamps.
        """
        return selection.time_order(self)

    def __getitem__(self, users: Any) -> Interactions:
        """Return the chosen users (all items): an int, a slice, distinct row numbers, or a mask of ``n_users``."""
        return selection.select(self, selection.positions(users, self.n_users, "users"), None)

    def select(self, *, users: Any = None, items: Any = None) -> Interactions:
        """Return the chosen users and items, renumbered in the order given; None keeps all.

        Args:
            users: an int, a slice, distinct row numbers, or a ``(n_users,)`` mask.
            items: likewise for columns.

        Raises:
            IndexError: a number is negative or too large.
            ValueError: a number occurs twice, or a mask has another length.
        """
        rows = None if users is None else selection.positions(users, self.n_users, "users")
        cols = None if items is None else selection.positions(items, self.n_items, "items")
        return selection.select(self, rows, cols)

    def keep(self, mask: Any) -> Interactions:
        """Return the entries where ``mask`` (``(nnz,) bool``) is True; the shape stays."""
        return selection.keep(self, mask)

    def with_values(self, values: Any) -> Interactions:
        """Return the same entries with other values, ``(nnz,)`` numbers in the order of ``col_idx``.

        Raises:
            TypeError: not numbers.
            ValueError: another length, or a value is missing or not a finite float32.
        """
        given = as_values(values)
        if given.shape != (self.nnz,) or np.isnan(given).any():
            got = "NaN" if given.shape == (self.nnz,) else f"{len(given)} values"
            raise ValueError(message("values", got, f"{self.nnz} numbers, one per entry"))
        return Interactions._trusted(
            self.row_ptr, self.col_idx, given, self.timestamps, self.shape,
            order=self.order, user_ids=self.user_ids, item_ids=self.item_ids, report=self.report,
        )  # fmt: skip

    def threshold(self, minimum: float) -> Interactions:
        """Return the entries whose value is at least ``minimum``; the shape stays, the report counts the others."""
        return cleaning.threshold(self, minimum)

    def k_core(self, min_user: int = 5, min_item: int = 5, *, compact: bool = True) -> Interactions:
        """Drop users and items with few entries, again and again until everyone left has enough.

        Args:
            min_user: entries a user must have.
            min_item: entries an item must have.
            compact: renumber what is left (ids tell which); False keeps the shape, with empty rows and columns.
        """
        return cleaning.k_core(self, min_user, min_item, compact)

    def compact(self) -> Interactions:
        """Drop users and items without entries."""
        return cleaning.compact(self)

    def normalize(self, how: str, **parameters: float) -> Interactions:
        """Return the same entries with other values.

        Args:
            how: "binary" (all 1), "log1p", "tfidf", "bm25" (``k1=1.2, b=0.75``), "user_l2" (rows of length 1),
                "user_mean", "item_mean", "global_mean" (subtracted), "user_zscore" (mean 0, deviation 1 per user).
                Formulas are in ``recsys_fast.data.cleaning.normalize``.
            **parameters: of the method.
        """
        return cleaning.normalize(self, how, **parameters)

    def means(self, of: str) -> NDArray[np.float64]:
        """Return mean values: ``of="user"`` ``(n_users,)``, "item" ``(n_items,)``, "global" ``(1,)``; 0 if empty."""
        return cleaning.means(self, of)

    def __repr__(self) -> str:
        cells = self.n_users * self.n_items
        parts = [f"{self.n_users} users x {self.n_items} items", f"{self.nnz} entries"]
        if cells:
            parts.append(f"density {100 * self.nnz / cells:.3g}%")
        if self.values is not None:
            parts.append(f"values {self.values.min():.4g} to {self.values.max():.4g}" if self.nnz else "values")
        if self.timestamps is not None:
            parts.append(f"times {self.timestamps.min()} to {self.timestamps.max()}" if self.nnz else "times")
        maps = [f"{n} ids" for n, given in (("user", self.user_ids), ("item", self.item_ids)) if given is not None]
        return f"Interactions({', '.join(parts + maps)})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ones": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for array in (self.row_ptr, self.col_idx, self.values, self.timestamps, self.order):
            if array is not None:
                array.flags.writeable = False
