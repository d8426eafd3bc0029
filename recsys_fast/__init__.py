"""recsys_fast: a recommender engine with native kernels over sparse interactions.

Importing this package loads NumPy and little else; everything below is imported when it is first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from recsys_fast.backend import show_config

if TYPE_CHECKING:
    from recsys_fast import data, datasets, evaluation, models, ops, training
    from recsys_fast.data import IdMap, Interactions, Sequences, splits
    from recsys_fast.models import (
        ALS,
        BPR,
        EASE,
        FFM,
        FM,
        GMF,
        MF,
        SLIM,
        WARP,
        AutoRec,
        BERT4Rec,
        Caser,
        ContentCNN,
        ContentKNN,
        ContentRNN,
        DeepFM,
        FeatureMLP,
        GRU4Rec,
        Hybrid,
        Item2Vec,
        ItemKNN,
        LogisticMF,
        MLPRec,
        MultDAE,
        Multimodal,
        MultVAE,
        NeuMF,
        NextItNet,
        P3alpha,
        Popularity,
        Random,
        Recommender,
        RowModel,
        RP3beta,
        SASRec,
        SparseEASE,
        TwoTower,
        UserKNN,
        WideDeep,
    )
    from recsys_fast.training import Checkpoint, EarlyStopping, LogEvaluation, ProgressBar, TimeLimit

__version__ = "0.1.0"

_LAZY = {
    "ALS": "recsys_fast.models.als",
    "AutoRec": "recsys_fast.models.autorec",
    "BERT4Rec": "recsys_fast.models.bert4rec",
    "BPR": "recsys_fast.models.bpr",
    "Checkpoint": "recsys_fast.training.checkpoint",
    "ContentCNN": "recsys_fast.models.content_cnn",
    "ContentKNN": "recsys_fast.models.content_knn",
    "ContentRNN": "recsys_fast.models.content_rnn",
    "DeepFM": "recsys_fast.models.deep_fm",
    "EASE": "recsys_fast.models.ease",
    "EarlyStopping": "recsys_fast.training.callbacks",
    "FFM": "recsys_fast.models.ffm",
    "FM": "recsys_fast.models.fm",
    "GMF": "recsys_fast.models.ncf",
    "FeatureMLP": "recsys_fast.models.feature_mlp",
    "Hybrid": "recsys_fast.models.hybrid",
    "IdMap": "recsys_fast.data.id_map",
    "Interactions": "recsys_fast.data.interactions",
    "Item2Vec": "recsys_fast.models.item2vec",
    "ItemKNN": "recsys_fast.models.item_knn",
    "LogEvaluation": "recsys_fast.training.callbacks",
    "LogisticMF": "recsys_fast.models.logistic_mf",
    "MF": "recsys_fast.models.mf",
    "MLPRec": "recsys_fast.models.ncf",
    "NeuMF": "recsys_fast.models.ncf",
    "MultDAE": "recsys_fast.models.mult_vae",
    "MultVAE": "recsys_fast.models.mult_vae",
    "Multimodal": "recsys_fast.models.multimodal",
    "P3alpha": "recsys_fast.models.graph",
    "Popularity": "recsys_fast.models.popularity",
    "ProgressBar": "recsys_fast.training.callbacks",
    "RP3beta": "recsys_fast.models.graph",
    "Random": "recsys_fast.models.random",
    "Recommender": "recsys_fast.models.base",
    "RowModel": "recsys_fast.models.rows",
    "Caser": "recsys_fast.models.caser",
    "GRU4Rec": "recsys_fast.models.gru4rec",
    "NextItNet": "recsys_fast.models.nextitnet",
    "SASRec": "recsys_fast.models.sasrec",
    "SLIM": "recsys_fast.models.slim",
    "Sequences": "recsys_fast.data.sequences",
    "SparseEASE": "recsys_fast.models.sparse_ease",
    "TimeLimit": "recsys_fast.training.callbacks",
    "TwoTower": "recsys_fast.models.two_tower",
    "WARP": "recsys_fast.models.warp",
    "UserKNN": "recsys_fast.models.user_knn",
    "WideDeep": "recsys_fast.models.wide_deep",
}
_MODULES = {
    "data": "recsys_fast.data",
    "datasets": "recsys_fast.datasets",
    "evaluation": "recsys_fast.evaluation",
    "models": "recsys_fast.models",
    "ops": "recsys_fast.ops",
    "splits": "recsys_fast.data.splits",
    "training": "recsys_fast.training",
}

__all__ = [
    "ALS",
    "BPR",
    "EASE",
    "FFM",
    "FM",
    "GMF",
    "MF",
    "SLIM",
    "WARP",
    "AutoRec",
    "BERT4Rec",
    "Caser",
    "Checkpoint",
    "ContentCNN",
    "ContentKNN",
    "ContentRNN",
    "DeepFM",
    "EarlyStopping",
    "FeatureMLP",
    "GRU4Rec",
    "Hybrid",
    "IdMap",
    "Interactions",
    "Item2Vec",
    "ItemKNN",
    "LogEvaluation",
    "LogisticMF",
    "MLPRec",
    "MultDAE",
    "MultVAE",
    "Multimodal",
    "NeuMF",
    "NextItNet",
    "P3alpha",
    "Popularity",
    "ProgressBar",
    "RP3beta",
    "Random",
    "Recommender",
    "RowModel",
    "SASRec",
    "Sequences",
    "SparseEASE",
    "TimeLimit",
    "TwoTower",
    "UserKNN",
    "WideDeep",
    "data",
    "datasets",
    "evaluation",
    "load",
    "models",
    "ops",
    "show_config",
    "splits",
    "training",
]


def load(path: str | os.PathLike[str], *, device: str = "auto") -> Recommender | RowModel:
    """Return the model in a file that ``save`` wrote, whichever model it is.

    Raises:
        ModelFormatError: the file is damaged, too new, or no model file.
        OSError: it cannot be read.
    """
    from recsys_fast.models.files import load as load_file

    return load_file(path, None, device)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    else:
        raise AttributeError(f"module 'recsys_fast' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *globals()})
