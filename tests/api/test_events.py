"""What happened, over HTTP: pages without gaps in either direction, streams that go on where they were cut."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from control_plane.api_keys import ApiKeys, hash_key
from control_plane.errors import Unavailable
from control_plane.event import EventKind
from control_plane.event_log import EventLog
from control_plane.routes.events import CHECK_S
from tests.api.asking import awake, refusal
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment

EVENTS = "/api/events"
STREAM = "/api/events/stream"


@dataclass
class Heard:
    """One message of a stream."""

    id: str = ""
    event: str = ""
    data: str = ""

    @property
    def told(self) -> Mapping[str, Any]:
        return dict(json.loads(self.data))


async def messages(reply: httpx.Response) -> AsyncIterator[Heard]:
    """What an EventSource makes of it: a message is whole at its empty line, and not before."""
    heard = Heard()
    async for line in reply.aiter_lines():
        name, _, value = line.partition(":")
        if not line and heard != Heard():  # a comment alone is no message
            yield heard
            heard = Heard()
        elif name in ("id", "event", "data"):
            setattr(heard, name, value.removeprefix(" "))


@asynccontextmanager
async def listening(world: World, path: str = STREAM, **headers: str) -> AsyncIterator[AsyncIterator[Heard]]:
    async with world.http(**headers) as http, http.stream("GET", path) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        yield messages(reply)


async def told(world: World, count: int, *, writer: str = "w") -> None:
    log = EventLog(world.events, clock=world.clock, writer=writer, cause=writer)
    for number in range(count):
        log.tell(EventKind.TASKS_SET, f"{number}", model=MODEL if number % 2 else "org/other")
    await log.flush()


async def everything(http: httpx.AsyncClient, **query: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        asked = {**query, **({"before": cursor} if cursor else {})}
        page = (await http.get(EVENTS, params={name: str(value) for name, value in asked.items()})).json()
        found += page["events"]
        cursor = page["next"]
        if cursor is None:
            return found


# -- pages


@story
async def test_what_happened_is_told_newest_first_and_in_full() -> None:
    async with awake() as world, world.http() as http:
        await asyncio.sleep(10)
        found = await everything(http)
        assert [event["id"] for event in found] == sorted((event["id"] for event in found), reverse=True)
        assert [event["kind"] for event in found][::-1] == [
            *("model-woken", "node-launched", "node-phase", "node-ready"),
        ]
        launched = found[2]
        assert launched == {
            "id": "000000000002",
            "at": pytest.approx(world.clock(), abs=100),
            "kind": "node-launched",
            "cause": "control plane",
            "model": MODEL,
            "node": world.living[0],
            "message": f"Node {world.living[0]} was launched for {MODEL}.",
            "data": {},
        }
        assert (found[-1]["cause"], found[-1]["message"]) == (
            "ann@example.com",
            f"ann@example.com woke {MODEL} with a request.",
        )


@story
async def test_pages_have_no_gap_and_no_overlap_whatever_their_size_while_more_is_written() -> None:
    async with deployment() as world, world.http() as http:
        await told(world, 90)
        for limit in (1, 7, 50, 200):
            number = len(world.events.kept)
            writing = asyncio.create_task(told(world, 5, writer=f"later{limit}"))
            found = await everything(http, limit=limit)
            await writing
            ids = [int(event["id"]) for event in found]
            assert ids == list(range(ids[0], 0, -1))
            assert ids[0] >= number


@story
async def test_filters_pass_what_they_name_only_and_still_reach_the_beginning() -> None:
    async with deployment() as world, world.http() as http:
        await told(world, 300)
        found = await everything(http, model=MODEL, kind="tasks-set", limit=20)
        assert len(found) == 150
        assert {event["model"] for event in found} == {MODEL}
        assert await everything(http, kind="node-gone") == []


@story
async def test_who_polls_gets_what_came_after_oldest_first_and_a_cursor_that_stays() -> None:
    async with deployment() as world, world.http() as http:
        await told(world, 5)
        page = (await http.get(EVENTS, params={"after": "000000000002", "limit": "2"})).json()
        assert ([event["id"][-1] for event in page["events"]], page["more"]) == (["3", "4"], True)
        page = (await http.get(EVENTS, params={"after": page["next"]})).json()
        assert ([event["id"][-1] for event in page["events"]], page["more"]) == (["5"], False)
        again = (await http.get(EVENTS, params={"after": page["next"]})).json()
        assert again == {"events": [], "next": page["next"], "more": False}
        none = (await http.get(EVENTS, params={"after": "0", "model": "org/none"})).json()
        assert (none["events"], none["next"]) == ([], "000000000005")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"before": "x"}, "before"),
        ({"after": "-1"}, "after"),
        ({"after": "1" * 13}, "after"),
        ({"after": "٣"}, "after"),
        ({"after": "1", "before": "2"}, "before"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"kind": "gossip"}, "kind"),
        ({"model": "m" * 257}, "model"),
    ],
)
def test_odd_questions_are_refused_by_name(query: Mapping[str, str], param: str) -> None:
    @story
    async def tell() -> None:
        async with deployment() as world, world.http() as http:
            assert refusal(await http.get(EVENTS, params=query), 400)["param"] == param

    tell()


@story
async def test_a_log_that_cannot_be_read_is_told_and_nothing_else_suffers() -> None:
    async with deployment() as world, world.http() as http:
        world.events.broken.fail("end", Unavailable("throttled"), times=1)
        refusal(await http.get(EVENTS), 503, "aws_unavailable")
        assert (await http.get("/api/cluster")).status_code == 200


@story
async def test_nobody_without_a_key_hears_anything() -> None:
    async with deployment() as world, httpx.AsyncClient(base_url=world.url) as stranger:
        for path in (EVENTS, STREAM):
            refusal(await stranger.get(path), 401, "missing_api_key")


# -- streams


@story
async def test_a_stream_tells_what_happens_from_now_on_as_the_pages_do() -> None:
    async with deployment() as world, world.http() as http:
        await told(world, 3)
        async with listening(world) as stream:
            first = await anext(stream)
            assert (first.id, first.data) == ("000000000003", "")
            await http.post("/api/keys", json={"name": "second"})
            heard = await anext(stream)
            assert (heard.event, heard.id) == ("key-created", "000000000004")
            assert heard.told == (await http.get(EVENTS)).json()["events"][0]


@story
async def test_a_filtered_stream_moves_on_past_what_it_does_not_tell() -> None:
    async with deployment() as world, listening(world, f"{STREAM}?kind=node-gone") as stream:
        assert (await anext(stream)).id == "000000000000"
        await told(world, 4)
        passed = await anext(stream)
        assert (passed.id, passed.data) == ("000000000004", "")


@story
async def test_a_stream_that_has_nothing_to_say_shows_that_it_lives() -> None:
    async with deployment() as world, world.http() as http, http.stream("GET", STREAM) as reply:
        start = world.clock()
        async for line in reply.aiter_lines():
            if line.startswith(": ping"):
                break
        assert world.clock() - start <= 16


@story
async def test_a_stream_keeps_nothing_awake() -> None:
    async with awake(idleTimeout=60) as world, listening(world):
        await world.until_gone(100)


@story
async def test_a_task_that_ends_lets_its_listeners_go_and_the_next_tells_them_the_rest() -> None:
    async with deployment() as world:
        async with world.control_plane() as another, listening(world, Last_Event_ID="0") as stream:
            await anext(stream)
            await told(world, 2)
            heard = [await anext(stream), await anext(stream)]
            another.send_away()
            assert [rest async for rest in stream] == []
        await told(world, 2, writer="meanwhile")
        async with world.control_plane(), listening(world, Last_Event_ID=heard[-1].id) as stream:
            await anext(stream)
            assert [(await anext(stream)).id for _ in range(2)] == ["000000000003", "000000000004"]


@story
async def test_an_odd_last_event_id_is_refused() -> None:
    async with deployment() as world, world.http(Last_Event_ID="yesterday") as http:
        assert refusal(await http.get(STREAM), 400, "invalid_cursor")["param"] == "Last-Event-ID"


# -- whose


async def key_of(world: World, email: str) -> str:
    keys = ApiKeys(world.keys, clock=world.clock, entropy=secrets.token_bytes)
    return (await keys.create(email=email, name="theirs"))[0]


@story
async def test_a_stream_ends_soon_after_its_listener_may_not_come_in_any_more() -> None:
    for busy in (False, True):
        async with deployment() as world, listening(world, Last_Event_ID="0") as stream:
            await anext(stream)
            key_hash = hash_key(world.api_key)
            await asyncio.sleep(60)  # nothing happens, and they may: it goes on
            (row,) = await world.keys.list()
            await world.keys.revoke(key_hash, row.email)
            gone_at = world.clock()
            telling = asyncio.create_task(tell_on(world)) if busy else None
            async for _ in stream:
                pass
            assert world.clock() - gone_at <= world.settings.key_cache_s + CHECK_S + 1
            if telling:
                telling.cancel()


async def tell_on(world: World) -> None:
    while True:
        await told(world, 1, writer=secrets.token_hex(4))
        await asyncio.sleep(1)


@story
async def test_a_stream_tells_nobody_of_another_persons_keys() -> None:
    async with deployment() as world:
        key = await key_of(world, "bob@example.com")
        log = EventLog(world.events, clock=world.clock, writer="w", cause="w")
        for email in ("carl@example.com", "bob@example.com"):
            log.tell(EventKind.KEY_CREATED, f"{email} made the key x.", cause=email, data={"key_id": "x"})
        for scope in ("user:carl@example.com", "key:x", "user:bob@example.com", "deployment"):
            log.tell(EventKind.BUDGET_WARNED, "w", data={"scope": scope})
        await log.flush()
        async with listening(world, Last_Event_ID="0", authorization=f"Bearer {key}") as stream:
            heard = [(await anext(stream)), *[await anext(stream) for _ in range(3)]][1:]
        assert [message.told["cause"] for message in heard] == ["bob@example.com", "w", "w"]
        assert [message.told["data"].get("scope") for message in heard[1:]] == ["user:bob@example.com", "deployment"]
        async with listening(world, Last_Event_ID="0") as stream:
            assert len([await anext(stream) for _ in range(7)]) == 7  # the owner hears it all
