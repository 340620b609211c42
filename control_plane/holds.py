"""At most so many clients are held while the control plane sleeps.

Whoever is held takes one of Lambda's concurrent executions. A new account has ten of them in all, and the janitor, the
web app and whoever asks next need some as well. No process of the function knows of the others, so each takes a slot in
a table first: one write, and another to give it back. A process that died gives nothing back: its slot runs out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from control_plane.errors import Unavailable

LASTS_S = 60.0
"""Of a slot that nobody gives back, from when the request came on: by then Lambda has ended its execution."""

ANSWER_S = 2.0
"""A table that is silent for longer holds nobody up."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slot:
    """The right to hold one client."""

    holder: str  # nobody else's
    until: float  # from then on it is free again, whatever became of who took it


class HoldStore(Protocol):
    async def take(self, slot: Slot, *, most: int, at: float) -> bool:
        """False where so many are taken; those that ran out by now (``at``) do not count. Twice is once.

        Raises Unavailable: it may be taken.
        """

    async def give_back(self, slot: Slot) -> None:
        """Twice is once, and one that ran out is no error. Raises Unavailable."""


class Holds:
    """The slots, as one process takes them."""

    def __init__(self, store: HoldStore, *, most: int, clock: Callable[[], float], holder: Callable[[], str]) -> None:
        """``holder`` names the next, and none twice."""
        self._store = store
        self._most = most
        self._clock = clock
        self._holder = holder

    @asynccontextmanager
    async def slot(self, *, since: float) -> AsyncIterator[bool]:
        """Is there one, for the time within? ``since`` is when the request came."""
        slot, full = Slot(self._holder(), since + LASTS_S), False
        try:
            full = await self._is_full(slot)
            yield not full
        finally:
            if not full:  # also where nobody knows whether it was taken
                await self._given_back(slot)

    async def _is_full(self, slot: Slot) -> bool:
        """A table that cannot tell turns nobody away: it took the wish a moment ago, so it is one call that failed.

        Too many are held only where that meets a crowd; to refuse would meet whoever is there alone as well.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                return not await self._store.take(slot, most=self._most, at=self._clock())
        except (Unavailable, TimeoutError) as error:
            log.warning("held without a slot", extra={"error": str(error) or "no answer in time"})
            return False

    async def _given_back(self, slot: Slot) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._store.give_back(slot)
        except (Unavailable, TimeoutError) as error:
            log.warning("slot left to run out", extra={"error": str(error) or "no answer in time"})
