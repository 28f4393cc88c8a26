"""A measured figure, the goal that it is held to, and the table of all of them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Goal:
    """The range in which a figure should lie; the whole line where nothing is asked of it."""

    low: float = -np.inf
    high: float = np.inf

    def __str__(self) -> str:
        """Return the goal as a person writes it."""
        if np.isfinite(self.low) and np.isfinite(self.high):
            return f"{(self.low + self.high) / 2:g} +- {(self.high - self.low) / 2:.2g}"
        if np.isfinite(self.high):
            return f"<= {self.high:g}"
        return f">= {self.low:g}" if np.isfinite(self.low) else ""

    def missed_by(self, value: float) -> float:
        """Return how far `value` is outside the goal; NaN is infinitely far, inside is below 0."""
        if not np.isfinite(value):
            return np.inf
        return float(max(self.low - value, value - self.high))


NO_GOAL = Goal()


def at_most(limit: float) -> Goal:
    """Return the goal of a figure that should be small."""
    return Goal(high=limit)


def at_least(limit: float) -> Goal:
    """Return the goal of a figure that should be large."""
    return Goal(low=limit)


def within(value: float, tolerance: float) -> Goal:
    """Return the goal of a figure that should be `value`."""
    return Goal(value - tolerance, value + tolerance)


@dataclass(frozen=True)
class Measured:
    """One figure of one night, or of one set of real frames."""

    step: str  # of the reduction
    figure: str  # what it is, with its unit
    source: str  # night or set of frames
    value: float  # NaN where it could not be measured; the note says why
    goal: Goal = NO_GOAL
    note: str = ""

    @property
    def verdict(self) -> str:
        """Say whether the goal is met: ok, short, or - where nothing is asked."""
        if self.goal == NO_GOAL:
            return "-"
        return "ok" if self.goal.missed_by(self.value) <= 0 else "short"


def worst_of(measured: Iterable[Measured]) -> list[Measured]:
    """Return for each figure the one that is furthest from its goal, in the order of first appearance."""
    worst: dict[tuple[str, str], Measured] = {}
    for each in measured:
        key = (each.step, each.figure)
        other = worst.get(key)
        if other is None or each.goal.missed_by(each.value) > other.goal.missed_by(other.value):
            worst[key] = each
    return list(worst.values())


def table(measured: Sequence[Measured]) -> str:
    """Return the figures as a markdown table: the worst of all nights, beside the goal."""
    rows = [(m.step, m.figure, shown(m.value), str(m.goal), m.verdict, m.source, m.note) for m in worst_of(measured)]
    return markdown(("step", "figure", "measured", "goal", "", "worst in", "note"), rows)


def by_source(measured: Sequence[Measured]) -> str:
    """Return the figures as a markdown table with one column a night; an asterisk marks what falls short."""
    sources = list(dict.fromkeys(m.source for m in measured))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for m in measured:
        short = " *" if m.verdict == "short" else ""
        cells.setdefault((m.step, m.figure), {})[m.source] = shown(m.value) + short
    rows = [(*key, *(values.get(source, "") for source in sources)) for key, values in cells.items()]
    return markdown(("step", "figure", *sources), rows)


def as_json(measured: Sequence[Measured]) -> str:
    """Return every figure of every night; what could not be measured is null."""
    records = []
    for m in measured:
        record = asdict(m) | {"verdict": m.verdict, "goal": str(m.goal)}
        record["value"] = m.value if np.isfinite(m.value) else None
        records.append(record)
    return json.dumps(records, indent=1) + "\n"


def shown(value: float) -> str:
    """Return a value with three figures that count."""
    if not np.isfinite(value):
        return "none"
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.3g}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table whose columns are aligned for reading as plain text."""
    widths = [max(len(row[k]) for row in (header, *rows)) for k in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
