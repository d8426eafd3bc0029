"""Metrics and protocols over anything that can rank or score."""

from recsys_fast.evaluation.evaluate import evaluate
from recsys_fast.evaluation.names import METRICS
from recsys_fast.evaluation.report import Report

__all__ = ["METRICS", "Report", "evaluate"]
