"""What is known of items besides their ids: features, images, texts, and which items have which of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.field_table import FeatureRows
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.content_inputs import ContentKind, Taken
from recsys_fast.models.two_tower_training import averaged
from recsys_fast.ops import Csr

I64 = NDArray[np.int64]

#: in the place of an encoder: sparse features, which have embeddings
FEATURES = "features"


class ModalityInput(Protocol):
    """Checked rows of one modality; what ``content_inputs.ContentInput`` is, and ``FeatureInput``."""

    kind: ContentKind

    def __len__(self) -> int:
        """Return the number of rows."""

    def take(self, rows: I64 | slice) -> Any:
        """Return the rows of these numbers, in that order; the next call may overwrite them."""


class FeatureInput:
    """Sparse features.

    Args:
        matrix: ``(n, n_features)``, checked.
        mean: whether embeddings are averaged, not summed up.
    """

    def __init__(self, matrix: Csr, mean: bool) -> None:
        self.kind, self._matrix = ContentKind((matrix.n_cols,)), averaged(matrix) if mean else matrix

    def __len__(self) -> int:
        return self._matrix.n_rows

    def take(self, rows: I64 | slice) -> FeatureRows:
        """Return the features of these rows."""
        ids = np.arange(rows.start or 0, rows.stop) if isinstance(rows, slice) else rows
        found = inputs.take_rows(self._matrix, ids)
        return FeatureRows(found.row_ptr, found.col_idx, found.or_empty())


class JoinedInput:
    """Inputs of one kind, one behind the other, none of them copied. Rows are taken in ascending order only."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts, self.kind = tuple(parts), parts[0].kind
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def take(self, rows: I64 | slice) -> Any:
        """Return the rows, those of a later part behind those of an earlier one."""
        ids = np.arange(rows.start or 0, rows.stop) if isinstance(rows, slice) else rows
        cuts = np.searchsorted(ids, np.concatenate([[0], self._ends]))
        starts = np.concatenate([[0], self._ends[:-1]])
        found = [
            part.take(ids[first:last] - start)
            for part, start, first, last in zip(self.parts, starts, cuts[:-1], cuts[1:], strict=True)
        ]
        whole = [np.concatenate(columns) for columns in zip(*[one[1:] for one in found], strict=True)]
        if not isinstance(found[0], Taken):
            return FeatureRows(_joined([one.row_ptr for one in found]), *whole)
        items = np.concatenate([one.items for one in found])
        images = len(self.kind.shape) == 3
        return Taken(items, np.array([0, len(items)]) if images else _joined([one.row_ptr for one in found]))

    def augment(self, taken: Taken, how: Any, seed: int, epoch: int, batch: int) -> Taken:
        """Return what ``take`` gave, changed at random; see ``ContentInput``."""
        changed: Taken = self.parts[0].augment(taken, how, seed, epoch, batch)
        return changed

    def packed_size(self, n: int) -> tuple[int, int]:
        """Return no less than the n longest rows of content have, and how wide they are; see ``ContentInput``."""
        sizes = [part.packed_size(n) for part in self.parts]
        return sum(rows for rows, _ in sizes), sizes[0][1]


def _joined(pointers: Sequence[I64]) -> I64:
    lengths = np.concatenate([np.diff(one) for one in pointers])
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


class ItemContent(NamedTuple):
    """The content of n items.

    Attributes:
        modalities: what there is of each, by name; None where no item has it.
        places: ``(n_modalities, n) int64`` rows of the items in it, -1 where an item has none.
    """

    modalities: dict[str, Any]
    places: I64

    @property
    def n(self) -> int:
        """Number of items."""
        return int(self.places.shape[1])

    @classmethod
    def nothing(cls, names: Sequence[str], n: int) -> ItemContent:
        """Return items that have none of the modalities."""
        return cls(dict.fromkeys(names), np.full((len(names), n), -1, np.int64))

    def present(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Return which modalities items have, ``(len(ids), n_modalities)``."""
        return self.places[:, ids].T >= 0

    def joined(self, more: ItemContent) -> ItemContent:
        """Return these items and others behind them, of the same kinds."""
        modalities, places = {}, more.places.copy()
        for k, (name, old) in enumerate(self.modalities.items()):
            new = more.modalities[name]
            parts = [*getattr(old, "parts", [old]), *getattr(new, "parts", [new])]
            some = [part for part in parts if part is not None]
            modalities[name] = JoinedInput(some) if len(some) > 1 else some[0] if some else None
            places[k, places[k] >= 0] += 0 if old is None else len(old)
        return ItemContent(modalities, np.concatenate([self.places, places], axis=1))

    def grown(self, n: int) -> ItemContent:
        """Return n items, the new ones with nothing."""
        return self if n <= self.n else self.joined(ItemContent.nothing(list(self.modalities), n - self.n))


def read_content(
    encoders: Mapping[str, Any],
    given: Any,
    mean: bool,
    n: int | None = None,
    kinds: Mapping[str, ContentKind] | None = None,
) -> ItemContent:
    """Return what the caller says of items, checked.

    Args:
        encoders: by modality, ``FEATURES`` or an unfitted model of content.
        given: by modality, ``X`` or ``(X, mask)``.
        mean: of features, see ``FeatureInput``.
        n: number of items; None for what is given.
        kinds: what content must be of; None at the start of a training, which wants every modality.

    Raises:
        TypeError: no mapping, or content of a wrong type.
        ValueError: content of other items, or of another kind, a name that is not among the encoders, a modality that
            no item has.
    """
    names = ", ".join(map(repr, encoders))
    if not isinstance(given, Mapping):
        mend = 'pass item_content={"image": X, ...}'
        raise TypeError(message("item_content", type(given).__name__, f"a dict with {names}", mend))
    unknown = [name for name in given if name not in encoders]
    if unknown:
        raise ValueError(message("item_content", repr(unknown[0]), f"among {names}, as encoders says"))
    wanted = [name for name in encoders if given.get(name) is None]
    if len(wanted) == len(encoders) or (kinds is None and wanted):
        mend = "pass it, or leave it out of encoders"
        raise ValueError(message(f"item_content[{wanted[0]!r}]", "nothing", "content of the items", mend))
    modalities: dict[str, Any] = dict.fromkeys(encoders)
    places: dict[str, I64] = {}
    for name, encoder in encoders.items():
        if name not in wanted:
            kind = None if kinds is None else kinds[name]
            modalities[name], places[name] = _modality(name, encoder, given[name], mean, n, kind)
            n = len(places[name])
    every = np.full((len(encoders), n or 0), -1, np.int64)
    for k, name in enumerate(encoders):
        every[k] = places.get(name, -1)
        if kinds is None and n and (every[k] < 0).all():
            mend = "leave it out of encoders"
            raise ValueError(message(f"item_content[{name!r}] is missing for every item", mend=mend))
    return ItemContent(modalities, every)


def _modality(
    name: str, encoder: Any, value: Any, mean: bool, n: int | None, kind: ContentKind | None
) -> tuple[ModalityInput, I64]:
    """Return checked content, and the row of each item in it."""
    what = f"item_content[{name!r}]"
    x, mask = value if type(value) is tuple and len(value) == 2 else (value, None)
    content: ModalityInput
    if isinstance(encoder, str):
        content = FeatureInput(inputs.check_matrix(x, what, None, None if kind is None else kind.shape[0]), mean)
    else:
        content = encoder._content(x, what, kind)
    m = len(content)
    if mask is None:
        n = m if n is None else n
        if m != n:
            raise ValueError(message(f"rows of {what}", m, f"{n}, one per item", "pass (X, mask) where some have none"))
        place = np.arange(n)
    else:
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.ndim != 1:
            got = f"{mask.ndim}-D {mask.dtype}"
            raise TypeError(message(f"mask of {what}", got, "1-D bool, True for items that have it"))
        n = len(mask) if n is None else n
        if len(mask) != n:
            raise ValueError(message(f"length of the mask of {what}", len(mask), f"{n}, one per item"))
        there = int(mask.sum())
        if m not in (n, there):
            expected = f"{n}, one per item, or {there}, one per True of the mask"
            raise ValueError(message(f"rows of {what}", m, expected))
        place = np.where(mask, np.arange(n) if m == n else np.cumsum(mask) - 1, -1)
    if len(content.kind.shape) == 1 and m:  # no word, or no feature, is nothing
        empty = np.diff(content.take(slice(0, m)).row_ptr) == 0
        place[(place >= 0) & empty[place]] = -1
    return content, place
