"""What must hold of wakes that do not succeed: they are given up, told of, and buy nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from control_plane.front import ENDINGS, ENDINGS_EVERY_S, REST_S, WAKE_LIMIT_S
from control_plane.ports import FrontState, Instance, Launch
from tests.simulation.settings import JANITOR_S
from tests.simulation.timeline import EPOCH, Process

LOOKED_S = 2 * JANITOR_S  # until somebody looks, also where nobody waits and one round goes wrong
ENOUGH_S = ENDINGS_EVERY_S + 50.0  # until it is given up after so many endings, where somebody waits
TOLD_S = REST_S + 30.0  # after the last start that failed
UNDER_WAY_S = 20.0  # that a launch may take which was begun before its wake was given up
EACH_S = 60.0  # for each disruption


class Wakes:
    """One of the invariants of ``watch``. Costs nothing where every start succeeds."""

    def __init__(self, world: Any, say: Callable[[str, str], None]) -> None:
        self._world = world
        self._say = say
        self._failing_since = math.inf  # no wake has succeeded since one was given up
        self._woken_at = 0.0
        self._hopeless_at = 0.0  # when the last one began that was given up
        self.given_up = False  # any: for a while the janitor was alone with the nodes

    def moved(self) -> None:
        """The front was."""
        front = self._world.front.front
        if front.state is FrontState.WAKING:
            self._woken_at = self._now
        if front.failure is None:
            self._failing_since = math.inf
            return
        self._failing_since = min(self._failing_since, self._now)
        if front.state is FrontState.ASLEEP:
            self.given_up = True
            self._hopeless_at = self._woken_at

    def launched(self, process: Process, launch: Launch, instance: Instance) -> None:
        """A wake that follows a failed one launches nothing before there is a task, which does it then. An order that
        is only repeated is none."""
        machine = self._world.machines.get(instance.id)
        if machine is None or machine.launched_at < self._now:
            return
        if process.kind != "task" and self._now > self._failing_since + UNDER_WAY_S:
            self._say(
                "wake", f"{launch.model} launched, {self._now - self._failing_since:.0f} s after a wake was given up"
            )

    def round(self) -> None:
        """Is one given up in time?"""
        front = self._world.front.front
        if front.state is not FrontState.WAKING or self._world.broken:
            return
        woken_at = front.since - EPOCH
        if self._now > woken_at + WAKE_LIMIT_S + LOOKED_S + self.slack_s:
            self._say("wake", f"under way for {self._now - woken_at:.0f} s")
        starts = self._world.service.starts
        if not math.isfinite(starts.failed_at):
            return
        failed = starts.failures(woken_at)[(0 if front.failure else ENDINGS - 1) :]
        if failed and self._now > failed[0] + ENOUGH_S + self.slack_s and self._waited_since(failed[0]):
            self._say("wake", f"goes on {self._now - failed[0]:.0f} s after enough of its tasks ended")

    def excuses(self) -> bool:
        """May somebody be told now that the control plane does not start? Not where what was mended is not taken."""
        starts = self._world.service.starts
        if self._now <= max(self._world.watch.crashes, default=-math.inf) + TOLD_S + self.slack_s:
            return True
        return self.failing and not (starts.outdated and self._hopeless_at > starts.good_at)

    @property
    def failing(self) -> bool:
        """Does a start, or did one a moment ago?"""
        service = self._world.service
        doomed = any(task.fate and not task.ended for task in service.tasks)
        return doomed or self._now <= service.starts.failed_at + TOLD_S + self.slack_s

    def _waited_since(self, at: float) -> bool:
        return any(client.ending is None and client.began_at < at for client in self._world.people.clients)

    @property
    def slack_s(self) -> float:
        schedule = self._world.schedule
        return float(schedule.outages_s + EACH_S * (schedule.disruptions - 1))

    @property
    def _now(self) -> float:
        return float(self._world.timeline.now)
