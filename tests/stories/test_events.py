"""Every change is told, and who listens hears each once, however often the line is cut."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx

from control_plane.event import EventKind
from control_plane.event_log import EventLog
from control_plane.ports import Launch
from gpu_node.protocol import Failure
from tests.api.test_events import messages
from tests.stories.clients import answer
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment

RECONNECTS = 1000
STREAM = "/api/events/stream"

ELSEWHERE = {
    EventKind.TASKS_SET: "nothing stands in front in a story: tests/night",
    EventKind.LISTENER_TURNED: "nothing stands in front in a story: tests/night",
    EventKind.FRONT_MOVED: "nothing stands in front in a story: tests/night",
    EventKind.WAKE_FAILED: "nothing stands in front in a story: tests/night/test_waking.py",
    EventKind.TASK_FAILED: "ECS tells the janitor: tests/night/test_rounds.py",
    EventKind.NODE_FAILED: "a node that never spoke: tests/night/test_janitor.py",
    EventKind.LAUNCH_ABANDONED: "a launch whose end nobody knows: tests/night/test_janitor.py",
    EventKind.SIGNED_IN: "a provider is needed: tests/people/test_sign_in.py",
    EventKind.SIGN_IN_REFUSED: "a provider is needed: tests/people/test_sign_in.py",
    EventKind.SIGNED_OUT: "a provider is needed: tests/people/test_sign_in.py",
    EventKind.BUDGET_WARNED: "a month's spend: tests/unit/test_chronicle.py",
    EventKind.BUDGET_REACHED: "a month's spend: tests/unit/test_chronicle.py",
    EventKind.BUDGET_EXCEEDED: "a month's spend: tests/unit/test_chronicle.py",
    EventKind.ALLOWLIST_CHANGED: "an owner's session: tests/people/test_sign_in.py",
    EventKind.BUDGET_CHANGED: "an owner's session: tests/people/test_sign_in.py",
    EventKind.NOTICE_GIVEN_UP: "a channel that takes nothing: tests/unit/test_notifier.py",
}
"""Kinds that another place produces."""


# -- nothing lost, nothing repeated


async def _write(world: World, writer: str, rng: random.Random, total: int) -> None:
    """One process among several, whose store fails now and then."""
    log = EventLog(world.events, clock=world.clock, writer=writer, cause=writer)
    for number in range(total):
        log.tell(EventKind.TASKS_SET, f"{writer} {number}")
        if rng.random() < 0.05:
            (world.events.broken.fail if rng.random() < 0.5 else world.events.broken.lose_reply)("add")
        await log.settle(1.0)
        await asyncio.sleep(rng.random() * 2)
    while log.waiting:
        await log.settle(1.0)


async def _hear(world: World, http: httpx.AsyncClient, cursor: str, most: int) -> list[str]:
    """Listens until so many messages came or nothing did for a while, and hangs up in the middle of whatever comes."""
    heard: list[str] = []
    with suppress(TimeoutError, httpx.HTTPError):
        async with (
            asyncio.timeout(3.0),
            http.stream("GET", f"{world.url}{STREAM}", headers={"last-event-id": cursor}) as reply,
        ):
            async for message in messages(reply):
                if message.data:
                    assert json.loads(message.data)["id"] == message.id
                    heard.append(message.id)
                if len(heard) >= most:
                    break
    return heard


@story
async def test_over_a_thousand_reconnects_nothing_is_lost_and_nothing_repeated() -> None:
    rng = random.Random(7)
    async with deployment() as world, world.http() as http:
        cursor, heard = "0", list[str]()
        writers = [
            asyncio.create_task(_write(world, writer, random.Random(seed), 350)) for seed, writer in enumerate("abc")
        ]
        for connect in range(RECONNECTS):
            if connect % 100 == 99:  # another task answers
                port = world.port
                async with world.control_plane():
                    got = await _hear(world, http, cursor, rng.randint(0, 4))
                world.port = port
            else:
                got = await _hear(world, http, cursor, rng.randint(0, 4))
            heard += got
            cursor = got[-1] if got else cursor
        await asyncio.gather(*writers)
        heard += await _hear(world, http, cursor, 10**6)
        assert heard == [entry.id for entry in world.events.entries]
        assert len(heard) >= 3 * 350


# -- every kind


async def _told(world: World) -> set[EventKind]:
    await asyncio.sleep(10)
    return {event.kind for event in world.events.kept}


@story
async def test_every_kind_of_event_is_told_by_what_people_and_machines_do() -> None:
    async with deployment(idleTimeout=100) as world, world.openai() as client, world.http() as http:
        await answer(client)
        made = (await http.post("/api/keys", json={"name": "second"})).json()
        await http.delete(f"/api/keys/{made['key_id']}")
        await http.patch(f"/api/models/{MODEL}", json={"idleTimeout": 90})
        await http.put(f"/api/models/{MODEL}/keep-awake", json={"until": world.clock() + 60})
        await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 0})
        await world.until_gone(200)
        world.boot.failure = Failure("gated_model", "The model is gated.", "Ask for access.", permanent=True)
        await http.post("/v1/chat/completions", json=_ask())
        world.boot.failure = None
        await world.cloud.launch(Launch("by-hand", MODEL, f"group-{MODEL}", "a", "on-demand", world.clock()))
        await asyncio.sleep(60)
        await world.until_gone(300)
        await _refused_launch(world, http)
        assert await _told(world) == set(EventKind) - set(ELSEWHERE)


async def _refused_launch(world: World, http: httpx.AsyncClient) -> None:
    from control_plane.errors import NoCapacity

    world.models.rows[MODEL] = replace(world.models.rows[MODEL], failure=None, failures=0)
    for zone in ("a", "b"):
        world.cloud.refusals[f"group-{MODEL}", zone] = NoCapacity("InsufficientInstanceCapacity", "none")
    await http.post("/v1/chat/completions", json=_ask())


def _ask() -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "secret words"}]}


@story
async def test_what_people_say_is_in_no_event() -> None:
    async with deployment() as world, world.http() as http:
        await http.post("/v1/chat/completions", json=_ask())
        await asyncio.sleep(10)
        assert world.events.kept
        assert "secret words" not in str(world.events.kept)
        assert world.api_key not in str(world.events.kept)


@story
async def test_a_task_that_takes_over_tells_no_phase_again() -> None:
    async with deployment() as world:
        async with world.http() as http:
            asking = asyncio.create_task(http.post("/v1/chat/completions", json=_ask()))
            await asyncio.sleep(45)
            async with world.control_plane():
                await asyncio.sleep(60)
                await asking
        await asyncio.sleep(10)
        phases = [(event.node, event.data["phase"]) for event in world.events.kept if event.kind == "node-phase"]
        assert len(phases) == len(set(phases)) == 1


@story
async def test_a_log_that_nobody_can_write_costs_no_answer() -> None:
    async with deployment() as world, world.openai() as client:
        for method in ("add", "end", "before"):
            world.events.broken.fail(method, times=10**4)
        assert await answer(client) == "Hello there!"
