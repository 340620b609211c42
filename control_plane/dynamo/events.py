"""The ``events`` table: a log that many write and that has one order.

A batch is one transaction: it raises the number at the log's head, which must still be what its writer saw, and puts
its entries under the numbers that follow; so numbers have no gaps, and none is seen by anybody before its batch was
the next. The batch's own number, per writer, is part of it: a batch whose reply was lost counts once.

DynamoDB shows the rows of a transaction one by one, in no order. So nobody reads up to the head, but up to the first
number that is missing: it comes within moments. What is missing for longer has expired.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from control_plane import schema
from control_plane.dynamo.table import Change, DynamoTable, RefusedTogether, Row, assignments
from control_plane.errors import Unavailable
from control_plane.event import Entry, Event, EventKind, Stretch, event_id
from control_plane.nodes import NodeId
from control_plane.ports import Clock

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

KEEP_EVENTS_S = 30 * 86400
"""An event goes after a month."""

KEEP_WRITERS_S = 32 * 86400
"""A batch is sent again within minutes, or never; but what is told once a month is a batch of its own, sent by many."""

PAGE = 256
"""Entries under one hash key."""

MAX_BATCH = 50
"""Events of one transaction, which may hold 100 rows and 4 MB."""

LATE_S = 3600.0
"""What is missing before a row this old does not come any more; far above what a transaction takes, and far below
``KEEP_EVENTS_S``."""

_ATTEMPTS = 10  # others write as well, and each writes less than once in a while
_UNSETTLED = 4 * MAX_BATCH  # below the head; what is older than so many entries is there
_PAGES_A_READ = 8

_KINDS = frozenset(map(str, EventKind))
_HEAD = {schema.EVENTS.hash_key: "head", "entry": "head"}


class DynamoEvents:
    """EventStore over DynamoDB."""

    def __init__(self, client: DynamoDBClient, namespace: str, *, clock: Clock) -> None:
        self._rows = DynamoTable(client, namespace, schema.EVENTS)
        self._clock = clock
        self._settled = (0, 0)  # the head, and up to where everything below it was seen

    async def add(self, events: Sequence[Event], *, writer: str, number: int) -> bool:
        assert len(events) <= MAX_BATCH
        if not events:
            return False
        for _ in range(_ATTEMPTS):
            try:
                await self._append(events, await self._rows.get(**_HEAD) or {}, self._counted(writer, number))
            except RefusedTogether as refused:
                if refused.place == 0:
                    return False
            else:
                return True
        raise Unavailable("the log of events is written to by too many at a time")

    async def _append(self, events: Sequence[Event], head: Row, writer: Change) -> None:
        now, end = self._clock(), int(head.get("end", 0))
        batch = {"first": end + 1, "written_at": now, "since": head.get("written_at", 0)}
        rows = [_row(number, event) | batch for number, event in enumerate(events, end + 1)]
        moved = {"end": end + len(events), "written_at": now}
        when, seen = ("#end = :seen", {"seen": end}) if end else ("attribute_not_exists(#end)", {})
        await self._rows.transact([writer, Change(_HEAD, assignments(moved), moved | seen, when)], rows)

    def _counted(self, writer: str, number: int) -> Change:
        key = {schema.EVENTS.hash_key: "writer", "entry": writer}
        values = {"number": number, "expires_at": int(self._clock()) + KEEP_WRITERS_S}
        return Change(key, assignments(values), values, "attribute_not_exists(#number) OR #number < :number")

    async def end(self) -> int:
        return await self._end(await self._rows.get(**_HEAD) or {})

    async def _end(self, head: Row) -> int:
        end = int(head.get("end", 0))
        if self._settled != (end, end):
            rows = await self._below(end + 1, limit=_UNSETTLED)
            found = {int(row["entry"]): row for row in rows}
            self._settled = (end, settled(found, head, lowest=max(1, end + 1 - _UNSETTLED), now=self._clock()))
        return self._settled[1]

    async def after(self, number: int, *, limit: int) -> Stretch:
        head, rows = await self._rows.get(**_HEAD) or {}, list[Row]()
        if number >= int(head.get("end", 0)):
            return Stretch([], number)  # whoever looks in vain reads the head alone
        end = await self._end(head)
        for _ in range(_PAGES_A_READ):
            if number >= end or len(rows) == limit:
                break
            last = min(end, (number // PAGE + 1) * PAGE)
            wanted = limit - len(rows)
            found = await self._rows.between(_page(last), event_id(number + 1), event_id(last), limit=wanted)
            rows += found
            number = int(found[-1]["entry"]) if len(found) == wanted else last
        return Stretch(_entries(rows), number)

    async def before(self, number: int, *, limit: int) -> Stretch:
        number = min(number, await self.end() + 1)
        rows = await self._below(number, limit=limit)
        if len(rows) == limit:
            return Stretch(_entries(rows), int(rows[-1]["entry"]))
        return Stretch(_entries(rows), 1)

    async def _below(self, number: int, *, limit: int) -> Sequence[Row]:
        """Newest first, to the beginning of what is left."""
        rows: list[Row] = []
        empty = 0
        while number > 1 and len(rows) < limit and empty < 2:  # one may be empty still, two have expired
            first = (number - 2) // PAGE * PAGE + 1
            found = await self._rows.between(
                _page(first), event_id(first), event_id(number - 1), limit=limit - len(rows), newest_first=True
            )
            rows += found
            number = first
            empty = 0 if found else empty + 1
        return rows


def settled(rows: Mapping[int, Row], head: Row, *, lowest: int, now: float) -> int:
    """Up to which number everything was seen, of those from ``lowest`` to the head, that is still to be seen. Pure.

    A gap ends before a row that tells when the entry before it was written: in its own batch, or in the one before.
    """
    end, expected = int(head.get("end", 0)), lowest
    for number in sorted(rows):
        row = rows[number]
        written_at = row["written_at"] if row["first"] < number else row["since"]
        if number > expected and written_at > now - LATE_S:
            return expected - 1
        expected = max(expected, number + 1)
    return expected - 1 if expected <= end and head["written_at"] > now - LATE_S else end


def _page(number: int) -> str:
    return f"{(number - 1) // PAGE:09d}"


def _row(number: int, event: Event) -> Row:
    told = {name: value for name, value in asdict(event).items() if value not in (None, {})}
    expiry = {"expires_at": int(event.at) + KEEP_EVENTS_S}
    return told | {schema.EVENTS.hash_key: _page(number), "entry": event_id(number)} | expiry


def _entries(rows: Iterable[Row]) -> Sequence[Entry]:
    """Without those of a kind that is not known here: a newer version wrote them, before it was rolled back."""
    return [_entry(row) for row in rows if row["kind"] in _KINDS]


def _entry(row: Row) -> Entry:
    node: Any = row.get("node")
    return Entry(
        int(row["entry"]),
        Event(
            at=float(row["at"]),
            kind=EventKind(row["kind"]),
            cause=row["cause"],
            message=row["message"],
            model=row.get("model"),
            node=NodeId(node) if node else None,
            data=row.get("data", {}),
        ),
    )
