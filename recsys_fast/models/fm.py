"""Factorization machines."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Self

from numpy.typing import ArrayLike

from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models.fm_machine import F32, FactorizationMachine
from recsys_fast.models.parameters import check_choice, check_int
from recsys_fast.ops.fm import OPTIMIZERS


class FM(FactorizationMachine):
    """Factorization machine of order 2 over sparse rows of features (Rendle 2010).

    ``score(x) = b + sum_j w_j x_j + sum_{j < i} (v_j . v_i) x_j x_i``, minimising over the training rows r

        ``sum_r weight_r loss(score(x_r), y_r) + 1/2 sum_r sum_{j in r} (lambda_w w_j^2 + lambda_v |v_j|^2)``

    with loss ``log(1 + exp(-+score))`` (logistic), ``(score - y)^2 / 2`` (squared), or ``-log sigmoid(score of a
    positive row - score of a negative row of the same group)`` (bpr, Rendle et al. 2009). Features that no training row
    has say nothing: their parameters are 0.

    Results are the same bits for any number of threads.

    Args:
        n_factors: length d of a feature's vector; 0 leaves the linear model.
        loss: "logistic" for targets 0 and 1 (or -1 and 1), "squared" for numbers, "bpr" for ranking within groups.
        order: 2; 3 is not offered.
        solver: "sgd", "adagrad" or "adam" in batches of rows (see ``ops.fm_epoch``), or "als", which solves each
            feature's weight and vector exactly in turn (squared only; see ``ops.fm_als_sweep``). Needs no learning
            rate and the fewest epochs.
        learning_rate: step width of the gradient solvers.
        regularization: lambda_v, per row in which a feature occurs.
        linear_regularization: lambda_w; None for the same. The bias is free.
        n_epochs: passes over the rows.
        batch_size: rows (pairs for bpr) whose gradients are taken together. Smaller batches learn more per epoch,
            larger ones run faster.
        init_scale: standard deviation of the first vectors.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        bias_: b.
        weights_: ``(n_features,) float32``, w.
        factors_: ``(n_features, n_factors) float32``, v.
        n_features_in_: number of columns.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch: the mean loss of the rows, each from before
            its batch; with "als" the objective over the number of rows after the sweep.
        n_epochs_: finished epochs.
        seed_: the int that the first vectors and the orders came from.

    An exception, Ctrl-C included, leaves the model at the last finished epoch; a copy of it is kept for that.

    References:
        Rendle: Factorization Machines, 2010. Rendle: Factorization Machines with libFM, 2012.
    """

    def __init__(
        self,
        n_factors: int = 8,
        *,
        loss: str = "logistic",
        order: int = 2,
        solver: str = "adagrad",
        learning_rate: float = 0.1,
        regularization: float = 0.002,
        linear_regularization: float | None = None,
        n_epochs: int = 20,
        batch_size: int = 256,
        init_scale: float = 0.05,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_factors = n_factors
        self.loss = loss
        self.order = order
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
        if check_int("order", self.order, 2, 3) == 3:
            raise NotSupportedError(message("order", 3, "2", "add columns of crossed features for triples that matter"))
        check_choice("solver", self.solver, (*OPTIMIZERS, "als"))
        if self._als and self.loss != "squared":
            mend = 'take loss="squared", or solver="adagrad"'
            raise ValueError(message(f'solver="als" with loss={self.loss!r}', mend=mend))

    @property
    def factors_(self) -> F32:
        """Vectors, ``(n_features, n_factors) float32``."""
        self._check_fitted()
        return self._table[:, :-1]

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
    ) -> Self:
        """Train from scratch.

        Args:
            X: ``(n_rows, n_features)`` sparse; rows may be empty.
            y: ``(n_rows,)`` targets; for logistic and bpr 0 and 1, or -1 and 1, both of which must occur.
            sample_weight: ``(n_rows,)``, 0 or more: weight of each row's loss; of a pair the positive row's counts.
            groups: ``(n_rows,)`` integers, bpr only: positive rows are ranked above negative rows of their group.
            eval_set: (X, y) or (X, y, groups); its metrics join ``history_`` after every epoch: log_loss and auc, rmse
                and mae, or what the callbacks ask for.
            callbacks: objects with ``on_epoch_end(state) -> bool | None``; see ``recsys_fast.training``.
            verbose: show a progress bar, or a line per epoch where standard error is not a terminal.

        Returns:
            The model.

        Raises:
            ValueError, TypeError: a parameter or the data is not usable; the model is then left as it was.
            NotSupportedError: ``order=3``.
            DivergedError: loss or parameters are not finite; the last finite epoch is kept.
        """
        return self._fit(X, y, sample_weight, groups, eval_set, callbacks, verbose)

    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        n_epochs: int = 1,
    ) -> Self:
        """Train ``n_epochs`` more epochs on these rows from the present state; from scratch on an unfitted model.

        Raises:
            ValueError, TypeError: as ``fit``, or X has another number of columns than before.
            DivergedError: as ``fit``.
        """
        return self._partial_fit(X, y, sample_weight, groups, n_epochs)

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
        """Continue the training that a ``Checkpoint`` saved, on the same rows: the file does not hold them.

        Args:
            path: the checkpoint.
            X: as in ``fit``, and so are the other arguments.
            y: targets.
            sample_weight: weights.
            groups: groups.
            n_epochs: epochs to reach, counted from the first; None for what the interrupted ``fit`` was to reach.
            eval_set: metrics.
            callbacks: callbacks.
            verbose: progress.
            device: backend.

        Returns:
            The model, with the same bits as after an uninterrupted run on the same backend.

        Raises:
            ModelFormatError: the file is damaged or holds another model.
            ValueError: X does not fit the model.
        """
        model = cls.load(path, device=device)
        return model._continue(X, y, sample_weight, groups, n_epochs, eval_set, callbacks, verbose)
