"""Notices are sent at least once, as the same notice each time, by one sender, and never for ever."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from control_plane.errors import Unavailable
from control_plane.event import EventKind
from control_plane.event_log import EventLog
from control_plane.infra.functions import TIMEOUT_S
from control_plane.notice import Notice, NoticeAdapters
from control_plane.notifier import AGAIN_S, GATHER_S, MAX_ATTEMPTS, PAGE, Notifier
from tests.memory import FakeClock, Faults, MemoryEvents
from tests.memory_notices import MemoryChannel, MemoryNotices

EVERY_S = 120.0


@dataclass
class World:
    """A log, a store, one channel, and as many senders as a test makes."""

    clock: FakeClock = field(default_factory=FakeClock)
    events: MemoryEvents = field(default_factory=MemoryEvents)
    store: MemoryNotices = field(default_factory=MemoryNotices)
    channel: MemoryChannel = field(default_factory=MemoryChannel)

    def __post_init__(self) -> None:
        self.log = EventLog(self.events, clock=self.clock, writer="test", cause="control plane")

    def notifier(self, *channels: MemoryChannel) -> Notifier:
        outside = NoticeAdapters(self.store, channels or [self.channel])
        return Notifier(self.events, outside, self.log, clock=self.clock, deployment="d")

    async def fail(self, name: str) -> None:
        """A start failed, of a model of its own."""
        self.log.tell(EventKind.START_FAILED, name, model=name, data={"code": "x"})
        await self.log.flush()

    async def rest(self) -> None:
        """Something that nobody is told of."""
        self.log.tell(EventKind.NODE_READY, "ready")
        await self.log.flush()

    async def rounds(self, count: int, every_s: float = EVERY_S) -> None:
        """Each in a process of its own."""
        for _ in range(count):
            await self.notifier().round()
            self.clock.step(every_s)

    @property
    def kinds(self) -> Counter[EventKind]:
        return Counter(event.kind for event in self.events.kept)


async def test_an_event_is_sent_at_once_and_what_follows_is_gathered() -> None:
    world = World()
    await world.rest()
    await world.fail("a")
    await world.rounds(1)
    assert world.channel.messages == ["a"]
    await world.fail("b")
    await world.rounds(2)
    await world.fail("c")
    assert len(world.channel.sent) == 1
    await world.rounds(int(GATHER_S // EVERY_S))
    assert [[entry.event.message for entry in notice.entries] for notice in world.channel.sent] == [["a"], ["b", "c"]]
    await world.rounds(20)
    assert len(world.channel.sent) == 2


async def test_where_nothing_is_to_be_told_nothing_is_sent_and_the_log_is_read_once() -> None:
    world = World()
    for _ in range(PAGE + 5):
        await world.rest()
    await world.rounds(1)
    (row,) = world.store.rows.values()
    assert (row.done, row.upto, world.channel.sent) == (PAGE + 5, 0, [])
    await world.rounds(3)
    assert world.store.rows["mail"].version == row.version


async def test_what_is_further_on_in_a_long_log_is_found_and_sent_with_what_came_before() -> None:
    world = World()
    await world.fail("first")
    for _ in range(2 * PAGE):
        await world.rest()
    await world.fail("last")
    await world.rounds(1)
    assert world.channel.messages == ["first", "last"]


async def test_a_channel_that_takes_nothing_is_tried_ever_more_rarely_and_holds_up_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    mail, webhook = MemoryChannel("mail"), MemoryChannel("webhook")
    webhook.broken.fail("send", times=3)
    await world.fail("a")
    tries = []
    for _ in range(20):
        before = len(caplog.records)
        await world.notifier(mail, webhook).round()
        tries.append("notice not sent" in [record.message for record in caplog.records[before:]])
        world.clock.step(60.0)
    assert [minute for minute, tried in enumerate(tries) if tried] == [0, 2, 6]
    assert mail.messages == webhook.messages == ["a"]
    assert mail.sent[0].id == webhook.sent[0].id


async def test_what_nobody_takes_is_given_up_and_that_is_an_event_and_what_comes_later_is_sent() -> None:
    world = World()
    world.channel.broken.fail("send", times=MAX_ATTEMPTS)
    await world.fail("a")
    await world.rounds(400, 60.0)
    await world.log.flush()
    assert world.kinds[EventKind.NOTICE_GIVEN_UP] == 1
    told = world.events.kept[-1]
    assert told.message == "An event could not be sent by mail in 10 attempts."
    assert told.data == {"channel": "mail", "events": 1, "last": "000000000001"}
    await world.fail("b")
    await world.rounds(2)
    assert world.channel.messages == ["b"]


async def test_what_was_taken_is_sent_again_only_where_nobody_wrote_that_down_and_as_the_same_notice() -> None:
    world = World()
    await world.fail("a")

    class Crashing(MemoryChannel):
        async def send(self, notice: Notice) -> None:
            self.sent.append(notice)
            world.store.broken.fail("write")

    crashing = Crashing()
    await world.notifier(crashing).round()
    await world.fail("b")
    await world.rounds(1)
    assert world.channel.sent == []  # its attempt is held to go on still
    world.clock.step(AGAIN_S)
    await world.rounds(1)
    assert [notice.id for notice in world.channel.sent] == [notice.id for notice in crashing.sent]
    assert world.channel.sent == crashing.sent


async def test_a_process_that_dies_at_every_attempt_does_not_send_for_ever() -> None:
    world = World()
    await world.fail("a")
    sent = 0

    class Dying(MemoryChannel):
        async def send(self, notice: Notice) -> None:
            nonlocal sent
            sent += 1
            raise asyncio.CancelledError

    begun_at, last_at = world.clock(), 0.0
    for _ in range(20 * MAX_ATTEMPTS):
        before = sent
        with suppress(asyncio.CancelledError):
            await world.notifier(Dying()).round()
        last_at = world.clock() if sent > before else last_at
        world.clock.step(EVERY_S)
    assert sent == MAX_ATTEMPTS
    assert last_at - begun_at > 4 * 3600  # what is away for an evening gets it all the same


async def test_a_mistake_in_one_channel_cuts_off_no_other_and_is_not_hidden() -> None:
    world = World()
    await world.fail("a")

    class Mistaken(MemoryChannel):
        async def send(self, notice: Notice) -> None:
            raise ZeroDivisionError

    class Slow(MemoryChannel):
        async def send(self, notice: Notice) -> None:
            for _ in range(20):
                await asyncio.sleep(0)
            await super().send(notice)

    slow = Slow("webhook")
    with pytest.raises(ZeroDivisionError):
        await world.notifier(Mistaken("mail"), slow).round()
    assert slow.messages == ["a"]
    assert world.store.rows["webhook"].done == 1


async def test_of_two_at_a_time_one_sends() -> None:
    world = World()
    await world.fail("a")
    await asyncio.gather(*(world.notifier().round() for _ in range(5)))
    assert world.channel.messages == ["a"]


@pytest.mark.parametrize("method", ["read", "write"])
async def test_a_table_that_is_away_harms_nothing(method: str, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    await world.fail("a")
    world.store.broken.fail(method)
    await world.rounds(1)
    assert (caplog.records[-1].message, world.channel.sent) == ("notices not looked at", [])
    await world.rounds(1)
    assert world.channel.messages == ["a"]


async def test_a_log_that_cannot_be_read_harms_nothing() -> None:
    world = World()
    await world.fail("a")
    world.events.broken.fail("after")
    await world.rounds(2)
    assert world.channel.messages == ["a"]


async def test_what_has_gone_from_the_log_before_it_was_sent_is_done() -> None:
    world = World()
    world.channel.broken.fail("send")
    await world.fail("a")
    await world.rounds(1)
    world.events.first = 2
    await world.rounds(3)
    assert (world.store.rows["mail"].done, world.store.rows["mail"].upto, world.channel.sent) == (1, 0, [])


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_fails_every_event_arrives_in_one_notice_and_none_is_sent_too_often(seed: int) -> None:
    """Lost writes, lost replies, channels that take it and say otherwise, two senders, deaths in between."""
    world, chance, told = World(), random.Random(seed), 0
    for _ in range(60):
        if chance.random() < 0.2:
            await world.fail(f"{told}")
            told += 1
        for outside, method in ((world.store, "write"), (world.channel, "send"), (world.events, "after")):
            outside.broken = Faults()
            if chance.random() < 0.2:
                chance.choice([outside.broken.fail, outside.broken.lose_reply])(method)
        await _round(world, chance)
        world.clock.step(chance.uniform(1.0, 400.0))
    await world.rounds(50)
    notices_of: dict[str, set[str]] = {}
    for notice in world.channel.sent:
        for entry in notice.entries:
            notices_of.setdefault(entry.event.message, set()).add(notice.id)
    assert set(notices_of) == {f"{number}" for number in range(told)}
    assert all(len(ids) == 1 for ids in notices_of.values())
    assert all(times <= MAX_ATTEMPTS for times in Counter(notice.id for notice in world.channel.sent).values())


async def _round(world: World, chance: random.Random) -> None:
    """One, or two at a time, which may be cut off anywhere."""
    tasks = [asyncio.create_task(world.notifier().round()) for _ in range(chance.choice([1, 1, 2]))]
    for _ in range(chance.choice([0, 1, 3, 1000])):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        assert ended is None or isinstance(ended, asyncio.CancelledError | Unavailable)


def test_an_attempt_is_held_for_longer_than_a_function_lives() -> None:
    assert AGAIN_S > TIMEOUT_S
