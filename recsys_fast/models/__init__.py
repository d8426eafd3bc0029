"""Models: each a few lines around an operation, all with the interface of ``Recommender``."""

from recsys_fast.models.als import ALS
from recsys_fast.models.base import Recommendations, Recommender
from recsys_fast.models.factors import FactorModel
from recsys_fast.models.hybrid import Hybrid
from recsys_fast.models.popularity import Popularity
from recsys_fast.models.random import Random

__all__ = ["ALS", "FactorModel", "Hybrid", "Popularity", "Random", "Recommendations", "Recommender"]
