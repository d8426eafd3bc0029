"""Models: each a few lines around an operation, with the interface of ``Recommender`` or of ``RowModel``."""

from recsys_fast.models.als import ALS
from recsys_fast.models.base import Recommendations, Recommender
from recsys_fast.models.factors import FactorModel
from recsys_fast.models.ffm import FFM
from recsys_fast.models.fm import FM
from recsys_fast.models.popularity import Popularity
from recsys_fast.models.rows import RowModel, evaluate_rows

__all__ = [
    "ALS",
    "FFM",
    "FM",
    "FactorModel",
    "Popularity",
    "Recommendations",
    "Recommender",
    "RowModel",
    "evaluate_rows",
]
