"""Constructor parameters as scikit-learn wants them, and the checks of their ranges that ``fit`` makes first."""

from __future__ import annotations

import inspect
import math
import numbers
from typing import Any, Self

import numpy as np

from recsys_fast.errors import message


class Parameters:
    """Keeps each constructor argument under its own name; the constructor assigns and nothing else.

    ``sklearn.base.clone``, grid searches and ``repr`` work on any subclass; scikit-learn itself is not needed.
    """

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        """Return the constructor's parameters and their defaults, in order."""
        signature = inspect.signature(cls.__init__)
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        chosen = list(signature.parameters.values())[1:]
        return {parameter.name: parameter.default for parameter in chosen if parameter.kind not in kinds}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters and their values; ``deep`` is there for scikit-learn."""
        return {name: getattr(self, name) for name in self._defaults()}

    def set_params(self, **params: Any) -> Self:
        """Set constructor parameters; the fitted state stays as it is until the next ``fit``.

        Raises:
            ValueError: the model has no parameter of that name.
        """
        known = self._defaults()
        for name in params:
            if name not in known:
                what = f"{type(self).__name__} has no parameter {name!r}"
                raise ValueError(message(what, expected="one of " + ", ".join(known)))
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        changed = []
        for name, default in self._defaults().items():
            value = getattr(self, name)
            if value is not default and not (type(value) is type(default) and value == default):
                changed.append(f"{name}={_shown(value)}")
        return f"{type(self).__name__}({', '.join(changed)})"


def _shown(value: Any) -> str:
    """Return a parameter as ``repr`` has it, arrays by dtype and shape."""
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {value.shape}>"
    if isinstance(value, tuple) and any(isinstance(part, np.ndarray) for part in value):
        return f"{type(value).__name__}({', '.join(map(_shown, value))})"
    return repr(value)


def check_int(name: str, value: Any, low: int, high: int = 2**31 - 1) -> int:
    """Return ``value`` as int.

    Raises:
        TypeError: not an integer.
        ValueError: outside ``low <= value <= high``.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(message(name, repr(value), "an int"))
    number = int(value)
    if not low <= number <= high:
        raise ValueError(message(name, number, f"{low} <= {name} <= {high}"))
    return number


def check_float(name: str, value: Any, low: float, *, above: bool = False, high: float = math.inf) -> float:
    """Return ``value`` as float.

    Raises:
        TypeError: not a number.
        ValueError: not finite, or outside ``low <= value <= high`` (``low < value`` with ``above``).
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message(name, repr(value), "a number"))
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high or (above and number == low):
        bounds = f"{low} {'<' if above else '<='} {name}" + (f" <= {high}" if high < math.inf else ", finite")
        raise ValueError(message(name, number, bounds))
    return number


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return ``value``.

    Raises:
        ValueError: not one of ``choices``.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(message(name, repr(value), "one of " + ", ".join(map(repr, choices))))
    return value


def check_random_state(value: Any) -> None:
    """Check that ``seed_from`` will accept ``value``, without drawing from it.

    Raises:
        TypeError: not an int, None, ``numpy.random.Generator`` or ``numpy.random.RandomState``.
        ValueError: a negative int.
    """
    if value is None or isinstance(value, np.random.Generator | np.random.RandomState):
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(message("random_state", type(value).__name__, "an int, None, Generator or RandomState"))
    if not 0 <= int(value) < 2**64:
        raise ValueError(message("random_state", value, "0 <= random_state < 2**64"))


def seed_from(value: Any) -> int:
    """Return an int seed: the int itself, a draw from a generator (which advances it), or fresh entropy for None."""
    check_random_state(value)
    if value is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
    if isinstance(value, np.random.Generator):
        return int(value.integers(2**63))
    if isinstance(value, np.random.RandomState):
        return int(value.randint(2**31 - 1))
    return int(value)
