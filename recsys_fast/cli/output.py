"""Results as tables, CSV and JSON."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table of text, numbers on the right."""
    body = [[_cell(value) for value in row] for row in rows]
    numbers = [all(_is_number(text) for text in column if text) for column in zip(*body, strict=True)] if body else []
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]

    def line(cells: Sequence[str], right: Sequence[bool]) -> str:
        padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
        return "  ".join(padded).rstrip()

    right = numbers or [False] * len(header)
    return "\n".join([line(header, right), *(line(row, right) for row in body)])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def write_json(value: Any) -> None:
    """Write a value to standard output as JSON; numbers that JSON does not know become null."""
    print(json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and value - value != 0.0:
        return None
    return value


def write_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows to standard output as CSV with a header."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
