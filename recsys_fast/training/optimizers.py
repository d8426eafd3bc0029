"""Optimizers: schedule, clipping, and steps of flat parameters and of tables by their rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, ParameterSet, Runtime
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.errors import DivergedError, message

KINDS = {"sgd": 0, "adagrad": 1, "adam": 2, "adamw": 2}
_ADAGRAD_ROOT = 3
SCHEDULES = ("constant", "linear", "cosine")


class Optimizer:
    """Moves the parameters of a network and of its tables by their gradients.

    The formulas are those of ``recsys_fast.ops.optimizer_step``. The state is one array per parameter and moment, by
    name; with the number of steps, which the training loop counts, it is all that a checkpoint has to keep.

    Args:
        kind: "adam", "adamw" (weight decay apart from the gradient), "sgd" or "adagrad".
        learning_rate: at its highest.
        weight_decay: added to the gradient as weight_decay * parameter; "adamw" takes learning_rate * weight_decay of
            the parameter away instead. Of a table's rows only those that a step touches decay, where ``sparse``.
        clip_norm: the gradient of all parameters together is scaled down to this length; None for never.
        warmup_steps: over so many steps the rate grows linearly from 0.
        schedule: after the warm-up: "constant", or down to 0 at step ``n_steps`` as "linear" or "cosine".
        n_steps: number of steps that are planned; the schedules that fall need it. Steps beyond them go on at the rate
            of the middle of the last ``last_steps``.
        last_steps: planned steps of the last epoch.
        betas: Adam's decay rates of the moments.
        eps: added to the root; None for 1e-8 (Adam) or 1e-10 (Adagrad).
        momentum: of SGD and Adagrad. GRU4Rec's Adagrad has it on the scaled gradient, and so has this one.
        eps_in_root: Adagrad divides by sqrt(sum + eps), as GRU4Rec's does, instead of sqrt(sum) + eps.
        sparse: tables whose gradient is sparse are stepped in the rows touched only ("lazy": moments of other rows
            stay as they are), instead of in all rows.
    """

    def __init__(
        self,
        kind: str = "adam",
        learning_rate: float = 1e-3,
        *,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        warmup_steps: int = 0,
        schedule: str = "constant",
        n_steps: int | None = None,
        last_steps: int = 1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
        momentum: float = 0.0,
        eps_in_root: bool = False,
        sparse: bool = True,
    ) -> None:
        self.kind, self.learning_rate, self.weight_decay, self.clip_norm = kind, learning_rate, weight_decay, clip_norm
        self.warmup_steps, self.schedule, self.n_steps, self.last_steps = warmup_steps, schedule, n_steps, last_steps
        self.betas, self.momentum, self.eps_in_root, self.sparse = betas, momentum, eps_in_root, sparse
        self.eps = eps if eps is not None else (1e-10 if kind == "adagrad" else 1e-8)
        self._check()
        self._state: dict[str, Array] = {}

    def _check(self) -> None:
        choices = {"kind": (self.kind, tuple(KINDS)), "schedule": (self.schedule, SCHEDULES)}
        for name, (got, allowed) in choices.items():
            if got not in allowed:
                raise ValueError(message(f"{name} of an optimizer", repr(got), "one of " + ", ".join(allowed)))
        positive = {"learning_rate": self.learning_rate, "eps": self.eps, "clip_norm": self.clip_norm}
        for name, number in positive.items():
            if number is None:
                continue
            if not (math.isfinite(number) and number > 0):
                raise ValueError(message(name, number, "a finite number above 0"))
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(message("weight_decay", self.weight_decay, "a finite number, 0 or more"))
        for name, number in {"betas[0]": self.betas[0], "betas[1]": self.betas[1], "momentum": self.momentum}.items():
            if not 0 <= number < 1:
                raise ValueError(message(name, number, "0 or more, and less than 1"))
        if self.warmup_steps < 0:
            raise ValueError(message("warmup_steps", self.warmup_steps, "0 or more"))
        if self.schedule != "constant" and (self.n_steps is None or self.n_steps <= self.warmup_steps):
            expected = "the number of all steps, more than those of the warm-up"
            raise ValueError(message(f"n_steps of the schedule {self.schedule!r}", self.n_steps, expected))

    def learning_rate_at(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant" or self.n_steps is None:
            return self.learning_rate
        place = step if step < self.n_steps else max(self.warmup_steps, self.n_steps - 0.5 * (self.last_steps + 1))
        done = (place - self.warmup_steps) / (self.n_steps - self.warmup_steps)
        share = 1.0 - done if self.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
        return self.learning_rate * share

    def step(self, parameters: ParameterSet, tables: Sequence[ItemTable], step: int) -> None:
        """Move all parameters that are not frozen by their gradients; the tables' have been summed up by ``finish``.

        Args:
            parameters: with gradients written by the backward pass.
            tables: finished.
            step: number of steps before this one.

        Raises:
            DivergedError: with ``clip_norm``, where the gradient is not finite; nothing has been moved then.
        """
        lr, scale, flat = self.learning_rate_at(step), 1.0, parameters.values
        runtime = next((block.runtime for block in parameters.blocks.values()), None)
        if self.clip_norm is not None:
            total = sum(table.square_sum() for table in tables)
            if runtime is not None and len(flat):
                parts = [parameters.gradients[part] for part in parameters.trained]
                total += sum(float(runtime.run("square_sum", part)) for part in parts)
            if not math.isfinite(total):
                raise DivergedError(message("sum of squares of the gradient", total, "a finite number"))
            scale = min(1.0, self.clip_norm / (math.sqrt(total) + 1e-6))
        if runtime is not None and len(flat):
            m, v = self._moments(runtime, "parameters", flat)
            for part in parameters.trained:
                moved = flat[part], parameters.gradients[part], m[part], v[part]
                runtime.run("optimizer_step", *moved, *self._numbers(lr, None), scale, step + 1)
        for table in tables:
            table.step(self, lr, step + 1, scale)

    def step_dense(
        self, runtime: Runtime, name: str, values: Array, gradient: Array, lr: float, step: int, grad_scale: float,
        weight_decay: float | None = None,
    ) -> None:  # fmt: skip
        """Move ``values`` by a gradient of the same shape.

        ``step`` counts from 1, ``name`` is that of the state; ``weight_decay`` None is the optimizer's.
        """
        m, v = (moment.reshape(-1) for moment in self._moments(runtime, name, values))
        runtime.run(
            "optimizer_step", values.reshape(-1), gradient.reshape(-1), m, v, *self._numbers(lr, weight_decay),
            grad_scale, step,
        )  # fmt: skip

    def step_rows(
        self, runtime: Runtime, name: str, values: Array, rows: NDArray[np.int32], gradient: Array, lr: float,
        step: int, grad_scale: float, weight_decay: float | None = None,
    ) -> None:  # fmt: skip
        """Move ``values`` ``(n, d)`` or ``(n,)`` by the gradient of ``rows`` ``(R,)``, ascending; as ``step_dense``."""
        every = [values, *self._moments(runtime, name, values)]
        table, m, v, drows = (x.reshape(-1, 1) if values.ndim == 1 else x for x in (*every, gradient))
        numbers = self._numbers(lr, weight_decay)
        runtime.run("optimizer_step_rows", table, m, v, rows, drows, self.sparse, *numbers, grad_scale, step)

    def _numbers(self, lr: float, weight_decay: float | None) -> tuple[int, float, float, float, float, float, bool]:
        """Return kind, rate, beta1, beta2, eps, weight decay and whether it is apart from the gradient."""
        kind = _ADAGRAD_ROOT if self.kind == "adagrad" and self.eps_in_root else KINDS[self.kind]
        beta1 = self.betas[0] if KINDS[self.kind] == 2 else self.momentum
        decay = self.weight_decay if weight_decay is None else weight_decay
        return kind, lr, beta1, self.betas[1], self.eps, decay, self.kind == "adamw"

    def _moments(self, runtime: Runtime, name: str, values: Array) -> tuple[Array, Array]:
        """Return the state of ``values``, at first zeros; empty arrays for what the optimizer does not keep."""
        adam = KINDS[self.kind] == 2
        wanted = {"m": adam or self.momentum > 0.0, "v": adam or self.kind == "adagrad"}
        found = []
        for moment, needed in wanted.items():
            key = f"{name}.{moment}"
            if not needed:
                found.append(runtime.empty(*(0,) * values.ndim))
                continue
            if key not in self._state:
                self._state[key] = runtime.zeros(*values.shape)
            found.append(self._state[key])
        return found[0], found[1]

    def state(self) -> dict[str, Array]:
        """Return the state's arrays by name, not copied; empty before the first step."""
        return dict(self._state)

    def restore(self, state: dict[str, Array], runtime: Runtime | None = None) -> None:
        """Take over copies of what ``state`` returned; training goes on as if it had never stopped.

        They go to where ``runtime`` computes, for None to host memory.
        """
        if runtime is None:
            self._state = {name: np.array(array, order="C") for name, array in state.items()}
        else:
            self._state = {name: runtime.copy(array) for name, array in state.items()}
