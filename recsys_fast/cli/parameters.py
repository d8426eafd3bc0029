"""Parameters of a model from text: ``--set key=value`` and TOML files, by the types that the constructor states."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recsys_fast.errors import message

_NONE = ("none", "null")
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Numbers:
    """Stands for the type of several numbers."""


class Names:
    """Stands for the type of several texts."""


#: what a parameter may be, in the order in which a text is tried, and what it is called
_NAMES: dict[type, str] = {
    type(None): "none", int: "an integer", float: "a number", bool: "true or false",
    tuple: "integers such as 1,2,4", Numbers: "numbers such as 1,2.5", Names: "names such as a,b",
    dict: "numbers by name such as a:0.1,b:2", str: "text",
}  # fmt: skip


def model_class(name: str) -> Any:
    """Return the class of a model by its name in any case.

    Raises:
        ValueError: there is no such model, or it takes more than interactions, or than rows and targets.
    """
    from recsys_fast.models.registry import CONTENT_MODELS, MODELS, ROW_MODELS

    known = {key.lower(): key for key in MODELS | ROW_MODELS | CONTENT_MODELS}
    found = _class(known[name.lower()]) if name.lower() in known else None
    if found is not None and _is_offered(found):
        return found
    what = "unknown model" if found is None else "model"
    offered = [short for short, key in known.items() if _is_offered(_class(key))]
    close = difflib.get_close_matches(name.lower(), offered, n=1)
    mend = f"did you mean {close[0]}?" if close else None
    if found is not None:
        mend = f"{found.__name__} takes more than a matrix: use it from Python"
    raise ValueError(message(what, repr(name), "one of " + ", ".join(offered), mend))


def _class(name: str) -> Any:
    import importlib

    from recsys_fast.models.registry import CONTENT_MODELS, MODELS, ROW_MODELS

    return getattr(importlib.import_module((MODELS | ROW_MODELS | CONTENT_MODELS)[name]), name)


def _is_offered(model: Any) -> bool:
    return getattr(model, "_fits_interactions", False) or fits_sequences(model) or fits_rows(model)


def fits_sequences(model: Any) -> bool:
    """Return whether a model, or a model's class, learns from what users did in order."""
    return bool(getattr(model, "_fits_sequences", False))


def fits_rows(model: Any) -> bool:
    """Return whether a model, or a model's class, learns from rows of features and targets."""
    return bool(getattr(model, "_fits_rows", False))


def _kinds(model: Any) -> dict[str, tuple[type, ...]]:
    """Return the types each parameter may have, in the order in which a text is tried as one of them."""
    hints = typing.get_type_hints(model.__init__)
    kinds = {}
    for name in model._defaults():
        hint = hints.get(name, Any)
        parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        stated = [_PLURAL.get(part, part) for part in parts]
        kinds[name] = tuple(kind for kind in _NAMES if kind in stated) or _ANY
    return kinds


_PLURAL: dict[Any, type] = {Sequence[int]: tuple, Sequence[str]: Names, dict[str, float]: dict}
_ANY = (type(None), int, float, bool, Numbers, str)


def _read_none(text: str) -> None:
    if text.lower() not in _NONE:
        raise ValueError


def _read_truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError
    return _TRUTH[text.lower()]


def _parts(text: str) -> list[str]:
    """Return what commas separate, inside of brackets or without; "()" and "[]" hold nothing, and "" is no list."""
    inner = text
    if text[:1] in ("(", "["):
        if text[-1:] != {"(": ")", "[": "]"}[text[0]]:
            raise ValueError
        inner = text[1:-1].strip()
        if not inner:
            return []
    parts = [part.strip() for part in inner.removesuffix(",").split(",")]
    if not all(parts):
        raise ValueError
    return parts


def _read_integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in _parts(text))


def _read_numbers(text: str) -> tuple[float, ...]:
    if text[:1] not in ("(", "[") and "," not in text:
        raise ValueError  # one number is a number
    return tuple(int(part) if part.lstrip("+-").isdecimal() else float(part) for part in _parts(text))


def _read_names(text: str) -> tuple[str, ...]:
    if text[:1] not in ("(", "[") and "," not in text:
        raise ValueError  # one name is a text
    return tuple(part.strip("'\"") for part in _parts(text))


def _read_dict(text: str) -> dict[str, float]:
    inner = text[1:-1] if text[:1] == "{" and text[-1:] == "}" else text
    found = {}
    for part in _parts(inner):
        name, _, number = part.partition(":")
        found[name.strip().strip("'\"")] = float(number)
    return found


_READ: dict[type, Callable[[str], Any]] = {
    type(None): _read_none, int: int, float: float, bool: _read_truth, tuple: _read_integers, Numbers: _read_numbers,
    Names: _read_names, dict: _read_dict, str: str,
}  # fmt: skip


def _parse(name: str, text: str, kinds: tuple[type, ...]) -> Any:
    """Return ``text`` as the first of ``kinds`` that it can be."""
    plain = text.strip()
    for kind in kinds:
        try:
            return _READ[kind](plain)
        except ValueError:
            continue
    raise ValueError(message(name, repr(text), _expected(kinds)))


def _expected(kinds: tuple[type, ...]) -> str:
    last = sorted(kinds, key=lambda kind: kind is type(None))
    return " or ".join(_NAMES[kind] for kind in last)


def _from_toml(name: str, value: Any, kinds: tuple[type, ...]) -> Any:
    """Return what a TOML file holds as one of ``kinds``."""
    if isinstance(value, str):
        return _parse(name, value, kinds)
    if type(value) in kinds and type(value) is not dict:
        return value
    if type(value) is int and float in kinds:
        return float(value)
    if type(value) is list:
        for kind, of in ((tuple, (int,)), (Numbers, (int, float)), (Names, (str,))):
            if kind in kinds and all(type(part) in of for part in value):
                return tuple(value)
    if type(value) is dict and dict in kinds and all(type(part) in (int, float) for part in value.values()):
        return {key: float(part) for key, part in value.items()}
    raise ValueError(message(name, repr(value), _expected(kinds)))


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
    return {name: _from_toml(f"{path}: {name}", value, kinds[name]) for name, value in own.items()}


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
