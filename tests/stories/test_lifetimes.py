"""No node lives for ever, and nobody who is answered notices."""

from __future__ import annotations

import asyncio

from gpu_node.protocol import NodeState
from tests.stories.clients import answer, streamed
from tests.stories.virtual import story
from tests.stories.world import MODEL, deployment


@story
async def test_a_node_in_use_is_replaced_before_its_lifetime_ends_and_no_stream_is_cut() -> None:
    async with deployment(maxLifetime=7200) as world, world.openai() as client:
        await answer(client)
        (old,) = world.living
        world.behaviour.tokens, world.behaviour.token_s = ("tick ",) * 20, 50.0
        for _ in range(6):  # one of them goes on for long after the other node took over
            assert await streamed(client) == "tick " * 20
        await asyncio.sleep(60)
        assert old not in world.living
        assert len(world.cloud.launches) == 2
        (new,) = world.living
        assert world.node(new).state is NodeState.READY


@story
async def test_a_node_that_nobody_uses_goes_and_is_not_replaced() -> None:
    async with deployment(maxLifetime=3600, idleTimeout=900) as world, world.openai() as client:
        await answer(client)
        await asyncio.sleep(3600)
        assert not world.living
        assert len(world.cloud.launches) == 1


@story
async def test_a_node_that_is_kept_awake_is_replaced_too() -> None:
    async with deployment(maxLifetime=7200) as world, world.openai() as client, world.http() as http:
        await answer(client)
        (old,) = world.living
        kept = await http.put(f"/api/models/{MODEL}/keep-awake", json={"until": world.clock() + 7200})
        kept.raise_for_status()
        await asyncio.sleep(7000)
        assert old not in world.living
        assert len(world.living) == 1
        assert len(world.cloud.launches) == 2
