"""What the epochs of stochastic gradient descent share: optimizer state, checks, and the flat signatures' arguments."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import DivergedError, NotSupportedError, message
from recsys_fast.ops.als import _flag, _place
from recsys_fast.ops.arguments import as_number, check_apart
from recsys_fast.ops.csr import Csr, as_csr, validate_csr
from recsys_fast.ops.gram import as_writable, home
from recsys_fast.ops.negatives import as_weights, counter
from recsys_fast.ops.topk import as_factors

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

OPTIMIZERS = {"sgd": 0, "adagrad": 1, "adam": 2}
FROZEN = {"none": 0, "items": 1, "users": 2}
MAX_RATE = 1_000_000  # visits of an entry: each has 4096 of the 2^32 random words of its entry
_SLOTS = (0, 1, 2)  # numbers that an optimizer keeps per parameter

_NO_ROWS = np.empty(0, np.int64)
_NO_IDS = np.empty(0, np.int32)
_NO_VALUES = np.empty(0, np.float32)
_NO_WEIGHTS = np.empty(0, np.float64)


class OptimizerState(NamedTuple):
    """What an optimizer remembers between epochs; ``make_state`` makes one, the epochs change it in place.

    Attributes:
        optimizer: "sgd", "adagrad" or "adam".
        users: ``(n_user_rows, s * d) float32`` with s = 0 for SGD, 1 for Adagrad (sums of squared gradients), 2 for
            Adam (first moments of a row, then its second moments).
        items: ``(n_item_rows, s * d) float32``, likewise.
        user_bias: ``(n_user_rows, s) float32``, ``(0, 0)`` without biases.
        item_bias: ``(n_item_rows, s) float32``, likewise.
        user_steps: ``(n_user_rows,) int32`` updates of each row, for Adam; else of length 0.
        item_steps: ``(n_item_rows,) int32``, likewise.
    """

    optimizer: str
    users: F32
    items: F32
    user_bias: F32
    item_bias: F32
    user_steps: I32
    item_steps: I32


class EpochResult(NamedTuple):
    """What an epoch returns.

    Attributes:
        loss: sum of the samples' losses, each taken before its step; without the penalty.
        n_trained: visits of an entry that were trained on.
        n_skipped: visits without a step because the user has every item that could be its negative.
    """

    loss: float
    n_trained: int
    n_skipped: int


class Problem(NamedTuple):
    """Checked arguments: those that a flat signature starts with, and those that it ends with."""

    head: tuple[NDArray[Any], ...]
    tail: tuple[Any, ...]
    device: str
    n_items: int
    values: F32


def make_state(
    optimizer: str,
    users: F32,
    items: F32,
    user_bias: F32 | None = None,
    item_bias: F32 | None = None,
    *,
    initial: float = 0.0,
) -> OptimizerState:
    """Return the state in which an optimizer starts, for tables of the shapes given.

    Args:
        optimizer: "sgd"; "adagrad" (Duchi, Hazan, Singer 2011), a step per parameter that shrinks with the gradients
            seen; "adam" (Kingma, Ba 2015) with beta1 0.9, beta2 0.999, in its lazy form: a row that a sample does not
            touch keeps its moments, and the bias correction counts the row's own updates.
        users: ``(n_user_rows, d)`` table; only its shape counts.
        items: ``(n_item_rows, d)``, likewise.
        user_bias: ``(n_user_rows,)``, or None where there are none.
        item_bias: ``(n_item_rows,)``, likewise.
        initial: what Adagrad's sums start from: above 0 the first steps are shorter. Adam starts from zeros.

    Raises:
        TypeError: ``initial`` is not a number.
        ValueError: an unknown optimizer, or shapes that disagree.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(message("optimizer", repr(optimizer), "one of " + ", ".join(OPTIMIZERS)))
    s, start = _SLOTS[OPTIMIZERS[optimizer]], as_number(initial, "initial") if optimizer == "adagrad" else 0.0
    asarray, states = home(users).asarray, []
    for table, name in ((users, "users"), (items, "items")):
        if len(_shape(table)) != 2:
            raise ValueError(message(name, f"shape {_shape(table)}", "2 dimensions, (n, d)"))
        states.append(asarray(np.full((len(table), s * table.shape[1]), start, np.float32)))
    for bias, name, n in ((user_bias, "user_bias", len(users)), (item_bias, "item_bias", len(items))):
        if bias is not None and _shape(bias) != (n,):
            raise ValueError(message(f"shape of {name}", _shape(bias), f"({n},), one per row"))
        states.append(asarray(np.full((0, 0) if bias is None else (n, s), start, np.float32)))
    steps = [asarray(np.zeros(len(table) if optimizer == "adam" else 0, np.int32)) for table in (users, items)]
    return OptimizerState(optimizer, *states, *steps)


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(array.shape) if on_device(array) else np.shape(array)


def _table(array: Any, name: str, fixed: bool, finite: bool, ndim: int = 2) -> F32:
    """Return a table that the epoch writes into, or one that it only reads, in writable memory in either case."""
    if on_device(array):
        written = as_writable(array, name, ndim)  # nothing is written where it is fixed
        if finite:
            as_factors(written.reshape(1, -1) if ndim == 1 else written, name)
        return written
    if fixed:
        given = np.asarray(array)
        read = as_factors(given[None, :] if ndim == 1 and given.ndim == 1 else given, name, finite)
        # The flat signatures take one kind of table; nothing is written, and a writable one is not copied.
        return np.require(read.reshape(-1) if ndim == 1 else read, np.float32, ["C", "A", "W"])
    written = as_writable(array, name, ndim)
    if finite:
        as_factors(written.reshape(1, -1) if ndim == 1 else written, name)
    return written


def _bias(array: Any, name: str, n: int, fixed: bool, finite: bool) -> F32:
    if array is None:
        return _NO_VALUES
    if _shape(array) != (n,):
        raise ValueError(message(f"shape of {name}", _shape(array), f"({n},), one per row of the table"))
    return _table(array, name, fixed, finite, 1)


def _check_state(state: Any, tables: tuple[F32, F32], biases: tuple[F32, F32]) -> tuple[int, list[NDArray[Any]]]:
    """Return the optimizer's code and the state arrays that belong to ``tables`` and ``biases``."""
    if state is None:
        state = make_state("sgd", *tables, *(bias if len(bias) else None for bias in biases))
    if not isinstance(state, OptimizerState):
        mend = "pass ops.make_state(optimizer, users, items)"
        raise TypeError(message("state", type(state).__name__, "an OptimizerState", mend))
    if state.optimizer not in OPTIMIZERS:
        raise ValueError(message("state.optimizer", repr(state.optimizer), "one of " + ", ".join(OPTIMIZERS)))
    code = OPTIMIZERS[state.optimizer]
    s, mend = _SLOTS[code], "pass ops.make_state(optimizer, users, items, user_bias, item_bias) of these tables"
    arrays: list[NDArray[Any]] = []
    for field, table in zip(("users", "items"), tables, strict=True):
        arrays.append(_state_array(getattr(state, field), f"state.{field}", (len(table), s * table.shape[1]), mend))
    for field, bias in zip(("user_bias", "item_bias"), biases, strict=True):
        nothing = home(bias).empty((0, 0), np.float32)
        given = getattr(state, field) if len(bias) else nothing  # one too many does not matter
        arrays.append(_state_array(given, f"state.{field}", (len(bias), s) if len(bias) else (0, 0), mend))
    for field, table in zip(("user_steps", "item_steps"), tables, strict=True):
        steps = getattr(state, field)
        shape = (len(table) if state.optimizer == "adam" else 0,)
        if not (isinstance(steps, np.ndarray) or on_device(steps)) or steps.dtype != np.int32 or steps.shape != shape:
            got = f"{steps.dtype} {steps.shape}" if hasattr(steps, "dtype") else type(steps).__name__
            raise ValueError(message(f"state.{field}", got, f"int32 {shape}", mend))
        if isinstance(steps, np.ndarray):
            if not (steps.flags.c_contiguous and steps.flags.writeable):
                raise ValueError(message(f"state.{field} is read-only or not contiguous", mend=mend))
            if steps.min(initial=0) < 0:
                raise ValueError(message(f"state.{field}", int(steps.min()), "0 or more", mend))
        arrays.append(steps)
    return code, arrays


def _state_array(array: Any, name: str, shape: tuple[int, int], mend: str) -> F32:
    written = as_writable(array, name)
    if written.shape != shape:
        raise ValueError(message(f"shape of {name}", written.shape, f"{shape}", mend))
    return written


def _features(matrix: Any, name: str, n_rows: int, n_table: int, place: dict[str, Any]) -> list[NDArray[Any]]:
    """Return row pointers, columns and values of a feature matrix; three empty arrays for None."""
    if matrix is None:
        return [_NO_ROWS, _NO_IDS, _NO_VALUES]
    csr = as_csr(matrix, name, **place)
    if csr.shape != (n_rows, n_table):
        mend = "it has a row per user or item, and a column per row of the table"
        raise ValueError(message(f"shape of {name}", csr.shape, f"{(n_rows, n_table)}", mend))
    return [csr.row_ptr, csr.col_idx, csr.or_empty()]


def _by_entry(array: ArrayLike, name: str, nnz: int, highest: float | None = None) -> F32:
    """Return numbers, 0 or more, that go with the entries of the matrix."""
    given = np.asarray(array)
    if given.dtype.kind not in "biuf":
        raise TypeError(message(name, f"dtype {given.dtype}", "numbers"))
    if given.shape != (nnz,):
        raise ValueError(message(f"shape of {name}", given.shape, f"({nnz},), one per entry of the matrix"))
    return _not_negative(given, name, highest)


def _not_negative(given: NDArray[Any], name: str, highest: float | None = None) -> F32:
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, which is named below
        values = np.ascontiguousarray(given, dtype=np.float32)
    upper = float(np.finfo(np.float32).max) if highest is None else highest
    if values.size and not (values.min() >= 0 and values.max() <= upper):  # NaN fails both
        at = int(np.flatnonzero(~((values >= 0) & (values <= upper)))[0])
        expected = "a finite number, 0 or more" if highest is None else f"0 to {highest:.0f}"
        raise ValueError(message(f"{name}[{at}]", given[at], expected))
    return values


def _entries(matrix: Any, ordered: bool, place: dict[str, Any]) -> Csr:
    """Return the matrix with sorted rows; with ``ordered`` one that sorting would change is refused."""
    if not ordered:
        return as_csr(matrix, **place)
    csr = as_csr(matrix, canonical=False, **place)
    if not validate_csr(csr, **place):
        mend = "pass matrix = ops.as_csr(matrix), and weights and rates in its order"
        raise ValueError(message("rows of matrix", "unsorted or repeated columns", "sorted ones", mend))
    return csr


def prepare(
    users: F32, items: F32, matrix: Any, user_bias: F32 | None, item_bias: F32 | None, state: OptimizerState | None,
    weights: bool | ArrayLike | None, rates: ArrayLike | None, user_features: Any, item_features: Any,
    learning_rate: float, regularization: float, frozen: str, seed: int, epoch: int, deterministic: bool,
    check_finite: bool, device: str, n_threads: int | None,
) -> Problem:  # fmt: skip
    """Check what the four epochs have in common; nothing is written before all of it has passed.

    ``weights`` True takes the matrix's values as they are.
    """
    given = {"users": users, "items": items, "user_bias": user_bias, "item_bias": item_bias}
    if isinstance(state, OptimizerState):
        given |= {"state.users": state.users, "state.items": state.items}
    device = backend.place(device, **given)
    place, finite = _place(device, n_threads), _flag(check_finite, "check_finite")
    there, on_cuda = place["device"], place["device"].startswith("cuda")
    if on_cuda:
        place["device"] = backend.resolve_device("auto")  # matrices lie in host memory, and are checked there
    if frozen not in FROZEN:
        raise ValueError(message("frozen", repr(frozen), "one of " + ", ".join(FROZEN)))
    user_table = _table(users, "users", frozen == "users", finite)
    item_table = _table(items, "items", frozen == "items", finite)
    if user_table.shape[1] != item_table.shape[1] or not user_table.shape[1]:
        got = f"users of {user_table.shape[1]}, items of {item_table.shape[1]}"
        raise ValueError(message("columns of users and items", got, "the same number, at least 1"))
    ordered = rates is not None or not (weights is None or isinstance(weights, (bool, np.bool_)))
    csr = _entries(matrix, ordered, place)
    expected = (
        len(user_table) if user_features is None else csr.n_rows,
        len(item_table) if item_features is None else csr.n_cols,
    )
    if csr.shape != expected:
        transposed = csr.shape == expected[::-1]
        mend = "it looks transposed: pass matrix.T" if transposed else "rows go with users, columns with items"
        raise ValueError(message("shape of matrix", csr.shape, f"{expected}", mend))
    user_rows = _features(user_features, "user_features", csr.n_rows, len(user_table), place)
    item_rows = _features(item_features, "item_features", csr.n_cols, len(item_table), place)
    biases = (
        _bias(user_bias, "user_bias", len(user_table), frozen == "users", finite),
        _bias(item_bias, "item_bias", len(item_table), frozen == "items", finite),
    )
    code, states = _check_state(state, (user_table, item_table), biases)
    values = _NO_VALUES
    if weights is True or (isinstance(weights, np.bool_) and weights):
        values = csr.or_empty()
    elif weights is not None and not isinstance(weights, (bool, np.bool_)):
        values = _by_entry(weights, "weights", csr.nnz)
    visits = _NO_VALUES if rates is None else _by_entry(rates, "rates", csr.nnz, MAX_RATE)
    tables = (user_table, item_table, *biases, *states)
    names = ("users", "items", "user_bias", "item_bias", *(f"state.{field}" for field in OptimizerState._fields[1:]))
    for (a, name), (b, other) in itertools.combinations(zip(tables, names, strict=True), 2):
        if a.size and b.size:
            check_apart(a, name, b, other)
    if on_cuda and (user_features is not None or item_features is not None):
        raise NotSupportedError(message("features have no CUDA kernel in this version", mend='use device="cpu"'))
    tail = (
        code, as_number(learning_rate, "learning_rate"), as_number(regularization, "regularization"), FROZEN[frozen],
        counter(seed, "seed", 64), counter(epoch, "epoch", 32), _flag(deterministic, "deterministic"),
        place["n_threads"],
    )  # fmt: skip
    head = (*tables, csr.row_ptr, csr.col_idx, values, visits, *user_rows, *item_rows)
    return Problem(head, tail, there, csr.n_cols, values)


def check_weights(problem: Problem) -> None:
    """Raise ValueError where a value of the matrix cannot be a sample's weight."""
    _not_negative(problem.values, "value of entry", None)


def check_labels(problem: Problem) -> None:
    """Raise ValueError where a value of the matrix cannot be a label, or a probability."""
    _not_negative(problem.values, "value of entry", 1.0)


def running_sums(weights: ArrayLike | None, n_items: int) -> NDArray[np.float64]:
    """Return the running sums of the weights of negatives; an empty array for uniform ones."""
    # Running sums, left to right, so that they have the same bits everywhere.
    return _NO_WEIGHTS if weights is None else np.cumsum(as_weights(weights, n_items, "negative_weights"))


def run(name: str, problem: Problem, *options: Any) -> EpochResult:
    """Call the backend's epoch ``name``.

    Raises:
        DivergedError: the loss is not finite.
    """
    loss, n_trained, n_skipped = getattr(backend.get(problem.device), name)(*problem.head, *options, *problem.tail)
    if not np.isfinite(loss):
        mend = "lower learning_rate, raise regularization, or scale weights and ratings down"
        raise DivergedError(message("the epoch's loss", loss, "a finite number", mend))
    return EpochResult(float(loss), int(n_trained), int(n_skipped))
