"""What a sceptical reader tried: each of these once went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any, TypeVar

import pytest

from control_plane.errors import NoCapacity, Unavailable
from control_plane.plan import OTHERS_NOTICE_S
from control_plane.ports import Clock, Wish
from control_plane.settings import Settings
from gpu_node.protocol import Failure
from tests.stories.clients import ASK, answer, streamed
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment

FULL = NoCapacity("InsufficientInstanceCapacity", "none left")
OTHER = "org/other"
TICK_S = Settings().tick_s
T = TypeVar("T")


def _refuse_everything(world: World, model: str = MODEL) -> None:
    for zone in "ab":
        world.cloud.refusals[(f"group-{model}", zone)] = FULL


@story
async def test_a_second_node_that_is_refused_is_not_asked_for_again_and_again() -> None:
    async with deployment(maxInstances=2) as world, world.openai() as client, world.http() as http:
        await answer(client)
        _refuse_everything(world)
        before = len(world.cloud.launches)
        await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 2})
        await asyncio.sleep(60)
        assert len(world.cloud.launches) - before == 2  # each zone once
        assert await answer(client) == "Hello there!"  # the first node serves on


@story
async def test_a_node_in_use_is_not_idle_for_a_control_plane_that_just_started() -> None:
    async with deployment(idleTimeout=60) as world, world.openai() as client:
        for _ in range(12):
            await answer(client)
            await asyncio.sleep(10)
        (node,) = world.living
        async with world.control_plane():
            await asyncio.sleep(20)
            assert world.living == [node]
            assert not world.node(node).reason


@story
async def test_an_older_control_plane_acts_again_when_its_successor_dies() -> None:
    async with deployment() as world, world.openai() as client:
        await world.fence.take("a successor that takes over and dies")
        assert await answer(client) == "Hello there!"
        assert world.fence.epoch == 3


@story
async def test_a_task_that_idles_reads_the_nodes_once_a_tick() -> None:
    async with deployment() as world:
        looks: list[float] = []
        world.nodes.list = counted(world.nodes.list, looks, world.clock)  # type: ignore[method-assign]
        await asyncio.sleep(120)
        assert 120 / TICK_S <= len(looks) <= 120 / TICK_S + 5  # and now and then for the month's spend


@story
async def test_what_another_task_drains_is_seen_in_time_by_one_whose_ticks_take_long() -> None:
    async with deployment() as world:
        looks: list[float] = []
        world.nodes.list = counted(world.nodes.list, looks, world.clock)  # type: ignore[method-assign]
        await asyncio.sleep(20)
        world.wishes.list = delayed(world.wishes.list, 60.0)  # type: ignore[method-assign]
        await asyncio.sleep(50)
        between = [later - earlier for earlier, later in pairwise([*looks, world.clock()])]
        assert max(between) < OTHERS_NOTICE_S


def counted(
    call: Callable[[], Coroutine[Any, Any, T]], at: list[float], clock: Clock
) -> Callable[[], Coroutine[Any, Any, T]]:
    async def seen() -> T:
        at.append(clock())
        return await call()

    return seen


def delayed(call: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> Callable[[], Coroutine[Any, Any, T]]:
    async def late() -> T:
        await asyncio.sleep(seconds)
        return await call()

    return late


@story
async def test_a_loop_that_stumbles_goes_on() -> None:
    async with deployment() as world, world.openai() as client:
        stumbles = 3

        async def stumble() -> list[object]:
            nonlocal stumbles
            stumbles -= 1
            if stumbles == 0:
                world.nodes.list = original  # type: ignore[method-assign]
            raise KeyError("a row that nobody expected")

        original = world.nodes.list
        world.nodes.list = stumble  # type: ignore[method-assign, assignment]
        assert await answer(client) == "Hello there!"
        assert stumbles == 0


@story
async def test_who_asks_right_after_a_model_was_put_to_sleep_means_it() -> None:
    async with deployment() as world, world.http() as http:
        for delay in (0.0, 0.01, 0.1, 1.0):
            await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 0})
            await asyncio.sleep(delay)
            assert (await http.post("/v1/chat/completions", json=ASK)).status_code == 200


@story
async def test_a_slow_launch_of_one_model_keeps_no_other_waiting() -> None:
    async with deployment() as world, world.http() as http:
        await world.add_model(OTHER)
        await asyncio.sleep(6)
        launch = world.cloud.launch

        async def slow_for_one(wanted: object) -> object:
            if getattr(wanted, "model", "") == MODEL:
                await asyncio.sleep(55)  # below the limit of a launch
            return await launch(wanted)  # type: ignore[arg-type]

        world.cloud.launch = slow_for_one  # type: ignore[method-assign, assignment]
        slow = asyncio.create_task(http.post("/v1/chat/completions", json=ASK))
        await asyncio.sleep(1)
        started = world.clock()
        quick = await http.post("/v1/chat/completions", json={**ASK, "model": OTHER})
        assert quick.status_code == 200
        assert world.clock() - started < 70
        assert (await slow).status_code == 200
        assert len(world.living) == 2


@story
async def test_the_log_of_a_failed_start_outlives_its_node() -> None:
    async with deployment() as world, world.http() as http:
        world.boot.failure = Failure("out_of_gpu_memory", "It does not fit.", permanent=True)
        world.boot.log_tail = ("Loading weights", "torch.OutOfMemoryError")
        await http.post("/v1/chat/completions", json=ASK)
        await world.until_gone(30)
        await asyncio.sleep(10)
        status = (await http.get(f"/api/models/{MODEL}")).json()
        assert (status["status"], status["instances"]) == ("failed", [])
        assert status["failure_log"] == ["Loading weights", "torch.OutOfMemoryError"]


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_management_takes_json_whatever_curl_calls_it(content_type: str) -> None:
    @story
    async def scaled() -> None:
        async with deployment() as world, world.http() as http:
            reply = await http.post(
                "/api/cluster/scale",
                content=f'{{"model": "{MODEL}", "desired": 1}}',
                headers={"content-type": content_type} if content_type else {},
            )
            assert reply.status_code == 202

    scaled()


@story
async def test_a_wish_that_cannot_be_written_ends_no_stream_that_has_begun() -> None:
    async with deployment() as world, world.openai() as client:
        first = asyncio.create_task(streamed(client))
        await asyncio.sleep(1)
        write, refused = world.wishes.ask, 0

        async def slow(wish: Wish) -> None:
            nonlocal refused
            await asyncio.sleep(5)  # the SDK's own attempts
            if wish.by and refused < 3:
                refused += 1
                raise Unavailable("throttled")
            await write(wish)

        setattr(world.wishes, "ask", slow)  # noqa: B010 - a table that is slow before it refuses
        assert await streamed(client) == await first == "Hello there!"
        assert refused == 3
        assert len(world.cloud.launches) == 1
