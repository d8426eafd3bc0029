"""Models: each a few lines around an operation, with the interface of ``Recommender`` or of ``RowModel``."""

from recsys_fast.models.als import ALS
from recsys_fast.models.autorec import AutoRec
from recsys_fast.models.base import Recommendations, Recommender
from recsys_fast.models.bert4rec import BERT4Rec
from recsys_fast.models.bpr import BPR
from recsys_fast.models.caser import Caser
from recsys_fast.models.content_catalogue import ExtendedCatalogue
from recsys_fast.models.content_cnn import ContentCNN
from recsys_fast.models.content_knn import ContentKNN
from recsys_fast.models.content_rnn import ContentRNN
from recsys_fast.models.deep_fm import DeepFM
from recsys_fast.models.ease import EASE
from recsys_fast.models.factors import FactorModel
from recsys_fast.models.feature_mlp import FeatureMLP
from recsys_fast.models.ffm import FFM
from recsys_fast.models.fm import FM
from recsys_fast.models.graph import P3alpha, RP3beta
from recsys_fast.models.gru4rec import GRU4Rec
from recsys_fast.models.hybrid import Hybrid
from recsys_fast.models.item2vec import Item2Vec
from recsys_fast.models.item_knn import ItemKNN
from recsys_fast.models.logistic_mf import LogisticMF
from recsys_fast.models.mf import MF
from recsys_fast.models.mult_vae import MultDAE, MultVAE
from recsys_fast.models.multimodal import Multimodal
from recsys_fast.models.ncf import GMF, MLPRec, NeuMF
from recsys_fast.models.nextitnet import NextItNet
from recsys_fast.models.popularity import Popularity
from recsys_fast.models.random import Random
from recsys_fast.models.rows import RowModel, evaluate_rows
from recsys_fast.models.sasrec import SASRec
from recsys_fast.models.sequence import SequenceModel, SequenceState
from recsys_fast.models.slim import SLIM
from recsys_fast.models.sparse_ease import SparseEASE
from recsys_fast.models.two_tower import TwoTower
from recsys_fast.models.user_knn import UserKNN
from recsys_fast.models.warp import WARP
from recsys_fast.models.wide_deep import WideDeep

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
    "ContentCNN",
    "ContentKNN",
    "ContentRNN",
    "DeepFM",
    "ExtendedCatalogue",
    "FactorModel",
    "FeatureMLP",
    "GRU4Rec",
    "Hybrid",
    "Item2Vec",
    "ItemKNN",
    "LogisticMF",
    "MLPRec",
    "MultDAE",
    "MultVAE",
    "Multimodal",
    "NeuMF",
    "NextItNet",
    "P3alpha",
    "Popularity",
    "RP3beta",
    "Random",
    "Recommendations",
    "Recommender",
    "RowModel",
    "SASRec",
    "SequenceModel",
    "SequenceState",
    "SparseEASE",
    "TwoTower",
    "UserKNN",
    "WideDeep",
    "evaluate_rows",
]
