"""The rounds: everybody starts afresh, then every measure goes round all contenders, in another order each time.

So a disturbance of the machine hits all alike, and a ratio of two contenders compares neighbours in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.bench.client import NotUp
from tests.bench.contenders import Absent, Contender, Recipe, running
from tests.bench.measure import Meter, Spoiled, Values
from tests.bench.results import Results

_BUSY = 0.8e6
"""CPU microseconds a second: a contender that would need more falls behind, and its latencies say nothing."""


@dataclass(frozen=True)
class Step:
    title: str
    measure: Callable[[Meter, Contender], Values]
    chunks_per_s: int = 0  # what it takes to keep up; 0 = the load waits for the contender
    direct: bool = True  # does it make sense without a proxy?


STEPS = (
    Step("memory", Meter.memory, direct=False),
    Step("requests", Meter.requests),
    Step("short streams", Meter.short_streams),
    Step("10 streams", lambda meter, contender: meter.streams(contender, 10)),
    Step("50 streams", lambda meter, contender: meter.streams(contender, 50), chunks_per_s=5000),
    Step("bursts", Meter.bursts, chunks_per_s=2000),
    Step("hang-ups", Meter.hang_ups),
)
"""Memory comes first: it is the growth of a fresh process."""


@dataclass(frozen=True)
class Rounds:
    meter: Meter
    engine: Contender
    recipes: Sequence[Recipe]
    with_direct: bool
    results: Results
    tell: Callable[[str], None]

    def run(self, number: int) -> None:
        """One round; what cannot take part, or spoils a measure, is noted and left out."""
        with ExitStack() as stack:
            contenders = [self.engine] if self.with_direct else []
            for recipe in self.recipes:
                try:
                    contender = stack.enter_context(running(recipe))
                except Absent as absent:
                    self.results.note(f"{recipe.name} left out: {absent}")
                    continue
                contenders.append(contender)
                self._started(contender)
            for turn, step in enumerate(STEPS, start=number):
                self.tell(f"round {number + 1}: {step.title}")
                for contender in _rotated(contenders, turn):
                    self._measure(step, contender)

    def _started(self, contender: Contender) -> None:
        if contender.start_cpu_s is not None:
            self.results.add(contender.name, {"start_cpu_s": contender.start_cpu_s})

    def _measure(self, step: Step, contender: Contender) -> None:
        if contender is self.engine and not step.direct:
            return
        cost_us = self.results.median(contender.name, "chunk_cpu_us_10") or 0.0
        if cost_us * step.chunks_per_s > _BUSY:
            self.results.note(f"{contender.name} would fall behind at {step.title}: left out")
            return
        try:
            self.results.add(contender.name, step.measure(self.meter, contender))
        except (Spoiled, NotUp, OSError) as spoiled:
            self.results.note(f"{step.title} of {contender.name} does not count: {spoiled}")


def _rotated(contenders: Sequence[Contender], turn: int) -> Sequence[Contender]:
    start = turn % len(contenders) if contenders else 0
    return [*contenders[start:], *contenders[:start]]
