"""Pictures of things that have a shape, a colour and a texture, no two alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPES = ("disc", "square", "triangle", "cross")
TEXTURES = ("plain", "striped", "checked")
COLOURS = {
    "red": (215, 40, 40), "yellow": (225, 200, 40), "green": (50, 170, 60), "cyan": (50, 190, 200),
    "blue": (50, 70, 215), "magenta": (195, 60, 185),
}  # fmt: skip

#: how many values each attribute has
N_VALUES = (len(SHAPES), len(COLOURS), len(TEXTURES))
_BLOCK = 4096  # pictures made together
_DARK = 0.45  # of the colour, between stripes


def names(looks: NDArray[np.integer[Any]]) -> dict[str, NDArray[Any]]:
    """Return the attributes of looks ``(n, 3)`` as words."""
    words = {"shape": SHAPES, "colour": tuple(COLOURS), "texture": TEXTURES}
    return {name: np.array(values)[looks[:, k]] for k, (name, values) in enumerate(words.items())}


def draw(looks: NDArray[np.integer[Any]], size: int, noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return pictures of things that lie somewhere, a little larger or smaller, on grey ground.

    Args:
        looks: ``(n, 3)`` shape, colour and texture.
        size: height and width.
        noise: standard deviation of every number, as a share of the whole range.
        rng: of places, sizes, shades and noise.

    Returns:
        ``(n, size, size, 3) uint8``.
    """
    out = np.empty((len(looks), size, size, 3), np.uint8)
    for start in range(0, len(looks), _BLOCK):
        out[start : start + _BLOCK] = _draw(looks[start : start + _BLOCK], size, noise, rng)
    return out


def _draw(looks: NDArray[Any], size: int, noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    n = len(looks)
    radius = (size * rng.uniform(0.26, 0.40, n))[:, None, None]
    place = np.arange(size)
    down, right = (
        place - (size - 1) / 2 - rng.uniform(-0.1, 0.1, n)[:, None] * size for _ in range(2)
    )  # (n, size) each: from the middle of the thing
    y, x = down[:, :, None] / radius, right[:, None, :] / radius
    inside = np.stack([
        x * x + y * y < 1,
        np.maximum(abs(x), abs(y)) < 0.85,
        (y < 0.8) & (abs(x) < 0.55 * (y + 1)),
        (np.minimum(abs(x), abs(y)) < 0.32) & (np.maximum(abs(x), abs(y)) < 1),
    ])[looks[:, 0], np.arange(n)]  # fmt: skip
    width = max(2, size // 8)
    phase = rng.integers(0, 2 * width, (2, n))[:, :, None, None]
    rows, columns = place[:, None], place
    striped = (rows + columns + phase[0]) // width % 2
    checked = ((rows + phase[0]) // width + (columns + phase[1]) // width) % 2
    dark = np.stack([np.zeros_like(striped), striped, checked])[looks[:, 2], np.arange(n)]
    colour = np.array(list(COLOURS.values()), np.float64)[looks[:, 1]] + rng.normal(0, 12, (n, 3))
    thing = colour[:, None, None, :] * np.where(dark, _DARK, 1.0)[..., None]
    ground = rng.uniform(90, 165, n)[:, None, None, None]
    picture = np.where(inside[..., None], thing, ground) + rng.normal(0, 255 * noise, (n, size, size, 3))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
