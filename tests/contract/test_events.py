"""The promises of EventStore: an event is kept once, however often it is told, and goes after a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import boto3
import pytest

from control_plane import schema
from control_plane.dynamo import DynamoEvents, open_dynamo
from control_plane.dynamo.events import KEEP_EVENTS_S
from control_plane.errors import Unavailable
from control_plane.nodes import NodeId
from control_plane.ports import Event, EventKind, EventStore
from gpu_node.protocol import from_attributes
from rehearsal.faults import Fault
from tests.contract.under_test import Desk
from tests.memory import MemoryEvents

ATTEMPTS = 3  # of the SDK
MIDNIGHT = 1_795_046_400.0  # between 2026-11-18 and 2026-11-19
EVENT = Event(
    MIDNIGHT - 0.25, EventKind.NODE_DRAINING, "janitor", "Node i-1 drains: idle.", model="org/small", node=NodeId("i-1")
)
BARE = Event(MIDNIGHT + 1.0, EventKind.TASKS_SET, "janitor", "The number of the control plane's tasks was set to 0.")


class EventsUnderTest(Protocol):
    """A store, and what it has kept, in any order."""

    @property
    def store(self) -> EventStore: ...

    def kept(self) -> Sequence[Event]: ...


@dataclass(frozen=True)
class InMemory:
    store: MemoryEvents

    def kept(self) -> Sequence[Event]:
        return self.store.kept


@dataclass(frozen=True)
class InTable:
    store: DynamoEvents
    table: str

    def kept(self) -> Sequence[Event]:
        return [_event(row) for row in self.rows()]

    def rows(self) -> Sequence[dict[str, Any]]:
        items = boto3.client("dynamodb").scan(TableName=self.table)["Items"]
        return sorted(map(from_attributes, items), key=lambda row: (row["day"], row["at_id"]))


def _event(row: dict[str, Any]) -> Event:
    told = {name: value for name, value in row.items() if name in {field.name for field in fields(Event)}}
    return Event(**told | {"kind": EventKind(row["kind"])})


@pytest.fixture
async def dynamo_events(tables: None, namespace: str) -> AsyncIterator[InTable]:
    async with open_dynamo() as client:
        yield InTable(DynamoEvents(client, namespace), schema.EVENTS.full_name(namespace))


@pytest.fixture
def memory_events() -> InMemory:
    return InMemory(MemoryEvents())


@pytest.fixture(params=["memory", "dynamo"])
def events(request: pytest.FixtureRequest) -> EventsUnderTest:
    found: EventsUnderTest = request.getfixturevalue(f"{request.param}_events")
    return found


async def test_what_is_told_is_kept_with_all_that_is_known(events: EventsUnderTest) -> None:
    await events.store.add([EVENT, BARE])
    assert set(events.kept()) == {EVENT, BARE}


async def test_nothing_told_keeps_nothing(events: EventsUnderTest) -> None:
    await events.store.add([])
    assert events.kept() == []


async def test_the_same_event_is_kept_once_however_often_it_is_told(events: EventsUnderTest) -> None:
    await events.store.add([EVENT, EVENT])
    await asyncio.gather(*(events.store.add([EVENT, BARE]) for _ in range(5)))
    assert len(events.kept()) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"at": EVENT.at + 0.001},
        {"kind": EventKind.NODE_FAILED},
        {"cause": "ann@example.com"},
        {"message": "Node i-1 drains: put to sleep by hand."},
        {"model": None},
        {"node": NodeId("i-2")},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_events_that_differ_in_anything_are_two(events: EventsUnderTest, other: dict[str, Any]) -> None:
    await events.store.add([EVENT])
    await events.store.add([replace(EVENT, **other)])
    assert set(events.kept()) == {EVENT, replace(EVENT, **other)}


async def test_an_event_whose_reply_was_lost_is_told_again_and_kept_once(events: EventsUnderTest, desk: Desk) -> None:
    if isinstance(events, InMemory):
        events.store.broken.lose_reply("add")
    else:
        desk.faults.add(Fault("lose_reply", "dynamodb:PutItem", times=ATTEMPTS))
    with pytest.raises(Unavailable):
        await events.store.add([EVENT])
    await events.store.add([EVENT])
    assert events.kept() == [EVENT]


async def test_a_store_that_says_not_now_is_unavailable_and_keeps_nothing(events: EventsUnderTest, desk: Desk) -> None:
    if isinstance(events, InMemory):
        events.store.broken.fail("add")
    else:
        desk.faults.add(Fault("throttle", "dynamodb:PutItem", times=ATTEMPTS))
    with pytest.raises(Unavailable):
        await events.store.add([EVENT, BARE])
    assert events.kept() == []


# -- the table


async def test_a_day_s_events_stand_under_one_key_in_the_order_of_time(dynamo_events: InTable) -> None:
    later = replace(BARE, at=MIDNIGHT + 9.5)
    latest = replace(BARE, at=MIDNIGHT + 10.0)
    await dynamo_events.store.add([latest, EVENT, later, BARE])
    rows = dynamo_events.rows()
    assert [_event(row) for row in rows] == [EVENT, BARE, later, latest]
    assert [row["day"] for row in rows] == ["2026-11-18", *["2026-11-19"] * 3]
    assert rows[0]["at_id"].startswith("2026-11-18T23:59:59.750000Z#")


async def test_an_event_goes_after_a_month_and_says_nothing_that_it_does_not_know(dynamo_events: InTable) -> None:
    await dynamo_events.store.add([BARE])
    (row,) = dynamo_events.rows()
    assert schema.EVENTS.ttl is not None
    assert row[schema.EVENTS.ttl] == BARE.at + KEEP_EVENTS_S
    assert row.keys() == {"day", "at_id", "expires_at", "at", "kind", "cause", "message"}
