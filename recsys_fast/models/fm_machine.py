"""What plain and field-aware factorization machines share: parameters, state, files."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.fm_training import FmTrainer
from recsys_fast.models.parameters import check_choice, check_float, check_int, check_random_state, seed_from
from recsys_fast.models.rows import RowModel, Rows
from recsys_fast.ops import Csr
from recsys_fast.ops.fm import LOSSES, OPTIMIZERS
from recsys_fast.ops.fm_data import as_labels

F32 = NDArray[np.float32]

_METRICS = {"logistic": ("log_loss", "auc"), "squared": ("rmse", "mae"), "bpr": ("auc",)}


class FactorizationMachine(RowModel):
    """Common part of ``FM`` and ``FFM``; their docstrings describe it."""

    _learned: ClassVar[tuple[str, ...]] = ("_table", "_state", "_steps", "_bias", "_seen", "_bounds", "seed_")

    n_factors: int
    loss: str
    solver: str
    learning_rate: float
    regularization: float
    linear_regularization: float | None
    n_epochs: int
    batch_size: int
    init_scale: float
    random_state: Any

    _table: F32
    _state: F32
    _steps: NDArray[np.int32]
    _bias: NDArray[np.float64]
    _seen: NDArray[np.bool_]
    _bounds: tuple[float, float]
    seed_: int

    def _check_params(self) -> None:
        check_int("n_factors", self.n_factors, 0, 4096)
        check_choice("loss", self.loss, tuple(LOSSES))
        check_float("learning_rate", self.learning_rate, 0.0, above=True, high=1e6)
        check_float("regularization", self.regularization, 0.0, high=1e30)
        if self.linear_regularization is not None:
            check_float("linear_regularization", self.linear_regularization, 0.0, high=1e30)
        check_int("n_epochs", self.n_epochs, 1)
        check_int("batch_size", self.batch_size, 1, 2**30)
        check_float("init_scale", self.init_scale, 0.0, high=1e6)
        check_random_state(self.random_state)

    @property
    def _als(self) -> bool:
        return self.solver == "als"

    @property
    def _weight_regularization(self) -> float:
        return self.regularization if self.linear_regularization is None else self.linear_regularization

    def _planned_epochs(self) -> int:
        return self.n_epochs

    def _default_metrics(self) -> tuple[str, ...]:
        return _METRICS[self.loss]

    def _width(self) -> int:
        """Return the columns of the table: factors and weight of a feature."""
        return self.n_factors + 1

    def _field_options(self) -> dict[str, Any]:
        """Return what the operations need to know about fields."""
        return {}

    # ---- rows

    def _check_rows(self, rows: Rows, onwards: bool) -> Rows:
        if self.loss != "bpr" and rows.groups is not None:
            raise ValueError(message(f"groups with loss={self.loss!r}", mend='pass them with loss="bpr" only'))
        if self.loss == "bpr" and rows.groups is None:
            raise ValueError(message("groups are missing", mend="pass the group of each row, such as its user"))
        if self.loss == "squared":
            return rows
        labels = as_labels(rows.targets, "y")
        if self.loss == "logistic" and not onwards and labels.min() == labels.max():
            mend = 'add rows of the other class, or rank with loss="bpr"'
            raise ValueError(message("y holds one class only", f"all {rows.targets[0]:g}", "both", mend))
        return rows._replace(targets=labels)

    def _begin(self, rows: Rows) -> FmTrainer:
        n = rows.matrix.n_cols
        optimizer = 0 if self._als else OPTIMIZERS[self.solver]
        self.seed_ = seed_from(self.random_state)
        self._table = self._start_values(n)
        self._state = np.zeros((n, optimizer * self._width()), np.float32)
        self._steps = np.zeros(n if self.solver == "adam" else 0, np.int32)
        self._bias = np.zeros(4)
        self._bias[0] = self._start_bias(rows)
        self._seen = inputs.column_counts(rows.matrix) > 0
        self._table[~self._seen] = 0.0  # a feature nobody has seen says nothing
        self._bounds = float(rows.targets.min()), float(rows.targets.max())
        return FmTrainer(self, rows)

    def _start_values(self, n: int) -> F32:
        table = np.empty((n, self._width()), np.float32)
        np.random.Generator(np.random.Philox(self.seed_)).standard_normal(dtype=np.float32, out=table)
        table *= np.float32(self.init_scale)
        table[:, -1] = 0.0
        return table

    def _start_bias(self, rows: Rows) -> float:
        """Return the best constant prediction."""
        if self.loss == "bpr":
            return 0.0
        mean = float(np.average(rows.targets.astype(np.float64), weights=rows.weights))
        if self.loss == "squared":
            return mean
        mean = min(max(mean, 1e-6), 1 - 1e-6)
        return math.log(mean / (1 - mean))

    def _resume(self, rows: Rows) -> FmTrainer:
        seen = inputs.column_counts(rows.matrix) > 0
        fresh = seen & ~self._seen
        if fresh.any():
            self._table[fresh] = self._start_values(len(fresh))[fresh]
            self._seen = self._seen | seen
        low, high = self._bounds
        self._bounds = min(low, float(rows.targets.min())), max(high, float(rows.targets.max()))
        return FmTrainer(self, rows)

    # ---- use

    def _score(self, matrix: Csr) -> F32:
        bias = float(self._bias[0])
        return ops.fm_predict(self._table, bias, matrix, device=self.device, n_threads=self.n_threads)

    def _link(self, scores: F32) -> F32:
        if self.loss == "logistic":
            return np.exp(-np.logaddexp(np.float32(0), -scores))
        return np.clip(scores, *self._bounds).astype(np.float32) if self.loss == "squared" else scores

    @property
    def bias_(self) -> float:
        """The global bias."""
        self._check_fitted()
        return float(self._bias[0])

    @property
    def weights_(self) -> F32:
        """Linear weights, ``(n_features,) float32``."""
        self._check_fitted()
        return self._table[:, -1]

    def _batch_bytes(self) -> int:
        """Return the memory of a batch's partial sums."""
        rows = self.batch_size * (2 if self.loss == "bpr" else 1)
        return 4 * rows * (-(-self._width() // 16) * 16)

    def estimate_memory(self, X: Any) -> dict[str, int]:
        """Return the bytes that ``fit(X, y)`` needs at its peak besides X and y, by purpose and as "total"."""
        self._check_params()
        matrix = inputs.check_matrix(X, "X")
        n, width = matrix.n_cols, self._width()
        moments = 0 if self._als else OPTIMIZERS[self.solver]
        learned = 4 * n * width * (1 + moments) + 4 * n * (self.solver == "adam")
        parts = {"parameters": learned, "last epoch": learned, "counts": 13 * n, "targets": 8 * matrix.n_rows}
        if self._als:
            parts["columns"] = 8 * (n + 1) + 8 * matrix.nnz
            parts["rows"] = 4 * matrix.n_rows * (self.n_factors + 2)
        else:
            parts["batch"] = self._batch_bytes() + (1 << 20)
        return {**parts, "total": sum(parts.values())}

    # ---- files

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays: dict[str, NDArray[Any]] = {
            "table": self._table,
            "state": self._state,
            "steps": self._steps,
            "bias": self._bias,
        }
        arrays["seen"] = self._seen.astype(np.uint8)
        low, high = self._bounds
        return arrays, {"n_features": self.n_features_in_, "seed": self.seed_, "lowest": low, "highest": high}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import read_table, take_number

        n = values.pop("n_features", None)
        if type(n) is not int or not 0 <= n < 2**31:
            raise reader.fail("n_features", repr(n)[:80], "a count below 2**31")
        self.seed_ = values.pop("seed", None)
        if type(self.seed_) is not int or not 0 <= self.seed_ < 2**64:
            raise reader.fail("seed", repr(self.seed_)[:80], "an unsigned 64 bit integer")
        self._bounds = take_number(reader, values, "lowest"), take_number(reader, values, "highest")
        self.n_features_in_ = n
        self._unpack_fields(reader, values)
        moments = 0 if self._als else OPTIMIZERS[self.solver]
        self._table = read_table(reader, "table", (n, self._width()))
        self._state = read_table(reader, "state", (n, moments * self._width()))
        self._steps = reader.read("steps", "I32", (n if self.solver == "adam" else 0,))
        self._bias = reader.read("bias", "F64", (4,))
        if not np.isfinite(self._bias).all() or (self._state < 0).any() * (moments == 1):
            raise reader.fail("bias or state holds values out of range")
        if (self._steps < 0).any():
            raise reader.fail("steps holds a negative number")
        self._seen = reader.read("seen", "U8", (n,)) > 0

    def _unpack_fields(self, reader: Any, values: dict[str, Any]) -> None:
        """Take over what ``_pack`` of a field-aware machine adds."""
