"""What `pulumi up` takes away goes when its streams have ended, and never before."""

from __future__ import annotations

import asyncio

import openai

from control_plane.errors import Unavailable
from gpu_node.protocol import DRAIN_HOOK_S, NodeState
from tests.memory import Faults
from tests.stories.clients import ASK, answer, streamed
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment


async def streaming(world: World, client: openai.AsyncOpenAI, *, seconds: int) -> asyncio.Task[str]:
    """A stream that is under way, and lasts so long."""
    await answer(client)
    world.behaviour.tokens, world.behaviour.token_s = ("tick ",) * seconds, 1.0
    stream = asyncio.create_task(streamed(client))
    await asyncio.sleep(5)
    return stream


@story
async def test_a_removed_model_ends_its_stream_in_peace_and_then_nothing_of_it_is_left() -> None:
    async with deployment() as world, world.openai() as client, world.http() as http:
        stream = await streaming(world, client, seconds=200)
        (node,) = world.living
        world.remove_model()
        await asyncio.sleep(20)
        assert (world.node(node).state, world.living) == (NodeState.DRAINING, [node])
        assert (await http.post("/v1/chat/completions", json=ASK)).status_code == 404
        assert await stream == "tick " * 200
        assert await world.until_gone(20) <= 15
        await asyncio.sleep(10)
        assert world.node(node).state is NodeState.TERMINATED
        assert (await world.cloud.groups(), world.cloud.released, world.cloud.terminated) == ([], [node], [])
        assert len(world.cloud.launches) == 1


@story
async def test_a_removed_model_that_is_idle_goes_at_once() -> None:
    async with deployment() as world, world.openai() as client:
        await answer(client)
        world.remove_model()
        assert await world.until_gone(30) <= 15


@story
async def test_a_removed_model_that_starts_is_cancelled_and_who_waits_is_told() -> None:
    async with deployment() as world, world.http() as http:
        waiting = asyncio.create_task(http.post("/v1/chat/completions", json=ASK | {"stream": True}))
        await asyncio.sleep(30)
        world.remove_model()
        await world.until_gone(30)
        assert "is no longer configured" in (await waiting).text
        assert len(world.cloud.launches) == 1


@story
async def test_a_stream_that_outlasts_its_drain_ends_at_the_drain_deadline_and_not_at_the_hooks() -> None:
    async with deployment() as world, world.openai() as client:
        stream = await streaming(world, client, seconds=2000)
        world.remove_model()
        gone_s = await world.until_gone(DRAIN_HOOK_S)
        assert 300 <= gone_s <= 330
        stream.cancel()


@story
async def test_a_group_emptied_by_hand_ends_its_streams_in_peace_and_starts_again_on_demand() -> None:
    async with deployment() as world, world.openai() as client:
        stream = await streaming(world, client, seconds=100)
        (old,) = world.living
        world.cloud.empty(f"group-{MODEL}")
        await asyncio.sleep(20)
        assert world.node(old).reason == "its group takes it down"
        world.behaviour.tokens, world.behaviour.token_s = ("new",), 0.0
        assert await answer(client) == "new"
        assert await stream == "tick " * 100
        await asyncio.sleep(20)
        assert old not in world.living
        assert len(world.living) == 1


@story
async def test_a_release_that_failed_is_done_again() -> None:
    async with deployment(idleTimeout=60) as world, world.openai() as client:
        await answer(client)
        world.cloud.broken.fail("release", times=3)
        world.cloud.broken.fail("release", Unavailable("throttled"))
        await world.until_gone(120)


@story
async def test_an_instance_that_was_drained_is_held_for_seconds_only() -> None:
    async with deployment(idleTimeout=60) as world, world.openai() as client:
        await answer(client)
        assert await world.until_gone(100) <= 60 + 15
        assert world.cloud.terminated == world.cloud.released


@story
async def test_a_new_control_plane_ends_the_removal_that_it_finds() -> None:
    async with deployment() as world, world.openai() as client:
        await answer(client)
        world.cloud.broken.fail("groups", times=1000)
        world.remove_model()
        await asyncio.sleep(60)
        assert len(world.living) == 1
        world.cloud.broken = Faults()
        async with world.control_plane():
            await world.until_gone(30)
