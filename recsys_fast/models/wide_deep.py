"""Wide & Deep: linear weights of features and a deep network over their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from recsys_fast.models.deep_rows import DeepRowModel


class WideDeep(DeepRowModel):
    """Linear weights and a multi-layer perceptron over the vectors of features (Cheng et al. 2016).

    ``score(x) = sum_j w_j x_j + MLP([sum of x_j v_j over field f, for every f])``

    Both parts see all columns: crossed features for the wide part are columns that the caller adds, see
    ``FeatureBuilder``. What the deep part takes is as in ``DeepFM``: ``n_fields * n_factors`` inputs, the vectors of a
    field summed up, weighted by the values; without fields the pooled sum of all vectors. Both parts are trained by
    the same optimizer.

    Results are the same bits for any number of threads.

    Args:
        n_factors: length of a feature's vector v.
        hidden: widths of the hidden layers; the last layer, to one output with the global bias, comes behind them.
        activation: of the hidden layers: "relu", "gelu", "gelu_tanh", "tanh", "sigmoid" or "identity".
        dropout: share of a hidden layer's outputs that training sets to 0.
        layer_norm: whether a layer norm follows each hidden layer.
        loss: "logistic" for targets 0 and 1 (or -1 and 1), "squared" for numbers.
        class_weight: logistic only: None, "balanced" (both classes weigh the same in sum), or the weights of classes 0
            and 1; they multiply those of the rows.
        optimizer: "adam", "adagrad" or "sgd". A step moves the layers, and of the table the rows of the batch's
            features only; moments of other rows rest.
        learning_rate: step width.
        regularization: times a feature's row, added to its gradient whenever it steps.
        hidden_regularization: times the layers' parameters, added to their gradient.
        n_epochs: passes over the rows.
        batch_size: rows of a step.
        init_scale: standard deviation of the first vectors.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        factors_: ``(n_features, n_factors) float32``, v.
        fields_: ``(n_features,) int32`` field of each column.
        n_fields_: number of fields.
        n_features_in_: number of columns.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch: the mean loss of the rows, each from before
            its batch.
        n_epochs_: finished epochs.
        seed_: the int that all random numbers came from.

    An exception, Ctrl-C included, leaves the model at the last finished epoch; a copy of it is kept for that.

    References:
        Cheng et al.: Wide & Deep Learning for Recommender Systems, 2016.
    """

    _linear: ClassVar[bool] = True

    def __init__(
        self,
        n_factors: int = 16,
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
        loss: str = "logistic",
        class_weight: Any = None,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        regularization: float = 0.0,
        hidden_regularization: float = 0.0,
        n_epochs: int = 10,
        batch_size: int = 1024,
        init_scale: float = 0.01,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_factors = n_factors
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.layer_norm = layer_norm
        self.loss = loss
        self.class_weight = class_weight
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.regularization = regularization
        self.hidden_regularization = hidden_regularization
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.init_scale = init_scale
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state
