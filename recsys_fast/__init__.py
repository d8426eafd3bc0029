"""recsys_fast: a recommender engine with native kernels."""

from recsys_fast.backend import show_config

__version__ = "0.1.0"
__all__ = ["show_config"]
