"""What one process tells of itself: events, in words, kept and followed; numbers; and traces, where they are wanted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from control_plane import metrics
from control_plane.actions import Done, NoteStart
from control_plane.budget import Budgets
from control_plane.chronicle import Chronicle
from control_plane.event_feed import EventFeed
from control_plane.event_log import EventLog
from control_plane.loops import either
from control_plane.nodes import Node
from control_plane.passage import Passage
from control_plane.ports import Clock, EventStore
from control_plane.traffic import Traffic
from control_plane.usage import month_of
from control_plane.world import World

if TYPE_CHECKING:
    from control_plane.traces import Traces

MEASURE_S = 60.0
EVENTS_S = 5.0  # between attempts to write events; what was just told is written at once
TRACES_S = 5.0  # between batches of spans
GATHER_S = 0.2  # what is told together is written together

log = logging.getLogger(__name__)


class Record:
    """Wired; its three steps are for loops."""

    def __init__(
        self,
        store: EventStore | None,
        *,
        clock: Clock,
        writer: str,
        cause: str,
        deployment: str,
        traces: Traces | None = None,
    ) -> None:
        self.traffic = Traffic()
        self.traces = traces
        self.store = store
        self.feed = EventFeed(store) if store else None
        written = self.feed.poke if self.feed else lambda: None
        self.log = EventLog(store, clock=clock, writer=writer, cause=cause, deployment=deployment, written=written)
        self.chronicle = Chronicle(self.log)
        self._clock = clock
        self._weighed: Budgets | None = None  # the last that was looked at
        self._deployment = deployment

    # -- what happens

    def passed(self, passage: Passage) -> None:
        """A request is over."""
        passage.ended_at = self._clock()
        self.traffic.passed(passage)
        if self.traces:
            self.traces.passed(passage)

    def waits(self, passage: Passage) -> None:
        """A request begins to wait for a node."""
        if self.traces:
            self.traces.waits(passage)

    def acted(self, done: Done) -> None:
        """A reconciler's action took effect, or a launch was refused."""
        self.chronicle.acted(done)
        if isinstance(done.action, NoteStart):
            model, boot = done.action.model, done.action.boot
            self.traffic.started(model, boot)
            self._measured(metrics.of_start(boot), model=model)
        if self.traces:
            self.traces.acted(done)

    def saw(self, nodes: Sequence[Node]) -> None:
        """The nodes, as they are now."""
        self.chronicle.saw(nodes)
        if self.traces:
            self.traces.saw(nodes)

    # -- steps

    async def write(self, world: World | None) -> None:
        """What was told, after a pause for more. Raises Unavailable; nothing is lost then."""
        if not self.chronicle.recalled:
            await self.chronicle.recall(self.store)
        if world and world.budgets and world.budgets is not self._weighed:
            await self.tell_spent(world.budgets, self._clock())
            self._weighed = world.budgets
        await either(self.log.told, EVENTS_S)
        if self.log.waiting:
            await asyncio.sleep(GATHER_S)
            await self.log.flush()

    async def tell_spent(self, budgets: Budgets, now: float) -> None:
        """What is new of how far budgets are spent. Raises Unavailable."""
        await self.chronicle.spent(budgets, month_of(now))

    async def measure(self, world: World | None, waiting: Mapping[str, int]) -> None:
        """One line of numbers."""
        if world:
            self._measured({**metrics.of_minute(world.nodes, waiting), **self.traffic.take_minute()})

    async def trace(self) -> None:
        """Spans, after a pause for more."""
        assert self.traces
        await asyncio.sleep(TRACES_S)
        await self.traces.flush()

    def _measured(self, values: Mapping[metrics.Metric, metrics.Value], **told: str) -> None:
        log.info("measured", extra={**told, **metrics.embedded(self._deployment, values, self._clock())})
