"""The load balancer takes a task out while people are answered there: ECS tells it nothing before that is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pytest

from control_plane.adapters import FrontAdapters
from control_plane.ports import Front, FrontState
from control_plane.settings import Settings
from tests.api.asking import ASK, CHAT, awake
from tests.night.stage import MemoryFront, MemoryHolds, MemoryStage
from tests.stories.clients import answer, streamed
from tests.stories.virtual import story
from tests.stories.world import EPOCH, World, deployment

ADDRESS = "10.0.0.8"
DELAY_S, FAREWELL_S, TICK_S = Settings().deregistration_delay_s, Settings().farewell_s, Settings().tick_s


@asynccontextmanager
async def faced() -> AsyncIterator[tuple[World, MemoryStage]]:
    """One node runs, and the load balancer faces the task."""
    stage = MemoryStage(start_s=0.0, desired=1, facing=True, standing=frozenset({ADDRESS}))
    front = FrontAdapters(MemoryFront(Front(FrontState.AWAKE, 1, EPOCH)), stage, MemoryHolds(), ADDRESS)
    async with awake(front=front) as world:
        yield world, stage


async def take_out(world: World, stage: MemoryStage) -> float:
    """When the load balancer's part began."""
    await asyncio.sleep(7)  # at some time between two looks
    stage.draining, stage.standing = frozenset({ADDRESS}), frozenset()
    return world.clock()


async def cold(client: openai.AsyncOpenAI) -> None:
    """A question whose model has no node."""
    await client.chat.completions.create(model="org/other", messages=[{"role": "user", "content": "Hi"}])


@story
async def test_an_answer_that_ends_in_time_is_whole_and_a_longer_one_ends_with_an_error_before_the_cut() -> None:
    async with faced() as (world, stage), world.openai(max_retries=0) as client:
        world.behaviour.tokens, world.behaviour.token_s = ("Hello",) * 60, 1.0
        short = asyncio.create_task(streamed(client))
        await asyncio.sleep(1)
        world.behaviour.tokens = ("more ",) * 400
        long = asyncio.create_task(streamed(client))
        began = await take_out(world, stage)
        assert await short == "Hello" * 60
        with pytest.raises(openai.APIError) as raised:
            await long
        assert raised.value.code == "restarting"
        took = world.clock() - began
        assert DELAY_S - FAREWELL_S - 2 * TICK_S <= took < DELAY_S - 1  # it looks now and then, and nobody is cut


@story
async def test_who_still_uploads_is_sent_back_with_a_status() -> None:
    async with faced() as (world, stage), world.http() as http:
        body = json.dumps(ASK).encode()

        async def slowly() -> AsyncIterator[bytes]:
            yield body[:10]
            await asyncio.sleep(DELAY_S)
            yield body[10:]

        uploads = asyncio.create_task(http.post(CHAT, content=slowly()))
        began = await take_out(world, stage)
        reply = await uploads
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "restarting")
        assert (reply.headers["retry-after"], reply.headers["x-should-retry"]) == ("5", "true")
        assert world.clock() - began < DELAY_S


@story
async def test_what_still_comes_is_served_until_then_and_sent_away_afterwards() -> None:
    async with faced() as (world, stage), world.openai(max_retries=0) as client:
        await take_out(world, stage)
        await asyncio.sleep(DELAY_S / 2)
        assert await streamed(client) == "Hello there!"
        await asyncio.sleep(DELAY_S / 2)
        with pytest.raises(openai.InternalServerError) as raised:
            await answer(client)
        assert raised.value.code == "restarting"


@story
async def test_nobody_new_waits_for_a_start_in_a_task_that_goes() -> None:
    async with faced() as (world, stage), world.http() as http:
        await world.add_model("org/other")
        await take_out(world, stage)
        await asyncio.sleep(2 * TICK_S)
        reply = await http.post(CHAT, json={**ASK, "model": "org/other"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "restarting")


@story
async def test_where_sigterm_comes_first_the_earlier_end_holds_for_those_who_wait() -> None:
    async with faced() as (world, stage):
        world.plane.send_away()
        first = world.plane._ends_at
        await take_out(world, stage)
        await asyncio.sleep(2 * TICK_S)
        assert world.plane._ends_at == min(first, world.plane._ends_at) <= world.clock() + DELAY_S - FAREWELL_S
        world.plane.send_away()
        assert world.plane._ends_at <= first


@story
async def test_what_drains_at_its_address_before_it_stands_there_keeps_a_task_from_nothing() -> None:
    """A task crashed, and the next one has its address, and looks before ECS has registered it."""
    stage = MemoryStage(start_s=0.0, desired=1, facing=True, draining=frozenset({ADDRESS}))
    front = FrontAdapters(MemoryFront(Front(FrontState.AWAKE, 1, EPOCH)), stage, MemoryHolds(), ADDRESS)
    async with deployment(front=front) as world, world.openai(max_retries=0) as client:
        await asyncio.sleep(2 * TICK_S)
        stage.draining, stage.standing = frozenset(), frozenset({ADDRESS})
        for _ in range(3):
            await asyncio.sleep(DELAY_S)
            assert await streamed(client) == "Hello there!"


@story
@pytest.mark.parametrize("drained_s", [DELAY_S / 2, 2 * DELAY_S], ids=["before anybody was cut off", "after that"])
async def test_a_task_that_stands_again_answers_and_lets_wait_again(drained_s: float) -> None:
    async with faced() as (world, stage), world.openai(max_retries=0) as client:
        await world.add_model("org/other")
        await take_out(world, stage)
        await asyncio.sleep(drained_s)
        with pytest.raises(openai.InternalServerError):
            await cold(client)
        stage.draining, stage.standing = frozenset(), frozenset({ADDRESS})
        await asyncio.sleep(2 * TICK_S)
        for _ in range(2):
            assert await streamed(client) == "Hello there!"
            await asyncio.sleep(DELAY_S)
        with pytest.raises(TimeoutError):  # it waits for its node
            await asyncio.wait_for(cold(client), 2 * TICK_S)


@story
async def test_a_task_that_was_told_to_stop_stops_whatever_its_target_does() -> None:
    async with faced() as (world, stage), world.http() as http:
        await world.add_model("org/other")
        await take_out(world, stage)
        await asyncio.sleep(2 * TICK_S)
        world.plane.send_away()
        ends_at = world.plane._ends_at
        stage.draining, stage.standing = frozenset(), frozenset({ADDRESS})
        await asyncio.sleep(2 * TICK_S)
        assert world.plane._ends_at == ends_at
        reply = await http.post(CHAT, json={**ASK, "model": "org/other"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "restarting")
