"""What a file holds of the encoders that a multimodal model is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys_fast.errors import NotSupportedError, message
from recsys_fast.models.content_inputs import ContentKind
from recsys_fast.models.files import find_class, make_unfitted, stored_params
from recsys_fast.models.multimodal_content import FEATURES
from recsys_fast.models.registry import CONTENT_MODELS

_KEYS = {"modality": str, "model": str, "params": dict, "shape": list, "vocabulary": str}


def pack_encoders(encoders: Mapping[str, Any], kinds: Mapping[str, ContentKind]) -> list[dict[str, Any]]:
    """Return names, parameters and kinds of input, in order.

    Raises:
        NotSupportedError: an encoder of a class that no file may name, so that it could not be loaded.
    """
    packed = []
    for name, encoder in encoders.items():
        model, params = FEATURES, {}
        if not isinstance(encoder, str):
            model, params = type(encoder).__name__, stored_params(encoder)
            if CONTENT_MODELS.get(model) != type(encoder).__module__:
                what = f"encoders[{name!r}] is of another package's class {model}"
                raise NotSupportedError(message(what, mend="such a model cannot be saved"))
        kind = {"shape": list(kinds[name].shape), "vocabulary": kinds[name].vocabulary}
        packed.append({"modality": name, "model": model, "params": params, **kind})
    return packed


def read_encoders(reader: Any, packed: Any) -> tuple[dict[str, Any], dict[str, ContentKind]]:
    """Return what ``pack_encoders`` packed; whether encoders and kinds fit each other is not checked.

    Raises:
        ModelFormatError: not what it packed, or an encoder is not valid.
    """
    if not isinstance(packed, list) or not packed:
        raise reader.fail("encoders", repr(packed)[:80], "a list")
    encoders: dict[str, Any] = {}
    kinds: dict[str, ContentKind] = {}
    for entry in packed:
        if not isinstance(entry, dict) or {key: type(value) for key, value in entry.items()} != _KEYS:
            raise reader.fail("description of an encoder", repr(entry)[:80], ", ".join(_KEYS))
        shape = entry["shape"]
        if not 1 <= len(shape) <= 3 or any(type(size) is not int or not 1 <= size < 2**31 for size in shape):
            raise reader.fail("shape of content", repr(shape)[:80], "one to three sizes")
        name, model = entry["modality"], entry["model"]
        if model == FEATURES and len(shape) != 1:
            raise reader.fail("shape of features", repr(shape)[:80], "their number")
        encoders[name] = FEATURES
        if model != FEATURES:
            encoders[name] = make_unfitted(reader, find_class(reader, model, CONTENT_MODELS), entry["params"])
        kinds[name] = ContentKind(tuple(shape), entry["vocabulary"])
    return encoders, kinds
