"""Several fitted models as one: a weighted blend of their scores, or a fusion of their rankings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import ops
from recsys_fast.errors import NotSupportedError, message
from recsys_fast.evaluation.names import parse
from recsys_fast.models import inputs
from recsys_fast.models.base import Recommendations, Recommender
from recsys_fast.models.factors import FactorModel
from recsys_fast.models.hybrid_scores import NORMALIZATIONS, Fusion, LinearBlend, Query, best_rows, blocks
from recsys_fast.models.hybrid_search import Fixed, Search, check_weights
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.ops import Csr
from recsys_fast.ops.rank_metrics import RANK_METRICS
from recsys_fast.training.loop import Trainer, train

F32 = NDArray[np.float32]

_FIT_AGAIN = "update its models, then call fit again"


class Hybrid(Recommender):
    """Ranks items by what several fitted models say together.

    - blend: score(u, i) = sum_m w_m norm_m(u, i), with the scores of a model over all items of the catalogue made
      comparable within the user: "zscore" (s - mean) / deviation, "minmax" (s - min) / (max - min), "none" s itself.
      A model that scores all items of a user alike contributes 0 for that user (not with "none").
    - rank_fusion: score(u, i) = sum_m w_m / (k + rank_m(u, i)), weighted reciprocal rank fusion (Cormack, Clarke,
      Buettcher 2009); rank 1 is the model's best item of the whole catalogue, and items behind the first ``depth``
      contribute 0.

    Weights sum to 1. They are given, or fitted on held-out interactions to maximise the mean of ``metric`` over users.
    Candidates of a user are the union of the models' best ``n_candidates`` unseen items; the search starts from the
    best of the single models and equal weights, and moves one weight at a time by 1/4, then 1/8, ... as long as the
    metric rises. There are no random numbers in it. Whether the models together are better than the best of them is for
    a test set to say that neither the models nor the weights have seen.

    The hybrid keeps its models by reference; after changing one, call ``fit`` again. Seen items are those that any of
    the models was trained on. Scores of users are computed in blocks, never for all users at once; a blend ("zscore" or
    "none") of models with factors is a factor model itself and as fast.

    Args:
        models: fitted models, of the same users and items.
        method: "blend" or "rank_fusion".
        weights: one number per model, 0 or more, scaled to sum 1; None to fit them.
        normalize: of a blend, see above.
        k: of rank fusion, see above.
        depth: of rank fusion, see above.
        metric: what the weights maximise, a ranking metric with its cut.
        n_candidates: of the search, items per model and user.
        max_users: of the search; where more users have held-out interactions, so many, evenly spread, are used.
        n_rounds: step sizes of the search.
        device: backend of what the hybrid itself computes.
        n_threads: None for every CPU granted.

    Attributes:
        weights_: ``(n_models,) float64``, sum 1.
        history_: ``{"validation_<metric>": [...]}``, what each round reached on its candidates.
    """

    _learned: ClassVar[tuple[str, ...]] = ("weights_",)
    _unsaved: ClassVar[tuple[str, ...]] = ("models",)
    _fits_interactions: ClassVar[bool] = False

    weights_: NDArray[np.float64]

    def __init__(
        self,
        models: Sequence[Recommender] = (),
        method: str = "blend",
        weights: Sequence[float] | None = None,
        *,
        normalize: str = "zscore",
        k: float = 60.0,
        depth: int = 1000,
        metric: str = "ndcg@20",
        n_candidates: int = 100,
        max_users: int = 10_000,
        n_rounds: int = 5,
        device: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        self.models = models
        self.method = method
        self.weights = weights
        self.normalize = normalize
        self.k = k
        self.depth = depth
        self.metric = metric
        self.n_candidates = n_candidates
        self.max_users = max_users
        self.n_rounds = n_rounds
        self.device = device
        self.n_threads = n_threads

    # ---- parameters and members

    def _check_params(self) -> None:
        check_choice("method", self.method, ("blend", "rank_fusion"))
        check_choice("normalize", self.normalize, NORMALIZATIONS)
        check_float("k", self.k, 0.0)
        check_int("depth", self.depth, 1)
        wanted = parse(self.metric, ()) if "@" in str(self.metric) else []
        if len(wanted) != 1 or wanted[0].name not in RANK_METRICS:
            expected = "one ranking metric with its cut, such as 'ndcg@20'"
            raise ValueError(message("metric", repr(self.metric), expected))
        check_int("n_candidates", self.n_candidates, 1)
        check_int("max_users", self.max_users, 1)
        check_int("n_rounds", self.n_rounds, 1, 20)

    def _check_members(self) -> None:
        """Raise unless the models are fitted and are about the same users and items."""
        if isinstance(self.models, Recommender) or not len(self.models):
            got = "one model" if isinstance(self.models, Recommender) else "none"
            raise ValueError(message("models", got, "a list of fitted models"))
        for model in self.models:
            if not isinstance(model, Recommender):
                raise TypeError(message("models", f"a {type(model).__name__}", "fitted recommenders"))
            model._check_fitted()
        first = self.models[0]
        for place, model in enumerate(self.models):
            what = f"models[0] and models[{place}] were fitted on different"
            mend = "fit them on the same matrix, or on matrices of the same id maps"
            if model._shape() != first._shape():
                got = f"shapes {first._shape()} and {model._shape()}"
                side = "users" if model._shape()[0] != first._shape()[0] else "items"
                raise ValueError(message(f"{what} {side}", got, "one (n_users, n_items)", mend))
            for side in ("user", "item"):
                self._check_ids(side, getattr(model, f"{side}_ids_"), f"{what} {side}s", mend)

    def _check_ids(self, side: str, ids: Any, what: str, mend: str) -> None:
        known = self._ids(side)
        if ids is not None and known is not None and ids != known:
            place = next(i for i, (a, b) in enumerate(zip(known, ids, strict=True)) if a != b)
            got = f"{side} {place} is {known.decode(place)!r} and {ids.decode(place)!r}"
            raise ValueError(message(what, got, "one id map", mend))

    def _ids(self, side: str) -> Any:
        """Return the id map of the members, None where none has one."""
        maps = (getattr(model, f"{side}_ids_") for model in self.models)
        return next((ids for ids in maps if ids is not None), None)

    # ---- fitting

    def fit(
        self, user_items: Any = None, *, eval_set: Any = None, callbacks: Iterable[Any] = (), verbose: bool = False
    ) -> Self:
        """Fit the weights on held-out interactions; the models stay as they are.

        Args:
            user_items: ``(n_users, n_items)`` interactions that the models were not trained on; None where ``weights``
                are given.
            eval_set: as in ``Recommender.fit``.
            callbacks: as in ``Recommender.fit``; an epoch is a round of the search.
            verbose: as in ``Recommender.fit``.

        Returns:
            The hybrid.

        Raises:
            NotFittedError: a model is not fitted.
            ValueError: models of different users or items, no interactions to fit weights on, a bad parameter.
            TypeError: a member is no recommender.
        """
        self._check_all()
        self._check_members()
        weights = None if self.weights is None else check_weights(self.weights, len(self.models))
        validation = None
        if user_items is not None:
            validation = inputs.drop_zeros(inputs.check_matrix(user_items, "user_items", *self.models[0]._shape()))
            for side in ("user", "item"):
                ids = getattr(user_items, f"{side}_ids", None)
                self._check_ids(side, ids, f"the models and user_items have different {side}s", "select the same ids")
        if weights is None and (validation is None or not validation.nnz):
            got = "None" if validation is None else "no interactions"
            raise ValueError(message("user_items to fit the weights on", got, "held-out ones", "or pass weights="))
        chosen, evaluator = self._watchers(eval_set, callbacks, verbose)
        self._start(None)
        self.user_ids_, self.item_ids_ = self._ids("user"), self._ids("item")
        self._matrix = _union([model.training_matrix_ for model in self.models])
        trainer: Trainer = Fixed(self, weights, validation) if weights is not None else Search(self, validation)  # type: ignore[arg-type]
        n_rounds = self._planned_epochs()
        train(self, trainer, n_rounds, history=self.history_, evaluator=evaluator, callbacks=chosen)
        return self

    def _planned_epochs(self) -> int:
        return self.n_rounds if self.weights is None else 1

    def _record(self, reached: float) -> None:
        self.history_.setdefault(f"validation_{self.metric}", []).append(reached)

    def partial_fit(self, user_items: Any, **_: Any) -> Self:
        """Not offered: the models are updated, not the hybrid."""
        raise NotSupportedError(message("Hybrid has no partial_fit", mend=_FIT_AGAIN))

    def resize(self, n_users: int | None = None, n_items: int | None = None) -> Self:
        """Not offered: the models are resized, not the hybrid."""
        raise NotSupportedError(message("Hybrid has no resize", mend=_FIT_AGAIN))

    def _begin(self) -> Trainer:
        raise NotSupportedError(message("Hybrid trains no models", mend="fit them first"))

    def _resume(self) -> Trainer:
        raise NotSupportedError(message("Hybrid has no checkpoints", mend="call fit"))

    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        raise NotSupportedError(message("Hybrid has no partial_fit", mend=_FIT_AGAIN))

    def _grow(self, n_users: int, n_items: int) -> None:
        raise NotSupportedError(message("Hybrid has no resize", mend=_FIT_AGAIN))

    # ---- use

    def _where(self) -> dict[str, Any]:
        return {"device": self.device, "n_threads": self.n_threads}

    def _fusion(self) -> Fusion:
        return Fusion(self.method, self.normalize, float(self.k), self.depth)

    def _linear(self) -> LinearBlend | None:
        """Return the blend as one factor model, None where it is not one; kept until weights or a member change."""
        used = [model for model, weight in zip(self.models, self.weights_, strict=True) if weight]
        if self.method != "blend" or self.normalize == "minmax":
            return None
        if not all(isinstance(model, FactorModel) for model in used):
            return None
        cache = vars(self).setdefault("_cache", {})
        made_of = [(self.weights_, 0), *((model._matrix, model.n_epochs_) for model in used)]
        held = cache.get("made_of", ())
        if len(held) != len(made_of) or any(a is not b or i != j for (a, i), (b, j) in zip(held, made_of, strict=True)):
            blend = LinearBlend(self.models, self.weights_, self.normalize)  # type: ignore[arg-type]
            cache.update(made_of=made_of, linear=blend)
        return cache["linear"]  # type: ignore[no-any-return]

    def _totals(self, query: Query) -> F32:
        """Return fused scores of all items, ``(n, n_items)``."""
        linear = self._linear()
        if linear is not None:
            scores: F32 = linear.queries(query) @ linear.table.T
            return scores
        return self._fusion().total(self.models, self.weights_, query, self._shape()[1])

    def _rank(self, users: NDArray[np.int32] | None, given: Csr | None, n: int, **choice: Any) -> Recommendations:
        n_users, n_items = self._shape()
        self._check_members()
        if users is None and given is None:
            users = np.arange(n_users, dtype=np.int32)
        query, linear, seen = Query(users, given), self._linear(), choice.pop("seen", None)
        if linear is not None:
            options = {**self._where(), "check_finite": False, "seen": seen, **choice}
            return Recommendations(*ops.topk(linear.table, linear.queries(query), n, **options))
        ids, scores = np.empty((query.n, n), np.int32), np.empty((query.n, n), np.float32)
        for rows in blocks(query.n, n_items):
            own = None if seen is None else inputs.take_rows(seen, np.arange(rows.start, rows.stop))
            ids[rows], scores[rows] = best_rows(self._totals(query.part(rows)), n, own, self._where(), **choice)
        return Recommendations(ids, scores)

    def _score_histories(self, given: Csr) -> F32:
        return self._totals(Query(None, given))

    def score(self, users: ArrayLike, items: ArrayLike | None = None) -> F32:
        """Return the scores of items (all for None) for users, ``(m, n_items) float32``, 1-D for a scalar user."""
        n_users, n_items = self._shape()
        self._check_members()
        user_ids, one = inputs.check_ids(users, n_users, "users")
        chosen = slice(None) if items is None else inputs.check_ids(items, n_items, "items")[0]
        scores = self._totals(Query(user_ids, None))[:, chosen]
        return scores[0] if one else scores

    def predict(self, users: ArrayLike, items: ArrayLike) -> Any:
        """Return the score of each pair ``(users[k], items[k])``, a float for two scalars."""
        n_users, n_items = self._shape()
        self._check_members()
        pairs = inputs.check_pairs(users, items, n_users, n_items)
        distinct, place = np.unique(pairs.users, return_inverse=True)
        out = np.empty(len(pairs.users), np.float32)
        order = np.argsort(place, kind="stable")
        ends = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=len(distinct)))])
        for rows in blocks(len(distinct), n_items):
            entries = order[ends[rows.start] : ends[rows.stop]]
            scores = self._totals(Query(distinct[rows], None))
            out[entries] = scores[place[entries] - rows.start, pairs.items[entries]]
        return float(out[0]) if pairs.scalar else out

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak beside the models, by purpose and as "total"."""
        self._check_params()
        matrix = inputs.check_matrix(user_items, "user_items")
        n_models, n_items = len(self.models), matrix.n_cols
        rows = blocks(matrix.n_rows, n_items)
        width = min(self.n_candidates, n_items) * n_models
        users = min(matrix.n_rows, self.max_users)
        parts = {
            "matrix": sum(8 * len(m._matrix.row_ptr) + 4 * m._matrix.nnz for m in self.models if m.is_fitted),
            "scores": 4 * n_items * (rows[0].stop if rows else 0) * (n_models + 3),
            "candidates": users * width * (4 + 8 * n_models + 12),
        }
        return {**parts, "total": sum(parts.values())}

    # ---- files

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        from recsys_fast.models.files import pack_members

        arrays, described = pack_members(self, self.models)
        return {"weights": self.weights_, **arrays}, {"members": described}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import unpack_members

        self.models = unpack_members(reader, self, values.pop("members", None))
        self.weights_ = reader.read("weights", "F64", (len(self.models),))
        try:
            self._check_members()
            check_weights(self.weights_, len(self.models))
        except ValueError as error:
            raise reader.fail(str(error)) from None


def _union(matrices: list[Csr]) -> Csr:
    """Return the entries of any of the matrices, without values; the arrays of the first where all are the same."""
    first = matrices[0]
    if all(inputs.same_entries(first, other) for other in matrices[1:]):
        return first._replace(values=None)
    rows = np.concatenate([np.repeat(np.arange(m.n_rows, dtype=np.int32), np.diff(m.row_ptr)) for m in matrices])
    cols = np.concatenate([m.col_idx for m in matrices])
    return ops.csr_from_coo(rows, cols, shape=first.shape, duplicates="last")[0]._replace(values=None)
