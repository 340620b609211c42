"""The promises of EventStore: one order for all writers, no gap, no repetition, whatever is lost on the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane import schema
from control_plane.aws_session import aws_session
from control_plane.dynamo import DynamoEvents, open_dynamo
from control_plane.dynamo.events import KEEP_EVENTS_S, LATE_S, PAGE, settled
from control_plane.errors import Unavailable
from control_plane.event import Entry, Event, EventKind
from control_plane.nodes import NodeId
from control_plane.ports import EventStore
from gpu_node.protocol import from_attributes
from rehearsal.faults import Fault
from tests.contract.under_test import Desk
from tests.memory import FakeClock, MemoryEvents

ATTEMPTS = 3  # of the SDK
FAR = 10**9
AT = 1_795_046_400.0
EVENT = Event(
    AT - 0.25,
    EventKind.NODE_DRAINING,
    "janitor",
    "Node i-1 drains: idle.",
    model="org/small",
    node=NodeId("i-1"),
    data={"reason": "idle", "seconds": 1.5, "nodes": 2, "by_hand": True, "until": None},
)
BARE = Event(AT + 1.0, EventKind.TASKS_SET, "janitor", "The number of the control plane's tasks was set to 0.")


class EventsUnderTest(Protocol):
    """A store, and a way to break it."""

    @property
    def store(self) -> EventStore: ...

    def lose_reply(self) -> None: ...

    def refuse(self) -> None: ...

    def silence(self) -> None:
        """The next read fails."""


@dataclass(frozen=True)
class InMemory:
    store: MemoryEvents

    def lose_reply(self) -> None:
        self.store.broken.lose_reply("add")

    def refuse(self) -> None:
        self.store.broken.fail("add")

    def silence(self) -> None:
        for method in ("end", "after", "before"):
            self.store.broken.fail(method)


@dataclass(frozen=True)
class InTable:
    store: DynamoEvents
    table: str
    desk: Desk

    def lose_reply(self) -> None:
        self.desk.faults.add(Fault("lose_reply", "dynamodb:TransactWriteItems", times=ATTEMPTS))

    def refuse(self) -> None:
        self.desk.faults.add(Fault("throttle", "dynamodb:TransactWriteItems", times=ATTEMPTS))

    def silence(self) -> None:
        self.desk.faults.add(Fault("throttle", "dynamodb:GetItem", times=ATTEMPTS))

    def rows(self) -> Sequence[dict[str, Any]]:
        items = boto3.client("dynamodb").scan(TableName=self.table)["Items"]
        return sorted(map(from_attributes, items), key=lambda row: (row["page"], row["entry"]))

    def expire(self, *numbers: int) -> None:
        """What DynamoDB does a while after a row's time, in whatever order."""
        client = boto3.client("dynamodb")
        for row in self.rows():
            if row["entry"].isdigit() and int(row["entry"]) in numbers:
                key = {"page": {"S": row["page"]}, "entry": {"S": row["entry"]}}
                client.delete_item(TableName=self.table, Key=key)


@pytest.fixture
async def dynamo_events(tables: None, desk: Desk, namespace: str, clock: FakeClock) -> AsyncIterator[InTable]:
    async with open_dynamo(aws_session()) as client:
        store = DynamoEvents(client, namespace, clock=clock)
        yield InTable(store, schema.EVENTS.full_name(namespace), desk)


@pytest.fixture
def memory_events() -> InMemory:
    return InMemory(MemoryEvents())


@pytest.fixture(params=["memory", "dynamo"])
def events(request: pytest.FixtureRequest) -> EventsUnderTest:
    found: EventsUnderTest = request.getfixturevalue(f"{request.param}_events")
    return found


def numbered(count: int) -> list[Event]:
    return [replace(BARE, message=f"Number {number}.") for number in range(1, count + 1)]


async def everything(store: EventStore) -> list[Event]:
    """Read to the end, in small steps; numbers must follow one another."""
    found: list[Entry] = []
    number = 0
    while True:
        stretch = await store.after(number, limit=7)
        if stretch.reached == number:
            break
        found += stretch.entries
        number = stretch.reached
    assert [entry.number for entry in found] == list(range(1, len(found) + 1))
    return [entry.event for entry in found]


async def fill(store: EventStore, events: Sequence[Event], *, writer: str = "w") -> None:
    for number, start in enumerate(range(0, len(events), 50), 1):
        await store.add(events[start : start + 50], writer=writer, number=number)


# -- writing


async def test_what_is_told_is_kept_with_all_that_is_known(events: EventsUnderTest) -> None:
    await events.store.add([EVENT, BARE], writer="w", number=1)
    stretch = await events.store.after(0, limit=10)
    assert [(entry.id, entry.event) for entry in stretch.entries] == [("000000000001", EVENT), ("000000000002", BARE)]
    assert stretch.reached == await events.store.end() == 2


async def test_nothing_told_keeps_nothing(events: EventsUnderTest) -> None:
    await events.store.add([], writer="w", number=1)
    assert await events.store.end() == 0
    assert (await events.store.after(0, limit=10)).entries == []
    assert (await events.store.before(FAR, limit=10)).entries == []


async def test_a_batch_counts_once_however_often_it_is_sent(events: EventsUnderTest) -> None:
    told = await asyncio.gather(*(events.store.add([EVENT, BARE], writer="w", number=1) for _ in range(5)))
    assert sorted(told) == [False, False, False, False, True]  # and each is told whether it was the one
    assert await events.store.add([EVENT], writer="w", number=2)
    assert not await events.store.add([EVENT, BARE], writer="w", number=1)
    assert await everything(events.store) == [EVENT, BARE, EVENT]


async def test_the_same_said_by_two_is_two_events(events: EventsUnderTest) -> None:
    await events.store.add([EVENT], writer="w", number=1)
    await events.store.add([EVENT], writer="v", number=1)
    assert await everything(events.store) == [EVENT, EVENT]


async def test_a_batch_whose_reply_was_lost_is_sent_again_and_counts_once(events: EventsUnderTest) -> None:
    events.lose_reply()
    with pytest.raises(Unavailable):
        await events.store.add([EVENT, BARE], writer="w", number=1)
    await events.store.add([EVENT, BARE], writer="w", number=1)
    assert await everything(events.store) == [EVENT, BARE]


async def test_a_store_that_says_not_now_is_unavailable_and_keeps_nothing(events: EventsUnderTest) -> None:
    events.refuse()
    with pytest.raises(Unavailable):
        await events.store.add([EVENT, BARE], writer="w", number=1)
    assert await everything(events.store) == []


async def test_a_log_that_cannot_be_read_says_so(events: EventsUnderTest) -> None:
    await events.store.add([EVENT], writer="w", number=1)
    events.silence()
    with pytest.raises(Unavailable):
        await events.store.end()
    assert await events.store.end() == 1


async def test_writers_at_the_same_time_get_an_order_and_each_keeps_its_own(events: EventsUnderTest) -> None:
    told = {writer: [replace(BARE, cause=writer, message=f"{n}") for n in range(6)] for writer in "abc"}

    async def write(writer: str) -> None:
        for number, event in enumerate(told[writer], 1):
            while True:
                with contextlib.suppress(Unavailable):  # too many at a time: again, as everybody does
                    await events.store.add([event], writer=writer, number=number)
                    break

    followed: list[Event] = []

    async def follow() -> None:
        number = 0
        while len(followed) < 18:
            stretch = await events.store.after(number, limit=3)
            followed.extend(entry.event for entry in stretch.entries)
            number = stretch.reached
            await asyncio.sleep(0)

    await asyncio.gather(follow(), *map(write, "abc"))
    assert followed == await everything(events.store)
    for writer in "abc":
        assert [event for event in followed if event.cause == writer] == told[writer]


# -- reading


async def test_it_is_read_in_steps_from_either_end_across_pages(events: EventsUnderTest) -> None:
    told = numbered(PAGE + 20)
    await fill(events.store, told)
    assert await everything(events.store) == told
    backwards: list[Event] = []
    number = FAR
    while number > 1:
        stretch = await events.store.before(number, limit=100)
        backwards += [entry.event for entry in stretch.entries]
        number = stretch.reached
    assert backwards == told[::-1]


async def test_who_reads_past_the_end_stays_where_it_is(events: EventsUnderTest) -> None:
    await events.store.add([EVENT], writer="w", number=1)
    assert await events.store.after(1, limit=5) == await events.store.after(1, limit=5)
    assert (await events.store.after(1, limit=5)).reached == 1
    assert (await events.store.before(1, limit=5)).entries == []


# -- the table


async def test_an_event_goes_after_a_month_and_a_writer_after_any_month(
    dynamo_events: InTable, clock: FakeClock
) -> None:
    await dynamo_events.store.add([BARE], writer="w", number=1)
    rows = {row["entry"]: row for row in dynamo_events.rows()}
    assert schema.EVENTS.ttl == "expires_at"
    assert rows["000000000001"]["expires_at"] == BARE.at + KEEP_EVENTS_S
    assert rows["w"]["expires_at"] > clock() + 31 * 86400  # what is told once a month is known for as long
    assert "expires_at" not in rows["head"]  # else the numbers began anew


async def test_what_expired_is_passed_over_in_whatever_order_it_went(dynamo_events: InTable, clock: FakeClock) -> None:
    await fill(dynamo_events.store, numbered(120))
    clock.step(KEEP_EVENTS_S)
    await dynamo_events.store.add([EVENT], writer="late", number=1)
    dynamo_events.expire(*range(1, 41), *range(43, 60), 120)
    fresh = DynamoEvents(dynamo_events.store._rows._client, dynamo_events.table.removesuffix("-events"), clock=clock)
    stretch = await fresh.after(0, limit=200)
    assert [entry.number for entry in stretch.entries] == [41, 42, *range(60, 120), 121]
    assert stretch.reached == 121


async def test_a_log_of_which_all_expired_is_read_to_its_end(dynamo_events: InTable, clock: FakeClock) -> None:
    await fill(dynamo_events.store, numbered(60))
    clock.step(KEEP_EVENTS_S)
    dynamo_events.expire(*range(1, 61))
    assert await dynamo_events.store.after(0, limit=10) == await dynamo_events.store.after(0, limit=10)
    assert (await dynamo_events.store.after(0, limit=10)).reached == 60
    assert (await dynamo_events.store.before(FAR, limit=10)).reached == 1


async def test_a_row_of_a_batch_that_does_not_show_yet_is_waited_for(dynamo_events: InTable) -> None:
    await dynamo_events.store.add(numbered(3), writer="w", number=1)
    row = next(row for row in dynamo_events.rows() if row["entry"] == "000000000002")
    dynamo_events.expire(2)
    assert await dynamo_events.store.end() == 1
    assert [entry.number for entry in (await dynamo_events.store.after(0, limit=9)).entries] == [1]
    assert [entry.number for entry in (await dynamo_events.store.before(FAR, limit=9)).entries] == [1]
    await dynamo_events.store._rows.insert(row)
    assert [entry.number for entry in (await dynamo_events.store.after(1, limit=9)).entries] == [2, 3]


# -- what may be read, whatever shows


@dataclass(frozen=True)
class Log:
    """Batches as they were written, and what of them is gone or does not show yet."""

    sizes: Sequence[int]
    ages: Sequence[float]  # of each batch, oldest first, falling
    expired: int  # so many of the oldest batches are past their time: of them, any row may be gone
    gone: frozenset[int]
    late: frozenset[int]  # of the newest batch


@st.composite
def logs(draw: st.DrawFn) -> Log:
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=8))
    expired = draw(st.integers(0, len(sizes)))
    ages = [KEEP_EVENTS_S + 100.0 - place for place in range(expired)]
    ages += [50.0 - place for place in range(len(sizes) - expired)]
    bounds = [sum(sizes[:place]) for place in range(len(sizes) + 1)]
    gone = draw(st.frozensets(st.integers(1, bounds[expired]))) if expired else frozenset()
    newest = st.integers(bounds[-2] + 1, bounds[-1])
    late = draw(st.frozensets(newest)) if expired < len(sizes) else frozenset()
    return Log(sizes, ages, expired, gone, late)


@given(logs())
def test_nothing_is_read_beyond_a_row_that_will_still_show_and_nothing_waits_for_one_that_expired(log: Log) -> None:
    now, rows, first = AT, dict[int, dict[str, Any]](), 1
    written = [now - age for age in log.ages]
    for place, size in enumerate(log.sizes):
        since = written[place - 1] if place else 0
        for number in range(first, first + size):
            if number not in log.gone | log.late:
                rows[number] = {"first": first, "written_at": written[place], "since": since}
        first += size
    head: Mapping[str, Any] = {"end": first - 1, "written_at": written[-1]}
    reached = settled(rows, dict(head), lowest=1, now=now)
    assert reached < min(log.late) if log.late else reached == first - 1


async def test_what_a_newer_version_told_is_passed_over_after_a_rollback(dynamo_events: InTable) -> None:
    await fill(dynamo_events.store, numbered(4))
    client = boto3.client("dynamodb")
    for row in dynamo_events.rows():
        if row["entry"].isdigit() and int(row["entry"]) in (2, 4):
            client.update_item(
                TableName=dynamo_events.table,
                Key={"page": {"S": row["page"]}, "entry": {"S": row["entry"]}},
                UpdateExpression="SET #kind = :kind",
                ExpressionAttributeNames={"#kind": "kind"},
                ExpressionAttributeValues={":kind": {"S": "of-tomorrow"}},
            )
    after, before = await dynamo_events.store.after(0, limit=9), await dynamo_events.store.before(9, limit=9)
    assert ([entry.number for entry in after.entries], after.reached) == ([1, 3], 4)
    assert ([entry.number for entry in before.entries], before.reached) == ([3, 1], 1)
    step = await dynamo_events.store.after(3, limit=1)
    assert (step.entries, step.reached) == ([], 4)


def test_late_is_far_from_both() -> None:
    assert 60 < LATE_S < KEEP_EVENTS_S / 100
