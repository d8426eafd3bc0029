"""Recommendation from what items are: ids, attributes, texts, images, trained end to end on interactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from recsys_fast.models.multimodal_model import MultimodalModel
from recsys_fast.models.network_structure import Structured


class Multimodal(MultimodalModel):
    """Users by id, items by id and content: ``score(u, i) = user vector(u) . item vector(i)``.

    The vector of an item is ``embedding of the id + MLP(fusion of its modalities' vectors)``, scaled to length 1 with
    ``normalize``; that of a modality is what its encoder makes of the content times a matrix, or the mean of the
    features' embeddings. Encoders are trained with all the rest on the interactions. Any modality may be missing of any
    item. Items without interactions have no embedding of their own, and are scored from their content alone; one
    without content either has the same score for everybody. With a single encoder and no ids it is a plain item tower.

    fusion, of vectors v_m of length ``n_factors``:

    - "concat": behind each other, a learned vector of the modality in the place of a missing one; then a layer;
    - "gated": their sum by weights that a layer derives from all of them, softmax over those that are there;
    - "attention": their sum by weights softmax(q . v_m + b_m) over those that are there, with a learned query q.

    loss: each interaction (u, i) of a batch is told from the batch's other items, and from ``n_negatives`` drawn for
    all of its rows. "softmax": of the scores over ``temperature``, corrected by the logarithm of how often an item is
    expected among these candidates (Yi et al. 2019); "bpr": ``-log sigma`` of the scores' differences over
    ``temperature``, mean over the candidates (Rendle et al. 2009). The items of a batch are encoded once each.

    Results are the same bits for any number of threads.

    Args:
        encoders: by modality: "features" (sparse), or an unfitted ``ContentCNN`` (images, rows of features) or
            ``ContentRNN`` (texts). Of these layers and augmentation count; head and training are this model's.
        n_factors: length of embeddings and vectors.
        fusion: "concat", "gated" or "attention".
        hidden: widths of the layers behind the fusion; () is one layer behind "concat", none behind the others.
        activation: of the hidden layers: "relu", "gelu", "gelu_tanh", "tanh", "sigmoid" or "identity".
        dropout: share of their outputs that training sets to 0.
        layer_norm: whether a layer norm follows each of them.
        normalize: whether vectors have length 1, so that scores are cosines.
        identity: whether items have embeddings of their own. Users always have.
        loss: "softmax" or "bpr".
        temperature: that training divides scores by.
        id_dropout: share of a batch's items that go without their own embedding, so that content learns to stand alone
            (Volkovs et al. 2017).
        modality_dropout: share of the modalities of a batch's items that are left out, so that the others learn to do
            without. An item keeps what it has where nothing would be left.
        pooling: "mean" or "sum" of features' embeddings times their values.
        n_negatives: items with interactions drawn for each batch besides those of its interactions.
        negative: "uniform" or "popularity", by counts^negative_alpha.
        negative_alpha: see there.
        log_q: share of the correction in "softmax", 0 for none.
        optimizer: "adam", "adamw", "adagrad" or "sgd".
        learning_rate: step width at its highest.
        weight_decay: of the layers and of the embeddings that a step touches.
        clip_norm: length that the gradient is scaled down to; None for never.
        lazy_moments: whether embeddings that a step does not touch rest, instead of following their moments.
        warmup_steps: steps over which the rate grows from 0.
        schedule: "constant", "linear" or "cosine".
        batch_size: interactions of a step; the larger, the more candidates, and the more items encoded.
        n_epochs: passes over the interactions.
        init_scale: standard deviation of the first embeddings.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.
        random_state: int, None, ``numpy.random.Generator`` or ``RandomState``.

    Attributes:
        user_factors_, item_factors_: ``(n_users, n_factors)`` and ``(n_items, n_factors) float32``: for an index of
            nearest neighbours as they are.
        history_: ``{"loss": [...], metrics ...}``, one number per epoch: the mean loss per interaction.
        seed_: the int that all random numbers came from.
        n_epochs_: finished epochs.

    Files and copies hold the items' vectors, not their content: recommending needs none, training on does.

    References:
        Covington, Adams, Sargin: Deep Neural Networks for YouTube Recommendations, 2016. He, McAuley: VBPR, 2016.
        Arevalo et al.: Gated Multimodal Units for Information Fusion, 2017. Volkovs, Yu, Poutanen: DropoutNet, 2017.
        Yi et al.: Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, 2019.
    """

    _training_only: ClassVar[frozenset[str]] = Structured._training_only | {
        "id_dropout", "modality_dropout", "negative", "temperature",
    }  # fmt: skip

    def __init__(
        self,
        encoders: Mapping[str, Any] = {},
        n_factors: int = 64,
        *,
        fusion: str = "concat",
        hidden: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
        normalize: bool = True,
        identity: bool = True,
        loss: str = "softmax",
        temperature: float = 0.1,
        id_dropout: float = 0.3,
        modality_dropout: float = 0.0,
        pooling: str = "mean",
        n_negatives: int = 0,
        negative: str = "uniform",
        negative_alpha: float = 0.75,
        log_q: float = 1.0,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        lazy_moments: bool = True,
        warmup_steps: int = 0,
        schedule: str = "constant",
        batch_size: int = 512,
        n_epochs: int = 20,
        init_scale: float = 0.1,
        device: str = "auto",
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.encoders = encoders
        self.n_factors = n_factors
        self.fusion = fusion
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.layer_norm = layer_norm
        self.normalize = normalize
        self.identity = identity
        self.loss = loss
        self.temperature = temperature
        self.id_dropout = id_dropout
        self.modality_dropout = modality_dropout
        self.pooling = pooling
        self.n_negatives = n_negatives
        self.negative = negative
        self.negative_alpha = negative_alpha
        self.log_q = log_q
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.lazy_moments = lazy_moments
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.init_scale = init_scale
        self.device = device
        self.n_threads = n_threads
        self.random_state = random_state
