"""More ask while all sleeps than can be held: stock clients come back, and all are answered."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from control_plane.adapters import FrontAdapters
from control_plane.api_keys import ApiKeys
from control_plane.exchange import Receive, Scope, Send
from control_plane.http_server import configured, serving
from control_plane.night import night_app
from control_plane.settings import Settings
from tests.night.stage import MemoryFront, MemoryHolds, MemoryStage
from tests.night.test_waking import LoopClock
from tests.stories.clients import answer, streamed
from tests.stories.virtual import story
from tests.stories.world import World

MOST = 3
CROWD = 14
HELLO = "Hello there!"


@dataclass
class Asleep:
    """All sleeps; ``url`` is the load balancer's, and behind it is whoever it faces."""

    world: World
    stage: MemoryStage
    holds: MemoryHolds
    url: str
    refused: int = 0  # by the night watch

    def client(self, **options: int) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.world.api_key, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def asleep(*, wake_s: float) -> AsyncIterator[Asleep]:
    stage, holds = MemoryStage(LoopClock(), start_s=wake_s), MemoryHolds()
    front = FrontAdapters(MemoryFront(), stage, holds)
    world = World(Settings(max_holds=MOST), front=front)
    world.fence.clock = world.clock
    await world.add_model()
    keys = ApiKeys(world.keys, clock=world.clock, entropy=lambda size: b"k" * size)
    world.api_key, _ = await keys.create(email="ann@example.com", name="story")
    night = night_app(world.settings, world.adapters(), front, clock=world.clock)

    async def faced(scope: Scope, receive: Receive, send: Send) -> None:
        async def seen(message: MutableMapping[str, Any]) -> None:
            sleeping.refused += message.get("status") == 503
            await send(message)

        await (world.plane.app(scope, receive, send) if stage.facing else night(scope, receive, seen))

    config = configured(faced, timeout_keep_alive=75, timeout_graceful_shutdown=1)
    listening = socket.create_server(("127.0.0.1", 0), backlog=config.backlog)
    sleeping = Asleep(world, stage, holds, f"http://127.0.0.1:{listening.getsockname()[1]}")
    over = asyncio.Event()
    running = [asyncio.create_task(world.run_machines()), asyncio.create_task(_task(world, stage, over))]
    try:
        async with serving(config, listening):
            yield sleeping
    finally:
        over.set()
        await running.pop()
        for task in (*running, *world._machines.values()):
            task.cancel()
        for engine in world.engines.values():
            engine.kill()


async def _task(world: World, stage: MemoryStage, over: asyncio.Event) -> None:
    """What ECS does when one is wanted: it is up by the time that it is found healthy."""
    while not stage.healthy and not over.is_set():  # noqa: ASYNC110 - virtual time makes no event
        await asyncio.sleep(0.1)
    async with world.control_plane():
        await over.wait()


@story
@pytest.mark.parametrize("wake_s", [40.0, 75.0, 110.0])
async def test_all_of_a_crowd_are_answered_though_few_can_be_held(wake_s: float) -> None:
    async with asleep(wake_s=wake_s) as sleeping, sleeping.client() as client:
        asking = [streamed(client) if number % 2 else answer(client) for number in range(CROWD)]
        assert await asyncio.gather(*asking) == [HELLO] * CROWD
        assert sleeping.holds.peak == MOST
        assert sleeping.refused >= CROWD - MOST
        assert len(sleeping.world.launches.rows) == 0
        assert len(sleeping.world.living) == 1


@story
async def test_whoever_comes_while_a_crowd_waits_is_answered_as_well() -> None:
    async with asleep(wake_s=100.0) as sleeping, sleeping.client() as client:
        asking = []
        for number in range(CROWD):
            asking.append(asyncio.create_task(streamed(client) if number % 2 else answer(client)))
            await asyncio.sleep(7.0)
        assert await asyncio.gather(*asking) == [HELLO] * CROWD
        assert sleeping.holds.peak == MOST


@story
async def test_a_client_that_never_comes_back_is_told_why_and_what_to_do() -> None:
    async with asleep(wake_s=60.0) as sleeping, sleeping.client() as client, sleeping.client(max_retries=0) as once:
        asking = [asyncio.create_task(answer(client)) for _ in range(MOST)]
        await asyncio.sleep(5.0)
        began = sleeping.world.clock()
        with pytest.raises(openai.InternalServerError) as raised:
            await answer(once)
        assert (raised.value.code, raised.value.response.headers["retry-after"]) == ("model_starting", "59")
        assert sleeping.world.clock() - began < 1
        assert await asyncio.gather(*asking) == [HELLO] * MOST
