"""What a file holds of a sequence model, and the checks on the way back: sizes first, then memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recsys_fast.data import Sequences
from recsys_fast.models import inputs
from recsys_fast.models.files import read_table, take_seed
from recsys_fast.models.sequence_memory import count_parameters

if TYPE_CHECKING:
    from recsys_fast.models.sequence_training import SequenceTrainable

_MAX_STEPS = 2**32


def unpack(model: SequenceTrainable, reader: Any, values: dict[str, Any]) -> None:
    """Take over what ``SequenceTrainable._pack`` returned; the matrix is there already.

    Raises:
        ModelFormatError: sequences that are not valid or not those of the matrix, arrays of other shapes than the
            parameters ask for, values that are not finite.
    """
    model.seed_ = take_seed(reader, values)
    steps = values.pop("steps", None)
    if type(steps) is not int or not 0 <= steps < _MAX_STEPS:
        raise reader.fail("steps", repr(steps)[:80], "a count below 2**32")
    model._sequences = _sequences(model, reader)
    tables, blocks = model._parts(*model._matrix.shape)
    shapes: dict[str, tuple[int, ...]] = {"parameters": (count_parameters(blocks),)}
    for table in tables:
        shapes[table.name] = table.n_rows, table.d
        if table.has_bias:
            shapes[f"{table.name}.bias"] = (table.n_rows,)
    if steps:
        moments = model._moments()
        shapes |= {f"optimizer.{name}.{m}": shape for name, shape in shapes.items() if 0 not in shape for m in moments}
    arrays = {name: read_table(reader, f"network.{name}", shape) for name, shape in shapes.items()}
    model._stored = arrays, steps
    model._keep_structure()


def _sequences(model: SequenceTrainable, reader: Any) -> Sequences:
    n_users, n_items = model._matrix.shape
    row_ptr = reader.read("sequences.row_ptr", "I64", (n_users + 1,))
    items = reader.read("sequences.items", "I32", (reader.length("sequences.items"),))
    try:
        found = Sequences.from_arrays(row_ptr, items, n_items=n_items)
    except (ValueError, TypeError) as error:
        raise reader.fail(f"sequences are not valid ({error})") from None
    if not inputs.same_entries(found.seen, model._matrix):
        raise reader.fail("sequences are not those of the training matrix")
    return found
