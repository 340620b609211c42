"""Follows the log for everyone who streams it: one look at its end serves all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from control_plane.errors import RequestError, Unavailable
from control_plane.event import Stretch
from control_plane.loops import either
from control_plane.ports import EventStore

POLL_S = 2.0  # other processes write as well
BATCH = 200
MAX_FOLLOWERS = 100

log = logging.getLogger(__name__)


class TooManyStreams(RequestError):
    status = 429
    kind = "rate_limit_error"
    default_code = "too_many_streams"


class EventFeed:
    """Whoever follows gets every entry once, in order, whatever fails in between."""

    def __init__(self, store: EventStore, *, poll_s: float = POLL_S) -> None:
        self._store = store
        self._poll_s = poll_s
        self._poked = asyncio.Event()
        self._news: set[asyncio.Event] = set()  # one a follower
        self._closed = False
        self._seen = -1  # the end at the last look; -1: all are to look for themselves
        self._poll: asyncio.Task[None] | None = None

    def poke(self) -> None:
        """This process has written."""
        self._poked.set()

    def close(self) -> None:
        """Every follower comes to its end."""
        self._closed = True
        self._tell()

    def open(self) -> None:
        """Whoever comes may follow again."""
        self._closed = False

    async def end(self) -> int:
        """The newest number that can be read. Raises Unavailable."""
        return await self._store.end()

    async def follow(self, number: int, *, beat_s: float | None = None) -> AsyncIterator[Stretch]:
        """What comes after this number, as it comes, until the feed is closed. Raises TooManyStreams.

        An empty stretch after every ``beat_s`` in which nothing came.
        """
        if len(self._news) >= MAX_FOLLOWERS:
            raise TooManyStreams(f"{MAX_FOLLOWERS} streams of events are open already.", retry_after_s=30)
        news = asyncio.Event()
        self._news.add(news)
        if self._poll is None:
            self._poll = asyncio.create_task(self._look())
        try:
            while not self._closed:
                news.clear()  # before reading: what is written meanwhile is read the next time
                stretch = await self._read(number)
                if stretch and stretch.reached > number:
                    number = stretch.reached
                    yield stretch
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(news.wait(), beat_s)
                    if not news.is_set():
                        yield Stretch((), number)
        finally:
            self._news.discard(news)
            if not self._news and self._poll:
                self._poll.cancel()
                self._poll = None

    async def _read(self, number: int) -> Stretch | None:
        try:
            return await self._store.after(number, limit=BATCH)
        except Unavailable as error:
            log.warning("events not read", extra={"error": str(error)})
            self._seen = -1
            return None

    async def _look(self) -> None:
        """Wake the followers when the log has grown, and after one of them failed."""
        while True:
            await either(self._poked, self._poll_s)
            try:
                end = await self._store.end()
            except Unavailable as error:
                log.warning("end of the log not seen", extra={"error": str(error)})
                continue
            if end != self._seen:
                self._seen = end
                self._tell()

    def _tell(self) -> None:
        for news in self._news:
            news.set()
