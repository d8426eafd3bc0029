"""What a recommender over items' content is besides its parameters: network, training, use, cold items, files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast.blocks.base import Runtime
from recsys_fast.blocks.embedding_bag import EmbeddingBag
from recsys_fast.blocks.encoder import Encoder
from recsys_fast.blocks.fused_tower import FusedTower
from recsys_fast.blocks.fusion import FUSIONS
from recsys_fast.blocks.mlp import MLP
from recsys_fast.blocks.tower import Tower
from recsys_fast.errors import message
from recsys_fast.models.content_inputs import ContentKind
from recsys_fast.models.content_model import ContentModel
from recsys_fast.models.memory import names_gpu
from recsys_fast.models.multimodal_content import FEATURES, ItemContent, JoinedInput, read_content
from recsys_fast.models.multimodal_training import ItemInputs, MultimodalNetwork
from recsys_fast.models.network_memory import encoder_numbers
from recsys_fast.models.network_state import ASKING
from recsys_fast.models.parameters import check_choice, check_float, check_int
from recsys_fast.models.sgd_features import Side, check_features
from recsys_fast.models.tower_model import F32, TowerModel
from recsys_fast.models.two_tower_training import AnyTower, Inputs
from recsys_fast.ops import Csr

_LOSSES = {"softmax": "sampled_ce", "bpr": "bpr"}
_TABLES = {"users": 0, "items": 1}


class MultimodalModel(TowerModel):
    """Behaviour of ``Multimodal``, which describes it."""

    _fits_interactions: ClassVar[bool] = False
    _unsaved: ClassVar[tuple[str, ...]] = ("encoders",)

    encoders: Mapping[str, Any]
    fusion: str
    loss: str
    modality_dropout: float

    _kinds: dict[str, ContentKind]
    _content: ItemContent | None = None  # of a model that was loaded, or copied, there is none
    _known_vectors: F32 | None = None  # of its items then

    def _check_params(self) -> None:
        super()._check_params()
        if not isinstance(self.encoders, Mapping):
            raise TypeError(message("encoders", type(self.encoders).__name__, "a dict of modalities"))
        for name, encoder in self.encoders.items():
            if not isinstance(name, str) or not name.isidentifier():
                raise ValueError(message("modality in encoders", repr(name), 'a name such as "image"'))
            if isinstance(encoder, ContentModel):
                encoder._check_params()
            elif encoder != FEATURES:
                expected = f"{FEATURES!r}, or an unfitted ContentCNN or ContentRNN"
                raise TypeError(message(f"encoders[{name!r}]", repr(encoder)[:80], expected))
        check_choice("fusion", self.fusion, tuple(FUSIONS))
        check_choice("loss", self.loss, tuple(_LOSSES))
        if check_float("modality_dropout", self.modality_dropout, 0.0, high=1.0) == 1.0:
            raise ValueError(message("modality_dropout", 1.0, "0 <= modality_dropout < 1"))

    def _structure(self) -> dict[str, Any]:
        described = [
            (name, encoder if isinstance(encoder, str) else (type(encoder).__name__, encoder._structure()))
            for name, encoder in self.encoders.items()
        ]
        return {**super()._structure(), "encoders": described}

    # ---- the network

    def _sides(self, n_users: int, n_items: int) -> tuple[Side, Side]:
        users = () if self._user_features is None else (self._user_features,)
        return Side(n_users, True, users), Side(n_items, self.identity, ())

    def _make_parts(self, kinds: Mapping[str, ContentKind]) -> dict[str, EmbeddingBag | Encoder]:
        """Return what makes vectors of the modalities, not connected yet.

        Raises:
            ValueError: an encoder does not fit its content.
        """
        parts: dict[str, EmbeddingBag | Encoder] = {}
        for name, encoder in self.encoders.items():
            if isinstance(encoder, str):
                n, table_name = kinds[name].shape[0], f"{name}_features"
                parts[name] = EmbeddingBag(n, self.n_factors, scale=self.init_scale, name=table_name)
                continue
            given = None if self._content is None else self._content.modalities[name]
            own = encoder._encoder(kinds[name], None if isinstance(given, JoinedInput) else given)
            for table in own.tables:
                table.name = f"{name}_{table.name}"
            parts[name] = own
        return parts

    def _make_towers(self, n_users: int, n_items: int) -> tuple[AnyTower, AnyTower]:
        d, scale = self.n_factors, self.init_scale
        users = EmbeddingBag(self._sides(n_users, n_items)[0].n_rows, d, scale=scale, name="users")
        items = EmbeddingBag(n_items, d, scale=scale, name="items") if self.identity else None
        parts = self._make_parts(self._kinds)
        fusion = FUSIONS[self.fusion](len(parts), d)
        widths = (*self.hidden, d) if self.hidden or fusion.d_out != d else ()
        mlp = MLP(fusion.d_out, widths, self.activation, self.dropout, self.layer_norm)
        return Tower(users, MLP(d, ()), self.normalize), FusedTower(items, parts, fusion, mlp, self.normalize)

    def _make_network(self, runtime: Runtime) -> MultimodalNetwork:
        shape = self._matrix.shape
        content = ItemContent.nothing(list(self.encoders), shape[1]) if self._content is None else self._content
        changes = []
        for name, encoder in self.encoders.items():
            first = getattr(content.modalities[name], "parts", [content.modalities[name]])[0]
            changes.append(None if isinstance(encoder, str) or first is None else encoder._changes(first))
        sides = Inputs(self._sides(*shape)[0], self.pooling == "mean"), ItemInputs(content, self.identity)
        return MultimodalNetwork(
            self._make_towers(*shape), sides, self._loss(), self._optimizer(), runtime, seed=self.seed_,
            temperature=self.temperature, id_dropout=self.id_dropout, modality_dropout=self.modality_dropout,
            changes=tuple(changes), block=self.batch_size,
        )  # fmt: skip

    def _side(self, name: str) -> int | None:
        return _TABLES.get(name)

    def _described(self) -> bool:
        return True

    def _loss_kind(self) -> str:
        return _LOSSES[self.loss]

    def _log_q(self) -> float:
        return self.log_q if self.loss == "softmax" else 0.0

    # ---- training

    def fit(
        self,
        user_items: Any,
        *,
        item_content: Any = None,
        user_features: Any = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
    ) -> Self:
        """Train from scratch, encoders included.

        Args:
            user_items: ``(n_users, n_items)`` interactions; stored zeros are none, other values count as 1.
            item_content: for each modality ``X``, a row per item, or ``(X, mask)`` with mask ``(n_items,) bool``, True
                for the items that have it, and X a row per item or per True. "features": sparse ``(n, n_features)``;
                else what the encoder's ``fit`` takes. Arrays are never copied as a whole, also memory-mapped ones. An
                item without any feature or word has none of that modality, as if the mask said so.
            user_features: ``(n_users, n_user_features)`` sparse; None for none.
            eval_set: test matrix, or the pair (train, test); its metrics join ``history_`` after every epoch.
            callbacks: objects with ``on_epoch_end(state) -> bool | None``; see ``recsys_fast.training``.
            verbose: show a progress bar, or a line per epoch where standard error is not a terminal.

        Returns:
            The model.

        Raises:
            ValueError, TypeError: a parameter, the matrix or content is not usable; the model is left as it was.
            DivergedError: the loss or a parameter is not finite; the last finite epoch is kept.

        An exception, Ctrl-C included, leaves the model at the last finished epoch; unfitted if there was none.
        """
        given = {"item_content": item_content, "user_features": user_features}
        return self._fit(user_items, eval_set, callbacks, verbose, **given)

    def _check_given(self, matrix: Csr, **given: Any) -> dict[str, Any]:
        if not self.encoders:
            raise ValueError(message("encoders", "none", 'one or more, such as {"image": rf.ContentCNN(...)}'))
        features = check_features(given.get("user_features"), "user_features", "user", matrix.n_rows)
        content = self._read(given.get("item_content"), matrix.n_cols, None)
        kinds = {name: one.kind for name, one in content.modalities.items()}
        self._sketch(_content=content)._make_parts(kinds)  # complains before anything is forgotten
        for name, encoder in self.encoders.items():
            if not isinstance(encoder, str):
                encoder._changes(content.modalities[name])
        return {"_user_features": features, "_content": content, "_kinds": kinds, "_known_vectors": None}

    def _read(self, given: Any, n: int | None, kinds: dict[str, ContentKind] | None) -> ItemContent:
        return read_content(self.encoders, given, self.pooling == "mean", n, kinds)

    def _take_content(self, given: Any) -> None:
        """Train on this content from now on; None for what there is."""
        if given is not None:
            content = self._read(given, self._shape()[1], self._kinds)
            held = self._held()
            self._content, self._known_vectors = content, None
            self._take_network(self._restored(*held))
        elif self._content is None:
            what = "training of a Multimodal that was loaded or copied, without content of the items"
            raise ValueError(message(what, mend="pass item_content: files do not hold it"))

    def partial_fit(
        self,
        user_items: Any,
        *,
        item_content: Any = None,
        users: ArrayLike | None = None,
        items: ArrayLike | None = None,
        n_epochs: int = 1,
    ) -> Self:
        """Train ``n_epochs`` more epochs on this matrix from the present state; from scratch on an unfitted model.

        Args:
            user_items: ``(n_users, n_items)``.
            item_content: as in ``fit``, of all items; None for what the model was trained on, which a model that comes
                from a file or is a copy does not have.
            users, items: not offered.
            n_epochs: see above.

        Raises:
            NotSupportedError: ``users`` or ``items``.
            ValueError, TypeError: as ``fit``; content of another kind than before, or none.
        """
        if users is not None or items is not None:
            return super().partial_fit(user_items, users=users, items=items)
        self._check_all()
        n_epochs = check_int("n_epochs", n_epochs, 1)
        if not self.is_fitted:
            before, self.n_epochs = self.n_epochs, n_epochs
            try:
                return self.fit(user_items, item_content=item_content)
            finally:
                self.n_epochs = before
        self._check_unchanged(onwards=True)
        self._take_content(item_content)
        return super().partial_fit(user_items, n_epochs=n_epochs)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        *,
        item_content: Any = None,
        n_epochs: int | None = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
        device: str = "auto",
    ) -> Self:
        """Continue the training that a ``Checkpoint`` saved, on the same content: the file does not hold it.

        Args:
            path: the checkpoint.
            item_content: as in the interrupted ``fit``.
            n_epochs: epochs to reach, counted from the first; None for what that ``fit`` was to reach.
            eval_set, callbacks, verbose: as in ``fit``.
            device: backend.

        Returns:
            The model, with the same bits as after an uninterrupted run on the same backend.

        Raises:
            ModelFormatError: the file is damaged or holds another model.
            ValueError, TypeError: no content, or other content than before.
        """
        model = cls.load(path, device=device)
        model._take_content(item_content)
        return model._go_on(n_epochs, eval_set, callbacks, verbose)

    # ---- use

    def _vectors(self, side: int) -> F32:
        if side == 1 and self._known_vectors is not None:
            self._check_fitted()
            self._check_unchanged()
            return self._known_vectors
        return super()._vectors(side)

    def encode_items(self, item_content: Any) -> F32:
        """Return the vectors of items of which nothing is known but their content, ``(m, n_factors) float32``.

        Args:
            item_content: as in ``fit``; modalities may be left out.

        Raises:
            ValueError, TypeError: content of another kind than in ``fit``: shape or type of images, number of
                features, vocabulary of texts.
        """
        self._check_fitted()
        return self._encoded_content(self._read(item_content, None, self._kinds))

    def _encoded_content(self, content: ItemContent) -> F32:
        network: Any = self._net()
        with ASKING:
            found: F32 = network.vectors(1, ItemInputs(content, False))
        return found

    def extend(self, *, item_content: Any = None, user_features: Any = None) -> Self:
        """Append items and users that nothing is known of but content and features; recommended at once.

        Args:
            item_content: as ``encode_items`` takes it; None for no new items.
            user_features: ``(n_new_users, n_user_features)`` sparse; None for no new users.

        Returns:
            The model. Id maps that came with the training data are dropped where their side grows.

        Raises:
            ValueError, TypeError: as ``encode_items``; the model was trained without features of users.
        """
        self._check_fitted()
        new = None if item_content is None else self._read(item_content, None, self._kinds)
        if user_features is not None:
            self._append(user=user_features)
        if new is not None:
            before, (_, n_items) = self._content, self._shape()
            known = None if before is not None else np.concatenate([self.item_factors_, self._encoded_content(new)])
            try:
                self._content = None if before is None else before.joined(new)
                self.resize(n_items=n_items + new.n)
            except BaseException:
                self._content = before
                raise
            self._known_vectors = known
        return self

    def _grow(self, n_users: int, n_items: int) -> None:
        before, known = self._content, self._known_vectors
        try:
            self._content = None if before is None else before.grown(n_items)
            super()._grow(n_users, n_items)
        except BaseException:
            self._content = before
            raise
        if known is not None and n_items > len(known):
            nothing = self._encoded_content(ItemContent.nothing(list(self.encoders), 1))
            self._known_vectors = np.concatenate([known, np.repeat(nothing, n_items - len(known), axis=0)])

    # ---- memory, copies and files

    def estimate_memory(
        self, user_items: Any, *, item_content: Any = None, user_features: Any = None
    ) -> dict[str, int]:
        """Return the bytes that ``fit`` with these arguments needs at its peak besides them, by purpose and "total"."""
        return self._estimate(user_items, item_content=item_content, user_features=user_features)

    def _content_bytes(self, matrix: Csr) -> dict[str, int]:
        work, content = self._encoder_bytes(matrix)
        parts = {"content": content} if names_gpu(self.device) else {"encoders": work + content}
        return {**parts, "places": 8 * len(self.encoders) * matrix.n_cols}

    def _device_work(self, data: Csr) -> int:
        rows = min(data.n_cols, self.batch_size + self.n_negatives)
        fused = 48 * rows * len(self.encoders) * self.n_factors
        return super()._device_work(data) + sum(self._encoder_bytes(data)) + fused

    def _encoder_bytes(self, matrix: Csr) -> tuple[int, int]:
        """Return what encoding the items of a step takes, and the content that is encoded."""
        if self._content is None:
            return 0, 0
        most, work, content = min(matrix.n_cols, self.batch_size + self.n_negatives), 0, 0
        for name, part in self._make_parts(self._kinds).items():
            given = self._content.modalities[name]
            if isinstance(part, Encoder) and given is not None:
                rows, width = given.packed_size(most)
                work += 4 * rows * encoder_numbers(part.blocks.values(), names_gpu(self.device))
                content += 8 * rows * width
        return work + work // 4, content + content // 4

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if state.pop("_content", None) is not None and self.is_fitted:
            state["_known_vectors"] = self.item_factors_
        return state

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        from recsys_fast.models.multimodal_files import pack_encoders

        arrays, values = super()._pack()
        return {**arrays, "item_vectors": self.item_factors_}, {
            **values, "encoders": pack_encoders(self.encoders, self._kinds),
        }  # fmt: skip

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import read_table
        from recsys_fast.models.multimodal_files import read_encoders

        self.encoders, self._kinds = read_encoders(reader, values.pop("encoders", None))
        try:
            self._check_params()
            self._make_parts(self._kinds)
        except (ValueError, TypeError) as error:
            raise reader.fail(f"encoders do not fit the content ({error})") from None
        super()._unpack(reader, values)
        self._known_vectors = read_table(reader, "item_vectors", (self._matrix.n_cols, self.n_factors))
