"""Self-attentive sequential recommendation: each place of a sequence predicts the item that comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from recsys_fast.blocks.base import Block, PackedBatch
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.data.batches import SequenceBatches
from recsys_fast.models.attention import AttentionModel
from recsys_fast.models.factors import F32
from recsys_fast.models.sequence import SequenceState
from recsys_fast.models.sequence_inputs import Packed
from recsys_fast.training.network import Network


class SASRec(AttentionModel):
    """Self-attentive sequential recommendation (Kang and McAuley 2018).

    Items of a sequence plus their places pass ``n_blocks`` causal blocks of attention and feed-forward; the output h_t
    at place t scores every item i as ``h_t . e_i``, with the embedding e_i that also goes in, and is trained to score
    the next item of the sequence high:

    - ``loss="bce"``: as published, binary cross-entropy of the next item and ``n_negatives`` = 1 item that the user has
      not: ``- log sigmoid(s_next) - sum log(1 - sigmoid(s_negative))``;
    - "ce": cross-entropy over all items, far better in most comparisons (Klenitskiy and Vasilev 2023); with
      ``n_negatives`` over so many sampled ones that a batch shares, corrected by log q ("sampled_ce");
    - "gbce": binary cross-entropy calibrated for many negatives (gSASRec, Petrov and Macdonald 2023);
    - "bpr", "bpr_max", "top1", "top1_max": pairwise losses (see ``ops.row_loss``).

    State the loss with every figure. Results are the same bits for any number of threads.

    Args:
        d: width of embeddings and outputs.
        n_blocks: number of blocks.
        n_heads: heads of attention, a divisor of ``d``.
        max_len: most recent items that count, at most 4096.
        loss: see above.
        n_negatives: None for 1 (bce, bpr), 256 (gbce), 2048 (the others); "ce" without it is over all items. 0 with
            shared negatives: the other targets of the batch only.
        negative_alpha: negatives are drawn in proportion to (number of events)^negative_alpha; 0 draws uniformly.
        shared_negatives: whether all rows of a batch share them; None: sampled_ce, bpr_max, top1 and top1_max do.
        verify_negatives: whether negatives of a row are never items of its user (where they are not shared).
        log_q: strength of the correction of sampled_ce for how likely items are drawn, 0 to 1.
        calibration: t of gbce, 0 (plain bce) to 1.
        score_regularization: of bpr_max.
        dropout: rate behind embedding, attention and feed-forward.
        attention_dropout: rate of the attention weights; None for ``dropout``.
        norm: where layer norms are: "pre" (of the input of each block), "post" (of its output), "query" (of the queries
            only, as published).
        positions: places counted from the "start" of the (cut) sequence; from its "end", as published; or "none".
        hidden: width of the feed-forward layer; None for ``d``, as published.
        activation: "relu" (as published), "gelu", "gelu_tanh", "tanh", "sigmoid" or "identity".
        item_bias: whether items have biases.
        scale_items: whether embeddings that go in are multiplied by sqrt(d), as published.
        init_scale: standard deviation of the start values.
        init: vectors that the items start from: ``(n_items, d)`` numbers, ``Aligned``, or ``Vectors`` of raw ids (or
            item numbers); an item without a vector gets a random one of alike columns. None for random ones. Not
            part of a saved model.
        frozen: layers that stay as they are: True for the items that ``init`` fills, or names: "items" (with their
            biases), "positions", "norm", "attention0", "feed_forward0", ... May change before ``partial_fit``.
        optimizer: "adam", "adamw", "sgd" or "adagrad".
        learning_rate: at its highest.
        weight_decay: added to the gradient; with "adamw" apart from it.
        clip_norm: the gradient is scaled down to this length; None for never.
        lazy_moments: whether "adam" and "adamw" leave rows of the item table that a step does not touch as they are,
            moments included (and without decay), as PyTorch's SparseAdam does: faster on large catalogues, and another
            algorithm, which overfitted sooner where it was compared. False moves all rows at every step.
        warmup_steps: steps over which the learning rate rises.
        schedule: "constant", or "linear" or "cosine" down to 0 after ``n_epochs``. Epochs beyond ``n_epochs`` keep the
            rate of the middle of the last one.
        batch_size: mean number of sequences of a step; all steps have about equally many events.
        n_epochs: passes over all sequences.
        windows: "last": the most recent ``max_len`` + 1 events of a sequence are trained on; "sliding": windows every
            ``stride`` events; "prefixes": every prefix.
        stride: of "sliding"; None for ``max_len``.
        augmentation: random changes of training sequences, such as ``{"crop": 0.2, "item_dropout": 0.1}``, see
            ``data.batches.Augmentation``; None for none.
        compute: "float32" or "bfloat16" for the products of losses over shared or all items, where the CPU has it and
            on CUDA.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        item_factors_: ``(n_items, d) float32``, with biases ``(n_items, d + 1)``; ``encode(histories) @
            item_factors_.T`` are the scores.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch; the loss is the mean per target.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    ``update`` is one step of a key/value cache with positions "start" or "none" while the sequence is not longer than
    ``max_len``; else it runs over the last ``max_len`` events.

    References:
        Kang, McAuley: Self-Attentive Sequential Recommendation, ICDM 2018.
        Klenitskiy, Vasilev: Turning Dross Into Gold Loss: is BERT4Rec really better than SASRec?, RecSys 2023.
        Petrov, Macdonald: gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative Sampling,
        RecSys 2023.
    """

    def __init__(
        self,
        d: int = 64,
        n_blocks: int = 2,
        n_heads: int = 1,
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
        attention_dropout: float | None = None,
        norm: str = "pre",
        positions: str = "end",
        hidden: int | None = None,
        activation: str = "relu",
        item_bias: bool = False,
        scale_items: bool = False,
        init_scale: float = 0.02,
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

    @property
    def _masks_inputs(self) -> bool:
        """Whether the table has a row for the mask behind those of the items."""
        return isinstance(self.augmentation, dict) and bool(self.augmentation.get("item_mask"))

    def _structure(self) -> dict[str, Any]:
        return {**super()._structure(), "item_mask in augmentation": self._masks_inputs}

    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        table = ItemTable(n_items + self._masks_inputs, self.d, bias=self.item_bias, scale=self.init_scale)
        return self._marked([table], self._attention(table, True, self.hidden or self.d))

    def _batches(self) -> SequenceBatches:
        return SequenceBatches(
            self._sequences, "next", max_len=self.max_len, batch_size=self.batch_size, windows=self.windows,
            stride=self.stride, augmentation=self._augmented(), seed=self.seed_, device=self.device,
            n_threads=self.n_threads,
        )  # fmt: skip

    # ---- one user, event by event

    def _first(self, network: Network, items: list[int]) -> tuple[F32 | None, Any]:
        n = len(items)
        if self.positions == "end" or n > self.max_len or network.runtime.on_device:
            return None, None
        packed = Packed(np.array([0, n], np.int64), np.array(items, np.int32))
        query = network.forward(packed, PackedBatch(packed.row_ptr, network.seed))[-1].copy()
        caches, behind = [], cast("tuple[Any, ...]", network.blocks[1:])
        for block in behind:
            rows = (0, n) if hasattr(block, "n_heads") else ()
            caches.append(block.start(self.max_len, *rows))
        return query, caches

    def _next(self, network: Network, state: SequenceState, item: int) -> F32 | None:
        place = len(state.items) - 1
        if place >= self.max_len:
            state.caches = None
            return None
        embedding, *behind = cast("tuple[Any, ...]", network.blocks)
        x: F32 = network.items.values[item] * np.float32(embedding.scale)
        if self.positions == "start":
            x += embedding.values["positions"][place]
        for block, cache in zip(behind, state.caches, strict=True):
            x = block.step(cache, x)
        return x
