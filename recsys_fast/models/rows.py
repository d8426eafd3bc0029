"""Models of rows and targets: a sparse row of features goes in, a number comes out."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.parameters import check_int
from recsys_fast.models.state import Stateful
from recsys_fast.ops import Csr
from recsys_fast.training.callbacks import LogEvaluation, ProgressBar
from recsys_fast.training.loop import Trainer, check_callbacks, train

F32 = NDArray[np.float32]


class Rows(NamedTuple):
    """What ``fit`` was given, checked.

    Attributes:
        matrix: ``(n_rows, n_features)``; values None where all are 1.
        targets: ``(n_rows,) float32``.
        weights: ``(n_rows,) float32``, or None.
        groups: ``(n_rows,)`` integers, or None.
    """

    matrix: Csr
    targets: F32
    weights: F32 | None
    groups: NDArray[Any] | None


class RowModel(Stateful):
    """Base class of models that are trained on rows with targets.

    Matrices are ``(n_rows, n_features)``: any scipy sparse matrix or array, or ``ops.Csr``. They are validated, and
    never changed; rows without entries are fine. The training rows are not part of the fitted model.
    """

    _FIT: ClassVar[str] = "fit(X, y)"
    #: what the command line looks for
    _fits_rows: ClassVar[bool] = True
    #: whether ``fit`` takes the fields of columns: "none", "optional" or "required"
    _fields: ClassVar[str] = "none"

    n_features_in_: int

    # ---- what a model supplies

    @abstractmethod
    def _check_rows(self, rows: Rows, onwards: bool) -> Rows:
        """Return the rows as the model takes them; ValueError where it cannot learn from them."""

    @abstractmethod
    def _begin(self, rows: Rows) -> Trainer:
        """Allocate the learned state and return what trains it on ``rows``."""

    @abstractmethod
    def _resume(self, rows: Rows) -> Trainer:
        """Return what goes on training the present state on ``rows``."""

    @abstractmethod
    def _planned_epochs(self) -> int:
        """Return the number of epochs of a ``fit``."""

    @abstractmethod
    def _default_metrics(self) -> tuple[str, ...]:
        """Return what is evaluated where no callback asks for anything."""

    @abstractmethod
    def _score(self, matrix: Csr) -> F32:
        """Return the raw score of each row."""

    @abstractmethod
    def _link(self, scores: F32) -> F32:
        """Return predictions from raw scores."""

    @abstractmethod
    def estimate_memory(self, X: Any) -> dict[str, int]:
        """Return the bytes that ``fit(X, y)`` needs at its peak besides X and y, by purpose and as "total"."""

    # ---- training

    def _read(self, X: Any, y: Any, sample_weight: Any, groups: Any, onwards: bool) -> Rows:
        from recsys_fast.ops.fm_data import as_numbers

        n_features = self.n_features_in_ if onwards else None
        matrix = inputs.check_matrix(X, "X", None, n_features)
        if matrix.n_rows == 0:
            raise ValueError(message("X has no rows"))
        if inputs.all_ones(matrix):
            matrix = matrix._replace(values=None)
        targets = as_numbers(y, "y", matrix.n_rows)
        weights = None if sample_weight is None else as_numbers(sample_weight, "sample_weight", matrix.n_rows, lowest=0)
        if weights is not None and not weights.any():
            raise ValueError(message("sample_weight", "only zeros", "at least one above 0"))
        names = None if groups is None else np.asarray(groups)
        if names is not None and names.shape != (matrix.n_rows,):
            raise ValueError(message("shape of groups", names.shape, f"({matrix.n_rows},), one per row"))
        return self._check_rows(Rows(matrix, targets, weights, names), onwards)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, groups: Any, eval_set: Any, callbacks: Iterable[Any], verbose: bool
    ) -> Self:
        """Train from scratch; on any failure before the first epoch the model stays as it was."""
        self._check_all()
        rows = self._read(X, y, sample_weight, groups, False)
        chosen, evaluator = self._watchers(eval_set, callbacks, verbose, rows.matrix.n_cols)
        self._start(rows.matrix.n_cols)
        trainer = self._begin(rows)
        train(self, trainer, self._planned_epochs(), history=self.history_, evaluator=evaluator, callbacks=chosen)
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, groups: Any, n_epochs: int) -> Self:
        """Train ``n_epochs`` more on these rows, or from scratch where the model is not fitted."""
        self._check_all()
        n_epochs, fitted = check_int("n_epochs", n_epochs, 1), self.is_fitted
        rows = self._read(X, y, sample_weight, groups, fitted)
        if not fitted:
            self._start(rows.matrix.n_cols)
        trainer = self._resume(rows) if fitted else self._begin(rows)
        first = self.n_epochs_ if fitted else 0
        evaluator = RowEvaluator(None, (), self._default_metrics(), rows.matrix.n_cols)
        train(self, trainer, first + n_epochs, first=first, history=self.history_, evaluator=evaluator)
        return self

    def _continue(
        self, X: Any, y: Any, sample_weight: Any, groups: Any, n_epochs: int | None, eval_set: Any,
        callbacks: Iterable[Any], verbose: bool,
    ) -> Self:  # fmt: skip
        """Train a loaded checkpoint up to ``n_epochs`` epochs in all."""
        rows = self._read(X, y, sample_weight, groups, True)
        chosen, evaluator = self._watchers(eval_set, callbacks, verbose, rows.matrix.n_cols)
        last = self._planned_epochs() if n_epochs is None else check_int("n_epochs", n_epochs, 1)
        if last > self.n_epochs_:
            first, history = self.n_epochs_, self.history_
            trainer = self._resume(rows)
            train(self, trainer, last, first=first, history=history, evaluator=evaluator, callbacks=chosen)
        return self

    def _watchers(
        self, eval_set: Any, callbacks: Iterable[Any], verbose: bool, n_features: int
    ) -> tuple[tuple[Any, ...], RowEvaluator]:
        chosen = check_callbacks(callbacks)
        evaluator = RowEvaluator(eval_set, chosen, self._default_metrics(), n_features)
        if verbose:
            chosen += (ProgressBar() if sys.stderr.isatty() else LogEvaluation(()),)
        return chosen, evaluator

    def _start(self, n_features: int) -> None:
        for name in (*self._learned, "n_epochs_"):
            vars(self).pop(name, None)
        self.history_ = {}
        self.n_features_in_ = n_features

    # ---- use

    def score_rows(self, X: Any) -> F32:
        """Return raw scores, ``(n_rows,) float32``: log odds for logistic.

        Raises:
            NotFittedError: there is no model yet.
            ValueError: X has another number of columns than the training rows, or is damaged.
        """
        self._check_fitted()
        return self._score(inputs.check_matrix(X, "X", None, self.n_features_in_))

    def predict(self, X: Any) -> F32:
        """Return predictions, ``(n_rows,) float32``: probabilities of 1 for logistic, values for squared.

        Raises:
            NotFittedError, ValueError: as ``score_rows``.
        """
        return self._link(self.score_rows(X))


class RowEvaluator:
    """Computes the metrics that the callbacks ask for on ``eval_set``.

    Args:
        eval_set: None, (X, y) or (X, y, groups).
        callbacks: their ``metrics`` are computed; without any, ``default``.
        default: names.
        n_features: columns that X must have.

    Raises:
        ValueError: a callback asks for a metric that is unknown, or there is no evaluation set.
        TypeError: ``eval_set`` is no pair or triple.
    """

    def __init__(self, eval_set: Any, callbacks: Sequence[Any], default: tuple[str, ...], n_features: int) -> None:
        from recsys_fast.evaluation.row_metrics import check_row_metrics, row_metrics

        wanted = [name for callback in callbacks for name in getattr(callback, "metrics", ())]
        self.names = tuple(dict.fromkeys(wanted)) or default
        self.parts: tuple[Csr, Any, Any] | None = None
        check_row_metrics(self.names)
        if eval_set is None:
            if wanted:
                raise ValueError(message(f"a callback needs {wanted[0]!r}", mend="pass eval_set=(X, y) to fit"))
            return
        if type(eval_set) not in (tuple, list) or len(eval_set) not in (2, 3):
            raise TypeError(message("eval_set", type(eval_set).__name__, "(X, y), or (X, y, groups)"))
        matrix = inputs.check_matrix(eval_set[0], "X of eval_set", None, n_features)
        groups = eval_set[2] if len(eval_set) == 3 else None
        row_metrics(eval_set[1], np.full(matrix.n_rows, 0.5), self.names, groups=groups)  # complains before training
        self.parts = matrix, np.asarray(eval_set[1]), groups

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the metrics by name; empty without an evaluation set."""
        if self.parts is None:
            return {}
        return evaluate_rows(model, *self.parts[:2], self.names, groups=self.parts[2])


def evaluate_rows(
    model: RowModel, X: Any, y: Any, metrics: Sequence[str] | None = None, *, groups: Any = None
) -> dict[str, float]:
    """Return metrics of a fitted model on rows; see ``evaluation.row_metrics`` for what they mean.

    Args:
        model: what ``predict`` is called of.
        X: ``(n_rows, n_features)`` sparse.
        y: ``(n_rows,)`` targets.
        metrics: names; None for what suits the model's loss.
        groups: ``(n_rows,)`` integers, for group_auc.

    Raises:
        ValueError: as ``row_metrics``, or X does not fit the model.
    """
    from recsys_fast.evaluation.row_metrics import row_metrics

    names = model._default_metrics() if metrics is None else tuple(metrics)
    return row_metrics(y, model.predict(X), names, groups=groups)
