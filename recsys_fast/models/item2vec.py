"""Item2Vec: vectors of items from the baskets or sessions they share, users as means of their items."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.data.sequences import Sequences
from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models import inputs
from recsys_fast.models.factors import F32, FactorModel, unit_rows
from recsys_fast.models.parameters import check_choice, check_float, check_int, check_random_state, seed_from
from recsys_fast.models.sequence_inputs import replaced
from recsys_fast.models.sgd_factors import check_flag
from recsys_fast.models.sgd_training import SgdTrainer
from recsys_fast.models.skipgram_training import SkipgramEpochs
from recsys_fast.ops import Csr


class Item2Vec(FactorModel):
    """Skip-gram with negative sampling over items (Barkan and Koenigstein 2016), word2vec's arithmetic on baskets.

    Every item x and each of its partners y in a row go down ``-log sigmoid(v_x . c_y)``, and ``n_negatives`` drawn
    items down ``-log sigmoid(-v_x . c_k)``; see ``ops.skipgram_epoch``. What the data is decides what rows are:

    - a matrix or ``Interactions``: the items of a user are a basket without order. With a ``window`` each is shuffled
      anew in every epoch, so that the window is a sample of the basket's pairs; ``window=None`` takes all of them.
    - ``Sequences``: order counts, and so do repeats.

    A user is the weighted mean of the vectors of the history, each scaled to length 1, and needs no training: new
    users are folded in at once. Results are the same bits for any number of threads.

    Args:
        n_factors: length of a vector.
        window: partners on either side at most; None for the whole row.
        reduced: every item's window is drawn from 1 .. ``window``, so that near partners count more.
        n_negatives: drawn items per pair.
        negative_exponent: they are drawn by (number of events)^exponent.
        sample: items that make up a larger share f of all events than this stay in an epoch with probability
            ``sqrt(sample / f) + sample / f`` only; 0 keeps all.
        learning_rate: of the first step; it falls linearly over all epochs.
        min_learning_rate: what it falls to.
        n_epochs: passes over the data.
        scoring: "context": an item's score is the mean product of the history's vectors, at length 1, with the item's
            context vector, which is what training fits; "cosine": the mean cosine with the history.
        history_weight: "equal", or "values": the matrix's values weigh the history (they must not be negative).
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        item_factors_: ``(n_items, n_factors) float32``; zeros for items without events.
        context_factors_: ``(n_items, n_factors) float32``, of items as partners.
        user_factors_: ``(n_users, n_factors) float32``, means of the histories; zeros where there is none.
        history_: ``{"loss": [...], metrics ...}``, the mean per pair with its negatives.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    References:
        Barkan, Koenigstein: Item2Vec: Neural Item Embedding for Collaborative Filtering, 2016.
        Mikolov, Sutskever, Chen, Corrado, Dean: Distributed Representations of Words and Phrases, 2013.
    """

    _learned: ClassVar[tuple[str, ...]] = ("_vectors", "_contexts", "seed_")

    seed_: int
    _vectors: F32
    _contexts: F32
    _events: Sequences | None
    _start_vectors: F32 | None

    def __init__(
        self,
        n_factors: int = 64,
        *,
        window: int | None = 5,
        reduced: bool = True,
        n_negatives: int = 5,
        negative_exponent: float = 0.75,
        sample: float = 1e-3,
        learning_rate: float = 0.025,
        min_learning_rate: float = 1e-4,
        n_epochs: int = 20,
        scoring: str = "context",
        history_weight: str = "equal",
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_factors = n_factors
        self.window = window
        self.reduced = reduced
        self.n_negatives = n_negatives
        self.negative_exponent = negative_exponent
        self.sample = sample
        self.learning_rate = learning_rate
        self.min_learning_rate = min_learning_rate
        self.n_epochs = n_epochs
        self.scoring = scoring
        self.history_weight = history_weight
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    def _check_params(self) -> None:
        check_int("n_factors", self.n_factors, 1, 65535)
        if self.window is not None:
            check_int("window", self.window, 1)
        check_flag("reduced", self.reduced)
        check_int("n_negatives", self.n_negatives, 0, 1 << 20)
        check_float("negative_exponent", self.negative_exponent, -10.0, high=10.0)
        check_float("sample", self.sample, 0.0)
        check_float("learning_rate", self.learning_rate, 0.0, above=True, high=1e6)
        check_float("min_learning_rate", self.min_learning_rate, 0.0, high=1e6)
        check_int("n_epochs", self.n_epochs, 1)
        check_choice("scoring", self.scoring, ("cosine", "context"))
        check_choice("history_weight", self.history_weight, ("equal", "values"))
        check_random_state(self.random_state)

    def _planned_epochs(self) -> int:
        return self.n_epochs

    # ---- training

    def fit(
        self,
        user_items: Any,
        *,
        init: ArrayLike | None = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
    ) -> Self:
        """Train from scratch, or from given vectors.

        Args:
            user_items: ``(n_users, n_items)`` interactions, or ``Sequences``.
            init: ``(n_items, n_factors)`` vectors to start from, such as ``Vectors.take(ids)``; None for random ones.
            eval_set: as in ``Recommender.fit``.
            callbacks: likewise.
            verbose: likewise.

        Raises:
            ValueError, TypeError: a parameter, the data or ``init`` is not usable; the model is left as it was.
            DivergedError: the loss or the vectors are not finite; the last finite epoch is kept.
        """
        return self._fit(user_items, eval_set, callbacks, verbose, events=user_items, init=init)

    def _check_given(self, matrix: Csr, **given: Any) -> dict[str, Any]:
        init, events = given["init"], given["events"]
        if init is not None:
            shape, init = (matrix.n_cols, self.n_factors), np.asarray(init)
            if init.shape != shape or init.dtype.kind not in "fiu":
                raise ValueError(message("init", f"{init.dtype} {init.shape}", f"numbers {shape} (items, factors)"))
            init = init.astype(np.float32)
            if not np.isfinite(init).all():
                raise ValueError(message("init holds NaN or infinity", expected="finite float32 numbers"))
        return {"_events": events if isinstance(events, Sequences) else None, "_start_vectors": init}

    def _prepare(self, matrix: Csr) -> Csr:
        matrix = inputs.drop_zeros(matrix)
        if self.history_weight == "values" and matrix.values is not None and (matrix.values < 0).any():
            least = float(matrix.values.min())
            raise ValueError(message("least value as a weight", least, "0 or more", 'use history_weight="equal"'))
        return matrix

    def _begin(self) -> SgdTrainer:
        n_items = self._matrix.n_cols
        self.seed_ = seed_from(self.random_state)
        generator = np.random.Generator(np.random.Philox(self.seed_))
        vectors: F32 = generator.random((n_items, self.n_factors), np.float32)
        vectors -= np.float32(0.5)
        vectors /= np.float32(self.n_factors)
        vectors[inputs.column_counts(self._matrix) == 0] = 0.0
        if self._start_vectors is not None:
            vectors = np.ascontiguousarray(self._start_vectors)
        self._start_vectors = None
        self._vectors, self._contexts = vectors, np.zeros_like(vectors)
        return self._resume()

    def _resume(self) -> SgdTrainer:
        return SgdTrainer(self, SkipgramEpochs(self, self._vectors, self._contexts))  # type: ignore[arg-type]

    def _announce(self, verbose: bool) -> None:
        if verbose:
            what = "baskets" if self._events is None else f"sequences of {self._events.n_events} events"
            shape = f"{self._matrix.n_rows} {what}, {self._matrix.n_cols} items, {self._matrix.nnz} entries"
            print(f"Item2Vec: {shape}, n_factors={self.n_factors}", file=sys.stderr)

    def partial_fit(
        self, user_items: Any, *, users: ArrayLike | None = None, items: ArrayLike | None = None, n_epochs: int = 1
    ) -> Self:
        """Bring a fitted model up to date; see ``Recommender.partial_fit``.

        New histories of ``users`` count at once and train nothing. ``items`` start anew and are trained ``n_epochs`` of
        the model's epochs on the users that have them, the other items as they are. A model of sequences takes
        ``Sequences``, and no ``items``.

        Raises:
            TypeError: a matrix for a model of sequences.
            NotSupportedError: ``items`` of a model of sequences.
        """
        whole = users is None and items is None
        ordered = self.is_fitted and self._events is not None
        if ordered and items is not None:
            mend = "pass whole Sequences without items"
            raise NotSupportedError(message("items of a model of sequences: their places are not known", mend=mend))
        if ordered and not whole and not isinstance(user_items, Sequences):
            raise TypeError(message("user_items", type(user_items).__name__, "Sequences, as in fit"))
        before = vars(self).get("_events")
        if whole:
            self._events = user_items if isinstance(user_items, Sequences) else None
            self._start_vectors = None
        elif ordered and before is not None:
            ids, _ = inputs.check_ids(users, self._shape()[0], "users")
            inputs.check_distinct(ids, "users")
            if user_items.shape == (len(ids), before.n_items):
                self._events = replaced(before, ids, user_items)
        try:
            return super().partial_fit(user_items, users=users, items=items, n_epochs=n_epochs)
        except BaseException:
            if before is not None or self.is_fitted:
                self._events = before
            raise

    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        if items is not None:
            tables = self._vectors.copy(), self._contexts.copy()
            generator = np.random.Generator(np.random.Philox(key=[self.seed_, 1]))
            tables[0][items] = (generator.random((len(items), self.n_factors), np.float32) - 0.5) / self.n_factors
            tables[0][items[inputs.column_counts(self._matrix)[items] == 0]] = 0.0
            tables[1][items] = 0.0
            epochs = SkipgramEpochs(self, *tables, only=items)
            for epoch in range(self.n_epochs):
                epochs.run(epoch)
            self._vectors, self._contexts = tables
        vars(self).pop("_cache", None)

    def _grow(self, n_users: int, n_items: int) -> None:
        more = ((0, n_items - len(self._vectors)), (0, 0))
        self._vectors, self._contexts = np.pad(self._vectors, more), np.pad(self._contexts, more)
        if self._events is not None:
            row_ptr = np.pad(self._events.row_ptr, (0, n_users - self._events.n_users), mode="edge")
            self._events = Sequences.from_arrays(row_ptr, self._events.items, n_items=n_items)
        vars(self).pop("_cache", None)

    # ---- use

    @property
    def item_factors_(self) -> F32:
        """``(n_items, n_factors) float32``."""
        self._check_fitted()
        return self._vectors

    @property
    def context_factors_(self) -> F32:
        """``(n_items, n_factors) float32``, of items as partners."""
        self._check_fitted()
        return self._contexts

    @property
    def user_factors_(self) -> F32:
        """``(n_users, n_factors) float32``, means of the histories."""
        self._check_fitted()
        users: F32 = self._cached("users", lambda: self._new_queries(self._matrix))
        return users

    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        run = slice(None) if users is None else inputs.run_of(users)
        return self.user_factors_[users if run is None else run]

    def _new_queries(self, given: Csr) -> F32:
        from scipy.sparse import csr_array

        weights = given.or_empty() if self.history_weight == "values" else np.empty(0, np.float32)
        weights = weights if len(weights) else np.ones(given.nnz, np.float32)
        totals = np.bincount(np.repeat(np.arange(given.n_rows), np.diff(given.row_ptr)), weights, given.n_rows)
        scale = np.divide(1.0, totals, out=np.zeros(given.n_rows), where=totals > 0)
        means = csr_array((weights, given.col_idx, given.row_ptr), shape=given.shape) @ self._unit()
        return np.ascontiguousarray(means * scale[:, None], np.float32)

    def _unit(self) -> F32:
        unit: F32 = self._cached("unit", lambda: unit_rows(self._vectors))
        return unit

    def _item_table(self) -> F32:
        return self._unit() if self.scoring == "cosine" else self._contexts

    def _user_vectors(self) -> F32:
        return self.user_factors_

    def _item_vectors(self) -> F32:
        return self.item_factors_

    def fold_in(self, user_items: Any) -> F32:
        """Return vectors of new users, the means of their histories.

        Args:
            user_items: ``(m, n_items)``.

        Returns:
            ``(m, n_factors) float32``; zeros for an empty history.
        """
        return self._new_queries(self._prepare(inputs.check_matrix(user_items, "user_items", None, self._shape()[1])))

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose and as "total"."""
        self._check_params()
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items"))
        n_events = user_items.n_events if isinstance(user_items, Sequences) else matrix.nnz
        values = 0 if matrix.values is None else 4 * matrix.nnz
        parts = {
            "tables": 8 * matrix.n_cols * self.n_factors,
            "kept": 8 * matrix.n_cols * self.n_factors,
            "matrix": 8 * (matrix.n_rows + 1) + 4 * matrix.nnz + values,
            "events": 0 if n_events == matrix.nnz else 8 * (matrix.n_rows + 1) + 4 * n_events,
            "work": 56 * n_events + 40 * matrix.n_cols + (16 << 20),
        }
        return {**parts, "total": sum(parts.values())}

    # ---- files

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays: dict[str, NDArray[Any]] = {"vectors": self._vectors, "contexts": self._contexts}
        if self._events is not None:
            arrays |= {"events.row_ptr": self._events.row_ptr, "events.items": self._events.items}
        return arrays, {"seed": self.seed_, "ordered": self._events is not None}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import read_table, take_seed

        self.seed_ = take_seed(reader, values)
        n_users, n_items = self._matrix.shape
        self._vectors = read_table(reader, "vectors", (n_items, self.n_factors))
        self._contexts = read_table(reader, "contexts", (n_items, self.n_factors))
        ordered = values.pop("ordered", None)
        if type(ordered) is not bool:
            raise reader.fail("ordered", repr(ordered)[:80], "true or false")
        self._events = self._start_vectors = None
        try:
            self._matrix = self._prepare(self._matrix)
            if ordered:
                row_ptr = reader.read("events.row_ptr", "I64", (n_users + 1,))
                items = reader.read("events.items", "I32", (reader.length("events.items"),))
                self._events = Sequences.from_arrays(row_ptr, items, n_items=n_items)
        except (ValueError, TypeError, IndexError) as error:
            raise reader.fail(str(error)) from None
