"""Answers without a reason that nothing of ours could have helped, by what the schedule broke."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.simulation.call import Answer, Call
from tests.simulation.schedule import Interrupt, KillAgent, KillMachine, Outage, Trouble
from tests.simulation.settings import SETTINGS

CRASH_S = 30.0  # from a crash until the janitor turned the listener; and, beyond the start, until another task answers
GAP_S = 12.0  # from SIGTERM of the only task, by hand, until somebody else answers
LOOK_S = 3.0  # that a task's look at the front takes
STRUCK_S = 13.0  # the same, where it is struck
PIECE = b'"content":"x"'
_COMMENT = b"\n: "  # to those who wait


class Excuses:
    """``hold`` for an answer, or do not."""

    def __init__(self, world: Any, watch: Any) -> None:
        self._world = world
        self._watch = watch

    def hold(self, answer: Answer, call: Call) -> bool:
        """What nothing of ours could have helped: it is gone who served, or nobody knows yet that they are."""
        if answer.by == "edge":
            schedule = self._world.schedule
            crashed = any(self._now < at + self._turned_away_s for at in self._watch.crashes)
            gap_s = GAP_S + schedule.propagation_s + (SETTINGS.tick_s if schedule.deregisters else 0.0)
            return crashed or any(self._now < self._seeing(at) + gap_s for at in self._watch.stops)
        if b"engine_lost" in answer.body:
            killed = any(isinstance(event, KillMachine | KillAgent) for event in self._world.schedule.all)
            return killed or bool(self._watch.overdue)
        if call.server is not None and not call.server.alive:
            return not call.server.killed and not call.overdue
        if call.let_go_at is None:
            return False
        if call.torn:  # nobody could tell the task that its target is out
            return self._blind_s(call.let_go_at) > SETTINGS.deregistration_delay_s / 2
        if answer.body.rfind(PIECE) > answer.body.rfind(_COMMENT) and not self._taken_back:
            # It streams: it has its time.
            return self._now >= call.let_go_at + self._parting_s(call.let_go_at)
        return True

    @property
    def _turned_away_s(self) -> float:
        """From a crash until the listener turned, or another task is up."""
        schedule, wakes = self._world.schedule, self._watch.wakes
        by_janitor_s = CRASH_S + schedule.propagation_s + wakes.slack_s
        return float(by_janitor_s if wakes.failing else min(by_janitor_s, schedule.task_start_s + CRASH_S))

    def _parting_s(self, at: float) -> float:
        """What a stream has from when its task has to go."""
        if not self._world.schedule.deregisters:
            return SETTINGS.stop_timeout_s
        told_s = SETTINGS.tick_s + LOOK_S + self._blind_s(at)  # it counts from the last look that found it in its place
        return SETTINGS.deregistration_delay_s - SETTINGS.farewell_s - told_s

    def _blind_s(self, at: float) -> float:
        """How long a task could not look at its target, around that time."""
        outages: Sequence[Outage] = [each for each in self._world.reach.outages if each.what != "cloud"]
        near_s = SETTINGS.deregistration_delay_s
        seconds = sum(each.seconds for each in outages if at - near_s - each.seconds < each.at < at + near_s)
        troubles = [event for event in self._world.schedule.all if isinstance(event, Trouble)]
        return seconds + STRUCK_S * sum(event.method.startswith(("front.", "stage.")) for event in troubles)

    def _seeing(self, at: float) -> float:
        """From then on whoever looks can turn the listener: neither tables nor listener are out."""
        outages: Sequence[Outage] = [each for each in self._world.reach.outages if each.what != "cloud"]
        ends = [each.at + each.seconds for each in outages if each.at <= at + GAP_S and at < each.at + each.seconds]
        return max([at, *ends])

    @property
    def _taken_back(self) -> bool:
        """Does AWS take nodes back? What goes on elsewhere then waits for its turn there."""
        return any(isinstance(event, Interrupt) for event in self._world.schedule.all)

    @property
    def _now(self) -> float:
        return float(self._world.timeline.now)
