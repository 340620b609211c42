"""One line and one entry for each event; the log's absence is nobody's trouble."""

from __future__ import annotations

import asyncio
import logging

import pytest

from control_plane.errors import Unavailable
from control_plane.event import Event, EventKind
from control_plane.event_feed import MAX_FOLLOWERS, EventFeed, TooManyStreams
from control_plane.event_log import MAX_BATCH, MAX_QUEUED, EventLog
from control_plane.nodes import NodeId
from tests.memory import FakeClock, MemoryEvents

KIND = EventKind.NODE_DRAINING


def event_log(store: MemoryEvents | None, **options: object) -> EventLog:
    return EventLog(store, clock=FakeClock(1000.0), writer="w", cause="control plane", **options)  # type: ignore[arg-type]


async def test_an_event_is_one_line_at_once_and_one_entry_soon(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = MemoryEvents()
    log = event_log(store)
    log.tell(KIND, "Node i-1 drains: idle.", model="m", node=NodeId("i-1"), data={"reason": "idle"})
    (line,) = caplog.records
    assert (line.message, line.levelname) == ("Node i-1 drains: idle.", "INFO")
    told = {name: getattr(line, name) for name in ("event", "cause", "model", "node", "data")}
    assert told == {
        "event": "node-draining",
        "cause": "control plane",
        "model": "m",
        "node": "i-1",
        "data": {"reason": "idle"},
    }
    assert store.kept == []
    assert log.told.is_set()
    await log.flush()
    assert store.kept == [
        Event(1000.0, KIND, "control plane", "Node i-1 drains: idle.", "m", NodeId("i-1"), {"reason": "idle"})
    ]
    assert len(caplog.records) == 1


async def test_what_went_wrong_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    event_log(None).tell(EventKind.START_FAILED, "A start of m failed: it broke.")
    assert [line.levelname for line in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    "secret", ["dio-abcdefghijklmnop", "hf_abcdefghijklmnop", "sk-abcdefgh1234", "eyJhbGciOiJ9.eyJzdWIiOiI.c2lnbmF0"]
)
async def test_a_key_or_a_token_in_what_an_engine_said_is_taken_out(
    secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryEvents()
    log = event_log(store)
    log.tell(EventKind.START_FAILED, f"The hub refused {secret}.")
    await log.flush()
    assert store.kept[0].message == caplog.records[0].message == "The hub refused [secret]."


async def test_events_leave_in_order_and_in_batches() -> None:
    store = MemoryEvents()
    log = event_log(store)
    for number in range(MAX_BATCH * 2 + 1):
        log.tell(KIND, f"{number}")
    await log.flush()
    assert [event.message for event in store.kept] == [f"{number}" for number in range(MAX_BATCH * 2 + 1)]
    assert log.waiting == 0


@pytest.mark.parametrize("break_", ["fail", "lose_reply"])
async def test_a_store_that_fails_gets_the_same_batch_again_and_counts_it_once(break_: str) -> None:
    store = MemoryEvents()
    log = event_log(store)
    log.tell(KIND, "first")
    getattr(store.broken, break_)("add", times=2)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await log.flush()
        log.tell(KIND, "later")
    await log.flush()
    assert [event.message for event in store.kept] == ["first", "later", "later"]


async def test_two_flushes_at_a_time_write_everything_once() -> None:
    store = MemoryEvents()
    log = event_log(store)
    for number in range(120):
        log.tell(KIND, f"{number}")
    await asyncio.gather(*(log.flush() for _ in range(4)))
    assert [event.message for event in store.kept] == [f"{number}" for number in range(120)]


async def test_a_store_that_stays_away_costs_the_oldest_events_and_says_how_many(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryEvents()
    log = event_log(store)
    for number in range(MAX_QUEUED + 3):
        log.tell(KIND, f"{number}")
    await log.flush()
    assert len(store.kept) == MAX_QUEUED
    assert store.kept[0].message == "3"
    (line,) = [record for record in caplog.records if record.message == "events lost"]
    assert vars(line)["events"] == 3


async def test_who_has_little_time_leaves_what_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryEvents()
    log = event_log(store)
    log.tell(KIND, "first")
    store.broken.fail("add")
    await log.settle(1.0)
    assert caplog.records[-1].message == "events not written"
    await log.settle(1.0)
    assert [event.message for event in store.kept] == ["first"]


async def test_without_a_store_lines_are_all_there_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = event_log(None)
    log.tell(KIND, "first")
    await log.flush()
    assert [line.message for line in caplog.records] == ["first"]
    assert log.waiting == 0


# -- the feed


async def test_a_follower_hears_of_what_this_process_writes_at_once() -> None:
    store = MemoryEvents()
    feed = EventFeed(store, poll_s=1000.0)
    log = event_log(store, written=feed.poke)
    following = feed.follow(0)
    first = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    log.tell(KIND, "first")
    await log.flush()
    assert [entry.event.message for entry in (await first).entries] == ["first"]
    await following.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_a_follower_misses_nothing_of_what_could_not_be_read_for_a_while() -> None:
    store = MemoryEvents()
    feed = EventFeed(store, poll_s=0.001)
    following = feed.follow(0)
    first = asyncio.ensure_future(anext(following))
    for method in ("after", "end"):
        store.broken.fail(method, times=3)
    await event_log_with(store, "first")
    assert [entry.event.message for entry in (await first).entries] == ["first"]
    await following.aclose()  # type: ignore[attr-defined]


async def event_log_with(store: MemoryEvents, message: str) -> None:
    log = event_log(store)
    log.tell(KIND, message)
    await log.flush()


async def test_a_feed_that_is_closed_lets_everybody_go() -> None:
    feed = EventFeed(MemoryEvents())

    async def follow() -> int:
        return sum([1 async for _ in feed.follow(0)])

    followers = [asyncio.create_task(follow()) for _ in range(3)]
    await asyncio.sleep(0)
    feed.close()
    assert await asyncio.gather(*followers) == [0, 0, 0]


async def test_one_follower_too_many_is_told_so() -> None:
    feed = EventFeed(MemoryEvents())
    followers = [asyncio.ensure_future(anext(feed.follow(0))) for _ in range(MAX_FOLLOWERS)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyStreams):
        await anext(feed.follow(0))
    for follower in followers:
        follower.cancel()
    await asyncio.gather(*followers, return_exceptions=True)
