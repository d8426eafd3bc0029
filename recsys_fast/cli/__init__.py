"""The command line: ``recsys-fast quickstart | fit | evaluate | recommend | datasets | config``.

Results go to standard output, everything else to standard error. A user's error is one line and exit code 2 (with
``--debug`` a traceback), Ctrl-C is exit code 130.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None for those of the process.

    Returns:
        0, 2 for a user's error, 130 for Ctrl-C.
    """
    from recsys_fast.cli.arguments import make_parser

    args = make_parser().parse_args(argv)
    try:
        _command(args)
        sys.stdout.flush()
    except (KeyboardInterrupt, SystemError) as error:
        if args.debug or not _is_interruption(error):
            raise
        print("recsys-fast: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except _user_errors() as error:
        if args.debug:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"recsys-fast {args.command}: error: {text}", file=sys.stderr)
        return 2
    return 0


def _command(args: argparse.Namespace) -> None:
    """Run what the arguments name; only now is anything heavy imported."""
    if args.command == "quickstart":
        from recsys_fast.cli.quickstart import quickstart

        quickstart(args)
        return
    from recsys_fast.cli import commands

    run: Callable[[argparse.Namespace], None] = getattr(commands, args.command)
    run(args)


def _is_interruption(error: BaseException | None) -> bool:
    """Return whether Ctrl-C is behind an error: while numba loads a compiled function it arrives as a SystemError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _user_errors() -> tuple[type[Exception], ...]:
    """Return what a wrong argument, file or installation raises; anything else is a defect and keeps its traceback."""
    from recsys_fast.errors import DeviceError, DivergedError, NotSupportedError

    own = (DeviceError, DivergedError, NotSupportedError)
    return (ValueError, TypeError, IndexError, OSError, ImportError, MemoryError, *own)
