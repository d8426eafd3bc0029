"""What goes into a model: interactions, their ids, cleaning, splits."""

from recsys_fast.data import splits
from recsys_fast.data.id_map import IdMap
from recsys_fast.data.interactions import Interactions
from recsys_fast.data.report import CleaningReport, Step

__all__ = ["CleaningReport", "IdMap", "Interactions", "Step", "splits"]
