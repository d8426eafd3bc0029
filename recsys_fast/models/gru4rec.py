"""GRU4Rec: a recurrent network over the events of a session."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Block, PackedBatch, Runtime
from recsys_fast.blocks.columns import beside
from recsys_fast.blocks.dropout import Dropout
from recsys_fast.blocks.embedding import Embedding, ItemTable
from recsys_fast.blocks.recurrent import Recurrent
from recsys_fast.data import Sequences
from recsys_fast.data.batches import SequenceBatches, SessionBatches
from recsys_fast.errors import message
from recsys_fast.models.factors import F32
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.models.sequence import SequenceModel, SequenceState
from recsys_fast.models.sequence_losses import NextItemLoss
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.training.network import Network
from recsys_fast.training.next_item import NextItem
from recsys_fast.training.optimizers import Optimizer

CELLS = ("gru", "lstm", "rnn")


class GRU4Rec(NextItemLoss, SequenceModel):
    """Recurrent network over sessions (Hidasi et al. 2016): each event predicts the next one.

    Embeddings of the events pass ``n_layers`` recurrent layers; the output h_t after event t scores every item i as
    ``h_t . e_i + b_i``, with the embedding e_i that also goes in ("constrained embedding"). Results are the same bits
    for any number of threads.

    With ``session_parallel`` the batches are those of the official code: ``batch_size`` sessions advance side by side
    by one event a step, a lane whose session has ended takes the next one, states are carried on without gradients
    through time. Without it whole sequences are trained on, with backpropagation through time. Either way the other
    targets of a step are negatives too where ``shared_negatives``.

    Args:
        d: width of embeddings, states and outputs.
        n_layers: recurrent layers.
        cell: "gru", "lstm" or "rnn" (tanh).
        loss: "ce", "bpr_max", "top1", "top1_max", "bpr", "bce", "gbce" or "sampled_ce"; "ce" with ``n_negatives`` is
            over the sampled ones, and None there means all items.
        n_negatives: samples that a step shares, or of each row (see ``shared_negatives``).
        negative_alpha: negatives are drawn in proportion to (number of events)^negative_alpha; 0 draws uniformly.
        shared_negatives: whether all rows of a step share them, and the step's other targets are negatives besides;
            False draws for every row; None as of ``SASRec``.
        verify_negatives: whether negatives of a row are never items of its user (where they are not shared).
        log_q: strength of the correction of sampled cross-entropy for how likely items are drawn, 0 to 1.
        calibration: t of gbce.
        score_regularization: of bpr_max.
        session_parallel: see above.
        shuffle: whether sessions start in another random order each epoch ("session_parallel"); False keeps the order
            of the rows.
        truncate: k > 0 cuts backpropagation through time every k events (without ``session_parallel``).
        max_len: most recent events of a history that count, and of a sequence in training without
            ``session_parallel``; at most 4096.
        dropout: rate of the embeddings that go in.
        dropout_hidden: rate behind each layer; with ``session_parallel`` of the states that are carried on, too.
        item_bias: whether items have biases.
        init, frozen: as of ``SASRec``; the layers are "items" and "recurrent0", ...
        optimizer: "adagrad" as published, "adam", "adamw" or "sgd".
        learning_rate: at its highest.
        momentum: of "adagrad" and "sgd".
        weight_decay, clip_norm, lazy_moments, warmup_steps, schedule: as of ``SASRec``.
        batch_size: lanes, or without ``session_parallel`` the mean number of sequences of a step.
        n_epochs: passes over all sessions.
        compute: "float32" or "bfloat16" for the products of the loss, where the CPU has it and on CUDA.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        item_factors_: ``(n_items, d) float32``, with biases ``(n_items, d + 1)``.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch; the loss is the mean per event.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    ``update`` is one step of the layers, whatever the length of the history; states then remember more than the last
    ``max_len`` events.

    References:
        Hidasi, Karatzoglou, Baltrunas, Tikk: Session-based Recommendations with Recurrent Neural Networks, ICLR 2016.
        Hidasi, Karatzoglou: Recurrent Neural Networks with Top-k Gains for Session-based Recommendations, CIKM 2018.
    """

    def __init__(
        self,
        d: int = 100,
        n_layers: int = 1,
        *,
        cell: str = "gru",
        loss: str = "ce",
        n_negatives: int | None = 2048,
        negative_alpha: float = 0.5,
        shared_negatives: bool | None = True,
        verify_negatives: bool = False,
        log_q: float = 1.0,
        calibration: float = 0.75,
        score_regularization: float = 1.0,
        session_parallel: bool = True,
        shuffle: bool = True,
        truncate: int = 0,
        max_len: int = 200,
        dropout: float = 0.0,
        dropout_hidden: float = 0.0,
        item_bias: bool = True,
        init: Any = None,
        frozen: bool | str | Sequence[str] = False,
        optimizer: str = "adagrad",
        learning_rate: float = 0.05,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        lazy_moments: bool = False,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 64,
        n_epochs: int = 10,
        compute: str = "float32",
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.d = d
        self.n_layers = n_layers
        self.cell = cell
        self.loss = loss
        self.n_negatives = n_negatives
        self.negative_alpha = negative_alpha
        self.shared_negatives = shared_negatives
        self.verify_negatives = verify_negatives
        self.log_q = log_q
        self.calibration = calibration
        self.score_regularization = score_regularization
        self.session_parallel = session_parallel
        self.shuffle = shuffle
        self.truncate = truncate
        self.max_len = max_len
        self.dropout = dropout
        self.dropout_hidden = dropout_hidden
        self.item_bias = item_bias
        self.init = init
        self.frozen = frozen
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.lazy_moments = lazy_moments
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.compute = compute
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    def _has_kernels(self) -> bool:
        return True

    def _check_params(self) -> None:
        super()._check_params()
        check_int("d", self.d, 1, 8192)
        check_int("n_layers", self.n_layers, 1, 64)
        check_choice("cell", self.cell, CELLS)
        self._check_loss()
        check_flag("session_parallel", self.session_parallel)
        check_flag("shuffle", self.shuffle)
        check_int("truncate", self.truncate, 0)
        if self.session_parallel and self.truncate:
            raise ValueError(message("truncate", self.truncate, "0 with session_parallel"))
        check_float("dropout", self.dropout, 0.0, high=0.99)
        check_float("dropout_hidden", self.dropout_hidden, 0.0, high=0.99)
        check_flag("item_bias", self.item_bias)
        check_float("momentum", self.momentum, 0.0, high=0.999)
        self._check_frozen()

    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        bound = math.sqrt(6.0 / (n_items + self.d))
        table = ItemTable(n_items, self.d, bias=self.item_bias, init="uniform", scale=bound)
        blocks: dict[str, Block] = {"embedding": Embedding(table, 0, self.dropout)}
        bound = math.sqrt(6.0 / (2 * self.d))
        for k in range(self.n_layers):
            blocks[f"recurrent{k}"] = Recurrent(
                self.d, self.d, self.cell, truncate=self.truncate, scale=bound, bias_scale=0.0
            )
            if self.dropout_hidden:
                blocks[f"dropout{k}"] = Dropout(self.dropout_hidden)
        return self._marked([table], blocks)

    def _optimizer(self) -> Optimizer:
        return Optimizer(
            self.optimizer, self.learning_rate, weight_decay=self.weight_decay, clip_norm=self.clip_norm,
            warmup_steps=self.warmup_steps, schedule=self.schedule, n_steps=self.warmup_steps + 1,
            momentum=self.momentum, eps=1e-6 if self.optimizer == "adagrad" else 1e-8, eps_in_root=True,
            sparse=self._steps_rows_only(),
        )  # fmt: skip

    def _make_network(self, runtime: Runtime) -> Network:
        if not self.session_parallel:
            return super()._make_network(runtime)
        (items,), blocks = self._parts(*self._matrix.shape)
        return LaneNetwork(items, blocks, None, self._optimizer(), runtime, seed=self.seed_)

    def _objective(self) -> Any:
        return LaneLoss(super()._objective()) if self.session_parallel else super()._objective()

    def _batches(self) -> Any:
        how: dict[str, Any] = {"seed": self.seed_, "device": self.device, "n_threads": self.n_threads}
        if self.session_parallel:
            return LaneBatches(SessionBatches(self._sequences, self.batch_size, shuffle=self.shuffle, **how))
        return SequenceBatches(self._sequences, "next", max_len=self.max_len, batch_size=self.batch_size, **how)

    def _step_rows(self, data: Sequences) -> tuple[int, int]:
        return (self.batch_size, self.batch_size) if self.session_parallel else super()._step_rows(data)

    def _batch_bytes(self, data: Sequences) -> int:
        if not self.session_parallel:
            return super()._batch_bytes(data)
        return 64 * data.n_events + 32 * data.n_users

    # ---- one user, event by event

    def _first(self, network: Network, items: list[int]) -> tuple[F32 | None, Any]:
        if network.runtime.on_device:  # single events are worth no trip there
            return None, None
        recent = items[-self.max_len :]
        packed = PackedBatch(np.array([0, len(recent)], np.int64), network.seed)
        h = network.forward(_History(np.array(recent, np.int32)), packed)
        return h[-1].copy(), [layer.final_state() for layer in _layers(network)]

    def _next(self, network: Network, state: SequenceState, item: int) -> F32 | None:
        x = network.items.values[item : item + 1]
        for k, layer in enumerate(_layers(network)):
            state.caches[k] = layer.step(state.caches[k], x)
            x = np.ascontiguousarray(state.caches[k][:, : self.d])
        query: F32 = x[0]
        return query


class _History(NamedTuple):
    items: NDArray[np.int32]


class LaneBatch(NamedTuple):
    """One event of every lane: sequences of length 1; see ``SessionBatch``. The epoch began with ``n_lanes``."""

    items: NDArray[np.int32]
    targets: NDArray[np.int32]
    row_ptr: NDArray[np.int64]
    first: NDArray[np.bool_]
    lanes: NDArray[np.int32]
    users: NDArray[np.int32]
    n_lanes: int


class LaneBatches:
    """Session-parallel batches in the form that a network takes."""

    def __init__(self, sessions: SessionBatches) -> None:
        self.sessions = sessions
        self._row_ptr = np.arange(sessions.batch_size + 1, dtype=np.int64)

    @property
    def n_batches(self) -> int:
        """Number of steps of the first epoch; with random orders it changes a little."""
        return self.sessions.n_batches

    def epoch(self, k: int) -> Iterator[LaneBatch]:
        """Yield the steps of epoch k."""
        n_lanes = 0
        for step in self.sessions.epoch(k):
            n_lanes = max(n_lanes, len(step.items))
            row_ptr = self._row_ptr[: len(step.items) + 1]
            yield LaneBatch(step.items, step.targets, row_ptr, step.first, step.lanes, step.users, n_lanes)


class LaneLoss:
    """The loss of lanes: gradients are means over the lanes that the epoch began with, as in the official code.

    Were they over the lanes that are left, the last steps of an epoch would be long ones in the direction of a few
    sessions, and Adagrad would remember them in all of its rates.
    """

    def __init__(self, loss: NextItem) -> None:
        self.loss = loss

    def __call__(self, network: Network, h: Array, batch: LaneBatch, packed: PackedBatch) -> tuple[float, int, Array]:
        """Return the sum of the loss, the number of targets, and the gradient of h of the sum over ``n_lanes``."""
        return self.loss(network, h, batch, packed, batch.n_lanes)


class LaneNetwork(Network):
    """A network whose recurrent layers start each step from the lanes' states after the step before.

    Those stay where the layers left them until the next step picks its lanes' ones: a lane that goes on was in the step
    before, and at the start of an epoch all lanes begin.
    """

    _lanes: NDArray[np.int32]
    _after: list[list[Array]]

    def forward(self, batch: Any, packed: PackedBatch) -> Array:
        """Return the outputs; in training states go on, elsewhere (histories) every sequence starts anew."""
        layers = _layers(self)
        if not packed.training:
            for layer in layers:
                layer.state = None
            return super().forward(batch, packed)
        if not hasattr(self, "_after"):
            self._lanes = np.empty(0, np.int32)
            nothing = [self.runtime.empty(0, layer.d) for layer in layers]
            self._after = [[rows] * (layer.state_width // layer.d) for rows, layer in zip(nothing, layers, strict=True)]
        rows = np.where(batch.first, -1, np.searchsorted(self._lanes, batch.lanes))
        for layer, parts in zip(layers, self._after, strict=True):
            layer.state = beside(self.runtime, layer, "state", parts, rows)
        after: list[list[Array]] = []
        x: Array = self.runtime.upload(batch.items)
        for block in self.blocks:
            x = block.forward(x, packed)
            if isinstance(block, Recurrent):
                after.append(block.row_states())
            elif isinstance(block, Dropout):  # as the official code does, what goes on is what the next layer saw
                after[-1][0] = x
        self._lanes, self._after = batch.lanes, after
        return x


def _layers(network: Network) -> list[Recurrent]:
    return [block for block in network.blocks if isinstance(block, Recurrent)]
