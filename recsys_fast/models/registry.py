"""Which models there are, and where: only these names are ever imported on behalf of a file."""

#: models of users and items
MODELS = {
    "ALS": "recsys_fast.models.als",
    "AutoRec": "recsys_fast.models.autorec",
    "BERT4Rec": "recsys_fast.models.bert4rec",
    "BPR": "recsys_fast.models.bpr",
    "Caser": "recsys_fast.models.caser",
    "ContentKNN": "recsys_fast.models.content_knn",
    "EASE": "recsys_fast.models.ease",
    "GMF": "recsys_fast.models.ncf",
    "GRU4Rec": "recsys_fast.models.gru4rec",
    "Hybrid": "recsys_fast.models.hybrid",
    "Item2Vec": "recsys_fast.models.item2vec",
    "ItemKNN": "recsys_fast.models.item_knn",
    "LogisticMF": "recsys_fast.models.logistic_mf",
    "MF": "recsys_fast.models.mf",
    "MLPRec": "recsys_fast.models.ncf",
    "MultDAE": "recsys_fast.models.mult_vae",
    "MultVAE": "recsys_fast.models.mult_vae",
    "Multimodal": "recsys_fast.models.multimodal",
    "NeuMF": "recsys_fast.models.ncf",
    "NextItNet": "recsys_fast.models.nextitnet",
    "P3alpha": "recsys_fast.models.graph",
    "Popularity": "recsys_fast.models.popularity",
    "Random": "recsys_fast.models.random",
    "RP3beta": "recsys_fast.models.graph",
    "SASRec": "recsys_fast.models.sasrec",
    "SLIM": "recsys_fast.models.slim",
    "SparseEASE": "recsys_fast.models.sparse_ease",
    "TwoTower": "recsys_fast.models.two_tower",
    "UserKNN": "recsys_fast.models.user_knn",
    "WARP": "recsys_fast.models.warp",
}

#: models of rows of features
ROW_MODELS = {
    "DeepFM": "recsys_fast.models.deep_fm",
    "FeatureMLP": "recsys_fast.models.feature_mlp",
    "FFM": "recsys_fast.models.ffm",
    "FM": "recsys_fast.models.fm",
    "WideDeep": "recsys_fast.models.wide_deep",
}

#: models of content: images, rows of numbers, texts
CONTENT_MODELS = {
    "ContentCNN": "recsys_fast.models.content_cnn",
    "ContentRNN": "recsys_fast.models.content_rnn",
}
