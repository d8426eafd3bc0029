"""Factor models trained by stochastic gradient descent: from scratch, users and items one by one, cold ones."""

from __future__ import annotations

import math
import sys
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import DivergedError, NotSupportedError, message
from recsys_fast.models import inputs
from recsys_fast.models.factors import F32
from recsys_fast.models.memory import names_gpu, with_device
from recsys_fast.models.parameters import check_choice, check_float, check_int, check_random_state, seed_from
from recsys_fast.models.sgd_features import NO_FEATURES, Side, check_features, interacted, without_interactions
from recsys_fast.models.sgd_tables import TABLES, SgdTables
from recsys_fast.models.sgd_training import (
    BALANCES,
    FIT,
    FOLD_ITEMS,
    FOLD_USERS,
    OPTIMIZERS,
    SCHEDULES,
    Sgd,
    SgdTrainer,
    aligned,
    balanced_rates,
    device_bytes,
    finite,
    on_cuda,
    working_bytes,
)
from recsys_fast.ops import Csr

_NO_F32, _NO_F64 = np.empty(0, np.float32), np.empty(0, np.float64)


class SgdFactorModel(SgdTables):
    """What BPR, WARP, LogisticMF and MF share: everything but the operation and its own parameters."""

    _operation: ClassVar[str]

    learning_rate: float
    regularization: float
    n_epochs: int
    schedule: str
    init_scale: float
    balance: str
    balance_exponent: float
    deterministic: bool
    random_state: Any

    # ---- what a model supplies

    @abstractmethod
    def _arguments(self, cdf: NDArray[np.float64], purpose: int) -> tuple[Any, ...]:
        """Return the operation's own arguments, those between the features and the optimizer."""

    def _weighted(self, matrix: Csr) -> Csr:
        """Return the matrix with values as the operation takes them."""
        return matrix

    def _cdf(self) -> NDArray[np.float64]:
        """Return the running sums that negatives are drawn by; empty for equal weights."""
        return _NO_F64

    def _draws(self) -> int:
        """Return how many negatives a visit draws at most."""
        return 0

    def _weight_bytes(self, matrix: Csr) -> int:
        """Return the size of what ``_weighted`` makes anew."""
        return 0

    # ---- parameters

    def _check_params(self) -> None:
        check_int("n_factors", self.n_factors, 1, 65535)
        check_float("learning_rate", self.learning_rate, 0.0, above=True, high=1e6)
        check_float("regularization", self.regularization, 0.0, high=1e6)
        check_int("n_epochs", self.n_epochs, 1)
        check_choice("optimizer", self.optimizer, tuple(OPTIMIZERS))
        check_choice("schedule", self.schedule, SCHEDULES)
        check_float("init_scale", self.init_scale, 0.0, above=True, high=1e6)
        check_choice("balance", self.balance, BALANCES)
        check_float("balance_exponent", self.balance_exponent, 0.0, high=1.0)
        for name in ("identity", "deterministic"):
            check_flag(name, getattr(self, name))
        check_random_state(self.random_state)

    def _planned_epochs(self) -> int:
        return self.n_epochs

    # ---- training

    def fit(
        self,
        user_items: Any,
        *,
        user_features: Any = None,
        item_features: Any = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
    ) -> Self:
        """Train from scratch.

        Args:
            user_items: ``(n_users, n_items)`` interactions.
            user_features: ``(n_users, n_user_features)`` sparse; the embedding of each feature times its value is
                added to the user's vector (Kula 2015). None for none.
            item_features: ``(n_items, n_item_features)``, likewise. Items without interactions are then never drawn as
                negatives, so that nothing but their features describes them.
            eval_set: test matrix, or the pair (train, test); its metrics join ``history_`` after every epoch.
            callbacks: objects with ``on_epoch_end(state) -> bool | None``; see ``recsys_fast.training``.
            verbose: show a progress bar, or a line per epoch where standard error is not a terminal.

        Returns:
            The model.

        Raises:
            ValueError, TypeError: a parameter, the matrix or features are not usable; the model is left as it was.
            DivergedError: the loss or the factors are not finite; the last finite epoch is kept.

        An exception, Ctrl-C included, leaves the model at the last finished epoch; unfitted if there was none. A
        ``UserWarning`` says how many samples are left out because their users have interacted with every item.
        """
        features = {"user_features": user_features, "item_features": item_features}
        return self._fit(user_items, eval_set, callbacks, verbose, **features)

    def _check_given(self, matrix: Csr, **given: Any) -> dict[str, Any]:
        users = check_features(given.get("user_features"), "user_features", "user", matrix.n_rows)
        items = check_features(given.get("item_features"), "item_features", "item", matrix.n_cols)
        if (users is not None or items is not None or self._interacted()) and on_cuda(self):
            what = "users whose items are features (SVD++)" if users is None and items is None else "features"
            raise NotSupportedError(message(f"{what}: no CUDA kernel in this version", mend='use device="cpu"'))
        return {"_user_features": users, "_item_features": items}

    def _partial_fit_all(self, user_items: Any, n_epochs: int) -> Self:
        if not self.is_fitted:
            self._user_features = self._item_features = None
        return super()._partial_fit_all(user_items, n_epochs)

    def _begin(self) -> SgdTrainer:
        matrix = self._matrix
        self.seed_ = seed_from(self.random_state)
        sides = self._sides()
        for name, table in self._allocate(sides[0].n_rows, sides[1].n_rows).items():
            setattr(self, f"_{name}", table)
        generator = np.random.Generator(np.random.Philox(self.seed_))
        for table, side, empty in zip((self._users, self._items), sides, without_interactions(matrix), strict=True):
            generator.standard_normal(dtype=np.float32, out=table)
            table *= np.float32(self.init_scale / np.sqrt(self.n_factors))
            if side.own:
                table[: side.n][empty] = 0.0
        return self._resume()

    def _resume(self) -> SgdTrainer:
        for name in TABLES:  # those of a file, or that have grown, begin anywhere
            setattr(self, f"_{name}", aligned(getattr(self, f"_{name}")))
        matrix = self._weighted(self._matrix)
        rates = balanced_rates(matrix, self.balance, self.balance_exponent)
        features = tuple(array for side in self._sides() for array in side.flat())
        return SgdTrainer(self, Sgd(self, self._tables(), matrix, rates, features, self._cdf(), FIT))

    def _announce(self, verbose: bool) -> None:
        if verbose:
            entries = f"{self._matrix.n_rows} users, {self._matrix.n_cols} items, {self._matrix.nnz} entries"
            parts = [entries, f"n_factors={self.n_factors}", f"optimizer={self.optimizer}"]
            for name, features in (("user", self._user_features), ("item", self._item_features)):
                parts += [] if features is None else [f"{features.n_cols} {name} features"]
            print(f"{type(self).__name__}: {', '.join(parts)}", file=sys.stderr)

    # ---- users and items one by one

    def _fold_users(self, given: Csr, start: F32, start_bias: F32) -> tuple[F32, F32]:
        """Return vectors ``(m, d)`` and biases of users with these histories: all epochs again, only they move."""
        tables = self._allocate(given.n_rows, 0)
        tables |= {"users": start.copy(), "items": self.item_factors_, "item_bias": self._composed_bias(1)}
        if self._user_biased():
            tables["user_bias"] = start_bias.copy()
        host = self._sgd(tables, self._weighted(given), _NO_F32, FOLD_USERS)
        sgd = host.placed()
        for epoch in range(self.n_epochs):
            sgd.run(epoch)
        sgd.fetch(host.tables)
        self._check_folded(tables)
        return tables["users"], tables["user_bias"]

    def _fold_items(self, ids: NDArray[np.int32], start: F32, start_bias: F32) -> tuple[F32, F32]:
        """Return vectors and biases of items, from their columns of the matrix: all epochs again, only they move."""
        chosen = np.zeros(self._matrix.n_cols, np.bool_)
        chosen[ids] = True
        entries = np.flatnonzero(chosen[self._matrix.col_idx])
        rows = np.unique(np.searchsorted(self._matrix.row_ptr, entries, side="right") - 1)
        part = inputs.take_rows(self._matrix, rows)
        tables = self._allocate(0, self._matrix.n_cols)
        tables["users"], tables["items"] = self.user_factors_[rows], self.item_factors_.copy()
        tables["items"][ids] = start
        if self._user_biased():
            tables["user_bias"] = self._composed_bias(0)[rows]
        if self._item_biased():
            tables["item_bias"] = self._composed_bias(1).copy()
            tables["item_bias"][ids] = start_bias
        sgd = self._sgd(tables, self._weighted(part), chosen[part.col_idx].astype(np.float32), FOLD_ITEMS)
        for epoch in range(self.n_epochs):
            sgd.run(epoch)
            self._push_items(tables, ids, epoch)
        self._check_folded(tables)
        return tables["items"][ids], tables["item_bias"][ids] if self._item_biased() else _NO_F32

    def _push_items(self, tables: dict[str, NDArray[Any]], ids: NDArray[np.int32], epoch: int) -> None:
        """Train items as negatives of others, as often as a fit would; models without negatives have nothing to do."""

    def _sgd(self, tables: dict[str, NDArray[Any]], matrix: Csr, rates: F32, purpose: int) -> Sgd:
        """Return the epochs of vectors that features are in already."""
        cdf = self._cached("cdf", self._cdf)
        flat = tuple(tables[name] for name in TABLES)
        return Sgd(self, flat, matrix, rates, (*NO_FEATURES, *NO_FEATURES), cdf, purpose)

    def _check_folded(self, tables: dict[str, NDArray[Any]]) -> None:
        if not all(finite(tables[name]) for name in TABLES[:4]):
            mend = f"lower learning_rate (now {self.learning_rate:g}), or scale the values down"
            raise DivergedError(message(f"{type(self).__name__}: folding in diverged", mend=mend))

    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        vars(self).pop("_cache", None)
        for side, name, ids in zip(self._sides(), ("user", "item"), (users, items), strict=True):
            if ids is None or not side.own:
                continue
            table, bias = getattr(self, f"_{name}s"), getattr(self, f"_{name}_bias")
            start, start_bias = side.described(table)[ids], side.described(bias)[ids] if len(bias) else _NO_F32
            if name == "user":
                vectors, biases = self._fold_users(inputs.take_rows(self._matrix, ids), start, start_bias)
            else:
                vectors, biases = self._fold_items(ids, start, start_bias)
            table[ids] = vectors - start
            if len(bias):
                bias[ids] = biases - start_bias
            for part in ("state", "bias_state", "steps"):
                state = getattr(self, f"_{name}_{part}")
                if len(state):
                    state[ids] = self._fill(f"_{part}")
        vars(self).pop("_cache", None)

    def fold_in(self, user_items: Any, *, user_features: Any = None) -> F32:
        """Return vectors of new users: ``n_epochs`` passes over their histories, with the items as they are.

        The passes have the learning rates of ``fit``, the user's whole vector is regularised, and it starts from what
        the features say of the user, else from zero. The same history always gives the same vector.

        Args:
            user_items: ``(m, n_items)``.
            user_features: ``(m, n_user_features)`` as in ``fit``; None for none.

        Returns:
            ``(m, n_factors) float32``; with user biases ``(m, n_factors + 1)``, the bias last.

        Raises:
            ValueError: another number of columns, features that the model was not trained with, unusable values.
            DivergedError: the vectors are not finite.
        """
        _, n_items = self._shape()
        given = self._prepare(inputs.check_matrix(user_items, "user_items", None, n_items))
        vectors, biases = self._fold(given, self._more_features("user", user_features, given.n_rows))
        return np.column_stack([vectors, biases]) if self._user_biased() else vectors

    def _new_queries(self, given: Csr) -> F32:
        vectors, biases = self._fold(given, None)
        return self._query(vectors, biases if self._user_biased() else None)

    def _fold(self, given: Csr, features: Csr | None) -> tuple[F32, F32]:
        blocks = [interacted(given)] if self._interacted() else []
        if self._user_features is not None:
            none = Csr(np.zeros(given.n_rows + 1, np.int64), np.empty(0, np.int32), None, given.n_rows, 0)
            blocks.append(none._replace(n_cols=self._user_features.n_cols) if features is None else features)
        side = Side(given.n_rows, True, tuple(blocks))
        start_bias = side.described(self._user_bias) if self._user_biased() else _NO_F32
        return self._fold_users(given, side.described(self._users), start_bias)

    def _more_features(self, side: str, features: Any, n: int) -> Csr | None:
        """Return checked features of ``n`` new users or items, None for None."""
        known = getattr(self, f"_{side}_features")
        if features is not None and known is None:
            mend = f"pass {side}_features to fit as well"
            raise ValueError(message(f"{side}_features of a model that was trained without", mend=mend))
        return check_features(features, f"{side}_features", side, n, None if known is None else known.n_cols)

    def extend(self, *, user_features: Any = None, item_features: Any = None) -> Self:
        """Append users and items that nothing is known of but their features; they can be recommended at once.

        Args:
            user_features: ``(n_new_users, n_user_features)`` sparse; None for no new users.
            item_features: ``(n_new_items, n_item_features)``, likewise.

        Returns:
            The model. Id maps that came with the training data are dropped where their side grows.

        Raises:
            ValueError: the model was trained without such features, or with another number of them.
        """
        n_users, n_items = self._shape()
        new: dict[str, Csr] = {}
        for side, features in (("user", user_features), ("item", item_features)):
            checked = self._more_features(side, features, getattr(features, "shape", (0,))[0])
            if checked is not None:
                new[side] = checked
        counts = {side: csr.n_rows for side, csr in new.items()}
        self.resize(n_users + counts.get("user", 0), n_items + counts.get("item", 0))
        for side, csr in new.items():
            old = getattr(self, f"_{side}_features")
            ids = np.arange(old.n_rows - csr.n_rows, old.n_rows, dtype=np.int32)
            setattr(self, f"_{side}_features", inputs.replace_rows(old, ids, csr))
        vars(self).pop("_cache", None)
        return self

    def estimate_memory(
        self, user_items: Any, *, user_features: Any = None, item_features: Any = None
    ) -> dict[str, int]:
        """Return the bytes that ``fit`` with these arguments needs at its peak, by purpose and as "total".

        "copy" is the last finished epoch, which training keeps to fall back on. With ``device="cuda"`` there is
        "device", what the GPU needs, which "total" leaves out.
        """
        self._check_params()
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items"))
        n_users, n_items = matrix.shape
        given = {"user_features": user_features, "item_features": item_features}
        sketch = self._sketch(**self._check_given(matrix, **given))
        sizes = sketch._sizes(n_users, n_items)
        shapes = self._shapes(sum(sizes[0]), sum(sizes[1]))
        tables = 4 * sum(math.prod(shape) for shape in shapes.values())
        per_entry = 4 + 4 * (matrix.values is not None)
        features, composed = 0, 0
        for n, side, (own, *blocks) in zip((n_users, n_items), ("user", "item"), sizes, strict=True):
            csr = getattr(sketch, f"_{side}_features")
            if blocks:
                nnz = (
                    own + (0 if csr is None else csr.nnz) + (matrix.nnz if side == "user" and self._interacted() else 0)
                )
                features += 24 * nnz + 16 * (n + 1)
                composed += 8 * n * (self.n_factors + 2)
        parts = {
            "tables": tables,
            "copy": tables,
            "features": features,
            "composed": composed,
            "rates": 0 if self.balance == "none" else 12 * matrix.nnz,
            "weights": self._weight_bytes(matrix),
            "matrix": 8 * (n_users + 1) + per_entry * matrix.nnz,
            "work": working_bytes(n_users, n_items, matrix.nnz, self.n_threads),
        }
        return with_device(parts, self._device_bytes(matrix) if names_gpu(self.device) else 0)

    def _device_bytes(self, data: Csr) -> int:
        tables = 4 * sum(math.prod(shape) for shape in self._shapes(*data.shape).values())
        n_drawn = max(self._draws(), getattr(self, "n_candidates", 1))
        return device_bytes(data, tables, self.balance != "none", n_drawn)


def check_flag(name: str, value: Any) -> None:
    """Raise TypeError unless ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(message(name, repr(value), "True or False"))
