"""Tables of items: rows go in by id, gradients come back by id, and the optimizer touches only the rows it must."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter, Runtime, address
from recsys_fast.errors import message

I32 = NDArray[np.int32]


class RowOptimizer(Protocol):
    """What a table needs of an optimizer; ``recsys_fast.training.optimizers.Optimizer`` is one."""

    def step_dense(
        self, runtime: Runtime, name: str, values: Array, gradient: Array, lr: float, step: int, grad_scale: float,
        weight_decay: float | None,
    ) -> None:  # fmt: skip
        """Move all of ``values`` by a gradient of the same shape; a decay of None is the optimizer's."""

    def step_rows(
        self, runtime: Runtime, name: str, values: Array, rows: I32, gradient: Array, lr: float, step: int,
        grad_scale: float, weight_decay: float | None,
    ) -> None:  # fmt: skip
        """Move ``values`` ``(n, d)`` or ``(n,)`` by the gradient ``(R, d)`` or ``(R,)`` of ``rows`` ``(R,)``."""


class _Gathered(NamedTuple):
    """What ``gather_backward`` has to know of a ``gather``."""

    ids: I32
    scale: float
    from_end: bool
    dropout: float
    site: int


class ItemTable:
    """An embedding table, with a bias per row if asked for, and the gradients that one step collects for it.

    A step is ``begin``, any number of ``gather``, ``add_pairs``, ``add_rows`` and ``add_dense``, then ``finish``, after
    which the gradient is either sparse (``rows``, ``drows``, ``dbias``: only the rows touched) or, once anything dense
    was added, dense (``dtable``, ``dbias`` of all rows). Arrays that are handed in have to keep until ``step``.

    Args:
        n_rows: number of rows.
        d: width.
        bias: whether every row has a bias.
        init: "normal" (standard deviation ``scale``), "uniform" (between -scale and scale) or "zeros"; or the values
            themselves ``(n_rows, d)``, such as pre-trained vectors.
        scale: see ``init``.
        bias_value: of all biases at first.
        name: under which an optimizer keeps its state; unique among the tables of a network.
        frozen: neither rows nor biases ever move: no gradient is summed up for them, and no optimizer keeps state.
            Gradients go on through the rows to whatever comes before them, such as positions.

    Attributes:
        values: ``(n_rows, d)``.
        bias: ``(n_rows,)``, of length 0 without biases.
        rows: ``(R,) int32``, ascending, or None where the gradient is dense.
        drows, dbias: ``(R, d)``, ``(R,)`` after ``finish``.
        dtable: ``(n_rows, d)`` where the gradient is dense, else None.
        weight_decay: of its steps; None for the optimizer's.
    """

    def __init__(
        self,
        n_rows: int,
        d: int,
        *,
        bias: bool = False,
        init: str | Array = "normal",
        scale: float = 0.02,
        bias_value: float = 0.0,
        name: str = "items",
        frozen: bool = False,
    ) -> None:
        self.n_rows, self.d, self.has_bias, self.init, self.scale, self.name = n_rows, d, bias, init, scale, name
        self.bias_value, self.frozen = bias_value, frozen
        self.weight_decay: float | None = None
        if not isinstance(init, str):
            check_init(init, n_rows, d)

    def connect(self, runtime: Runtime, site: int) -> None:
        """Take over where to compute, and the number of the first of eight random masks; allocate the table."""
        self.runtime, self.site = runtime, site
        self.values: Array = runtime.zeros(self.n_rows, self.d)
        self.bias: Array = runtime.zeros(self.n_rows if self.has_bias else 0)
        self._none, self._none_rows = runtime.empty(0), runtime.empty(0, 0)
        self._none_ids = runtime.empty(0, dtype=np.int32)
        self._gathered: _Gathered | None = None
        self.begin()

    def initialise(self, generator: np.random.Generator) -> None:
        """Fill the table as ``init`` says, drawn on the host, and the biases with ``bias_value``."""
        self.runtime.fill(self.values, self._drawn(generator))
        self.runtime.fill(self.bias, self.bias_value)

    def _drawn(self, generator: np.random.Generator) -> Array:
        """Return the first values, in host memory, or a number that all are."""
        shape = self.values.shape
        if not isinstance(self.init, str):
            return self.init
        if self.init == "normal":
            return self.scale * generator.standard_normal(shape)
        return generator.uniform(-self.scale, self.scale, shape) if self.init == "uniform" else np.zeros(())

    def begin(self) -> None:
        """Forget all gradients."""
        self._inputs: list[tuple[I32, Array]] = []
        self._rows: list[tuple[I32, Array, Array | None]] = []
        self._distinct = False
        self._pairs: list[tuple[I32, Array, Array]] = []
        self._dense: tuple[Array, Array] | None = None
        self.rows: I32 | None = None
        self.drows: Array = self._none_rows
        self.dbias: Array = self._none
        self.dtable: Array | None = None

    def gather(
        self,
        ids: I32,
        batch: PackedBatch,
        *,
        positions: Array | None = None,
        scale: float = 1.0,
        from_end: bool = False,
        dropout: float = 0.0,
        site: int | None = None,
    ) -> Array:
        """Return D(scale values[ids] + positions[place in the sequence]), ``(n_rows, d)``; an id of -1 gives zeros.

        Args:
            ids: ``(T,) int32``, -1 for "none".
            batch: its sequences' lengths decide the places.
            positions: ``(P, d)``; None for none. No sequence may be longer than P.
            scale: of the table's rows.
            from_end: places count so that the last row of a sequence has place P - 1.
            dropout: rate, in training only.
            site: of the mask; the table's own by default.
        """
        rate = dropout if batch.training else 0.0
        self._gathered = _Gathered(ids, scale, from_end, rate, self.site if site is None else site)
        x = self._take("x", len(ids), self.d)
        self.runtime.run(
            "embedding_forward", x, self.values, self._none_rows if positions is None else positions, ids,
            batch.row_ptr, scale, from_end, rate, batch.seed, batch.step, self._gathered.site,
        )  # fmt: skip
        return x

    def gather_backward(self, dx: Array, batch: PackedBatch, dpositions: Array | None = None) -> None:
        """Add the gradient of the last ``gather``'s result; ``dx`` is changed, ``dpositions`` overwritten."""
        assert self._gathered is not None, "gather comes before gather_backward"
        ids, scale, from_end, rate, site = self._gathered
        if self.frozen and dpositions is None:
            return
        if rate or scale != 1.0 or dpositions is not None:
            self.runtime.run(
                "embedding_backward", dx, self._none_rows if dpositions is None else dpositions, batch.row_ptr, scale,
                from_end, rate, batch.seed, batch.step, site,
            )  # fmt: skip
        self.add_inputs(ids, dx)

    def take_rows(self, ids: I32, name: str = "rows") -> tuple[Array, Array]:
        """Return copies of the rows ``ids``, ``(C, d)``, and their biases, ``(C,)`` or of length 0; -1 gives zeros.

        Their gradients come back by ``add_rows``. ``name`` keeps the memory of several calls in one step apart.
        """
        ids = self.runtime.upload(ids)
        rows = self._take(name, len(ids), self.d)
        self.runtime.gather(rows, self.values, ids)
        bias = self._take(name + ".bias", len(ids) if self.has_bias else 0)
        if self.has_bias:
            self.runtime.gather(bias.reshape(-1, 1), self.bias.reshape(-1, 1), ids)
        return rows, bias

    def add_inputs(self, ids: I32, dx: Array) -> None:
        """Add gradients ``(T, d)`` of rows that went in by ``ids`` ``(T,)``; they have none of the bias."""
        self._inputs.append((ids, dx))

    def add_rows(self, ids: I32, drows: Array, dbias: Array | None = None, *, distinct: bool = False) -> None:
        """Add gradients ``(C, d)`` of rows ``ids`` ``(C,)``, in any order and with repeats, and of their biases.

        ``distinct`` promises ascending ids without repeats: where nothing else is added, that is the table's gradient
        as it is.
        """
        self._rows.append((ids, drows, dbias))
        self._distinct = distinct

    def add_pairs(self, ids: I32, coef: Array, h: Array) -> None:
        """Add coef[t, j] h[t] to row ids[t, j], and coef[t, j] to its bias.

        Args:
            ids: ``(T, k) int32``.
            coef: ``(T, k)``.
            h: ``(T, d)``.
        """
        self._pairs.append((ids, coef, h))

    def dense_gradient(self, n: int | None = None) -> tuple[Array, Array]:
        """Return memory for ``add_dense``: gradients of the first ``n`` rows (None: all) and of their biases."""
        n = self.n_rows if n is None else n
        return self._take("dtable", self.n_rows, self.d)[:n], self._take("dtable.bias", len(self.bias))[:n]

    def add_dense(self, dtable: Array, dbias: Array | None = None) -> None:
        """Add the gradient of the first rows, ``(n, d)`` with n up to ``n_rows``, and of their biases.

        Memory of ``dense_gradient`` is taken as it is, and added into; anything else is copied.
        """
        first = self._dense is None
        total, total_bias = self.dense_gradient()
        if first:
            self._dense = total, total_bias
            self.runtime.fill(total[len(dtable) :], 0.0)
            self.runtime.fill(total_bias[len(dtable) if dbias is not None else 0 :], 0.0)
            for whole, part in ((total, dtable), (total_bias, dbias)):
                if part is not None and part.size and address(part) != address(whole):
                    self.runtime.fill(whole[: len(part)], part)
            return
        rows, own_bias = np.arange(len(dtable), dtype=np.int32), self._none if dbias is None else total_bias
        self.runtime.run(
            "table_add", total, own_bias, rows, self._none_rows, dtable, self._none if dbias is None else dbias,
            self._none, self._none_rows, 1,
        )  # fmt: skip

    def finish(self) -> None:
        """Sum up what was added: every row's entries in the order input, rows, pairs; nothing where frozen."""
        if self.frozen:
            self.begin()
            self.rows = self._none_ids
            return
        if self._distinct and len(self._rows) == 1 and not (self._inputs or self._pairs or self._dense):
            self.rows, self.drows, dbias = self._rows[0]
            if self.has_bias:
                self.dbias = self.runtime.copy(np.zeros(len(self.rows), self.runtime.dtype)) if dbias is None else dbias
            return
        ids, dx = self._joined("inputs", self._inputs)
        row_ids, dcand = self._joined("cand", [(i, x) for i, x, _ in self._rows])
        pair_ids, coef = self._joined("pairs", [(i.reshape(-1), c.reshape(-1)) for i, c, _ in self._pairs])
        h, width = self._pair_rows()
        every = self._chain("ids", [ids, row_ids, pair_ids])
        sources = dx, dcand, self._row_biases(len(row_ids)), coef, h, width
        if self._dense is not None:
            self.dtable, self.dbias = self._dense
            if len(every):
                self.runtime.run("table_add", self.dtable, self.dbias, every, *sources)
            return
        n = len(every)
        rows = self.runtime.take(self, "plan.rows", (n,), np.int32)
        entry_ptr = self.runtime.take(self, "plan.ptr", (n + 1,), np.int64)
        entries = self.runtime.take(self, "plan.entries", (n,), np.int32)
        n_distinct = self.runtime.run("id_plan", rows, entry_ptr, entries, every, self.n_rows)
        self.rows = rows[:n_distinct]
        self.drows = self._take("drows", n_distinct, self.d)
        self.dbias = self._take("dbias", n_distinct if self.has_bias else 0)
        self.runtime.run(
            "table_gradient", self.drows, self.dbias, entry_ptr[: n_distinct + 1], entries, *sources
        )  # fmt: skip

    def _pair_rows(self) -> tuple[Array, int]:
        """Return the h of all pairs, and how many pairs each has; pairs of different widths repeat their h."""
        if not self._pairs:
            return self._none_rows, 1
        widths = {coef.size // max(1, len(h)) for _, coef, h in self._pairs if len(h)}
        if len(self._pairs) == 1 or len(widths) == 1:
            parts = [h for _, _, h in self._pairs]
            return self._join("pairs.h", parts), max(1, next(iter(widths), 1))
        every = self._take("pairs.each", sum(coef.size for _, coef, _ in self._pairs), self.d)
        at = 0
        for _, coef, h in self._pairs:
            rows = np.repeat(np.arange(len(h), dtype=np.int32), coef.size // max(1, len(h)))
            self.runtime.gather(every[at : at + len(rows)], h, rows)
            at += len(rows)
        return every, 1

    def _join(self, name: str, parts: Sequence[Array]) -> Array:
        """Return arrays behind each other; the only one as it is."""
        if len(parts) == 1:
            return parts[0]
        return self.runtime.join(self._take(name, sum(map(len, parts)), *parts[0].shape[1:]), parts)

    def _row_biases(self, n: int) -> Array:
        if not self.has_bias or n == 0 or all(dbias is None for _, _, dbias in self._rows):
            return self._none
        return self._join("cand.bias", [self.runtime.zeros(len(i)) if b is None else b for i, _, b in self._rows])

    def _joined(self, name: str, parts: Sequence[tuple[I32, Array]]) -> tuple[I32, Array]:
        """Return all ids and all gradients; no copy where there is one part."""
        if not parts:
            empty = self._none if name == "pairs" else self._none_rows
            return self._none_ids, empty
        if len(parts) == 1:
            return parts[0]
        return self._chain(name + ".ids", [i for i, _ in parts]), self._join(name + ".rows", [x for _, x in parts])

    def _chain(self, name: str, parts: Sequence[I32]) -> I32:
        some = [part for part in parts if len(part)]
        if len(some) == 1:
            ids: I32 = self.runtime.arrays.asarray(some[0])
            return ids
        return self.runtime.join(self.runtime.take(self, name, (sum(map(len, some)),), np.int32), some)

    def square_sum(self) -> float:
        """Return the sum of squares of the gradient, biases included; 0 where frozen."""
        if self.frozen:
            return 0.0
        gradient = self.drows if self.dtable is None else self.dtable
        total = float(self.runtime.run("square_sum", gradient.reshape(-1)))
        return total + (float(self.runtime.run("square_sum", self.dbias)) if self.has_bias else 0.0)

    def step(self, optimizer: RowOptimizer, lr: float, step: int, grad_scale: float = 1.0) -> None:
        """Let the optimizer move the rows by the gradient, times ``grad_scale``, in step number ``step`` (from 1)."""
        if self.frozen:
            return
        parts = [(self.name, self.values, self.drows if self.dtable is None else self.dtable)]
        if self.has_bias:
            parts.append((self.name + ".bias", self.bias, self.dbias))
        numbers = lr, step, grad_scale, self.weight_decay
        for name, values, gradient in parts:
            if self.rows is None:
                optimizer.step_dense(self.runtime, name, values, gradient, *numbers)
            else:
                optimizer.step_rows(self.runtime, name, values, self.rows, gradient, *numbers)

    def _take(self, name: str, *shape: int) -> Array:
        return self.runtime.take(self, name, shape)


def check_init(init: Array, n_rows: int, d: int) -> None:
    """Raise ValueError unless these are values that a table can start from."""
    if init.shape != (n_rows, d) or init.dtype.kind not in "fiu":
        raise ValueError(message("init of a table", f"{init.dtype} {init.shape}", f"numbers ({n_rows}, {d})"))
    with np.errstate(over="ignore"):
        wrong = np.flatnonzero(~np.isfinite(init.astype(np.float32)).all(axis=1))
    if len(wrong):
        raise ValueError(message(f"init of row {int(wrong[0])}", "inf or NaN", "finite float32 numbers"))


class Embedding(Block):
    """D(scale table[ids] + positions): what goes into a network over sequences of items.

    Args:
        table: connected apart, since it may also be what comes out ("tied").
        max_len: number of positions, the length of the longest sequence; 0 for none.
        dropout: rate.
        from_end: places count so that the last event of a sequence has the last position.
        scale: of the table's rows, such as sqrt(d).
        init_scale: standard deviation of the positions' normal distribution.
    """

    def __init__(
        self,
        table: ItemTable,
        max_len: int = 0,
        dropout: float = 0.0,
        *,
        from_end: bool = False,
        scale: float = 1.0,
        init_scale: float = 0.02,
    ) -> None:
        self.table, self.max_len, self.dropout = table, max_len, dropout
        self.from_end, self.scale, self.init_scale = from_end, scale, init_scale

    def parameters(self) -> list[Parameter]:
        """Return the positions, ``(max_len, d)``."""
        if not self.max_len:
            return []
        return [Parameter("positions", (self.max_len, self.table.d), "normal", self.init_scale)]

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return ``(n_rows, d)`` for ids ``(n_rows,) int32``; -1 gives a row of zeros (plus its position)."""
        return self.table.gather(
            x, batch, positions=self.values.get("positions"), scale=self.scale, from_end=self.from_end,
            dropout=self.dropout, site=self.site,
        )  # fmt: skip

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Give the rows' gradient to the table and write that of the positions; ``dy`` is changed and returned."""
        self.table.gather_backward(dy, batch, self.gradients.get("positions"))
        return dy
