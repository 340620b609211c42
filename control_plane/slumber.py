"""The control plane's own sleep: when nothing needs it any more, it hands over to the night watch and ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from control_plane.errors import Stale, Unavailable
from control_plane.front import Doorkeeper
from control_plane.loops import either
from control_plane.ports import Clock, Front, FrontState

LAST_LOOKS = 3  # of a task that ends
LAST_PAUSE_S = 1.0
LAST_LIMIT_S = 4.0  # of the ten that ECS leaves a task after the streams' own time

log = logging.getLogger(__name__)


class Slumber:
    """A loop's step. ``busy`` tells of requests, nodes and wishes; reading things never keeps it awake.

    ``wished`` reads the tables anew, for what came after the last look at them.
    """

    def __init__(
        self,
        keeper: Doorkeeper,
        busy: Callable[[], bool],
        wished: Callable[[], Awaitable[bool]],
        *,
        clock: Clock,
        idle_s: float,
        propagation_s: float,
        tick_s: float,
    ) -> None:
        self._keeper = keeper
        self._busy = busy
        self._wished = wished
        self._clock = clock
        self._idle_s = idle_s
        self._propagation_s = propagation_s
        self._tick_s = tick_s
        self._idle_since = clock()
        self._leaving = asyncio.Event()
        self._turned_at: float | None = None  # since when the listener is known to face the night watch

    def leave(self) -> None:
        """The task was told to stop: the next look comes at once."""
        self._leaving.set()

    async def last_look(self) -> None:
        """At the task's end: where no other task is healthy, the night watch answers from here on.

        More than once: somebody who saw this task healthy a moment ago may turn the listener to it just now. Whoever
        was promised something in its last moments is not left to the janitor: the wish wakes it again.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_LIMIT_S):
                await self._last_looks()

    async def _last_looks(self) -> None:
        for _ in range(LAST_LOOKS):
            try:
                if (await self._keeper.look(wanted=await self._wished())).state is FrontState.ASLEEP:
                    return
            except Unavailable as error:
                log.warning("front not seen at the end", extra={"error": str(error)})
            await asyncio.sleep(LAST_PAUSE_S)

    async def turn(self) -> None:
        """A pause, then one look. Raises Unavailable."""
        await either(self._leaving, self._tick_s)
        try:
            await self._look()
        except Stale as error:
            log.info("race lost", extra={"error": str(error)})

    async def _look(self) -> None:
        """1 busy: whatever was begun is taken back. 2 idle long enough: fall asleep. 3 nothing arrives the old way
        any more: asleep; whoever moved the front since then is right, and this task stays up."""
        busy = self._busy()
        now = self._clock()
        if busy:
            self._idle_since = now
        front = await self._keeper.look(wanted=busy)  # 1
        if front.state is not FrontState.FALLING_ASLEEP:
            self._turned_at = None
        elif self._turned_at is None:
            self._turned_at = self._clock()
        if busy or self._busy():
            return
        # From the wake on as well: whoever was sent here by the night watch is still on the way.
        idle_since = max(self._idle_since, front.since)
        if front.state is FrontState.AWAKE and now >= idle_since + self._idle_s:
            await self._keeper.move(front, FrontState.FALLING_ASLEEP)  # 2
            await self._keeper.look(wanted=False)
            self._turned_at = self._clock()
        elif self._turned_at is not None and now >= self._turned_at + self._propagation_s:
            await self._end(front)  # 3

    async def _end(self, front: Front) -> None:
        if await self._wished() or self._busy():
            await self._keeper.look(wanted=True)
            return
        await self._keeper.move(front, FrontState.ASLEEP)
        await self._keeper.look(wanted=False)
