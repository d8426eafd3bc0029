"""BERT4Rec: attention in both directions over sequences with masked items, which are to be told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys_fast.blocks.base import Block
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.data import Sequences
from recsys_fast.data.batches import SequenceBatches
from recsys_fast.errors import message
from recsys_fast.models.attention import AttentionModel
from recsys_fast.models.parameters import check_float
from recsys_fast.models.sequence_inputs import Packed, most_recent


class BERT4Rec(AttentionModel):
    """Bidirectional self-attention trained on the cloze task (Sun et al. 2019).

    In training a share of a sequence's items is replaced by a mask, and the outputs at those places are to score the
    hidden items high. To recommend, a mask is put behind the history. Blocks are those of ``SASRec``, where each row
    sees the whole sequence; results are the same bits for any number of threads.

    Args:
        d: width of embeddings and outputs.
        n_blocks: number of blocks.
        n_heads: heads of attention, a divisor of ``d``.
        max_len: rows of a sequence, the mask behind a history included; 2 to 4096.
        mask_probability: probability with which a place is masked; at least one of each sequence is.
        last_probability: share of sequences in which only the last place is masked, as when recommending.
        loss: as of ``SASRec``; "ce" as published.
        n_negatives, negative_alpha, shared_negatives, verify_negatives, log_q, calibration, score_regularization: as of
            ``SASRec``.
        dropout, attention_dropout: rates, as of ``SASRec``.
        norm: "post" as published, "pre" or "query".
        positions: places counted from the "end" of the (cut) sequence, from its "start", or "none".
        hidden: width of the feed-forward layer; None for 4 ``d``, as published.
        activation: as of ``SASRec``; "gelu" as published.
        item_bias: whether items have biases.
        scale_items, init_scale: as of ``SASRec``.
        init, frozen: as of ``SASRec``.
        optimizer, learning_rate, weight_decay, clip_norm, lazy_moments, warmup_steps, schedule: as of ``SASRec``.
        batch_size: mean number of sequences of a step.
        n_epochs: passes over all sequences, each with other masks.
        windows: "last" or "sliding", as of ``SASRec``.
        stride: of "sliding".
        augmentation: as of ``SASRec``.
        compute: as of ``SASRec``.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        item_factors_: ``(n_items, d) float32``, with biases ``(n_items, d + 1)``.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch; the loss is the mean per masked place.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    An empty history is a mask alone. ``update`` runs over the whole history, as every row sees every other.

    References:
        Sun, Liu, Wu, Pei, Lin, Ou, Jiang: BERT4Rec: Sequential Recommendation with Bidirectional Encoder
        Representations from Transformer, CIKM 2019.
    """

    def __init__(
        self,
        d: int = 64,
        n_blocks: int = 2,
        n_heads: int = 2,
        max_len: int = 50,
        *,
        mask_probability: float = 0.2,
        last_probability: float = 0.1,
        loss: str = "ce",
        n_negatives: int | None = None,
        negative_alpha: float = 0.0,
        shared_negatives: bool | None = None,
        verify_negatives: bool = True,
        log_q: float = 1.0,
        calibration: float = 0.75,
        score_regularization: float = 1.0,
        dropout: float = 0.2,
        attention_dropout: float | None = None,
        norm: str = "post",
        positions: str = "end",
        hidden: int | None = None,
        activation: str = "gelu",
        item_bias: bool = True,
        scale_items: bool = False,
        init_scale: float = 0.02,
        init: Any = None,
        frozen: bool | str | Sequence[str] = False,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float | None = 5.0,
        lazy_moments: bool = False,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 128,
        n_epochs: int = 100,
        windows: str = "last",
        stride: int | None = None,
        augmentation: dict[str, float] | None = None,
        compute: str = "float32",
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.d = d
        self.n_blocks = n_blocks
        self.n_heads = n_heads
        self.max_len = max_len
        self.mask_probability = mask_probability
        self.last_probability = last_probability
        self.loss = loss
        self.n_negatives = n_negatives
        self.negative_alpha = negative_alpha
        self.shared_negatives = shared_negatives
        self.verify_negatives = verify_negatives
        self.log_q = log_q
        self.calibration = calibration
        self.score_regularization = score_regularization
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.norm = norm
        self.positions = positions
        self.hidden = hidden
        self.activation = activation
        self.item_bias = item_bias
        self.scale_items = scale_items
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
        self.augmentation = augmentation
        self.compute = compute
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        check_float("mask_probability", self.mask_probability, 0.0, above=True, high=1.0)
        check_float("last_probability", self.last_probability, 0.0, high=1.0)
        if self.max_len < 2:
            raise ValueError(message("max_len", self.max_len, "at least 2: an item and the mask behind it"))
        if self.windows == "prefixes":
            raise ValueError(message("windows", "'prefixes'", "'last' or 'sliding'"))

    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        table = ItemTable(n_items + 1, self.d, bias=self.item_bias, scale=self.init_scale)
        return self._marked([table], self._attention(table, False, self.hidden or 4 * self.d))

    def _batches(self) -> SequenceBatches:
        return SequenceBatches(
            self._sequences, "cloze", max_len=self.max_len, batch_size=self.batch_size, windows=self.windows,
            stride=self.stride, augmentation=self._augmented(), mask_probability=self.mask_probability,
            last_probability=self.last_probability, seed=self.seed_, device=self.device, n_threads=self.n_threads,
        )  # fmt: skip

    def _inputs(self, histories: Sequences) -> Packed:
        """Return the most recent items, and a mask behind them."""
        recent = most_recent(histories, self.max_len - 1)
        row_ptr = recent.row_ptr + np.arange(len(recent.row_ptr))
        items = np.full(row_ptr[-1], histories.n_items, np.int32)
        keep = np.ones(len(items), np.bool_)
        keep[row_ptr[1:] - 1] = False
        items[keep] = recent.items
        return Packed(row_ptr, items)
