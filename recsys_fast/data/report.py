"""What reading and cleaning dropped or changed, counted step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Step(NamedTuple):
    """One step of reading or cleaning.

    Attributes:
        name: short name such as ``"duplicates"`` or ``"k_core"``.
        entries: interactions dropped (merged away, for duplicates).
        users: users dropped.
        items: items dropped.
        note: what the step did, in words; also says how many values were changed without being dropped.
    """

    name: str
    entries: int = 0
    users: int = 0
    items: int = 0
    note: str = ""


class CleaningReport:
    """The steps that made an ``Interactions``, oldest first; ``print(data.report)`` shows them as a table.

    ``report["duplicates"]`` is the number of interactions that all steps of that name dropped; 0 when none ran.
    """

    __slots__ = ("steps",)

    def __init__(self, steps: tuple[Step, ...] = ()) -> None:
        self.steps = tuple(steps)

    def plus(self, *steps: Step) -> CleaningReport:
        """Return a report with ``steps`` appended; this one stays as it is."""
        return CleaningReport(self.steps + steps)

    @property
    def dropped(self) -> int:
        """Interactions dropped by all steps together."""
        return sum(step.entries for step in self.steps)

    def to_dict(self) -> dict[str, int]:
        """Return ``{step name: interactions dropped}``, steps of the same name added up."""
        counts: dict[str, int] = {}
        for step in self.steps:
            counts[step.name] = counts.get(step.name, 0) + step.entries
        return counts

    def __getitem__(self, name: str) -> int:
        return self.to_dict().get(name, 0)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CleaningReport) and self.steps == other.steps

    def __hash__(self) -> int:
        return hash(self.steps)

    def __str__(self) -> str:
        if not self.steps:
            return "nothing dropped"
        width = max(len(step.name) for step in self.steps)
        lines = [f"{'step':<{width}}  {'interactions':>13} {'users':>10} {'items':>10}  note"]
        for step in self.steps:
            counts = f"{-step.entries:>13,} {-step.users:>10,} {-step.items:>10,}"
            lines.append(f"{step.name:<{width}}  {counts}  {step.note}".rstrip())
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"CleaningReport(steps={len(self.steps)}, dropped={self.dropped})"
