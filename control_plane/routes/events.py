"""What happened, as pages and as a stream. An event's id is its place in the log: who names it goes on from there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from typing_extensions import TypedDict

from control_plane.door import Principal
from control_plane.errors import DiogenesError, InvalidRequest, RequestError
from control_plane.event import Entry, EventEntry, EventKind, Stretch, event_id
from control_plane.event_feed import EventFeed
from control_plane.ports import EventStore
from control_plane.routes.caller import Caller, CallerAgain, Readmit
from control_plane.services import Services

if TYPE_CHECKING:
    from sse_starlette import ServerSentEvent

MAX_LOOKED_AT = 2000
"""Entries read for one page. A filter that few pass gets a short page, and the cursor to go on."""

MAX_ID_CHARS = 12
READ = 200
CHECK_S = 10.0  # who streams is looked at as often: as soon as a revoked key is seen elsewhere
PING_S = 15  # well below what any proxy waits for between bytes
RETRY_MS = 3000

router = APIRouter()

Model = Annotated[str | None, Query(max_length=256)]
Id = Annotated[str | None, Query(max_length=64)]
Passes = Callable[[Entry], bool]


class EventPage(TypedDict):
    """Some of them, and the cursor to go on with."""

    events: list[EventEntry]
    next: str | None
    more: bool  # there are some already


class AsleepNoStream(RequestError):
    """The night watch answers whole bodies only."""

    status = 503
    default_code = "asleep_no_stream"


@router.get("/api/events")
async def list_events(
    request: Request,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Id = None,
    after: Id = None,
    model: Model = None,
    kind: EventKind | None = None,
) -> EventPage:
    """Newest first, or ``after`` an id oldest first. ``next`` is the cursor to go on with: as ``before``, null at the
    beginning of the log; as ``after``, never null, since more may happen."""
    services: Services = request.app.state.services
    if before is not None and after is not None:
        raise InvalidRequest("Either `before` or `after`.", param="before")
    if services.events is None:
        return {"events": [], "next": after, "more": False}
    passes = _filter(caller, model, kind)
    if after is not None:
        return await _after(services.events, _number(after, "after"), limit=limit, passes=passes)
    newest = await services.events.end() + 1
    number = newest if before is None else min(_number(before, "before"), newest)
    return await _before(services.events, number, limit=limit, passes=passes)


@router.get("/api/events/stream")
async def stream_events(
    request: Request, again: CallerAgain, after: Id = None, model: Model = None, kind: EventKind | None = None
) -> Response:
    """Server-sent events, from ``Last-Event-ID`` (or ``after``) on, else from now on; none is lost or sent twice."""
    from sse_starlette import EventSourceResponse, ServerSentEvent  # it reaches into uvicorn: only who streams needs it

    services: Services = request.app.state.services
    if services.feed is None:
        raise AsleepNoStream(
            "The control plane sleeps, and nothing can be streamed from here: ask /api/events?after=… from time to "
            "time. This wakes nothing.",
            retry_after_s=30,
        )
    end = await services.feed.end()
    cursor = request.headers.get("last-event-id") or after
    begin = min(_number(cursor, "Last-Event-ID"), end) if cursor else end
    stream = _Stream(services.feed, begin, lambda caller: _filter(caller, model, kind), again)
    return EventSourceResponse(
        stream.messages(ServerSentEvent),
        sep="\n",
        ping=PING_S,
        ping_message_factory=lambda: ServerSentEvent(comment="ping"),
    )


class _Stream:
    """One client's way through the log."""

    def __init__(self, feed: EventFeed, number: int, passes: Callable[[Principal], Passes], again: Readmit) -> None:
        """Before everything that it tells, and at least every CHECK_S, the caller is let in ``again``."""
        self._feed = feed
        self._number = number
        self._passes = passes
        self._again = again

    async def messages(self, message: type[ServerSentEvent]) -> AsyncIterator[ServerSentEvent]:
        # An id alone is no event, but whoever is cut off now comes back with it.
        yield message(id=event_id(self._number), retry=RETRY_MS)
        async with aclosing(self._feed.follow(self._number, beat_s=CHECK_S)) as stretches:  # type: ignore[type-var]
            async for stretch in stretches:
                try:
                    passes = self._passes(await self._again())
                except DiogenesError:
                    return  # who may come in nevertheless, or again, comes back by itself, with the last id
                for each in self._told(stretch, message, passes) if stretch.reached > self._number else ():
                    yield each
                self._number = stretch.reached

    def _told(self, stretch: Stretch, message: type[ServerSentEvent], passes: Passes) -> list[ServerSentEvent]:
        told = [
            message(orjson.dumps(entry.to_dict()).decode(), event=str(entry.event.kind), id=entry.id)
            for entry in stretch.entries
            if passes(entry)
        ]
        return told or [message(id=event_id(stretch.reached))]


async def _after(store: EventStore, number: int, *, limit: int, passes: Passes) -> EventPage:
    found: list[Entry] = []
    number = min(number, await store.end())
    for _ in range(MAX_LOOKED_AT // READ):
        stretch = await store.after(number, limit=READ)
        entries = list(filter(passes, stretch.entries))
        found += entries[: limit - len(found)]
        if len(found) == limit:
            return _page(found, found[-1].id, more=True)
        if stretch.reached <= number:
            return _page(found, event_id(number), more=False)
        number = stretch.reached
    return _page(found, event_id(number), more=True)


async def _before(store: EventStore, number: int, *, limit: int, passes: Passes) -> EventPage:
    found: list[Entry] = []
    for _ in range(MAX_LOOKED_AT // READ):
        stretch = await store.before(number, limit=min(READ, max(limit, 20)))
        entries = list(filter(passes, stretch.entries))
        found += entries[: limit - len(found)]
        if len(found) == limit and found[-1].number > 1:
            return _page(found, found[-1].id, more=True)
        number = stretch.reached
        if number <= 1:
            return _page(found, None, more=False)
    return _page(found, event_id(number), more=True)


def _page(found: list[Entry], cursor: str | None, *, more: bool) -> EventPage:
    return {"events": [entry.to_dict() for entry in found], "next": cursor, "more": more}


def _filter(caller: Principal, model: str | None, kind: EventKind | None) -> Passes:
    def passes(entry: Entry) -> bool:
        event = entry.event
        asked = model in (None, event.model) and kind in (None, event.kind)
        return asked and (caller.owner or event.concerns(caller.email))

    return passes


def _number(cursor: str, param: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= MAX_ID_CHARS):
        raise InvalidRequest(f"`{param}` must be the id of an event.", param=param, code="invalid_cursor")
    return int(cursor)
