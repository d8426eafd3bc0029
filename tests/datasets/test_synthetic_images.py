"""The made catalogue of pictures: sizes, the same from a seed, looks that can be seen, scores that mean something."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys_fast.datasets import Dataset, synthetic_images
from recsys_fast.datasets.looks import COLOURS, SHAPES, TEXTURES, draw


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic_images(600, 300, 15_000, size=16, random_state=2)


def entries(matrix: Any) -> set[tuple[int, int]]:
    return set(zip(matrix.rows().tolist(), matrix.col_idx.tolist(), strict=True))


def test_parts_are_disjoint_and_cold_items_cold(data: Dataset) -> None:
    cold, extras = set(data.extras["cold_items"].tolist()), data.extras
    parts = [entries(part) for part in (data.train, data.test, extras["cold_test"])]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 15_000
    assert len(cold) == 60
    assert not {item for _, item in parts[0] | parts[1]} & cold
    assert {item for _, item in parts[2]} <= cold
    assert data.train.shape == data.test.shape == extras["cold_test"].shape == (600, 300)  # type: ignore[union-attr]
    assert extras["images"].shape == (300, 16, 16, 3)
    assert set(extras["item_table"]["shape"]) <= set(SHAPES)
    assert extras["item_factors"].shape == (300, 8)


def test_the_seed_decides_everything(data: Dataset) -> None:
    for seed, same in ((2, True), (3, False)):
        again = synthetic_images(600, 300, 15_000, size=16, random_state=seed)
        assert np.array_equal(again.extras["images"], data.extras["images"]) == same
        assert (entries(again.train) == entries(data.train)) == same
        assert (again.extras["cold_oracle"] == data.extras["cold_oracle"]) == same


def test_scores_are_in_their_order(data: Dataset) -> None:
    scores = {name: data.extras[name]["recall@20"] for name in ("oracle", "popularity")}
    assert 1.5 * scores["popularity"] < scores["oracle"] < 1
    best, seen, chance = data.extras["cold_oracle"], data.extras["cold_visual_oracle"], 20 / 60
    assert 1.3 * chance < seen["recall@20"] < best["recall@20"] < 1
    indifferent = synthetic_images(300, 200, 6_000, size=8, sharpness=0.0, random_state=0).extras
    assert indifferent["cold_visual_oracle"]["recall@20"] == pytest.approx(0.5, abs=0.05), "20 of 40 by chance"


def test_what_is_drawn_can_be_seen() -> None:
    """The nearest mean tells the colour, spread the texture, area the shape, whatever the place and the noise."""
    rng = np.random.default_rng(0)
    looks = np.stack([rng.integers(0, n, 600) for n in (len(SHAPES), len(COLOURS), len(TEXTURES))], axis=1)
    pictures = draw(looks, 24, 0.05, np.random.default_rng(1)).astype(float) / 255
    assert pictures.shape == (600, 24, 24, 3)
    middle = pictures[:, 9:15, 9:15]
    hue = middle.mean((1, 2)) - middle.mean((1, 2, 3))[:, None]
    means = np.array([hue[:300][looks[:300, 1] == k].mean(0) for k in range(len(COLOURS))])
    found = ((hue[300:, None] - means) ** 2).sum(2).argmin(1)
    assert (found == looks[300:, 1]).mean() > 0.95
    plain = middle.std((1, 2)).mean(1)
    assert plain[looks[:, 2] == 0].mean() < 0.6 * plain[looks[:, 2] > 0].mean()
    size = (abs(pictures - pictures[:, :1, :1]).max(3) > 0.2).mean((1, 2))
    areas = [size[looks[:, 0] == k].mean() for k in range(len(SHAPES))]
    assert areas[0] > areas[1] > areas[3] > areas[2], "disc, square, cross, triangle"


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"size": 7}, ValueError),
        ({"size": 9.5}, TypeError),
        ({"rank": 73}, ValueError),
        ({"cold_fraction": 1.0}, ValueError),
        ({"sharpness": -1.0}, ValueError),
        ({"noise": 2.0}, ValueError),
        ({"n_interactions": 10**9}, ValueError),
        ({"ks": ()}, ValueError),
    ],
)
def test_what_it_refuses(params: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(params))):
        synthetic_images(**params)
