"""Nodes come when asked for and go when nobody uses them, whatever dies in between."""

from __future__ import annotations

import asyncio

from control_plane.nodes import NodeId
from control_plane.ports import Launch
from gpu_node.protocol import NodeState
from tests.stories.clients import ASK, answer, streamed
from tests.stories.virtual import story
from tests.stories.world import MODEL, World, deployment


@story
async def test_an_idle_model_goes_to_sleep_and_the_next_request_wakes_it_again() -> None:
    async with deployment(idleTimeout=120) as world, world.openai() as client:
        await answer(client)
        asked_at = world.clock()
        await world.until_gone(200)
        assert 120 <= world.clock() - asked_at <= 140
        assert (await world.cloud.groups())[0].desired == 0
        assert await answer(client) == "Hello there!"
        assert len(world.cloud.launches) == 2


@story
async def test_every_answer_begins_the_idle_time_anew_at_its_end() -> None:
    async with deployment(idleTimeout=100) as world, world.openai() as client:
        await answer(client)
        world.behaviour.tokens, world.behaviour.token_s = ("tick",) * 30, 10.0
        await streamed(client)  # 300 s long
        await asyncio.sleep(90)
        assert len(world.living) == 1
        await world.until_gone(40)


@story
async def test_polls_keep_nothing_awake() -> None:
    async with deployment(idleTimeout=100) as world, world.openai() as client, world.http() as http:
        await answer(client)
        for _ in range(20):
            for path in ("/v1/models", "/api/cluster", "/api/models", f"/api/models/{MODEL}", "/healthz", "/api/keys"):
                assert (await http.get(path)).status_code == 200
            await asyncio.sleep(10)
        assert not world.living


@story
async def test_a_stream_longer_than_the_idle_timeout_is_not_cut() -> None:
    async with deployment(idleTimeout=30) as world, world.openai() as client:
        world.behaviour.tokens, world.behaviour.token_s = ("tick ",) * 40, 20.0
        assert await streamed(client) == "tick " * 40


@story
async def test_a_request_during_a_drain_wakes_a_new_node_and_the_old_stream_ends_in_peace() -> None:
    async with deployment() as world, world.openai() as client, world.http() as http:
        await answer(client)
        world.behaviour.tokens, world.behaviour.token_s = ("tick ",) * 20, 10.0
        long = asyncio.create_task(streamed(client))
        await asyncio.sleep(5)
        await http.post("/api/cluster/scale", json={"model": MODEL, "desired": 0})
        await asyncio.sleep(5)
        (old,) = world.living
        assert world.node(old).state is NodeState.DRAINING
        assert (await http.post("/v1/chat/completions", json=ASK)).status_code == 200
        assert await long == "tick " * 20
        await asyncio.sleep(20)
        assert old not in world.living
        assert len(world.living) == 1


@story
async def test_an_engine_that_died_unseen_costs_the_next_request_a_wait_and_no_error() -> None:
    async with deployment() as world, world.openai() as client:
        await answer(client)
        (old,) = world.living
        world.kill_engine(old)
        assert await answer(client) == "Hello there!"
        await asyncio.sleep(20)
        assert old not in world.living
        assert len(world.living) == 1


@story
async def test_an_engine_that_only_dropped_a_connection_is_probed_and_used_again() -> None:
    async with deployment() as world, world.openai() as client:
        await answer(client)
        world.behaviour.dies_after = 0
        retried = asyncio.create_task(answer(client))
        await asyncio.sleep(0.1)
        world.behaviour.dies_after = None
        assert await retried == "Hello there!"
        assert len(world.cloud.launches) == 1


@story
async def test_an_instance_that_goes_away_while_it_starts_is_replaced_for_those_who_wait() -> None:
    async with deployment() as world, world.openai() as client:
        world.boot.load_s = 60
        waiting = asyncio.create_task(answer(client))
        await asyncio.sleep(30)
        (first,) = world.living
        world._machines.pop(first).cancel()
        world.cloud.set_alive(first, False)
        assert await waiting == "Hello there!"
        assert len(world.cloud.launches) == 2
        await asyncio.sleep(10)
        assert first not in world.living


@story
async def test_an_idle_instance_that_goes_away_is_taken_out_of_its_group() -> None:
    async with deployment() as world, world.openai() as client:
        await answer(client)
        world.kill_instance(world.living[0])
        await world.until_gone(40)
        assert (await world.cloud.groups())[0].desired == 0


@story
async def test_a_new_control_plane_goes_on_with_the_fleet_it_finds() -> None:
    async with deployment(idleTimeout=200) as world, world.openai() as client:
        await answer(client)
        (node,) = world.living
        async with world.control_plane():  # the old one still runs, as in a deploy
            async with world.openai() as again:
                assert await answer(again) == "Hello there!"
            assert world.fence.epoch == 2
            assert len(world.cloud.launches) == 1
            assert world.living == [node]
            await world.until_gone(260)


@story
async def test_of_two_control_planes_only_the_newer_one_acts() -> None:
    async with deployment() as world:
        old_port = world.port
        async with world.control_plane():
            await asyncio.sleep(10)
            world.port = old_port
            async with world.openai() as client:  # still served by the old one, started by the new
                assert await answer(client) == "Hello there!"
            assert len(world.cloud.launches) == 1


@story
async def test_a_control_plane_that_died_in_mid_launch_leaves_one_instance_and_no_more() -> None:
    async with deployment() as world, world.openai() as client:
        world.cloud.broken.lose_reply("launch")
        assert await answer(client) == "Hello there!"
        assert len({launch.token for launch in world.cloud.launches}) == 1
        assert len(world.living) == 1
        assert not world.launches.rows


@story
async def test_an_instance_that_nobody_knows_is_adopted_and_goes() -> None:
    async with deployment() as world:
        launch = await _launch_by_hand(world)
        await asyncio.sleep(30)
        assert launch in world.nodes.rows
        await world.until_gone(200)


@story
async def test_tables_that_do_not_answer_for_a_while_stop_nothing_that_runs() -> None:
    async with deployment() as world, world.openai() as client:
        await answer(client)
        world.behaviour.tokens, world.behaviour.token_s = ("tick ",) * 10, 5.0
        running = asyncio.create_task(streamed(client))
        for store in (world.nodes, world.wishes, world.models, world.launches):
            store.broken.fail("list", times=4)
        assert await running == "tick " * 10
        world.behaviour.tokens, world.behaviour.token_s = ("fine",), 0.0
        assert await answer(client) == "fine"
        assert len(world.cloud.launches) == 1


@story
async def test_a_cloud_that_cannot_be_seen_does_not_keep_leases_from_being_renewed() -> None:
    async with deployment(idleTimeout=2000) as world, world.openai() as client:
        await answer(client)
        world.cloud.broken.fail("groups", times=1000)
        await asyncio.sleep(900)
        (node,) = world.living
        assert world.node(node).lease_until > world.clock()
        assert await answer(client) == "Hello there!"


@story
async def test_a_termination_that_failed_is_done_again() -> None:
    async with deployment(idleTimeout=60) as world, world.openai() as client:
        await answer(client)
        world.cloud.broken.fail("terminate", times=3)
        await world.until_gone(120)


@story
async def test_usage_is_counted_once_though_its_writing_failed() -> None:
    async with deployment() as world, world.openai() as client:
        world.usage.broken.lose_reply("add", times=2)
        await answer(client)
        await streamed(client)
        await asyncio.sleep(30)
        (tally,) = await world.usage.list("ann@example.com", "2026-11")
        assert (tally.requests, tally.prompt_tokens, tally.cached_tokens, tally.completion_tokens) == (2, 14, 4, 6)


async def _launch_by_hand(world: World) -> NodeId:
    launch = Launch("by-hand", MODEL, f"group-{MODEL}", "a", "on-demand", world.clock())
    return (await world.cloud.launch(launch)).id
