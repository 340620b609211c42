"""Who is held by the night watch, and who could not be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from control_plane.errors import Unavailable
from control_plane.holds import Slot
from tests.night.stage import MemoryHolds
from tests.simulation.people import RETRIES, Client
from tests.simulation.reach import Reach
from tests.simulation.timeline import Process

HELD_S = 50.0  # a hold, and the end of its launch


class Crowd:
    """``say`` is the watch's."""

    def __init__(self, world: Any, say: Callable[[str, str], None]) -> None:
        self._world = world
        self._say = say
        self._taken: dict[str, tuple[Process, float]] = {}
        self.refused: list[float] = []

    def asked(self, process: Process, slot: Slot, taken: bool) -> None:
        """Of those who have a slot that somebody else would need, each is held, died, or could not give it back."""
        now = self._world.timeline.now
        if taken:
            self._taken[slot.holder] = process, now
            return
        self.refused.append(now)
        for holder in self._world.holds.slots:
            owner, since = self._taken[holder]
            if owner.alive and now > since + HELD_S and not self._world.schedule.outages_s:
                self._say("wish", f"nobody more is held, and a slot is of no use any more since {since:.0f}")

    def turned_away(self, client: Client) -> bool:
        """Who never comes back is told so in any crowd, and all others only where something makes a wake long."""
        crowded = any(at >= client.began_at for at in self.refused)
        return crowded and (not RETRIES[client.ask.manner] or self._world.schedule.disruptions > 0)


class Slots:
    """HoldStore of one process. It takes no time, and nothing is drawn for it: where nobody is turned away, a schedule
    is what it would be without it. It is out when the tables are."""

    def __init__(self, holds: MemoryHolds, crowd: Crowd, reach: Reach, process: Process) -> None:
        self._holds = holds
        self._crowd = crowd
        self._reach = reach
        self._process = process

    async def take(self, slot: Slot, *, most: int, at: float) -> bool:
        self._answers()
        taken = await self._holds.take(slot, most=most, at=at)
        self._crowd.asked(self._process, slot, taken)
        return taken

    async def give_back(self, slot: Slot) -> None:
        self._answers()
        await self._holds.give_back(slot)

    def _answers(self) -> None:
        if self._reach.over or self._reach.down("tables"):
            raise Unavailable("the tables are out, or the schedule is over")
