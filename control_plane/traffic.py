"""What requests and starts came to, counted since the process began, and for the minute that goes on.

Counted here by plain sums: the relay pays for it at every request. Who asks for them puts them into a form
(``exposition``, ``metrics``). Labels come from the line-up, the routes and the phases: there are never many.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from control_plane.boots import Boot
from control_plane.metrics import MAX_VALUES, Metric, Value
from control_plane.passage import HUNG_UP, Passage

FIRST_TOKEN_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0)
OVERHEAD_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
START_S = (1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1200.0)

_OUTCOMES = {HUNG_UP: "hung-up"}


class Histogram:
    """How many values fell where."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last: above all bounds
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass
class _Minute:
    requests: int = 0
    failed: int = 0
    first_token: list[float] = field(default_factory=list)
    overhead: list[float] = field(default_factory=list)


class Traffic:
    """Counts what is over."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()  # by model, route and outcome
        self.overhead = Histogram(OVERHEAD_S)
        self.first_token: dict[tuple[str, bool], Histogram] = defaultdict(partial(Histogram, FIRST_TOKEN_S))  # cold?
        self.starts: dict[str, Histogram] = defaultdict(partial(Histogram, START_S))  # by model
        self.phases: dict[tuple[str, str], Histogram] = defaultdict(partial(Histogram, START_S))  # by model and phase
        self._minute = _Minute()

    def passed(self, passage: Passage) -> None:
        """A request is over."""
        minute, status = self._minute, passage.status
        self.requests[passage.model, passage.route, outcome(status)] += 1
        minute.requests += 1
        if status >= 500:
            minute.failed += 1
        if (overhead_s := passage.overhead_s) is not None:
            self.overhead.observe(overhead_s)
            _keep(minute.overhead, overhead_s)
        if (first_token_s := passage.first_token_s) is not None:
            self.first_token[passage.model, passage.cold].observe(first_token_s)
            _keep(minute.first_token, first_token_s)

    def started(self, model: str, boot: Boot) -> None:
        """A node got ready."""
        self.starts[model].observe(boot.seconds)
        for phase, seconds in boot.phases.items():
            self.phases[model, phase].observe(seconds)

    def take_minute(self) -> Mapping[Metric, Value]:
        """What came since the last call; nothing where nothing came."""
        minute, self._minute = self._minute, _Minute()
        values: dict[Metric, Value] = {}
        if minute.requests:
            values = {Metric.REQUESTS: minute.requests, Metric.FAILED_REQUESTS: minute.failed}
        if minute.overhead:
            values[Metric.OVERHEAD] = minute.overhead
        if minute.first_token:
            values[Metric.FIRST_TOKEN] = minute.first_token
        return values


def outcome(status: int) -> str:
    """A status' class, or that the client hung up."""
    return _OUTCOMES.get(status) or f"{status // 100}xx"


def _keep(values: list[float], value: float) -> None:
    if len(values) < MAX_VALUES:
        values.append(value)
