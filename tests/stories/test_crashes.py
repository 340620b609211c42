"""An engine dies that had been ready: whoever lost an answer learns why, and a loop of it ends after two GPUs."""

from __future__ import annotations

import asyncio
import inspect
import json

import openai
import pytest

from control_plane.aws import HttpProbe
from control_plane.event import EventKind
from control_plane.failures import ENGINE_LOST
from control_plane.nodes import NodeId
from control_plane.policy import Policy
from control_plane.relay import FATE_S
from gpu_node.protocol import Failure, NodeState
from tests.api.asking import ASK, CHAT
from tests.stories.clients import answer, streamed
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment

WHY = Failure("cuda_error", "A kernel did what it may not.", "A new node is started.", cause="illegal memory access")
WORDS = tuple(f"w{number} " for number in range(400))


async def lost(world: World) -> tuple[NodeId, openai.APIError]:
    """The engine dies in the middle of an answer."""
    world.behaviour.tokens, world.behaviour.token_s = WORDS, 1.0
    async with world.openai(max_retries=0) as client:
        asking = asyncio.create_task(streamed(client))
        node_id = await world.until_ready()
        await asyncio.sleep(30)
        world.engine_dies(node_id, WHY)
        with pytest.raises(openai.APIError) as raised:
            await asking
    world.behaviour.tokens, world.behaviour.token_s = ("Hello", " there", "!"), 0.01
    return node_id, raised.value


@story
async def test_whoever_lost_an_answer_learns_why_and_so_does_the_log() -> None:
    async with deployment() as world:
        node_id, error = await lost(world)
        assert error.code == "engine_lost"
        assert isinstance(error.body, dict)
        assert error.body["failure"] == {"code": WHY.code, "message": WHY.message, "fix": WHY.fix}
        assert WHY.message in error.message
        assert world.node(node_id).error == WHY  # not that a probe found it silent
        await asyncio.sleep(10)
        (told,) = [event for event in world.events.kept if event.kind is EventKind.NODE_FAILED]
        assert (told.node, told.data["code"], told.data["cause"]) == (node_id, WHY.code, WHY.cause)
        assert WHY.message in told.message
        async with world.openai() as client:
            assert await answer(client) == "Hello there!"


@story
async def test_an_engine_whose_agent_says_nothing_is_given_up_all_the_same() -> None:
    async with deployment() as world, world.openai(max_retries=0) as client:
        world.behaviour.tokens, world.behaviour.token_s = WORDS, 1.0
        asking = asyncio.create_task(streamed(client))
        node_id = await world.until_ready()
        await asyncio.sleep(30)
        broke_at = world.clock()
        world.kill_engine(node_id)
        with pytest.raises(openai.APIError) as raised:
            await asking
        assert raised.value.code == "engine_lost"
        assert isinstance(raised.value.body, dict)
        assert raised.value.body["failure"] == {
            "code": ENGINE_LOST.code,
            "message": ENGINE_LOST.message,
            "fix": ENGINE_LOST.fix,
        }
        assert world.clock() - broke_at < world.plane.policy.last_words_s + 1
        await asyncio.sleep(12)
        failure = world.node(node_id).error
        assert failure is not None
        assert failure.code == "engine_lost"


@story
async def test_two_engines_in_a_row_that_die_soon_end_the_tries_until_a_person_asks() -> None:
    async with deployment() as world, world.http() as http:
        for _ in range(2):
            await lost(world)
            await asyncio.sleep(20)
        launches = len(world.cloud.launches)
        assert launches == 2
        await asyncio.sleep(4000)
        refused = await http.post(CHAT, json=dict(ASK))
        error = json.loads(refused.text)["error"]
        assert (refused.status_code, error["code"]) == (403, "engine_crash_loop")
        assert WHY.message in error["message"]
        assert len(world.cloud.launches) == launches
        await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 1})
        assert (await http.post(CHAT, json=dict(ASK))).status_code == 200
        assert world.node(world.living[0]).state is NodeState.READY


@story
async def test_an_engine_that_served_for_a_while_in_between_ends_the_count() -> None:
    async with deployment(idleTimeout=900) as world, world.http() as http:
        await lost(world)
        assert world.models.rows[MODEL].failures == 1
        assert (await http.post(CHAT, json=dict(ASK))).status_code == 200
        assert world.models.rows[MODEL].failures == 1  # it only got ready
        await asyncio.sleep(320)
        assert world.models.rows[MODEL].failures == 0
        await world.until_gone(1000)  # it idled out
        await lost(world)
        await asyncio.sleep(20)
        assert world.models.rows[MODEL].failures == 1
        assert (await http.post(CHAT, json=dict(ASK))).status_code == 200


@story
async def test_a_stream_that_is_cut_at_the_drain_deadline_waits_for_no_verdict() -> None:
    async with deployment() as world, world.http() as http, world.openai(max_retries=0) as client:
        world.behaviour.tokens, world.behaviour.token_s = WORDS, 10.0
        asking = asyncio.create_task(streamed(client))
        node_id = await world.until_ready()
        await asyncio.sleep(30)
        await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 0})
        await world.until_gone(400)
        gone_at = world.clock()
        with pytest.raises(openai.APIError) as raised:
            await asking
        assert raised.value.code == "engine_lost"
        assert world.clock() - gone_at < 2
        assert not world.plane.fleet.in_flight
        assert world.node(node_id).error is None


@story
async def test_who_only_watches_clears_whom_it_suspects() -> None:
    async with deployment() as world, world.openai(max_retries=0) as client:
        older = world.plane
        assert await answer(client) == "Hello there!"
        (node_id,) = world.living
        async with world.control_plane():
            await asyncio.sleep(10)  # it has taken over; the client still asks the older one
            world.behaviour.dies_after = 2
            with pytest.raises(openai.APIError) as raised:
                await streamed(client)
            assert raised.value.code == "engine_lost"
            world.behaviour.dies_after = None
            begun = world.clock()
            assert await answer(client) == "Hello there!"
            assert world.clock() - begun < 10
            assert older.fleet.suspects == {}
            assert world.living == [node_id]


def test_an_answer_that_broke_off_waits_longer_than_until_its_engine_is_called_lost() -> None:
    probe_s = inspect.signature(HttpProbe).parameters["limit_s"].default
    assert Policy().last_words_s + probe_s + 2 < FATE_S
