"""What goes into a model: interactions, their ids, features, cleaning, splits."""

from recsys_fast.data import splits
from recsys_fast.data.balance import class_weights, resample
from recsys_fast.data.feature_columns import Categorical, MultiValued, Numeric
from recsys_fast.data.features import FeatureBuilder, SideFeatures
from recsys_fast.data.id_map import IdMap
from recsys_fast.data.interactions import Interactions
from recsys_fast.data.report import CleaningReport, Step
from recsys_fast.data.sequences import Sequences
from recsys_fast.data.text_encoder import TextEncoder, TokenRows
from recsys_fast.data.vectors import Vectors

__all__ = [
    "Categorical",
    "CleaningReport",
    "FeatureBuilder",
    "IdMap",
    "Interactions",
    "MultiValued",
    "Numeric",
    "Sequences",
    "SideFeatures",
    "Step",
    "TextEncoder",
    "TokenRows",
    "Vectors",
    "class_weights",
    "resample",
    "splits",
]
