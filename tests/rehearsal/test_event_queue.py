"""Calls that nobody waits for: when each is tried again, and when no more. No time passes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from rehearsal.event_queue import KEPT_S, MAX_PAUSE_S, EventQueue
from rehearsal.functions import FunctionFailed, Throttled

EVENT = {"detail": "something"}


@dataclass
class Bench:
    """A function that does what the test says, and all that is waited for and told."""

    outcomes: list[Exception | None]
    over: bool = False
    events: list[object] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def invoke(self, event: object) -> str:
        self.events.append(event)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome:
            raise outcome
        return "done"

    def wait(self, seconds: float) -> bool:
        if seconds:
            self.pauses.append(seconds)
        return self.over

    def send(self) -> None:
        """Returns when nothing is tried any more."""
        with EventQueue("f", self, wait=self.wait, tell=self.told.append) as queue:
            queue.send(EVENT)


def test_an_event_is_taken_once() -> None:
    bench = Bench([None])
    bench.send()
    assert (bench.events, bench.pauses, bench.told) == ([EVENT], [], ["f: done"])


def test_one_that_is_throttled_is_tried_again_after_ever_longer_pauses() -> None:
    bench = Bench([*(Throttled("10 go on") for _ in range(11)), None])
    bench.send()
    assert bench.pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, MAX_PAUSE_S, MAX_PAUSE_S]
    assert bench.events == [EVENT] * 12
    assert bench.told == [*(["f: 10 go on"] * 11), "f: done"]


def test_after_six_hours_of_it_the_event_is_lost() -> None:
    bench = Bench([Throttled("10 go on")])
    bench.send()
    assert KEPT_S <= sum(bench.pauses) < KEPT_S + MAX_PAUSE_S
    assert len(bench.events) == len(bench.pauses) + 1


def test_one_at_which_the_function_fails_is_tried_twice_more() -> None:
    bench = Bench([FunctionFailed("it raised")])
    bench.send()
    assert (bench.pauses, len(bench.events)) == ([60, 120], 3)


def test_each_kind_has_its_own_count() -> None:
    bench = Bench([Throttled("a"), FunctionFailed("b"), Throttled("c"), FunctionFailed("d"), None])
    bench.send()
    assert (bench.pauses, bench.told) == ([1, 60, 2, 120], ["f: a", "f: b", "f: c", "f: d", "f: done"])


@pytest.mark.parametrize("failure", [Throttled("10 go on"), FunctionFailed("it was killed")])
def test_when_all_is_over_nothing_is_tried_told_or_sent_any_more(failure: Exception) -> None:
    bench = Bench([failure])
    with EventQueue("f", bench, wait=bench.wait, tell=bench.told.append) as queue:
        invoke = bench.invoke

        def last(event: object) -> str:
            bench.over = True
            return invoke(event)

        bench.invoke = last  # type: ignore[method-assign]
        queue.send(EVENT)
    with EventQueue("f", bench, wait=bench.wait, tell=bench.told.append) as queue:
        queue.send(EVENT)
    assert (bench.events, bench.told) == ([EVENT], [])
