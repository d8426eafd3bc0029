"""Transfer learning: a table that starts from vectors which somebody else trained, and layers that stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from recsys_fast.blocks.base import Block
from recsys_fast.blocks.embedding import ItemTable, check_init
from recsys_fast.data import Sequences
from recsys_fast.data.vectors import start_values
from recsys_fast.errors import message
from recsys_fast.models.network_model import NetworkModel
from recsys_fast.models.network_structure import Structured
from recsys_fast.training.network import Network


class Transferable(NetworkModel):
    """A model of sequences with the parameters ``init`` and ``frozen``.

    Its ``_parts`` returns what ``_marked`` makes of tables and blocks, and its ``_check_params`` ends with
    ``_check_frozen``. What is frozen may change between ``fit`` and ``partial_fit``.
    """

    _unsaved: ClassVar[tuple[str, ...]] = ("init",)
    _training_only: ClassVar[frozenset[str]] = Structured._training_only | {"frozen", "init"}
    #: name of the table that ``init`` fills
    _init_table: ClassVar[str] = "items"

    d: int
    init: Any
    frozen: bool | str | Sequence[str]

    def _check_frozen(self) -> None:
        """Raise TypeError or ValueError where ``frozen`` names no layers; other parameters are known to be good."""
        given = self.frozen
        several = isinstance(given, list | tuple) and all(isinstance(name, str) for name in given)
        if not (several or isinstance(given, bool | str)):
            raise TypeError(message("frozen", repr(given)[:80], "True, False, or names of layers"))
        self._parts(1, 1)  # which knows the names

    def _frozen_layers(self) -> tuple[str, ...]:
        if isinstance(self.frozen, bool):
            return (self._init_table,) if self.frozen else ()
        return tuple(sorted({self.frozen} if isinstance(self.frozen, str) else set(self.frozen)))

    def _marked(self, tables: list[ItemTable], blocks: dict[str, Block]) -> tuple[list[ItemTable], dict[str, Block]]:
        """Return the parts, those marked that are frozen; an embedding's own parameters are its positions."""
        layers: dict[str, ItemTable | Block] = {table.name: table for table in tables}
        for name, block in blocks.items():
            if block.parameters():
                layers["positions" if name == "embedding" else name] = block
        for name in self._frozen_layers():
            if name not in layers:
                raise ValueError(message("frozen", repr(name), "True, False, or some of " + ", ".join(layers)))
            layers[name].frozen = True
        return tables, blocks

    def _first_vectors(self, data: Sequences) -> NDArray[Any] | None:
        """Return what ``init`` says of the items of training data, ``(n_items, d)``.

        Raises:
            ValueError: vectors of another number or length, or not finite; no item has one.
        """
        if self.init is None:
            return None
        names = range(data.n_items) if data.item_ids is None else data.item_ids
        values = start_values(self.init, names, self.d, "d")
        check_init(values, data.n_items, self.d)
        return values

    def _start_tables(self, network: Network) -> None:
        values = self._first_vectors(self._training_data())
        if values is not None:
            table = next(table for table in network.tables if table.name == self._init_table)
            network.runtime.fill(table.values[: len(values)], values)  # a row behind those of the items stays drawn
