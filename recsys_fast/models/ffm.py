"""Field-aware factorization machines."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import ops
from recsys_fast.errors import message
from recsys_fast.models.fm_machine import F32, FactorizationMachine
from recsys_fast.models.parameters import check_choice
from recsys_fast.ops import Csr
from recsys_fast.ops.fm import OPTIMIZERS
from recsys_fast.ops.fm_data import as_fields

I32 = NDArray[np.int32]


class FFM(FactorizationMachine):
    """Field-aware factorization machine over sparse rows of features (Juan et al. 2016).

    ``score(x) = b + sum_j w_j x_j + sum_{j < i} (v_{j, f(i)} . v_{i, f(j)}) x_j x_i``, f(j) the field of feature j: a
    feature has a vector for each field that it may meet. Losses, penalties and solvers are those of ``FM``, without
    "als". Results are the same bits for any number of threads.

    The vectors take ``4 n_features n_fields n_factors`` bytes, and a batch takes as many for each row as
    ``n_fields^2 n_factors`` numbers need. Rows of unit length (``sklearn.preprocessing.normalize``), as libffm makes
    them, help where rows have different numbers of features.

    Args:
        n_factors: length of each vector.
        loss: "logistic", "squared" or "bpr", as in ``FM``.
        solver: "sgd", "adagrad" or "adam".
        learning_rate: step width.
        regularization: penalty of the vectors.
        linear_regularization: penalty of the weights; None for the same.
        n_epochs: passes over the rows. These models overfit soon: stop early.
        batch_size: rows whose gradients are taken together.
        init_scale: standard deviation of the first vectors.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        bias_: b.
        weights_: ``(n_features,) float32``, w.
        factors_: ``(n_features, n_fields, n_factors) float32``, v.
        fields_: ``(n_features,) int32``; 0 for features that no training row has.
        n_fields_: number of fields.
        n_features_in_, history_, n_epochs_, seed_: as in ``FM``.

    An exception, Ctrl-C included, leaves the model at the last finished epoch; a copy of it is kept for that.

    References:
        Juan, Zhuang, Chin, Lin: Field-aware Factorization Machines for CTR Prediction, 2016.
    """

    _learned: ClassVar[tuple[str, ...]] = (*FactorizationMachine._learned, "fields_", "n_fields_")
    _fields: ClassVar[str] = "required"

    fields_: I32
    n_fields_: int

    def __init__(
        self,
        n_factors: int = 4,
        *,
        loss: str = "logistic",
        solver: str = "adagrad",
        learning_rate: float = 0.1,
        regularization: float = 0.002,
        linear_regularization: float | None = None,
        n_epochs: int = 10,
        batch_size: int = 256,
        init_scale: float = 0.05,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_factors = n_factors
        self.loss = loss
        self.solver = solver
        self.learning_rate = learning_rate
        self.regularization = regularization
        self.linear_regularization = linear_regularization
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.init_scale = init_scale
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        check_choice("solver", self.solver, tuple(OPTIMIZERS))

    def _width(self) -> int:
        return self.n_fields_ * self.n_factors + 1

    def _field_options(self) -> dict[str, Any]:
        return {"fields": self.fields_, "n_fields": self.n_fields_}

    def _score(self, matrix: Csr) -> F32:
        return ops.ffm_predict(
            self._table, float(self._bias[0]), matrix, self.fields_, self.n_fields_, device=self.device,
            n_threads=self.n_threads,
        )  # fmt: skip

    @property
    def factors_(self) -> F32:
        """Vectors, ``(n_features, n_fields, n_factors) float32``."""
        self._check_fitted()
        return self._table[:, :-1].reshape(-1, self.n_fields_, self.n_factors)

    # ---- training

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        fields: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
    ) -> Self:
        """Train from scratch.

        Args:
            X: ``(n_rows, n_features)`` sparse; rows may be empty.
            y: ``(n_rows,)`` targets.
            fields: field of each column, ``(n_features,)``, or of each stored entry of X, ``(nnz,)``: integers from 0
                on. A column has one field: where it occurs with several, give each combination its own column.
            sample_weight: as in ``FM.fit``, and so are the other arguments.
            groups: groups.
            eval_set: (X, y) or (X, y, groups).
            callbacks: callbacks.
            verbose: progress.

        Returns:
            The model.

        Raises:
            ValueError, TypeError: a parameter or the data is not usable, fields are missing or out of range; the model
                is then left as it was.
            DivergedError: loss or parameters are not finite; the last finite epoch is kept.
        """
        if fields is None:
            mend = "pass fields=, the field id of each column of X; without fields take FM"
            raise ValueError(message("fields are missing", mend=mend))
        self._given = of_columns(X, fields)
        try:
            return self._fit(X, y, sample_weight, groups, eval_set, callbacks, verbose)
        finally:
            del self._given

    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        fields: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        n_epochs: int = 1,
    ) -> Self:
        """Train ``n_epochs`` more epochs on these rows from the present state; from scratch on an unfitted model.

        Args:
            X: as in ``fit``, and so are the other arguments.
            y: targets.
            fields: needed at first; later only where columns occur that no row had before. There may be no new field.
            sample_weight: weights.
            groups: groups.
            n_epochs: number of epochs.

        Raises:
            ValueError, TypeError: as ``fit``, X has another number of columns than before, or the fields contradict.
            DivergedError: as ``fit``.
        """
        if not self.is_fitted:
            if fields is None:
                raise ValueError(message("fields are missing", mend="pass fields=, the field id of each column of X"))
            self._given = of_columns(X, fields)
            try:
                return self._partial_fit(X, y, sample_weight, groups, n_epochs)
            finally:
                del self._given
        kept = self.fields_
        if fields is not None:
            self.fields_ = self._merged(of_columns(X, fields))
        try:
            return self._partial_fit(X, y, sample_weight, groups, n_epochs)
        except (ValueError, TypeError, IndexError):
            self.fields_ = kept
            raise

    def _merged(self, fields: I32) -> I32:
        """Return the fields with those of columns that were never seen before."""
        if len(fields) != len(self.fields_):
            got = f"{len(fields)} columns"
            raise ValueError(message("fields", got, f"{len(self.fields_)}, as in the rows before"))
        known = (fields >= 0) & self._seen
        if (fields[known] != self.fields_[known]).any():
            at = int(np.flatnonzero(known & (fields != self.fields_))[0])
            raise ValueError(message(f"field of column {at}", int(fields[at]), f"{self.fields_[at]}, as before"))
        if len(fields) and int(fields.max()) >= self.n_fields_:
            raise ValueError(message("fields", int(fields.max()), f"below {self.n_fields_}, as in the first rows"))
        return np.where(known | (fields < 0), self.fields_, fields).astype(np.int32)

    def _begin(self, rows: Any) -> Any:
        self.fields_ = np.maximum(self._given, 0)
        self.n_fields_ = int(self.fields_.max(initial=0)) + 1
        return super()._begin(rows)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        n_epochs: int | None = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
        device: str = "auto",
    ) -> Self:
        """Continue the training that a ``Checkpoint`` saved, on the same rows; arguments as in ``FM.resume``."""
        model = cls.load(path, device=device)
        return model._continue(X, y, sample_weight, groups, n_epochs, eval_set, callbacks, verbose)

    # ---- memory and files

    def estimate_memory(self, X: Any, fields: ArrayLike | None = None) -> dict[str, int]:
        """Return the bytes that ``fit(X, y, fields=fields)`` needs at its peak besides its arguments.

        Args:
            X: ``(n_rows, n_features)`` sparse.
            fields: as in ``fit``; None on a fitted model.
        """
        if fields is None:
            self._check_fitted()
            return super().estimate_memory(X)
        probe = FFM(**self.get_params())
        probe.n_fields_ = int(of_columns(X, fields).max(initial=0)) + 1
        return FactorizationMachine.estimate_memory(probe, X)

    def _batch_bytes(self) -> int:
        return super()._batch_bytes() * self.n_fields_

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays, values = super()._pack()
        return {**arrays, "fields": self.fields_}, {**values, "n_fields": self.n_fields_}

    def _unpack_fields(self, reader: Any, values: dict[str, Any]) -> None:
        n_fields = values.pop("n_fields", None)
        if type(n_fields) is not int or not 1 <= n_fields < 2**24:
            raise reader.fail("n_fields", repr(n_fields)[:80], "a count below 2**24")
        self.n_fields_ = n_fields
        self.fields_ = reader.read("fields", "I32", (self.n_features_in_,))
        if len(self.fields_) and not 0 <= int(self.fields_.min()) <= int(self.fields_.max()) < n_fields:
            raise reader.fail("fields holds a field out of range")


def of_columns(X: Any, fields: ArrayLike) -> I32:
    """Return the field of each column, ``(n_features,) int32``; -1 where only entries are given and it has none."""
    array = np.asarray(fields)
    shape = getattr(X, "shape", (0, 0))
    if array.ndim == 1 and len(shape) == 2 and len(array) == shape[1]:
        return as_fields(array, shape[1])[0]
    csr = ops.as_csr(X, "X", canonical=False)
    if array.shape != (csr.nnz,):
        expected = f"({csr.n_cols},), one per column, or ({csr.nnz},), one per stored entry"
        raise ValueError(message("shape of fields", array.shape, expected))
    return of_entries(csr, array)


def of_entries(csr: Csr, fields: NDArray[Any]) -> I32:
    """Return the field of each column from that of each entry, ``(nnz,)``; -1 for columns without entries.

    Raises:
        ValueError: a column has two fields.
    """
    entries = as_fields(fields, csr.nnz)[0]
    columns = np.full(csr.n_cols, -1, np.int32)
    columns[csr.col_idx] = entries
    wrong = np.flatnonzero(columns[csr.col_idx] != entries)
    if len(wrong):
        column = int(csr.col_idx[wrong[0]])
        got = f"fields {int(entries[wrong[0]])} and {int(columns[column])}"
        raise ValueError(message(f"column {column} of X", got, "one field", "give each its own column"))
    return columns
