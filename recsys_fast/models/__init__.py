"""Models: each a few lines around an operation, all with the interface of ``Recommender``."""

from recsys_fast.models.als import ALS
from recsys_fast.models.base import Recommendations, Recommender
from recsys_fast.models.bpr import BPR
from recsys_fast.models.factors import FactorModel
from recsys_fast.models.logistic_mf import LogisticMF
from recsys_fast.models.mf import MF
from recsys_fast.models.popularity import Popularity
from recsys_fast.models.warp import WARP

__all__ = [
    "ALS",
    "BPR",
    "MF",
    "WARP",
    "FactorModel",
    "LogisticMF",
    "Popularity",
    "Recommendations",
    "Recommender",
]
