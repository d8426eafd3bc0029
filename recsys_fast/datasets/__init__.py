"""Data sets by name, and synthetic data of any size with a known best score.

``load(name)`` finds a set on disk or fetches it; ``names()`` and ``describe(name)`` say what there is;
``synthetic(...)`` plants preferences and tells how well they can be recovered, ``synthetic_images(...)`` such that
follow from what pictures of the items show.
"""

from __future__ import annotations

from recsys_fast.datasets.catalog import Description, describe, load, names
from recsys_fast.datasets.dataset import Dataset
from recsys_fast.datasets.synthetic import load_synthetic, synthetic
from recsys_fast.datasets.visual import synthetic_images

__all__ = ["Dataset", "Description", "describe", "load", "load_synthetic", "names", "synthetic", "synthetic_images"]
