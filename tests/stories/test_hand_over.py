"""A task is told to stop, or another has taken over, while somebody waits for a model or is being answered."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest

from control_plane.app import LAST_ANSWER_S
from control_plane.errors import Unavailable
from control_plane.settings import Settings
from gpu_node.protocol import Failure
from tests.stories.clients import ASK, answer, streamed
from tests.stories.virtual import story
from tests.stories.world import World, deployment

LAST_CALL_S = Settings().stop_timeout_s - LAST_ANSWER_S
SILENCE_S = Settings().edge_read_timeout_s - 5.0


async def comments_and_data(world: World) -> tuple[list[str], list[str]]:
    """What somebody reads who asks for a stream; another task answers at ``world.port`` before long."""
    async with world.http() as http, http.stream("POST", "/v1/chat/completions", json=ASK | {"stream": True}) as reply:
        lines = [line async for line in reply.aiter_lines() if line]
    return [line for line in lines if line[0] == ":"], [line[6:] for line in lines if line.startswith("data: ")]


@story
async def test_who_waits_for_a_model_in_a_task_that_is_told_to_stop_gets_the_answer_there() -> None:
    """Its successor looks after the node, and this one sees in the tables that it is ready."""
    async with deployment() as world, world.openai(max_retries=0) as client:
        older = world.plane
        waiting = [asyncio.create_task(streamed(client)), asyncio.create_task(answer(client))]
        await asyncio.sleep(30)  # both have a 200, so neither could come back
        async with world.control_plane():
            await asyncio.sleep(1)
            older.send_away()
            assert await asyncio.gather(*waiting) == ["Hello there!", "Hello there!"]
        assert len(world.cloud.launches) == 1


@story
async def test_who_waits_in_vain_in_a_task_that_stops_is_told_so_while_the_task_still_lives() -> None:
    """Nobody follows and the node never comes: an error that the client understands, and no cut."""
    async with deployment() as world, world.openai(max_retries=0) as client:
        world.boot.never = True
        reading = asyncio.create_task(comments_and_data(world))
        waiting = asyncio.create_task(streamed(client))
        await asyncio.sleep(30)
        told_at = world.clock()
        world.plane.send_away()
        with pytest.raises(openai.APIError) as raised:
            await waiting
        assert LAST_CALL_S <= world.clock() - told_at <= LAST_CALL_S + 2
        assert raised.value.code == "restarting"
        comments, data = await reading
        assert len(comments) >= 10  # it was kept alive all the time
        assert json.loads(data[-2])["error"]["code"] == "restarting"
        assert data[-1] == "[DONE]"
        assert world.plane.needed()  # the start that they wait for goes on until the next task knows of it


@story
async def test_who_has_heard_nothing_yet_is_sent_back_with_a_status_when_the_silence_must_end() -> None:
    async with deployment() as world, world.http() as http:
        world.boot.load_s = 200
        asked_at = world.clock()
        waiting = [asyncio.create_task(http.post("/v1/chat/completions", json=ASK | more)) for more in ({}, {"n": 2})]
        await asyncio.sleep(5)
        world.plane.send_away()
        for reply in await asyncio.gather(*waiting):
            assert reply.status_code == 503
            assert reply.json()["error"]["code"] == "restarting"
            assert (reply.headers["retry-after"], reply.headers["x-should-retry"]) == ("5", "true")
        assert SILENCE_S <= world.clock() - asked_at <= SILENCE_S + 2


@story
async def test_who_has_heard_nothing_yet_is_answered_when_the_node_is_ready_before_that() -> None:
    async with deployment() as world, world.http() as http:
        world.boot.load_s = 25
        waiting = asyncio.create_task(http.post("/v1/chat/completions", json=ASK))
        await asyncio.sleep(5)
        world.plane.send_away()
        reply = await waiting
        assert (reply.status_code, reply.json()["choices"][0]["message"]["content"]) == (200, "Hello there!")
        assert 30_000 < int(reply.headers["x-diogenes-cold-start-ms"]) < 60_000


@story
async def test_who_comes_to_a_task_that_stops_is_sent_away_at_once() -> None:
    async with deployment() as world, world.http() as http:
        world.plane.send_away()
        reply = await http.post("/v1/chat/completions", json=ASK)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "restarting")
        assert not world.cloud.launches


@story
async def test_no_answer_begins_when_too_little_time_is_left_for_one() -> None:
    """Cut in the middle, it would be lost: nobody asks again for a stream that had begun."""
    async with deployment() as world, world.openai(max_retries=0) as client:
        world.boot.load_s = 30 + LAST_CALL_S + LAST_ANSWER_S / 2 - world.boot.machine_s
        waiting = asyncio.create_task(streamed(client))
        await asyncio.sleep(30)
        world.plane.send_away()
        with pytest.raises(openai.APIError, match="restarts"):
            await waiting
        assert await world.until_ready()


@story
async def test_a_stop_timeout_with_no_time_for_an_answer_sends_everybody_away_at_once() -> None:
    async with deployment(Settings(stop_timeout_s=LAST_ANSWER_S)) as world, world.http() as http:
        waiting = asyncio.create_task(http.post("/v1/chat/completions", json=ASK))
        await asyncio.sleep(5)
        told_at = world.clock()
        world.plane.send_away()
        assert (await waiting).status_code == 503
        assert world.clock() - told_at < 1


@story
async def test_an_answer_that_goes_on_elsewhere_may_wait_for_its_node_in_a_task_that_stops() -> None:
    async with deployment(market="spot") as world, world.openai(max_retries=0) as client:
        await answer(client)
        world.behaviour.tokens, world.behaviour.token_s = ("tick ",) * 40, 1.0
        waiting = asyncio.create_task(streamed(client))
        await asyncio.sleep(5)
        (node_id,) = world.living
        world.plane.send_away()
        world.kill_instance(node_id)
        assert (await waiting).startswith("tick tick ")
        assert len(world.cloud.launches) == 2


# -- another task has taken over, and this one is not told to stop yet


@story
async def test_who_waits_in_the_older_task_has_the_start_go_on_for_longer_than_a_wish_stands() -> None:
    async with deployment() as world, world.openai(max_retries=0) as client:
        world.boot.load_s = 2.5 * world.settings.cancel_grace_s
        waiting = asyncio.create_task(streamed(client))
        await asyncio.sleep(10)
        async with world.control_plane():
            assert await waiting == "Hello there!"
        assert len(world.cloud.launches) == 1


@story
async def test_who_waits_in_the_older_task_is_told_why_the_start_failed() -> None:
    async with deployment() as world, world.openai(max_retries=0) as client:
        world.boot.load_s, world.boot.failure = 60, Failure("gated_model", "Not yours.", permanent=True)
        waiting = asyncio.create_task(streamed(client))
        await asyncio.sleep(10)
        async with world.control_plane():
            with pytest.raises(openai.APIError) as raised:
                await waiting
        assert raised.value.code == "gated_model"
        assert len(world.cloud.launches) == 1


@story
async def test_the_older_task_acts_for_those_alone_who_are_there() -> None:
    """It reads seldom once nothing starts any more, and knows what runs; nothing is done twice."""
    async with deployment(idleTimeout=60) as world, world.openai(max_retries=0) as client:
        older = world.plane
        waiting = asyncio.create_task(streamed(client))
        await asyncio.sleep(10)
        async with world.control_plane() as newer:
            await waiting
            await asyncio.sleep(10)
            assert not older.observer.starting
            seen = older.observer.world
            assert seen
            assert [node.id for node in seen.nodes] == world.living
            await world.until_gone(100)
            await asyncio.sleep(30)
            assert not older.needed()
            assert not newer.needed()
        assert len(world.cloud.launches) == 1


@story
async def test_who_waits_in_the_older_task_outlasts_tables_that_do_not_answer_for_a_while() -> None:
    async with deployment() as world, world.openai(max_retries=0) as client:
        waiting = asyncio.create_task(streamed(client))
        await asyncio.sleep(30)
        async with world.control_plane():
            await asyncio.sleep(1)
            for table in (world.nodes, world.wishes, world.models):
                table.broken.fail("list", Unavailable("throttled"), times=20)
            assert await waiting == "Hello there!"
        assert len(world.cloud.launches) == 1
