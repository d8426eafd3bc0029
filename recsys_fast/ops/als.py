"""Alternating least squares: one half-epoch, and the loss that it minimises."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.device import on_device
from recsys_fast.errors import DivergedError, message
from recsys_fast.ops.arguments import as_number, check_apart
from recsys_fast.ops.csr import Csr, as_csr
from recsys_fast.ops.gram import as_writable, gram, gram_eigen, home, rows_rotate
from recsys_fast.ops.topk import as_count, as_factors

F32 = NDArray[np.float32]

SOLVERS = {"cholesky": 0, "cg": 1, "subspace": 2}
_EMPTY = np.empty(0, np.float32)


class _Problem(NamedTuple):
    """Checked arguments of the flat signatures."""

    y: F32
    csr: Csr
    weights: F32
    targets: F32
    scalars: tuple[float, float, float, float]  # target_offset, regularization, nu, unobserved_weight
    biased: bool


def _place(device: str, n_threads: int | None) -> dict[str, Any]:
    """Return where to run, checked once, as keyword arguments of the operations that this one calls."""
    return {"device": backend.resolve_device(device), "n_threads": backend.resolve_threads(n_threads)}


def _host(place: dict[str, Any]) -> dict[str, Any]:
    """Return where to check a matrix, which lies in host memory: with cuda it is uploaded afterwards."""
    return {**place, "device": "auto"} if place["device"].startswith("cuda") else place


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(message(name, type(value).__name__, "True or False"))
    return bool(value)


def _check_problem(
    x: F32, y: ArrayLike, matrix: Any, targets: Any, target_offset: Any, regularization: Any, nu: Any,
    unobserved_weight: Any, biased: Any, place: dict[str, Any],
) -> _Problem:  # fmt: skip
    """Return what the flat signatures take; the meaning of the arguments is in ``als_sweep``."""
    factors = as_factors(y, "y")
    if x.shape[1] != factors.shape[1] or not x.shape[1]:
        got = f"x of {x.shape[1]} columns, y of {factors.shape[1]}"
        raise ValueError(message("columns of x and y", got, "the same number, at least 1"))
    given = targets is not None and not isinstance(targets, (bool, np.bool_))
    # Targets go by the place of an entry, which sorting would change.
    csr = as_csr(matrix, canonical=not given, **_host(place))
    shape = (len(x), len(factors))
    if csr.shape != shape:
        transposed = csr.shape == shape[::-1]
        mend = "it looks transposed: pass matrix.T" if transposed else "rows go with x, columns with y"
        raise ValueError(message("shape of matrix", csr.shape, f"{shape}", mend))
    weights, linear = csr.or_empty(), _EMPTY
    if given:
        linear = _targets(targets, csr)
    elif targets:
        weights, linear = _EMPTY, np.ones(csr.nnz, np.float32) if csr.values is None else csr.values
    offset, w0 = as_number(target_offset, "target_offset", None), as_number(unobserved_weight, "unobserved_weight")
    scalars = (offset, as_number(regularization, "regularization"), as_number(nu, "nu"), w0)
    explicit = given or bool(targets)
    if explicit and offset:
        raise ValueError(message("target_offset", offset, "0 where targets are given", "add it to the targets"))
    if _flag(biased, "biased") and (given or not explicit or w0):
        mend = "pass targets=True and unobserved_weight=0"
        raise ValueError(message("biased=True is for ratings, of which only the observed ones count", mend=mend))
    return _Problem(factors, csr, weights, linear, scalars, bool(biased))


def _targets(targets: ArrayLike, csr: Csr) -> F32:
    array = np.asarray(targets)
    if array.dtype.kind not in "biuf":
        raise TypeError(message("targets", f"dtype {array.dtype}", "True, False, None, or numbers"))
    if array.shape != (csr.nnz,):
        raise ValueError(message("shape of targets", array.shape, f"({csr.nnz},), one per entry of the matrix"))
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, which is named below
        linear = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(linear).all():
        at = int(np.flatnonzero(~np.isfinite(linear))[0])
        raise ValueError(message(f"targets[{at}]", array[at], "a finite float32"))
    return linear


def als_sweep(
    x: F32,
    y: ArrayLike,
    matrix: Any,
    *,
    spectrum: ArrayLike | None = None,
    unobserved_weight: float = 0.01,
    regularization: float = 0.003,
    nu: float = 1.0,
    targets: bool | ArrayLike | None = None,
    target_offset: float = 0.0,
    biased: bool = False,
    solver: str = "cholesky",
    n_steps: int = 3,
    block_size: int = 32,
    device: str = "auto",
    n_threads: int | None = None,
) -> float:
    """Solve every row of ``x`` for fixed ``y``, in place, and return the loss of the rows.

    With s = x_u . y_i, confidence c and linear term t of an entry (u, i), n_u entries in row u and m columns, row u
    minimises

        sum_observed [t' - 2 t s + c s^2] + w0 sum_all s^2 + reg_u |x_u|^2,   reg_u = regularization (n_u + w0 m)^nu.

    - Implicit (``targets`` None or False): c = value of the entry (1 where the matrix has none), t = t' =
      c + target_offset. A value that is not positive is confidence |c| in preference 0: t = t' = 0.
      w0 < 1 and offset 0 make the objective of Rendle et al. 2021; w0 = 1, offset 1 and c = alpha r that of Hu et al.
      2008.
    - Explicit (``targets=True``): c = 1, t = value of the entry, t' = t^2; with ``unobserved_weight=0`` squared error
      over the observed ratings.
    - ``targets`` an array: t from it, c from the matrix, t' = t^2.

    A row without entries becomes zero. The bits do not depend on ``n_threads``. Where it costs no more than what was
    asked for, a row may be solved exactly: rows no longer than a block ("subspace"), rows too long for the cache ("cg";
    the cpu backend takes steps over many of those at once where they have enough columns in common).

    Args:
        x: ``(n, d) float32``, C-contiguous, writable; overwritten. "cg" and "subspace" start from what it holds, and a
            start of zeros is fine; "cholesky" does not read it.
        y: ``(m, d)``, converted to contiguous float32 where it is not; never changed.
        matrix: ``(n, m)`` sparse in host memory, anything that ``as_csr`` takes; duplicate entries are summed, unless
            ``targets`` is an array: then each counts.
        spectrum: ``(d,)`` diagonal of y^T y, promised to be diagonal: what ``gram_eigen`` returned when ``rows_rotate``
            brought ``y`` (and ``x``) into the eigenbasis. None computes it, works on rotated copies of both and rotates
            ``x`` back; not needed where ``unobserved_weight`` is 0.
        unobserved_weight: w0, weight of a zero target at every pair, observed or not.
        regularization: strength of the penalty. With 0 a row may be underdetermined: where a factorization breaks down,
            and in "cg" without any penalty, a small share of the system's mean diagonal is added to it.
        nu: how the penalty grows with the number of a row's entries; 0 the same for all, 1 proportional.
        targets: see above; an array is ``(nnz,)`` in the order of the entries.
        target_offset: see above; implicit only.
        biased: the last columns of ``x`` and ``y`` are biases, regularised like factors: s = sum_k<d-1 x_k y_k +
            x_{d-1} + y_{d-1}. Needs ``targets=True`` and ``unobserved_weight=0``.
        solver: "cholesky", exact; "cg", ``n_steps`` of preconditioned conjugate gradients (Takacs, Pilaszy, Tikk 2011);
            "subspace", ``n_steps`` passes over blocks of ``block_size`` columns, each solved exactly (iALS++).
        n_steps: steps or passes, see ``solver``.
        block_size: columns of a block, see ``solver``; d where larger. The cpu backend rounds it up to whole vectors
            (16 at most).
        device: backend.
        n_threads: number of threads; None for every CPU granted.

    Returns:
        The sum over rows of the minimised expression, in float64.

    Raises:
        TypeError: ``x`` is not a float32 array, or another argument is of a wrong type.
        ValueError: shapes disagree (a transposed matrix is named as such), values out of range or not finite, ``x``
            read-only, not contiguous or sharing memory with ``y``, options that exclude each other, or y^T y exceeds
            float32 where it has to be computed.
        DivergedError: the solution is not finite; ``x`` holds it.

    References:
        Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets, 2008. Takacs, Pilaszy, Tikk:
        Applications of the Conjugate Gradient Method for Implicit Feedback Collaborative Filtering, 2011. Rendle,
        Krichene, Zhang, Koren: iALS++: Speeding up Matrix Factorization with Subspace Optimization, 2021.
    """
    place = _place(backend.place(device, x=x, y=y), n_threads)
    rows = as_writable(x, "x")
    if solver not in SOLVERS:
        raise ValueError(message("solver", repr(solver), "one of " + ", ".join(SOLVERS)))
    steps, width = as_count(n_steps, "n_steps", 1), as_count(block_size, "block_size", 1)
    if solver != "cholesky":
        as_factors(rows, "x")  # the start must be finite
    problem = _check_problem(
        rows, y, matrix, targets, target_offset, regularization, nu, unobserved_weight, biased, place
    )
    factors, d, arrays = problem.y, rows.shape[1], home(rows)
    check_apart(rows, "x", factors, "y")
    solved, basis = rows, None
    if spectrum is not None:
        values = _spectrum(spectrum, d)
    elif problem.scalars[3] == 0.0:
        values = np.zeros(d, np.float32)
    else:
        basis, values = gram_eigen(gram(factors, **place), **place)
        factors = rows_rotate(_copy(factors), basis, **place)
        solved = (
            arrays.zeros(rows.shape, np.float32) if solver == "cholesky" else rows_rotate(_copy(rows), basis, **place)
        )
    loss = backend.get(place["device"]).als_sweep(
        solved, factors, values, problem.csr.row_ptr, problem.csr.col_idx, problem.weights, problem.targets,
        *problem.scalars, problem.biased, SOLVERS[solver], steps, min(width, d), place["n_threads"],
    )  # fmt: skip
    if basis is not None:
        back = arrays.asarray(np.ascontiguousarray(arrays.to_host(basis).T))
        rows[...] = rows_rotate(solved, back, **place)
    if not np.isfinite(loss):
        mend = "scale the values or factors down, or raise regularization"
        raise DivergedError(message("the sweep's loss", loss, "a finite number", mend))
    return float(loss)


def _copy(table: F32) -> F32:
    """Return a copy where the table lies."""
    copy: F32 = home(table).empty(table.shape, np.float32)
    copy[...] = table
    return copy


def _spectrum(spectrum: ArrayLike, d: int) -> F32:
    if on_device(spectrum):
        spectrum = backend.arrays("cuda").to_host(spectrum)
    if np.shape(spectrum) != (d,):
        raise ValueError(message("shape of spectrum", np.shape(spectrum), f"({d},), one per column of y"))
    values: F32 = as_factors(np.asarray(spectrum)[None, :], "spectrum").reshape(d)
    if float(values.min()) < 0.0:
        raise ValueError(message("spectrum", f"value {values.min()}", "none negative", "pass what gram_eigen returned"))
    return values


def _gram(table: F32, name: str, place: dict[str, Any]) -> F32:
    """Return the Gram matrix of a checked table; what can still go wrong is that it exceeds float32."""
    try:
        return gram(table, **place)
    except ValueError:
        raise ValueError(message(f"{name}^T {name} exceeds float32", mend=f"scale {name} down")) from None


def als_loss(
    x: ArrayLike,
    y: ArrayLike,
    matrix: Any,
    *,
    unobserved_weight: float = 0.01,
    regularization: float = 0.003,
    nu: float = 1.0,
    targets: bool | ArrayLike | None = None,
    target_offset: float = 0.0,
    biased: bool = False,
    device: str = "auto",
    n_threads: int | None = None,
) -> float:
    """Return the loss of a model: the expression of ``als_sweep`` over all rows, plus sum_i reg_i |y_i|^2.

    reg_i = regularization (n_i + w0 n)^nu for column i with n_i entries; the sum over all pairs is w0 times the inner
    product of the two Gram matrices, so it costs nothing per pair. Any basis will do, as long as both tables share it.

    Args:
        x: ``(n, d)``, converted to contiguous float32 where it is not.
        y: ``(m, d)``, likewise.
        matrix: ``(n, m)`` sparse, as in ``als_sweep``; so are all further arguments.
        unobserved_weight: w0.
        regularization: strength of the penalties.
        nu: their growth with the number of entries.
        targets: None or False for implicit, True for explicit, or ``(nnz,)``.
        target_offset: implicit only.
        biased: the last columns are biases.
        device: backend.
        n_threads: number of threads; None for every CPU granted. The bits do not depend on it.

    Returns:
        The loss in float64; not finite where scores or squares overflow float32.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: shapes disagree, values are out of range or not finite, or x^T x or y^T y, which
            ``unobserved_weight`` needs, exceeds float32.
    """
    place = _place(backend.place(device, x=x, y=y), n_threads)
    rows = as_factors(x, "x")
    problem = _check_problem(
        rows, y, matrix, targets, target_offset, regularization, nu, unobserved_weight, biased, place
    )
    d = rows.shape[1]
    if problem.scalars[3] == 0.0:
        gram_x = gram_y = home(rows).zeros((d, d), np.float32)
    else:
        gram_x, gram_y = _gram(rows, "x", place), _gram(problem.y, "y", place)
    counts = np.bincount(problem.csr.col_idx, minlength=len(problem.y)).astype(np.int64, copy=False)
    loss = backend.get(place["device"]).als_loss(
        rows, problem.y, gram_x, gram_y, problem.csr.row_ptr, problem.csr.col_idx, problem.weights, problem.targets,
        counts, *problem.scalars, problem.biased, place["n_threads"],
    )  # fmt: skip
    return float(loss)
