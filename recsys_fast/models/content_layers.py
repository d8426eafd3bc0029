"""Networks of images and feature rows, written as a list of layers."""

from __future__ import annotations

import math
from typing import Any

from recsys_fast.blocks.base import Block
from recsys_fast.blocks.conv2d import Conv2D, Flatten, Pool
from recsys_fast.blocks.dropout import Dropout
from recsys_fast.blocks.mlp import MLP
from recsys_fast.errors import message
from recsys_fast.ops.arguments import as_integer
from recsys_fast.ops.block_arguments import as_rate
from recsys_fast.ops.conv2d import PADDINGS, POOLS

_FORMS = (
    '("conv", filters, kernel[, stride][, "same"]), ("pool", window or "global"[, "max" or "average"]), '
    '("flatten",), ("dense", width) or ("dropout", rate)'
)
_LARGEST = 1 << 24


def as_layers(layers: Any) -> tuple[tuple[Any, ...], ...]:
    """Return the layers as tuples with all of their entries, after checking each for itself.

    Raises:
        TypeError: not a list of tuples.
        ValueError: an unknown layer, or an entry that makes no sense.
    """
    if not isinstance(layers, (list, tuple)) or not all(isinstance(one, (list, tuple)) and one for one in layers):
        raise TypeError(message("layers", repr(layers)[:80], "a list of " + _FORMS))
    return tuple(_as_layer(place, tuple(one)) for place, one in enumerate(layers))


def _as_layer(place: int, given: tuple[Any, ...]) -> tuple[Any, ...]:
    name, entries = given[0], given[1:]
    where = f"layers[{place}]"
    wrong = ValueError(message(where, repr(given)[:80], _FORMS))
    if name == "conv" and 2 <= len(entries) <= 4:
        filters, kernel = _size(entries[0], where), _sizes(entries[1], where)
        padding = next((e for e in entries[2:] if isinstance(e, str)), "valid")
        strides = [e for e in entries[2:] if not isinstance(e, str)]
        if padding not in PADDINGS or len(strides) > 1:
            raise wrong
        return name, filters, kernel, _sizes(strides[0] if strides else 1, where), padding
    if name == "pool" and 1 <= len(entries) <= 2:
        kind = entries[1] if len(entries) == 2 else "max"
        if kind not in POOLS:
            raise wrong
        return name, entries[0] if entries[0] == "global" else _sizes(entries[0], where), kind
    if name == "flatten" and not entries:
        return (name,)
    if name == "dense" and len(entries) == 1:
        return name, _size(entries[0], where)
    if name == "dropout" and len(entries) == 1:
        return name, as_rate(entries[0], where)
    raise wrong


def _size(value: Any, where: str) -> int:
    number = as_integer(value, where)
    if not 1 <= number <= _LARGEST:
        raise ValueError(message(f"size in {where}", number, f"1 to {_LARGEST}"))
    return number


def _sizes(value: Any, where: str) -> Any:
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise ValueError(message(f"sizes in {where}", value, "an int or a pair"))
        return tuple(_size(one, where) for one in value)
    return _size(value, where)


def _along(size: Any, height: int) -> Any:
    """An int is for both sides of an image, and for the length of rows of features."""
    return (1, size) if height == 1 and not isinstance(size, tuple) else size


def make_blocks(
    layers: tuple[tuple[Any, ...], ...], image: tuple[int, int, int], activation: str
) -> tuple[dict[str, Block], int]:
    """Return the blocks of checked layers for images of a shape, by name, and the width of what comes out.

    The maxima of a window are taken inside the convolution before them, where no gradient or activation is in the way.

    Raises:
        ValueError: a layer has no room in what is left of the images, or one of images follows a dense one.
    """
    blocks: dict[str, Block] = {}
    dense = False
    place = 0
    while place < len(layers):
        kind, *entries = layers[place]
        name = f"{kind}{place}"
        if kind in ("conv", "pool") and dense:
            raise ValueError(message(f"layers[{place}]", f"{kind!r} behind 'dense'", "layers of images first"))
        try:
            if kind == "conv":
                inside = _pool_inside(layers, place, activation, image[0])
                filters, kernel, stride, padding = entries
                conv = Conv2D(
                    image, filters, _along(kernel, image[0]), stride=_along(stride, image[0]), padding=padding,
                    pool=inside, activation=activation, first=not blocks,
                )  # fmt: skip
                blocks[name], image = conv, conv.out
                place += inside != 1
            elif kind == "pool":
                pool = Pool(
                    image, entries[0] if entries[0] == "global" else _along(entries[0], image[0]), kind=entries[1]
                )
                blocks[name], image = pool, pool.out
        except ValueError as error:
            raise ValueError(message(f"layers[{place}] does not fit images of {image}: {error}")) from None
        if kind == "dense":
            widths = [entries[0]]
            while place + 1 < len(layers) and layers[place + 1][0] == "dense":
                place += 1
                widths.append(layers[place][1])
            blocks[name] = MLP(math.prod(image), widths, activation, last=activation)
            image, dense = (1, 1, widths[-1]), True
        elif kind == "dropout":
            blocks[name] = Dropout(entries[0])
        elif kind == "flatten":
            blocks[name] = Flatten()
            image, dense = (1, 1, math.prod(image)), True
        place += 1
    return blocks, math.prod(image)


def _pool_inside(layers: tuple[tuple[Any, ...], ...], place: int, activation: str, height: int) -> Any:
    """Return the window of the layer behind if its maxima can be taken inside of this one, else 1."""
    if place + 1 == len(layers) or activation.startswith("gelu"):
        return 1
    kind, *entries = layers[place + 1]
    if kind != "pool" or entries[0] == "global" or entries[1] != "max":
        return 1
    window = _along(entries[0], height)
    places = window[0] * window[1] if isinstance(window, tuple) else window * window
    return window if 1 < places <= 256 else 1
