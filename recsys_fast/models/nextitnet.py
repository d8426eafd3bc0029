"""NextItNet: dilated causal convolutions over a sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from recsys_fast.blocks.base import Block
from recsys_fast.blocks.conv import CausalConv
from recsys_fast.blocks.dense import Dense
from recsys_fast.blocks.embedding import Embedding, ItemTable
from recsys_fast.data.batches import SequenceBatches
from recsys_fast.data.samples import WINDOWS
from recsys_fast.errors import message
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.models.sequence import SequenceModel
from recsys_fast.models.sequence_losses import NextItemLoss
from recsys_fast.models.sgd_factors import check_flag


class NextItNet(NextItemLoss, SequenceModel):
    """Residual blocks of dilated causal convolutions (Yuan et al. 2019): each place predicts the item that comes next.

    Block k is ``x + relu(LN(conv(relu(LN(conv(x))))))`` with convolutions over ``kernel_size`` places that are
    ``dilations[k]``, then twice as many, apart; an output sees ``1 + 3 (kernel_size - 1) sum(dilations)`` events. A
    linear layer follows, and its output h_t scores every item i as ``h_t . e_i``, with the embedding e_i that also
    goes in. Results are the same bits for any number of threads.

    Args:
        d: width of embeddings and blocks.
        dilations: one residual block each.
        kernel_size: places of a convolution.
        max_len: most recent events that count, at most 4096.
        loss: "ce" over all items as published, or as of ``SASRec``.
        n_negatives, negative_alpha, shared_negatives, verify_negatives, log_q, calibration, score_regularization: as of
            ``SASRec``.
        dropout: rate of the embeddings that go in and of the results of each block.
        projection: whether there is the linear layer.
        item_bias: whether items have biases.
        init_scale: standard deviation of the embeddings' start values; None for 1/sqrt(n_items), as published.
        init, frozen: as of ``SASRec``; the layers are "items", "conv0", ... and "projection".
        optimizer, learning_rate, weight_decay, clip_norm, lazy_moments, warmup_steps, schedule: as of ``SASRec``.
        batch_size: mean number of sequences of a step.
        n_epochs: passes over all sequences.
        windows, stride: as of ``SASRec``.
        compute: as of ``SASRec``.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        item_factors_: ``(n_items, d) float32``, with biases ``(n_items, d + 1)``.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch; the loss is the mean per target.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    ``update`` runs over the last ``max_len`` events.

    References:
        Yuan, Karatzoglou, Arapakis, Jose, He: A Simple Convolutional Generative Network for Next Item Recommendation,
        WSDM 2019.
    """

    def __init__(
        self,
        d: int = 64,
        dilations: Sequence[int] = (1, 2, 4),
        kernel_size: int = 3,
        max_len: int = 50,
        *,
        loss: str = "ce",
        n_negatives: int | None = None,
        negative_alpha: float = 0.0,
        shared_negatives: bool | None = None,
        verify_negatives: bool = True,
        log_q: float = 1.0,
        calibration: float = 0.75,
        score_regularization: float = 1.0,
        dropout: float = 0.2,
        projection: bool = True,
        item_bias: bool = False,
        init_scale: float | None = None,
        init: Any = None,
        frozen: bool | str | Sequence[str] = False,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        lazy_moments: bool = False,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 128,
        n_epochs: int = 100,
        windows: str = "last",
        stride: int | None = None,
        compute: str = "float32",
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.d = d
        self.dilations = dilations
        self.kernel_size = kernel_size
        self.max_len = max_len
        self.loss = loss
        self.n_negatives = n_negatives
        self.negative_alpha = negative_alpha
        self.shared_negatives = shared_negatives
        self.verify_negatives = verify_negatives
        self.log_q = log_q
        self.calibration = calibration
        self.score_regularization = score_regularization
        self.dropout = dropout
        self.projection = projection
        self.item_bias = item_bias
        self.init_scale = init_scale
        self.init = init
        self.frozen = frozen
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.lazy_moments = lazy_moments
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.windows = windows
        self.stride = stride
        self.compute = compute
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    def _has_kernels(self) -> bool:
        return True

    def _check_params(self) -> None:
        super()._check_params()
        check_int("d", self.d, 1, 8192)
        if not isinstance(self.dilations, list | tuple) or not self.dilations:
            raise ValueError(message("dilations", repr(self.dilations), "at least one int, such as (1, 2, 4)"))
        for dilation in self.dilations:
            check_int("dilation", dilation, 1, 4096)
        check_int("kernel_size", self.kernel_size, 1, 64)
        self._check_loss()
        check_float("dropout", self.dropout, 0.0, high=0.99)
        check_flag("projection", self.projection)
        check_flag("item_bias", self.item_bias)
        if self.init_scale is not None:
            check_float("init_scale", self.init_scale, 0.0, above=True, high=1e3)
        check_choice("windows", self.windows, WINDOWS)
        if self.stride is not None:
            check_int("stride", self.stride, 1, self.max_len)
        self._check_frozen()

    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        scale = 1.0 / math.sqrt(max(1, n_items)) if self.init_scale is None else self.init_scale
        table = ItemTable(n_items, self.d, bias=self.item_bias, scale=scale)
        blocks: dict[str, Block] = {"embedding": Embedding(table, 0, self.dropout)}
        for k, dilation in enumerate(self.dilations):
            blocks[f"conv{k}"] = CausalConv(self.d, self.kernel_size, dilation, dropout=self.dropout)
        if self.projection:
            blocks["projection"] = Dense(self.d, self.d, "identity")
        return self._marked([table], blocks)

    def _batches(self) -> SequenceBatches:
        return SequenceBatches(
            self._sequences, "next", max_len=self.max_len, batch_size=self.batch_size, windows=self.windows,
            stride=self.stride, seed=self.seed_, device=self.device, n_threads=self.n_threads,
        )  # fmt: skip
