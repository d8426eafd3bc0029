"""Alternating least squares: implicit feedback (every cell counts) and explicit ratings (observed cells, biases)."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models import inputs
from recsys_fast.models.als_explain import Explanation, explain
from recsys_fast.models.als_problem import SOLVERS, AlsProblem, choose_solver
from recsys_fast.models.als_training import AlsTrainer, device_bytes, device_scratch, snapshot_bytes, working_bytes
from recsys_fast.models.factors import F32, FactorModel
from recsys_fast.models.memory import names_gpu, with_device
from recsys_fast.models.parameters import check_choice, check_float, check_int, check_random_state, seed_from
from recsys_fast.ops import Csr


class ALS(FactorModel):
    """Matrix factorization by alternating least squares.

    Implicit feedback minimises, over all users u and items i with scores ``s_ui = x_u . y_i``,

    - ``objective="ials++"``: ``sum_observed c (s - 1)^2 + w0 sum_all s^2 + sum_u reg_u |x_u|^2 + sum_i reg_i |y_i|^2``
      (Rendle et al. 2021);
    - ``objective="hu2008"``: ``sum_all (w0 + c) (s - p)^2 + ...`` with p = 1 where observed, else 0 (Hu, Koren and
      Volinsky 2008, who have w0 = 1);

    with ``c = alpha * value`` and ``w0 = unobserved_weight``; a negative value is confidence ``|c|`` in a score of 0, a
    stored zero is no interaction. Explicit feedback minimises ``sum_observed (value - mean
    - b_u - b_i - s)^2`` and the same penalties, which include the biases. In all of them ``reg_u = regularization *
    (n_u + w0 n_items)^nu`` for a user with n_u entries (w0 = 0 when explicit), likewise for items.

    Results are the same bits for any number of threads.

    Args:
        n_factors: length of a factor vector.
        regularization: see above; around 0.003 for implicit feedback, 0.05 for ratings of 1 to 5.
        nu: exponent of the frequency in the penalty; 1 scales it fully, 0 not at all.
        unobserved_weight: w0, weight of the cells without interaction; implicit only.
        alpha: confidence per unit of value; implicit only.
        feedback: "implicit" or "explicit".
        objective: "ials++" or "hu2008"; implicit only.
        solver: "cholesky" (exact), "cg" (conjugate gradients from the last epoch's factors, Takacs et al. 2011),
            "subspace" (block coordinate descent, iALS++, Rendle et al. 2021), or "auto", which estimates from
            n_factors and density whether exact solutions are affordable; ``solver_`` says what was taken.
        n_cg_steps: steps per row of "cg".
        block_size: columns per block of "subspace".
        n_epochs: sweeps over users and items.
        init_scale: item factors start as N(0, init_scale / sqrt(n_factors)).
        device: "auto", "cpu", "numba" or "cuda". On "cuda" training stays on the device; what follows it works on
            copies in host memory.
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        user_factors_: ``(n_users, n_factors) float32``.
        item_factors_: ``(n_items, n_factors) float32``; when implicit, ``item_factors_.T @ item_factors_`` is diagonal.
        user_biases_, item_biases_: ``(n_users,)`` and ``(n_items,) float32``, explicit only.
        global_mean_: mean rating, 0 when implicit.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch.
        solver_: the solver in use.
        seed_: the int that the initial factors came from.
        n_epochs_: finished epochs.

    Interruptions: while both tables together take at most 48 MB, a copy of the last epoch is kept and Ctrl-C (or a
    failure) restores it exactly. Larger tables are not copied: rows that the interrupted sweep had reached keep their
    newer values, so that the loss is at most that of the last finished epoch. Either way the model is usable.
    """

    _learned: ClassVar[tuple[str, ...]] = ("_users", "_items", "_spectrum", "global_mean_", "solver_", "seed_")

    _users: F32
    _items: F32
    _spectrum: F32
    global_mean_: float
    solver_: str
    seed_: int

    def __init__(
        self,
        n_factors: int = 64,
        *,
        regularization: float = 0.003,
        nu: float = 1.0,
        unobserved_weight: float = 0.01,
        alpha: float = 1.0,
        feedback: str = "implicit",
        objective: str = "ials++",
        solver: str = "auto",
        n_cg_steps: int = 3,
        block_size: int = 32,
        n_epochs: int = 15,
        init_scale: float = 0.1,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_factors = n_factors
        self.regularization = regularization
        self.nu = nu
        self.unobserved_weight = unobserved_weight
        self.alpha = alpha
        self.feedback = feedback
        self.objective = objective
        self.solver = solver
        self.n_cg_steps = n_cg_steps
        self.block_size = block_size
        self.n_epochs = n_epochs
        self.init_scale = init_scale
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state

    # ---- parameters and input

    def _check_params(self) -> None:
        check_int("n_factors", self.n_factors, 1, 65535)
        check_float("regularization", self.regularization, 0.0, high=1e30)
        check_float("nu", self.nu, 0.0, high=10.0)
        check_float("unobserved_weight", self.unobserved_weight, 0.0, high=1e30)
        check_float("alpha", self.alpha, 0.0, above=True, high=1e30)
        check_choice("feedback", self.feedback, ("implicit", "explicit"))
        check_choice("objective", self.objective, ("ials++", "hu2008"))
        check_choice("solver", self.solver, ("auto", *SOLVERS))
        check_int("n_cg_steps", self.n_cg_steps, 1, 1000)
        check_int("block_size", self.block_size, 1, 65535)
        check_int("n_epochs", self.n_epochs, 1)
        check_float("init_scale", self.init_scale, 0.0, above=True, high=1e6)
        check_random_state(self.random_state)

    def _planned_epochs(self) -> int:
        return self.n_epochs

    @property
    def _explicit(self) -> bool:
        return self.feedback == "explicit"

    def _prepare(self, matrix: Csr) -> Csr:
        if self._explicit:
            if matrix.values is None and matrix.nnz:
                mend = 'pass ratings, or set feedback="implicit"'
                raise ValueError(message("user_items without values", expected="ratings", mend=mend))
            return matrix if matrix.values is not None else matrix._replace(values=np.empty(0, np.float32))
        if matrix.values is None or matrix.nnz == 0:
            return matrix._replace(values=None)
        high = float(max(matrix.values.max(), -matrix.values.min())) * self.alpha
        if high > float(np.finfo(np.float32).max):
            raise ValueError(message("largest confidence, alpha * value", high, "a float32", "lower alpha"))
        matrix = inputs.drop_zeros(matrix)
        return matrix._replace(values=None) if inputs.all_ones(matrix) else matrix

    def _problem(self) -> AlsProblem:
        return AlsProblem.of(self, self.solver_)

    # ---- training

    def _begin(self) -> AlsTrainer:
        matrix = self._matrix
        self.seed_ = seed_from(self.random_state)
        self.solver_ = self.solver
        if self.solver == "auto":
            self.solver_ = choose_solver(matrix, self.n_factors + self._explicit, self.n_cg_steps)
        self.global_mean_ = 0.0
        if self._explicit and matrix.values is not None and matrix.nnz:
            self.global_mean_ = float(matrix.values.mean(dtype=np.float64))
        width = self.n_factors + self._explicit
        items = np.empty((matrix.n_cols, width), np.float32)
        np.random.Generator(np.random.Philox(self.seed_)).standard_normal(dtype=np.float32, out=items)
        items *= np.float32(self.init_scale / np.sqrt(self.n_factors))
        if self._explicit:
            items[:, -1] = 0.0
        users = np.zeros((matrix.n_rows, width), np.float32)
        return AlsTrainer(self, self._problem(), users, items, None)

    def _resume(self) -> AlsTrainer:
        return AlsTrainer(self, self._problem(), self._users, self._items, self._spectrum)

    def _announce(self, verbose: bool) -> None:
        if verbose:
            chosen = f"solver={self.solver_}" + (" (auto)" if self.solver == "auto" else "")
            entries = f"{self._matrix.n_rows} users, {self._matrix.n_cols} items, {self._matrix.nnz} entries"
            print(f"ALS: {entries}, n_factors={self.n_factors}, {chosen}", file=sys.stderr)

    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        if users is not None:
            self._users[users] = self._problem().fold_users(self, inputs.take_rows(self._matrix, users))
        if items is not None:
            columns = inputs.take_rows(ops.csr_transpose(self._matrix), items)
            self._items[items] = self._problem().fold_items(self, columns)
            if not self._explicit:
                self._spectrum = self._problem().to_item_basis(self._users, self._items)
        vars(self).pop("_cache", None)

    def _grow(self, n_users: int, n_items: int) -> None:
        self._users = _grown(self._users, n_users)
        self._items = _grown(self._items, n_items)
        vars(self).pop("_cache", None)

    # ---- what was learned

    @property
    def user_factors_(self) -> F32:
        """``(n_users, n_factors) float32``."""
        self._check_fitted()
        return self._users[:, : self.n_factors]

    @property
    def item_factors_(self) -> F32:
        """``(n_items, n_factors) float32``."""
        self._check_fitted()
        return self._items[:, : self.n_factors]

    @property
    def user_biases_(self) -> F32:
        """``(n_users,) float32``; NotSupportedError when implicit."""
        return self._biases(self._users if self.is_fitted else None)

    @property
    def item_biases_(self) -> F32:
        """``(n_items,) float32``; NotSupportedError when implicit."""
        return self._biases(self._items if self.is_fitted else None)

    def _biases(self, table: F32 | None) -> F32:
        self._check_fitted()
        if table is None or not self._explicit:
            raise NotSupportedError(message("biases", mend='they exist with feedback="explicit"'))
        return table[:, -1]

    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        run = slice(None) if users is None else inputs.run_of(users)
        table = self._users[users if run is None else run]
        return self._with_biases(table) if self._explicit else table

    def _with_biases(self, users: F32) -> F32:
        """Return (factors, bias + mean, 1), which meets (factors, 1, bias) of an item."""
        queries = np.empty((len(users), users.shape[1] + 1), np.float32)
        queries[:, :-1] = users
        queries[:, -2] += np.float32(self.global_mean_)
        queries[:, -1] = 1.0
        return queries

    def _item_table(self) -> F32:
        if not self._explicit:
            return self._items
        table: F32 = self._cached("item_table", self._make_item_table)
        return table

    def _make_item_table(self) -> F32:
        table = np.empty((len(self._items), self._items.shape[1] + 1), np.float32)
        table[:, :-2], table[:, -2], table[:, -1] = self._items[:, :-1], 1.0, self._items[:, -1]
        return table

    def _new_queries(self, given: Csr) -> F32:
        folded = self._problem().fold_users(self, given)
        return self._with_biases(folded) if self._explicit else folded

    def _user_vectors(self) -> F32:
        return self.user_factors_

    def _item_vectors(self) -> F32:
        return self.item_factors_

    # ---- fold-in and explanation

    def fold_in(self, user_items: Any) -> F32:
        """Return factors of new users: the exact solution for their histories, with the items as they are.

        Args:
            user_items: ``(m, n_items)``.

        Returns:
            ``(m, n_factors) float32``; when explicit ``(m, n_factors + 1)`` with the bias last.

        Raises:
            ValueError: another number of columns, or values that the objective does not allow.
        """
        _, n_items = self._shape()
        return self._problem().fold_users(
            self, self._prepare(inputs.check_matrix(user_items, "user_items", None, n_items))
        )

    def fold_in_items(self, item_users: Any) -> F32:
        """Return factors of new items: the exact solution given the users as they are.

        Args:
            item_users: ``(m, n_users)``, one row per new item.

        Returns:
            ``(m, n_factors) float32``; when explicit ``(m, n_factors + 1)`` with the bias last.

        Raises:
            ValueError: another number of columns, or values that the objective does not allow.
        """
        n_users, _ = self._shape()
        return self._problem().fold_items(
            self, self._prepare(inputs.check_matrix(item_users, "item_users", None, n_users))
        )

    def explain(self, user: int, item: int, *, user_items: Any = None) -> Explanation:
        """Return what each item of a user's history contributes to the score of ``item`` (Hu et al. 2008, section 5).

        Args:
            user: a user, or a row of ``user_items``.
            item: the item to explain.
            user_items: ``(m, n_items)`` histories of new users; None for the training matrix.

        Returns:
            items ``(k,) int32``, contributions ``(k,) float32`` in descending order, and their sum: the score of the
            user's exact factors (when explicit without mean and item bias).

        Raises:
            IndexError: an id out of range.
        """
        _, n_items = self._shape()
        matrix = self._matrix
        if user_items is not None:
            matrix = self._prepare(inputs.check_matrix(user_items, "user_items", None, n_items))
        users, _ = inputs.check_ids(user, matrix.n_rows, "user")
        items, _ = inputs.check_ids(item, n_items, "item")
        if len(users) != 1 or len(items) != 1:
            raise ValueError(message("explain", "several ids", "one user and one item"))
        return explain(self, inputs.take_rows(matrix, users), int(items[0]))

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose and as "total".

        With ``device="cuda"`` there is "device", what the GPU needs, which "total" leaves out. Where the GPU has less,
        the matrix goes there in blocks of rows, and only the larger table has to have room.
        """
        self._check_params()
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items"))
        n_users, n_items = matrix.shape
        width = self.n_factors + self._explicit
        values = 4 * matrix.nnz if matrix.values is not None or self.alpha != 1 else 0
        parts = {
            "factors": 4 * width * (n_users + n_items),
            "matrix": 8 * (n_users + 1) + 4 * matrix.nnz + (0 if matrix.values is None else 4 * matrix.nnz),
            "transpose": 8 * (n_items + 1) + 4 * matrix.nnz + values,
            "weights": 0 if self._explicit or self.alpha == 1 else 4 * matrix.nnz,
            "snapshot": snapshot_bytes(n_users, n_items, width),
            "work": working_bytes(width, self.n_threads),
        }
        if not names_gpu(self.device):
            return with_device(parts, 0)
        resident, _ = device_bytes(matrix, width, self._explicit or self.alpha != 1)
        return with_device(parts, resident + device_scratch(width))

    def _device_bytes(self, data: Csr) -> int:
        return device_bytes(data, self.n_factors + self._explicit, self._explicit or self.alpha != 1)[1]

    # ---- files

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays = {"user_factors": self._users, "item_factors": self._items, "spectrum": self._spectrum}
        return arrays, {"global_mean": self.global_mean_, "solver": self.solver_, "seed": self.seed_}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import read_table, take_number, take_seed

        (n_users, n_items), width = self._matrix.shape, self.n_factors + self._explicit
        self.global_mean_ = take_number(reader, values, "global_mean")
        self.solver_, self.seed_ = values.pop("solver", None), take_seed(reader, values)
        if self.solver_ not in SOLVERS:
            raise reader.fail("solver", repr(self.solver_)[:80], "one of " + ", ".join(SOLVERS))
        try:
            self._matrix = self._prepare(self._matrix)
        except ValueError as error:
            raise reader.fail(str(error)) from None
        self._users = read_table(reader, "user_factors", (n_users, width))
        self._items = read_table(reader, "item_factors", (n_items, width))
        self._spectrum = read_table(reader, "spectrum", (width,))


def _grown(table: F32, n: int) -> F32:
    """Return the table with rows of zeros at its end, or itself where it has n rows."""
    if len(table) == n:
        return table
    grown = np.zeros((n, table.shape[1]), np.float32)
    grown[: len(table)] = table
    return grown
