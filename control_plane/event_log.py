"""Where every change of state is told: as one structured log line at once, and as one entry of the log soon after.

Nothing waits for the log: events queue up here, and leave in numbered batches. A batch whose writing failed is sent
again under its number, so it counts once; a store that stays away costs the oldest events, never a request.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from control_plane import metrics
from control_plane.errors import Unavailable
from control_plane.event import Event, EventKind, EventValue
from control_plane.nodes import NodeId
from control_plane.ports import Clock, EventStore

MAX_QUEUED = 5000
MAX_BATCH = 50  # as many as every store takes at a time
MAX_MESSAGE_CHARS = 2000

_SECRETS = re.compile(r"\b(?:dio-|hf_|sk-)[A-Za-z0-9_-]{8,}|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]+")
_WARNINGS = frozenset(
    {
        EventKind.NODE_FAILED,
        EventKind.START_FAILED,
        EventKind.WAKE_FAILED,
        EventKind.TASK_FAILED,
        EventKind.LAUNCH_REFUSED,
        EventKind.NODE_ADOPTED,
        EventKind.BUDGET_REACHED,
        EventKind.BUDGET_EXCEEDED,
        EventKind.NOTICE_GIVEN_UP,
    }
)

log = logging.getLogger(__name__)


class EventLog:
    """One process's way to the log. ``tell`` is all that the others need of it."""

    def __init__(
        self,
        store: EventStore | None,
        *,
        clock: Clock,
        writer: str,
        cause: str,
        deployment: str = "",
        written: Callable[[], None] = lambda: None,
    ) -> None:
        """``writer`` is this process's alone; ``cause`` is whose deed it is where nobody else is named; ``deployment``
        is what metrics are told of; ``written`` hears when entries have been added. Without a store, log lines are all
        there is."""
        self._store = store
        self._clock = clock
        self._writer = writer
        self._cause = cause
        self._deployment = deployment
        self._written = written
        self._queue: deque[Event] = deque()
        self._batch: Sequence[Event] = ()
        self._number = 0
        self._dropped = 0
        self._flushing = asyncio.Lock()
        self.kinds: Counter[str] = Counter()  # how many of each kind were told
        self.told = asyncio.Event()  # something waits to be written

    def tell(
        self,
        kind: EventKind,
        message: str,
        *,
        cause: str | None = None,
        at: float | None = None,
        model: str | None = None,
        node: NodeId | None = None,
        data: Mapping[str, EventValue] | None = None,
    ) -> None:
        """``message`` is one plain sentence, without prompts, keys and tokens. Never waits, never raises."""
        happened = self._clock() if at is None else at
        self.add(Event(happened, kind, cause or self._cause, message, model, node, data or {}))

    def add(self, event: Event) -> None:
        """An event that was put into words elsewhere."""
        message = _clean(event.message)
        if message != event.message:
            event = replace(event, message=message)
        self._note(event)
        if self._store is None:
            return
        self._queue.append(event)
        if len(self._queue) > MAX_QUEUED:
            self._queue.popleft()
            self._dropped += 1
        self.told.set()

    async def tell_once(self, name: str, kind: EventKind, message: str, *, data: Mapping[str, EventValue]) -> None:
        """As ``tell``, but written at once, and by the first process only that tells it under this name within a month;
        of the others there is no log line either. Raises Unavailable: it may be written, and is to be told again."""
        event = Event(self._clock(), kind, self._cause, _clean(message), data=data)
        if self._store is None or await self._store.add([event], writer=name, number=1):
            self._note(event)
            self._written()

    def _note(self, event: Event) -> None:
        level = logging.WARNING if event.kind in _WARNINGS else logging.INFO
        if log.isEnabledFor(level):
            log.log(level, event.message, extra={**_fields(event), **self._counted(event)})
        self.kinds[str(event.kind)] += 1

    def _counted(self, event: Event) -> Mapping[str, object]:
        values = metrics.of_event(event)
        return metrics.embedded(self._deployment, values, event.at) if values else {}

    @property
    def waiting(self) -> int:
        """Events that are not in the log yet."""
        return len(self._batch) + len(self._queue)

    async def flush(self) -> None:
        """Write what was told up to now. Raises Unavailable; nothing is lost then, the next flush sends it again."""
        async with self._flushing:
            for _ in range(-(-self.waiting // MAX_BATCH) + 1):  # not until nothing is left: more may come for ever
                if self.waiting:
                    await self._send()
        self._tell_dropped()

    async def settle(self, limit_s: float) -> None:
        """Write what was told, where that is soon done; else it is left to the next time, if there is one."""
        try:
            async with asyncio.timeout(limit_s):
                await self.flush()
        except (Unavailable, TimeoutError) as error:
            log.warning("events not written", extra={"events": self.waiting, "error": str(error)})

    async def _send(self) -> None:
        assert self._store
        if not self._batch:
            self._batch = [self._queue.popleft() for _ in range(min(MAX_BATCH, len(self._queue)))]
            self._number += 1
        await self._store.add(self._batch, writer=self._writer, number=self._number)
        self._batch = ()
        self._written()

    def _tell_dropped(self) -> None:
        if self._dropped:
            log.error("events lost", extra={"events": self._dropped})
            self._dropped = 0


def _clean(message: str) -> str:
    """A failure may quote an engine, and an engine anything."""
    return _SECRETS.sub("[secret]", message[:MAX_MESSAGE_CHARS])


def _fields(event: Event) -> Mapping[str, object]:
    told = {"event": str(event.kind), "cause": event.cause, "model": event.model, "node": event.node}
    return {name: value for name, value in {**told, **_data(event)}.items() if value is not None}


def _data(event: Event) -> Mapping[str, object]:
    return {"data": dict(event.data)} if event.data else {}
