"""What deep models over sparse rows of features share: parameters, fields, state, files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.blocks.base import Runtime
from recsys_fast.blocks.field_table import FieldTable
from recsys_fast.blocks.mlp import MLP
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.deep_rows_training import (
    RowBatches,
    RowNetwork,
    balanced_weights,
    check_class_weight,
    constant_score,
    moment_names,
    table_bytes,
)
from recsys_fast.models.ffm import of_columns
from recsys_fast.models.network_memory import count_parameters
from recsys_fast.models.network_state import ASKING, NetworkState
from recsys_fast.models.parameters import check_choice, check_float, check_int, check_random_state, seed_from
from recsys_fast.models.rows import RowModel, Rows
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.ops import Csr
from recsys_fast.ops.block_arguments import ACTIVATIONS
from recsys_fast.ops.fm_data import as_labels
from recsys_fast.training.network import NetworkTrainer
from recsys_fast.training.optimizers import Optimizer

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

_METRICS = {"logistic": ("log_loss", "auc"), "squared": ("rmse", "mae")}
_MAX_FIELDS, _MAX_STEPS = 2**16, 2**32


class DeepRowModel(NetworkState[RowNetwork], RowModel):
    """Common part of ``DeepFM``, ``WideDeep`` and ``FeatureMLP``; their docstrings describe it."""

    _learned: ClassVar[tuple[str, ...]] = ("seed_", "fields_", "n_fields_", "_seen", "_bounds")
    _fields: ClassVar[str] = "optional"
    _training_only: ClassVar[frozenset[str]] = frozenset((
        "batch_size", "class_weight", "device", "dropout", "hidden_regularization", "init_scale", "learning_rate",
        "n_epochs", "n_threads", "optimizer", "random_state", "regularization",
    ))  # fmt: skip
    _linear: ClassVar[bool] = False
    _pairs: ClassVar[bool] = False

    n_factors: int
    hidden: Sequence[int]
    activation: str
    dropout: float
    layer_norm: bool
    loss: str
    class_weight: Any
    optimizer: str
    learning_rate: float
    regularization: float
    hidden_regularization: float
    n_epochs: int
    batch_size: int
    init_scale: float
    random_state: Any

    seed_: int
    fields_: I32
    n_fields_: int
    _seen: NDArray[np.bool_]
    _bounds: tuple[float, float]
    _given: I32

    def _check_params(self) -> None:
        check_int("n_factors", self.n_factors, 1, 4096)
        if isinstance(self.hidden, str) or not isinstance(self.hidden, Sequence):
            raise TypeError(message("hidden", type(self.hidden).__name__, "a tuple of widths, such as (128, 64)"))
        for width in self.hidden:
            check_int("hidden", width, 1, 65536)
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        if check_float("dropout", self.dropout, 0.0, high=1.0) == 1.0:
            raise ValueError(message("dropout", self.dropout, "0 <= dropout < 1"))
        check_flag("layer_norm", self.layer_norm)
        check_choice("loss", self.loss, tuple(_METRICS))
        check_class_weight(self.class_weight, self.loss)
        check_choice("optimizer", self.optimizer, ("sgd", "adagrad", "adam"))
        check_float("learning_rate", self.learning_rate, 0.0, above=True, high=1e6)
        check_float("regularization", self.regularization, 0.0, high=1e6)
        check_float("hidden_regularization", self.hidden_regularization, 0.0, high=1e6)
        check_int("n_epochs", self.n_epochs, 1)
        check_int("batch_size", self.batch_size, 1, 2**30)
        check_float("init_scale", self.init_scale, 0.0, high=1e6)
        check_random_state(self.random_state)
        self._mlp(1)  # which refuses what it cannot be

    def _planned_epochs(self) -> int:
        return self.n_epochs

    def _default_metrics(self) -> tuple[str, ...]:
        return _METRICS[self.loss]

    # ---- the network

    def _mlp(self, n_fields: int) -> MLP:
        return MLP(n_fields * self.n_factors, (*self.hidden, 1), self.activation, self.dropout, self.layer_norm)

    def _table(self, n_features: int) -> FieldTable:
        return FieldTable(
            n_features, self.n_factors, self.fields_, self.n_fields_, linear=self._linear, pairs=self._pairs,
            scale=self.init_scale, regularization=self.regularization,
        )  # fmt: skip

    def _new_network(self) -> RowNetwork:
        optimizer = Optimizer(self.optimizer, self.learning_rate, weight_decay=self.hidden_regularization)
        return RowNetwork(
            self._table(self.n_features_in_), self._mlp(self.n_fields_), optimizer,
            Runtime(self.device, self.n_threads), seed=self.seed_, logistic=self.loss == "logistic",
        )  # fmt: skip

    def _start(self, n_features: int) -> None:
        super()._start(n_features)
        self._forget_network()

    # ---- rows

    def _check_rows(self, rows: Rows, onwards: bool) -> Rows:
        if self.loss == "squared":
            return rows
        labels = as_labels(rows.targets, "y")
        if not onwards and labels.min() == labels.max():
            mend = 'add rows of the other class, or take loss="squared"'
            raise ValueError(message("y holds one class only", f"all {rows.targets[0]:g}", "both", mend))
        return rows._replace(targets=labels, weights=balanced_weights(labels, rows.weights, self.class_weight))

    def _begin(self, rows: Rows) -> NetworkTrainer:
        self.seed_ = seed_from(self.random_state)
        self.fields_ = np.maximum(self._given, 0)
        self.n_fields_ = int(self.fields_.max(initial=0)) + 1
        self._seen = inputs.column_counts(rows.matrix) > 0
        self._bounds = float(rows.targets.min()), float(rows.targets.max())
        self._keep_structure()
        network = self._new_network()
        network.initialise(np.random.Generator(np.random.Philox(self.seed_)))
        runtime, values = network.runtime, network.runtime.to_host(network.table.values)
        values[~self._seen] = 0.0  # a feature nobody has seen says nothing
        runtime.fill(network.table.values, values)
        bias = network.parameters.view(f"mlp.dense{len(self.hidden)}.b")
        runtime.fill(bias, constant_score(rows, self.loss == "logistic"))
        return self._trainer(network, rows)

    def _resume(self, rows: Rows) -> NetworkTrainer:
        self._check_unchanged(onwards=True)
        network = self._restored(*self._held())
        seen = inputs.column_counts(rows.matrix) > 0
        fresh = seen & ~self._seen
        if fresh.any():
            like = self._table(self.n_features_in_)
            like.connect(network.runtime, 0)
            like.initialise(np.random.Generator(np.random.Philox(self.seed_)))
            to_host, values = network.runtime.to_host, network.runtime.to_host(network.table.values)
            values[fresh] = to_host(like.values)[fresh]
            network.runtime.fill(network.table.values, values)
            self._seen = self._seen | seen
        low, high = self._bounds
        self._bounds = min(low, float(rows.targets.min())), max(high, float(rows.targets.max()))
        return self._trainer(network, rows)

    def _trainer(self, network: RowNetwork, rows: Rows) -> NetworkTrainer:
        self._take_network(network)
        return NetworkTrainer(self, network, RowBatches(rows, self.batch_size, self.seed_))

    # ---- use

    def _score(self, matrix: Csr) -> F32:
        with ASKING:
            return self._net().scores_of(matrix)

    def _link(self, scores: F32) -> F32:
        if self.loss == "logistic":
            return np.exp(-np.logaddexp(np.float32(0), -scores))
        return np.clip(scores, *self._bounds).astype(np.float32)

    @property
    def factors_(self) -> F32:
        """Vectors of the features, ``(n_features, n_factors) float32``."""
        self._check_fitted()
        return self._held()[0]["features"][:, : self.n_factors]

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        fields: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
    ) -> Self:
        """Train from scratch.

        Args:
            X: ``(n_rows, n_features)`` sparse; rows may be empty.
            y: ``(n_rows,)`` targets: 0 and 1, or -1 and 1, both of which must occur; numbers with loss="squared".
            fields: field of each column, ``(n_features,)`` integers from 0 on, such as ``FeatureBuilder.fields_``, or
                of each stored entry of X, ``(nnz,)``; None for one field of all columns.
            sample_weight: ``(n_rows,)``, 0 or more: weight of each row's loss.
            eval_set: (X, y); its metrics join ``history_`` after every epoch: log_loss and auc, rmse and mae, or what
                the callbacks ask for.
            callbacks: objects with ``on_epoch_end(state) -> bool | None``; see ``recsys_fast.training``.
            verbose: show a progress bar, or a line per epoch where standard error is not a terminal.

        Returns:
            The model.

        Raises:
            ValueError, TypeError: a parameter or the data is not usable; the model is then left as it was.
            DivergedError: loss or parameters are not finite; the last finite epoch is kept.
        """
        self._check_all()
        given = self._fields_of(X, fields)
        self._given = given
        try:
            return self._fit(X, y, sample_weight, None, eval_set, callbacks, verbose)
        finally:
            del self._given

    def _fields_of(self, X: Any, fields: ArrayLike | None) -> I32:
        if fields is None:
            return np.zeros(inputs.check_matrix(X, "X").n_cols, np.int32)
        found = of_columns(X, fields)
        if int(found.max(initial=0)) >= _MAX_FIELDS:
            raise ValueError(message("fields", int(found.max()), f"below {_MAX_FIELDS}", "number them from 0 on"))
        return found

    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        fields: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        n_epochs: int = 1,
    ) -> Self:
        """Train ``n_epochs`` more epochs on these rows from the present state; from scratch on an unfitted model.

        Args:
            X: as in ``fit``, and so are y and sample_weight.
            y: targets.
            fields: as in ``fit`` on an unfitted model; a fitted one keeps its own.
            sample_weight: weights.
            n_epochs: number of epochs.

        Raises:
            ValueError, TypeError: as ``fit``, X has another number of columns than before, fields were given to a
                fitted model, or a parameter that its network was built by has changed.
            DivergedError: as ``fit``.
        """
        if self.is_fitted:
            if fields is not None:
                raise ValueError(message("fields of a fitted model", mend="leave them out; they stay as they are"))
            return self._partial_fit(X, y, sample_weight, None, n_epochs)
        self._given = self._fields_of(X, fields)
        try:
            return self._partial_fit(X, y, sample_weight, None, n_epochs)
        finally:
            del self._given

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        n_epochs: int | None = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
        device: str = "auto",
    ) -> Self:
        """Continue the training that a ``Checkpoint`` saved, on the same rows; arguments as in ``FM.resume``."""
        model = cls.load(path, device=device)
        return model._continue(X, y, sample_weight, None, n_epochs, eval_set, callbacks, verbose)

    def estimate_memory(self, X: Any, fields: ArrayLike | None = None) -> dict[str, int]:
        """Return the bytes that ``fit(X, y, fields=fields)`` needs at its peak besides its arguments."""
        self._check_params()
        matrix = inputs.check_matrix(X, "X")
        n_fields = int(self._fields_of(X, fields).max(initial=0)) + 1
        mlp, width = self._mlp(n_fields), self.n_factors + self._linear
        layers = 4 * count_parameters({"mlp": mlp})
        n = min(self.batch_size, max(1, matrix.n_rows))
        entries = matrix.nnz // max(1, matrix.n_rows) + 1
        work = 4 * n * (4 * (sum(mlp.widths) + mlp.d_in) + 2 * width + entries * (width + 12))
        parts: dict[str, int] = table_bytes(matrix.n_cols, width, self.optimizer)
        parts |= {"layers": (2 + 2 * len(moment_names(self.optimizer)) + 2) * layers, "work": work + work // 4}
        parts |= {"rows": 16 * matrix.n_rows, "features": 16 * matrix.n_cols}
        return {**parts, "total": sum(parts.values())}

    # ---- files

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        self._check_unchanged(onwards=True)  # the file's parameters have to be those of its arrays
        arrays, steps = self._held()
        packed: dict[str, NDArray[Any]] = {f"network.{name}": array for name, array in arrays.items()}
        low, high = self._bounds
        values: dict[str, Any] = {
            "n_features": self.n_features_in_,
            "n_fields": self.n_fields_,
            "seed": self.seed_,
            "steps": steps,
        }
        values |= {"lowest": low, "highest": high}
        return packed | {"fields": self.fields_, "seen": self._seen.astype(np.uint8)}, values

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import read_table, take_number, take_seed

        counts = {"n_features": (0, 2**31), "n_fields": (1, _MAX_FIELDS + 1), "steps": (0, _MAX_STEPS)}
        found = {}
        for name, (low, high) in counts.items():
            found[name] = values.pop(name, None)
            if type(found[name]) is not int or not low <= found[name] < high:
                raise reader.fail(name, repr(found[name])[:80], f"a count from {low}, below {high}")
        self.seed_ = take_seed(reader, values)
        self._bounds = take_number(reader, values, "lowest"), take_number(reader, values, "highest")
        n, self.n_features_in_, self.n_fields_ = found["n_features"], found["n_features"], found["n_fields"]
        self.fields_ = reader.read("fields", "I32", (n,))
        if n and not 0 <= int(self.fields_.min()) <= int(self.fields_.max()) < self.n_fields_:
            raise reader.fail("fields holds a field out of range")
        self._seen = reader.read("seen", "U8", (n,)) > 0
        shapes = {"parameters": (count_parameters({"mlp": self._mlp(self.n_fields_)}),)}
        table: dict[str, tuple[int, ...]] = {**shapes, "features": (n, self.n_factors + self._linear)}
        if found["steps"]:
            for moment in moment_names(self.optimizer):
                table |= {f"optimizer.{name}.{moment}": table[name] for name in ("parameters", "features")}
        arrays = {name: read_table(reader, f"network.{name}", shape) for name, shape in table.items()}
        if any((array < 0).any() for name, array in arrays.items() if name.endswith(".v")):
            raise reader.fail("the optimizer's state holds a negative sum of squares")
        self._stored = arrays, found["steps"]
        self._keep_structure()
