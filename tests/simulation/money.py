"""What has been spent, by the cloud's own times, and that nobody spends more than they may."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from control_plane.ports import Launch
from control_plane.rates import MICRO, Sizes, node_rate
from tests.simulation.schedule import CrashTask, Outage, Retire, Trouble
from tests.simulation.settings import IDLE_S
from tests.simulation.timeline import EPOCH

RATE = node_rate("g6.xlarge", Sizes())
SLACK_USD = 0.002  # a reading of what was spent is some seconds old


class Money:
    """One of the invariants of ``watch``: all that is spent is on one account, for only one person asks."""

    def __init__(self, world: Any, say: Callable[[str, str], None], torn: Callable[[], bool]) -> None:
        """``say`` tells of a breach; while all are ``torn`` between two who act, nothing is sure."""
        self._world = world
        self._say = say
        self._torn = torn
        self._capped_at = math.inf  # when whoever asks was beyond their hard cap for certain

    @property
    def tight(self) -> bool:
        """May it come to an end?"""
        return bool(self._world.schedule.limited)

    @property
    def _budget_usd(self) -> float:
        schedule = self._world.schedule
        return float(schedule.cap.usd if schedule.cap else schedule.budget_usd)

    def launched(self, launch: Launch) -> None:
        """All that ran, what runs until it has idled out, and this one: at least so much is certain."""
        world = self._world
        if not self.tight or self._unsure:
            return
        ahead_s = sum(self._least_s(m.launch.model, self._now - m.launched_at) for m in world.machines.values())
        spent = self._spent_usd(ahead_s)
        if spent > self._budget_usd + SLACK_USD:
            self._say("money", f"{launch.model} launched, with {spent:.4f} $ of {self._budget_usd:.4f} $ gone")

    def round(self) -> None:
        """Who asks beyond the hard cap has no answer."""
        cap = self._world.schedule.cap
        if cap is None or self._unsure:
            return
        if self._capped_at == math.inf and self._spent_usd() > cap.usd + SLACK_USD:
            self._capped_at = self._now
        for client in self._world.people.clients:
            if client.ending == "answered" and client.began_at > self._capped_at:
                self._say("money", f"{client.ask} was answered beyond the hard cap of {cap}")

    def _spent_usd(self, ahead_s: float = 0.0) -> float:
        lifetimes, now = self._world.cloud.lifetimes, EPOCH + self._now
        lived_s = sum((life.ended_at or now) - life.launched_at for life in lifetimes.values())
        return float((RATE.per_hour * (lived_s + ahead_s) / 3600 + RATE.at_launch * len(lifetimes)) / MICRO)

    def _least_s(self, model: str, age_s: float) -> float:
        schedule = self._world.schedule
        return float(max(0.0, schedule.boot_s + schedule.load_s + IDLE_S[model] - age_s))

    @property
    def _unsure(self) -> bool:
        """Is there what nobody knows of yet? Two at a hand-over, an instance whose launch was not heard of."""
        lost = any(isinstance(event, Trouble | CrashTask | Outage | Retire) for event in self._world.schedule.all)
        return lost or self._torn()

    @property
    def _now(self) -> float:
        return float(self._world.timeline.now)
