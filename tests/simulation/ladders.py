"""Whether a lack of capacity is told only of a model whose every zone was asked for an instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.simulation.schedule import Interrupt
from tests.simulation.timeline import Process

LADDER_S = 120.0  # a ladder, what is remembered of the one before, and tables that are slow


class Ladders:
    """Hears of every effect. ``say`` tells of a breach."""

    def __init__(self, world: Any, say: Callable[[str, str], None]) -> None:
        self._world = world
        self._say = say
        self._asked: dict[tuple[str, str], float] = {}  # when each zone of each group last was, by the intents

    def heard(self, process: Process, name: str, args: tuple[Any, ...]) -> None:
        if name == "launches.intend":
            self._asked[args[0].group, args[0].zone] = self._world.timeline.now
        elif name == "models.refused" and args[1].code == "no_gpu_capacity":
            self._told(process, args[0])

    def _told(self, process: Process, model: str) -> None:
        if any(isinstance(event, Interrupt) for event in self._world.schedule.all):
            return  # where AWS takes an instance back, it is not asked for another
        long_ago = self._world.timeline.now - LADDER_S
        zones = self._world.cloud.zones_of(model)
        if unasked := [zone for zone in zones if self._asked.get(zone, long_ago) <= long_ago]:
            self._say("wish", f"{process.kind} told that there is no {model} to be had, and did not ask {unasked}")
