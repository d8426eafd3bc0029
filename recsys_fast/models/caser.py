"""Caser: convolutions over the last few items of a user, beside a vector of the user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Block, PackedBatch, Runtime
from recsys_fast.blocks.caser import CaserConv
from recsys_fast.blocks.columns import apart, beside, repeated, summed
from recsys_fast.blocks.dense import Dense
from recsys_fast.blocks.embedding import Embedding, ItemTable
from recsys_fast.data import Sequences
from recsys_fast.data.batches import WindowBatches
from recsys_fast.data.window_batches import windows_before
from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models.factors import F32
from recsys_fast.models.parameters import check_float, check_int
from recsys_fast.models.sequence import SequenceModel
from recsys_fast.models.sequence_inputs import Packed
from recsys_fast.models.sequence_losses import NextItemLoss
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.training.network import Network


class Caser(NextItemLoss, SequenceModel):
    """Convolutional sequence embedding (Tang and Wang 2018).

    The embeddings of the last ``window`` items are an image: horizontal filters of every height look for patterns of
    consecutive items (relu, the maximum over time), vertical ones weigh the items. A dense layer with relu makes z of
    them, and ``[z, p_u] . w_i + b_i`` scores item i, with a vector p_u of the user and an output embedding w_i. Each
    window predicts the ``targets`` items behind it. Results are the same bits for any number of threads.

    Args:
        d: width of embeddings and of z; output embeddings have 2 ``d``.
        window: items that go in (L of the paper).
        targets: items behind a window that it predicts in training (T of the paper).
        n_horizontal: filters of each height 1 to ``window``.
        n_vertical: vertical filters.
        user_vectors: whether users have vectors; without them ``z . w_i + b_i`` scores item i, w_i of width ``d``.
        loss: "bce" as published, or as of ``SASRec``.
        n_negatives: per target, as of ``SASRec``; the 1 of "bce" with 3 targets are the published 3 per window.
        negative_alpha, shared_negatives, verify_negatives, log_q, calibration, score_regularization: as of ``SASRec``.
        dropout: rate of what goes into the dense layer.
        init_scale: standard deviation of the embeddings' start values; None for 1 / width, as published.
        init, frozen: as of ``SASRec``; ``init`` fills the embeddings that go in; layers are "inputs", "items" (what
            comes out), "users", "conv" and "dense".
        optimizer, learning_rate, clip_norm, lazy_moments, warmup_steps, schedule: as of ``SASRec``.
        weight_decay: added to the gradient; with ``lazy_moments`` of the rows of a step only.
        batch_size: windows of a step.
        n_epochs: passes over all windows.
        compute: as of ``SASRec``.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        item_factors_: ``(n_items, 2 d + 1) float32``, the bias last; ``(n_items, d + 1)`` without ``user_vectors``.
        user_factors_: ``(n_users, d) float32``, p_u, with ``user_vectors``.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch; the loss is the mean per target.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    Raw histories have no user: they get the mean of all users' vectors. An empty one is a window of zeros, whose z is
    that of the filters' biases. Users with fewer than two events are not trained on, and keep the vector of the start.

    References:
        Tang, Wang: Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding, WSDM 2018.
    """

    _init_table: ClassVar[str] = "inputs"

    def __init__(
        self,
        d: int = 50,
        window: int = 5,
        targets: int = 3,
        *,
        n_horizontal: int = 16,
        n_vertical: int = 4,
        user_vectors: bool = True,
        loss: str = "bce",
        n_negatives: int | None = None,
        negative_alpha: float = 0.0,
        shared_negatives: bool | None = None,
        verify_negatives: bool = True,
        log_q: float = 1.0,
        calibration: float = 0.75,
        score_regularization: float = 1.0,
        dropout: float = 0.5,
        init_scale: float | None = None,
        init: Any = None,
        frozen: bool | str | Sequence[str] = False,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-6,
        clip_norm: float | None = None,
        lazy_moments: bool = False,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 512,
        n_epochs: int = 50,
        compute: str = "float32",
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.d = d
        self.window = window
        self.targets = targets
        self.n_horizontal = n_horizontal
        self.n_vertical = n_vertical
        self.user_vectors = user_vectors
        self.loss = loss
        self.n_negatives = n_negatives
        self.negative_alpha = negative_alpha
        self.shared_negatives = shared_negatives
        self.verify_negatives = verify_negatives
        self.log_q = log_q
        self.calibration = calibration
        self.score_regularization = score_regularization
        self.dropout = dropout
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
        self.compute = compute
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    @property
    def max_len(self) -> int:  # type: ignore[override]
        """Number of most recent items that count, which is ``window``."""
        return self.window

    @property
    def user_factors_(self) -> F32:
        """Vectors of the users, ``(n_users, d) float32``."""
        self._check_fitted()
        if not self.user_vectors:
            raise NotSupportedError(message("this model has no vectors of users", mend="fit it with user_vectors=True"))
        return self._user_table()

    def _user_table(self) -> F32:
        users = self._net().tables[2]
        if not users.runtime.on_device:
            return users.values
        vectors: F32 = self._cached("user_vectors", lambda: users.runtime.to_host(users.values))
        return vectors

    def _has_kernels(self) -> bool:
        return True

    @property
    def _has_user_vectors(self) -> bool:
        return self.user_vectors

    def _check_params(self) -> None:
        check_int("window", self.window, 1, 256)
        super()._check_params()
        check_int("d", self.d, 1, 4096)
        check_int("targets", self.targets, 1, 256)
        check_int("n_horizontal", self.n_horizontal, 1, 4096)
        check_int("n_vertical", self.n_vertical, 0, 4096)
        check_flag("user_vectors", self.user_vectors)
        self._check_loss()
        check_float("dropout", self.dropout, 0.0, high=0.99)
        if self.init_scale is not None:
            check_float("init_scale", self.init_scale, 0.0, above=True, high=1e3)
        self._check_frozen()

    def _parts(self, n_users: int, n_items: int) -> tuple[list[ItemTable], dict[str, Block]]:
        width = self.d * (1 + self.user_vectors)
        narrow = 1.0 / self.d if self.init_scale is None else self.init_scale
        wide = 1.0 / width if self.init_scale is None else self.init_scale
        items = ItemTable(n_items, width, bias=True, scale=wide)
        inputs = ItemTable(n_items, self.d, scale=narrow, name="inputs")
        users = [ItemTable(n_users, self.d, scale=narrow, name="users")] if self.user_vectors else []
        conv = CaserConv(self.d, self.window, self.n_horizontal, self.n_vertical, dropout=self.dropout)
        blocks: dict[str, Block] = {
            "embedding": Embedding(inputs),
            "conv": conv,
            "dense": Dense(conv.d_out, self.d, "relu"),
        }
        return self._marked([items, inputs, *users], blocks)

    def _make_network(self, runtime: Runtime) -> Network:
        (items, *tables), blocks = self._parts(*self._matrix.shape)
        kind = UserNetwork if self.user_vectors else Network
        return kind(items, blocks, None, self._optimizer(), runtime, seed=self.seed_, tables=tables)

    def _objective(self) -> Any:
        return _EveryTarget(super()._objective(), self.targets)

    def _batches(self) -> Any:
        how: dict[str, Any] = {"seed": self.seed_, "device": self.device, "n_threads": self.n_threads}
        return _PackedWindows(
            WindowBatches(self._sequences, self.window, self.targets, batch_size=self.batch_size, **how)
        )

    def _step_rows(self, data: Sequences) -> tuple[int, int]:
        return self.batch_size * self.window, self.batch_size * self.targets

    def _batch_bytes(self, data: Sequences) -> int:
        return 24 * data.n_events + 64 * data.n_users + 32 * self.batch_size * (self.window + self.targets)

    # ---- use

    def _inputs(self, histories: Sequences) -> Packed:
        n = histories.n_users
        items = windows_before(histories, np.arange(n), histories.row_ptr[1:], self.window)
        return Packed(self.window * np.arange(n + 1, dtype=np.int64), items.reshape(-1))

    def _hidden(self, network: Network, packed: Packed) -> tuple[F32, NDArray[np.bool_]]:
        batch = PackedBatch.on(network.runtime, packed.row_ptr, network.seed)
        z = network.runtime.to_host(Network.forward(network, packed, batch))
        return z, np.ones(len(z), np.bool_)

    def _encode(self, histories: Sequences, users: NDArray[np.int32] | None = None) -> F32:
        queries = super()._encode(histories)
        if self.user_vectors:
            nobody = users is None
            vectors = self._cached("mean_user", self._mean_user) if nobody else self._user_table()[users]
            queries[:, self.d : 2 * self.d] = vectors
        return queries

    def _mean_user(self) -> F32:
        """Return the mean of all users' vectors, ``(d,)``; zeros where there are none."""
        users = self._user_table()
        return users.mean(axis=0, dtype=np.float64).astype(np.float32) if len(users) else np.zeros(self.d, np.float32)

    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        rows = np.arange(self._sequences.n_users, dtype=np.int32) if users is None else users
        distinct, place = np.unique(rows, return_inverse=True)
        return self._encode(self._sequences.take(distinct), distinct)[place]


class _PackedBatch(NamedTuple):
    """Windows one behind the other: every ``window`` rows of ``items`` belong to as many ``targets``."""

    items: NDArray[np.int32]
    targets: NDArray[np.int32]
    row_ptr: NDArray[np.int64]
    users: NDArray[np.int32]


class _PackedWindows:
    """The batches of windows in the form that a network takes."""

    def __init__(self, windows: WindowBatches) -> None:
        self.windows, self.n_batches = windows, windows.n_batches

    def epoch(self, k: int) -> Iterator[_PackedBatch]:
        """Yield the batches of epoch k."""
        width = self.windows.window
        for batch in self.windows.epoch(k):
            row_ptr = width * np.arange(len(batch.users) + 1, dtype=np.int64)
            yield _PackedBatch(batch.items.reshape(-1), batch.targets.reshape(-1), row_ptr, batch.users)


class UserNetwork(Network):
    """A network whose output has the user's vector behind it; the third table is that of the users."""

    def forward(self, batch: Any, packed: PackedBatch) -> Array:
        """Return ``(n, 2 d)``."""
        z = super().forward(batch, packed)
        self._users = batch.users
        return beside(self.runtime, self, "h", [z, self.tables[2].take_rows(batch.users)[0]])

    def backward(self, dh: Array, packed: PackedBatch) -> None:
        """Write the gradients of all parameters, and add those of the tables."""
        dz, dusers = apart(self.runtime, self, "dh", dh, 2)
        self.tables[2].add_rows(self._users, dusers)
        super().backward(dz, packed)


class _Repeated(NamedTuple):
    """What a loss of rows sees of a batch: as many rows as targets."""

    targets: NDArray[np.int32]
    row_ptr: NDArray[np.int64]
    users: NDArray[np.int32]


class _EveryTarget:
    """A loss of rows, applied to each of the targets of a window."""

    def __init__(self, loss: Any, n_targets: int) -> None:
        self.loss, self.n_targets = loss, n_targets

    def __call__(self, network: Network, h: Array, batch: Any, packed: PackedBatch) -> tuple[float, int, Array]:
        """Return the sum of the loss, the number of targets, and the gradient of h of the mean."""
        runtime, times = network.runtime, self.n_targets
        rows = repeated(runtime, self, "rows", h, times)
        each = _Repeated(batch.targets, times * np.arange(len(h) + 1, dtype=np.int64), batch.users)
        loss, n_terms, drows = self.loss(network, rows, each, packed)
        return loss, n_terms, summed(runtime, self, "dh", drows, times)
