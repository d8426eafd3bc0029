"""The training sequences in the file of a sequence model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from recsys_fast.data import Sequences
from recsys_fast.models import inputs

if TYPE_CHECKING:
    from recsys_fast.models.sequence_training import SequenceTrainable


def pack_sequences(sequences: Sequences) -> dict[str, NDArray[Any]]:
    """Return the arrays of training sequences by the names of a file."""
    return {"sequences.row_ptr": sequences.row_ptr, "sequences.items": sequences.items}


def unpack_sequences(model: SequenceTrainable, reader: Any) -> Sequences:
    """Return what ``pack_sequences`` wrote; the model's matrix is there already.

    Raises:
        ModelFormatError: sequences that are not valid or not those of the matrix.
    """
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
