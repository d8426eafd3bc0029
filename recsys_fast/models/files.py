"""Model files: what a model is made of, as arrays and strings, and the checks on the way back."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models import inputs
from recsys_fast.models.registry import CONTENT_MODELS, MODELS, ROW_MODELS
from recsys_fast.ops import Csr
from recsys_fast.serialization import Part, Reader, write

if TYPE_CHECKING:
    from recsys_fast.models.base import Recommender
    from recsys_fast.models.state import Stateful

M = TypeVar("M", bound="Stateful")

FORMAT = "recsys_fast"
FORMAT_VERSION = 1
_KEYS = {"checksum", "format", "format_version", "library_version", "model", "params", "state"}
_LOCAL = ("device", "n_threads")  # belong to the machine, not to the model
_HISTORY = re.compile(r"history\.([a-z][a-z0-9_]{0,31}(@[0-9]{1,10})?)")


class Contents(NamedTuple):
    """What a file holds of one model: arrays by name, constructor parameters and plain values as JSON."""

    arrays: dict[str, NDArray[Any]]
    params: dict[str, Any]
    state: dict[str, Any]


def save(model: Stateful, path: str | os.PathLike[str]) -> None:
    """Write ``model`` to ``path``; see its ``save``."""
    from recsys_fast import __version__

    arrays, params, state = _contents(model, None)
    for side in ("user_ids", "item_ids"):
        ids = getattr(model, f"{side}_", None)
        if ids is not None:
            arrays |= _pack_ids(side, ids.ids)
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "library_version": __version__,
        "model": type(model).__name__,
        "params": json.dumps(params, allow_nan=False),
        "state": json.dumps(state, allow_nan=False),
    }
    write(path, arrays, metadata)


def _contents(model: Stateful, owner: Recommender | None) -> Contents:
    """Return what to store of a model; a member of ``owner`` shares its training matrix where that is the same."""
    own, values = model._pack()
    arrays, state = dict(own), {"n_epochs": model.n_epochs_, **values}
    if model._keeps_matrix:
        matrix = cast("Recommender", model).training_matrix_
        state |= {"n_users": matrix.n_rows, "n_items": matrix.n_cols}
        if owner is None or not inputs.same_entries(matrix, owner.training_matrix_):
            arrays |= {"matrix.row_ptr": matrix.row_ptr, "matrix.col_idx": matrix.col_idx}
        if matrix.values is not None:
            arrays["matrix.values"] = matrix.values
    for name, numbers in model.history_.items():
        arrays[f"history.{name}"] = np.array(numbers, np.float64)
    return Contents(arrays, stored_params(model), state)


def stored_params(model: Stateful) -> dict[str, Any]:
    """Return the constructor's parameters that a file holds."""
    local = {*_LOCAL, *model._unsaved}
    return {name: _plain(name, value) for name, value in model.get_params(deep=False).items() if name not in local}


def pack_members(owner: Recommender, members: Sequence[Recommender]) -> tuple[dict[str, NDArray[Any]], list[Any]]:
    """Return the arrays of the models that ``owner`` consists of, under prefixed names, and their descriptions.

    Raises:
        NotSupportedError: a model of a class that no file may name, so that it could not be loaded.
    """
    arrays: dict[str, NDArray[Any]] = {}
    described = []
    for place, member in enumerate(members):
        name = type(member).__name__
        if name not in MODELS or MODELS[name] != type(member).__module__:
            mend = "save it by itself"
            raise NotSupportedError(message(f"models[{place}] is of another package's class {name}", mend=mend))
        own, params, state = _contents(member, owner)
        arrays |= {f"{_prefix(place)}{key}": array for key, array in own.items()}
        described.append({"model": name, "params": params, "state": state})
    return arrays, described


def unpack_members(reader: Reader | Part, owner: Recommender, described: Any) -> list[Recommender]:
    """Return the models that ``pack_members`` described; id maps are the owner's.

    Raises:
        ModelFormatError: not what ``pack_members`` wrote, or one of the models is not valid.
    """
    if not isinstance(described, list) or not described:
        raise reader.fail("members", repr(described)[:80], "a list of models")
    members: list[Recommender] = []
    for place, entry in enumerate(described):
        part = Part(reader, _prefix(place))
        keys = {"model": str, "params": dict, "state": dict}
        if not isinstance(entry, dict) or {key: type(value) for key, value in entry.items()} != keys:
            raise part.fail("description", repr(entry)[:80], ", ".join(keys))
        member = _restore(part, find_class(part, entry["model"], MODELS), entry["params"], entry["state"], owner)
        members.append(member)
    return members


def _prefix(place: int) -> str:
    return f"members.{place}."


def _plain(name: str, value: Any) -> Any:
    """Return a parameter as JSON holds it; generators have no seed to store."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain("", one) for one in value]
    if isinstance(value, dict):
        return {key: _plain("", one) for key, one in value.items()}
    return None if name == "random_state" and not isinstance(value, int) else value


def _pack_ids(name: str, ids: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return integer ids as one int64 array, strings as UTF-8 bytes and offsets."""
    if ids.dtype.kind == "i":
        return {name: ids.astype(np.int64)}
    raw = ids.tolist()
    odd = next((one for one in raw if type(one) is not str), None)
    if odd is not None:
        mend = f"set model.{name}_ = None to save without the map"
        raise TypeError(message(f"{name}_ holds the id {odd!r}", type(odd).__name__, "ints or strings only", mend))
    encoded = [one.encode("utf-8", "surrogatepass") for one in raw]
    offsets = np.zeros(len(raw) + 1, np.int64)
    np.cumsum([len(one) for one in encoded], out=offsets[1:])
    return {f"{name}.bytes": np.frombuffer(b"".join(encoded), np.uint8), f"{name}.offsets": offsets}


def load(path: str | os.PathLike[str], cls: type[M] | None = None, device: str = "auto") -> M:
    """Return the model in ``path``, of class ``cls`` (None: what the file says, among this package's models).

    Raises:
        ModelFormatError: the file is no model file, damaged, too new, or holds another model.
        OSError: it cannot be read.
        ValueError, DeviceError: ``device`` is unknown or not available.
    """
    from recsys_fast import backend

    backend.resolve_device(device)
    with Reader(path) as reader:
        kind = _check_metadata(reader, cls)
        try:
            model = _restore(reader, kind, _json(reader, "params"), _json(reader, "state"), None, device)
        except RecursionError:
            raise reader.fail("models are nested too deeply") from None
        if reader.unread:
            raise reader.fail("unknown contents", ", ".join(sorted(reader.unread))[:200], "none")
    return model


def _restore(
    reader: Reader | Part,
    kind: type[M],
    params: dict[str, Any],
    state: dict[str, Any],
    owner: Recommender | None,
    device: str = "auto",
) -> M:
    """Return the model that ``_contents`` described; a member's device and matrix may be its owner's."""
    model = make_unfitted(reader, kind, params, device if owner is None else owner.device)
    n_epochs = _count(reader, state, "n_epochs")
    if model._keeps_matrix:
        _restore_matrix(cast("Recommender", model), reader, state, owner)
    model.history_ = _history(reader)
    model._unpack(reader, state)
    if state:
        raise reader.fail("unknown contents", ", ".join(sorted(state))[:200], "none")
    model.n_epochs_ = n_epochs
    return model


def make_unfitted(reader: Reader | Part, kind: type[M], params: dict[str, Any], device: str = "auto") -> M:
    """Return an unfitted model of these parameters, which may be anything that JSON holds."""
    model = kind(**_check_names(reader, kind, params))
    model.set_params(device=device, n_threads=None)
    try:
        model._check_params()
    except (ValueError, TypeError) as error:
        raise reader.fail(f"parameters are out of range ({error})") from None
    return model


def _restore_matrix(
    model: Recommender, reader: Reader | Part, state: dict[str, Any], owner: Recommender | None
) -> None:
    """Give the model its training matrix and id maps."""
    shape = _count(reader, state, "n_users"), _count(reader, state, "n_items")
    model._matrix = _matrix(reader, *shape, owner)
    if owner is None:
        model.user_ids_, model.item_ids_ = _ids(reader, "user_ids", shape[0]), _ids(reader, "item_ids", shape[1])
    else:
        model.user_ids_, model.item_ids_ = owner.user_ids_, owner.item_ids_


def _check_metadata(reader: Reader, cls: type[M] | None) -> type[M]:
    meta = reader.metadata
    if meta.get("format") != FORMAT:
        raise reader.fail("format", repr(meta.get("format"))[:80], repr(FORMAT))
    version = meta.get("format_version", "")
    if version != str(FORMAT_VERSION):
        raise reader.fail("format_version", repr(version)[:80], f"'{FORMAT_VERSION}' (another release may read it)")
    if set(meta) != _KEYS:
        raise reader.fail("metadata", ", ".join(sorted(meta))[:200], ", ".join(sorted(_KEYS)))
    name = meta["model"]
    if cls is not None:
        if cls.__name__ != name:
            raise reader.fail("model", repr(name)[:80], cls.__name__)
        return cls
    kind: type[M] = find_class(reader, name, MODELS | ROW_MODELS | CONTENT_MODELS)
    return kind


def find_class(reader: Reader | Part, name: str, known: dict[str, str]) -> Any:
    """Return the class of that name, among ``known``."""
    if name not in known:
        raise reader.fail("model", repr(name)[:80], "one of " + ", ".join(known))
    return getattr(importlib.import_module(known[name]), name)


def _json(reader: Reader, key: str) -> dict[str, Any]:
    try:
        found = json.loads(reader.metadata[key])
    except (ValueError, RecursionError) as error:
        raise reader.fail(f"{key} is not valid JSON ({error})") from None
    if not isinstance(found, dict):
        raise reader.fail(key, type(found).__name__, "a JSON object")
    return found


def _check_names(reader: Reader | Part, kind: type[Stateful], params: dict[str, Any]) -> dict[str, Any]:
    known = set(kind._defaults()) - {*_LOCAL, *kind._unsaved}
    if set(params) != known:
        raise reader.fail("parameters", ", ".join(sorted(params))[:200], ", ".join(sorted(known)))
    return {name: tuple(value) if isinstance(value, list) else value for name, value in params.items()}


def _count(reader: Reader | Part, state: dict[str, Any], name: str) -> int:
    value = state.pop(name, None)
    if type(value) is not int or not 0 <= value < 2**31:
        raise reader.fail(name, repr(value)[:80], "a count below 2**31")
    return value


def _matrix(reader: Reader | Part, n_users: int, n_items: int, owner: Recommender | None) -> Csr:
    if owner is not None and not {"matrix.row_ptr", "matrix.col_idx"} & set(reader.specs):
        return _shared_matrix(reader, n_users, n_items, owner._matrix)
    return read_csr(reader, "matrix", (n_users, n_items), "the training matrix")


def read_csr(reader: Reader | Part, name: str, shape: tuple[int, int], what: str, *, values: bool = False) -> Csr:
    """Return the sparse matrix of a model file whose arrays are ``name``.row_ptr and so on.

    Args:
        reader: the file.
        name: what the arrays' names begin with.
        shape: expected shape.
        what: the matrix in error messages.
        values: whether it must have values.

    Raises:
        ModelFormatError: missing, damaged, of another shape, or with rows that are not sorted.
    """
    nnz = reader.length(f"{name}.col_idx")
    has_values = values or f"{name}.values" in reader.specs
    csr = Csr(
        reader.read(f"{name}.row_ptr", "I64", (shape[0] + 1,)),
        reader.read(f"{name}.col_idx", "I32", (nnz,)),
        reader.read(f"{name}.values", "F32", (nnz,)) if has_values else None,
        *shape,
    )
    try:
        if ops.validate_csr(csr, what):
            return csr
    except ValueError as error:
        raise reader.fail(str(error)) from None
    raise reader.fail(f"rows of {what} are not sorted")


def _shared_matrix(reader: Reader | Part, n_users: int, n_items: int, shared: Csr) -> Csr:
    """Return the owner's matrix with the member's own values."""
    if shared.shape != (n_users, n_items):
        raise reader.fail("shape of a member", (n_users, n_items), f"{shared.shape}")
    values = read_table(reader, "matrix.values", (shared.nnz,)) if "matrix.values" in reader.specs else None
    return shared._replace(values=values)


def _history(reader: Reader | Part) -> dict[str, list[float]]:
    history = {}
    for name in reader.specs:
        if name.startswith("history."):
            found = _HISTORY.fullmatch(name)
            if found is None:
                raise reader.fail("name of a history", repr(name)[:80], "a metric")
            history[found[1]] = reader.read(name, "F64", (reader.length(name),)).tolist()
    return history


def _ids(reader: Reader | Part, name: str, n: int) -> Any:
    from recsys_fast.data.id_map import IdMap

    if name in reader.specs:
        raw: Any = reader.read(name, "I64", (n,))
    elif f"{name}.offsets" in reader.specs:
        offsets = reader.read(f"{name}.offsets", "I64", (n + 1,))
        blob = reader.read(f"{name}.bytes", "U8", (reader.length(f"{name}.bytes"),)).tobytes()
        if offsets[0] != 0 or offsets[-1] != len(blob) or (np.diff(offsets) < 0).any():
            raise reader.fail(f"offsets of {name} do not ascend from 0 to {len(blob)}")
        cuts = offsets.tolist()
        try:
            raw = [blob[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(cuts)]
        except UnicodeDecodeError as error:
            raise reader.fail(f"{name} is not UTF-8 ({error})") from None
    else:
        return None
    try:
        return IdMap(raw)
    except (ValueError, TypeError) as error:
        raise reader.fail(f"{name} is no id map ({error})") from None


def read_table(reader: Reader | Part, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a float32 array of a model file.

    Raises:
        ModelFormatError: missing, of another shape, or a value is not finite.
    """
    table: NDArray[np.float32] = reader.read(name, "F32", shape)
    flat = table.reshape(-1)
    for start in range(0, flat.size, 1 << 20):
        if not np.isfinite(flat[start : start + (1 << 20)]).all():
            raise reader.fail(f"array {name!r} holds values that are not finite")
    return table


def take_number(reader: Reader | Part, state: dict[str, Any], name: str) -> float:
    """Return a finite number of the state, and take it out.

    Raises:
        ModelFormatError: missing or not a finite number.
    """
    value = state.pop(name, None)
    if type(value) not in (int, float) or not abs(value) < 1e300:
        raise reader.fail(name, repr(value)[:80], "a finite number")
    return float(value)


def take_seed(reader: Reader | Part, state: dict[str, Any]) -> int:
    """Return the seed of the state, and take it out.

    Raises:
        ModelFormatError: missing or no unsigned 64 bit integer.
    """
    seed = state.pop("seed", None)
    if type(seed) is not int or not 0 <= seed < 2**64:
        raise reader.fail("seed", repr(seed)[:80], "an unsigned 64 bit integer")
    return seed
