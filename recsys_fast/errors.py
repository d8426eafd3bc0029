"""Exceptions of the package, and the one shape in which a message is written."""


class NotFittedError(ValueError, AttributeError):
    """A model was used before ``fit`` (or ``load``)."""


class NotSupportedError(RuntimeError):
    """The model or backend does not offer what was asked for."""


class DivergedError(RuntimeError):
    """Training produced values that are not finite; the last finite epoch is kept."""


class DeviceError(RuntimeError):
    """The device that was asked for is not there, or failed."""


class DeviceMemoryError(DeviceError, MemoryError):
    """The device has no room for what was asked."""


# What helps where a device has no room.
MAKE_ROOM = (
    "free arrays on the device, train with smaller batches or fewer factors, set RECSYS_FAST_DEVICE_MEMORY to the "
    "bytes that arrays may take so that rows go there in blocks, or use device='cpu'"
)


class ModelFormatError(ValueError):
    """A model file is damaged, truncated, too new, or not a model file."""


def message(what: str, got: object = None, expected: str | None = None, mend: str | None = None) -> str:
    """Return "what: got G, expected E. Mend." so that the same failure always reads the same."""
    text = what
    if got is not None:
        text += f": got {got}"
    if expected is not None:
        text += f", expected {expected}" if got is not None else f": expected {expected}"
    if mend:
        text += f". {mend[0].upper()}{mend[1:]}"
    return text
