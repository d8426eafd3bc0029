"""Parameters of a model from text: ``--set key=value`` and TOML files, by the types that the constructor states."""

from __future__ import annotations

import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recsys_fast.errors import message

_NONE = ("none", "null")
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_NAMES: dict[type, str] = {
    int: "an integer", float: "a number", bool: "true or false", str: "text", type(None): "none",
    tuple: "integers such as 1,2,4",
}  # fmt: skip


def model_class(name: str) -> Any:
    """Return the class of a model by its name in any case.

    Raises:
        ValueError: there is no such model, or it takes more than interactions.
    """
    from recsys_fast.models.registry import MODELS

    known = {key.lower(): key for key in MODELS}
    found = _class(known[name.lower()]) if name.lower() in known else None
    if found is not None and _trains_on_interactions(found):
        return found
    what = "unknown model" if found is None else "model"
    offered = [short for short, key in known.items() if _trains_on_interactions(_class(key))]
    mend = None if found is None else f"{found.__name__} takes more than a matrix: use it from Python"
    raise ValueError(message(what, repr(name), "one of " + ", ".join(offered), mend))


def _class(name: str) -> Any:
    import importlib

    from recsys_fast.models.registry import MODELS

    return getattr(importlib.import_module(MODELS[name]), name)


def _trains_on_interactions(model: Any) -> bool:
    return getattr(model, "_fits_interactions", False) or fits_sequences(model)


def fits_sequences(model: Any) -> bool:
    """Return whether a model, or a model's class, learns from what users did in order."""
    return bool(getattr(model, "_fits_sequences", False))


def _kinds(model: Any) -> dict[str, tuple[type, ...]]:
    """Return the types each parameter may have; a parameter of no stated type may be an integer or none."""
    hints = typing.get_type_hints(model.__init__)
    kinds = {}
    for name in model._defaults():
        hint = hints.get(name, Any)
        parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        parts = tuple(tuple if part == Sequence[int] else part for part in parts)
        kinds[name] = tuple(part for part in parts if part in _NAMES) or (int, type(None))
    return kinds


def _parse(name: str, text: str, kinds: tuple[type, ...]) -> Any:
    """Return ``text`` as the first of ``kinds`` that it can be."""
    plain = text.strip()
    if type(None) in kinds and plain.lower() in _NONE:
        return None
    if bool in kinds and plain.lower() in _TRUTH:
        return _TRUTH[plain.lower()]
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(plain)
            except ValueError:
                continue
    if tuple in kinds:
        try:
            return tuple(int(part) for part in plain.strip("()[]").rstrip(",").split(","))
        except ValueError:
            pass
    if str in kinds:
        return text
    raise ValueError(message(name, repr(text), " or ".join(_NAMES[kind] for kind in kinds)))


def _check_known(model: Any, names: list[str], where: str) -> None:
    known = model._defaults()
    for name in names:
        if name not in known:
            what = f"{where}: {model.__name__} has no parameter {name!r}"
            raise ValueError(message(what, expected="one of " + ", ".join(known)))


def _from_config(model: Any, path: str, kinds: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    """Return the parameters in a TOML file: its top level, or its table of the model's name where it has one."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(message(f"{path} is not valid TOML ({error})")) from None
    own = table.get(model.__name__.lower(), table)
    if not isinstance(own, dict):
        raise ValueError(message(f"{path}: {model.__name__.lower()}", type(own).__name__, "a table of parameters"))
    _check_known(model, list(own), path)
    out = {}
    for name, value in own.items():
        allowed = kinds[name]
        if isinstance(value, str):
            out[name] = _parse(f"{path}: {name}", value, allowed)
        elif type(value) in allowed:
            out[name] = value
        elif type(value) is int and float in allowed:
            out[name] = float(value)
        elif tuple in allowed and type(value) is list and all(type(one) is int for one in value):
            out[name] = tuple(value)
        else:
            expected = " or ".join(_NAMES[kind] for kind in allowed)
            raise ValueError(message(f"{path}: {name}", repr(value), expected))
    return out


def parse_parameters(model: Any, settings: list[str], config: str | None) -> dict[str, Any]:
    """Return constructor arguments.

    Args:
        model: the model's class.
        settings: ``key=value`` texts; of a key given twice the last one counts.
        config: path of a TOML file, None for none; settings win over it.

    Raises:
        ValueError: an unknown parameter, a value of another type, or not of the form ``key=value``.
        OSError: the file cannot be read.
    """
    kinds = _kinds(model)
    out = {} if config is None else _from_config(model, config, kinds)
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(message("--set", repr(text), "key=value"))
        _check_known(model, [name.strip()], "--set")
        out[name.strip()] = _parse(f"--set {name.strip()}", value, kinds[name.strip()])
    return out
