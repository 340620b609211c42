"""Sends notices, from the log of events: at least once, by one sender, however often that one dies.

A channel's progress is written before and after each attempt, by condition:

 1. What is new in the log is gathered to one notice, and that is written down with the attempt that follows, and when
    the next one may be, which is ever later: until then another sender lets it alone.
 2. It is sent.
 3. What was taken is done; the next notice gathers for some minutes. What was not, or of which nobody knows because the
    attempt was cut off, is sent again in its time, as the same notice; at the end it is given up, which is an event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from control_plane.errors import Stale, Unavailable
from control_plane.event import Entry, EventKind, EventValue
from control_plane.event_log import EventLog
from control_plane.notice import Channel, Notice, NoticeAdapters, Progress, worth
from control_plane.ports import Clock, EventStore

GATHER_S = 600.0  # between two notices of a channel
AGAIN_S = 120.0  # after the first attempt in vain or cut off, so longer than a function lives; doubled with each
AGAIN_MOST_S = 3600.0
MAX_ATTEMPTS = 10  # about five hours
PAGE = 200
MAX_PAGES = 25  # of the log in one round; what is left comes with the next

log = logging.getLogger(__name__)


class Notifier:
    """``round`` is what a schedule calls."""

    def __init__(
        self, events: EventStore, outside: NoticeAdapters, told: EventLog, *, clock: Clock, deployment: str
    ) -> None:
        """``told`` hears of what was given up."""
        self._events = events
        self._store = outside.store
        self._channels = outside.channels
        self._told = told
        self._clock = clock
        self._deployment = deployment

    async def round(self) -> None:
        """One look of each channel, none of which waits for another, or ends with it.

        Raises nothing that is a channel's or AWS's.
        """
        for ended in await asyncio.gather(*map(self._look, self._channels), return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended

    async def _look(self, channel: Channel) -> None:
        try:
            await self._advance(channel)
        except Stale:
            log.info("somebody else sends", extra={"channel": channel.name})
        except Unavailable as error:
            log.warning("notices not looked at", extra={"channel": channel.name, "error": str(error)})

    async def _advance(self, channel: Channel) -> None:
        progress = await self._store.read(channel.name)
        if self._clock() < progress.next_at:
            return
        if not progress.upto:
            progress = await self._gathered(channel, progress)
        if not progress.upto:
            return
        found, told = worth(await self._between(progress), progress.told, at=progress.since)
        done = replace(progress, done=progress.upto, upto=0, attempts=0, next_at=0.0)
        if not found:  # they have gone from the log meanwhile
            await self._store.write(channel.name, done)
        elif progress.attempts >= MAX_ATTEMPTS:
            await self._store.write(channel.name, done)
            self._give_up(channel, found)
        else:
            notice = Notice(self._deployment, found)
            await self._attempt(channel, progress, notice, done=replace(done, told=told))

    async def _gathered(self, channel: Channel, progress: Progress) -> Progress:
        """What is new; with ``upto`` where something of it is to be sent. Else it is done, and that is written."""
        number, now = progress.done, self._clock()
        sending = False
        for _ in range(MAX_PAGES):
            stretch = await self._events.after(number, limit=PAGE)
            if stretch.reached <= number:
                break
            number = stretch.reached
            sending = sending or bool(worth(stretch.entries, progress.told, at=now)[0])
        if sending:
            return replace(progress, upto=number, since=now)
        if number > progress.done:
            await self._store.write(channel.name, replace(progress, done=number))
        return progress

    async def _between(self, progress: Progress) -> Sequence[Entry]:
        number, found = progress.done, list[Entry]()
        while number < progress.upto:
            stretch = await self._events.after(number, limit=min(PAGE, progress.upto - number))
            if stretch.reached <= number:
                raise Unavailable("the log is shorter than it was")
            number = stretch.reached
            found += [entry for entry in stretch.entries if entry.number <= progress.upto]
        return found

    async def _attempt(self, channel: Channel, progress: Progress, notice: Notice, *, done: Progress) -> None:
        now, attempt = self._clock(), progress.attempts + 1
        again_at = now + min(AGAIN_S * 2 ** (attempt - 1), AGAIN_MOST_S)
        begun = await self._store.write(channel.name, replace(progress, attempts=attempt, next_at=again_at))  # 1
        try:
            await channel.send(notice)  # 2
        except Unavailable as error:
            log.warning("notice not sent", extra={"channel": channel.name, "notice": notice.id, "error": str(error)})
        else:
            log.info("notice sent", extra={"channel": channel.name, "notice": notice.id})
            sent = replace(done, version=begun.version, next_at=now + GATHER_S)
            await self._store.write(channel.name, sent)  # 3

    def _give_up(self, channel: Channel, found: Sequence[Entry]) -> None:
        many = f"{len(found)} events" if len(found) > 1 else "an event"
        told = f"{many[0].upper()}{many[1:]} could not be sent by {channel.name} in {MAX_ATTEMPTS} attempts."
        data: Mapping[str, EventValue] = {"channel": channel.name, "events": len(found), "last": found[-1].id}
        self._told.tell(EventKind.NOTICE_GIVEN_UP, told, data=data)
