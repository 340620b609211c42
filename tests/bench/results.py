"""The figures of a run: every value of every measure of every contender; medians of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.bench.measure import Values

ORDER = ("direct", "nginx", "diogenes", "litellm")


@dataclass
class Results:
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what is missing, and why

    def add(self, contender: str, values: Values) -> None:
        measures = self.values.setdefault(contender, {})
        for name, value in values.items():
            measures.setdefault(name, []).append(value)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def median(self, contender: str, measure: str) -> float | None:
        """None where it was not measured."""
        found = self.values.get(contender, {}).get(measure)
        return statistics.median(found) if found else None

    def worst(self, contender: str, measure: str) -> float | None:
        return max(self.values.get(contender, {}).get(measure, []), default=None)

    def p95(self, contender: str, measure: str) -> float | None:
        found = sorted(self.values.get(contender, {}).get(measure, []))
        return found[math.ceil(0.95 * len(found)) - 1] if found else None

    def ratio(self, contender: str, other: str, measure: str) -> float | None:
        """Of the medians of one measure, taken in the same run."""
        ours, theirs = self.median(contender, measure), self.median(other, measure)
        return ours / theirs if ours is not None and theirs else None

    @property
    def contenders(self) -> list[str]:
        """Those that were measured, from the simplest to the one with most to do."""
        return [name for name in ORDER if name in self.values]

    def as_document(self) -> Mapping[str, object]:
        return {"values": self.values, "notes": self.notes}
