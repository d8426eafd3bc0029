"""What a file holds of a network, and the checks on the way back: sizes first, then memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from recsys_fast.blocks.base import Block
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.models.files import read_table, take_seed
from recsys_fast.models.network_memory import count_parameters

if TYPE_CHECKING:
    from recsys_fast.models.network_model import NetworkModel
    from recsys_fast.models.network_state import NetworkState

_MAX_STEPS = 2**32


def pack(model: NetworkState[Any]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the network's arrays by the names of a file, and the plain values."""
    model._check_unchanged(onwards=True, as_trained=True)  # the file's parameters have to be those of its arrays
    arrays, steps = model._held()
    return {f"network.{name}": array for name, array in arrays.items()}, {"seed": model.seed_, "steps": steps}


def unpack(model: NetworkModel, reader: Any, values: dict[str, Any]) -> None:
    """Take over what ``pack`` returned; the matrix, and whatever else ``_parts`` looks at, is there already.

    Raises:
        ModelFormatError: arrays of other shapes than the parameters ask for, values that are not finite.
    """
    read_network(model, reader, values, *model._parts(*model._matrix.shape))


def read_network(
    model: NetworkState[Any], reader: Any, values: dict[str, Any], tables: Sequence[ItemTable], blocks: dict[str, Block]
) -> None:
    """Take over what ``pack`` returned, for a network of these tables and blocks, which are not connected.

    Raises:
        ModelFormatError: as ``unpack``.
    """
    model.seed_ = take_seed(reader, values)
    steps = values.pop("steps", None)
    if type(steps) is not int or not 0 <= steps < _MAX_STEPS:
        raise reader.fail("steps", repr(steps)[:80], "a count below 2**32")
    shapes: dict[str, tuple[int, ...]] = {"parameters": (count_parameters(blocks),)}
    frozen: set[str] = set()
    for table in tables:
        own: dict[str, tuple[int, ...]] = {table.name: (table.n_rows, table.d)}
        if table.has_bias:
            own[f"{table.name}.bias"] = (table.n_rows,)
        shapes |= own
        if table.frozen:
            frozen |= own.keys()
    if steps:
        moved = {name: shape for name, shape in shapes.items() if 0 not in shape and name not in frozen}
        shapes |= {f"optimizer.{name}.{m}": shape for name, shape in moved.items() for m in model._moments()}
    arrays = {name: read_table(reader, f"network.{name}", shape) for name, shape in shapes.items()}
    model._stored = arrays, steps
    model._keep_structure()
