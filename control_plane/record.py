"""One process's part in the log of events: where it tells, how that is put into words, kept, and followed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from control_plane import metrics
from control_plane.budget import Budgets
from control_plane.chronicle import Chronicle
from control_plane.event_feed import EventFeed
from control_plane.event_log import EventLog
from control_plane.loops import either
from control_plane.ports import Clock, EventStore
from control_plane.usage import month_of
from control_plane.world import World

MEASURE_S = 60.0
EVENTS_S = 5.0  # between attempts to write events; what was just told is written at once
GATHER_S = 0.2  # what is told together is written together

log = logging.getLogger(__name__)


class Record:
    """Wired; its two steps are for loops."""

    def __init__(self, store: EventStore | None, *, clock: Clock, writer: str, cause: str, deployment: str) -> None:
        self.store = store
        self.feed = EventFeed(store) if store else None
        written = self.feed.poke if self.feed else lambda: None
        self.log = EventLog(store, clock=clock, writer=writer, cause=cause, deployment=deployment, written=written)
        self.chronicle = Chronicle(self.log)
        self._clock = clock
        self._weighed: Budgets | None = None  # the last that was looked at
        self._deployment = deployment

    async def write(self, world: World | None) -> None:
        """What was told, after a pause for more. Raises Unavailable; nothing is lost then."""
        await self._recall()
        if world and world.budgets and world.budgets is not self._weighed:
            self._weighed = world.budgets
            await self.tell_spent(world.budgets, self._clock())
        await either(self.log.told, EVENTS_S)
        if self.log.waiting:
            await asyncio.sleep(GATHER_S)
            await self.log.flush()

    async def tell_spent(self, budgets: Budgets, now: float) -> None:
        """What is new of how far budgets are spent. Raises Unavailable where nobody knows what was told before."""
        await self._recall()
        self.chronicle.spent(budgets, month_of(now))

    async def _recall(self) -> None:
        if not self.chronicle.recalled:
            await self.chronicle.recall(self.store)

    async def measure(self, world: World | None, waiting: Mapping[str, int]) -> None:
        """One line of numbers."""
        if world:
            values = metrics.of_minute(world.nodes, waiting)
            log.info("measured", extra=metrics.embedded(self._deployment, values, self._clock()))
